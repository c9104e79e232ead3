/**
 * The one place where exact numbers become values of a format: rounding, overflow, underflow, and the NaN rules.
 *
 * `roundPack` gets an exact number (a significand of any length, plus a sticky bit for what lies below it) and is
 * called at most once in an operation, so no operation rounds twice.
 */
import {
  bitLength,
  defaultNan,
  FLAG_DENORMAL,
  FLAG_INEXACT,
  FLAG_INVALID,
  FLAG_OVERFLOW,
  FLAG_UNDERFLOW,
  type FloatContext,
  type FloatFormat,
  isNan,
  packFields,
  packInfinity,
  packZero,
  QUIET_BIT,
  ROUND_DOWN,
  ROUND_NEAREST_AWAY,
  ROUND_NEAREST_EVEN,
  ROUND_UP,
  type Rounding,
  type Unpacked,
} from "./format.ts";

/** A significand rounded to an integer. */
export interface Rounded {
  readonly value: bigint;
  readonly inexact: boolean;
  /** The rounded magnitude is above the exact one. */
  readonly up: boolean;
}

/** Rounds significand * 2^-shift (a negative shift is exact) to an integer; `sticky` says that something lies below. */
export function roundShift(
  significand: bigint,
  shift: number,
  sticky: boolean,
  negative: boolean,
  rounding: Rounding,
): Rounded {
  if (shift <= 0) {
    const value = significand << BigInt(-shift);
    if (!sticky) return { value, inexact: false, up: false };
    const up = rounding === ROUND_UP ? !negative : rounding === ROUND_DOWN ? negative : false;
    return { value: up ? value + 1n : value, inexact: true, up };
  }
  const places = BigInt(shift);
  const value = significand >> places;
  const rest = significand - (value << places);
  const half = 1n << (places - 1n);
  const inexact = rest !== 0n || sticky;
  let up = false;
  if (inexact) {
    const tie = rest === half && !sticky;
    if (rounding === ROUND_NEAREST_EVEN) up = tie ? (value & 1n) === 1n : rest >= half;
    else if (rounding === ROUND_NEAREST_AWAY) up = rest >= half;
    else if (rounding === ROUND_UP) up = !negative;
    else if (rounding === ROUND_DOWN) up = negative;
  }
  return { value: up ? value + 1n : value, inexact, up };
}

/**
 * Rounds (-1)^negative * (significand + sticky) * 2^exponent into a format; significand is not 0, and `sticky` stands
 * for a positive amount below its last bit. Raises overflow, underflow and inexact.
 * With `sticky` the significand must have at least two bits more than the result.
 */
export function roundPack(
  context: FloatContext,
  format: FloatFormat,
  negative: boolean,
  exponent: number,
  significand: bigint,
  sticky = false,
): bigint {
  const precision = context.precision !== 0 ? Math.min(context.precision, format.precision) : format.precision;
  const length = bitLength(significand);
  const unbounded = roundShift(significand, length - precision, sticky, negative, context.rounding);
  const carried = bitLength(unbounded.value) > precision;
  const before = exponent + length - 1;
  const leading = before + (carried ? 1 : 0);
  const tiny = (context.tininessBeforeRounding ? before : leading) < format.minExponent;
  if (!tiny && leading <= format.maxExponent) return deliver(context, format, negative, leading, unbounded);
  const wrap = 3 * 2 ** (format.exponentBits - 2);
  if (!tiny) {
    context.flags |= FLAG_OVERFLOW;
    if (context.unmasked & FLAG_OVERFLOW) {
      const wrapped = leading - wrap;
      if (wrapped <= format.maxExponent) return deliver(context, format, negative, wrapped, unbounded);
      // Beyond what wrapping can reach: FSCALE, and conversions to narrower formats.
      if (unbounded.inexact) context.flags |= FLAG_INEXACT;
      context.roundedUp = true;
      return packInfinity(format, negative);
    }
    context.flags |= FLAG_INEXACT;
    context.roundedUp = overflowsToInfinity(context.rounding, negative);
    if (context.roundedUp) return packInfinity(format, negative);
    const largest = ((1n << BigInt(precision)) - 1n) << BigInt(64 - precision);
    return packFields(format, negative, format.specialExponent - 1, largest);
  }
  if (context.unmasked & FLAG_UNDERFLOW) {
    context.flags |= FLAG_UNDERFLOW;
    const wrapped = leading + wrap;
    if (wrapped >= format.minExponent) return deliver(context, format, negative, wrapped, unbounded);
    if (unbounded.inexact) context.flags |= FLAG_INEXACT;
    context.roundedUp = false;
    return packZero(format, negative);
  }
  if (context.ftz) {
    context.flags |= FLAG_UNDERFLOW | FLAG_INEXACT;
    context.roundedUp = false;
    return packZero(format, negative);
  }
  const quantum = format.minExponent - (precision - 1);
  const denormal = roundShift(significand, quantum - exponent, sticky, negative, context.rounding);
  if (denormal.inexact) context.flags |= FLAG_UNDERFLOW | FLAG_INEXACT;
  context.roundedUp = denormal.up;
  // A denormal that rounds up to the smallest normal number carries into the exponent field by itself, except where
  // the integer bit is explicit.
  const aligned = denormal.value << BigInt(64 - precision);
  const field = denormal.value >> BigInt(precision - 1) ? 1 : 0;
  return packFields(format, negative, field, aligned);
}

