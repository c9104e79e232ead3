/** Floating point: the usual cases that WebAssembly does against soft-float, bit by bit, and what no random case is sure to meet. */
import { describe, expect, it } from "vitest";
import { beginFloat, FLOAT_OPERATIONS, fflagsOf, riscvFloatContext } from "../../../arch/riscv64/fpu.ts";
import { asm } from "./assemble.ts";
import { Random } from "./generate.ts";
import { RAM, Rig } from "./rig.ts";

const BOX = 0xffffffffn << 32n;
const boxed = (bits: number): bigint => BOX | BigInt(bits >>> 0);

/** A rig with the unit on and one instruction at RAM. */
class Unit {
  readonly rig = new Rig({ hotSamples: 0 });
  #word = 0;
  constructor() {
    this.rig.setCsr(0x100, 0x6000n);
  }
  /** Runs one instruction. */
  run(word: number): void {
    if (word !== this.#word) this.rig.put(RAM, [word]);
    this.#word = word;
    this.rig.hart.setPc(RAM, 0);
    this.rig.hart.run(1);
  }
}

/** Values near each other, near powers of two, with few bits: where roundings and cancellations are. */
function double(r: Random): bigint {
  if (r.below(12) === 0) return BigInt(r.below(2)) << 63n;
  if (r.below(12) === 0) return r.u64();
  const exponent = BigInt(1023 + r.below(80) - 40);
  const fraction = r.below(3) === 0 ? (r.u64() >> 12n) & ~((1n << BigInt(r.below(52))) - 1n) : r.u64() >> 12n;
  return (BigInt(r.below(2)) << 63n) | (exponent << 52n) | fraction;
}
function single(r: Random): bigint {
  if (r.below(12) === 0) return boxed(r.below(2) << 31);
  if (r.below(12) === 0) return boxed(r.u32());
  const exponent = 127 + r.below(50) - 25;
  const fraction = r.below(3) === 0 ? (r.u32() >>> 9) & ~((1 << r.below(23)) - 1) : r.u32() >>> 9;
  return boxed((r.below(2) << 31) | (exponent << 23) | fraction);
}

const numeric = (bits: bigint): number => {
  const view = new DataView(new ArrayBuffer(8));
  view.setBigUint64(0, bits);
  return view.getFloat64(0);
};
const bitsOf = (value: number): bigint => {
  const view = new DataView(new ArrayBuffer(8));
  view.setFloat64(0, value);
  return view.getBigUint64(0);
};

const NAMES = FLOAT_OPERATIONS.map((o) => o.name);

describe("the usual cases of tier 0", () => {
  const unit = new Unit();
  const context = riscvFloatContext();
  it.each(NAMES)("%s is what soft-float gives", (name) => {
    const operation = FLOAT_OPERATIONS[NAMES.indexOf(name)]!;
    const r = new Random(7 + NAMES.indexOf(name));
    const fma = /^fn?m(add|sub)/.test(name);
    const toInteger = /^(feq|flt|fle|fclass|fcvt\.[wl])/.test(name);
    const fromInteger = /\.(w|wu|l|lu)$/.test(name);
    const value = /\.s$/.test(name) && name !== "fcvt.s.d" ? single : double;
    for (let n = 0; n < (fma ? 1500 : 600); n++) {
      const a = fromInteger ? r.u64() >> BigInt(r.below(64)) : value(r);
      const b = value(r);
      let c = value(r);
      if (fma && value === double && r.below(2) === 0) {
        // the addend cancels most of the product, or all of what a double can say of it
        c = bitsOf(-numeric(a) * numeric(b) * (r.below(2) === 0 ? 1 : 1 + (r.below(9) - 4) * 2 ** -50));
      }
      unit.rig.setF(1, a);
      unit.rig.setF(2, b);
      unit.rig.setF(3, c);
      unit.rig.setX(1, a);
      const before = n % 2;
      unit.rig.setCsr(3, BigInt(before));
      const rm = /^fcvt\.[wl]/.test(name) ? 1 : 0;
      beginFloat(context, rm);
      const want = operation.run(context, a, b, c);
      unit.run(asm(name, { rd: 4, rs1: 1, rs2: 2, rs3: 3, rm }));
      const got = toInteger ? unit.rig.x(4) : unit.rig.f(4);
      const flags = Number(unit.rig.csr(1));
      const show = [a, b, c].map((v) => v.toString(16)).join(" ");
      expect(`${show}: ${got.toString(16)} ${flags}`).toBe(
        `${show}: ${want.toString(16)} ${fflagsOf(context.flags) | before}`,
      );
    }
  });
});

describe("by the book", () => {
  const unit = new Unit();
  const { rig } = unit;
  const binary = (name: string, a: bigint, b: bigint, rm = 7): [bigint, number] => {
    rig.setF(1, a);
    rig.setF(2, b);
    rig.setCsr(1, 0n);
    unit.run(asm(name, { rd: 3, rs1: 1, rs2: 2, rm }));
    return [rig.f(3), Number(rig.csr(1))];
  };
  it("rounds in all five modes, statically and by frm", () => {
    // 1 + 2^-53 is half-way between 1 and 1 + 2^-52
    const one = 0x3ff0000000000000n;
    const half = 0x3ca0000000000000n;
    const results = [one, one, one, one + 1n, one + 1n];
    for (let rm = 0; rm < 5; rm++) {
      expect(binary("fadd.d", one, half, rm)).toEqual([results[rm], 1]);
      rig.setCsr(2, BigInt(rm));
      expect(binary("fadd.d", one, half)).toEqual([results[rm], 1]);
    }
    rig.setCsr(2, 0n);
  });
  it("gives the canonical NaN, raises invalid for signaling ones alone", () => {
    const quiet = 0xfff8000000001234n;
    const signaling = 0x7ff0000000000001n;
    expect(binary("fadd.d", quiet, 0n)).toEqual([0x7ff8000000000000n, 0]);
    expect(binary("fadd.d", signaling, 0n)).toEqual([0x7ff8000000000000n, 16]);
    expect(binary("fmin.d", quiet, 5n)).toEqual([5n, 0]);
    expect(binary("fmin.d", signaling, 5n)).toEqual([5n, 16]);
    expect(binary("fmin.d", 1n << 63n, 0n)).toEqual([1n << 63n, 0]);
    expect(binary("fmax.d", 1n << 63n, 0n)).toEqual([0n, 0]);
  });
  it("takes a single that is not boxed for the canonical NaN", () => {
    expect(binary("fadd.s", 0x3f800000n, boxed(0x3f800000))).toEqual([boxed(0x7fc00000), 0]);
    expect(binary("fsgnj.s", 0x3f800000n, boxed(0x80000000))).toEqual([boxed(0xffc00000), 0]);
    // fmv.x.w and fsw take the bits as they are
    rig.setF(1, 0x1234567880000001n);
    unit.run(asm("fmv.x.w", { rd: 5, rs1: 1 }));
    expect(rig.x(5)).toBe(0xffffffff80000001n);
  });
  it("raises divide by zero, overflow and underflow", () => {
    expect(binary("fdiv.d", 0x3ff0000000000000n, 0n)).toEqual([0x7ff0000000000000n, 8]);
    expect(binary("fmul.d", 0x7fe0000000000000n, 0x7fe0000000000000n)).toEqual([0x7ff0000000000000n, 5]);
    expect(binary("fmul.d", 0x0010000000000000n, 0x3fdfffffffffffffn)).toEqual([0x0008000000000000n, 3]);
  });
  it("an invalid frm makes what rounds by it illegal, and nothing else", () => {
    rig.setCsr(2, 5n);
    rig.setCsr(0x105, BigInt(RAM) + 0x100n);
    rig.setF(1, 0x3ff0000000000000n);
    for (const [name, illegal] of [
      ["fadd.d", true],
      ["fcvt.d.s", true],
      ["fcvt.d.w", true],
      ["fcvt.w.d", true],
      ["fmin.d", false],
      ["feq.d", false],
      ["fsgnj.d", false],
    ] as const) {
      rig.setCsr(0x142, 0n);
      const word = asm(name, { rd: 3, rs1: 1, rs2: 1, rm: 7 });
      unit.run(word);
      expect(rig.csr(0x142), name).toBe(illegal ? 2n : 0n);
      if (illegal) expect(rig.csr(0x143), name).toBe(BigInt(word >>> 0));
    }
    // a static mode does not look at frm
    rig.setCsr(0x142, 0n);
    unit.run(asm("fadd.d", { rd: 3, rs1: 1, rs2: 1, rm: 0 }));
    expect(rig.csr(0x142)).toBe(0n);
    expect(rig.f(3)).toBe(0x4000000000000000n);
    rig.setCsr(2, 0n);
  });
  it("is illegal with FS off, and makes FS dirty from clean", () => {
    const fs = (): bigint => (rig.csr(0x100) >> 13n) & 3n;
    for (const word of [asm("fadd.d"), asm("fld", { rs1: 2 }), asm("fmv.x.d"), asm("csrrs", { rd: 1, imm: 3 })]) {
      rig.setCsr(0x100, 0n);
      rig.setCsr(0x142, 0n);
      unit.run(word);
      expect(rig.csr(0x142)).toBe(2n);
      expect(rig.csr(0x100) >> 63n).toBe(0n);
      for (const state of [1n, 2n]) {
        rig.setCsr(0x100, state << 13n);
        rig.setCsr(0x142, 0n);
        rig.setX(2, BigInt(RAM));
        unit.run(word);
        expect(rig.csr(0x142)).toBe(0n);
        expect(fs()).toBe(3n);
        expect(rig.csr(0x100) >> 63n).toBe(1n);
      }
    }
  });
});
