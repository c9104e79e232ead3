import { beforeEach, describe, expect, it } from "vitest";
import * as op from "../../../arch/x86/platform.ts";
import { CS, FS, GS, R11, RAX, RBX, RCX, RDI, RDX, RSP } from "../../../arch/x86-pv/cpu.ts";
import { pvCpuid } from "../../../arch/x86-pv/cpuid.ts";
import { EXIT_HYPERCALL, PrivilegedOps } from "../../../arch/x86-pv/privop.ts";
import { Bench } from "./fake-cpu.ts";

let b: Bench;
let ops: PrivilegedOps;
let page: number;

/** Does a system instruction of two bytes. */
function run(kind: number, rest: Partial<op.SystemOperation> = {}): number {
  b.cpu.raised = null;
  return ops.system(b.v, {
    kind,
    size: 8,
    register: 0,
    index: 0,
    port: 0,
    lo: 0,
    hi: 0,
    rep: 0,
    addressSize: 8,
    segment: -1,
    length: 2,
    ...rest,
  });
}

/** The answer, and the exception where there is one. */
function outcome(kind: number, rest: Partial<op.SystemOperation> = {}): string {
  const answer = run(kind, rest);
  return answer === op.SYSTEM_FAULT ? `#${b.cpu.raised![0]}(${b.cpu.raised![1]})` : `${answer}`;
}

const GP = "#13(0)";
const NEXT = `${op.SYSTEM_NEXT}`;

beforeEach(() => {
  b = new Bench();
  [page] = b.take(1) as [number];
  b.space([{ mfn: page }]);
  b.cpu.setSegment(CS, 0xe033, 0);
  ops = new PrivilegedOps(b.host, b.memory, b.traps, pvCpuid({ major: 4, minor: 17 }), () => false);
});

describe("system instructions of the guest kernel", () => {
  it("syscall is a hypercall: rip behind it, rcx and r11 as the instruction leaves them", () => {
    b.cpu.setRip(0xfffffffe, 1);
    b.cpu.setFlags(0x46);
    expect(run(op.SYS_SYSCALL)).toBe(op.SYSTEM_JUMP_EXIT);
    expect(ops.exit).toBe(EXIT_HYPERCALL);
    expect([b.cpu.ripLo(), b.cpu.ripHi(), b.cpu.lo(RCX), b.cpu.hi(RCX), b.cpu.lo(R11)]).toEqual([0, 2, 0, 2, 0x246]);
  });

  it("control registers: what may be read and written", () => {
    b.v.cr2Lo = 0x1234;
    expect(outcome(op.SYS_READ_CR, { index: 2, register: RDX })).toBe(NEXT);
    expect(b.cpu.lo(RDX)).toBe(0x1234);
    run(op.SYS_READ_CR, { index: 3, register: RBX });
    expect(b.cpu.lo(RBX)).toBe(b.v.kernelRoot << 12);
    run(op.SYS_READ_CR, { index: 0, register: RBX });
    const cr0 = b.cpu.lo(RBX);
    expect(outcome(op.SYS_WRITE_CR, { index: 0, lo: (cr0 | 8) >>> 0 })).toBe(NEXT);
    expect([b.v.taskSwitched, b.cpu.taskSwitched]).toEqual([true, true]);
    expect(outcome(op.SYS_WRITE_CR, { index: 0, lo: 0 })).toBe(GP);
    expect(outcome(op.SYS_CLTS)).toBe(NEXT);
    expect(b.v.taskSwitched).toBe(false);
    expect(outcome(op.SYS_WRITE_CR, { index: 3, lo: page << 12 })).toBe(GP);
    expect(outcome(op.SYS_WRITE_CR, { index: 3, lo: b.v.kernelRoot << 12 })).toBe(`${op.SYSTEM_JUMP}`);
    expect(outcome(op.SYS_READ_CR, { index: 8 })).toBe(GP);
  });

  it("ports, cli and sti follow the virtual IOPL; ports read ones", () => {
    for (const kind of [op.SYS_IN, op.SYS_OUT, op.SYS_CLI, op.SYS_STI]) expect(outcome(kind, { size: 1 })).toBe(GP);
    b.v.iopl = 1;
    for (const kind of [op.SYS_IN, op.SYS_OUT, op.SYS_CLI, op.SYS_STI]) expect(outcome(kind, { size: 1 })).toBe(NEXT);
    run(op.SYS_IN, { size: 4, port: 0xcf8 });
    expect(b.cpu.result).toEqual([0xffffffff, 0]);
    b.v.iopl = 0;
    b.v.vcpu.domain.vmAssist = 1 << 4;
    expect(outcome(op.SYS_CLI)).toBe(NEXT);
    b.v.kernelMode = false;
    expect(outcome(op.SYS_CLI)).toBe(GP);
  });

  it("ins stores ones, an element at a time", () => {
    b.v.iopl = 1;
    b.cpu.set(RDI, 0x10, 0);
    b.cpu.set(RCX, 2, 0);
    expect(run(op.SYS_INS, { size: 2, rep: 0xf3 })).toBe(op.SYSTEM_JUMP);
    expect(run(op.SYS_INS, { size: 2, rep: 0xf3 })).toBe(op.SYSTEM_NEXT);
    expect([...b.frames.bytes.subarray(page * 4096 + 0x0f, page * 4096 + 0x15)]).toEqual([0, 255, 255, 255, 255, 0]);
    b.cpu.set(RDI, 0x100000, 0);
    expect(outcome(op.SYS_INS, { size: 2 })).toBe("#14(6)");
  });

  it("model-specific registers", () => {
    b.v.otherGsLo = 7;
    b.cpu.setBase(FS, 5, 0xffff8888);
    b.cpu.set(RCX, 0xc0000100, 0);
    expect(outcome(op.SYS_RDMSR)).toBe(NEXT);
    expect([b.cpu.lo(RAX), b.cpu.lo(RDX)]).toEqual([5, 0xffff8888]);
    b.cpu.set(RDX, 0x8000, 0);
    expect(outcome(op.SYS_WRMSR)).toBe(GP);
    b.cpu.set(RDX, 0, 0);
    b.cpu.set(RAX, 0x42, 0);
    b.cpu.set(RCX, 0xc0000102, 0);
    expect(outcome(op.SYS_WRMSR)).toBe(NEXT);
    expect(b.v.otherGsLo).toBe(0x42);
    b.cpu.set(RCX, 0xdeadbeef, 0);
    expect([outcome(op.SYS_RDMSR), outcome(op.SYS_WRMSR)]).toEqual([GP, GP]);
  });

  it("hlt, invlpg and what touches real descriptor tables are #GP", () => {
    for (const kind of [op.SYS_HLT, op.SYS_INVLPG, op.SYS_LGDT, op.SYS_LIDT, op.SYS_LLDT, op.SYS_LTR, op.SYS_SWAPGS])
      expect(outcome(kind)).toBe(GP);
  });

  it("a far return stays in ring 3 and 64-bit code", () => {
    b.cpu.set(RSP, 0x100, 0);
    b.frames.view.setUint32(page * 4096 + 0x100, 0x777, true);
    b.frames.view.setUint32(page * 4096 + 0x108, 0xe033, true);
    expect(run(op.SYS_FAR_RETURN)).toBe(op.SYSTEM_JUMP);
    expect([b.cpu.ripLo(), b.cpu.lo(RSP), b.cpu.selector(CS)]).toEqual([0x777, 0x110, 0xe033]);
    b.cpu.set(RSP, 0x100, 0);
    b.frames.view.setUint32(page * 4096 + 0x108, 0xe008, true);
    expect(outcome(op.SYS_FAR_RETURN)).toBe(`#13(${0xe008})`);
  });

  it("iretq to itself", () => {
    b.cpu.set(RSP, 0x200, 0);
    for (const [i, value] of [0x888, 0xe033, 0x3046, 0xf00, 0xe02b].entries())
      b.frames.view.setUint32(page * 4096 + 0x200 + 8 * i, value, true);
    expect(run(op.SYS_IRET)).toBe(op.SYSTEM_JUMP);
    expect([b.cpu.ripLo(), b.cpu.lo(RSP), b.cpu.flags()]).toEqual([0x888, 0xf00, 0x46]);
    b.cpu.set(RSP, 0x300000, 0);
    expect(outcome(op.SYS_IRET)).toBe("#14(4)");
  });
});

