/**
 * What a block request asks for, read out of a copy of its ring slot and checked before anything is touched.
 *
 * Sources: xen/io/blkif.h. Sectors are always 512 bytes; a segment's first_sect and last_sect are inclusive and within a frame of 4 KiB.
 */
import { type Abi, type Field, xen } from "hookvisor";

const { BLKIF_MAX, BLKIF_OP, blkif_request, blkif_response, blkif_sring } = xen;

/** Bytes of a sector on the ring. */
export const SECTOR = 512;
/** Sectors of a frame. */
const FRAME_SECTORS = 8;

/** One part of a request: bytes [from, to) of the frame behind a grant reference. */
export interface Segment {
  readonly reference: number;
  readonly from: number;
  readonly to: number;
}

/** A request that has passed the checks, or why it has not. */
export type Request =
  | {
      readonly kind: "read" | "write";
      readonly segments: readonly Segment[];
      readonly offset: number;
      readonly length: number;
      readonly flush: Flush;
    }
  | { readonly kind: "flush" }
  | { readonly kind: "unsupported" }
  | { readonly kind: "bad"; readonly why: string };

/** Which flushes belong to a write: none, before it (a flush that carries data), both sides (a barrier). */
export type Flush = "none" | "before" | "both";

/** What the disk allows. */
export interface DiskLimits {
  readonly sectors: number;
  readonly writable: boolean;
}

/** Requests and responses in one ABI. */
export class BlkifLayout {
  /** Bytes of a ring slot. */
  readonly slotBytes: number;
  readonly littleEndian: boolean;
  readonly #operation: Field;
  readonly #count: Field;
  readonly #id: Field;
  readonly #sector: Field;
  readonly #reference: Field;
  readonly #first: Field;
  readonly #last: Field;
  readonly #response: { readonly id: Field; readonly operation: Field; readonly status: Field };

  constructor(abi: Abi) {
    const request = blkif_request.at(abi).fields;
    const response = blkif_response.at(abi).fields;
    this.slotBytes = blkif_sring.at(abi).fields["ring.req.operation"].stride;
    this.littleEndian = abi.endian === "little";
    this.#operation = request["operation"];
    this.#count = request["nr_segments"];
    this.#id = request["id"];
    this.#sector = request["sector_number"];
    this.#reference = request["seg.gref"];
    this.#first = request["seg.first_sect"];
    this.#last = request["seg.last_sect"];
    this.#response = { id: response["id"], operation: response["operation"], status: response["status"] };
  }

  /** Operation code of a slot. */
  operation(slot: DataView): number {
    return this.#operation.get(slot, 0);
  }

  /** Fills `into` with the response to the request in `slot`. */
  respond(slot: DataView, status: number, into: DataView): void {
    const { id, operation, status: field } = this.#response;
    id.setLoHi(into, 0, this.#id.getLo(slot, 0), this.#id.getHi(slot, 0));
    operation.set(into, 0, this.operation(slot));
    field.set(into, 0, status);
  }

  /** Reads and checks the request in `slot`. */
  parse(slot: DataView, disk: DiskLimits): Request {
    const operation = this.operation(slot);
    switch (operation) {
      case BLKIF_OP.READ:
        return this.#transfer(slot, disk, "read", "none");
      case BLKIF_OP.WRITE:
        return this.#transfer(slot, disk, "write", "none");
      case BLKIF_OP.WRITE_BARRIER:
        return this.#transfer(slot, disk, "write", "both");
      case BLKIF_OP.FLUSH_DISKCACHE:
        return this.#count.get(slot, 0) === 0 ? { kind: "flush" } : this.#transfer(slot, disk, "write", "before");
      case BLKIF_OP.DISCARD:
      case BLKIF_OP.INDIRECT:
      case BLKIF_OP.RESERVED_1:
        return { kind: "unsupported" };
      default:
        return { kind: "bad", why: `operation ${operation} does not exist` };
    }
  }

  #transfer(slot: DataView, disk: DiskLimits, kind: "read" | "write", flush: Flush): Request {
    const bad = (why: string): Request => ({ kind: "bad", why });
    if (kind === "write" && !disk.writable) return bad("write to a read-only disk");
    const count = this.#count.get(slot, 0);
    if (count === 0 && flush === "both") return { kind: "flush" };
    if (count < 1 || count > BLKIF_MAX.SEGMENTS_PER_REQUEST) return bad(`${count} segments`);
    const segments: Segment[] = [];
    let length = 0;
    for (let i = 0; i < count; i++) {
      const first = this.#first.get(slot, 0, i);
      const last = this.#last.get(slot, 0, i);
      if (first > last || last >= FRAME_SECTORS) return bad(`segment ${i} has sectors ${first} to ${last}`);
      segments.push({ reference: this.#reference.get(slot, 0, i), from: first * SECTOR, to: (last + 1) * SECTOR });
      length += (last + 1 - first) * SECTOR;
    }
    const sector = this.#sector.getNumber(slot, 0);
    if (sector > disk.sectors || length / SECTOR > disk.sectors - sector)
      return bad(`sectors ${sector} to ${sector + length / SECTOR - 1} of ${disk.sectors}`);
    return { kind, segments, offset: sector * SECTOR, length, flush };
  }
}
