/**
 * Random IR against the oracle: every core operation, random operands and memory, each op an instruction of its own.
 * State, memory, faults and retired counts must be the same in tier 0 and in the oracle.
 */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type BlockBuilder, LIFT_DONE, type LiftSource, type Op, type OpSet } from "../../../arch/translate/index.ts";
import { coreOps } from "../../../arch/translate/ops/index.ts";
import { EXEC, READ, ToyMachine, WRITE } from "./machine.ts";
import { toyLayout } from "./toy.ts";

interface Step {
  readonly op: string;
  readonly d: number;
  readonly a: number;
  readonly b: number;
  readonly words: readonly [number, number, number, number, number, number];
}

/** A machine whose lifter takes its ops from `program`, whatever the bytes: instruction n is at 4 * n. */
class ScriptMachine extends ToyMachine {
  program: readonly Step[] = [];

  constructor(tier: "interpreter" | "oracle") {
    super(
      {
        lifter: (ops: OpSet) => (source: LiftSource, builder: BlockBuilder) => {
          const exit = ops.id("exit");
          for (let i = source.pcLo / 4; ; i++) {
            if (builder.instructions >= source.maxInstructions) {
              builder.fallThrough(i * 4, 0);
              return LIFT_DONE;
            }
            builder.instruction(i * 4, 0, 4);
            const step = this.program[i];
            if (step === undefined) {
              builder.computed(exit);
              return LIFT_DONE;
            }
            const op = ops.get(step.op);
            const [lo, hi, lo2, hi2, lo3, hi3] = step.words;
            if (op.terminator === "branch") {
              builder.branch(op.id, step.d, step.a, step.b, i * 4 + 8, 0, i * 4 + 4, 0, lo2, hi2, lo3, hi3);
              return LIFT_DONE;
            }
            if (op.skip) {
              const skip = builder.skip(op.id, step.a);
              builder.emit(ops.id("add64i"), step.d, step.d, 0, 1);
              builder.label(skip);
            } else if (op.bytes === 32) {
              builder.emitExtra(op.id, step.d, step.a, step.b, lo, hi, lo2, hi2, lo3, hi3);
            } else {
              builder.emit(op.id, step.d, step.a, step.b, lo, hi);
            }
          }
        },
      },
      { tier },
    );
  }
}

const { t, v, r } = toyLayout.at;
const isFloat = (name: string): boolean => /^f(32|64)/.test(name) || /trunc_sat|convert|promote|demote/.test(name);
const usable = (op: Op): boolean =>
  op.name !== "helper" && !op.name.startsWith("engine.") && (op.terminator === undefined || op.terminator === "branch");

const tier0 = new ScriptMachine("interpreter");
const oracle = new ScriptMachine("oracle");
const names = tier0.engine.ops.list.filter((op) => usable(op) && coreOps.some((core) => core.name === op.name));
const isVector = (name: string): boolean => /^(i\d+x|v|f\d+x)/.test(name);
const isMemory = (name: string): boolean => /^(ld|lds|st|vld|vst)/.test(name);

const interesting = [0, 1, -1, 0x7f, 0x80, 0x7fff, 0x8000, 0x7fffffff, -0x80000000, 31, 32, 63, 0xffff, 0x1000];
const word = fc.oneof(fc.constantFrom(...interesting), fc.integer());
/** Byte offsets of registers; now and then an odd byte of one. */
const scalar = fc.oneof(
  fc.nat(7).map((i) => r + 8 * i),
  fc.nat(7).map((i) => r + 8 * i),
  fc.nat(50).map((i) => r + i),
);
const vector = fc.nat(5).map((i) => v + 16 * i);
/** Addresses that hit, cross pages, read-only and unmapped pages. */
const address = fc.oneof(
  fc.nat(0x7000),
  fc.integer({ min: 0x2fe8, max: 0x3010 }),
  fc.integer({ min: 0x3fe8, max: 0x4010 }),
  fc.integer({ min: 0x4fe8, max: 0x5010 }),
);

