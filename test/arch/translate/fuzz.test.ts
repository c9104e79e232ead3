/**
 * Random toy programs, which jump about, fault, and overwrite themselves: tier 0 at once, tier 0 in random slices with
 * translations and TLBs dropped at random, and the oracle must end alike to the last byte and count.
 */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { EXIT_BUDGET, EXIT_FAULT } from "../../../arch/translate/index.ts";
import { EXEC, READ, ToyMachine, WRITE } from "./machine.ts";
import {
  ADCF,
  ADD,
  ADDF,
  ADDI,
  BNE,
  CALL,
  GETF,
  HLT,
  JMP,
  JMPR,
  LD,
  LDI,
  LONG,
  NOP,
  SHL,
  ST,
  STB,
  STF,
  toy,
  toyLayout,
  XCHG,
} from "./toy.ts";

const op = fc.constantFrom(
  ADD,
  ADDF,
  ADDF,
  ADCF,
  STF,
  ADDI,
  ADDF,
  GETF,
  LD,
  ST,
  STB,
  BNE,
  BNE,
  JMP,
  CALL,
  JMPR,
  XCHG,
  NOP,
  SHL,
  LDI,
  ADDI | LONG,
  HLT,
);
const instruction = fc
  .tuple(op, fc.nat(15), fc.nat(15), fc.integer({ min: -20, max: 20 }))
  .map(([o, d, a, b]) => toy(o, d, a, b));
const world = fc.record({
  code: fc.array(instruction, { minLength: 20, maxLength: 120 }),
  start: fc.constantFrom(0, 0xf80, 0xfc2),
  // Registers point into code, data, near page ends, a page that may only be read, one that is not there.
  registers: fc.array(
    fc.oneof(
      fc.nat(300),
      fc.integer({ min: 0xf80, max: 0x1100 }),
      fc.integer({ min: 0x2ff0, max: 0x3010 }),
      fc.constantFrom(0x4000, 0x4ffc, 0x5000, 0x6ffe, 0xfffff000, 3, 1),
    ),
    { minLength: 16, maxLength: 16 },
  ),
  seed: fc.nat(0x7fffffff),
});
type World = typeof world extends fc.Arbitrary<infer T> ? T : never;
const LENGTH = 400;
/** Neighbouring pages are not neighbours in memory. */
const FRAME = (page: number): number => 16 + ((page * 3) & 7);

class Tester {
  readonly at: ToyMachine;
  constructor(tier: "interpreter" | "oracle", hotSamples = 0) {
    this.at = new ToyMachine({}, { tier, hotSamples });
  }

  set(w: World): void {
    const m = this.at;
    m.engine.flushCode();
    m.engine.flushAll(m.vcpu);
    m.engine.physical.fill(0, 16 * 4096, 24 * 4096);
    m.vcpu.bytes.fill(0, 0, toyLayout.bytes);
    m.vcpu.set(toyLayout.at.root, 1);
    m.vcpu.set(toyLayout.at.pages, 7);
    for (let page = 0; page < 7; page++)
      m.map(page, 16 + page, page === 5 ? 0 : page === 4 ? READ : READ | WRITE | EXEC);
    // Two pages share a frame: code seen at two addresses.
    m.map(6, FRAME(0), READ | WRITE | EXEC);
    for (const [i, byte] of w.code.flat().entries()) {
      const va = w.start + i;
      m.engine.physical[FRAME(va >> 12) * 4096 + (va & 4095)] = byte;
    }
    for (const [i, value] of w.registers.entries()) m.set(i, value);
    m.setPc(w.start);
    m.vcpu.retired = 0;
  }

  end(code: number): unknown {
    const m = this.at;
    return [
      code,
      m.pc(),
      m.vcpu.retired,
      Array.from({ length: 32 }, (_, i) => m.vcpu.get(toyLayout.at.r + 4 * i)),
      [m.vcpu.get(toyLayout.at.flag), m.vcpu.get(toyLayout.at.flag + 4)],
      code === EXIT_FAULT ? [m.vcpu.get(toyLayout.at.faultAddress), m.vcpu.get(toyLayout.at.faultAccess)] : [],
      Buffer.from(m.engine.physical.subarray(16 * 4096, 24 * 4096)).toString("base64"),
    ];
  }
}

