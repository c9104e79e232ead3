/** Each behaviour's timeline on a real machine, to the nanosecond: context switches cost nothing here. */
import { describe, expect, test } from "vitest";
import { ShutdownReason } from "../../../core/domain/domain.ts";
import { MS, Rig, US } from "./rig.ts";

describe.each([{ quanta: false }, { quanta: true }])("alone on a pCPU, in quanta: $quanta", ({ quanta }) => {
  // In quanta a halt costs its 200 instructions, and a wake-up is not earlier than that.
  const boot = () => Rig.boot({ quanta });

  test("a hog takes all there is", async () => {
    const rig = await boot();
    const domain = await rig.domain("d", { behaviour: "hog" });
    rig.run(7 * MS);
    expect(rig.cpu(domain)).toBe(7 * MS);
  });

  test("a periodic job: phase, period, deadline", async () => {
    const rig = await boot();
    await rig.domain("d", { behaviour: "periodic", period: "10ms", budget: "3ms", deadline: "5ms", phase: "1ms" });
    rig.run(40 * MS);
    expect(rig.times("d.0", MS)).toEqual([
      [1, 1, 4],
      [11, 11, 14],
      [21, 21, 24],
      [31, 31, 34],
    ]);
    expect(rig.jobsOf("d.0")[1]).toMatchObject({ deadline: 16 * MS, work: 3 * MS });
  });

  test("jobs that end: the domain powers off when the last vCPU has ended", async () => {
    const rig = await boot();
    const domain = await rig.domain(
      "d",
      {
        vcpus: [
          { behaviour: "periodic", period: "10ms", budget: "3ms", deadline: null, jobs: 2 },
          { behaviour: "periodic", period: "10ms", budget: "1ms", jobs: 1, phase: "5ms" },
        ],
      },
      { vcpus: 2 },
    );
    rig.run(12 * MS);
    expect(domain.shutdownReason).toBe(null);
    rig.run(40 * MS);
    expect(domain.shutdownReason).toBe(ShutdownReason.poweroff);
    expect(rig.jobsOf("d.0").map((job) => [job.finished / MS, job.deadline])).toEqual([
      [3, null],
      [13, null],
    ]);
  });

  test("jitter delays releases within its bound, and they keep to their grid", async () => {
    const rig = await boot();
    await rig.domain("d", { behaviour: "periodic", period: "1ms", budget: 1000, jitter: "200us" });
    rig.run(200 * MS);
    const jobs = rig.jobsOf("d.0");
    expect(jobs.length).toBe(200);
    const late = jobs.map((job, k) => job.released - k * MS);
    expect(Math.min(...late)).toBeGreaterThanOrEqual(0);
    expect(Math.max(...late)).toBeLessThanOrEqual(200 * US);
    expect(Math.max(...late)).toBeGreaterThan(150 * US);
    expect(new Set(late).size).toBeGreaterThan(190);
  });

  test("a tick dodger is off its pCPU at every tick", async () => {
    const rig = await boot();
    const domain = await rig.domain("d", {
      behaviour: "tick-dodger",
      period: "10ms",
      before: "100us",
      after: "50us",
      phase: "2ms",
    });
    rig.run(32.5 * MS);
    const changes = rig.states.filter(([, , state]) => state !== "runnable").map(([at, , s]) => [at / US, s]);
    const halt = quanta ? 0.2 : 0;
    expect(changes).toEqual([
      [0, "running"],
      [1900 + halt, "blocked"],
      [2050, "running"],
      [11900 + halt, "blocked"],
      [12050, "running"],
      [21900 + halt, "blocked"],
      [22050, "running"],
      [31900 + halt, "blocked"],
      [32050, "running"],
    ]);
    expect(rig.cpu(domain)).toBe(32500 * US - 4 * 150 * US + 4 * halt * US);
  });

  test("bursts of a trace, repeated, then it ends", async () => {
    const rig = await boot();
    const domain = await rig.domain("d", {
      behaviour: "bursts",
      bursts: [
        ["1ms", "2ms"],
        [500000, 0],
        [0, "1ms"],
        ["2ms", "3ms"],
      ],
      repeat: 2,
    });
    rig.run(100 * MS);
    expect(rig.times("d.0", MS)).toEqual([
      [0, 0, 1],
      [3, 3, 3.5],
      [4.5, 4.5, 6.5],
      [9.5, 9.5, 10.5],
      [12.5, 12.5, 13],
      [14, 14, 16],
    ]);
    expect(domain.shutdownReason).toBe(ShutdownReason.poweroff);
  });

  test("a sequence: parts that end, parts that are cut, again and again", async () => {
    const rig = await boot();
    await rig.domain("d", {
      behaviour: "sequence",
      repeat: true,
      of: [
        { do: { behaviour: "periodic", period: "2ms", budget: "1ms", jobs: 2 } },
        { do: { behaviour: "hog" }, for: "4ms" },
        { do: { behaviour: "periodic", period: "3ms", budget: "1ms" }, for: "4ms" },
        { do: { behaviour: "bursts", bursts: [["1ms", "100ms"]] }, for: "2ms" },
      ],
    });
    rig.run(27.5 * MS);
    // Part 1: 0-3; hog 3-7; part 3: jobs at 7 and 10, the second of which is done when the part is over, at 11; part 4: 11-13.
    expect(rig.times("d.0", MS)).toEqual([
      [0, 0, 1],
      [2, 2, 3],
      [7, 7, 8],
      [10, 10, 11],
      [11, 11, 12],
      [13, 13, 14],
      [15, 15, 16],
      [20, 20, 21],
      [23, 23, 24],
      [24, 24, 25],
      [26, 26, 27],
    ]);
  });
});

