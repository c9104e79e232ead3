/** How durations are spread: mean, maximum and percentiles by the nearest rank (the smallest value that at least that part of all are not above). */
import type { Spread } from "./types.ts";

/** Collects numbers without garbage a number. */
export class Durations {
  #values = new Float64Array(256);
  #length = 0;

  add(value: number): void {
    if (this.#length === this.#values.length) {
      const next = new Float64Array(this.#length * 2);
      next.set(this.#values);
      this.#values = next;
    }
    this.#values[this.#length++] = value;
  }

  get count(): number {
    return this.#length;
  }

  /** null: there are none. */
  spread(): Spread | null {
    return spreadOf(this.#values.slice(0, this.#length));
  }

  addAll(other: Durations): void {
    for (let i = 0; i < other.#length; i++) this.add(other.#values[i]!);
  }
}

/** Sorts `values` in place. null: there are none. */
export function spreadOf(values: Float64Array): Spread | null {
  const { length } = values;
  if (length === 0) return null;
  values.sort();
  let sum = 0;
  for (const value of values) sum += value;
  const rank = (part: number): number => values[Math.max(0, Math.ceil(length * part) - 1)]!;
  return {
    count: length,
    mean: sum / length,
    p50: rank(0.5),
    p90: rank(0.9),
    p99: rank(0.99),
    p999: rank(0.999),
    max: values[length - 1]!,
  };
}
