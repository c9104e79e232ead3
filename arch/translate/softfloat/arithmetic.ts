/**
 * add, subtract, multiply, divide, square root, fused multiply-add, remainder, scale and extract.
 *
 * Each operation has two forms: `addValues` works on unpacked operands, which may come from other formats than the
 * result's (x87's m32 operands), and `add` on raw bits of one format. The exact result goes to roundPack once.
 *
 * Order of exceptions, as x86 has it (SDM vol. 1, table 4-11): signaling NaN, quiet NaN, other invalid or divide by
 * zero, denormal operand, then what rounding raises. A divide by zero hides a denormal dividend.
 */
import {
  bitLength,
  FLAG_DENORMAL,
  FLAG_DIVIDE_BY_ZERO,
  FLAG_INEXACT,
  FLAG_INVALID,
  type FloatContext,
  type FloatFormat,
  integerSqrt,
  packInfinity,
  packZero,
  ROUND_DOWN,
  ROUND_TO_ZERO,
  type Unpacked,
  unpack,
} from "./format.ts";
import { invalid, noteDenormal, packExact, packNumber, roundPack, roundShift, specialOperands } from "./round.ts";

/** Beyond this distance (in bits, top to top) the smaller addend can only be a sticky bit. */
const FAR = 200;
/** Bits that the larger addend is widened to then: more than any result and its guard bits, fewer than FAR. */
const WIDE = 196;

/** a + b, or a - b with `subtract` (a NaN b keeps its sign). */
export function addValues(
  context: FloatContext,
  format: FloatFormat,
  a: Unpacked,
  b: Unpacked,
  subtract = false,
): bigint {
  const special = specialOperands(context, format, a, b);
  if (special !== undefined) return special;
  const bNegative = b.negative !== subtract;
  if (a.kind === "infinite" && b.kind === "infinite" && a.negative !== bNegative) return invalid(context, format);
  noteDenormal(context, a, b);
  return sum(context, format, a, b, bNegative);
}

function sum(context: FloatContext, format: FloatFormat, a: Unpacked, b: Unpacked, bNegative: boolean): bigint {
  context.roundedUp = false;
  if (a.kind === "infinite") return packInfinity(format, a.negative);
  if (b.kind === "infinite") return packInfinity(format, bNegative);
  if (a.kind === "zero" && b.kind === "zero") {
    return packZero(format, a.negative === bNegative ? bNegative : context.rounding === ROUND_DOWN);
  }
  if (b.kind === "zero") return packNumber(context, format, a);
  if (a.kind === "zero") return packNumber(context, format, { ...b, negative: bNegative });
  const [large, small, largeNegative, smallNegative] =
    a.exponent + bitLength(a.significand) >= b.exponent + bitLength(b.significand)
      ? [a, b, a.negative, bNegative]
      : [b, a, bNegative, a.negative];
  const gap = large.exponent + bitLength(large.significand) - (small.exponent + bitLength(small.significand));
  if (gap > FAR) {
    // Keep guard bits below the large one; the small one is a sticky bit above or below.
    const shift = WIDE - bitLength(large.significand);
    const widened = large.significand << BigInt(shift);
    const significand = largeNegative === smallNegative ? widened : widened - 1n;
    return roundPack(context, format, largeNegative, large.exponent - shift, significand, true);
  }
  const exponent = Math.min(large.exponent, small.exponent);
  const left = large.significand << BigInt(large.exponent - exponent);
  const right = small.significand << BigInt(small.exponent - exponent);
  const total = (largeNegative ? -left : left) + (smallNegative ? -right : right);
  if (total === 0n) return packZero(format, context.rounding === ROUND_DOWN);
  return roundPack(context, format, total < 0n, exponent, total < 0n ? -total : total);
}

