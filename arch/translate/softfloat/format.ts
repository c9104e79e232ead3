/**
 * Binary floating-point formats, the environment an operation runs in, and how raw bits become a number.
 *
 * A value is raw bits in a bigint; a format says where its sign, exponent and significand are. Every operation
 * takes a FloatContext: what goes in is rounding, precision, DAZ/FTZ, the NaN rule; what comes out is sticky `flags`
 * and `roundedUp`. Operations are exact on unpacked numbers and round once, in round.ts.
 *
 * Invariants: an unpacked finite number is exactly (-1)^negative * significand * 2^exponent; the significand of an
 * unpacked NaN is aligned to 64 bits with the integer bit at bit 63, whatever format it came from, so that payloads
 * of different formats compare and convert without a special case.
 */

/** Sticky exception flags; the bit positions are those of MXCSR and of the x87 status word (SDM vol. 1, 8.1.3, 10.2.3). */
export const FLAG_INVALID = 1;
export const FLAG_DENORMAL = 2;
export const FLAG_DIVIDE_BY_ZERO = 4;
export const FLAG_OVERFLOW = 8;
export const FLAG_UNDERFLOW = 16;
export const FLAG_INEXACT = 32;

/** Rounding modes; not in the order of the x86 RC field, which X86_ROUNDING translates. */
export const ROUND_NEAREST_EVEN = 0;
export const ROUND_TO_ZERO = 1;
export const ROUND_DOWN = 2;
export const ROUND_UP = 3;
/** To nearest, ties away from zero (RISC-V RMM). */
export const ROUND_NEAREST_AWAY = 4;
export type Rounding = 0 | 1 | 2 | 3 | 4;

/** x86 RC field (00 nearest, 01 down, 10 up, 11 to zero; SDM vol. 1, table 4-8) to a rounding mode. */
export const X86_ROUNDING: readonly Rounding[] = [ROUND_NEAREST_EVEN, ROUND_DOWN, ROUND_UP, ROUND_TO_ZERO];

/**
 * What an operation with NaN operands returns.
 * - `sse`: the first operand that is a NaN, quieted; the default NaN is negative (SDM vol. 1, table 4-7).
 * - `x87`: a quiet operand before a signaling one, else the larger significand, quieted; the default NaN is negative.
 * - `canonical`: always the positive quiet NaN without payload (RISC-V unprivileged, 11.3).
 */
export type NanRule = "sse" | "x87" | "canonical";

/** The environment of operations: inputs, and the flags they raise. */
export interface FloatContext {
  rounding: Rounding;
  /** Sticky exception flags; operations only set bits. */
  flags: number;
  /**
   * Exceptions whose trap is enabled, same bits as `flags`. An enabled underflow is raised for exact tiny results
   * too, and an enabled overflow or underflow delivers the result with its exponent wrapped by 3 * 2^(exponentBits-2)
   * (IEEE 754-1985 section 7; what x87 leaves in a register).
   */
  unmasked: number;
  /** Denormal operands are zeros and raise no flag (MXCSR.DAZ). */
  daz: boolean;
  /** A tiny result is a zero, with underflow and inexact, while underflow is not unmasked (MXCSR.FTZ). */
  ftz: boolean;
  /** Significant bits that results are rounded to: 24, 53, 64 (x87 PC), or 0 for all that the format has. */
  precision: number;
  nan: NanRule;
  /** Whether tininess is detected before rounding (as ARM does); x86 and RISC-V detect it after. */
  tininessBeforeRounding: boolean;
  /** Set by every rounding: the last result is larger in magnitude than the exact one (x87 C1). */
  roundedUp: boolean;
}

/** A context with everything masked, round to nearest even, and x86's SSE rules; override what differs. */
export function floatContext(overrides: Partial<FloatContext> = {}): FloatContext {
  return {
    rounding: ROUND_NEAREST_EVEN,
    flags: 0,
    unmasked: 0,
    daz: false,
    ftz: false,
    precision: 0,
    nan: "sse",
    tininessBeforeRounding: false,
    roundedUp: false,
    ...overrides,
  };
}

/** Where a format keeps what. Make one with `defineFormat`. */
export interface FloatFormat {
  readonly name: string;
  readonly exponentBits: number;
  /** Bits of the fraction, without the integer bit. */
  readonly fractionBits: number;
  /** The integer bit is stored (x87 double-extended). */
  readonly explicitInteger: boolean;
  /** Bits of a value as stored. */
  readonly bits: number;
  /** Significant bits of a normal number. */
  readonly precision: number;
  readonly bias: number;
  /** Exponent of 2 of the smallest and the largest normal number's leading bit. */
  readonly minExponent: number;
  readonly maxExponent: number;
  /** The all-ones exponent field. */
  readonly specialExponent: number;
  /** Position of the exponent field, and masks in place. */
  readonly exponentShift: bigint;
  readonly signShift: bigint;
  readonly signMask: bigint;
  readonly magnitudeMask: bigint;
  readonly significandMask: bigint;
  readonly fractionMask: bigint;
  /** Shift that aligns the fraction's top bit to bit 62, as in a 64-bit significand. */
  readonly payloadShift: bigint;
}

