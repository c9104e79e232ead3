import { xen } from "hookvisor";
import { beforeEach, describe, expect, it } from "vitest";
import { CS, DS, ES, FS, GS, R11, RAX, RCX, RSP, SS } from "../../../arch/x86-pv/cpu.ts";
import { setGdt } from "../../../arch/x86-pv/descriptor-tables.ts";
import { setTrap } from "../../../arch/x86-pv/hypercalls.ts";
import { TYPE_SEGMENTS } from "../../../arch/x86-pv/mm/pte.ts";
import { setKernelRoot, setUserRoot } from "../../../arch/x86-pv/mm/roots.ts";
import { NO_ERROR } from "../../../arch/x86-pv/traps/bounce.ts";
import { Bench, SELF } from "./fake-cpu.ts";

const CS64 = 0xe033;
const SS64 = 0xe02b;
const IF = 0x200;

let b: Bench;
let stack: number;
let userStack: number;

/** 64-bit words at an address below 2 MiB in the bench's address space (page i is the i-th given to `space`). */
function words(page: number, offset: number, count: number): number[] {
  return Array.from({ length: count }, (_, i) => b.frames.view.getUint32(page * 4096 + offset + i * 8, true));
}

beforeEach(() => {
  b = new Bench();
  [stack, userStack] = b.take(2) as [number, number];
  b.space([{ mfn: stack }, { mfn: userStack }]);
  const { v, cpu } = b;
  cpu.set(RSP, 0xff8, 0);
  cpu.set(RCX, 0xc, 0);
  cpu.set(R11, 0xb, 0);
  cpu.setRip(0x1234, 0xffffffff);
  cpu.setFlags(0x246);
  cpu.selectors.set([0x2b, CS64, SS64, 0x2b, 0, 0]);
  setTrap(v, 14, 4, CS64, 0x5000, 0xffffffff);
  setTrap(v, 13, 0, CS64, 0x6000, 0);
  setTrap(v, 3, 3, CS64, 0x7000, 0);
  setTrap(v, 0x80, 3, CS64, 0x8000, 0);
  setTrap(v, 0x20, 1, CS64, 0x9000, 0);
});