const stepOf = (op: Op): fc.Arbitrary<Step> => {
  const cell = isVector(op.name) && !isMemory(op.name) ? vector : scalar;
  const d = isVector(op.name) ? vector : scalar;
  const words = fc.tuple(word, word, word, word, word, word);
  if (isMemory(op.name)) {
    // Base registers are r8.. that hold addresses; the displacement is small.
    const displacement = fc.integer({ min: -8, max: 8 });
    return fc.tuple(d, fc.nat(3), fc.nat(3), displacement, fc.nat(3), word).map(([to, a, b, lo, scale, value]) => ({
      op: op.name,
      d: to,
      a: r + 8 * (8 + a),
      b: r + 8 * (12 + b),
      words: [lo, op.name.startsWith("sti") ? value : op.name.endsWith("x") ? scale : lo >> 31, 0, 0, 0, 0],
    }));
  }
  const scalarOperands = isVector(op.name) && /shl|shr/.test(op.name);
  return fc.tuple(d, cell, scalarOperands ? scalar : cell, words).map(([to, a, b, w]) => ({
    op: op.name,
    d: to,
    a,
    b,
    words: op.name.startsWith("lea") ? [w[0], w[1] & 3, w[2], w[3], w[4], w[5]] : w,
  }));
};

const setUp = fc.record({
  registers: fc.array(fc.tuple(word, word), { minLength: 8, maxLength: 8 }),
  vectors: fc.array(word, { minLength: 24, maxLength: 24 }),
  bases: fc.array(address, { minLength: 4, maxLength: 4 }),
  fill: fc.nat(0xffff),
});
type SetUp = typeof setUp extends fc.Arbitrary<infer T> ? T : never;

function run(
  m: ScriptMachine,
  program: readonly Step[],
  s: SetUp,
): { code: number; state: Uint8Array; memory: Uint8Array; rest: unknown } {
  m.program = program;
  m.engine.flushCode();
  m.engine.flushAll(m.vcpu);
  m.vcpu.bytes.fill(0, 0, toyLayout.bytes);
  m.vcpu.set(toyLayout.at.root, 1);
  m.vcpu.set(toyLayout.at.pages, 8);
  m.map(0, 16, EXEC | READ | WRITE);
  for (let page = 1; page < 8; page++) m.map(page, 32 + page * 2, page === 5 ? 0 : page === 4 ? READ : READ | WRITE);
  for (const [i, [lo, hi]] of s.registers.entries()) m.set(i, lo, hi);
  s.bases.forEach((base, i) => {
    m.set(8 + i, base);
    m.set(12 + i, i);
  });
  for (const [i, value] of s.vectors.entries()) m.vcpu.set(v + 4 * i, value);
  const memory = new Int32Array(m.memory.buffer);
  for (let i = 34 * 1024; i < 47 * 1024; i++) memory[i] = Math.imul(i, s.fill * 2 + 1);
  m.vcpu.retired = 0;
  const code = m.engine.run(m.vcpu, 1000);
  return {
    code,
    state: m.vcpu.bytes.slice(toyLayout.at.v, toyLayout.at.v + 16 * 8),
    memory: m.engine.physical.slice(32 * 4096, 48 * 4096),
    rest: [
      m.pc(),
      m.vcpu.retired,
      m.vcpu.bytes.slice(t, t + 128).join(),
      m.vcpu.bytes.slice(r, r + 128).join(),
      code === 1 ? m.vcpu.get(toyLayout.at.faultAddress) : 0,
      code === 1 ? m.vcpu.get(toyLayout.at.faultAccess) : 0,
    ],
  };
}

