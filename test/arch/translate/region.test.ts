/** Compiled loops on the toy architecture end as the oracle does, wherever runs are cut, whatever the loops do to themselves. */
import { describe, expect, it } from "vitest";
import { EXIT_ARCH, EXIT_BUDGET, EXIT_FAULT } from "../../../arch/translate/index.ts";
import { READ, SPECIAL, ToyMachine, WRITE } from "./machine.ts";
import {
  ADD,
  ADDF,
  ADDI,
  BNE,
  CALL,
  GETF,
  HLT,
  JMP,
  LD,
  LDI,
  NOP,
  SHL,
  ST,
  toy,
  toyHelpers,
  toyLayout,
} from "./toy.ts";

/** Runs a program to its end on the oracle and, in slices, with every loop compiled; both must end alike. */
function same(
  program: readonly number[][],
  prepare: (m: ToyMachine) => void,
  slice: (n: number) => number,
): { readonly code: number; readonly machine: ToyMachine } {
  const ends = (["oracle", "interpreter"] as const).map((tier) => {
    const m = new ToyMachine({}, { tier, hotSamples: 1 });
    m.put(0, ...program);
    prepare(m);
    let code = EXIT_BUDGET;
    for (let n = 0; code === EXIT_BUDGET && m.vcpu.retired < 200_000; n++)
      code = m.engine.run(m.vcpu, tier === "oracle" ? 200_001 : slice(n));
    const registers = Array.from({ length: 32 }, (_, i) => m.vcpu.get(toyLayout.at.r + 4 * i));
    const { faultAddress, faultAccess, flag } = toyLayout.at;
    const cells = [faultAddress, faultAccess, flag].map((at) => m.vcpu.get(at));
    return { code, machine: m, end: [code, m.pc(), m.vcpu.retired, m.detail(), ...registers, ...cells] };
  });
  const [oracle, compiled] = [ends[0]!, ends[1]!];
  expect(compiled.end).toEqual(oracle.end);
  expect(Buffer.compare(compiled.machine.engine.physical, oracle.machine.engine.physical)).toBe(0);
  return { code: compiled.code, machine: compiled.machine };
}

