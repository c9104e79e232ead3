import { xen } from "hookvisor";
import { describe, expect, it } from "vitest";
import { RAX, RBX, RCX, RDI, RDX } from "../../../arch/x86-pv/cpu.ts";
import { WriteEmulator } from "../../../arch/x86-pv/mm/emulate-write.ts";
import { mapGrant, unmapGrant } from "../../../arch/x86-pv/mm/grant-map.ts";
import { Bench, OTHER, SELF } from "./fake-cpu.ts";

const { GNTMAP, GNTST } = xen;

describe("copies to and from guest memory", () => {
  it("cross pages, refuse what is not mapped, read-only or Xen's, and stop at the first bad page", () => {
    const b = new Bench();
    const [one, two, three] = b.take(3) as [number, number, number];
    const { root } = b.space([{ mfn: one }, { mfn: two }, { mfn: three, writable: false }]);
    const bytes = Uint8Array.from({ length: 5000 }, (_, i) => i & 255);
    expect(b.memory.copyTo(root, 100, 0, bytes, 5000)).toBe(true);
    const back = new Uint8Array(5000);
    expect(b.memory.copyFrom(root, 100, 0, back, 5000)).toBe(true);
    expect(back).toEqual(bytes);
    expect(b.memory.copyTo(root, 0x1f00, 0, bytes, 1000)).toBe(false);
    expect(b.frames.bytes[two * 4096 + 0xfff]).toBe(bytes[0xff]);
    expect(b.frames.bytes[three * 4096]).toBe(0);
    expect(b.memory.copyFrom(root, 0x2ff0, 0, back, 32)).toBe(false);
    expect(b.memory.copyFrom(root, 0, 0xffff8000, back, 8)).toBe(false);
    expect(b.memory.copyFrom(root, 0, 0x00008000, back, 8)).toBe(false);
    expect(b.memory.copyFrom(root, 0xfffffff8, 0xffffffff, back, 64)).toBe(false);
  });
});

describe("grant mappings", () => {
  const setup = () => {
    const b = new Bench();
    const [page] = b.take(1) as [number];
    const [foreign] = b.take(1, OTHER) as [number];
    const space = b.space([{ mfn: page }]);
    return { b, page, foreign, ...space };
  };

  it("are entries that hold nothing; removal finds exactly what was mapped", () => {
    const { b, page, foreign, l1 } = setup();
    const refs = b.frames.refs[page]!;
    expect(mapGrant(b.v, b.memory, 0, 0, foreign, GNTMAP.host_map)).toBe(GNTST.okay);
    expect(b.frames.refs[page]).toBe(refs - 1);
    expect(b.frames.typeCount[page]).toBe(0);
    expect(b.frames.refs[foreign]).toBe(1);
    expect(b.memory.frameAt(b.v.kernelRoot, 0, 0, true)).toBe(foreign);
    expect(unmapGrant(b.v, b.memory, 0x1000, 0, foreign, GNTMAP.host_map, 0, 0)).toBe(GNTST.general_error);
    expect(unmapGrant(b.v, b.memory, 0, 0, page, GNTMAP.host_map, 0, 0)).toBe(GNTST.general_error);
    expect(unmapGrant(b.v, b.memory, 0, 0, foreign, GNTMAP.host_map | GNTMAP.readonly, 0, 0)).toBe(GNTST.general_error);
    expect(unmapGrant(b.v, b.memory, 0, 0, foreign, GNTMAP.host_map, 0, 0)).toBe(GNTST.okay);
    expect(b.tables.entryLo(l1, 0)).toBe(0);
    expect(mapGrant(b.v, b.memory, 0, 1, foreign, GNTMAP.host_map)).toBe(GNTST.general_error);
  });

  it("by the machine address of an entry", () => {
    const { b, foreign, l1 } = setup();
    const flags = GNTMAP.host_map | GNTMAP.contains_pte | GNTMAP.readonly;
    expect(mapGrant(b.v, b.memory, (l1 << 12) + 8 * 7, 0, foreign, flags)).toBe(GNTST.okay);
    expect(b.memory.frameAt(b.v.kernelRoot, 0x7000, 0, false)).toBe(foreign);
    expect(b.memory.frameAt(b.v.kernelRoot, 0x7000, 0, true)).toBe(-1);
    expect(mapGrant(b.v, b.memory, (l1 << 12) + 4, 0, foreign, flags)).toBe(GNTST.general_error);
    expect(mapGrant(b.v, b.memory, foreign << 12, 0, foreign, flags)).toBe(GNTST.general_error);
    expect(mapGrant(b.v, b.memory, 0, 0xfffff, foreign, flags)).toBe(GNTST.general_error);
  });

  it("overwritten by the guest are lost to it, and their references stay the handle's", () => {
    const { b, foreign, l1 } = setup();
    mapGrant(b.v, b.memory, 0, 0, foreign, GNTMAP.host_map);
    expect(b.tables.modify(l1, 0, 0, 0, false, SELF, SELF)).toBe(0);
    expect(b.frames.refs[foreign]).toBe(1);
    expect(unmapGrant(b.v, b.memory, 0, 0, foreign, GNTMAP.host_map, 0, 0)).toBe(GNTST.general_error);
  });

  it("replaced: the other address's entry moves here", () => {
    const { b, page, foreign, l1 } = setup();
    const [own] = b.take(1) as [number];
    b.tables.modify(l1, 3, ((own << 12) | 7) >>> 0, 0, false, SELF, SELF);
    mapGrant(b.v, b.memory, 0x5000, 0, foreign, GNTMAP.host_map);
    expect(unmapGrant(b.v, b.memory, 0x5000, 0, foreign, GNTMAP.host_map, 0x3000, 0)).toBe(GNTST.okay);
    expect(b.memory.frameAt(b.v.kernelRoot, 0x5000, 0, true)).toBe(own);
    expect(b.memory.frameAt(b.v.kernelRoot, 0x3000, 0, false)).toBe(-1);
    expect(b.frames.typeCount[own]).toBe(1);
    expect(b.frames.typeCount[page]).toBe(1);
  });
});

