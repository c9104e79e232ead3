import fc from "fast-check";
import { FrameType, xen } from "hookvisor";
import { describe, expect, it } from "vitest";
import { NOBODY } from "../../../arch/x86-pv/mm/page-tables.ts";
import {
  PTE_A,
  PTE_G,
  PTE_HI_GRANT,
  PTE_HI_GUEST_KERNEL,
  PTE_P,
  PTE_RW,
  PTE_U,
  pteFrame,
  TYPE_L1,
  TYPE_L4,
  TYPE_SEGMENTS,
} from "../../../arch/x86-pv/mm/pte.ts";
import { Bench, OTHER, SELF } from "./fake-cpu.ts";

const { EBUSY, EINVAL, EPERM } = xen.ERRNO;

/** All counts as they must be, found by looking at every table: the definition, not the bookkeeping. */
function check(b: Bench, frames: readonly number[], roots: readonly number[]): void {
  const { tables } = b;
  const refs = new Map<number, number>(frames.map((mfn) => [mfn, b.frames.allocated[mfn]!]));
  const types = new Map<number, number>(frames.map((mfn) => [mfn, 0]));
  const add = (mfn: number, type: boolean): void => {
    refs.set(mfn, (refs.get(mfn) ?? 0) + 1);
    if (type) types.set(mfn, (types.get(mfn) ?? 0) + 1);
  };
  const isTable = (mfn: number): boolean =>
    b.frames.typeCount[mfn]! > 0 && b.frames.type[mfn]! >= TYPE_L1 && b.frames.type[mfn]! <= TYPE_L4;
  for (const mfn of frames) {
    if (tables.isPinned(mfn)) add(mfn, true);
    if (!isTable(mfn)) continue;
    const level = b.frames.type[mfn]! - TYPE_L1 + 1;
    for (let i = 0; i < 512; i++) {
      if (level === 4 && i >= 256 && i <= 271) continue;
      const lo = tables.entryLo(mfn, i);
      if ((lo & PTE_P) === 0) continue;
      const target = pteFrame(lo, tables.entryHi(mfn, i));
      expect(b.frames.owner[target]).toBe(SELF);
      expect((lo & PTE_U) !== 0).toBe(true);
      if (level > 1 && target === mfn) {
        expect(lo & PTE_RW).toBe(0);
        continue;
      }
      add(target, level > 1 || (lo & PTE_RW) !== 0);
      if (level === 1 && (lo & PTE_RW) !== 0) expect(isTable(target)).toBe(false);
      if (level > 1) expect(isTable(target)).toBe(true);
    }
  }
  for (const root of roots) if (root !== 0) add(root, true);
  for (const mfn of frames) {
    expect([mfn, b.frames.refs[mfn]]).toEqual([mfn, refs.get(mfn)]);
    expect([mfn, b.frames.typeCount[mfn]]).toEqual([mfn, types.get(mfn)]);
  }
}

type Op =
  | {
      readonly kind: "write";
      readonly frame: number;
      readonly slot: number;
      readonly target: number;
      readonly flags: number;
      readonly hi: number;
    }
  | { readonly kind: "pin"; readonly frame: number; readonly level: number }
  | { readonly kind: "unpin"; readonly frame: number }
  | { readonly kind: "root"; readonly frame: number };

const FRAMES = 14;
const SLOTS = [0, 1, 255, 256, 260, 271, 272, 511];
const frame = fc.nat(FRAMES - 1);
const flags = fc.oneof(
  { weight: 8, arbitrary: fc.constantFrom(5, 7, 1, 3, 0x65, 0x27) },
  { weight: 1, arbitrary: fc.constantFrom(0, 6, 0x87, 0x0f, 0x17, 0x107) },
);
const operation: fc.Arbitrary<Op> = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({
      kind: fc.constant("write" as const),
      frame,
      slot: fc.nat(SLOTS.length - 1),
      target: fc.nat(FRAMES + 2),
      flags,
      hi: fc.oneof(
        { weight: 6, arbitrary: fc.constant(0) },
        fc.constantFrom(0x80000000, 0x40000000, 0x00100000, 1, 0xfffff),
      ),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({ kind: fc.constant("pin" as const), frame, level: fc.integer({ min: 1, max: 4 }) }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("unpin" as const), frame }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("root" as const), frame }) },
);

