/** Paging, faults, control flow and system instructions on the bare guest. */
import { describe, expect, it } from "vitest";
import { MMU_USER } from "../../../arch/x86/paging.ts";
import {
  SYS_CPUID,
  SYS_IN,
  SYS_LOAD_SEGMENT,
  SYS_OUT,
  SYS_READ_FLAGS,
  SYS_SYSCALL,
  SYS_WRITE_FLAGS,
  SYSTEM_EXIT,
  SYSTEM_FAULT,
  SYSTEM_JUMP,
  SYSTEM_NEXT,
  type SystemOperation,
  type X86Platform,
} from "../../../arch/x86/platform.ts";
import { X86_EXIT_BUDGET, X86_EXIT_EXCEPTION, X86_EXIT_PLATFORM, type X86Vcpu } from "../../../arch/x86/vcpu.ts";
import { BareGuest, CODE, plainCase, READONLY, SCRATCH, UserPlatform } from "./guest.ts";

const code = (hex: string) => Buffer.from(hex.replaceAll(" ", ""), "hex");
const run = (hex: string, registers: Record<number, bigint> = {}) =>
  new BareGuest().run(plainCase(code(hex), registers));

describe("faults", () => {
  it("tells present, write, user, fetch and the address", () => {
    const absent = run("48 8b 03", { 3: 0x40000123n });
    expect([absent.vector, absent.error, absent.address, absent.rip]).toEqual([14, 4, 0x40000123n, 0]);
    const write = run("48 89 03", { 3: 0x40000123n });
    expect([write.vector, write.error]).toEqual([14, 6]);
    const readonly = run("48 ff 03", { 3: BigInt(READONLY) });
    expect([readonly.vector, readonly.error, readonly.address]).toEqual([14, 7, BigInt(READONLY)]);
    const fetch = run("ff e3", { 3: 0x40000000n });
    expect([fetch.vector, fetch.error, fetch.address, fetch.rip]).toEqual([14, 0x14, 0x40000000n, 0x30000000]);
  });
  it("reports the second page of a crossing access, and writes nothing of it", () => {
    const outcome = run("48 89 03", { 0: 0x1122334455667788n, 3: BigInt(SCRATCH + 8192 - 3) });
    expect([outcome.vector, outcome.error, outcome.address]).toEqual([14, 6, BigInt(SCRATCH + 8192)]);
    expect(outcome.scratch.subarray(8180).every((b) => b === 0)).toBe(true);
  });
  it("raises #GP for non-canonical addresses, #SS on the stack", () => {
    expect(run("48 8b 03", { 3: 1n << 48n })).toMatchObject({ vector: 13, error: 0, rip: 0 });
    expect(run("48 8b 45 00", { 5: 1n << 48n })).toMatchObject({ vector: 12, error: 0 });
    expect(run("50", { 4: 1n << 48n })).toMatchObject({ vector: 12, error: 0 });
    expect(run("c3", { 4: 1n << 63n })).toMatchObject({ vector: 12, error: 0 });
    // a general-protection fault of another kind stays one after a non-canonical address was seen
    expect(run("0f 29 03", { 3: BigInt(SCRATCH + 1) })).toMatchObject({ vector: 13, error: 0 });
  });
  it("divides by zero, overflows, and knows undefined opcodes", () => {
    expect(run("90 f7 f1")).toMatchObject({ vector: 0, rip: 1 });
    expect(run("48 f7 f9", { 0: 0n, 1: 1n, 2: 1n << 63n })).toMatchObject({ vector: 0 });
    expect(run("48 f7 f1", { 0: 0n, 1: 3n, 2: 3n })).toMatchObject({ vector: 0 });
    const wide = run("48 f7 f1", { 0: 5n, 1: 1n << 40n, 2: 9n });
    expect([wide.vector, wide.gpr[0], wide.gpr[2]]).toEqual([3, (9n << 64n) >> 40n, 5n]);
    expect(run("90 0f 0b")).toMatchObject({ vector: 6, rip: 1 });
    expect(run("f0 90")).toMatchObject({ vector: 6, rip: 0 });
  });
});

