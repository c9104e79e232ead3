/**
 * Random privileged code on all tiers: tier 0, tier 0 in slices, compiled loops, and the oracle must agree on every register, CSR and byte.
 *
 * The code is random words biased to instructions that decode, in S- and U-mode under Sv39, with a handler that steps over what trapped. Nothing a guest does
 * may throw; a run that ends for the caller is answered the same way everywhere.
 */
import { describe, expect, it } from "vitest";
import { HART_BUDGET, HART_MMIO, type RiscvMachineOptions } from "../../../arch/riscv64/cpu.ts";
import { INSTRUCTIONS } from "../../../arch/riscv64/decode.ts";
import { PTE_A, PTE_D, PTE_R, PTE_U, PTE_V, PTE_W, PTE_X } from "../../../arch/riscv64/mmu.ts";
import { asm } from "./assemble.ts";
import { Random } from "./generate.ts";
import { MMIO, RAM, RAM_FRAME, Rig } from "./rig.ts";

const CODE = RAM + 0x4000;
const HANDLER = RAM + 0x1000;
const TABLE = RAM + 0x100000;
const CODE_PAGES = 2;
const PAGES = 8;

const CSRS = [
  1, 2, 3, 0x100, 0x104, 0x106, 0x140, 0x141, 0x142, 0x143, 0x144, 0x10a, 0xc00, 0xc01, 0xc02, 0x300, 0x5c0,
];

/** One random instruction word (or two halves). */
function instruction(r: Random): number {
  if (r.below(12) === 0) return r.u32();
  if (r.below(4) === 0) {
    // two compressed ones
    const half = (): number => (r.u32() & 0xfffc) | r.below(3);
    return half() | (half() << 16);
  }
  const e = r.pick(INSTRUCTIONS);
  let word = (e.match & e.mask) | (r.u32() & ~e.mask);
  if (e.rounds) word = (word & ~0x7000) | (r.pick([0, 1, 7, 7]) << 12);
  // registers that point into the data pages, most of the time
  if (/^(l[bhwd]|s[bhwd]$|fl[wd]|fs[wd]|amo|lr|sc)/.test(e.name) && r.below(8) !== 0) {
    word = (word & ~(31 << 15)) | (r.pick([8, 9, 10]) << 15);
    if (e.format === "S") word &= ~0x80000000;
    else if (e.format === "I") word &= 0x7fffffff;
  }
  if (e.format === "csr" || e.format === "csri") word = (word & 0xfffff) | (r.pick(CSRS) << 20);
  // short ways only
  if (e.format === "B") word = (word & 0x01fff07f) | (r.below(32) << 7);
  if (e.format === "J") word = (word & 0xfff) | (r.below(64) << 22);
  return word;
}

