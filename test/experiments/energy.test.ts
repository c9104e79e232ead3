/**
 * Dynamic power of CMOS is C V^2 f (A. P. Chandrakasan, S. Sheng and R. W. Brodersen, "Low-Power CMOS Digital Design", IEEE JSSC 27(4), 1992); with a voltage in
 * proportion to the rate, P(f) = s + d (f/F)^3. M. Weiser et al., "Scheduling for Reduced CPU Energy", OSDI 1994: so do the work slowly. But
 * S. Irani, S. Shukla and R. Gupta, "Algorithms for Power Savings", SODA 2003: with static power and a sleep state there is a critical speed, below which
 * going slower costs more than sleeping: the least of (P(f) - p) / f, p the power of idling, is at f = F cbrt((s - p) / 2d).
 */
import { describe, expect, test } from "vitest";
import { run } from "./support.ts";

const RATES = [2000, 1000, 500, 250];
const PERIODS = 1000;

// A period by hand, in mJ. Work: 2 million instructions are 1, 2, 4, 8 ms at 2000, 1000, 500, 250 MHz, at 5, 1.5, 1.0625 and 1.0078125 W.
const BUSY = [1 * 5, 2 * 1.5, 4 * 1.0625, 8 * 1.0078125];
const IDLE_MS = [9, 8, 6, 2];
// Halting draws 0.8 W, waking up is free: 12.2, 9.4, 9.05, 9.6625 mJ.
const SHALLOW = BUSY.map((busy, i) => busy + 0.8 * IDLE_MS[i]!);
// Power off draws 0.02 W and 0.1 mJ for each wake-up: 5.28, 3.26, 4.47, 8.2025 mJ.
const DEEP = BUSY.map((busy, i) => busy + 0.02 * IDLE_MS[i]! + 0.1);

async function energies(deep: boolean): Promise<readonly number[]> {
  const found: number[] = [];
  for (const mhz of RATES) {
    const { metrics } = await run("energy.ts", { set: { mhz, deep } });
    found.push((metrics.energy / PERIODS) * 1000);
  }
  return found;
}

describe("energy of 2 million instructions every 10 ms", () => {
  test("with halting only: 500 MHz is best, and even 250 MHz is better than racing", async () => {
    // Critical speed: F cbrt((1 - 0.8) / 8) = 0.29 F = 585 MHz.
    const found = await energies(false);
    for (const [i, mJ] of found.entries()) expect(mJ).toBeCloseTo(SHALLOW[i]!, 2);
    expect(SHALLOW[2]).toBe(Math.min(...SHALLOW));
    expect(SHALLOW[3]).toBeLessThan(SHALLOW[0]!);
  });

  test("with a deep state: 1000 MHz is best, and racing is better than 250 MHz", async () => {
    // Critical speed: F cbrt((1 - 0.02) / 8) = 0.497 F = 993 MHz.
    const found = await energies(true);
    for (const [i, mJ] of found.entries()) expect(mJ).toBeCloseTo(DEEP[i]!, 2);
    expect(DEEP[1]).toBe(Math.min(...DEEP));
    expect(DEEP[0]).toBeLessThan(DEEP[3]!);
  });
});
