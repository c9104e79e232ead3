/** Behaviours that wait for each other: barriers and locks, blocking and spinning, to the nanosecond and alike in quanta. */
import { describe, expect, test } from "vitest";
import { ShutdownReason } from "../../../core/domain/domain.ts";
import { MS, Rig, US } from "./rig.ts";

describe("fork-join", () => {
  const image = (wait: string) => ({
    vcpus: [
      { behaviour: "fork-join", work: "1ms", phases: 2, wait },
      { behaviour: "fork-join", work: "3ms", phases: 2, wait },
    ],
  });

  test("blocking: all begin a phase when the last has done the one before", async () => {
    const rig = await Rig.boot({ pcpus: 2 });
    const domain = await rig.domain("d", image("block"), { vcpus: 2 });
    rig.run(20 * MS);
    expect(rig.times("d.0", MS)).toEqual([
      [0, 0, 1],
      [3, 3, 4],
    ]);
    expect(rig.times("d.1", MS)).toEqual([
      [0, 0, 3],
      [3, 3, 6],
    ]);
    // A halt after an arrival is an instruction of its own; two of them.
    expect(rig.cpu(domain, 0)).toBe(2 * MS + 2 + 1);
    expect(domain.shutdownReason).toBe(ShutdownReason.poweroff);
  });

  test("spinning: the wait is CPU time", async () => {
    const rig = await Rig.boot({ pcpus: 2 });
    const domain = await rig.domain("d", image("spin"), { vcpus: 2 });
    rig.run(20 * MS);
    expect(rig.times("d.0", MS)).toEqual([
      [0, 0, 1],
      [3, 3, 4],
    ]);
    expect(rig.times("d.1", MS)).toEqual([
      [0, 0, 3],
      [3, 3, 6],
    ]);
    expect(rig.cpu(domain, 0)).toBe(6 * MS + 1);
    expect(rig.cpu(domain, 1)).toBe(6 * MS + 1);
  });

  test("in quanta the same, up to a quantum", async () => {
    for (const wait of ["block", "spin"]) {
      const rig = await Rig.boot({ pcpus: 2, quanta: true });
      await rig.domain("d", image(wait), { vcpus: 2 });
      rig.run(20 * MS);
      const [first, second] = rig.times("d.0", MS);
      expect(first).toEqual([0, 0, 1]);
      expect(second![0]).toBe(3);
      expect(second![1]).toBeCloseTo(3, 1);
      expect(rig.times("d.1", MS)[1]![2]).toBeCloseTo(6, 1);
    }
  });

  test("imbalance spreads the parts evenly around their mean", async () => {
    const rig = await Rig.boot({ pcpus: 4 });
    await rig.domain("d", { behaviour: "fork-join", work: "100us", imbalance: 0.5, phases: 500 }, { vcpus: 4 });
    rig.run(1000 * MS);
    const works = [0, 1, 2, 3].flatMap((v) => rig.jobsOf(`d.${v}`).map((job) => job.work));
    expect(works.length).toBe(2000);
    expect(Math.min(...works)).toBeGreaterThanOrEqual(50 * US);
    expect(Math.max(...works)).toBeLessThanOrEqual(150 * US);
    expect(works.reduce((a, b) => a + b) / works.length / US).toBeCloseTo(100, -0.5);
  });

  test("one that has done its phases does not keep the others", async () => {
    const rig = await Rig.boot({ pcpus: 2 });
    await rig.domain(
      "d",
      {
        vcpus: [
          { behaviour: "fork-join", work: "1ms", phases: 1 },
          { behaviour: "fork-join", work: "2ms", phases: 3 },
        ],
      },
      { vcpus: 2 },
    );
    rig.run(20 * MS);
    expect(rig.times("d.1", MS).map((job) => job[2])).toEqual([2, 4, 6]);
  });

  test("in a repeated sequence all parts meet", async () => {
    const rig = await Rig.boot({ pcpus: 2 });
    const part = (work: string) => ({
      behaviour: "sequence",
      repeat: 2,
      of: [
        { do: { behaviour: "bursts", bursts: [[work, 0]] } },
        { do: { behaviour: "fork-join", work: "1ms", phases: 2 } },
      ],
    });
    const domain = await rig.domain("d", { vcpus: [part("1ms"), part("1ms")] }, { vcpus: 2 });
    rig.run(20 * MS);
    expect(rig.times("d.0", MS).map((job) => job[2])).toEqual([1, 2, 3, 4, 5, 6]);
    expect(domain.shutdownReason).toBe(ShutdownReason.poweroff);
  });
});

