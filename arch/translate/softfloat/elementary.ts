/**
 * The transcendental instructions of x87, in fixed point on bigints.
 *
 * Each computes some 200 correct bits and rounds once (precision control does not apply), so the result is the
 * correctly rounded one but for astronomically rare ties: well within the 1 ulp that processors promise.
 *
 * Pi: like the processors (SDM vol. 1, 8.3.8) FSIN, FCOS, FSINCOS and FPTAN reduce their argument by a pi of 66 bits,
 * so results near multiples of pi are x87's and not the mathematical ones. FPATAN's pi is exact to all the bits that
 * a result has.
 *
 * Functions take unpacked operands that are neither NaN nor unsupported where said so; the x87 unit deals with stack
 * faults. A result that is not exact always raises inexact, underflow where tiny.
 */
import {
  bitLength,
  FLAG_DIVIDE_BY_ZERO,
  FLAG_INEXACT,
  type FloatContext,
  type FloatFormat,
  integerSqrt,
  packInfinity,
  packZero,
  type Unpacked,
} from "./format.ts";
import { invalid, noteDenormal, packExact, roundPack, specialOperands } from "./round.ts";

/** Fraction bits of the constants below. */
const WORK = 256;

/** A positive number significand * 2^exponent, some 200 bits of it. */
interface Wide {
  readonly significand: bigint;
  readonly exponent: number;
}

/** atanh(1/n) * 2^bits. */
function atanhInverse(n: bigint, bits: number): bigint {
  let power = (1n << BigInt(bits)) / n;
  let total = power;
  for (let k = 3n; power !== 0n; k += 2n) {
    power /= n * n;
    total += power / k;
  }
  return total;
}

/** atan(1/n) * 2^bits. */
function atanInverse(n: bigint, bits: number): bigint {
  let power = (1n << BigInt(bits)) / n;
  let total = power;
  for (let k = 3n, sign = -1n; power !== 0n; k += 2n, sign = -sign) {
    power /= n * n;
    total += (sign * power) / k;
  }
  return total;
}

const GUARD = 32;
/** ln 2 = 18 atanh(1/26) - 2 atanh(1/4801) + 8 atanh(1/8749). */
const LN2 =
  (18n * atanhInverse(26n, WORK + GUARD) -
    2n * atanhInverse(4801n, WORK + GUARD) +
    8n * atanhInverse(8749n, WORK + GUARD)) >>
  BigInt(GUARD);
/** pi = 16 atan(1/5) - 4 atan(1/239) (Machin). */
const PI = (16n * atanInverse(5n, WORK + GUARD) - 4n * atanInverse(239n, WORK + GUARD)) >> BigInt(GUARD);

/** x87's pi: 0.C90FDAA22168C234C (hexadecimal) * 4; here times 2^66. */
const PI_66 = 0xc90f_daa2_2168_c234_cn;
const PI_66_FRACTION = 66;

/** Below this exponent a first-order answer has more than enough bits. */
const TINY = -140;

function topExponent(a: Unpacked): number {
  return a.exponent + bitLength(a.significand) - 1;
}

/** a * 2^bits as an integer, cut. */
function fixed(a: Unpacked, bits: number): bigint {
  const shift = a.exponent + bits;
  return shift >= 0 ? a.significand << BigInt(shift) : a.significand >> BigInt(-shift);
}

/** Rounds an approximation: what lies below is unknown but not zero. */
function packInexact(context: FloatContext, format: FloatFormat, negative: boolean, value: Wide): bigint {
  const bits = packExact(context, format, negative, value.exponent, value.significand, true);
  context.flags |= FLAG_INEXACT;
  return bits;
}

/** An approximation that is below (or above) a by a relative 2^-150 or so. */
function beside(significand: bigint, exponent: number, below: boolean): Wide {
  const wide = significand << 150n;
  return { significand: below ? wide - 1n : wide, exponent: exponent - 150 };
}

