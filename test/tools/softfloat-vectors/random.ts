/** Seeded random operands that reach the corners of floating-point formats. */
import type { FloatFormat } from "../../../arch/translate/softfloat/index.ts";

/** A small seeded generator (xorshift 32 on two words). */
export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = (seed ^ 0x9e3779b9) | 1;
    for (let i = 0; i < 8; i++) this.word();
  }

  /** 32 random bits. */
  word(): number {
    let x = this.#state;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.#state = x;
    return Math.imul(x, 0x2545f491) >>> 0;
  }

  /** An integer in [0, limit). */
  below(limit: number): number {
    return Math.floor((this.word() / 2 ** 32) * limit);
  }

  chance(oneIn: number): boolean {
    return this.below(oneIn) === 0;
  }

  bits(count: number): bigint {
    let value = 0n;
    for (let have = 0; have < count; have += 32) value = (value << 32n) | BigInt(this.word());
    return BigInt.asUintN(count, value);
  }

  pick<T>(values: readonly T[]): T {
    const value = values[this.below(values.length)];
    if (value === undefined) throw new Error("pick from nothing");
    return value;
  }
}

/** A significand with few bits set or clear, so that ties, carries and exact results happen. */
function sparse(random: Random, width: number): bigint {
  let value = random.chance(2) ? 0n : (1n << BigInt(width)) - 1n;
  for (let n = random.below(4); n > 0; n--) value ^= 1n << BigInt(random.below(width));
  if (random.chance(4)) value ^= (1n << BigInt(random.below(width) + 1)) - 1n;
  return BigInt.asUintN(width, value);
}

/** Raw bits from an exponent field and a fraction. */
export function compose(format: FloatFormat, negative: boolean, field: number, fraction: bigint): bigint {
  const integer = format.explicitInteger && field !== 0 ? 1n << 63n : 0n;
  return (negative ? format.signMask : 0n) | (BigInt(field) << format.exponentShift) | integer | fraction;
}

/** A random value; `near`, an exponent field, makes most values lie around it. */
export function randomFloat(random: Random, format: FloatFormat, near?: number): bigint {
  const negative = random.chance(2);
  const special = format.specialExponent;
  const fraction = random.chance(2) ? random.bits(format.fractionBits) : sparse(random, format.fractionBits);
  switch (random.below(16)) {
    case 0:
      return compose(format, negative, random.pick([0, special]), 0n);
    case 1:
      return compose(format, negative, special, fraction);
    case 2:
      return compose(format, negative, 0, fraction);
    case 3:
      return compose(format, negative, random.pick([1, 2, special - 1, special - 2]), fraction);
    case 4:
      return compose(format, negative, random.below(special), fraction);
    case 5:
      // x87 encodings that are no numbers, and pseudo-denormals.
      return format.explicitInteger && random.chance(3)
        ? compose(format, negative, random.pick([0, 1, format.bias, special]), fraction) ^ (1n << 63n)
        : compose(format, negative, format.bias, 0n);
    default: {
      const centre = near ?? format.bias;
      const spread = random.chance(3) ? format.precision + 4 : 4;
      const field = Math.min(special, Math.max(0, centre + random.below(2 * spread) - spread));
      return compose(format, negative, field, fraction);
    }
  }
}

/** The exponent field of raw bits. */
export function exponentField(format: FloatFormat, bits: bigint): number {
  return Number((bits & format.magnitudeMask) >> format.exponentShift);
}