export function mulValues(context: FloatContext, format: FloatFormat, a: Unpacked, b: Unpacked): bigint {
  const special = specialOperands(context, format, a, b);
  if (special !== undefined) return special;
  if (infinityTimesZero(a, b)) return invalid(context, format);
  noteDenormal(context, a, b);
  context.roundedUp = false;
  const negative = a.negative !== b.negative;
  if (a.kind === "infinite" || b.kind === "infinite") return packInfinity(format, negative);
  if (a.kind === "zero" || b.kind === "zero") return packZero(format, negative);
  return roundPack(context, format, negative, a.exponent + b.exponent, a.significand * b.significand);
}

function infinityTimesZero(a: Unpacked, b: Unpacked): boolean {
  return (a.kind === "infinite" && b.kind === "zero") || (a.kind === "zero" && b.kind === "infinite");
}

export function divValues(context: FloatContext, format: FloatFormat, a: Unpacked, b: Unpacked): bigint {
  const special = specialOperands(context, format, a, b);
  if (special !== undefined) return special;
  if (a.kind === b.kind && a.kind !== "finite") return invalid(context, format);
  context.roundedUp = false;
  const negative = a.negative !== b.negative;
  if (b.kind === "zero" && a.kind === "finite") {
    context.flags |= FLAG_DIVIDE_BY_ZERO;
    return packInfinity(format, negative);
  }
  noteDenormal(context, a, b);
  if (a.kind === "infinite" || b.kind === "zero") return packInfinity(format, negative);
  if (a.kind === "zero" || b.kind === "infinite") return packZero(format, negative);
  const shift = Math.max(0, 130 + bitLength(b.significand) - bitLength(a.significand));
  const dividend = a.significand << BigInt(shift);
  const quotient = dividend / b.significand;
  const inexact = quotient * b.significand !== dividend;
  return roundPack(context, format, negative, a.exponent - b.exponent - shift, quotient, inexact);
}

export function sqrtValue(context: FloatContext, format: FloatFormat, a: Unpacked): bigint {
  const special = specialOperands(context, format, a);
  if (special !== undefined) return special;
  context.roundedUp = false;
  if (a.kind === "zero") return packZero(format, a.negative);
  if (a.negative) return invalid(context, format);
  if (a.kind === "infinite") return packInfinity(format, false);
  noteDenormal(context, a);
  let shift = Math.max(0, 136 - bitLength(a.significand));
  if ((a.exponent - shift) & 1) shift++;
  const radicand = a.significand << BigInt(shift);
  const root = integerSqrt(radicand);
  return roundPack(context, format, false, (a.exponent - shift) / 2, root, root * root !== radicand);
}

/**
 * a * b + c rounded once. Infinity times zero plus a quiet NaN is invalid under the canonical rule (RISC-V) only;
 * otherwise a NaN among a, b, c wins in that order.
 */
export function fmaValues(context: FloatContext, format: FloatFormat, a: Unpacked, b: Unpacked, c: Unpacked): bigint {
  const product = specialOperands(context, format, a, b);
  if (product !== undefined) {
    if (c.kind === "signaling") context.flags |= FLAG_INVALID;
    return product;
  }
  const noProduct = infinityTimesZero(a, b);
  const addend = specialOperands(context, format, c);
  if (addend !== undefined) return noProduct && context.nan === "canonical" ? invalid(context, format) : addend;
  if (noProduct) return invalid(context, format);
  const negative = a.negative !== b.negative;
  const infinite = a.kind === "infinite" || b.kind === "infinite";
  if (infinite && c.kind === "infinite" && c.negative !== negative) return invalid(context, format);
  noteDenormal(context, a, b);
  noteDenormal(context, c);
  const exact: Unpacked = {
    kind: infinite ? "infinite" : a.kind === "zero" || b.kind === "zero" ? "zero" : "finite",
    negative,
    exponent: a.exponent + b.exponent,
    significand: a.significand * b.significand,
    denormal: false,
  };
  return sum(context, format, exact, c, c.negative);
}