describe("paging", () => {
  it("sets accessed and dirty bits, and honours NX and large pages", () => {
    const guest = new BareGuest();
    const view = new DataView(guest.memory.buffer);
    const leaf = () => view.getUint32(5 * 4096, true);
    guest.run(plainCase(code("48 8b 03"), { 3: BigInt(SCRATCH) }));
    expect(leaf() & 0x60).toBe(0x20);
    guest.run(plainCase(code("48 89 03"), { 3: BigInt(SCRATCH) }));
    expect(leaf() & 0x60).toBe(0x60);
    expect(view.getUint32(4096, true) & 0x60).toBe(0x20);
    // NX on the scratch page
    view.setUint32(5 * 4096 + 4, 0x80000000, true);
    guest.machine.engine.flushAll(guest.vcpu.translated);
    expect(guest.run(plainCase(code("ff e3"), { 3: BigInt(SCRATCH) }))).toMatchObject({ vector: 14, error: 0x15 });
    // a 2 MiB page at 4 MiB, mapping frame 0 on: the tables themselves are visible
    view.setBigUint64(3 * 4096 + 2 * 8, 0x87n, true);
    const large = guest.run(plainCase(code("48 8b 03"), { 3: 0x401000n }));
    expect(large.gpr[0]).toBe(view.getBigUint64(4096, true));
    // frames beyond the memory are reserved bits
    expect(guest.run(plainCase(code("48 8b 03"), { 3: 0x400000n + 64n * 4096n }))).toMatchObject({
      vector: 14,
      error: 13,
    });
    // supervisor pages
    view.setUint32(5 * 4096, view.getUint32(5 * 4096, true) & ~4, true);
    guest.machine.engine.flushAll(guest.vcpu.translated);
    expect(guest.run(plainCase(code("48 8b 03"), { 3: BigInt(SCRATCH) }))).toMatchObject({ vector: 14, error: 5 });
  });
  it("runs code that crosses pages, and code that changes itself", () => {
    const guest = new BareGuest();
    // at the end of the first scratch page: mov rax, imm64 crosses into the second; then int3
    const scratch = new Uint8Array(8192).fill(0xcc);
    scratch.set(code("48 b8 08 07 06 05 04 03 02 01"), 4096 - 5);
    const test = { ...plainCase(code("ff e3"), { 3: BigInt(SCRATCH + 4096 - 5) }), scratch };
    expect(guest.run(test).gpr[0]).toBe(0x0102030405060708n);
    // the byte behind the store is the one it changes: inc ecx becomes dec ecx
    const self = code("c6 05 01 00 00 00 c9 ff c1 cc"); // mov byte [rip + 1], C9: FF C1 -> FF C9
    expect(guest.run(plainCase(self, { 1: 5n })).gpr[1]).toBe(4n);
  });
});

describe("control flow", () => {
  it("calls, returns, loops and counts", () => {
    // call +2; int3; nop; add ecx, 1; ret
    const call = run("e8 02 00 00 00 cc 90 83 c1 01 c3");
    expect([call.vector, call.rip, call.gpr[1]]).toEqual([3, 5, 1n]);
    expect(run("c2 10 00", { 4: BigInt(SCRATCH + 64) })).toMatchObject({ vector: 14, address: 0n });
    // mov ecx, 10; again: add eax, ecx; loop again
    expect(run("b9 0a 00 00 00 01 c8 e2 fc").gpr[0]).toBe(55n);
    // jrcxz over an int3
    expect(run("e3 01 cc 90")).toMatchObject({ vector: 3, rip: 4 });
    // loopne: until zf; counts rcx
    const loopne = run("b9 05 00 00 00 ff c8 e0 fc", { 0: 3n });
    expect([loopne.gpr[0], loopne.gpr[1]]).toEqual([0n, 2n]);
  });
  it("stops after exactly the budget, anywhere", () => {
    const program = code("b9 64 00 00 00 01 c8 48 89 04 cc 83 e8 03 e2 f5 cc");
    const whole = new BareGuest();
    const want = whole.run(plainCase(program));
    const total = whole.vcpu.retired;
    for (const slice of [1, 2, 3, 7, 50]) {
      const guest = new BareGuest();
      expect(guest.run(plainCase(program), slice)).toEqual(want);
      expect(guest.vcpu.retired).toBe(total);
    }
  });
  it("retires a repeated string a chunk at a time", () => {
    const guest = new BareGuest();
    // rep stosb over 5000 bytes from the middle of a page: 2048 + 2952
    const outcome = guest.run(plainCase(code("f3 aa"), { 0: 0xabn, 1: 5000n, 7: BigInt(SCRATCH + 2048) }));
    expect([outcome.vector, outcome.gpr[1], outcome.gpr[7]]).toEqual([3, 0n, BigInt(SCRATCH + 7048)]);
    expect(guest.vcpu.retired).toBe(2);
    expect(outcome.scratch.subarray(2048, 7048).every((b) => b === 0xab)).toBe(true);
    // and a fault leaves what was done
    const fault = guest.run(plainCase(code("f3 48 ab"), { 0: 1n, 1: 1000n, 7: BigInt(SCRATCH + 4096) }));
    expect([fault.vector, fault.rip, fault.gpr[1], fault.gpr[7], fault.address]).toEqual([
      14,
      0,
      1000n - 512n,
      BigInt(SCRATCH + 8192),
      BigInt(SCRATCH + 8192),
    ]);
  });
});

