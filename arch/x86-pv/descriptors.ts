/**
 * Segment descriptors of PV guests: which may be in a guest's tables, and what a selector names.
 *
 * A guest's GDT is up to 14 pages of its own; above them lie Xen's own entries, so that its flat selectors (0xe0xx) are valid
 * whatever the guest does (Xen: check_descriptor in x86_64/mm.c, public/arch-x86/xen.h FIRST_RESERVED_GDT_*). Bits: SDM volume 3, 3.4.5.
 *
 * Invariant: a page of type TYPE_SEGMENTS holds only descriptors that are harmless in ring 3 with DPL 3.
 */
import { xen } from "hookvisor";

/** Bits of a descriptor's high word. */
const HIGH_P = 0x8000;
const HIGH_S = 0x1000;
const HIGH_TYPE = 0x0f00;
const HIGH_CODE = 0x0800;
const HIGH_READ_WRITE = 0x0200;
export const HIGH_LONG = 0x20_0000;
const HIGH_GRANULAR = 0x80_0000;
const TYPE_CALL_GATE = 0x0c00;

/** Xen's own entries, from FIRST_RESERVED_GDT_ENTRY on: flat segments of ring 3 for both word sizes; others are not for guests. */
const RESERVED: readonly (readonly [number, number])[] = [
  [0, 0],
  [0, 0],
  [0, 0],
  [0, 0],
  [0x0000ffff, 0x00cffb00],
  [0x0000ffff, 0x00cff300],
  [0x00000000, 0x00affb00],
];

/** The checked high word of a descriptor (its DPL raised to 3), or -1: refused. The low word stays. */
export function checkDescriptor(low: number, high: number): number {
  if ((high & HIGH_P) === 0) return high >>> 0;
  const raised = (high | 0x6000) >>> 0;
  if ((high & HIGH_S) !== 0) return raised;
  const type = high & HIGH_TYPE;
  // Type 0 is the second half of a call gate; of system descriptors only call gates to a guest's selectors are let in, and using one is #GP.
  if (type === 0) return high >>> 0;
  if (type !== TYPE_CALL_GATE) return -1;
  const selector = low >>> 16;
  const flat = selector >= xen.FIRST_RESERVED_GDT_BYTE && (selector & 4) === 0;
  if (flat && (selector | 3) !== xen.x86_64.FLAT_RING3.CS64 && (selector | 3) !== xen.x86_64.FLAT_RING3.CS32) return -1;
  return (high & ~0x6000) >>> 0;
}

/** Checks (and fixes the privilege levels of) a page of descriptors at word index `base`; false: one is refused. */
export function checkDescriptorPage(words: Uint32Array, base: number): boolean {
  for (let i = 0; i < 512; i++) {
    const high = checkDescriptor(words[base + 2 * i]!, words[base + 2 * i + 1]!);
    if (high < 0) return false;
    words[base + 2 * i + 1] = high;
  }
  return true;
}

/** Reads a descriptor by table index: its two words, or null beyond the table. */
export type DescriptorReader = (index: number) => readonly [number, number] | null;

/** Xen's reserved entry `index` (counted from 0), or null where a guest has none. */
export function reservedDescriptor(index: number): readonly [number, number] | null {
  const entry = RESERVED[index - xen.FIRST_RESERVED_GDT_ENTRY];
  return entry === undefined || entry[1] === 0 ? null : entry;
}

/** What a selector stands for. */
export interface Segment {
  readonly base: number;
  readonly limit: number;
  /** Bytes 5 and 6 of the descriptor as the CPU caches them: type, S, DPL, P, and AVL, L, D/B, G in bits 12 to 15. */
  readonly attributes: number;
}

/** Unpacks a descriptor. */
export function segmentOf([low, high]: readonly [number, number]): Segment {
  const raw = ((high & 0xf_0000) | (low & 0xffff)) >>> 0;
  return {
    base: ((high & 0xff00_0000) | ((high & 0xff) << 16) | (low >>> 16)) >>> 0,
    limit: (high & HIGH_GRANULAR) !== 0 ? ((raw << 12) | 0xfff) >>> 0 : raw,
    attributes: ((high >>> 8) & 0xf0ff) >>> 0,
  };
}

/** Is it a present code segment? */
export function isCode(high: number): boolean {
  return (high & (HIGH_P | HIGH_S | HIGH_CODE)) === (HIGH_P | HIGH_S | HIGH_CODE);
}

/** Is it a present data segment that can be written (what SS must be)? */
export function isStack(high: number): boolean {
  return (high & (HIGH_P | HIGH_S | HIGH_CODE | HIGH_READ_WRITE)) === (HIGH_P | HIGH_S | HIGH_READ_WRITE);
}

/** May a data segment register hold it: present data, or readable code? */
export function isData(high: number): boolean {
  if ((high & HIGH_S) === 0) return false;
  return (high & HIGH_CODE) === 0 || (high & HIGH_READ_WRITE) !== 0;
}

/** Present? (A segment load of one that is not is #NP, or #SS for SS.) */
export function isPresent(high: number): boolean {
  return (high & HIGH_P) !== 0;
}