/** What a remainder leaves behind. */
export interface Remainder {
  readonly bits: bigint;
  /** Low bits of the magnitude of the quotient (whole when complete and below 2^64); 0 while partial. */
  readonly quotient: bigint;
  /** False: the exponent difference was too large for one step, and `bits` is congruent but not yet reduced (x87 C2). */
  readonly complete: boolean;
}

/** How far one partial step reduces: the exponent difference falls by this much at least (x87: between 32 and 63). */
export type PartialStep = (difference: number) => number;

/**
 * a rem b: with `nearest`, the quotient is rounded to nearest even (IEEE remainder, FPREM1), else cut (fmod, FPREM).
 * With `step`, exponent differences of 64 and more are reduced partially (SDM, FPREM); without, always completely.
 */
export function remValues(
  context: FloatContext,
  format: FloatFormat,
  a: Unpacked,
  b: Unpacked,
  nearest: boolean,
  step?: PartialStep,
): Remainder {
  const whole = (bits: bigint): Remainder => ({ bits, quotient: 0n, complete: true });
  const special = specialOperands(context, format, a, b);
  if (special !== undefined) return whole(special);
  if (a.kind === "infinite" || b.kind === "zero") return whole(invalid(context, format));
  noteDenormal(context, a, b);
  context.roundedUp = false;
  if (a.kind === "zero") return whole(packZero(format, a.negative));
  if (b.kind === "infinite") return whole(packExact(context, format, a.negative, a.exponent, a.significand));
  const difference = a.exponent + bitLength(a.significand) - (b.exponent + bitLength(b.significand));
  if (step !== undefined && difference >= 64) {
    const left = difference - step(difference);
    const divisor: Unpacked = { ...b, exponent: b.exponent + left };
    const { rest, exponent } = reduce(a, divisor, false);
    return { bits: packSigned(context, format, a.negative, rest, exponent), quotient: 0n, complete: false };
  }
  const { rest, exponent, quotient } = reduce(a, b, nearest);
  return { bits: packSigned(context, format, a.negative, rest, exponent), quotient, complete: true };
}

function packSigned(
  context: FloatContext,
  format: FloatFormat,
  negative: boolean,
  rest: bigint,
  exponent: number,
): bigint {
  if (rest === 0n) return packZero(format, negative);
  const below = rest < 0n;
  return packExact(context, format, negative !== below, exponent, below ? -rest : rest);
}

/** |a| - quotient * |b|, exactly; the rest may be negative when the quotient was rounded up. */
function reduce(a: Unpacked, b: Unpacked, nearest: boolean): { rest: bigint; exponent: number; quotient: bigint } {
  // A divisor that is larger by far leaves the dividend as it is, without building a huge integer.
  const gap = b.exponent + bitLength(b.significand) - (a.exponent + bitLength(a.significand));
  if (gap > 2) return { rest: a.significand, exponent: a.exponent, quotient: 0n };
  const exponent = Math.min(a.exponent, b.exponent);
  const dividend = a.significand << BigInt(a.exponent - exponent);
  const divisor = b.significand << BigInt(b.exponent - exponent);
  let quotient = dividend / divisor;
  let rest = dividend - quotient * divisor;
  if (nearest) {
    const twice = rest * 2n;
    if (twice > divisor || (twice === divisor && quotient & 1n)) {
      quotient += 1n;
      rest -= divisor;
    }
  }
  return { rest, exponent, quotient: BigInt.asUintN(64, quotient) };
}