/** 2^x - 1 for x in [-1, 1]; what lies outside is undefined by the architecture, here it is returned as it is. */
export function f2xm1(context: FloatContext, format: FloatFormat, x: Unpacked): bigint {
  const special = specialOperands(context, format, x);
  if (special !== undefined) return special;
  context.roundedUp = false;
  if (x.kind === "infinite") return x.negative ? packMinusOne(context, format) : packInfinity(format, false);
  if (x.kind === "zero") return packZero(format, x.negative);
  noteDenormal(context, x);
  const top = topExponent(x);
  if (top >= 0) {
    if (top === 0 && x.significand === 1n << BigInt(-x.exponent)) {
      const half = x.negative ? -1 : 0;
      return roundPack(context, format, x.negative, half, 1n);
    }
    return packExact(context, format, x.negative, x.exponent, x.significand);
  }
  if (top < TINY) {
    // x ln2 (1 + x ln2 / 2): above x ln2 for positive x, nearer to zero for negative x.
    return packInexact(context, format, x.negative, beside(x.significand * LN2, x.exponent - WORK, x.negative));
  }
  const bits = WORK - top;
  const scale = BigInt(bits);
  const y = (fixed(x, bits) * LN2) >> BigInt(WORK);
  const signed = x.negative ? -y : y;
  let term = signed;
  let total = signed;
  for (let k = 2n; term !== 0n && term !== -1n; k++) {
    term = ((term * signed) >> scale) / k;
    total += term;
  }
  return packInexact(context, format, x.negative, { significand: total < 0n ? -total : total, exponent: -bits });
}

function packMinusOne(context: FloatContext, format: FloatFormat): bigint {
  return roundPack(context, format, true, 0, 1n);
}

/** 2 atanh(n / d) / ln 2 * 2^bits for |n/d| < 1/2, with its sign. */
function log2Ratio(n: bigint, d: bigint, bits: number): bigint {
  const guarded = bits + GUARD;
  const scale = BigInt(guarded);
  const z = (n << scale) / d;
  const square = (z * z) >> scale;
  let power = z;
  let total = z;
  for (let k = 3n; power !== 0n && power !== -1n; k += 2n) {
    power = (power * square) >> scale;
    total += power / k;
  }
  return (((total * 2n) << BigInt(WORK)) / LN2) >> BigInt(GUARD);
}

/** y * log (not zero, with its sign) rounded once. */
function packProduct(
  context: FloatContext,
  format: FloatFormat,
  y: Unpacked,
  log: bigint,
  exponent: number,
  exact: boolean,
): bigint {
  const negative = y.negative !== log < 0n;
  const significand = y.significand * (log < 0n ? -log : log);
  if (!exact) return packInexact(context, format, negative, { significand, exponent: y.exponent + exponent });
  return packExact(context, format, negative, y.exponent + exponent, significand);
}

/** y * log2(x) (x87 FYL2X: x is ST0, y is ST1). */
export function fyl2x(context: FloatContext, format: FloatFormat, x: Unpacked, y: Unpacked): bigint {
  const special = specialOperands(context, format, x, y);
  if (special !== undefined) return special;
  context.roundedUp = false;
  if (x.kind === "zero") {
    if (y.kind === "zero") return invalid(context, format);
    if (y.kind === "infinite") return packInfinity(format, !y.negative);
    context.flags |= FLAG_DIVIDE_BY_ZERO;
    return packInfinity(format, !y.negative);
  }
  if (x.negative) return invalid(context, format);
  if (x.kind === "infinite") {
    if (y.kind === "zero") return invalid(context, format);
    noteDenormal(context, y);
    return packInfinity(format, y.negative);
  }
  const top = topExponent(x);
  const power = x.significand === 1n << BigInt(top - x.exponent);
  if (y.kind === "infinite") {
    if (power && top === 0) return invalid(context, format);
    noteDenormal(context, x);
    return packInfinity(format, y.negative !== top < 0);
  }
  noteDenormal(context, x, y);
  if (y.kind === "zero") {
    const logNegative = top < 0;
    return packZero(format, y.negative !== logNegative);
  }
  if (power) {
    if (top === 0) return packZero(format, y.negative);
    // Exact, or rounded once; processors call it inexact in any case.
    context.flags |= FLAG_INEXACT;
    return packProduct(context, format, y, BigInt(top), 0, true);
  }
  // x = m * 2^k with m in [0.7, 1.42): the logarithms of m and 2^k never cancel.
  let m = x.significand;
  let one = 1n << BigInt(top - x.exponent);
  let k = top;
  if (m * m > one * one * 2n) {
    one <<= 1n;
    k++;
  }
  m -= one;
  // |m - 1| is 2^-64 at least (a significand has 64 bits): 64 more bits keep the relative precision.
  const bits = WORK + 64;
  const log = (BigInt(k) << BigInt(bits)) + log2Ratio(m, m + 2n * one, bits);
  return packProduct(context, format, y, log, -bits, false);
}

