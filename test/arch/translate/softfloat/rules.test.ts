/** What no x86 CPU can confirm: RISC-V's rules, ties away from zero, tininess before rounding, trapped results. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import * as soft from "../../../../arch/translate/softfloat/index.ts";

const riscv = (overrides: Partial<soft.FloatContext> = {}): soft.FloatContext =>
  soft.floatContext({ nan: "canonical", ...overrides });

const view = new DataView(new ArrayBuffer(8));
function bits64(value: number): bigint {
  view.setFloat64(0, value);
  return view.getBigUint64(0);
}
function number64(bits: bigint): number {
  view.setBigUint64(0, bits);
  return view.getFloat64(0);
}
function bits32(value: number): bigint {
  view.setFloat32(0, value);
  return BigInt(view.getUint32(0));
}

const SNAN32 = 0x7f80_0001n;
const QNAN32 = 0xffc0_1234n;
const CANONICAL32 = 0x7fc0_0000n;

describe("host doubles", () => {
  const anyDouble = fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }).map(number64);
  const operations = [
    ["add", soft.add, (a: number, b: number) => a + b],
    ["sub", soft.sub, (a: number, b: number) => a - b],
    ["mul", soft.mul, (a: number, b: number) => a * b],
    ["div", soft.div, (a: number, b: number) => a / b],
  ] as const;
  for (const [name, operation, native] of operations) {
    it(`${name} agrees with JavaScript`, () => {
      fc.assert(
        fc.property(anyDouble, anyDouble, (a, b) => {
          const got = number64(operation(soft.floatContext(), soft.F64, bits64(a), bits64(b)));
          expect(Object.is(got, native(a, b))).toBe(true);
        }),
        { numRuns: 500 },
      );
    });
  }
});

describe("RISC-V rules", () => {
  it("returns the canonical NaN, invalid for signaling ones only", () => {
    const quiet = riscv();
    expect(soft.add(quiet, soft.F32, QNAN32, bits32(1))).toBe(CANONICAL32);
    expect(quiet.flags).toBe(0);
    const signaling = riscv();
    expect(soft.add(signaling, soft.F32, bits32(1), SNAN32)).toBe(CANONICAL32);
    expect(signaling.flags).toBe(soft.FLAG_INVALID);
  });

  it("fma: infinity times zero is invalid even with a quiet NaN to add", () => {
    const context = riscv();
    expect(soft.fma(context, soft.F32, bits32(Number.POSITIVE_INFINITY), 0n, QNAN32)).toBe(CANONICAL32);
    expect(context.flags).toBe(soft.FLAG_INVALID);
    const x86 = soft.floatContext();
    soft.fma(x86, soft.F32, bits32(Number.POSITIVE_INFINITY), 0n, QNAN32);
    expect(x86.flags).toBe(0);
  });

  it("min and max prefer numbers, and order zeros", () => {
    const context = riscv();
    const minus = bits32(-0);
    expect(soft.min(context, soft.F32, 0n, minus, "number")).toBe(minus);
    expect(soft.min(context, soft.F32, minus, 0n, "number")).toBe(minus);
    expect(soft.max(context, soft.F32, minus, 0n, "number")).toBe(0n);
    expect(soft.max(context, soft.F32, 0n, minus, "number")).toBe(0n);
    expect(soft.min(context, soft.F32, QNAN32, bits32(2), "number")).toBe(bits32(2));
    expect(soft.max(context, soft.F32, bits32(2), QNAN32, "number")).toBe(bits32(2));
    expect(soft.max(context, soft.F32, QNAN32, QNAN32, "number")).toBe(CANONICAL32);
    expect(context.flags).toBe(0);
    expect(soft.min(context, soft.F32, SNAN32, bits32(2), "number")).toBe(bits32(2));
    expect(context.flags).toBe(soft.FLAG_INVALID);
  });

  it("integers saturate", () => {
    const int = (value: bigint, width: number, signed: boolean): bigint =>
      soft.toInteger(riscv(), soft.F32, value, { width, signed, rule: "saturate" });
    expect(int(bits32(3e9), 32, true)).toBe(2n ** 31n - 1n);
    expect(int(bits32(-3e9), 32, true)).toBe(-(2n ** 31n));
    expect(int(bits32(-1), 32, false)).toBe(0n);
    expect(int(bits32(-1), 64, false)).toBe(0n);
    expect(int(QNAN32, 32, true)).toBe(2n ** 31n - 1n);
    expect(int(QNAN32, 64, false)).toBe(2n ** 64n - 1n);
    expect(int(bits32(Number.NEGATIVE_INFINITY), 64, true)).toBe(-(2n ** 63n));
  });

  it("a negative fraction that rounds to zero is inexact, not invalid, for unsigned targets", () => {
    const context = riscv();
    const target = { width: 32, signed: false, rule: "saturate" } as const;
    expect(soft.toInteger(context, soft.F32, bits32(-0.25), target)).toBe(0n);
    expect(context.flags).toBe(soft.FLAG_INEXACT);
  });

  it("rounds ties away from zero in RMM", () => {
    const round = (value: number): number =>
      number64(soft.roundToIntegral(riscv({ rounding: soft.ROUND_NEAREST_AWAY }), soft.F64, bits64(value)));
    expect([0.5, 1.5, 2.5, -2.5, 2.4999, -0.5].map(round)).toEqual([1, 2, 3, -3, 2, -1]);
    const context = riscv({ rounding: soft.ROUND_NEAREST_AWAY });
    // 1 + 2^-53 is a tie between 1 and its successor.
    expect(soft.add(context, soft.F64, bits64(1), bits64(2 ** -53))).toBe(bits64(1 + 2 ** -52));
    // A far addend below the tie must not count as one.
    const below = soft.add(context, soft.F64, soft.add(context, soft.F64, bits64(1), 0n), bits64(2 ** -54));
    expect(below).toBe(bits64(1));
  });
});

describe("tininess", () => {
  // (1 - 2^-24) * 2^-126 in f32 rounds up to the smallest normal number.
  const a = bits32(2 ** -126);
  const b = bits32(1 - 2 ** -24);

  it("is found after rounding unless the context says before", () => {
    const small = soft.F64.bias - 126;
    const wide = (BigInt(small - 1) << 52n) | ((1n << 52n) - 1n);
    const after = soft.floatContext();
    expect(soft.convert(after, soft.F64, soft.F32, wide)).toBe(a);
    expect(after.flags).toBe(soft.FLAG_INEXACT);
    const before = soft.floatContext({ tininessBeforeRounding: true });
    expect(soft.convert(before, soft.F64, soft.F32, wide)).toBe(a);
    expect(before.flags).toBe(soft.FLAG_INEXACT | soft.FLAG_UNDERFLOW);
    const product = soft.floatContext();
    soft.mul(product, soft.F32, a, b);
    expect(product.flags).toBe(soft.FLAG_INEXACT | soft.FLAG_UNDERFLOW);
  });

  it("an unmasked underflow is raised for exact results and wraps the exponent", () => {
    const context = soft.floatContext({ unmasked: soft.FLAG_UNDERFLOW });
    const half = soft.mul(context, soft.F32, a, bits32(0.5));
    expect(context.flags).toBe(soft.FLAG_UNDERFLOW);
    expect(half).toBe(bits32(2 ** (-127 + 192)));
  });

  it("an unmasked overflow wraps the exponent", () => {
    const context = soft.floatContext({ unmasked: soft.FLAG_OVERFLOW });
    expect(soft.mul(context, soft.F32, bits32(2 ** 127), bits32(2))).toBe(bits32(2 ** (128 - 192)));
    expect(context.flags).toBe(soft.FLAG_OVERFLOW);
  });
});

describe("remainder", () => {
  it("is complete without a partial step, whatever the distance", () => {
    const context = soft.floatContext();
    const { bits, complete } = soft.rem(context, soft.F64, bits64(1e300), bits64(7), false);
    expect(complete).toBe(true);
    expect(number64(bits)).toBe(1e300 % 7);
  });

  it("agrees with JavaScript's %", () => {
    fc.assert(
      fc.property(fc.double({ noNaN: true }), fc.double({ noNaN: true }), (a, b) => {
        const { bits } = soft.rem(soft.floatContext(), soft.F64, bits64(a), bits64(b), false);
        expect(Object.is(number64(bits), a % b)).toBe(true);
      }),
      { numRuns: 300 },
    );
  });
});

describe("packed decimal", () => {
  it("round trips, and refuses more than 18 digits", () => {
    const context = soft.floatContext({ nan: "x87" });
    const bcd = 0x8000_1234_5678_9012_3456n | (1n << 79n);
    expect(soft.floatToBcd(context, soft.unpack(soft.F80, soft.bcdToFloat(bcd)))).toBe(
      (1n << 79n) | (bcd & ((1n << 72n) - 1n)),
    );
    expect(context.flags).toBe(0);
    const large = soft.fromInteger(context, soft.F80, 10n ** 18n);
    expect(soft.floatToBcd(context, soft.unpack(soft.F80, large))).toBe(soft.BCD_INDEFINITE);
    expect(context.flags).toBe(soft.FLAG_INVALID);
  });
});