/** One op on vectors, without the setting up of memory. */
function runFloat(m: ScriptMachine, program: readonly Step[], s: SetUp): Uint8Array {
  m.program = program;
  m.engine.flushCode();
  m.vcpu.bytes.fill(0, t, t + 256);
  m.vcpu.set64(toyLayout.at.pc, 0, 0);
  for (const [i, value] of s.vectors.entries()) m.vcpu.set(v + 4 * i, value);
  m.engine.run(m.vcpu, 1000);
  return m.vcpu.bytes.slice(v, v + 128);
}

function agree(program: readonly Step[], s: SetUp): void {
  const x = run(tier0, program, s);
  const y = run(oracle, program, s);
  expect(x.rest).toEqual(y.rest);
  expect(x.code).toBe(y.code);
  expect(Buffer.from(x.state).toString("hex")).toBe(Buffer.from(y.state).toString("hex"));
  expect(Buffer.compare(x.memory, y.memory)).toBe(0);
}

describe("core operations against the oracle", () => {
  it("every operation has a meaning of its own", () => {
    expect(coreOps.filter((op) => op.evaluate === undefined)).toEqual([]);
  });

  it.each(names.filter((op) => !isFloat(op.name)).map((op) => [op.name, op] as const))("%s", (_name, op) => {
    fc.assert(fc.property(fc.array(stepOf(op), { minLength: 1, maxLength: 6 }), setUp, agree), {
      numRuns: 12,
      seed: op.id,
    });
  });

  it("random programs of all of them", () => {
    const any = fc.constantFrom(...names.filter((op) => !isFloat(op.name))).chain(stepOf);
    fc.assert(fc.property(fc.array(any, { minLength: 5, maxLength: 60 }), setUp, agree), { numRuns: 150, seed: 7 });
  });

  it("floating point, but for the payloads of NaNs", () => {
    const values = [
      0,
      -0,
      1,
      -1.5,
      0.1,
      1e300,
      -1e-300,
      2 ** 31,
      2 ** 63,
      -(2 ** 31),
      2 ** 64,
      1e-40,
      16777217,
      Infinity,
      -Infinity,
      3.7,
    ];
    for (const op of names.filter((o) => isFloat(o.name))) {
      for (const x of values) {
        for (const y of [0.5, -3, x, 1e30]) {
          for (const from of ["f32", "f64", "int"]) {
            const buffer = new DataView(new ArrayBuffer(16));
            const put = (at: number, value: number): void => {
              if (from === "f32") buffer.setFloat32(at, value, true);
              else if (from === "f64") buffer.setFloat64(at, value, true);
              else
                buffer.setBigInt64(at, BigInt.asIntN(64, BigInt(Math.trunc(Number.isFinite(value) ? value : 5))), true);
            };
            const vectors = (value: number): number[] => {
              put(0, value);
              if (from === "f32") for (const at of [4, 8, 12]) put(at, value);
              else put(8, value);
              return [0, 4, 8, 12].map((at) => buffer.getInt32(at, true));
            };
            const s: SetUp = {
              registers: Array.from({ length: 8 }, () => [0, 0] as [number, number]),
              vectors: [...vectors(x), ...vectors(y), ...Array.from({ length: 16 }, () => 0)],
              bases: [0, 0, 0, 0],
              fill: 1,
            };
            const program: Step[] = [{ op: op.name, d: v + 32, a: v, b: v + 16, words: [0, 0, 0, 0, 0, 0] }];
            const a = runFloat(tier0, program, s);
            const b = runFloat(oracle, program, s);
            const same = Buffer.compare(a.subarray(32, 48), b.subarray(32, 48)) === 0;
            const lanesNaN = (bytes: Uint8Array): boolean => {
              const view = new DataView(bytes.buffer, bytes.byteOffset + 32, 16);
              return (
                [0, 4, 8, 12].some((at) => Number.isNaN(view.getFloat32(at, true))) ||
                [0, 8].some((at) => Number.isNaN(view.getFloat64(at, true)))
              );
            };
            expect(same || (lanesNaN(a) && lanesNaN(b)), `${op.name} ${from} ${x} ${y}`).toBe(true);
          }
        }
      }
    }
  });
});