/** a * 2^trunc(b) (x87 FSCALE, SDM table 3-30 of that instruction). */
export function scaleValues(context: FloatContext, format: FloatFormat, a: Unpacked, b: Unpacked): bigint {
  const special = specialOperands(context, format, a, b);
  if (special !== undefined) return special;
  if (b.kind === "infinite") {
    if (b.negative ? a.kind === "infinite" : a.kind === "zero") return invalid(context, format);
    noteDenormal(context, a, b);
    context.roundedUp = false;
    return b.negative ? packZero(format, a.negative) : packInfinity(format, a.negative);
  }
  noteDenormal(context, a, b);
  context.roundedUp = false;
  if (a.kind === "infinite") return packInfinity(format, a.negative);
  if (a.kind === "zero") return packZero(format, a.negative);
  const limit = 2 ** (format.exponentBits + 2);
  const large = b.exponent + bitLength(b.significand) > format.exponentBits + 2;
  let amount = 0;
  if (large) amount = limit;
  else if (b.kind === "finite") {
    amount = Number(roundShift(b.significand, -b.exponent, false, false, ROUND_TO_ZERO).value);
  }
  const bits = packExact(context, format, a.negative, a.exponent + (b.negative ? -amount : amount), a.significand);
  const magnitude = bits & format.magnitudeMask;
  // Nothing is left of a trapped result that not even a wrapped exponent can hold: x87 calls that inexact.
  if (magnitude === 0n || magnitude === packInfinity(format, false)) context.flags |= FLAG_INEXACT;
  return bits;
}

/** Splits a into its exponent (as a number) and its significand in [1, 2) (x87 FXTRACT). */
export function extractValue(
  context: FloatContext,
  format: FloatFormat,
  a: Unpacked,
): { exponent: bigint; significand: bigint } {
  const special = specialOperands(context, format, a);
  if (special !== undefined) return { exponent: special, significand: special };
  context.roundedUp = false;
  if (a.kind === "infinite") {
    return { exponent: packInfinity(format, false), significand: packInfinity(format, a.negative) };
  }
  if (a.kind === "zero") {
    context.flags |= FLAG_DIVIDE_BY_ZERO;
    return { exponent: packInfinity(format, true), significand: packZero(format, a.negative) };
  }
  if (a.denormal) context.flags |= FLAG_DENORMAL;
  const length = bitLength(a.significand);
  const power = a.exponent + length - 1;
  const exact = { ...context, precision: 0 };
  const exponent = power === 0 ? 0n : roundPack(exact, format, power < 0, 0, BigInt(Math.abs(power)));
  const significand = roundPack(exact, format, a.negative, 1 - length, a.significand);
  return { exponent, significand };
}

type Binary = (context: FloatContext, format: FloatFormat, a: bigint, b: bigint) => bigint;

/** a + b on raw bits. */
export const add: Binary = (context, format, a, b) =>
  addValues(context, format, unpack(format, a, context.daz), unpack(format, b, context.daz));

/** a - b on raw bits. */
export const sub: Binary = (context, format, a, b) =>
  addValues(context, format, unpack(format, a, context.daz), unpack(format, b, context.daz), true);

/** a * b on raw bits. */
export const mul: Binary = (context, format, a, b) =>
  mulValues(context, format, unpack(format, a, context.daz), unpack(format, b, context.daz));

/** a / b on raw bits. */
export const div: Binary = (context, format, a, b) =>
  divValues(context, format, unpack(format, a, context.daz), unpack(format, b, context.daz));

/** Square root on raw bits. */
export function sqrt(context: FloatContext, format: FloatFormat, a: bigint): bigint {
  return sqrtValue(context, format, unpack(format, a, context.daz));
}

/** a * b + c on raw bits, rounded once. */
export function fma(context: FloatContext, format: FloatFormat, a: bigint, b: bigint, c: bigint): bigint {
  const { daz } = context;
  return fmaValues(context, format, unpack(format, a, daz), unpack(format, b, daz), unpack(format, c, daz));
}

/** a rem b on raw bits; see remValues. */
export function rem(
  context: FloatContext,
  format: FloatFormat,
  a: bigint,
  b: bigint,
  nearest: boolean,
  step?: PartialStep,
): Remainder {
  const { daz } = context;
  return remValues(context, format, unpack(format, a, daz), unpack(format, b, daz), nearest, step);
}