/**
 * y * log2(x + 1) (x87 FYL2XP1: x is ST0, y is ST1). The architecture defines it for |x| < 1 - sqrt(1/2); beyond that
 * it is computed all the same, and invalid for x <= -1.
 */
export function fyl2xp1(context: FloatContext, format: FloatFormat, x: Unpacked, y: Unpacked): bigint {
  const special = specialOperands(context, format, x, y);
  if (special !== undefined) return special;
  context.roundedUp = false;
  if (x.kind === "infinite") {
    if (x.negative || y.kind === "zero") return invalid(context, format);
    noteDenormal(context, y);
    return packInfinity(format, y.negative);
  }
  if (x.kind === "zero") {
    if (y.kind === "infinite") return invalid(context, format);
    noteDenormal(context, y);
    return packZero(format, x.negative !== y.negative);
  }
  if (y.kind === "infinite") {
    noteDenormal(context, x);
    return packInfinity(format, x.negative !== y.negative);
  }
  const top = topExponent(x);
  if (x.negative && top >= 0) return invalid(context, format);
  noteDenormal(context, x, y);
  if (y.kind === "zero") return packZero(format, x.negative !== y.negative);
  if (top < TINY) {
    // log2(1 + x) = x / ln 2 * (1 - x / 2 ...): below for positive x, larger in magnitude for negative x.
    const inverse = (1n << BigInt(2 * WORK)) / LN2;
    const wide = beside(y.significand * x.significand * inverse, y.exponent + x.exponent - WORK, !x.negative);
    return packInexact(context, format, x.negative !== y.negative, wide);
  }
  if (top > 200) return packProduct(context, format, y, log2Large(x, WORK), -WORK, false);
  const bits = WORK + Math.max(0, -top);
  const shift = Math.max(0, -x.exponent);
  const one = 1n << BigInt(shift);
  const magnitude = x.exponent > 0 ? x.significand << BigInt(x.exponent) : x.significand;
  const m = one + (x.negative ? -magnitude : magnitude);
  let unit = one;
  let k = 0;
  while (m * m > unit * unit * 2n) {
    unit <<= 1n;
    k++;
  }
  let scaled = m;
  while (scaled * scaled * 2n < unit * unit) {
    scaled <<= 1n;
    k--;
  }
  const log = (BigInt(k) << BigInt(bits)) + log2Ratio(scaled - unit, scaled + unit, bits);
  const exact = scaled === unit;
  return packProduct(context, format, y, log, -bits, exact);
}

/** log2 of a number so large that adding one does not matter. */
function log2Large(x: Unpacked, bits: number): bigint {
  const top = topExponent(x);
  const one = 1n << BigInt(bitLength(x.significand) - 1);
  return (BigInt(top) << BigInt(bits)) + log2Ratio(x.significand - one, x.significand + one, bits);
}

/** atan(t / 2^bits) * 2^bits for 0 <= t <= 2^bits. */
function atanFixed(t: bigint, bits: number): bigint {
  const scale = BigInt(bits);
  const one = 1n << scale;
  let z = t;
  let halvings = 0n;
  for (; halvings < 4n; halvings++) {
    const root = integerSqrt(one * one + z * z);
    z = (z << scale) / (one + root);
  }
  const square = (z * z) >> scale;
  let power = z;
  let total = z;
  for (let k = 3n, sign = -1n; power !== 0n; k += 2n, sign = -sign) {
    power = (power * square) >> scale;
    total += (sign * power) / k;
  }
  return total << halvings;
}

