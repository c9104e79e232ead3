/**
 * What is where in memory 1, beside the code area: frame flags, and per vCPU its state, its soft-TLBs and its jump caches.
 *
 * Per vCPU (its base is a multiple of 64 KiB): the state (64 KiB), then for each mmu index MMU_BYTES:
 * read TLB, write TLB, fetch TLB, jump cache, generation, list of the TLB slots filled since the last flush. The
 * interpreter keeps the address of the current mmu index's part in a local.
 *
 * A TLB entry is { i64 tag: address of the virtual page, i32 addend: machine address - virtual address }. An entry is
 * hit where (va ^ tag) <= 4096 - size: one comparison for page and crossing. An empty entry's tag is a page that never
 * hashes to its slot: all ones (which hashes to 0), and page 1 for slot 0.
 *
 * A jump cache entry is { i64 pc, i32 ip: the block's header, i32 stamp: generation << 8 | mode }. A TLB flush only
 * counts the generation up: an entry of an older one is looked at again (does pc still lead to the block's frame?) when it
 * is next used. An empty entry's ip is 0.
 */

export const STATE_BYTES = 0x10000;
/** Entries of one TLB and of a jump cache; 16 bytes each. */
export const ENTRIES = 4096;
export const ENTRY_MASK = (ENTRIES - 1) << 4;
/** Offsets within an mmu index's part. */
export const READ_TLB = 0;
export const WRITE_TLB = 0x10000;
export const FETCH_TLB = 0x20000;
export const JUMP_CACHE = 0x30000;
/** The generation (i32), below GENERATIONS; then the count of fills and the slots. */
export const GENERATION = 0x40000;
export const GENERATIONS = (1 << 24) - 1;
export const FILLS = 0x40010;
/** Slots the list of fills holds: past that, a flush clears everything. */
export const MAX_FILLS = 1000;
export const MMU_BYTES = 0x50000;

/** Offset of an mmu index's part from the vCPU's base. */
export function mmuOffset(mmu: number): number {
  return STATE_BYTES + mmu * MMU_BYTES;
}

/** Byte offset of the TLB slot of a virtual address. The interpreter computes the same. */
export function tlbSlot(lo: number, hi: number): number {
  const x = (lo >>> 8) | (hi << 24);
  return (x ^ (x >>> 12)) & ENTRY_MASK;
}

/** Byte offset of the jump cache slot of a pc. The interpreter computes the same. */
export function jumpSlot(lo: number): number {
  return ((lo << 4) ^ (lo >>> 8)) & ENTRY_MASK;
}

/** Flags of a machine frame, one byte each. */
export const FRAME_CODE = 1;
/** The frame may be in some vCPU's write, read, fetch TLB. */
export const FRAME_WRITABLE = 2;
export const FRAME_READABLE = 4;
export const FRAME_FETCHED = 8;

/** A block's header: u16 instructions @2, i32 frame @4 (-1: of two frames, or none), u32 pc @8 and @12; its ops follow. */
export const HEADER_BYTES = 16;