describe("validated page tables", () => {
  it("keep every count exact and no table writable, whatever a guest does; its end frees everything", () => {
    fc.assert(
      fc.property(fc.array(operation, { maxLength: 60 }), (operations) => {
        const b = new Bench(64);
        const own = b.take(FRAMES);
        const [foreign] = b.take(1, OTHER);
        const pool = [...own, foreign!, 63, 1 << 19];
        let root = 0;
        for (const o of operations) {
          const mfn = own[o.frame]!;
          if (o.kind === "pin") b.tables.pin(mfn, TYPE_L1 + o.level - 1, SELF);
          else if (o.kind === "unpin") b.tables.unpin(mfn, SELF);
          else if (o.kind === "root") {
            if (b.tables.getPageAndType(mfn, TYPE_L4, SELF) === 0) {
              if (root !== 0) b.tables.putPageAndType(root);
              root = mfn;
            }
          } else {
            const lo = ((pool[o.target]! << 12) | o.flags) >>> 0;
            const slot = SLOTS[o.slot]!;
            if (b.tables.isTable(mfn, b.frames.type[mfn]!) && b.frames.type[mfn]! >= TYPE_L1)
              b.tables.modify(mfn, slot, lo, o.hi, false, SELF, SELF);
            // Plain memory: the guest writes what it likes, as long as it may have the frame writable.
            else if (b.tables.getType(mfn, FrameType.writable, SELF) === 0) {
              b.entry(mfn, slot, lo, o.hi);
              b.tables.putType(mfn);
            }
          }
          check(b, own, [root]);
        }
        if (root !== 0) b.tables.putPageAndType(root);
        b.tables.unpinAll(SELF);
        check(b, own, []);
        b.frames.disown(SELF);
        for (const mfn of own) expect(b.frames.refs[mfn]).toBe(0);
      }),
      { numRuns: 300 },
    );
  });

  it("mark entries as Xen does", () => {
    const b = new Bench();
    const [page, user] = b.take(2) as [number, number];
    const { root, l1 } = b.space([{ mfn: page }]);
    expect(b.tables.modify(l1, 1, (page << 12) | PTE_P | PTE_RW, 0, false, SELF, SELF)).toBe(0);
    expect(b.tables.entryLo(l1, 1) & 0xfff).toBe(PTE_P | PTE_RW | PTE_U);
    expect(b.tables.entryHi(l1, 1)).toBe(PTE_HI_GUEST_KERNEL);
    expect(b.tables.modify(l1, 2, (user << 12) | PTE_P | PTE_U, 0, false, SELF, SELF)).toBe(0);
    expect(b.tables.entryLo(l1, 2) & 0xfff).toBe(PTE_P | PTE_U | PTE_G);
    expect(b.tables.entryLo(root, 0) & 0xfff).toBe(7 | PTE_A);
    expect([b.tables.entryLo(root, 256), b.tables.entryHi(root, 256)]).toEqual([b.m2p.entry.lo, b.m2p.entry.hi]);
    for (let i = 257; i <= 271; i++) expect(b.tables.entryLo(root, i)).toBe(0);
  });

  it("answer Xen's errors", () => {
    const b = new Bench();
    const [page] = b.take(1) as [number];
    const [foreign] = b.take(1, OTHER) as [number];
    const { root, l2, l1 } = b.space([{ mfn: page }]);
    const set = (mfn: number, lo: number, hi = 0, mapped = SELF): number =>
      b.tables.modify(mfn, 9, lo >>> 0, hi, false, SELF, mapped);
    expect(set(l1, (foreign << 12) | 7)).toBe(-EBUSY);
    expect(set(l1, (foreign << 12) | 5)).toBe(-EBUSY);
    expect(set(l1, (l1 << 12) | 7)).toBe(-EBUSY);
    expect(set(l1, (l1 << 12) | 5)).toBe(0);
    expect(set(l1, (page << 12) | 0x1f)).toBe(-EINVAL);
    expect(set(l1, (page << 12) | 7, PTE_HI_GRANT)).toBe(-EINVAL);
    expect(set(l1, (200 << 12) | 7, 1)).toBe(-EPERM);
    expect(set(l1, 0xfffff007, 0xfffff)).toBe(-EINVAL);
    expect(set(l1, (page << 12) | 7, 0, NOBODY)).toBe(-EBUSY);
    expect(set(l2, (page << 12) | 7)).toBe(-EINVAL);
    expect(set(l2, (l2 << 12) | 7)).toBe(-EINVAL);
    expect(set(l2, (l2 << 12) | 5)).toBe(0);
    expect(set(l2, (l1 << 12) | 0x87)).toBe(-EINVAL);
    expect(b.tables.modify(root, 256, 0, 0, false, SELF, SELF)).toBe(-EINVAL);
    expect(b.tables.pin(page, TYPE_L1, SELF)).toBe(-EINVAL);
    expect(b.tables.pin(root, TYPE_L4, SELF)).toBe(-EINVAL);
    expect(b.tables.unpin(page, SELF)).toBe(-EINVAL);
  });

  it("keep A and D bits when asked to", () => {
    const b = new Bench();
    const [page] = b.take(1) as [number];
    const { l1 } = b.space([{ mfn: page }]);
    b.memory.copyTo(b.v.kernelRoot, 0, 0, new Uint8Array(1), 1);
    expect(b.tables.entryLo(l1, 0) & 0x60).toBe(0x60);
    b.tables.modify(l1, 0, (page << 12) | 5, 0, true, SELF, SELF);
    expect(b.tables.entryLo(l1, 0) & 0x60).toBe(0x60);
    b.tables.modify(l1, 0, (page << 12) | 5, 0, false, SELF, SELF);
    expect(b.tables.entryLo(l1, 0) & 0x60).toBe(0);
  });

  it("tell TLBs before a writable frame becomes a table", () => {
    const b = new Bench();
    const seen: number[] = [];
    b.frames.onRetype((mfn) => seen.push(mfn));
    const [page] = b.take(1) as [number];
    b.tables.getPageAndType(page, FrameType.writable, SELF);
    b.tables.putPageAndType(page);
    expect(seen).toEqual([]);
    b.tables.pin(page, TYPE_L1, SELF);
    expect(seen).toEqual([page]);
  });

  it("let pages of descriptors in only if they are harmless", () => {
    const b = new Bench();
    const [page] = b.take(1) as [number];
    b.entry(page, 1, 0x0000ffff, 0x00cf9a00);
    expect(b.tables.getPageAndType(page, TYPE_SEGMENTS, SELF)).toBe(0);
    expect(b.tables.entryHi(page, 1)).toBe(0x00cffa00);
    b.tables.putPageAndType(page);
    b.entry(page, 2, 0x00000067, 0x00008900);
    expect(b.tables.getPageAndType(page, TYPE_SEGMENTS, SELF)).toBe(-EINVAL);
  });

  it("share levels: linear mappings, but no chains of them", () => {
    const b = new Bench();
    const [a, c, d] = b.take(3) as [number, number, number];
    for (const mfn of [a, c, d]) expect(b.tables.pin(mfn, TYPE_L4, SELF)).toBe(0);
    const link = (from: number, to: number): number =>
      b.tables.modify(from, 300, ((to << 12) | PTE_P | PTE_U) >>> 0, 0, false, SELF, SELF);
    expect(link(a, a)).toBe(0);
    expect(link(a, c)).toBe(0);
    expect(link(c, d)).toBe(-EINVAL);
    expect(link(d, a)).toBe(-EINVAL);
    expect(b.tables.unpin(c, SELF)).toBe(0);
    expect(b.tables.isTable(c, TYPE_L4)).toBe(true);
    expect(b.tables.unpin(a, SELF)).toBe(0);
    expect(b.tables.isTable(c, TYPE_L4)).toBe(false);
  });
});