describe("lock", () => {
  const locker = (think: string, more: object = {}) => ({
    behaviour: "lock",
    critical: "2ms",
    think,
    rounds: 2,
    ...more,
  });

  test("spinning: the second waits on its pCPU", async () => {
    const rig = await Rig.boot({ pcpus: 2 });
    const domain = await rig.domain("d", { vcpus: [locker("1ms"), locker("2ms")] }, { vcpus: 2 });
    rig.run(40 * MS);
    // v0 thinks 0-1, holds 1-3, thinks 3-4, wants at 4; v1 wants at 2, spins to 3, holds 3-5; v0 holds 5-7; v1 thinks 5-7, holds 7-9.
    expect(rig.times("d.0", MS)).toEqual([
      [1, 1, 3],
      [4, 5, 7],
    ]);
    expect(rig.times("d.1", MS)).toEqual([
      [2, 3, 5],
      [7, 7, 9],
    ]);
    expect(rig.waits.get("d.0")).toEqual([0, MS]);
    expect(rig.waits.get("d.1")).toEqual([MS, 0]);
    expect(rig.cpu(domain, 0)).toBe(7 * MS + 1);
  });

  test("blocking: the wait is not CPU time", async () => {
    const rig = await Rig.boot({ pcpus: 2 });
    const wait = { wait: "block" };
    const domain = await rig.domain("d", { vcpus: [locker("1ms", wait), locker("2ms", wait)] }, { vcpus: 2 });
    rig.run(40 * MS);
    expect(rig.times("d.1", MS)).toEqual([
      [2, 3, 5],
      [7, 7, 9],
    ]);
    expect(rig.cpu(domain, 0)).toBe(6 * MS + 2);
  });

  test("lock-holder preemption: the other burns its turn; yielding, it does not", async () => {
    const run = async (more: object) => {
      const rig = await Rig.boot();
      // One pCPU for both: v0 takes the lock at 1 ms and its turn ends at 10 ms, in the middle of its critical section.
      const domain = await rig.domain(
        "d",
        {
          vcpus: [
            { behaviour: "lock", critical: "15ms", think: "1ms", rounds: 1 },
            { behaviour: "lock", critical: "1ms", think: "1us", rounds: 1, ...more },
          ],
        },
        { vcpus: 2 },
      );
      rig.run(60 * MS);
      return { rig, domain };
    };
    const spinning = await run({});
    expect(spinning.rig.times("d.0", MS)).toEqual([[1, 1, 26]]);
    // v1 wants at 10.001, burns to 20, v0 ends at 26, v1 finds it free.
    const waiter = spinning.rig.jobsOf("d.1")[0]!;
    expect(waiter.released).toBe(10 * MS + US);
    expect(waiter.finished / MS).toBeCloseTo(27, 3);
    expect(spinning.rig.cpu(spinning.domain, 1) / MS).toBeCloseTo(11, 3);
    const yielding = await run({ yieldAfter: "10us" });
    expect(yielding.rig.jobsOf("d.0")[0]!.finished / MS).toBeLessThan(16.1);
    expect(yielding.rig.cpu(yielding.domain, 1) / MS).toBeLessThan(1.1);
  });

  test("a preempted waiter is passed over, unless the lock is fair", async () => {
    const run = async (fair: boolean) => {
      const rig = await Rig.boot({ pcpus: 3 });
      const domain = await rig.domain(
        "d",
        {
          vcpus: [
            { behaviour: "lock", critical: "15ms", think: 0, rounds: 1, fair },
            { behaviour: "lock", critical: "1ms", think: "1ms", rounds: 1, fair },
            { behaviour: "lock", critical: "1ms", think: "2ms", rounds: 1, fair },
          ],
        },
        { vcpus: 3 },
      );
      // v1 waits first, and shares its pCPU with a hog: at 15 ms it is off.
      const hogs = await rig.domain("hogs", { behaviour: "hog" });
      for (const [vcpu, pcpu] of [
        [domain.vcpus[0], 0],
        [domain.vcpus[1], 1],
        [domain.vcpus[2], 2],
        [hogs.vcpus[0], 1],
      ] as const)
        rig.hypervisor.scheduling.setAffinity(vcpu!, new Set([pcpu]), new Set([pcpu]));
      rig.run(60 * MS);
      return [rig.jobsOf("d.1")[0]!.finished / MS, rig.jobsOf("d.2")[0]!.finished / MS];
    };
    expect(await run(false)).toEqual([expect.closeTo(21, 3), expect.closeTo(16, 3)]);
    expect(await run(true)).toEqual([expect.closeTo(21, 3), expect.closeTo(22, 3)]);
  });

  test("several locks: never two holders of one, in quanta too", async () => {
    for (const quanta of [false, true]) {
      const rig = await Rig.boot({ pcpus: 4, quanta });
      const locks = { behaviour: "lock", critical: { exponential: "20us" }, think: { exponential: "10us" }, locks: 3 };
      await rig.domain("d", locks, { vcpus: 6 });
      rig.run(50 * MS);
      const jobs = [0, 1, 2, 3, 4, 5].flatMap((v) => rig.jobsOf(`d.${v}`));
      expect(jobs.length).toBeGreaterThan(1500);
      const edges = jobs.flatMap((job) => [
        [job.started, 1],
        [job.finished, -1],
      ]);
      edges.sort((a, b) => a[0]! - b[0]! || a[1]! - b[1]!);
      let holders = 0;
      let most = 0;
      for (const [, change] of edges) {
        holders += change!;
        if (holders > most) most = holders;
      }
      expect(most).toBe(3);
    }
  });
});
