/**
 * D. Ongaro, A. L. Cox and S. Rixner, "Scheduling I/O in Virtual Machine Monitors", VEE 2008: credit's boost lets a domain that wakes go before domains that
 * compute. L. Cherkasova, D. Gupta and A. Vahdat, "Comparison of the Three CPU Schedulers in Xen", Performance Evaluation Review 35(2), 2007, for sedf;
 * G. W. Dunlap, "Scheduler Development Update", Xen Summit 2009, for credit2: who sleeps keeps its credit, no boost is needed.
 *
 * All figures are waits of the I/O domain from waking up to running. Requests arrive at random after the last was served, so a wake-up comes a time T
 * after the pCPU went back to the hogs, exponential with a mean of 10 ms; the age of the run that it meets is T modulo the length of runs.
 */
import { describe, expect, test } from "vitest";
import { MS, run, wakeWaitsOf } from "./support.ts";

const SEEDS = [1, 2, 3];

async function waits(scheduler: string, ratelimit = 1000, seeds = SEEDS): Promise<readonly number[]> {
  const all: number[] = [];
  for (const seed of seeds) {
    const { recording } = await run("io-latency.ts", { set: { scheduler, ratelimit }, seed });
    all.push(...wakeWaitsOf(recording, "io"));
  }
  return all.sort((a, b) => a - b);
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

function part(values: readonly number[], of: (value: number) => boolean): number {
  return values.filter(of).length / values.length;
}

/** Mean of (length - T modulo length), T exponential with mean 10 ms: T modulo L has the mean 10 - L / (e^(L/10) - 1). */
function residual(length: number): number {
  return length - (10 * MS - length / Math.expm1(length / (10 * MS)));
}

test("round-robin, which does nothing for I/O: 20 to 30 ms, 25.8 on average", async () => {
  // Three turns of 10 ms are before it: what is left of the present one and two whole ones. On average 20 + 5.82 ms.
  const all = await waits("round-robin");
  expect(all[0]).toBeGreaterThan(20 * MS);
  expect(all.at(-1)).toBeLessThanOrEqual(30 * MS);
  const expected = 20 * MS + residual(10 * MS);
  expect(expected).toBeCloseTo(25.82 * MS, -4);
  // 2500 waits with a standard deviation of 2.9 ms at most: 0.06 ms.
  expect(Math.abs(mean(all) - expected)).toBeLessThan(4 * 0.06 * MS);
});

describe("credit: boosted, it waits for the rate limit at most", () => {
  test("nine of ten wake-ups do not wait, 99 of 100 not for more than 1 ms", async () => {
    // The hog that runs has its 1 ms for sure; the run begins anew after each request and each slice of 30 ms. The age is T modulo 30 ms, below 1 ms with
    // probability (1 - e^-0.1) / (1 - e^-3) = 0.1002.
    const all = await waits("credit");
    expect(all.length).toBeGreaterThan(8000);
    const expected = 1 - -Math.expm1(-0.1) / -Math.expm1(-3);
    // A standard deviation of sqrt(0.1 * 0.9 / 8700) = 0.0032.
    expect(Math.abs(part(all, (wait) => wait === 0) - expected)).toBeLessThan(4 * 0.0032);
    expect(part(all, (wait) => wait > 1 * MS)).toBeLessThan(0.01);
  });

  test("the rest: it went OVER, and waits for its turn among the hogs, four slices at most", async () => {
    // It runs 1 % of the time, so a tick (100 a second) finds it once a second on average, and only then does it earn: 300 / 4 credits every 30 ms, until it
    // has 300, with half of which it earns no more. It burns 100 a second. Not found for 2.25 s it has -75, and the next share does not suffice: it
    // is OVER for an accounting. That is once in e^2.25 = 9.5 s, nine times in the 90 s here (and wakes up once or twice then).
    const all = await waits("credit", 0);
    const long = all.filter((wait) => wait > 0);
    expect(long.length).toBeGreaterThan(2);
    expect(long.length).toBeLessThan(27);
    expect(long.at(-1)).toBeLessThanOrEqual(4 * 30 * MS);
  });
});

describe("credit2: it has the most credit, and waits for the rate limit at most", () => {
  test("1 ms at most, 0.532 on average", async () => {
    // Hogs of equal credit take turns of the rate limit, 1 ms. Who arrives in its first 950 us waits for the end: on average 0.508 ms, less what arrivals in
    // the last 50 us would have waited (0.05 * 0.025). These tickle, find the run within its limit still, and it goes on for the shortest slice, 500 us.
    const all = await waits("credit2");
    expect(all.at(-1)).toBeLessThanOrEqual(1 * MS);
    const expected = residual(1 * MS) - 0.05 * 0.025 * MS + 0.05 * 0.5 * MS;
    expect(expected).toBeCloseTo(0.532 * MS, -4);
    // 8400 waits with a standard deviation of 0.28 ms: 0.0031.
    expect(Math.abs(mean(all) - expected)).toBeLessThan(4 * 0.0031 * MS);
    expect(Math.abs(part(all, (wait) => wait > 0.45 * MS && wait <= 0.5 * MS) - 0.1)).toBeLessThan(0.02);
  });

  test("without a rate limit it never waits", async () => {
    expect((await waits("credit2", 0, [1])).at(-1)).toBe(0);
  });
});

test("rtds: a server with budget in its period has an earlier deadline than the hogs', or they live of extra time: no waits", async () => {
  // It has 1 ms in 5, for up to ten requests: more than ten in 5 ms come with a probability of 10^-11.
  expect((await waits("rtds", 0, [1])).at(-1)).toBe(0);
});

test("sedf: a wake-up after its period runs at once, one within the period waits for the next at most", async () => {
  // The hogs have no slices. A short block forfeits the rest of the slice: the next comes with the next period, 5 ms after the last began, at most. In between
  // it gets one turn of extra time before the hogs', once the present turn of 500 us is over.
  const all = await waits("sedf", 0, [1]);
  expect(all.at(-1)).toBeLessThanOrEqual(5 * MS);
  // A period begins with a wake-up. It is short if the next request comes within the period: 1 - e^-0.49 = 0.39 of those that begin a period.
  expect(part(all, (wait) => wait === 0)).toBeGreaterThan(0.6);
  expect(part(all, (wait) => wait > 0.5 * MS)).toBeLessThan(0.1);
});