/** Describes a format from its three parameters. Fractions of more than 63 bits are not supported. */
export function defineFormat(
  name: string,
  exponentBits: number,
  fractionBits: number,
  explicitInteger: boolean,
): FloatFormat {
  if (fractionBits > 63) throw new RangeError(`format ${name}: a fraction of ${fractionBits} bits is more than 63`);
  const stored = fractionBits + (explicitInteger ? 1 : 0);
  const bias = 2 ** (exponentBits - 1) - 1;
  const signShift = BigInt(stored + exponentBits);
  return {
    name,
    exponentBits,
    fractionBits,
    explicitInteger,
    bits: stored + exponentBits + 1,
    precision: fractionBits + 1,
    bias,
    minExponent: 1 - bias,
    maxExponent: bias,
    specialExponent: 2 ** exponentBits - 1,
    exponentShift: BigInt(stored),
    signShift,
    signMask: 1n << signShift,
    magnitudeMask: (1n << signShift) - 1n,
    significandMask: (1n << BigInt(stored)) - 1n,
    fractionMask: (1n << BigInt(fractionBits)) - 1n,
    payloadShift: BigInt(63 - fractionBits),
  };
}

/** IEEE 754 binary32, binary64, and the x87 double-extended format. */
export const F32 = defineFormat("f32", 8, 23, false);
export const F64 = defineFormat("f64", 11, 52, false);
export const F80 = defineFormat("f80", 15, 63, true);

export const INTEGER_BIT = 1n << 63n;
export const QUIET_BIT = 1n << 62n;

/** What an unpacked value is. `unsupported`: an x87 encoding that is no number (SDM vol. 1, table 8-3). */
export type FloatKind = "zero" | "finite" | "infinite" | "quiet" | "signaling" | "unsupported";

/** A value taken apart. */
export interface Unpacked {
  readonly kind: FloatKind;
  readonly negative: boolean;
  /** Finite: value = significand * 2^exponent. */
  readonly exponent: number;
  /** Finite: non-zero integer. NaN: the payload aligned to 64 bits, quiet bit at 62. */
  readonly significand: bigint;
  /** A finite operand in a denormal encoding (x87 pseudo-denormals too). */
  readonly denormal: boolean;
}

/** Takes a value apart; `daz` turns denormals into zeros. Total: every bit pattern has an answer. */
export function unpack(format: FloatFormat, bits: bigint, daz = false): Unpacked {
  const negative = (bits & format.signMask) !== 0n;
  const field = Number((bits & format.magnitudeMask) >> format.exponentShift);
  const stored = bits & format.significandMask;
  const fraction = bits & format.fractionMask;
  if (format.explicitInteger && field !== 0 && stored === fraction) {
    return { kind: "unsupported", negative, exponent: 0, significand: stored, denormal: false };
  }
  if (field === format.specialExponent) {
    if (fraction === 0n) return { kind: "infinite", negative, exponent: 0, significand: 0n, denormal: false };
    const significand = INTEGER_BIT | (fraction << format.payloadShift);
    const kind = significand & QUIET_BIT ? "quiet" : "signaling";
    return { kind, negative, exponent: 0, significand, denormal: false };
  }
  if (field === 0) {
    if (stored === 0n || daz) return { kind: "zero", negative, exponent: 0, significand: 0n, denormal: false };
    const exponent = format.minExponent - format.fractionBits;
    return { kind: "finite", negative, exponent, significand: stored, denormal: true };
  }
  const significand = format.explicitInteger ? stored : fraction | (1n << BigInt(format.fractionBits));
  return {
    kind: "finite",
    negative,
    exponent: field - format.bias - format.fractionBits,
    significand,
    denormal: false,
  };
}

/** Takes an integer apart as if it were a number of infinite range. */
export function unpackInteger(value: bigint): Unpacked {
  const negative = value < 0n;
  return {
    kind: value === 0n ? "zero" : "finite",
    negative,
    exponent: 0,
    significand: negative ? -value : value,
    denormal: false,
  };
}

export function packZero(format: FloatFormat, negative: boolean): bigint {
  return negative ? format.signMask : 0n;
}

export function packInfinity(format: FloatFormat, negative: boolean): bigint {
  return packFields(format, negative, format.specialExponent, INTEGER_BIT);
}

/** Packs an exponent field with a 64-bit aligned significand; bits below the format's fraction are dropped. */
export function packFields(format: FloatFormat, negative: boolean, field: number, significand: bigint): bigint {
  const stored = (significand >> format.payloadShift) & format.significandMask;
  return packZero(format, negative) | (BigInt(field) << format.exponentShift) | stored;
}

/** The NaN that an invalid operation returns under a rule: x86's is negative, the canonical one positive. */
export function defaultNan(format: FloatFormat, rule: NanRule): bigint {
  return packFields(format, rule !== "canonical", format.specialExponent, INTEGER_BIT | QUIET_BIT);
}

export function isNan(value: Unpacked): boolean {
  return value.kind === "quiet" || value.kind === "signaling";
}

/** Bits of a non-negative integer, 0 for 0. */
export function bitLength(value: bigint): number {
  if (value < 0x1_0000_0000n) return 32 - Math.clz32(Number(value));
  if (value < 0x1_0000_0000_0000_0000n) return 64 - Math.clz32(Number(value >> 32n));
  const digits = value.toString(16);
  return digits.length * 4 - Math.clz32(Number.parseInt(digits[0] ?? "0", 16)) + 28;
}

/** Largest integer whose square is not above `value`. */
export function integerSqrt(value: bigint): bigint {
  if (value < 2n) return value;
  let root = 1n << BigInt((bitLength(value) + 1) >> 1);
  for (;;) {
    const next = (root + value / root) >> 1n;
    if (next >= root) return root;
    root = next;
  }
}
