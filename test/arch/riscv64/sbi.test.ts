/** SBI as a guest sees it: programs that make calls and keep the answers. Numbers: SBI specification 2.0. */
import fc from "fast-check";
import { ShutdownReason } from "hookvisor";
import { describe, expect, it } from "vitest";
import { EXTENSION, SBI, XEN_EXTENSION } from "../../../arch/riscv64/sbi.ts";
import { type Booted, boot } from "./boot.ts";
import { BASE, Program, REG } from "./guest.ts";

const { a0, a1, t0, t1, t2 } = REG;
const DATA = BASE + 0x2_0000;
const STACKS = BASE + 0x3_0000;
const ALL = (1n << 64n) - 1n;
const CSR = { sstatus: 0x100, sie: 0x104, stvec: 0x105, sip: 0x144, scause: 0x142, time: 0xc01 } as const;

type Call = readonly [extension: number, fn: number, ...args: (number | bigint)[]];

/** Makes calls in turn; error and value of each are kept, then the domain powers off. */
function making(calls: readonly Call[]): Program {
  const p = new Program();
  for (const [i, [extension, fn, ...args]] of calls.entries())
    p.ecall(extension, fn, args)
      .store(a0, DATA + 16 * i)
      .store(a1, DATA + 16 * i + 8);
  return p.ecall(EXTENSION.SRST, 0, [0, 0]);
}

async function answers(calls: readonly Call[], vcpus = 1): Promise<readonly (readonly number[])[]> {
  const booted = await boot();
  const domain = await booted.create(making(calls).image(), { vcpus });
  expect(await booted.run()).toBe("done");
  expect(domain.shutdownReason).toBe(ShutdownReason.poweroff);
  const words = booted.words(domain, DATA, 2 * calls.length);
  return calls.map((_, i) => words.slice(2 * i, 2 * i + 2));
}

/** Runs a program until it ends. */
async function ran(program: Program, options: Parameters<Booted["create"]>[1] = {}, ms = 100) {
  const booted = await boot();
  const domain = await booted.create(program.image(), options);
  const end = await booted.run(ms);
  return { ...booted, domain, end, read: (count: number) => booted.words(domain, DATA, count) };
}

