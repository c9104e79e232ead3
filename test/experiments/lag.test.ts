/**
 * Lag: how far a domain is behind (or ahead of) what an ideal machine that serves all at once would have given it (generalised processor sharing: A. K.
 * Parekh and R. G. Gallager, IEEE/ACM Trans. Networking 1(3), 1993; I. Stoica et al., "A Proportional Share Resource Allocation Algorithm for Real-Time,
 * Time-Shared Systems", RTSS 1996). Bounds of fair queueing in the form of P. Goyal, X. Guo and H. M. Vin, "A Hierarchical CPU
 * Scheduler for Multimedia Operating Systems", OSDI 1996.
 *
 * How a bound of virtual times becomes one of lag. Domain i has got S_i by t, its weight is w_i, W = sum of all, f_i = w_i / W, its virtual time
 * V_i = S_i / w_i. The pCPU never idles, so t = sum S_j, and behind_i = f_i t - S_i = f_i sum_j w_j (V_j - V_i). If V_j - V_i <= d_j for all j
 * (d_j: how far j is let run ahead of others), then behind_i <= f_i sum_{j != i} w_j d_j and ahead_i <= f_i sum_{j != i} w_j d_i = (1 - f_i) w_i d_i.
 */
import { describe, expect, test } from "vitest";
import { domainOf, MS, run } from "./support.ts";

interface Bound {
  readonly behind: number;
  readonly ahead: number;
}

/** From how far each may run ahead in its own CPU time (w_j d_j). */
function bounds(shares: readonly number[], leads: readonly number[]): readonly Bound[] {
  const sum = shares.reduce((a, b) => a + b);
  const all = leads.reduce((a, b) => a + b);
  return shares.map((share, i) => ({
    behind: (share / sum) * (all - leads[i]!),
    ahead: (1 - share / sum) * leads[i]!,
  }));
}

async function lags(scheduler: string, shares: readonly number[], allowance = 6): Promise<readonly Bound[]> {
  const outcome = await run("lag.ts", { set: { scheduler, shares: shares.join(" "), allowance } });
  return shares.map((_, i) => {
    const { lagBehind, lagAhead } = domainOf(outcome, `hog-${i + 1}`);
    return { behind: lagBehind, ahead: lagAhead };
  });
}

const SETS = [
  [1, 1],
  [1, 1, 1, 1],
  [1, 2, 4],
  [3, 1, 1, 2],
];

/** The bounds hold for each domain; returns how near the worst of each side comes to its bound. */
async function check(scheduler: string, shares: readonly number[], leads: readonly number[]): Promise<number> {
  const bound = bounds(shares, leads);
  let nearest = 0;
  for (const [i, { behind, ahead }] of (await lags(scheduler, shares)).entries()) {
    expect(behind, `hog-${i + 1} behind`).toBeLessThanOrEqual(bound[i]!.behind + 1);
    expect(ahead, `hog-${i + 1} ahead`).toBeLessThanOrEqual(bound[i]!.ahead + 1);
    nearest = Math.max(nearest, behind / bound[i]!.behind, ahead / bound[i]!.ahead);
  }
  return nearest;
}

describe.each(SETS.map((shares) => ({ name: shares.join(" : "), shares })))("$name", ({ shares }) => {
  const heaviest = Math.max(...shares);

  test("round-robin: a turn of 10 ms ahead", async () => {
    // Equal weights: whoever ran has had at most one turn more than any other. The first is ahead and the last behind by all that is possible.
    const equal = shares.map(() => 1);
    const nearest = await check(
      "round-robin",
      equal,
      equal.map(() => 10 * MS),
    );
    expect(nearest).toBeCloseTo(1, 6);
  });

  test("cosched: a turn of 4 ms * weight / 256 ahead", async () => {
    // Who has the least virtual time runs for a turn, so that it is one turn ahead at most when it stops, and comes no nearer than that while others run.
    const nearest = await check(
      "cosched",
      shares,
      shares.map((share) => share * 4 * MS),
    );
    expect(nearest).toBeCloseTo(1, 6);
  });

  test("bvt: the context allowance ahead", async () => {
    // j runs until it is the context allowance C (6 ms of its own time) past the first of those that wait, who has the least virtual time.
    // 6 ms is chosen so that turns are whole charging units of 100 us (see below).
    const nearest = await check(
      "bvt",
      shares,
      shares.map(() => 6 * MS),
    );
    expect(nearest).toBeCloseTo(1, 6);
  });

  test("credit2: what 10 ms of credit last, and a shortest run", async () => {
    // Credit is virtual time that runs backwards, with the same 10 ms for all at each reset: V_j - V_i = c_i - c_j, burnt at w_max / w_j. No credit is
    // above 10 ms, as a reset waits until nobody has any. Only who has credit is put on the pCPU, and runs until it is used up, or for the rate
    // limit of 1 ms where that is longer: c_j >= -1 ms * w_max / w_j. So d_j = 10 ms + 1 ms * w_max / w_j, in j's own time 10 ms * w_j / w_max + 1 ms.
    const nearest = await check(
      "credit2",
      shares,
      shares.map((share) => (10 * MS * share) / heaviest + 1 * MS),
    );
    // Two alike: after a first run of 1 ms, 10 ms by the other: whom a switch displaces does not count when the slice is made.
    if (shares.length === 2) expect(nearest).toBeGreaterThan(0.8);
  });
});

test("bvt charges a stint in whole units of 100 us: where turns are no multiples, shares drift by at most a unit a stint", async () => {
  // Weights 1 : 4 (mcu_advance 120 and 30), C = 5 ms. When hog-1 is next, hog-2 is 5 ms of its own time ahead: 1500 of virtual time, 1.25 ms of hog-1's.
  // So hog-1 runs 6.25 ms and is charged 63 units, 50 us too much. Charged times keep the bounds above: in a round hog-1 is charged 6.3 ms and runs
  // 6.25, hog-2 runs 4 * 6.3 = 25.2. hog-1's share is 6.25 / 31.45 = 0.19873 instead of 0.2: in 20 s it is behind by 25.4 ms, and
  // by what it is behind within a round (f_1 C = 1 ms at most).
  const [light] = await lags("bvt", [1, 4], 5);
  const drift = (0.2 - 6.25 / 31.45) * 20_000 * MS;
  expect(light!.behind).toBeGreaterThan(drift - 0.1 * MS);
  expect(light!.behind).toBeLessThan(drift + 1.1 * MS);
});
