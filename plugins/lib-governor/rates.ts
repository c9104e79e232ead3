/** Picking one of a machine's rates (rising, not empty), as cpufreq's relations do. */

/** The lowest rate that is not below `mhz`; the highest where all are (CPUFREQ_RELATION_L). */
export function rateAtLeast(rates: readonly number[], mhz: number): number {
  for (const rate of rates) if (rate >= mhz) return rate;
  return rates[rates.length - 1]!;
}

/** The highest. */
export function highestRate(rates: readonly number[]): number {
  return rates[rates.length - 1]!;
}

/** The lowest. */
export function lowestRate(rates: readonly number[]): number {
  return rates[0]!;
}

/** Asks for a whole number within bounds, in a governor's parameters; RangeError says what is wrong. */
export function checkParameter(governor: string, name: string, value: number, min: number, max: number): number {
  if (Number.isInteger(value) && value >= min && value <= max) return value;
  throw new RangeError(`Governor '${governor}': ${name} must be a whole number from ${min} to ${max}, got ${value}.`);
}