function deliver(
  context: FloatContext,
  format: FloatFormat,
  negative: boolean,
  leading: number,
  rounded: Rounded,
): bigint {
  if (rounded.inexact) context.flags |= FLAG_INEXACT;
  context.roundedUp = rounded.up;
  const aligned = rounded.value << BigInt(64 - bitLength(rounded.value));
  return packFields(format, negative, leading + format.bias, aligned);
}

function overflowsToInfinity(rounding: Rounding, negative: boolean): boolean {
  if (rounding === ROUND_NEAREST_EVEN || rounding === ROUND_NEAREST_AWAY) return true;
  return rounding === (negative ? ROUND_DOWN : ROUND_UP);
}

/** Raises invalid and returns the default NaN. */
export function invalid(context: FloatContext, format: FloatFormat): bigint {
  context.flags |= FLAG_INVALID;
  context.roundedUp = false;
  return defaultNan(format, context.nan);
}

/** Packs a NaN's payload into a format, quieted; under the canonical rule, the default NaN. */
export function packNan(context: FloatContext, format: FloatFormat, value: Unpacked): bigint {
  context.roundedUp = false;
  if (context.nan === "canonical") return defaultNan(format, context.nan);
  return packFields(format, value.negative, format.specialExponent, value.significand | QUIET_BIT);
}

/**
 * The result when an operand is a NaN or unsupported, else undefined. Raises invalid for signaling and unsupported
 * operands.
 */
export function specialOperands(
  context: FloatContext,
  format: FloatFormat,
  a: Unpacked,
  b: Unpacked = a,
): bigint | undefined {
  if (a.kind === "unsupported" || b.kind === "unsupported") return invalid(context, format);
  const aNan = isNan(a);
  const bNan = isNan(b);
  if (!aNan && !bNan) return undefined;
  if (a.kind === "signaling" || b.kind === "signaling") context.flags |= FLAG_INVALID;
  return packNan(context, format, chooseNan(context, a, b, aNan, bNan));
}

function chooseNan(context: FloatContext, a: Unpacked, b: Unpacked, aNan: boolean, bNan: boolean): Unpacked {
  if (!bNan) return a;
  if (!aNan) return b;
  if (context.nan !== "x87") return a;
  if (a.kind !== b.kind) return a.kind === "quiet" ? a : b;
  if (a.significand !== b.significand) return a.significand > b.significand ? a : b;
  return a.negative ? b : a;
}

/** Raises denormal-operand when one of the operands is denormal. */
export function noteDenormal(context: FloatContext, a: Unpacked, b: Unpacked = a): void {
  if (a.denormal || b.denormal) context.flags |= FLAG_DENORMAL;
}

/** Rounds a number that is finite or zero into a format; an exact zero keeps its sign. */
export function packNumber(context: FloatContext, format: FloatFormat, value: Unpacked): bigint {
  context.roundedUp = false;
  if (value.kind === "zero") return packZero(format, value.negative);
  return roundPack(context, format, value.negative, value.exponent, value.significand);
}

/** roundPack to all the bits that the format has, whatever the precision control. */
export function packExact(
  context: FloatContext,
  format: FloatFormat,
  negative: boolean,
  exponent: number,
  significand: bigint,
  sticky = false,
): bigint {
  const { precision } = context;
  context.precision = 0;
  const bits = roundPack(context, format, negative, exponent, significand, sticky);
  context.precision = precision;
  return bits;
}
