/** The little statistics of the benchmarks. */

/** The middle value; of an even number the upper of the two. NaN of nothing. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((x, y) => x - y);
  return sorted[sorted.length >> 1] ?? Number.NaN;
}

/** Smallest and largest, as text with a number of digits. */
export function span(values: readonly number[], digits: number): string {
  return `${Math.min(...values).toFixed(digits)} to ${Math.max(...values).toFixed(digits)}`;
}