describe("emulated writes to page tables", () => {
  /** Runs `code` with entry 5 of the L1 table, mapped read-only at 0x1000, as its destination. */
  const run = (code: readonly number[], set: (b: Bench) => void, at = 0x1028) => {
    const b = new Bench();
    const [text, page, other] = b.take(3) as [number, number, number];
    const { l1 } = b.space([{ mfn: text }]);
    b.tables.modify(l1, 1, (l1 << 12) | 5, 0, false, SELF, SELF);
    b.tables.modify(l1, 5, ((page << 12) | 5) >>> 0, 0, false, SELF, SELF);
    b.frames.bytes.set(code, text * 4096);
    b.cpu.setRip(0, 0);
    b.cpu.set(RBX, at, 0);
    set(b);
    const done = new WriteEmulator(b.memory).emulate(b.v, at, 0);
    return { b, l1, page, other, done, entry: b.tables.entryLo(l1, 5), high: b.tables.entryHi(l1, 5) };
  };

  it("mov, with the checks of any change", () => {
    const mov = [0x48, 0x89, 0x03]; // mov [rbx], rax
    const good = run(mov, (b) => b.cpu.set(RAX, 0, 0));
    expect([good.done, good.entry, good.b.cpu.ripLo()]).toEqual([true, 0, 3]);
    expect(good.b.frames.refs[good.page]).toBe(1);
    const bad = run(mov, (b) => b.cpu.set(RAX, ((b.v.kernelRoot << 12) | 7) >>> 0, 0));
    expect([bad.done, bad.b.cpu.ripLo()]).toEqual([false, 0]);
    const unaligned = run(mov, (b) => b.cpu.set(RAX, 0, 0), 0x102c);
    expect(unaligned.done).toBe(false);
  });

  it("a byte is merged with what is there", () => {
    const { done, entry, page } = run([0xc6, 0x03, 0x00], () => {}); // mov byte [rbx], 0
    expect([done, entry]).toEqual([true, ((page << 12) | 0x100) >>> 0]);
  });

  it("xchg and cmpxchg give the old value", () => {
    const swap = run([0x48, 0x87, 0x0b], (b) => b.cpu.set(RCX, 0, 0)); // xchg [rbx], rcx
    expect([swap.done, swap.entry, swap.b.cpu.lo(RCX) & 7]).toEqual([true, 0, 5]);
    const refused = run([0xf0, 0x48, 0x0f, 0xb1, 0x13], (b) => b.cpu.set(RAX, 1, 0)); // lock cmpxchg [rbx], rdx
    expect([refused.done, refused.b.cpu.flags() & 0x40, refused.b.cpu.lo(RAX) & 7]).toEqual([true, 0, 5]);
    const taken = run([0xf0, 0x48, 0x0f, 0xb1, 0x13], (b) => {
      const l1 = b.memory.l1TableAt(b.v.kernelRoot, 0, 0);
      b.cpu.set(RAX, b.tables.entryLo(l1, 5), b.tables.entryHi(l1, 5));
      b.cpu.set(RDX, 0, 0);
    });
    expect([taken.done, taken.entry, taken.b.cpu.flags() & 0x40]).toEqual([true, 0, 0x40]);
  });

  it("and, or, btr set the flags", () => {
    const and = run([0x48, 0x83, 0x23, 0x00], () => {}); // and qword [rbx], 0
    expect([and.done, and.entry, and.b.cpu.flags() & 0x40]).toEqual([true, 0, 0x40]);
    const btr = run([0xf0, 0x48, 0x0f, 0xba, 0x33, 0x00], () => {}); // lock btr qword [rbx], 0
    expect([btr.done, btr.entry & 1, btr.b.cpu.flags() & 1]).toEqual([true, 0, 1]);
    const or = run([0x48, 0x81, 0x0b, 0x00, 0x02, 0, 0], () => {}); // or qword [rbx], 0x200
    expect([or.done, or.entry & 0x200]).toEqual([true, 0x200]);
  });

  it("rep stos goes on an element at a time", () => {
    const { done, b, entry } = run([0xf3, 0x48, 0xab], (bench) => {
      bench.cpu.set(RAX, 0, 0);
      bench.cpu.set(RDI, 0x1028, 0);
      bench.cpu.set(RCX, 2, 0);
    });
    expect([done, entry, b.cpu.lo(RDI), b.cpu.lo(RCX), b.cpu.ripLo()]).toEqual([true, 0, 0x1030, 1, 0]);
  });

  it("other instructions, and tables of other levels, stay faults", () => {
    expect(run([0x48, 0xff, 0x03], () => {}).done).toBe(false); // inc
    expect(run([0xff, 0xff, 0xff], () => {}).done).toBe(false);
    const b = new Bench();
    const [text] = b.take(1) as [number];
    const { l1, l2 } = b.space([{ mfn: text }]);
    b.tables.modify(l1, 1, (l2 << 12) | 5, 0, false, SELF, SELF);
    b.frames.bytes.set([0x48, 0x89, 0x03], text * 4096);
    expect(new WriteEmulator(b.memory).emulate(b.v, 0x1008, 0)).toBe(false);
  });
});