class Recorder extends UserPlatform implements X86Platform {
  readonly seen: Partial<SystemOperation>[] = [];
  answer: (vcpu: X86Vcpu, o: SystemOperation) => number = () => SYSTEM_NEXT;
  override system(vcpu: X86Vcpu, o: SystemOperation): number {
    if (o.kind === 36) return super.system(vcpu, o);
    this.seen.push({ ...o });
    return this.answer(vcpu, o);
  }
}

describe("system instructions", () => {
  it("reach the platform with their operands, rip at the instruction", () => {
    const platform = new Recorder();
    const guest = new BareGuest("interpreter", platform);
    platform.answer = (vcpu, o) => {
      if (o.kind === SYS_IN) vcpu.systemResultLo = 0x1234567;
      if (o.kind === SYS_CPUID) vcpu.set(0, vcpu.ripLo - CODE, 0);
      return SYSTEM_NEXT;
    };
    // nop; cpuid; in al, dx; out 80, eax; mov fs, ecx
    const outcome = guest.run(plainCase(code("90 0f a2 ec e7 80 8e e1"), { 1: 0x2bn, 2: 0x3f8n }));
    expect(outcome).toMatchObject({ vector: 3, rip: 8 });
    expect(outcome.gpr[0]).toBe(0x67n);
    expect(platform.seen.map((o) => o.kind)).toEqual([SYS_CPUID, SYS_IN, SYS_OUT, SYS_LOAD_SEGMENT]);
    expect(platform.seen[1]).toMatchObject({ port: 0x3f8, size: 1, length: 1 });
    expect(platform.seen[2]).toMatchObject({ port: 0x80, size: 4, lo: 0x67 });
    expect(platform.seen[3]).toMatchObject({ index: 4, lo: 0x2b });
  });
  it("may fault, leave, or go elsewhere", () => {
    const platform = new Recorder();
    const guest = new BareGuest("interpreter", platform);
    platform.answer = (vcpu) => {
      vcpu.raise(13, 0x50);
      return SYSTEM_FAULT;
    };
    expect(guest.run(plainCase(code("90 f4")))).toMatchObject({ vector: 13, error: 0x50, rip: 1 });
    platform.answer = (vcpu) => {
      vcpu.exitReason = 77;
      return SYSTEM_EXIT;
    };
    const { machine, vcpu } = guest;
    guest.run(plainCase(code("f4")));
    vcpu.setRip(CODE, 0);
    const before = vcpu.retired;
    expect(machine.run(vcpu, 10)).toBe(X86_EXIT_PLATFORM);
    expect([vcpu.exitReason, vcpu.ripLo, vcpu.retired - before]).toEqual([77, CODE + 1, 1]);
    platform.answer = (v) => {
      v.setRip(CODE + 4, 0);
      return SYSTEM_JUMP;
    };
    // syscall; int3; int3; inc ecx; int3
    const jumped = guest.run(plainCase(code("0f 05 cc cc ff c1 cc")));
    expect([jumped.rip, jumped.gpr[1]]).toEqual([6, 1n]);
    expect(platform.seen.at(-1)).toMatchObject({ kind: SYS_SYSCALL, length: 2 });
  });
  it("pushes and pops flags as the platform says, precisely", () => {
    const platform = new Recorder();
    const guest = new BareGuest("interpreter", platform);
    platform.answer = (vcpu, o) => {
      if (o.kind === SYS_READ_FLAGS) vcpu.systemResultLo = vcpu.flags | 0x3000;
      if (o.kind === SYS_WRITE_FLAGS) vcpu.flags = (o.lo & 0xcd5) | 0x202;
      return SYSTEM_NEXT;
    };
    // stc; pushf; pop rbx; push 0x40; popf; setz al
    const outcome = guest.run(plainCase(code("f9 9c 5b 6a 40 9d 0f 94 c0")));
    expect([outcome.gpr[3], outcome.gpr[0], outcome.gpr[4]]).toEqual([0x3203n, 1n, BigInt(SCRATCH + 4096)]);
    const fault = guest.run(plainCase(code("9c"), { 4: BigInt(READONLY + 64) }));
    expect(fault).toMatchObject({ vector: 14, error: 7, rip: 0 });
    expect(fault.gpr[4]).toBe(BigInt(READONLY + 64));
  });
});

