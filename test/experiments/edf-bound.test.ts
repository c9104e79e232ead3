/**
 * C. L. Liu and J. W. Layland, "Scheduling Algorithms for Multiprogramming in a Hard-Real-Time Environment", JACM 20(1), 1973, Theorem 7: a set of
 * periodic tasks whose deadlines are their periods can be scheduled by earliest deadline first on one processor if and only if
 * U = sum C_i / T_i <= 1.
 */
import { describe, expect, test } from "vitest";
import { jobsOf, MS, run, S } from "./support.ts";

const SCHEDULERS = ["rtds", "sedf"];
const TASKS = ["task-1", "task-2", "task-3"];

describe.each(SCHEDULERS)("%s", (scheduler) => {
  test("U = 1: nobody misses a deadline, and the pCPU never idles", async () => {
    // 1/4 + 2/6 + 5/12 = 1 exactly. The tasks' periods meet every 12 ms, so that 12 s have 1000 equal rounds of 3 + 2 + 1 jobs. The jobs of the last
    // round end at 12 s, the last of them at the run's very end: an event of that instant may be there or not.
    const { recording, metrics } = await run("edf-bound.ts", { set: { scheduler, tasks: "4/1 6/2 12/5" } });
    expect(metrics.jobs?.misses).toBe(0);
    expect(metrics.jobs?.jobs).toBeGreaterThanOrEqual(6000 - 3);
    expect(metrics.busy).toBe(12 * S);
    for (const task of TASKS)
      for (const job of jobsOf(recording, task)) expect(job.end).toBeLessThanOrEqual(job.deadline);
  });

  test("U = 1 + 1/120: the first miss is in the first 12 ms, and what is owed grows by the excess", async () => {
    // The third task now wants 5.1 ms of 12: up to t = 12k the jobs whose deadlines are not after t want 12.1 k ms, and the pCPU has 12 k.
    // So by t = 12 somebody has missed, and after 12 s the jobs released so far want 1000 * 0.1 ms more than there was. Of what the pCPU did, at most
    // a part of one job of each task (1 + 2 + 5.1 ms) is of jobs that have not ended.
    const { recording, metrics } = await run("edf-bound.ts", { set: { scheduler, tasks: "4/1 6/2 12/5.1" } });
    const jobs = TASKS.map((task) => jobsOf(recording, task));
    const missed = jobs.flat().filter((job) => job.end > job.deadline);
    expect(Math.min(...missed.map((job) => job.deadline))).toBeLessThanOrEqual(12 * MS);
    expect(metrics.busy).toBe(12 * S);
    const ended = jobs[0]!.length * 1 * MS + jobs[1]!.length * 2 * MS + jobs[2]!.length * 5.1 * MS;
    const owed = 1000 * (3 * 1 + 2 * 2 + 5.1) * MS - ended;
    expect(owed).toBeGreaterThanOrEqual(100 * MS);
    expect(owed).toBeLessThanOrEqual((100 + 8.1) * MS);
  });
});

/** Whole numbers below `n`, the same in each run. */
function stream(seed: number): (n: number) => number {
  let state = seed;
  return (n) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * n);
  };
}

/** Tasks of periods that divide 60 ms, whose utilisations sum up to 1, less a microsecond of each at most. */
function fullSet(seed: number): string {
  const below = stream(seed);
  const periods = [3, 4, 5, 6, 10, 12, 15, 20, 30, 60];
  const count = 2 + below(6);
  const parts = Array.from({ length: count }, () => 10 + below(100));
  const sum = parts.reduce((a, b) => a + b);
  return parts
    .map((part) => {
      const period = periods[below(periods.length)]!;
      return `${period}/${Math.floor((period * 1000 * part) / sum) / 1000}`;
    })
    .join(" ");
}

test.each(SCHEDULERS)("%s: 12 random sets of tasks with U from 0.997 to 1 miss nothing", async (scheduler) => {
  for (let seed = 1; seed <= 12; seed++) {
    const tasks = fullSet(seed);
    const { metrics } = await run("edf-bound.ts", { set: { scheduler, tasks, seconds: 0.6 } });
    expect(metrics.jobs?.misses, tasks).toBe(0);
  }
});
