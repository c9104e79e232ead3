/**
 * What a request of a virtio block device asks for (virtio 1.2, section 5.2; linux/virtio_blk.h), checked before anything is touched.
 *
 * A request is a header of 16 bytes and what follows to be read, then what is to be written and one status byte at the very end, cut into buffers
 * in any way. Sectors are always 512 bytes.
 */
import { SECTOR } from "../lib-block/index.ts";
import { type Chain, type GuestMemory, QueueError } from "../lib-virtio/index.ts";

/** Kinds of requests. */
export const TYPE = Object.freeze({ in: 0, out: 1, flush: 4, getId: 8, discard: 11, writeZeroes: 13 });
/** Answers. */
export const BLK_STATUS = Object.freeze({ ok: 0, ioError: 1, unsupported: 2 });
/** Bytes of a disk's identity. */
export const ID_BYTES = 20;
/** Bytes of data of one request at most. */
export const MOST_REQUEST = 32 << 20;
/** Sectors of one segment that is to be zero at most. */
export const MOST_ZEROES = 8192;
/** Segments of a request to give up at most. */
export const MOST_DISCARDS = 32;
const HEADER = 16;
/** Bytes of a segment to give up: sector, sectors, flags. */
const RANGE = 16;
const FLAG_UNMAP = 1;

/** What the disk allows. */
export interface BlkLimits {
  readonly sectors: number;
  readonly writable: boolean;
  readonly discards: boolean;
}

/** Bytes of the disk. */
export interface Range {
  readonly offset: number;
  readonly length: number;
}

/** A request that has passed the checks, or why it has not. */
export type BlkRequest =
  | ({ readonly kind: "read" } & Range)
  | ({ readonly kind: "write"; readonly data: Uint8Array } & Range)
  | { readonly kind: "flush" }
  | { readonly kind: "id"; readonly length: number }
  | { readonly kind: "discard" | "zero"; readonly ranges: readonly Range[] }
  | { readonly kind: "bad"; readonly why: string }
  | { readonly kind: "unsupported" };

const UNSUPPORTED: BlkRequest = Object.freeze({ kind: "unsupported" });

function bad(why: string): BlkRequest {
  return { kind: "bad", why };
}

/** Reads a request out of guest memory. QueueError for one that has no header, or no room for its status. */
export function parseRequest(chain: Chain, memory: GuestMemory, limits: BlkLimits): BlkRequest {
  if (chain.readLength < HEADER || chain.writeLength < 1)
    throw new QueueError(`a block request of ${chain.readLength} bytes with ${chain.writeLength} for its answer`);
  const header = new DataView(new ArrayBuffer(HEADER));
  memory.read(chain.readable, 0, new Uint8Array(header.buffer));
  const sector = sectorAt(header, 8);
  switch (header.getUint32(0, true)) {
    case TYPE.in: {
      const range = rangeOf(sector, chain.writeLength - 1, limits);
      return typeof range === "string" ? bad(range) : { kind: "read", ...range };
    }
    case TYPE.out: {
      const range = limits.writable
        ? rangeOf(sector, chain.readLength - HEADER, limits)
        : "a write to a disk that is read-only";
      if (typeof range === "string") return bad(range);
      const data = new Uint8Array(range.length);
      memory.read(chain.readable, HEADER, data);
      return { kind: "write", ...range, data };
    }
    case TYPE.flush:
      return { kind: "flush" };
    case TYPE.getId:
      return { kind: "id", length: Math.min(ID_BYTES, chain.writeLength - 1) };
    case TYPE.discard:
      return limits.discards ? rangesOf("discard", chain, memory, limits) : UNSUPPORTED;
    case TYPE.writeZeroes:
      return limits.writable ? rangesOf("zero", chain, memory, limits) : UNSUPPORTED;
    default:
      return UNSUPPORTED;
  }
}

/** A sector number; one beyond 2^53 loses its last bits, which are of no disk. */
function sectorAt(view: DataView, at: number): number {
  return view.getUint32(at + 4, true) * 2 ** 32 + view.getUint32(at, true);
}

function rangeOf(sector: number, length: number, { sectors }: BlkLimits): Range | string {
  if (length % SECTOR !== 0) return `${length} bytes, which are no whole sectors`;
  if (length > MOST_REQUEST) return `${length} bytes at a time`;
  if (sector > sectors || sector + length / SECTOR > sectors)
    return `sectors ${sector} to ${sector + length / SECTOR} of ${sectors}`;
  return { offset: sector * SECTOR, length };
}

function rangesOf(kind: "discard" | "zero", chain: Chain, memory: GuestMemory, limits: BlkLimits): BlkRequest {
  const length = chain.readLength - HEADER;
  const most = kind === "discard" ? MOST_DISCARDS : 1;
  if (length === 0 || length % RANGE !== 0 || length > most * RANGE) return bad(`${length} bytes of segments`);
  const list = new DataView(new ArrayBuffer(length));
  memory.read(chain.readable, HEADER, new Uint8Array(list.buffer));
  const ranges: Range[] = [];
  for (let at = 0; at < length; at += RANGE) {
    const sector = sectorAt(list, at);
    const count = list.getUint32(at + 8, true);
    const flags = list.getUint32(at + 12, true);
    if ((flags & ~(kind === "zero" ? FLAG_UNMAP : 0)) !== 0) return UNSUPPORTED;
    if (sector > limits.sectors || sector + count > limits.sectors)
      return bad(`sectors ${sector} to ${sector + count} of ${limits.sectors}`);
    if (kind === "zero" && count > MOST_ZEROES) return bad(`${count} sectors of zeros`);
    ranges.push({ offset: sector * SECTOR, length: count * SECTOR });
  }
  return { kind, ranges };
}
