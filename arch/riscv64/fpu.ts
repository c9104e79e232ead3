/**
 * Floating point by the book: every F and D operation on raw register bits, with soft-float; the helper behind ops-float.ts.
 *
 * Source: unprivileged specification, chapters F and D: canonical NaNs, NaN-boxing (a single that is not boxed counts as the canonical NaN), tininess
 * after rounding, fmin and fmax as IEEE 754-2019 minimumNumber and maximumNumber, conversions to integers that saturate (a NaN as the largest).
 */
import {
  add,
  compare,
  convert,
  div,
  EQUAL,
  F32,
  F64,
  FLAG_DIVIDE_BY_ZERO,
  FLAG_INEXACT,
  FLAG_INVALID,
  FLAG_OVERFLOW,
  FLAG_UNDERFLOW,
  type FloatContext,
  floatContext,
  fma,
  fromInteger,
  LESS,
  max,
  min,
  mul,
  type Rounding,
  sqrt,
  sub,
  toInteger,
  unpack,
} from "../translate/softfloat/index.ts";

/** fflags bits. */
export const FFLAG_NX = 1;
export const FFLAG_UF = 2;
export const FFLAG_OF = 4;
export const FFLAG_DZ = 8;
export const FFLAG_NV = 16;

/** Dynamic rounding mode: that of frm. */
export const RM_DYNAMIC = 7;

const BOX = 0xffff_ffff_0000_0000n;
const CANONICAL_32 = 0x7fc0_0000n;

const unbox = (bits: bigint): bigint => ((bits & BOX) === BOX ? bits & 0xffff_ffffn : CANONICAL_32);

/** fflags of the soft-float's flags. */
export function fflagsOf(flags: number): number {
  return (
    ((flags & FLAG_INEXACT) !== 0 ? FFLAG_NX : 0) |
    ((flags & FLAG_UNDERFLOW) !== 0 ? FFLAG_UF : 0) |
    ((flags & FLAG_OVERFLOW) !== 0 ? FFLAG_OF : 0) |
    ((flags & FLAG_DIVIDE_BY_ZERO) !== 0 ? FFLAG_DZ : 0) |
    ((flags & FLAG_INVALID) !== 0 ? FFLAG_NV : 0)
  );
}

/** fclass's ten bits. */
function classify(double: boolean, bits: bigint): bigint {
  const v = unpack(double ? F64 : F32, bits);
  switch (v.kind) {
    case "signaling":
      return 1n << 8n;
    case "quiet":
    case "unsupported":
      return 1n << 9n;
    case "infinite":
      return v.negative ? 1n : 1n << 7n;
    case "zero":
      return v.negative ? 1n << 3n : 1n << 4n;
    case "finite":
      if (v.denormal) return v.negative ? 1n << 2n : 1n << 5n;
      return v.negative ? 1n << 1n : 1n << 6n;
  }
}

type Meaning = (context: FloatContext, a: bigint, b: bigint, c: bigint) => bigint;

export interface FloatOperation {
  readonly name: string;
  /** Has a rounding mode. */
  readonly rounds: boolean;
  /** Raw register bits to raw register bits. */
  readonly run: Meaning;
}

function build(): FloatOperation[] {
  const list: FloatOperation[] = [];
  const put = (name: string, rounds: boolean, run: Meaning): void => {
    list.push({ name, rounds, run });
  };
  for (const double of [false, true]) {
    const suffix = double ? "d" : "s";
    const format = double ? F64 : F32;
    const take = double ? (v: bigint): bigint => v : unbox;
    const give = double ? (v: bigint): bigint => v : (v: bigint): bigint => v | BOX;
    const sign = format.signMask;
    for (const [name, operation] of [
      ["fadd", add],
      ["fsub", sub],
      ["fmul", mul],
      ["fdiv", div],
    ] as const) {
      put(`${name}.${suffix}`, true, (x, a, b) => give(operation(x, format, take(a), take(b))));
    }
    put(`fsqrt.${suffix}`, true, (x, a) => give(sqrt(x, format, take(a))));
    put(`fmin.${suffix}`, false, (x, a, b) => give(min(x, format, take(a), take(b), "number")));
    put(`fmax.${suffix}`, false, (x, a, b) => give(max(x, format, take(a), take(b), "number")));
    put(`feq.${suffix}`, false, (x, a, b) => (compare(x, format, take(a), take(b), false) === EQUAL ? 1n : 0n));
    put(`flt.${suffix}`, false, (x, a, b) => (compare(x, format, take(a), take(b), true) === LESS ? 1n : 0n));
    put(`fle.${suffix}`, false, (x, a, b) => {
      const order = compare(x, format, take(a), take(b), true);
      return order === LESS || order === EQUAL ? 1n : 0n;
    });
    put(`fclass.${suffix}`, false, (_x, a) => classify(double, take(a)));
    for (const [name, negateProduct, negateAddend] of [
      ["fmadd", 0n, 0n],
      ["fmsub", 0n, sign],
      ["fnmsub", sign, 0n],
      ["fnmadd", sign, sign],
    ] as const) {
      put(`${name}.${suffix}`, true, (x, a, b, c) =>
        give(fma(x, format, take(a) ^ negateProduct, take(b), take(c) ^ negateAddend)),
      );
    }
    for (const [kind, width, signed] of [
      ["w", 32, true],
      ["wu", 32, false],
      ["l", 64, true],
      ["lu", 64, false],
    ] as const) {
      const target = { width, signed, rule: "saturate" } as const;
      // 32-bit results are sign-extended, the unsigned ones too
      put(`fcvt.${kind}.${suffix}`, true, (x, a) => {
        const value = toInteger(x, format, take(a), target);
        return BigInt.asUintN(64, BigInt.asIntN(width, value));
      });
      put(`fcvt.${suffix}.${kind}`, true, (x, a) =>
        give(fromInteger(x, format, signed ? BigInt.asIntN(width, a) : BigInt.asUintN(width, a))),
      );
    }
  }
  put("fcvt.d.s", true, (x, a) => convert(x, F32, F64, unbox(a)));
  put("fcvt.s.d", true, (x, a) => convert(x, F64, F32, a) | BOX);
  return list;
}

/** Every operation; its number is its place. */
export const FLOAT_OPERATIONS: readonly FloatOperation[] = build();
const NUMBERS = new Map(FLOAT_OPERATIONS.map((o, n) => [o.name, n]));

/** Number of an operation; -1: there is none of this name. */
export const floatOperation = (name: string): number => NUMBERS.get(name) ?? -1;

/** A unit's context; one per machine. */
export function riscvFloatContext(): FloatContext {
  return floatContext({ nan: "canonical" });
}

/** Sets a context up for a rounding mode (0 to 4); its flags are clear. */
export function beginFloat(context: FloatContext, rm: number): void {
  // RNE, RTZ, RDN, RUP, RMM are soft-float's numbers
  context.rounding = rm as Rounding;
  context.flags = 0;
}
