/**
 * Packed decimal: the 80-bit operand of FBLD and FBSTP. 18 digits in 9 bytes, least significant first, and a byte whose
 * top bit is the sign (SDM vol. 1, 4.7). Digits above 9 on load are undefined by the architecture: each nibble counts
 * as its value, as processors do.
 */

import { fromInteger, toIntegerValue } from "./convert.ts";
import { F80, FLAG_INEXACT, FLAG_INVALID, type FloatContext, packZero, type Unpacked } from "./format.ts";

/** What FBSTP stores for an invalid operand. */
export const BCD_INDEFINITE = 0xffff_c000_0000_0000_0000n;
const LIMIT = 10n ** 18n;

/** An 80-bit packed decimal as an f80; exact. */
export function bcdToFloat(bcd: bigint): bigint {
  let value = 0n;
  for (let digit = 17n; digit >= 0n; digit--) value = value * 10n + ((bcd >> (digit * 4n)) & 15n);
  const negative = ((bcd >> 79n) & 1n) === 1n;
  if (value === 0n) return packZero(F80, negative);
  const scratch: FloatContext = {
    rounding: 0,
    flags: 0,
    unmasked: 0,
    daz: false,
    ftz: false,
    precision: 0,
    nan: "x87",
    tininessBeforeRounding: false,
    roundedUp: false,
  };
  return fromInteger(scratch, F80, negative ? -value : value);
}

/** An f80 rounded to an integer and packed; the indefinite with invalid when it has more than 18 digits. */
export function floatToBcd(context: FloatContext, a: Unpacked): bigint {
  const before = context.flags;
  context.flags &= ~(FLAG_INVALID | FLAG_INEXACT);
  let value = toIntegerValue(context, a, { width: 64, signed: true, rule: "indefinite" });
  const out = (context.flags & FLAG_INVALID) !== 0 || value >= LIMIT || value <= -LIMIT;
  if (out) {
    context.flags = before | FLAG_INVALID;
    context.roundedUp = false;
    return BCD_INDEFINITE;
  }
  context.flags |= before;
  if (value < 0n) value = -value;
  let bcd = a.negative ? 1n << 79n : 0n;
  for (let shift = 0n; value !== 0n; shift += 4n) {
    bcd |= (value % 10n) << shift;
    value /= 10n;
  }
  return bcd;
}