describe("SBI", () => {
  it("says what it is and which extensions there are", async () => {
    const probe = (extension: number): Call => [EXTENSION.BASE, 3, extension];
    const { BASE: base, TIME, IPI, RFENCE, HSM, SRST, DBCN, SET_TIMER, SHUTDOWN } = EXTENSION;
    const there = [base, TIME, IPI, RFENCE, HSM, SRST, DBCN, SET_TIMER, SHUTDOWN];
    const absent = [9, 0x0f, 0x504d55, 0x53555350, 0x43505043, 0x4e41434c, 0x535441, XEN_EXTENSION];
    const said = await answers([
      [base, 0],
      [base, 1],
      [base, 2],
      [base, 4],
      [base, 7],
      ...there.map(probe),
      ...absent.map(probe),
    ]);
    expect(said.slice(0, 5)).toEqual([
      [0, 2 << 24],
      [0, 7],
      [0, (4 << 16) | 17],
      [0, 0],
      [SBI.ERR_NOT_SUPPORTED, 0],
    ]);
    expect(said.slice(5, 5 + there.length)).toEqual(there.map(() => [0, 1]));
    expect(said.slice(5 + there.length)).toEqual(absent.map(() => [0, 0]));
  });

  it("answers what it does not know and what cannot be", async () => {
    const { TIME, IPI, RFENCE, HSM, SRST, DBCN } = EXTENSION;
    const calls: Call[] = [
      [0x504d55, 0],
      [0x1234_5678, 0, 1, 2, 3],
      [TIME, 1],
      [RFENCE, 3, 1, 0],
      [IPI, 0, 4, 0],
      [IPI, 0, 1, 64],
      [IPI, 0, 0, 5],
      [RFENCE, 1, 4, 0, 0, 4096],
      [HSM, 0, 7, BASE, 0],
      [HSM, 0, 0, BASE, 0],
      [HSM, 0, 1, 0x1000, 0],
      [HSM, 0, 1, BASE + 1, 0],
      [HSM, 0, 1, ALL, 0],
      [HSM, 2, 1],
      [HSM, 2, 9],
      [HSM, 3, 0x8000_0000, BASE, 0],
      [HSM, 3, 1, BASE, 0],
      [SRST, 0, 3, 0],
      [SRST, 0, 0xf000_0000, 0],
      [SRST, 0, 0, 2],
      [DBCN, 0, 16, 0x1000, 0],
      [DBCN, 0, 16, BASE, 1],
      [DBCN, 0, ALL, ALL, 0],
      [DBCN, 1, 16, 0x1000, 0],
      // Xen's extension in the low half alone is none.
      [2 ** 32 + XEN_EXTENSION, 17],
    ];
    const { ERR_INVALID_PARAM: param, ERR_NOT_SUPPORTED: no, ERR_INVALID_ADDRESS: address } = SBI;
    const expected = [no, no, no, no, param, param, 0, param, param, SBI.ERR_ALREADY_AVAILABLE];
    expected.push(address, address, address, 0, param, no, param, param, no, param, param, param, param, param, no);
    const said = await answers(calls, 2);
    expect(said.map(([error]) => error)).toEqual(expected);
    expect(said[13]).toEqual([0, 1]);
  });

  it("prints and reads through the debug console, and by the legacy calls", async () => {
    const text = [...new TextEncoder().encode("hello, world\n")];
    const p = new Program();
    for (const [i, byte] of text.entries())
      p.li(t0, byte)
        .li(t1, DATA + 0x1000 + i)
        .put("sb", { rs1: t1, rs2: t0 });
    p.ecall(EXTENSION.DBCN, 0, [text.length, DATA + 0x1000, 0]).store(a1, DATA);
    p.ecall(EXTENSION.DBCN, 0, [1 << 20, DATA + 0x1000, 0]).store(a1, DATA + 8);
    p.ecall(EXTENSION.DBCN, 1, [100, DATA + 0x2000, 0]).store(a1, DATA + 16);
    p.ecall(EXTENSION.DBCN, 2, [0x21]).ecall(EXTENSION.CONSOLE_PUTCHAR, 0, [0x22]);
    p.ecall(EXTENSION.CONSOLE_GETCHAR, 0, []).store(a0, DATA + 24);
    p.ecall(EXTENSION.CONSOLE_GETCHAR, 0, []).store(a0, DATA + 32);
    p.ecall(EXTENSION.SHUTDOWN, 0, []);
    const booted = await boot();
    const domain = await booted.create(p.image());
    const out: Uint8Array[] = [];
    const input = [...new TextEncoder().encode("abcX")];
    domain.onConsoleWrite = (bytes) => out.push(bytes.slice());
    domain.onConsoleRead = (max) => Uint8Array.from(input.splice(0, Math.min(max, input.length === 1 ? 1 : 3)));
    expect(await booted.run()).toBe("done");
    expect(domain.shutdownReason).toBe(ShutdownReason.poweroff);
    expect(booted.words(domain, DATA, 5)).toEqual([text.length, 4096, 3, 0x58, -1]);
    expect(booted.bytes(domain, DATA + 0x2000, 4)).toEqual(Uint8Array.from([0x61, 0x62, 0x63, 0]));
    const printed = Buffer.concat(out).toString("latin1");
    expect(printed.startsWith("hello, world\n")).toBe(true);
    expect(printed.endsWith('!"')).toBe(true);
    expect(printed).toHaveLength(text.length + 4096 + 2);
  });

  it("raises the timer interrupt at its time, not before, and wakes a hart that waits", async () => {
    const p = new Program();
    // 2 ms from now, at 10 MHz
    p.put("csrrs", { rd: 28, imm: CSR.time }).li(t0, 20_000).put("add", { rd: 28, rs1: 28, rs2: t0 });
    p.put("addi", { rd: a0, rs1: 28 }).li(REG.a7, EXTENSION.TIME).li(REG.a6, 0).put("ecall");
    p.put("csrrs", { rd: t0, imm: CSR.sip }).store(t0, DATA);
    p.li(t0, 1 << 5).put("csrrs", { rs1: t0, imm: CSR.sie });
    p.label("wait").put("wfi").put("csrrs", { rd: t0, imm: CSR.sip }).branch("beq", t0, 0, "wait");
    p.put("csrrs", { rd: t1, imm: CSR.time }).put("sub", { rd: t1, rs1: t1, rs2: 28 });
    p.store(t0, DATA + 8).store(t1, DATA + 16);
    // A time that is past: pending at once. The last of times: never.
    p.ecall(EXTENSION.TIME, 0, [1])
      .put("csrrs", { rd: t0, imm: CSR.sip })
      .store(t0, DATA + 24);
    p.ecall(EXTENSION.TIME, 0, [ALL])
      .put("csrrs", { rd: t0, imm: CSR.sip })
      .store(t0, DATA + 32);
    p.ecall(EXTENSION.SRST, 0, [1, 0]);
    const { domain, read } = await ran(p);
    expect(domain.shutdownReason).toBe(ShutdownReason.reboot);
    const [before, pending, late, past, never] = read(5);
    expect([before, pending, past, never]).toEqual([0, 1 << 5, 1 << 5, 0]);
    expect(late).toBeGreaterThanOrEqual(0);
    // One wake-up: microseconds.
    expect(late).toBeLessThan(500);
  });

  it("starts harts, sends them interrupts, and they stop", async () => {
    const p = new Program();
    p.address(28, "hart").li(REG.a0, 1).put("addi", { rd: a1, rs1: 28 }).li(REG.a2, 0x77);
    p.li(REG.a7, EXTENSION.HSM).li(REG.a6, 0).put("ecall").store(a0, DATA);
    // Until the other one has started.
    p.label("started")
      .put("pause")
      .li(t0, DATA + 0x100)
      .put("ld", { rd: t0, rs1: t0 })
      .branch("beq", t0, 0, "started");
    p.ecall(EXTENSION.HSM, 2, [1]).store(a1, DATA + 8);
    p.ecall(EXTENSION.RFENCE, 0, [2, 0]).store(a0, DATA + 16);
    p.ecall(EXTENSION.RFENCE, 1, [3, 0, 0xffff_ffff_8000_0ff0n, 0x20]).store(a0, DATA + 24);
    p.ecall(EXTENSION.IPI, 0, [2, 0]).store(a0, DATA + 32);
    p.label("stopped").put("pause").ecall(EXTENSION.HSM, 2, [1]);
    p.li(t0, 1)
      .branch("bne", a1, t0, "stopped")
      .store(a1, DATA + 40);
    p.ecall(EXTENSION.SRST, 0, [0, 0]);
    // The other hart: says with what it was started, waits for the interrupt, stops.
    p.label("hart")
      .store(a0, DATA + 0x108)
      .store(a1, DATA + 0x110)
      .li(t0, 1)
      .store(t0, DATA + 0x100);
    p.li(t0, 2).put("csrrs", { rs1: t0, imm: CSR.sie });
    p.label("idle").put("wfi").put("csrrs", { rd: t0, imm: CSR.sip }).branch("beq", t0, 0, "idle");
    p.put("csrrc", { rs1: t0, imm: CSR.sip }).store(t0, DATA + 0x118);
    p.put("csrrs", { rd: t0, imm: CSR.sip }).store(t0, DATA + 0x120);
    p.ecall(EXTENSION.HSM, 1, []).store(t2, DATA + 0x128);
    const { domain, end, words } = await ran(p, { vcpus: 2 });
    expect(end).toBe("done");
    expect(domain.shutdownReason).toBe(ShutdownReason.poweroff);
    expect(words(domain, DATA, 6)).toEqual([0, 0, 0, 0, 0, 1]);
    expect(words(domain, DATA + 0x100, 6)).toEqual([1, 1, 0x77, 2, 0, 0]);
  });

  it("suspends a hart until an interrupt is pending", async () => {
    const p = new Program();
    p.put("csrrs", { rd: a0, imm: CSR.time }).li(t0, 5000).put("add", { rd: a0, rs1: a0, rs2: t0 });
    p.li(REG.a7, EXTENSION.TIME)
      .li(REG.a6, 0)
      .put("ecall")
      .li(t0, 1 << 5)
      .put("csrrs", { rs1: t0, imm: CSR.sie });
    p.ecall(EXTENSION.HSM, 3, [0])
      .store(a0, DATA)
      .put("csrrs", { rd: t0, imm: CSR.sip })
      .store(t0, DATA + 8);
    p.ecall(EXTENSION.SRST, 0, [0, 0]);
    const { read, end } = await ran(p);
    expect(end).toBe("done");
    expect(read(2)).toEqual([0, 1 << 5]);
  });

  it("a system failure is a crash", async () => {
    const { domain, log } = await ran(new Program().ecall(EXTENSION.SRST, 0, [0, 1]));
    expect(domain.shutdownReason).toBe(ShutdownReason.crash);
    expect(log.join("\n")).toContain("system failure (SRST, reset type 0)");
  });

  it("random calls harm nobody", async () => {
    const word = fc.oneof(
      fc.nat(70).map(BigInt),
      fc.bigInt({ min: 0n, max: ALL }),
      fc.constantFrom(ALL, BigInt(BASE), BigInt(DATA), BigInt(STACKS), 0x1000_0000n, 1n << 63n),
    );
    const extension = fc.oneof(fc.constantFrom(...Object.values(EXTENSION)), fc.nat(20), fc.nat());
    const call = fc.tuple(extension, fc.nat(8), fc.array(word, { maxLength: 5 }));
    await fc.assert(
      fc.asyncProperty(fc.array(call, { minLength: 1, maxLength: 12 }), async (calls) => {
        const booted = await boot();
        const { free } = booted.hypervisor.machine.frames;
        const p = new Program();
        for (const [number, fn, args] of calls) p.ecall(number, fn, args);
        const domain = await booted.create(p.ecall(EXTENSION.SRST, 0, [0, 0]).image(), { vcpus: 3 });
        await booted.run(5);
        expect(booted.faults).toEqual([]);
        await booted.hypervisor.destroyDomain(domain);
        expect(booted.hypervisor.machine.frames.free).toBe(free);
      }),
      { numRuns: 40, interruptAfterTimeLimit: 4000 },
    );
  });
});
