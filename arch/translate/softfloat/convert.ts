/**
 * Conversions among formats, to and from integers, and rounding to an integral value.
 *
 * What an out-of-range conversion to an integer returns is a parameter: x86's `indefinite` (only the top bit set for
 * signed results, all ones for unsigned ones; SDM vol. 1, 4.2.3) or RISC-V's `saturate` (the nearest bound, the
 * largest for a NaN; unprivileged spec, table 11.5).
 */
import {
  bitLength,
  FLAG_INEXACT,
  FLAG_INVALID,
  type FloatContext,
  type FloatFormat,
  packInfinity,
  packZero,
  type Rounding,
  type Unpacked,
  unpack,
  unpackInteger,
} from "./format.ts";
import { noteDenormal, packNumber, roundPack, roundShift, specialOperands } from "./round.ts";

/** Rounds an unpacked value into a format. A denormal operand is flagged unless `denormal` is false (x87 stores). */
export function convertValue(context: FloatContext, format: FloatFormat, a: Unpacked, denormal = true): bigint {
  const special = specialOperands(context, format, a);
  if (special !== undefined) return special;
  context.roundedUp = false;
  if (a.kind === "infinite") return packInfinity(format, a.negative);
  if (denormal) noteDenormal(context, a);
  return packNumber(context, format, a);
}

/** Converts raw bits from one format to another. */
export function convert(context: FloatContext, from: FloatFormat, to: FloatFormat, bits: bigint): bigint {
  return convertValue(context, to, unpack(from, bits, context.daz));
}

/** An integer (of any size) as a value of a format. */
export function fromInteger(context: FloatContext, format: FloatFormat, value: bigint): bigint {
  return packNumber(context, format, unpackInteger(value));
}

export type IntegerRule = "indefinite" | "saturate";

/** The integer that a conversion aims at. */
export interface IntegerTarget {
  readonly width: number;
  readonly signed: boolean;
  readonly rule: IntegerRule;
}

/**
 * Converts to an integer, rounded by `rounding` (the context's unless given). The result is in the target's range,
 * negative for negative results. Raises invalid alone, or inexact alone; a denormal operand is not flagged.
 */
export function toIntegerValue(
  context: FloatContext,
  a: Unpacked,
  target: IntegerTarget,
  rounding: Rounding = context.rounding,
): bigint {
  context.roundedUp = false;
  const width = BigInt(target.width);
  const least = target.signed ? -(1n << (width - 1n)) : 0n;
  const most = target.signed ? -least - 1n : (1n << width) - 1n;
  if (a.kind === "zero") return 0n;
  if (a.kind === "finite" && a.exponent + bitLength(a.significand) <= target.width + 1) {
    const rounded = roundShift(a.significand, -a.exponent, false, a.negative, rounding);
    const value = a.negative ? -rounded.value : rounded.value;
    if (value >= least && value <= most) {
      if (rounded.inexact) context.flags |= FLAG_INEXACT;
      context.roundedUp = rounded.up;
      return value;
    }
  }
  context.flags |= FLAG_INVALID;
  if (target.rule === "indefinite") return target.signed ? least : most;
  return a.negative && (a.kind === "finite" || a.kind === "infinite") ? least : most;
}

/** Converts raw bits to an integer; see toIntegerValue. */
export function toInteger(
  context: FloatContext,
  format: FloatFormat,
  bits: bigint,
  target: IntegerTarget,
  rounding: Rounding = context.rounding,
): bigint {
  return toIntegerValue(context, unpack(format, bits, context.daz), target, rounding);
}

/**
 * Rounds to an integral value of the same format. `denormal` says whether a denormal operand is flagged (x87 FRNDINT
 * does, others do not), `exact` suppresses inexact.
 */
export function roundToIntegral(
  context: FloatContext,
  format: FloatFormat,
  bits: bigint,
  options: { readonly rounding?: Rounding; readonly denormal?: boolean; readonly exact?: boolean } = {},
): bigint {
  const a = unpack(format, bits, context.daz);
  const special = specialOperands(context, format, a);
  if (special !== undefined) return special;
  context.roundedUp = false;
  if (a.kind === "infinite") return bits;
  if (a.kind === "zero") return packZero(format, a.negative);
  if (options.denormal === true) noteDenormal(context, a);
  if (a.exponent >= 0) return bits;
  const rounded = roundShift(a.significand, -a.exponent, false, a.negative, options.rounding ?? context.rounding);
  const scratch: FloatContext = { ...context, precision: 0, flags: 0 };
  const result =
    rounded.value === 0n ? packZero(format, a.negative) : roundPack(scratch, format, a.negative, 0, rounded.value);
  if (rounded.inexact && options.exact !== true) context.flags |= FLAG_INEXACT;
  context.roundedUp = rounded.up;
  return result;
}
