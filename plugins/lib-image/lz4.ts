/**
 * LZ4's legacy frame, the form in which Linux packs kernels (Documentation: lz4_Frame_format.md, "Legacy frame"): a magic, then
 * blocks of at most 8 MiB of content, each behind its packed size; and the block format itself (lz4_Block_format.md).
 *
 * Invariants: no read or write outside the arrays whatever the input says; what makes no sense is null, never an exception.
 */

/** Magic of the legacy frame, little-endian. */
export const LZ4_LEGACY_MAGIC = 0x184c2102;

/** Content of a block is this long at most. */
const BLOCK = 8 << 20;
/** Longest packed block: incompressible content grows by 1/255 and a few bytes. */
const PACKED_BLOCK = BLOCK + Math.ceil(BLOCK / 255) + 16;
/** Shortest match. */
const MIN_MATCH = 4;

/**
 * Unpacks one block into `out` from `at` on; matches may reach back to `start`.
 * @returns where the content ends in `out`, or -1: the block makes no sense or does not fit
 */
function unpackBlock(block: Uint8Array, out: Uint8Array, start: number): number {
  const end = block.length;
  const limit = Math.min(out.length, start + BLOCK);
  let from = 0;
  let to = start;
  while (from < end) {
    const token = block[from++]!;
    let literals = token >> 4;
    if (literals === 15)
      for (let more = 255; more === 255; ) {
        if (from >= end) return -1;
        more = block[from++]!;
        literals += more;
      }
    if (literals > end - from || literals > limit - to) return -1;
    if (literals > 32) out.set(block.subarray(from, from + literals), to);
    else for (let i = 0; i < literals; i++) out[to + i] = block[from + i]!;
    from += literals;
    to += literals;
    // A block ends with literals.
    if (from === end) return to;
    if (end - from < 2) return -1;
    const offset = block[from]! | (block[from + 1]! << 8);
    from += 2;
    let length = (token & 15) + MIN_MATCH;
    if ((token & 15) === 15)
      for (let more = 255; more === 255; ) {
        if (from >= end) return -1;
        more = block[from++]!;
        length += more;
      }
    if (offset === 0 || offset > to - start || length > limit - to) return -1;
    const source = to - offset;
    if (offset >= length && length > 32) out.copyWithin(to, source, source + length);
    else for (let i = 0; i < length; i++) out[to + i] = out[source + i]!;
    to += length;
  }
  return -1;
}

/**
 * Unpacks a legacy frame.
 * @param limit most content that is accepted, in bytes
 * @returns the content, or null: damaged, or longer than `limit`
 */
export function unpackLz4Legacy(frame: Uint8Array, limit: number): Uint8Array | null {
  const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength);
  if (frame.length < 4 || view.getUint32(0, true) !== LZ4_LEGACY_MAGIC) return null;
  const blocks: Uint8Array[] = [];
  for (let at = 4; at < frame.length; ) {
    if (frame.length - at < 4) return null;
    const size = view.getUint32(at, true);
    at += 4;
    // Frames may follow each other.
    if (size === LZ4_LEGACY_MAGIC) continue;
    if (size === 0) break;
    if (size > PACKED_BLOCK || size > frame.length - at) return null;
    blocks.push(frame.subarray(at, at + size));
    at += size;
  }
  let out = new Uint8Array(Math.min(limit, Math.max(1, blocks.length) * BLOCK));
  let at = 0;
  for (const block of blocks) {
    const next = unpackBlock(block, out, at);
    if (next < 0) return null;
    at = next;
  }
  if (at < out.length) out = out.subarray(0, at);
  return out;
}
