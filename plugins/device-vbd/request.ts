/**
 * What a block request asks for, read out of a copy of its ring slot and checked before anything is touched.
 *
 * Sources: xen/io/blkif.h. Sectors are always 512 bytes; a segment's first_sect and last_sect are inclusive and within a frame of 4 KiB.
 * An indirect request names frames that hold its segments: `parse` gives the frames, `segmentsOf` the transfer, from a copy of theirs.
 */
import { type Abi, type Field, xen } from "hookvisor";
import { type Flush, SECTOR } from "../lib-block/index.ts";

const {
  BLKIF_MAX,
  BLKIF_OP,
  blkif_request,
  blkif_request_discard,
  blkif_request_indirect,
  blkif_request_segment,
  blkif_response,
  blkif_sring,
} = xen;

/** Sectors of a frame. */
const FRAME_SECTORS = 8;
/** Bytes of a granted frame. */
const FRAME = SECTOR * FRAME_SECTORS;
/** Segments of an indirect request at most: 1 MiB. */
export const MAX_INDIRECT_SEGMENTS = 256;

/** One part of a request: bytes [from, to) of the frame behind a grant reference. */
export interface Segment {
  readonly reference: number;
  readonly from: number;
  readonly to: number;
}

/** Data between frames and the disk, checked. */
export interface Transfer {
  readonly kind: "read" | "write";
  readonly segments: readonly Segment[];
  readonly offset: number;
  readonly length: number;
  readonly flush: Flush;
}

/** A request that is refused. */
export interface BadRequest {
  readonly kind: "bad";
  readonly why: string;
}

/** Where the segments of a transfer are: `count` of them in the frames behind these grant references. */
export interface IndirectRequest {
  readonly kind: "indirect";
  readonly transfer: "read" | "write";
  readonly references: readonly number[];
  readonly count: number;
  readonly sector: number;
}

/** A request that has passed the checks, or why it has not. */
export type Request =
  | Transfer
  | IndirectRequest
  | { readonly kind: "flush" }
  | { readonly kind: "discard"; readonly offset: number; readonly length: number }
  | { readonly kind: "unsupported" }
  | BadRequest;

/** What the disk allows. */
export interface DiskLimits {
  readonly sectors: number;
  readonly writable: boolean;
  /** Parts of it can be given up. */
  readonly discard: boolean;
}

/** Where a segment's numbers are. */
interface SegmentFields {
  readonly reference: Field;
  readonly first: Field;
  readonly last: Field;
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
  readonly #segment: SegmentFields;
  readonly #discarded: Field;
  readonly #indirect: { readonly operation: Field; readonly count: Field; readonly references: Field };
  readonly #listed: SegmentFields;
  readonly #listedBytes: number;
  readonly #response: { readonly id: Field; readonly operation: Field; readonly status: Field };

