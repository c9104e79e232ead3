/**
 * Comparisons, minimum and maximum.
 *
 * Quiet comparisons raise invalid for signaling NaNs only, signaling ones for every NaN. Denormal operands are flagged
 * as x86 does; who has no such flag (RISC-V) drops it.
 */
import {
  bitLength,
  FLAG_INVALID,
  type FloatContext,
  type FloatFormat,
  isNan,
  type Unpacked,
  unpack,
} from "./format.ts";
import { noteDenormal, packNan } from "./round.ts";

/** Results of a comparison: a < b, a == b, a > b, or no order. */
export const LESS = -1;
export const EQUAL = 0;
export const GREATER = 1;
export const UNORDERED = 2;
export type Ordering = -1 | 0 | 1 | 2;

function compareMagnitude(a: Unpacked, b: Unpacked): number {
  const aTop = a.exponent + bitLength(a.significand);
  const bTop = b.exponent + bitLength(b.significand);
  if (aTop !== bTop) return aTop < bTop ? -1 : 1;
  const exponent = Math.min(a.exponent, b.exponent);
  const left = a.significand << BigInt(a.exponent - exponent);
  const right = b.significand << BigInt(b.exponent - exponent);
  return left === right ? 0 : left < right ? -1 : 1;
}

const RANK = { zero: 0, finite: 1, infinite: 2 } as const;

/** The order of two numbers, neither a NaN. */
function order(a: Unpacked, b: Unpacked): -1 | 0 | 1 {
  if (a.kind === "zero" && b.kind === "zero") return EQUAL;
  const aSign = a.kind === "zero" ? 0 : a.negative ? -1 : 1;
  const bSign = b.kind === "zero" ? 0 : b.negative ? -1 : 1;
  if (aSign !== bSign) return aSign < bSign ? LESS : GREATER;
  const ranks = RANK[a.kind as keyof typeof RANK] - RANK[b.kind as keyof typeof RANK];
  const magnitude = ranks !== 0 ? ranks : a.kind === "infinite" ? 0 : compareMagnitude(a, b);
  if (magnitude === 0) return EQUAL;
  return magnitude < 0 === aSign > 0 ? LESS : GREATER;
}

/** Compares unpacked values, of the same format or not. */
export function compareValues(context: FloatContext, a: Unpacked, b: Unpacked, signaling: boolean): Ordering {
  context.roundedUp = false;
  const unsupported = a.kind === "unsupported" || b.kind === "unsupported";
  if (unsupported || isNan(a) || isNan(b)) {
    if (signaling || unsupported || a.kind === "signaling" || b.kind === "signaling") context.flags |= FLAG_INVALID;
    return UNORDERED;
  }
  noteDenormal(context, a, b);
  return order(a, b);
}

/** Compares raw bits of one format. */
export function compare(
  context: FloatContext,
  format: FloatFormat,
  a: bigint,
  b: bigint,
  signaling: boolean,
): Ordering {
  return compareValues(context, unpack(format, a, context.daz), unpack(format, b, context.daz), signaling);
}

/**
 * How minimum and maximum treat what has no order.
 * - `x86`: the second operand, whenever one is a NaN (which is invalid) or both are zeros (SDM, MINSS).
 * - `number`: the operand that is a number, -0 below +0, the canonical NaN for two NaNs; invalid for a signaling NaN
 *   only (IEEE 754-2019 minimumNumber; RISC-V fmin, fmax).
 */
export type MinMaxRule = "x86" | "number";

function extremum(
  context: FloatContext,
  format: FloatFormat,
  aBits: bigint,
  bBits: bigint,
  rule: MinMaxRule,
  wanted: -1 | 1,
): bigint {
  const a = unpack(format, aBits, context.daz);
  const b = unpack(format, bBits, context.daz);
  const ordering = compareValues(context, a, b, rule === "x86");
  // A denormal that counts as zero is returned as one.
  const aResult = a.kind === "zero" ? aBits & format.signMask : aBits;
  const bResult = b.kind === "zero" ? bBits & format.signMask : bBits;
  if (ordering === wanted) return aResult;
  if (rule === "x86") return bResult;
  if (ordering === UNORDERED) {
    if (!isNan(a)) return aResult;
    return isNan(b) ? packNan({ ...context, nan: "canonical" }, format, b) : bResult;
  }
  if (ordering === EQUAL && a.negative === wanted < 0) return aResult;
  return bResult;
}

/** The smaller of two values under a rule. */
export function min(context: FloatContext, format: FloatFormat, a: bigint, b: bigint, rule: MinMaxRule): bigint {
  return extremum(context, format, a, b, rule, LESS);
}

/** The larger of two values under a rule. */
export function max(context: FloatContext, format: FloatFormat, a: bigint, b: bigint, rule: MinMaxRule): bigint {
  return extremum(context, format, a, b, rule, GREATER);
}