describe.each([
  ["long runs", () => 997],
  ["runs of any length", (n: number) => 1 + ((n * 7919) % 131)],
] as const)("compiled loops, %s", (_name, slice) => {
  const loop = [
    toy(LDI, 1, 0, 100),
    toy(SHL, 1, 1, 6),
    toy(ADDF, 4, 4, 2),
    toy(ADDI, 2, 2, 1),
    toy(GETF, 5),
    toy(BNE, 2, 1, -3),
    toy(HLT, 0, 0, 3),
  ];

  it("count and compute as the oracle", () => {
    const { code, machine } = same(loop, () => {}, slice);
    expect([code, machine.r(2)]).toEqual([EXIT_ARCH, 6400]);
    expect(machine.engine.compiled).toBeGreaterThan(0);
  });

  it("of several blocks, one in another, with a call between", () => {
    const program = [
      toy(LDI, 1, 0, 90),
      toy(ADDI, 2, 2, 1),
      toy(LDI, 3, 0, 0),
      toy(ADDI, 3, 3, 1),
      toy(BNE, 3, 1, 2),
      toy(JMP, 0, 0, 3),
      toy(ADD, 6, 6, 3),
      toy(JMP, 0, 0, -4),
      toy(CALL, 7, 0, 1),
      toy(BNE, 2, 1, -8),
      toy(HLT, 0, 0, 4),
    ];
    const { code, machine } = same(program, () => {}, slice);
    expect([code, machine.r(2)]).toEqual([EXIT_ARCH, 90]);
    expect(machine.engine.compiled).toBeGreaterThan(0);
  });

  it("fault at their instruction, before it changes anything", () => {
    // Reads word after word until the page that is not there.
    const program = [toy(LDI, 1, 0, 3), toy(SHL, 1, 1, 12), toy(LD, 2, 1), toy(ADDI, 1, 1, 8), toy(BNE, 1, 0, -2)];
    const { code, machine } = same(program, (m) => m.map(6, 0, 0), slice);
    expect([code, machine.pc(), machine.r(1)]).toEqual([EXIT_FAULT, 8, 0x6000]);
    expect(machine.engine.compiled).toBeGreaterThan(0);
  });

  it("that overwrite themselves go on with what they have written", () => {
    // Stores up through a page that is followed by the loop's own: what is stored there makes the store and the step behind it NOPs.
    const nops = new DataView(new ArrayBuffer(8));
    toy(NOP)
      .concat(toy(NOP))
      .forEach((byte, i) => {
        nops.setUint8(i, byte);
      });
    const program = [
      toy(ST, 3, 1),
      toy(ADDI, 1, 1, 8),
      toy(ADDI, 2, 2, 1),
      toy(BNE, 2, 5, -3),
      toy(NOP),
      toy(HLT, 0, 0, 7),
    ];
    const { code, machine } = same(
      program,
      (m) => {
        m.map(9, 16, READ | WRITE);
        m.map(10, 0, 0);
        m.set(1, 0x8000);
        m.set(5, 600);
        m.set(3, nops.getUint32(0, true), nops.getUint32(4, true));
      },
      slice,
    );
    expect([code, machine.detail()]).toEqual([EXIT_ARCH, 7]);
    expect([machine.r(1), machine.r(2)]).toEqual([0x9000, 600]);
    expect(machine.engine.compiled).toBeGreaterThan(0);
  });

  it("reach devices, and stop for what these do", () => {
    const m = new ToyMachine(
      {
        helpers: () => toyHelpers(),
        special: (vcpu, access) => {
          vcpu.set(toyLayout.at.slowValue, access === 1 ? 0 : 5);
          return true;
        },
      },
      { hotSamples: 1 },
    );
    m.map(3, 0, READ | WRITE | SPECIAL);
    m.put(
      0,
      toy(LDI, 1, 0, 3),
      toy(SHL, 1, 1, 12),
      toy(LD, 2, 1),
      toy(ADD, 4, 4, 2),
      toy(ST, 2, 1),
      toy(JMP, 0, 0, -3),
    );
    let left = 4002;
    for (let n = 0; left > 0; n++) {
      const budget = Math.min(left, slice(n));
      expect(m.engine.run(m.vcpu, budget)).toBe(EXIT_BUDGET);
      left -= budget;
    }
    expect([m.vcpu.retired, m.r(4), m.engine.compiled > 0]).toEqual([4002, 5000, true]);
  });

  it("follow their page when it is mapped elsewhere, and end with their code", () => {
    const m = new ToyMachine({}, { hotSamples: 1 });
    m.put(0, toy(ADDI, 1, 1, 1), toy(ADDI, 2, 2, 1), toy(JMP, 0, 0, -2));
    const run = (instructions: number): void => {
      for (let left = instructions, n = 0; left > 0; n++) {
        const budget = Math.min(left, slice(n));
        expect(m.engine.run(m.vcpu, budget)).toBe(EXIT_BUDGET);
        left -= budget;
      }
    };
    run(3000);
    expect([m.r(1), m.engine.compiled > 0]).toEqual([1000, true]);
    // Another frame, where each round adds two.
    m.engine.physical.set([...toy(ADDI, 1, 1, 2), ...toy(ADDI, 2, 2, 1), ...toy(JMP, 0, 0, -2)], 100 * 4096);
    m.map(0, 100, READ | WRITE | 4);
    m.engine.flushAll(m.vcpu);
    run(3000);
    expect([m.r(1), m.r(2)]).toEqual([3000, 2000]);
    // Someone else writes the code.
    m.engine.physical.set(toy(ADDI, 1, 1, 3), 100 * 4096);
    m.engine.wroteFrame(100, 0, 4);
    run(3000);
    expect([m.r(1), m.r(2)]).toEqual([6000, 3000]);
    m.engine.flushCode();
    run(3000);
    expect([m.r(1), m.r(2)]).toEqual([9000, 4000]);
  });
});