  constructor(abi: Abi) {
    const request = blkif_request.at(abi).fields;
    const response = blkif_response.at(abi).fields;
    const indirect = blkif_request_indirect.at(abi).fields;
    const listed = blkif_request_segment.at(abi);
    this.slotBytes = blkif_sring.at(abi).fields["ring.req.operation"].stride;
    this.littleEndian = abi.endian === "little";
    // id and sector_number are at the same place in all three kinds of request.
    this.#operation = request["operation"];
    this.#count = request["nr_segments"];
    this.#id = request["id"];
    this.#sector = request["sector_number"];
    this.#segment = {
      reference: request["seg.gref"],
      first: request["seg.first_sect"],
      last: request["seg.last_sect"],
    };
    this.#discarded = blkif_request_discard.at(abi).fields["nr_sectors"];
    this.#indirect = {
      operation: indirect["indirect_op"],
      count: indirect["nr_segments"],
      references: indirect["indirect_grefs"],
    };
    this.#listed = {
      reference: listed.fields["gref"],
      first: listed.fields["first_sect"],
      last: listed.fields["last_sect"],
    };
    this.#listedBytes = listed.size;
    this.#response = { id: response["id"], operation: response["operation"], status: response["status"] };
  }

  /** Operation code of a slot. */
  operation(slot: DataView): number {
    return this.#operation.get(slot, 0);
  }

  /** Fills `into` with the response to the request in `slot`; that of an indirect request names what it was about. */
  respond(slot: DataView, status: number, into: DataView): void {
    const { id, operation, status: field } = this.#response;
    id.setLoHi(into, 0, this.#id.getLo(slot, 0), this.#id.getHi(slot, 0));
    const asked = this.operation(slot);
    operation.set(into, 0, asked === BLKIF_OP.INDIRECT ? this.#indirect.operation.get(slot, 0) : asked);
    field.set(into, 0, status);
  }

  /** Reads and checks the request in `slot`. */
  parse(slot: DataView, disk: DiskLimits): Request {
    const operation = this.operation(slot);
    switch (operation) {
      case BLKIF_OP.READ:
        return this.#direct(slot, disk, "read", "none");
      case BLKIF_OP.WRITE:
        return this.#direct(slot, disk, "write", "none");
      case BLKIF_OP.WRITE_BARRIER:
        return this.#direct(slot, disk, "write", "both");
      case BLKIF_OP.FLUSH_DISKCACHE:
        return this.#count.get(slot, 0) === 0 ? { kind: "flush" } : this.#direct(slot, disk, "write", "before");
      case BLKIF_OP.DISCARD:
        return this.#discard(slot, disk);
      case BLKIF_OP.INDIRECT:
        return this.#indirectRequest(slot, disk);
      default: // RESERVED_1 and what is no operation: as blkback answers on real Xen
        return { kind: "unsupported" };
    }
  }

  /** The transfer of an indirect request; `list` is a copy of the frames that it names, one after the other. */
  segmentsOf(request: IndirectRequest, list: DataView, disk: DiskLimits): Transfer | BadRequest {
    const at = (i: number): number => i * this.#listedBytes;
    return this.#transfer(list, this.#listed, request.count, at, disk, request.transfer, request.sector, "none");
  }

  #direct(slot: DataView, disk: DiskLimits, kind: "read" | "write", flush: Flush): Request {
    if (kind === "write" && !disk.writable) return bad("write to a read-only disk");
    const count = this.#count.get(slot, 0);
    if (count === 0 && flush === "both") return { kind: "flush" };
    if (count < 1 || count > BLKIF_MAX.SEGMENTS_PER_REQUEST) return bad(`${count} segments`);
    return this.#transfer(slot, this.#segment, count, null, disk, kind, this.#sector.getNumber(slot, 0), flush);
  }

  #indirectRequest(slot: DataView, disk: DiskLimits): Request {
    const operation = this.#indirect.operation.get(slot, 0);
    if (operation !== BLKIF_OP.READ && operation !== BLKIF_OP.WRITE) return bad(`indirect operation ${operation}`);
    const transfer = operation === BLKIF_OP.READ ? "read" : "write";
    if (transfer === "write" && !disk.writable) return bad("write to a read-only disk");
    const count = this.#indirect.count.get(slot, 0);
    if (count < 1 || count > MAX_INDIRECT_SEGMENTS) return bad(`${count} indirect segments`);
    const frames = Math.ceil(count / Math.floor(FRAME / this.#listedBytes));
    const references = Array.from({ length: frames }, (_, i) => this.#indirect.references.get(slot, 0, i));
    return { kind: "indirect", transfer, references, count, sector: this.#sector.getNumber(slot, 0) };
  }

  #discard(slot: DataView, disk: DiskLimits): Request {
    if (!disk.discard) return { kind: "unsupported" };
    const sector = this.#sector.getNumber(slot, 0);
    const count = this.#discarded.getNumber(slot, 0);
    if (sector > disk.sectors || count > disk.sectors - sector) return beyond(sector, count, disk);
    return { kind: "discard", offset: sector * SECTOR, length: count * SECTOR };
  }

  /** Checks `count` segments; `at` gives the place of each, null: they are an array within one structure. */
  #transfer(
    view: DataView,
    fields: SegmentFields,
    count: number,
    at: ((i: number) => number) | null,
    disk: DiskLimits,
    kind: "read" | "write",
    sector: number,
    flush: Flush,
  ): Transfer | BadRequest {
    const segments: Segment[] = [];
    let length = 0;
    for (let i = 0; i < count; i++) {
      const base = at === null ? 0 : at(i);
      const index = at === null ? i : 0;
      const first = fields.first.get(view, base, index);
      const last = fields.last.get(view, base, index);
      if (first > last || last >= FRAME_SECTORS) return bad(`segment ${i} has sectors ${first} to ${last}`);
      segments.push({
        reference: fields.reference.get(view, base, index),
        from: first * SECTOR,
        to: (last + 1) * SECTOR,
      });
      length += (last + 1 - first) * SECTOR;
    }
    if (sector > disk.sectors || length / SECTOR > disk.sectors - sector) return beyond(sector, length / SECTOR, disk);
    return { kind, segments, offset: sector * SECTOR, length, flush };
  }
}

function bad(why: string): BadRequest {
  return { kind: "bad", why };
}

function beyond(sector: number, count: number, disk: DiskLimits): BadRequest {
  return bad(`sectors ${sector} to ${sector + count - 1} of ${disk.sectors}`);
}