describe("contention", () => {
  test("a hog delays jobs: released, started, finished", async () => {
    const rig = await Rig.boot();
    const hog = await rig.domain("hog", { behaviour: "hog" });
    await rig.domain("d", { behaviour: "periodic", period: "50ms", budget: "5ms", phase: "2ms" });
    rig.run(100 * MS);
    // Turns of 10 ms: the hog's, which began at 0, ends at 10 ms; the next one begins at 15 ms, so 45-55 is one.
    const [first, second] = rig.jobsOf("d.0");
    expect(first).toMatchObject({ released: 2 * MS, started: 10 * MS, finished: 15 * MS, deadline: 52 * MS });
    expect(second!.released).toBe(52 * MS);
    expect(second!.finished - second!.started).toBe(5 * MS);
    expect(rig.cpu(hog)).toBe(90 * MS);
  });

  test.each([
    ["queue", [0, 10, 20, 30, 40]],
    ["skip", [0, 20, 40, 60, 80]],
  ] as const)("overrun, late: %s", async (late, released) => {
    const rig = await Rig.boot();
    await rig.domain("d", { behaviour: "periodic", period: "10ms", budget: { uniform: ["15ms", "15ms"] }, late });
    rig.run(100 * MS);
    expect(
      rig
        .times("d.0", MS)
        .map((job) => job[0])
        .slice(0, 5),
    ).toEqual(released);
  });

  test("the rate of a pCPU stretches work, not sleep", async () => {
    const rig = await Rig.boot({ cpuMhz: 500 });
    await rig.domain("d", { behaviour: "bursts", bursts: [["1ms", "2ms"]], repeat: true });
    await rig.domain("t", { behaviour: "tick-dodger", period: "10ms", before: "1ms", phase: "9ms" }, { paused: true });
    rig.run(12 * MS);
    expect(rig.times("d.0", MS)).toEqual([
      [0, 0, 2],
      [4, 4, 6],
      [8, 8, 10],
    ]);
  });

  test("a tick dodger that is preempted over its hour sleeps as soon as it is back", async () => {
    const rig = await Rig.boot();
    await rig.domain("d", {
      behaviour: "tick-dodger",
      period: "30ms",
      before: "1ms",
      after: "10ms",
      phase: "15ms",
    });
    await rig.domain("hog", { behaviour: "hog" });
    rig.run(40 * MS);
    const own = rig.states.filter(([, name]) => name === "d.0").map(([at, , state]) => [at / MS, state]);
    expect(own).toEqual([
      [0, "runnable"],
      [0, "running"],
      [10, "runnable"],
      [20, "running"],
      [20 + 1e-6, "blocked"],
      [25, "runnable"],
      [30 + 1e-6, "running"],
    ]);
  });

  test("it begins when it is unpaused, not when it gets a pCPU", async () => {
    const rig = await Rig.boot();
    await rig.domain("hog", { behaviour: "hog" });
    const domain = await rig.domain("d", { behaviour: "periodic", period: "20ms", budget: "1ms" }, { paused: true });
    rig.run(3 * MS);
    rig.hypervisor.unpause(domain);
    rig.run(50 * MS);
    expect(rig.times("d.0", MS).map((job) => job[0])).toEqual([3, 23]);
    expect(rig.times("d.0", MS)[0]).toEqual([3, 10, 11]);
  });
});