function build(seed: number, options: Partial<RiscvMachineOptions>): Rig {
  const r = new Random(seed);
  const rig = new Rig({ vcpus: 1, ...options });
  rig.time = 1000;
  // handler: the instruction's length by its two low bits; a fault of the fetch goes to the start of the code
  rig.put(HANDLER, [
    asm("csrrw", { rd: 31, rs1: 31, imm: 0x140 }),
    asm("csrrs", { rd: 30, imm: 0x142 }),
    asm("blt", { rs1: 30, rs2: 0, imm: 40 }),
    asm("csrrs", { rd: 30, imm: 0x141 }),
    asm("addi", { rd: 29, imm: 1 }),
    asm("csrrs", { rd: 28, imm: 0x142 }),
    asm("beq", { rs1: 28, rs2: 29, imm: 36 }),
    asm("addi", { rd: 29, imm: 12 }),
    asm("beq", { rs1: 28, rs2: 29, imm: 28 }),
    asm("addi", { rd: 30, rs1: 30, imm: 4 }),
    asm("csrrw", { rs1: 30, imm: 0x141 }),
    asm("jal", { imm: 24 }),
    // an interrupt: switched off
    asm("csrrci", { rs1: 2, imm: 0x104 }),
    asm("csrrw", { rs1: 0, imm: 0x104 }),
    asm("jal", { imm: 12 }),
    // the fetch failed
    asm("lui", { rd: 30, imm: CODE }),
    asm("csrrw", { rs1: 30, imm: 0x141 }),
    asm("csrrw", { rd: 31, rs1: 31, imm: 0x140 }),
    asm("sret"),
  ]);
  const words: number[] = [];
  for (let n = 0; n < CODE_PAGES * 1024; n++) words.push(instruction(r));
  rig.put(CODE, words);
  for (let n = 0; n < PAGES * 512; n++) rig.put64(CODE + CODE_PAGES * 4096 + 8 * n, r.u64() >> BigInt(r.below(64)));
  // Sv39: the gigabyte at 0x8000_0000 by pages; lui sign-extends: the one at the top of the space too
  const leaf = (gpa: number, bits: number): bigint => ((BigInt(gpa) >> 12n) << 10n) | BigInt(bits | PTE_V | PTE_A);
  rig.put64(TABLE + 8 * 2, leaf(TABLE + 0x1000, 0) & ~BigInt(PTE_A));
  rig.put64(TABLE + 8 * 510, leaf(TABLE + 0x1000, 0) & ~BigInt(PTE_A));
  rig.put64(TABLE + 0x1000, leaf(TABLE + 0x2000, 0) & ~BigInt(PTE_A));
  const rwx = PTE_R | PTE_W | PTE_X | PTE_D;
  rig.put64(TABLE + 0x2000 + 8 * 1, leaf(HANDLER, rwx));
  for (let n = 4; n < 4 + CODE_PAGES + PAGES; n++) {
    const user = r.below(3) === 0 ? PTE_U : 0;
    const bits = n < 4 + CODE_PAGES ? rwx : r.pick([rwx, PTE_R | PTE_W | PTE_D, PTE_R, PTE_R | PTE_X, PTE_R | PTE_W]);
    rig.put64(TABLE + 0x2000 + 8 * n, leaf(RAM + 4096 * n, bits | user));
  }
  rig.put64(TABLE + 0x2000 + 8 * 20, leaf(MMIO, PTE_R | PTE_W | PTE_D));
  for (let n = 1; n < 32; n++) rig.setX(n, r.u64() >> BigInt(r.below(64)));
  const data = CODE + CODE_PAGES * 4096;
  rig.setX(8, BigInt(data + 4096 * r.below(PAGES) + 8 * r.below(400)));
  rig.setX(9, BigInt(data + 4096 * r.below(PAGES) + 8 * r.below(400)));
  // one of the pointers is into the code, or at the device
  rig.setX(10, BigInt(r.below(3) === 0 ? RAM + 20 * 4096 : CODE + 4 * r.below(1500)));
  for (let n = 0; n < 32; n++) rig.setF(n, r.u64());
  rig.setCsr(0x105, BigInt(HANDLER));
  rig.setCsr(0x180, (8n << 60n) | (BigInt(TABLE) >> 12n));
  rig.setCsr(0x106, 7n);
  rig.setCsr(0x100, BigInt((r.below(4) << 13) | (r.below(2) << 18) | (r.below(2) << 1) | 0x100));
  rig.hart.privilege = r.below(3) === 0 ? 0 : 1;
  rig.hart.setPin(5, r.below(2) === 0);
  rig.hart.setPc(CODE + 4 * r.below(64), 0);
  return rig;
}

const BUDGET = 600;

/** Runs BUDGET instructions in slices, answering exits; a digest of all there is. */
function outcome(rig: Rig, slice: (n: number) => number): string {
  let left = BUDGET;
  const exits: string[] = [];
  const { hart } = rig;
  for (let n = 0; left > 0; n++) {
    const code = hart.run(Math.min(left, slice(n)));
    left -= hart.spent;
    if (code === HART_BUDGET) continue;
    const { gpaLo, size, write, valueLo, valueHi } = hart.mmio;
    exits.push(
      code === HART_MMIO ? `mmio ${[gpaLo, size, write, valueLo, valueHi]}` : `${code} at ${rig.pc().toString(16)}`,
    );
    if (code === HART_MMIO) hart.finishMmio(gpaLo ^ 0x5a5a5a5a, 0x01020304);
  }
  const memory = rig.machine.engine.physical.subarray(RAM_FRAME * 4096, (RAM_FRAME + 32) * 4096);
  let sum = 0;
  for (const byte of memory) sum = (Math.imul(sum, 31) + byte) | 0;
  return `${hart.describe()}\n${Buffer.from(hart.save()).toString("hex")}\nmemory ${sum} retired ${hart.retiredNow}\n${exits.join("\n")}`;
}

describe("random privileged code", () => {
  it("is the same in every tier and slice, and throws nothing", { timeout: 120_000 }, () => {
    for (let seed = 1; seed <= 60; seed++) {
      const want = outcome(build(seed, { tier: "oracle" }), () => BUDGET);
      expect(
        outcome(build(seed, { hotSamples: 0 }), () => BUDGET),
        `seed ${seed}`,
      ).toBe(want);
      expect(
        outcome(build(seed, { hotSamples: 0 }), (n) => 1 + (n % 5)),
        `seed ${seed}, in slices`,
      ).toBe(want);
      expect(
        outcome(build(seed, { hotSamples: 1 }), (n) => 1 + (n % 29)),
        `seed ${seed}, compiled`,
      ).toBe(want);
    }
  });
});
