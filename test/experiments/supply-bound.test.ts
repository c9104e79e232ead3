/**
 * I. Shin and I. Lee, "Periodic Resource Model for Compositional Real-Time Guarantees", RTSS 2003 (supply bound function): a resource that
 * gives a budget B in each period P gives in any window of length t at least
 *   sbf(t) = t - (k + 1)(P - B) if t is within [(k + 1)P - 2B, (k + 1)P - B], else (k - 1)B, where k = max(ceil((t - (P - B)) / P), 1).
 * Its longest gap is 2(P - B): the budget at the very start of a period, and at the very end of the next.
 */
import { describe, expect, test } from "vitest";
import { MS, run, runsOf, type Stretch } from "./support.ts";

const P = 10 * MS;
const B = 4 * MS;
const END = 2000 * MS;

function sbf(t: number): number {
  const k = Math.max(Math.ceil((t - (P - B)) / P), 1);
  return t >= (k + 1) * P - 2 * B && t <= (k + 1) * P - B ? t - (k + 1) * (P - B) : (k - 1) * B;
}

/** The least supply in windows of length t: each begins where a run ends, or ends where one begins. */
class Supply {
  readonly #runs: readonly Stretch[];
  /** Supplied before each run. */
  readonly #before: number[] = [];

  constructor(runs: readonly Stretch[]) {
    this.#runs = runs;
    let sum = 0;
    for (const [from, to] of runs) {
      this.#before.push(sum);
      sum += to - from;
    }
  }

  least(t: number): number {
    let least = Infinity;
    for (const [from, to] of this.#runs)
      for (const start of [to, from - t])
        if (start >= 0 && start + t <= END) least = Math.min(least, this.#until(start + t) - this.#until(start));
    return least;
  }

  /** What was supplied until a time. */
  #until(time: number): number {
    const place = this.#runs.findLastIndex(([from]) => from <= time);
    if (place < 0) return 0;
    const [from, to] = this.#runs[place]!;
    return this.#before[place]! + Math.min(to, time) - from;
  }
}

test("the bound itself, by hand", () => {
  expect([0, 12, 14, 16, 22, 24, 26, 32].map((t) => sbf(t * MS) / MS)).toEqual([0, 0, 2, 4, 4, 6, 8, 8]);
});

describe.each(["rtds", "sedf"])("%s", (scheduler) => {
  test("no window gets less than sbf, and the worst windows get no more than 0.3 ms above it", async () => {
    const { recording } = await run("supply-bound.ts", { set: { scheduler } });
    const runs = runsOf(recording, "server");
    // How near the adversary comes. The two servers use the whole pCPU (4/10 + 5.94/9.9 = 1), so by t as much has been done as t is long. What is due
    // by 980.1 is 98 budgets of the server and 99 of the adversary, 98 * 4 + 99 * 5.94 = 980.06 ms: then the server begins the period of 980, before the
    // adversary's of 980.1, whose deadline is the same (990). It is done at 984.06. At 990 both begin a period, the adversary's deadline is first,
    // and the server begins at 995.94. The gap is 11.88 ms: 2 * 0.06 less than 2(P - B) = 12. From there on the adversary's periods begin
    // 0.1 ms earlier each time, and the server's supplies 0.06: the fourth, in a window of 42 ms, comes 0.12 + 3 * 0.06 = 0.3 ms before the worst case.
    const gaps = runs.slice(1).map(([from], i) => from - runs[i]![1]);
    expect(Math.max(...gaps)).toBe(11.88 * MS);
    const supply = new Supply(runs);
    for (let t = 0.5 * MS; t <= 42 * MS; t += 0.5 * MS) {
      const least = supply.least(t);
      expect(least, `${t}`).toBeGreaterThanOrEqual(sbf(t));
      expect(least, `${t}`).toBeLessThanOrEqual(sbf(t) + 0.3 * MS);
    }
  });
});