/** atan2(y, x) (x87 FPATAN: y is ST1, x is ST0); defined for all operands (SDM, FPATAN, table 3-30). */
export function fpatan(context: FloatContext, format: FloatFormat, x: Unpacked, y: Unpacked): bigint {
  const special = specialOperands(context, format, x, y);
  if (special !== undefined) return special;
  noteDenormal(context, x, y);
  context.roundedUp = false;
  const { negative } = y;
  const angle = (quarters: bigint): bigint =>
    packInexact(context, format, negative, { significand: PI * quarters, exponent: -WORK - 2 });
  if (y.kind === "infinite") {
    if (x.kind === "infinite") return angle(x.negative ? 3n : 1n);
    return angle(2n);
  }
  if (y.kind === "zero") return x.negative ? angle(4n) : packZero(format, negative);
  if (x.kind === "infinite") return x.negative ? angle(4n) : packZero(format, negative);
  if (x.kind === "zero") return angle(2n);
  const gap = topExponent(y) - topExponent(x);
  if (gap > -TINY) {
    // pi/2 - x/y: x/y is far below the last bit.
    return packInexact(context, format, negative, beside(PI, -WORK - 1, !x.negative));
  }
  if (gap < TINY) {
    if (x.negative) return packInexact(context, format, negative, beside(PI, -WORK, true));
    const shift = 200 + bitLength(x.significand);
    const dividend = y.significand << BigInt(shift);
    const quotient = dividend / x.significand;
    const exponent = y.exponent - x.exponent - shift;
    return packInexact(context, format, negative, beside(quotient, exponent, true));
  }
  const bits = WORK + Math.max(0, Math.abs(gap));
  const shift = bits + y.exponent - x.exponent;
  const flip = compareProducts(y, x) > 0;
  const [n, d] = flip ? [x, y] : [y, x];
  const ratioShift = flip ? bits + x.exponent - y.exponent : shift;
  const t =
    ratioShift >= 0
      ? (n.significand << BigInt(ratioShift)) / d.significand
      : n.significand / (d.significand << BigInt(-ratioShift));
  const pi = PI << BigInt(bits - WORK);
  let result = atanFixed(t, bits);
  if (flip) result = x.negative ? (pi >> 1n) + result : (pi >> 1n) - result;
  else if (x.negative) result = pi - result;
  return packInexact(context, format, negative, { significand: result, exponent: -bits });
}

/** Sign of |a| - |b|. */
function compareProducts(a: Unpacked, b: Unpacked): number {
  const exponent = Math.min(a.exponent, b.exponent);
  const left = a.significand << BigInt(a.exponent - exponent);
  const right = b.significand << BigInt(b.exponent - exponent);
  return left === right ? 0 : left < right ? -1 : 1;
}

/** Sine and cosine of an angle with |x| < 2^63: magnitudes with signs, unrounded. */
interface Circle {
  readonly sine: Wide;
  readonly cosine: Wide;
  readonly sineNegative: boolean;
  readonly cosineNegative: boolean;
}

function circle(x: Unpacked): Circle {
  // r = |x| - n * pi/2, exact: both are dyadic.
  const fraction = Math.max(PI_66_FRACTION + 1, -x.exponent);
  const magnitude = x.significand << BigInt(x.exponent + fraction);
  const halfPi = PI_66 << BigInt(fraction - PI_66_FRACTION - 1);
  const n = (magnitude * 2n + halfPi) / (halfPi * 2n);
  const r = magnitude - n * halfPi;
  const negative = r < 0n;
  const reduced: Unpacked = {
    kind: "finite",
    negative,
    exponent: -fraction,
    significand: negative ? -r : r,
    denormal: false,
  };
  const { sine, cosine } = sineCosine(reduced);
  const quadrant = Number(n & 3n);
  const odd = (quadrant & 1) === 1;
  // sin(r + n pi/2), cos(r + n pi/2) for n = 0..3: (s, c) (c, -s) (-s, -c) (-c, s).
  const sineSign = quadrant >= 2 !== (odd ? false : negative);
  const cosineSign = (quadrant === 1 || quadrant === 2) !== (odd ? negative : false);
  return {
    sine: odd ? cosine : sine,
    cosine: odd ? sine : cosine,
    sineNegative: sineSign !== x.negative,
    cosineNegative: cosineSign,
  };
}

