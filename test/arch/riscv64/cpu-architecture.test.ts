/**
 * The RISC-V project's own tests (riscv-tests), where RISCV_TESTS names a built tree of them: the physical-memory programs of every part of RV64GC, and of
 * supervisor mode. Each starts in machine mode, which the CPU does not have: until its mret the test does machine-mode CSRs itself, by single steps.
 */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { HART_BUDGET, HART_ECALL } from "../../../arch/riscv64/cpu.ts";
import { rdOf, rs1Of } from "../../../arch/riscv64/decode.ts";
import { asm } from "./assemble.ts";
import { RAM, RAM_FRAMES, Rig } from "./rig.ts";

const SSTATUS = 0x100;
const STVEC = 0x105;
const MSTATUS = 0x300;
const MEPC = 0x341;
const MRET = 0x30200073;
/** Where exceptions go that no handler of the program's takes. */
const CAUGHT = RAM + (RAM_FRAMES - 1) * 4096;
/** sstatus as a part of mstatus. */
const SHARED = 0xc6122n;
const STEPS = 10_000;

/** Loads the program's segments; answers where it starts. */
function load(rig: Rig, file: Uint8Array): number {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  const headers = Number(view.getBigUint64(32, true));
  for (let n = 0; n < view.getUint16(56, true); n++) {
    const at = headers + n * view.getUint16(54, true);
    if (view.getUint32(at, true) !== 1) continue;
    const from = Number(view.getBigUint64(at + 8, true));
    const to = Number(view.getBigUint64(at + 24, true));
    rig.bytes(to, file.subarray(from, from + Number(view.getBigUint64(at + 32, true))));
  }
  return Number(view.getBigUint64(24, true));
}

/** Machine mode, up to its mret. False: it does not come to one. */
function machineMode(rig: Rig): boolean {
  const csrs = new Map<number, bigint>();
  for (let n = 0; n < STEPS; n++) {
    const pc = Number(rig.pc());
    const word = rig.view.getInt32(rig.at(pc), true);
    const number = word >>> 20;
    const kind = (word >> 12) & 7;
    if (word === MRET) {
      rig.setPc(csrs.get(MEPC) ?? 0n);
      rig.hart.privilege = Number(((csrs.get(MSTATUS) ?? 0n) >> 11n) & 1n);
      return true;
    }
    if ((word & 0x7f) === 0x73 && kind !== 0 && ((number >> 8) & 3) === 3) {
      const old = csrs.get(number) ?? 0n;
      const source = (kind & 4) !== 0 ? BigInt(rs1Of(word)) : rig.x(rs1Of(word));
      const value = (kind & 3) === 1 ? source : (kind & 3) === 2 ? old | source : old & ~source;
      csrs.set(number, BigInt.asUintN(64, value));
      if (number === MSTATUS) rig.setCsr(SSTATUS, value & SHARED);
      rig.setX(rdOf(word), old);
      rig.hart.setPc(pc + 4, 0);
    } else if (rig.hart.run(1) !== HART_BUDGET) return false;
  }
  return false;
}

/** Runs a program to its ecall: what is in a0, 0 where all is well. */
function result(path: string, tier: "interpreter" | "oracle"): string {
  const rig = new Rig({ tier });
  rig.put(CAUGHT, [asm("ecall")]);
  rig.setCsr(STVEC, BigInt(CAUGHT));
  rig.hart.setPc(load(rig, readFileSync(path)), 0);
  if (!machineMode(rig)) return `no mret:\n${rig.hart.describe()}`;
  for (let n = 0; n < 50; n++) {
    if (rig.hart.run(100_000) !== HART_ECALL) continue;
    const caught = rig.pc() === BigInt(CAUGHT + 4);
    // pass and fail are calls from user mode, or from supervisor mode
    if (caught && rig.csr(0x142) !== 8n) return `an exception:\n${rig.hart.describe()}`;
    return rig.x(17) === 93n ? `${rig.x(10) >> 1n}` : "an ecall that ends nothing";
  }
  return `no end:\n${rig.hart.describe()}`;
}

const folder = process.env["RISCV_TESTS"] ?? "";
const isa = existsSync(join(folder, "isa")) ? join(folder, "isa") : folder;
/** dirty tests a hart that sets A and D, by machine mode's MPRV. */
const programs =
  folder === ""
    ? []
    : readdirSync(isa).filter((name) => /^rv64(u[imafdc]|si)-p-[^.]+$/.test(name) && !name.endsWith("-dirty"));

describe.skipIf(programs.length === 0)("the RISC-V project's tests", () => {
  it.each(programs)("%s", (name) => {
    // 0, or the number of the case that failed
    expect(result(join(isa, name), "interpreter")).toBe("0");
    expect(result(join(isa, name), "oracle")).toBe("0");
  });
});
