/**
 * S. K. Dhall and C. L. Liu, "On a Real-Time Scheduling Problem", Operations Research 26(1), 1978: with m light tasks (C = 2e, T = 1) and a heavy one (C = 1,
 * T = 1 + e), global EDF on m pCPUs misses although the utilisation, 2em + 1/(1 + e), is near 1 of m. A pCPU for the heavy task alone does it.
 * J. Goossens, S. Funk and S. Baruah, "Priority-Driven Scheduling of Periodic Task Systems on Multiprocessors", Real-Time Systems 25, 2003:
 * it never misses while U <= m - (m - 1) * (largest utilisation of a task).
 */
import { expect, test } from "vitest";
import { domainOf, jobsOf, MS, run } from "./support.ts";

// Here 1 is 10 ms, e is 0.01 and m is 4.
const UTILISATION = (light: number): number => (4 * light) / 10 + 10 / 10.1;
const LARGEST = 10 / 10.1;

test("U = 1.07 of 4, and the heavy task misses whenever all are released together", async () => {
  expect(UTILISATION(0.2)).toBeCloseTo(1.0701, 4);
  expect(UTILISATION(0.2)).toBeGreaterThan(4 - 3 * LARGEST);
  // At 0 the light ones go first, since 10 < 10.1; they take all four pCPUs until 0.2 ms, so that the heavy job cannot end before 10.2: the paper's miss by
  // 0.1 ms. Here it ends 0.1 ms later still: a server's deadline is its period's end, also for a late job. From 10.1 on the heavy server's is 20.2, and
  // the fourth light job, released at 10 when three pCPUs are without the heavy one, has 20: it takes the heavy one's pCPU at 10.1, with 0.1 ms
  // left to do; the other three light jobs end at 10.2, the heavy one at 10.3. Job 1, released at 10.1, so ends at 20.3: 0.1 ms late.
  // Job 2, released at 20.2, ends at 30.3: in time. After that each begins when it is released, and no light job has an earlier deadline
  // while it runs: 10(j + 1) <= 10.1(k + 1) means a release at 10j <= 10.1k + 0.1, before the heavy job k or with it. The periods meet again every
  // lcm(10, 10.1) = 1010 ms.
  const outcome = await run("dhall.ts", { set: { light: 0.2, partitioned: false } });
  const late = jobsOf(outcome.recording, "heavy").filter((job) => job.end > job.deadline);
  expect(late.map((job) => [job.release / MS, (job.end - job.deadline) / MS])).toEqual([
    [0, 0.2],
    [10.1, 0.1],
    [1010, 0.2],
    [1020.1, 0.1],
  ]);
  for (const i of [1, 2, 3, 4]) expect(domainOf(outcome, `light-${i}`).jobs?.misses).toBe(0);
});

test("the same tasks with a pCPU for the heavy one: nobody misses", async () => {
  // The heavy one has 10 of 10.1 ms; four light ones on three pCPUs are done 0.4 ms after their release at the latest.
  const outcome = await run("dhall.ts", { set: { light: 0.2, partitioned: true } });
  expect(outcome.metrics.jobs?.misses).toBe(0);
  for (const i of [1, 2, 3, 4])
    expect(domainOf(outcome, `light-${i}`).jobs?.response?.max).toBeLessThanOrEqual(0.4 * MS);
});

test("at the bound of Goossens, Funk and Baruah nobody misses, and the heavy task ends at its very deadline", async () => {
  // C = e instead of 2e: U = 1.0301, and m - (m - 1) u = 4 - 3 * 0.990 = 1.0297; 0.0004 above what is promised, and it is just enough, as the heavy
  // one begins at 0.1 and ends at 10.1.
  expect(UTILISATION(0.1)).toBeCloseTo(4 - 3 * LARGEST, 3);
  const outcome = await run("dhall.ts", { set: { light: 0.1, partitioned: false } });
  expect(outcome.metrics.jobs?.misses).toBe(0);
  const [first] = jobsOf(outcome.recording, "heavy");
  expect(first!.end).toBe(10.1 * MS);
});