/** Taylor series for |r| <= pi/4, to some 200 bits of each; r's sign is not used. */
function sineCosine(r: Unpacked): { sine: Wide; cosine: Wide } {
  const top = topExponent(r);
  if (top < TINY / 2 - 10) {
    return { sine: beside(r.significand, r.exponent, true), cosine: beside(1n, 0, true) };
  }
  const bits = WORK - top;
  const scale = BigInt(bits);
  const one = 1n << scale;
  const x = fixed(r, bits);
  const square = (x * x) >> scale;
  let sine = x;
  let cosine = one;
  let sineTerm = x;
  let cosineTerm = one;
  for (let k = 1n; sineTerm !== 0n || cosineTerm !== 0n; k += 2n) {
    cosineTerm = ((cosineTerm * square) >> scale) / (k * (k + 1n));
    sineTerm = ((sineTerm * square) >> scale) / ((k + 1n) * (k + 2n));
    const subtract = (k & 2n) === 0n;
    cosine += subtract ? -cosineTerm : cosineTerm;
    sine += subtract ? -sineTerm : sineTerm;
  }
  return { sine: { significand: sine, exponent: -bits }, cosine: { significand: cosine, exponent: -bits } };
}

/** Whether an operand is beyond what FSIN, FCOS, FSINCOS and FPTAN reduce: they set C2 and change nothing. */
export function outOfCircle(x: Unpacked): boolean {
  return x.kind === "finite" && topExponent(x) >= 63;
}

/** sin(x) for an operand that is not outOfCircle. */
export function fsin(context: FloatContext, format: FloatFormat, x: Unpacked): bigint {
  const special = specialOperands(context, format, x);
  if (special !== undefined) return special;
  if (x.kind === "infinite") return invalid(context, format);
  context.roundedUp = false;
  if (x.kind === "zero") return packZero(format, x.negative);
  noteDenormal(context, x);
  const { sine, sineNegative } = circle(x);
  return packInexact(context, format, sineNegative, sine);
}

/** cos(x) for an operand that is not outOfCircle. */
export function fcos(context: FloatContext, format: FloatFormat, x: Unpacked): bigint {
  const special = specialOperands(context, format, x);
  if (special !== undefined) return special;
  if (x.kind === "infinite") return invalid(context, format);
  context.roundedUp = false;
  if (x.kind === "zero") return roundPack(context, format, false, 0, 1n);
  noteDenormal(context, x);
  const { cosine, cosineNegative } = circle(x);
  return packInexact(context, format, cosineNegative, cosine);
}

/** tan(x) for an operand that is not outOfCircle. */
export function fptan(context: FloatContext, format: FloatFormat, x: Unpacked): bigint {
  const special = specialOperands(context, format, x);
  if (special !== undefined) return special;
  if (x.kind === "infinite") return invalid(context, format);
  context.roundedUp = false;
  if (x.kind === "zero") return packZero(format, x.negative);
  noteDenormal(context, x);
  const { sine, cosine, sineNegative, cosineNegative } = circle(x);
  const negative = sineNegative !== cosineNegative;
  if (topExponent(x) < TINY / 2 - 10) {
    // tan x is above x.
    return packInexact(context, format, negative, beside(x.significand, x.exponent, false));
  }
  const shift = 220 + Math.max(0, bitLength(cosine.significand) - bitLength(sine.significand));
  const quotient = (sine.significand << BigInt(shift)) / cosine.significand;
  return packInexact(context, format, negative, {
    significand: quotient,
    exponent: sine.exponent - cosine.exponent - shift,
  });
}