const once = new Tester("interpreter");
const slices = new Tester("interpreter");
/** Compiles every loop that it is left in. */
const compiled = new Tester("interpreter", 1);
const oracle = new Tester("oracle");

/** Runs to LENGTH instructions, or to what ends it before, in slices of `next()`. */
function run(t: Tester, w: World, next: () => number, between: (n: number) => void): unknown {
  t.set(w);
  let code = EXIT_BUDGET;
  for (let left = LENGTH; left > 0 && code === EXIT_BUDGET; ) {
    const n = Math.min(left, next());
    code = t.at.engine.run(t.at.vcpu, n);
    if (code === EXIT_BUDGET) left -= n;
    between(left);
  }
  return t.end(code);
}

describe("random programs", () => {
  it("end alike at once, in slices, and in the oracle", () => {
    let stopped = 0;
    fc.assert(
      fc.property(world, (w) => {
        const expected = run(
          oracle,
          w,
          () => LENGTH,
          () => {},
        );
        expect(
          run(
            once,
            w,
            () => LENGTH,
            () => {},
          ),
        ).toEqual(expected);
        let seed = w.seed;
        const random = (n: number): number => {
          seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
          return (seed >>> 16) % n;
        };
        const { engine, vcpu } = slices.at;
        const drop = (): void => {
          const what = random(8);
          if (what === 0) engine.flushAll(vcpu);
          else if (what === 1) engine.flushCode();
          else if (what === 2) engine.flushFrame(FRAME(random(7)));
          else if (what === 3) engine.wroteFrame(FRAME(random(7)), 0, 4096);
          else if (what === 4) engine.flushPage(vcpu, random(7) * 4096, 0);
        };
        expect(run(slices, w, () => 1 + random(12), drop)).toEqual(expected);
        expect(
          run(
            slices,
            w,
            () => 1,
            () => {},
          ),
        ).toEqual(expected);
        expect(
          run(
            compiled,
            w,
            () => 1 + random(40),
            () => {},
          ),
        ).toEqual(expected);
        stopped += once.at.engine.stats.kills;
      }),
      { numRuns: Number(process.env["TRANSLATE_FUZZ"] ?? 400), seed: Number(process.env["TRANSLATE_SEED"] ?? 1) },
    );
    // The programs did change translated code.
    expect(stopped).toBeGreaterThan(0);
    expect(compiled.at.engine.compiled).toBeGreaterThan(10);
  });

  it("works at the far end of 3 GiB of memory", () => {
    const memory = new WebAssembly.Memory({ initial: 49152, maximum: 49152 });
    const m = new ToyMachine({}, { memory, frames: 3 * 262144 });
    const far = 3 * 262144 - 2;
    m.vcpu.set(toyLayout.at.root, far - 1);
    const view = new DataView(memory.buffer);
    for (const [page, frame] of [far, far + 1].entries()) {
      const entry = (far - 1) * 4096 + page * 8;
      view.setUint32(entry, ((frame << 12) | READ | WRITE | EXEC) >>> 0, true);
      view.setUint32(entry + 4, frame >>> 20, true);
    }
    const code = [...toy(LDI, 2, 0, 77), ...toy(ST, 2, 1, 0), ...toy(LD, 3, 1, 0), ...toy(HLT, 0, 0, 4)];
    m.engine.physical.set(code, far * 4096);
    m.set(1, 0x1ff8);
    expect(m.engine.run(m.vcpu, 100)).toBe(2);
    expect([m.r(3), view.getUint32(3 * 2 ** 30 - 8, true)]).toEqual([77, 77]);
    m.engine.flushFrame(far + 1);
    expect(m.engine.copyToGuest(m.vcpu, 0x1ff8, 0, new Uint8Array([1]))).toBe(true);
    expect(view.getUint8(3 * 2 ** 30 - 8)).toBe(1);
    // A store into the code of the far frame.
    m.setPc(0);
    m.set(1, 4 + 8);
    m.set(2, 0);
    expect(m.engine.run(m.vcpu, 100)).toBe(1);
    expect(m.pc()).toBe(12);
  });
});