describe("the processor's odds and ends", () => {
  it("raises #NM for x87 and SSE while the FPU is disabled", () => {
    const guest = new BareGuest();
    guest.vcpu.setFpuDisabled(true);
    expect(guest.run(plainCase(code("0f 57 c0")))).toMatchObject({ vector: 7, rip: 0 });
    expect(guest.run(plainCase(code("d9 e8")))).toMatchObject({ vector: 7, rip: 0 });
    guest.vcpu.setFpuDisabled(false);
    expect(guest.run(plainCase(code("0f 57 c0 d9 e8")))).toMatchObject({ vector: 3 });
  });
  it("raises #MF at an MMX instruction while an unmasked x87 exception waits", () => {
    // fninit; mov word [rsp - 8], 0x37b; fldcw [rsp - 8]; fld1; fldz; fdivp
    const divide = "db e3 66 c7 44 24 f8 7b 03 d9 6c 24 f8 d9 e8 d9 ee de f9";
    expect(run(divide)).toMatchObject({ vector: 3 });
    for (const mmx of ["0f 77", "0f 6f c1", "0f 6e c0", "0f 2a c1", "66 0f 2c c0"])
      expect(run(`${divide} ${mmx}`)).toMatchObject({ vector: 16, rip: 19 });
    expect(run(`${divide} 0f 57 c0`)).toMatchObject({ vector: 3 });
  });
  it("runs 1 + 1 in x87 and in SSE", () => {
    // fld1; fadd st0, st0; fistp qword [rsp - 8]; mov rax, [rsp - 8]
    expect(run("d9 e8 d8 c0 df 7c 24 f8 48 8b 44 24 f8").gpr[0]).toBe(2n);
    // cvtsi2sd xmm0, ecx; addsd xmm0, xmm0; cvttsd2si rax, xmm0
    expect(run("f2 0f 2a c1 f2 0f 58 c0 f2 48 0f 2c c0", { 1: 21n }).gpr[0]).toBe(42n);
  });
  it("describes itself, and keeps two machines apart", () => {
    const a = new BareGuest();
    const b = new BareGuest();
    a.vcpu.set(0, 1, 2);
    expect(a.vcpu.describe()).toContain("rax 0000000200000001");
    expect(b.vcpu.describe()).toContain("rax 0000000000000000");
    expect(a.vcpu.mmu).toBe(MMU_USER);
  });
  it("leaves at once for a budget of nothing", () => {
    const guest = new BareGuest();
    guest.run(plainCase(code("90")));
    expect(guest.machine.run(guest.vcpu, 0)).toBe(X86_EXIT_BUDGET);
    expect(guest.machine.run(guest.vcpu, 5)).toBe(X86_EXIT_EXCEPTION);
  });
});
