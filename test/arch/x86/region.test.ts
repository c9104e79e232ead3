/** The benchmarks' programs end alike with every loop compiled and in the interpreter alone, in runs of any length. */
import { describe, expect, it } from "vitest";
import {
  gpr,
  RDI,
  RSP,
  SYS_HLT,
  SYSTEM_EXIT,
  SYSTEM_FAULT,
  X86_EXIT_BUDGET,
  X86Machine,
} from "../../../arch/x86/index.ts";
import { LOAD, PROGRAMS, STACK } from "../../bench/programs.ts";
import { Random } from "./generate.ts";

/** Small arguments: some hundred thousand instructions each. */
const ARGUMENTS: Readonly<Record<string, number>> = { integer: 9000, sieve: 1, copy: 3, calls: 14, list: 2 };

function outcome(name: string, hotSamples: number, slice: () => number): readonly unknown[] {
  const program = PROGRAMS.find((one) => one.name === name)!;
  const memory = new WebAssembly.Memory({ initial: 128, maximum: 128 });
  const machine = new X86Machine({
    memory,
    frames: 2048,
    hotSamples,
    platform: {
      system: (vcpu, operation) => {
        if (operation.kind === SYS_HLT) return SYSTEM_EXIT;
        vcpu.raise(6);
        return SYSTEM_FAULT;
      },
    },
  });
  const bytes = new Uint8Array(memory.buffer);
  bytes.set(Buffer.from(program.code, "hex"), LOAD);
  const vcpu = machine.createVcpu();
  vcpu.setRip(program.entry, 0);
  vcpu.set(RDI, ARGUMENTS[name] ?? 1, 0);
  vcpu.set(RSP, STACK, 0);
  let code = X86_EXIT_BUDGET;
  for (let n = 0; code === X86_EXIT_BUDGET && n < 1_000_000; n++) code = machine.run(vcpu, slice());
  const registers = Array.from({ length: 32 }, (_, i) => vcpu.getState(gpr(0) + 4 * i));
  const sum = bytes.reduce((hash, byte) => (Math.imul(hash, 31) + byte) | 0, 0);
  return [code, vcpu.retired, vcpu.ripLo, vcpu.flags, registers, sum];
}

describe("compiled loops of x86 code", () => {
  it.each(PROGRAMS.map(({ name }) => name))("%s", (name) => {
    const seed = Date.now() & 0x7fffffff;
    const random = new Random(seed);
    const expected = outcome(name, 0, () => 100_000_000);
    expect(outcome(name, 1, () => 5000)).toEqual(expected);
    expect(
      outcome(name, 1, () => 1 + random.below(3000)),
      `seed ${seed}`,
    ).toEqual(expected);
  });
});