describe("bounce frames", () => {
  it("from the kernel: aligned to 16, RPL 0, the mask in cs, IF its inverse", () => {
    expect(b.traps.inject(b.v, 13, 0x18)).toBe(true);
    // 8 words below 0xff0
    expect(b.cpu.lo(RSP)).toBe(0xff0 - 64);
    expect(words(stack, 0xff0 - 64, 8)).toEqual([0xc, 0xb, 0x18, 0x1234, CS64 & ~3, 0x246 | IF, 0xff8, SS64]);
    expect(b.frames.view.getUint32(stack * 4096 + 0xff0 - 64 + 3 * 8 + 4, true)).toBe(0xffffffff);
    expect([b.cpu.ripLo(), b.cpu.ripHi()]).toEqual([0x6000, 0]);
    expect([b.cpu.selector(CS), b.cpu.selector(SS)]).toEqual([CS64, SS64]);
    expect(b.bounce.info.masked(b.v)).toBe(false);
  });

  it("with events masked: IF clear in the frame, the mask byte above cs", () => {
    b.bounce.info.setMask(b.v, true);
    b.traps.inject(b.v, 13, 0);
    const at = stack * 4096 + 0xff0 - 64;
    expect(b.frames.view.getUint32(at + 4 * 8 + 4, true)).toBe(1);
    expect(b.frames.view.getUint32(at + 5 * 8, true) & IF).toBe(0);
  });

  it("a page fault: CR2 in vcpu_info, no U bit from the kernel, the gate's mask flag", () => {
    expect(b.traps.injectPageFault(b.v, 7, 0xdead000, 0x1)).toBe(true);
    const info = b.v.vcpu.infoAddress;
    expect([b.frames.view.getUint32(info + 16, true), b.frames.view.getUint32(info + 20, true)]).toEqual([
      0xdead000, 1,
    ]);
    expect(words(stack, 0xff0 - 64 + 16, 1)).toEqual([3]);
    expect(b.bounce.info.masked(b.v)).toBe(true);
    expect([b.cpu.ripLo(), b.cpu.ripHi()]).toEqual([0x5000, 0xffffffff]);
  });

  it("from user mode: the kernel's stack, the U bit, RPL 3, root and GS base switched", () => {
    const { v, cpu } = b;
    v.kernelMode = false;
    v.kernelSpLo = 0x800;
    cpu.setUser(true);
    cpu.setBase(GS, 0x111, 0);
    v.otherGsLo = 0x222;
    cpu.set(RSP, 0x1ff0, 0);
    b.traps.injectPageFault(v, 5, 0x1000, 0);
    expect(v.kernelMode).toBe(true);
    expect(cpu.user).toBe(false);
    expect([cpu.baseLo(GS), v.otherGsLo]).toEqual([0x222, 0x111]);
    expect(cpu.lo(RSP)).toBe(0x800 - 64);
    expect(words(stack, 0x800 - 64, 8)).toEqual([0xc, 0xb, 5, 0x1234, CS64, 0x246, 0x1ff0, SS64]);
  });

  it("the failsafe callback gets the data selectors", () => {
    b.cpu.selectors.set([0x11, CS64, SS64, 0x22, 0x33, 0x44]);
    b.bounce.enter(b.v, 0x4000, 0, NO_ERROR, false, true, "test");
    expect(words(stack, 0xff0 - 11 * 8, 6)).toEqual([0xc, 0xb, 0x22, 0x11, 0x33, 0x44]);
    expect([DS, ES, FS, GS]).toEqual([3, 0, 4, 5]);
  });

  it("no handler, or no stack: the domain cannot go on, with the reason", () => {
    expect(b.traps.inject(b.v, 6, NO_ERROR)).toBe(false);
    expect(b.v.crashed).toMatch(/#UD and the guest has no handler/);
    b.v.crashed = "";
    b.cpu.set(RSP, 0x100000, 0);
    expect(b.traps.inject(b.v, 13, 0)).toBe(false);
    expect(b.v.crashed).toMatch(/kernel stack at 0xfffc0 cannot be written/);
  });

  it("an event masks events", () => {
    const { v } = b;
    v.event.lo = 0xe000;
    expect(b.bounce.info.deliverable(v)).toBe(false);
    b.frames.bytes[v.vcpu.infoAddress] = 1;
    expect(b.bounce.info.deliverable(v)).toBe(true);
    expect(b.bounce.deliverEvent(v)).toBe(true);
    expect(b.cpu.ripLo()).toBe(0xe000);
    expect(b.bounce.info.deliverable(v)).toBe(false);
    expect(words(stack, 0xff0 - 56, 5)[4]! & IF).toBe(IF);
  });
});

describe("software interrupts", () => {
  it("go to the gate and past the instruction, if its DPL allows", () => {
    expect(b.traps.softwareInterrupt(b.v, 0x20, 2)).toBe(true);
    expect(b.cpu.ripLo()).toBe(0x9000);
    expect(words(stack, 0xff0 - 56, 3)[2]).toBe(0x1236);
  });

  it("are #GP with the vector otherwise, at the instruction", () => {
    b.v.kernelMode = false;
    b.v.kernelSpLo = 0x800;
    b.traps.softwareInterrupt(b.v, 0x20, 2);
    expect(b.cpu.ripLo()).toBe(0x6000);
    expect(words(stack, 0x800 - 64, 4)).toEqual([0xc, 0xb, (0x20 << 3) | 2, 0x1234]);
  });

  it("int3 needs no permission", () => {
    setTrap(b.v, 3, 0, CS64, 0x7000, 0);
    b.traps.softwareInterrupt(b.v, 3, 1);
    expect(b.cpu.ripLo()).toBe(0x7000);
  });
});

describe("HYPERVISOR_iret", () => {
  const frame = (values: readonly number[]): void => {
    for (const [i, value] of values.entries()) b.frames.view.setUint32(stack * 4096 + 0x800 + i * 8, value >>> 0, true);
    b.cpu.set(RSP, 0x800, 0);
  };

  it("to the kernel: registers, mask from IF", () => {
    b.bounce.info.setMask(b.v, true);
    frame([1, 2, 3, 0, 0x4444, CS64 & ~3, 0x3246, 0xf00, SS64]);
    expect(b.traps.iret(b.v)).toBe(true);
    const { cpu } = b;
    expect([cpu.lo(RAX), cpu.lo(R11), cpu.lo(RCX), cpu.ripLo(), cpu.lo(RSP)]).toEqual([1, 2, 3, 0x4444, 0xf00]);
    expect([cpu.selector(CS), cpu.selector(SS)]).toEqual([CS64, SS64]);
    expect(cpu.flags()).toBe(0x246);
    expect(b.bounce.info.masked(b.v)).toBe(false);
    expect(b.v.iopl).toBe(0);
  });

  it("to the user needs user page tables", () => {
    frame([1, 2, 3, 0, 0x4444, CS64, 0x46, 0x1f00, SS64]);
    expect(b.traps.iret(b.v)).toBe(false);
    expect(b.v.crashed).toMatch(/without user page tables/);
  });

  it("to the user, as from a syscall: rcx and r11 are rip and rflags", () => {
    expect(setUserRoot(b.v, b.v.kernelRoot, false)).toBe(0);
    frame([1, 2, 3, xen.x86_64.VGCF_in_syscall, 0x4444, CS64, 0x46, 0x1f00, SS64]);
    expect(b.traps.iret(b.v)).toBe(true);
    expect([b.cpu.lo(RCX), b.cpu.lo(R11), b.v.kernelMode, b.cpu.user]).toEqual([0x4444, 0x246, false, true]);
    expect(b.bounce.info.masked(b.v)).toBe(true);
  });

  it("with selectors that cannot be: the failsafe callback", () => {
    b.v.failsafe.lo = 0xfa11;
    frame([1, 2, 3, 0, 0x4444, 0x3b0, 0x246, 0xf00, SS64]);
    expect(b.traps.iret(b.v)).toBe(true);
    expect(b.cpu.ripLo()).toBe(0xfa11);
  });

  it("from a stack that is not there", () => {
    b.cpu.set(RSP, 0x100000, 0);
    expect(b.traps.iret(b.v)).toBe(false);
    expect(b.v.crashed).toMatch(/cannot read its frame/);
  });
});

describe("segments", () => {
  it("Xen's own entries stay whatever the guest's GDT is; the guest's are used below", () => {
    const [gdt] = b.take(1) as [number];
    b.entry(gdt, 2, 0x3456ffff, 0x12cff312);
    expect(setGdt(b.v, [gdt], 512, TYPE_SEGMENTS)).toBe(0);
    expect(b.traps.loadSegment(b.v, FS, 0x13)).toBe(0);
    expect(b.cpu.baseLo(FS)).toBe(0x12123456);
    expect(b.traps.loadSegment(b.v, SS, SS64)).toBe(0);
    expect(b.traps.loadSegment(b.v, CS, CS64)).toBe(0);
    expect(b.traps.loadSegment(b.v, DS, 0x1b)).toBe((13 << 16) | 0x18);
    expect(b.traps.loadSegment(b.v, DS, 0xe008)).toBe((13 << 16) | 0xe008);
    expect(b.traps.loadSegment(b.v, SS, 0)).toBe(13 << 16);
    expect(b.traps.loadSegment(b.v, DS, 0)).toBe(0);
    b.v.release();
    expect(b.frames.typeCount[gdt]).toBe(0);
  });

  it("a GDT of frames that cannot be descriptors leaves the old one", () => {
    const [good, other] = b.take(2) as [number, number];
    expect(setGdt(b.v, [good], 512, TYPE_SEGMENTS)).toBe(0);
    expect(setGdt(b.v, [other, stack], 1024, TYPE_SEGMENTS)).toBe(-xen.ERRNO.EINVAL);
    expect(b.v.gdtFrames).toEqual([good]);
    expect(b.frames.typeCount[other]).toBe(0);
  });

  it("the LDT is looked at when used, and let go when unmapped", () => {
    const [ldt] = b.take(1) as [number];
    b.entry(ldt, 1, 0x0000ffff, 0x00cff300);
    const l1 = b.memory.l1TableAt(b.v.kernelRoot, 0, 0);
    expect(b.tables.modify(l1, 5, ((ldt << 12) | 5) >>> 0, 0, false, SELF, SELF)).toBe(0);
    b.v.ldtLo = 5 * 4096;
    b.v.ldtEntries = 512;
    expect(b.traps.loadSegment(b.v, DS, 0xf)).toBe(0);
    expect(b.frames.typeCount[ldt]).toBe(1);
    expect(b.tables.modify(l1, 6, ((ldt << 12) | 7) >>> 0, 0, false, SELF, SELF)).toBe(-xen.ERRNO.EBUSY);
    expect(b.tables.modify(l1, 5, 0, 0, false, SELF, SELF)).toBe(0);
    expect(b.frames.typeCount[ldt]).toBe(0);
    expect(b.traps.loadSegment(b.v, DS, 0xf)).toBe((13 << 16) | 0xc);
  });
});

describe("roots", () => {
  it("hold references, and the same root again only flushes", () => {
    const { v } = b;
    const root = v.kernelRoot;
    const [other] = b.take(1) as [number];
    const count = b.frames.typeCount[root]!;
    expect(setKernelRoot(v, root, false)).toBe(0);
    expect(b.frames.typeCount[root]).toBe(count);
    expect(setKernelRoot(v, other, false)).toBe(0);
    expect([b.frames.typeCount[root], b.frames.typeCount[other]]).toEqual([count - 1, 1]);
    expect(setKernelRoot(v, stack, false)).toBe(-xen.ERRNO.EINVAL);
    expect(v.kernelRoot).toBe(other);
    expect(b.cpu.roots[0]).toBe(other);
    v.release();
    expect(b.frames.typeCount[other]).toBe(0);
  });
});