describe("both modes", () => {
  it("pushf shows IF and no IOPL; popf changes neither", () => {
    b.cpu.setFlags(0x3046);
    run(op.SYS_READ_FLAGS);
    expect(b.cpu.result).toEqual([0x246, 0]);
    b.cpu.setFlags(0x202);
    run(op.SYS_WRITE_FLAGS, { lo: 0x3cd5 });
    expect(b.cpu.flags() & 0x3fff).toBe(0x0ed7 & ~0x3000);
  });

  it("cpuid has Xen's leaves and the vCPU's APIC id", () => {
    b.cpu.set(RAX, 0x40000000, 0);
    run(op.SYS_CPUID);
    const word = (n: number): string =>
      String.fromCharCode(...[0, 8, 16, 24].map((shift) => (b.cpu.lo(n) >>> shift) & 255));
    expect(word(RBX) + word(RCX) + word(RDX)).toBe("XenVMMXenVMM");
    b.cpu.set(RAX, 0x40000001, 0);
    run(op.SYS_CPUID);
    expect(b.cpu.lo(RAX)).toBe(0x00040011);
  });

  it("rdtsc counts nanoseconds", () => {
    run(op.SYS_RDTSC);
    expect(b.cpu.lo(RDX) * 2 ** 32 + b.cpu.lo(RAX)).toBe(5_000_000_123);
  });

  it("wrfsbase of a non-canonical address is #GP", () => {
    expect(outcome(op.SYS_WRITE_BASE, { index: GS, hi: 0x8000 })).toBe(GP);
    expect(outcome(op.SYS_WRITE_BASE, { index: GS, lo: 3, hi: 0x7fff })).toBe(NEXT);
    expect(b.cpu.baseHi(GS)).toBe(0x7fff);
  });
});

describe("system instructions of the guest's user mode", () => {
  beforeEach(() => {
    b.v.kernelMode = false;
    b.v.userRoot = b.v.kernelRoot;
    b.v.kernelSpLo = 0x800;
  });

  it("are #GP, but syscall goes to the registered callback, or is #UD", () => {
    for (const kind of [op.SYS_RDMSR, op.SYS_WRMSR, op.SYS_READ_CR, op.SYS_CLTS, op.SYS_WBINVD, op.SYS_READ_DR])
      expect(outcome(kind)).toBe(GP);
    expect(outcome(op.SYS_SYSCALL)).toBe("#6(0)");
    b.v.syscall.lo = 0x5ca11;
    expect(run(op.SYS_SYSCALL)).toBe(op.SYSTEM_JUMP);
    expect([b.cpu.ripLo(), b.v.kernelMode, b.cpu.lo(RSP)]).toEqual([0x5ca11, true, 0x800 - 56]);
  });
});
