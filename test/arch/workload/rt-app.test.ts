/** rt-app files: what its tutorial says of each event, on a real machine. */
import { describe, expect, test } from "vitest";
import { ShutdownReason } from "../../../core/domain/domain.ts";
import { MS, Rig, US } from "./rig.ts";

/** Boots, runs an rt-app file, and gives back what happened. */
async function play(file: string, vcpus: number, until: number, pcpus = vcpus): Promise<Rig> {
  const rig = await Rig.boot({ pcpus });
  await rig.domain("d", file, { vcpus });
  rig.run(until);
  return rig;
}

/** When each turn of run was done, in ms. */
const ends = (rig: Rig, vcpu: number) => rig.times(`d.${vcpu}`, MS).map((job) => job[2]);

describe("events", () => {
  test("run and sleep; a repeated key is a further event; comments and trailing commas", async () => {
    const rig = await play(
      `{ /* as in the tutorial */
        "tasks" : {
          "thread0" : { "loop" : 2, "run" : 1000, "sleep" : 2000, "run1" : 500, "sleep" : 500, }, // one thread
        },
        "global" : { "duration" : -1, "calibration" : "CPU0", "logdir" : "./" }
      }`,
      1,
      20 * MS,
    );
    expect(rig.times("d.0", MS)).toEqual([
      [0, 0, 3.5],
      [4, 4, 7.5],
    ]);
    expect(rig.jobsOf("d.0")[0]!.work).toBe(1500 * US);
  });

  test("phases and loops of phases and threads", async () => {
    const rig = await play(
      `{"tasks":{"t":{"loop":2,"phases":{
        "light":{"loop":2,"run":1000,"sleep":1000},
        "never":{"loop":0,"run":9000},
        "heavy":{"run":3000,"sleep":1000}}}}}`,
      1,
      60 * MS,
    );
    expect(ends(rig, 0)).toEqual([1, 3, 7, 9, 11, 15]);
  });

  test("a timer keeps its period, whatever the run took", async () => {
    const rig = await play(
      `{"tasks":{"t":{"phases":{
        "a":{"loop":3,"run":5000,"timer":{"ref":"unique","period":20000}},
        "b":{"loop":-1,"run":7000,"timer":{"ref":"unique","period":20000}}}}}}`,
      1,
      79 * MS,
    );
    expect(rig.times("d.0", MS)).toEqual([
      [0, 0, 5],
      [20, 20, 25],
      [40, 40, 45],
      [60, 60, 67],
    ]);
    expect(rig.jobsOf("d.0").map((job) => job.deadline! / MS)).toEqual([20, 40, 60, 80]);
  });

  test.each([
    ["relative", [10, 30, 65, 75, 95]],
    ["absolute", [10, 30, 65, 75, 90]],
  ])("a missed timer, %s: the tutorial's figure", async (mode, expected) => {
    const timer = `"timer":{"ref":"unique","period":20000,"mode":"${mode}"}`;
    const rig = await play(
      `{"tasks":{"t":{"loop":1,"phases":{
        "p0":{"loop":2,"run":10000,${timer}},
        "long":{"run":25000,${timer}},
        "p1":{"loop":2,"run":10000,${timer}}}}}}`,
      1,
      200 * MS,
    );
    expect(ends(rig, 0)).toEqual(expected);
    expect(rig.jobsOf("d.0")[2]).toMatchObject({ released: 40 * MS, deadline: 60 * MS, finished: 65 * MS });
  });

  test("runtime is time on the clock, run is work", async () => {
    const rig = await Rig.boot({ cpuMhz: 500 });
    await rig.domain("d", `{"tasks":{"t":{"loop":1,"runtime":4000,"run":4000,"sleep":10}}}`);
    rig.run(40 * MS);
    expect(ends(rig, 0)).toEqual([12]);
  });

  test("lock and unlock: a mutex that blocks", async () => {
    const rig = await play(
      `{"tasks":{
        "a":{"loop":1,"lock":"m","run":4000,"unlock":"m","run":1000},
        "b":{"loop":1,"run":1000,"lock":"m","run":2000,"unlock":"m"}}}`,
      2,
      40 * MS,
    );
    expect(ends(rig, 0)).toEqual([5]);
    expect(ends(rig, 1)).toEqual([6]);
    expect(rig.waits.get("d.1")).toEqual([3 * MS]);
  });

  test("wait and signal: the waiter has the mutex again before it goes on", async () => {
    const rig = await play(
      `{"tasks":{
        "waiter":{"loop":1,"lock":"m","wait":{"ref":"q","mutex":"m"},"unlock":"m","run":1000},
        "caller":{"loop":1,"run":2000,"lock":"m","signal":"q","run":3000,"unlock":"m","run":1000}}}`,
      2,
      40 * MS,
    );
    expect(ends(rig, 0)).toEqual([6]);
    expect(ends(rig, 1)).toEqual([6]);
  });

  test("broad wakes all, signal the first; a signal without a waiter is lost", async () => {
    const waiter = `{"loop":1,"lock":"m","wait":{"ref":"q","mutex":"m"},"unlock":"m","run":1000}`;
    const rig = await play(
      `{"tasks":{
        "caller":{"loop":1,"signal":"q","run":2000,"signal":"q","run":2000,"broad":"q","run":1000},
        "w":{"instance":3,"delay":500,${waiter.slice(1)}}}`,
      4,
      40 * MS,
    );
    expect([ends(rig, 1), ends(rig, 2), ends(rig, 3)]).toEqual([[3], [5], [5]]);
  });

  test("sync signals and waits: two threads in turns", async () => {
    const turns = (first: string) =>
      `{"loop":2,${first}"lock":"m","sync":{"ref":"q","mutex":"m"},"unlock":"m","run":1000}`;
    const rig = await play(`{"tasks":{"a":${turns("")},"b":{"delay":100,${turns("").slice(1)}}}`, 2, 40 * MS);
    // a waits; b signals it at 0.1 and waits; a runs to 1.1, signals b and waits; b runs to 2.1, signals a and waits for ever.
    expect(ends(rig, 0)).toEqual([1.1, 3.1]);
    expect(ends(rig, 1)).toEqual([2.1]);
  });

  test("suspend and resume: the tutorial's two threads", async () => {
    const rig = await play(
      `{"tasks":{
        "thread0":{"loop":-1,"run":10000,"resume":"thread1","suspend":"thread0"},
        "thread1":{"loop":-1,"suspend":"","run":5000,"resume":"thread0"}}}`,
      2,
      48 * MS,
    );
    expect(rig.times("d.0", MS)).toEqual([
      [0, 0, 10],
      [15, 15, 25],
      [30, 30, 40],
    ]);
    expect(ends(rig, 1)).toEqual([15, 30, 45]);
  });

  test("a barrier: as many meet as name it", async () => {
    const rig = await play(
      `{"tasks":{
        "a":{"loop":2,"run":1000,"barrier":"all","run":1000},
        "b":{"loop":2,"run":3000,"barrier":"all"},
        "c":{"loop":2,"instance":2,"run":2000,"barrier":"all"}}}`,
      4,
      40 * MS,
    );
    expect(ends(rig, 0)).toEqual([4, 7]);
    expect(ends(rig, 1)).toEqual([3, 6]);
    expect(ends(rig, 3)).toEqual([2, 5]);
  });

  test("yield, mem and iorun", async () => {
    const rig = await play(
      `{"tasks":{"a":{"loop":1,"run":1000,"yield":"","mem":8000,"iorun":16000},"b":{"loop":1,"run":2000}}}`,
      2,
      40 * MS,
      1,
    );
    // b has the pCPU from a's yield at 1 ms to 3 ms, then a writes for 3 us.
    expect(ends(rig, 1)).toEqual([3]);
    expect(ends(rig, 0)[0]).toBeCloseTo(3.003, 5);
  });
});

describe("files", () => {
  test("duration ends the use case; what means nothing here is noted with its place", async () => {
    const rig = await Rig.boot({ pcpus: 2 });
    const domain = await rig.domain(
      "d",
      `{"tasks":{
        "x":{"priority":-19,"cpus":[0],"loop":-1,"run":1000,"sleep":1000},
        "y":{"priority":5,"policy":"SCHED_FIFO","phases":{"p":{"cpus":[1],"loop":-1,"mem":800,"sleep":9}}}},
       "resources":{"m0":{"type":"mutex"}},
       "global":{"duration":1,"ftrace":"none"}}`,
      { vcpus: 2 },
    );
    expect(rig.log.filter((line) => line.includes("ignored"))).toEqual([
      "d (domain 1): d.json: tasks.x.priority and 1 more: ignored, give the domain the scheduler's own parameters",
      "d (domain 1): d.json: tasks.x.cpus and 1 more: ignored, give the domain or its vCPUs an affinity",
      "d (domain 1): d.json: tasks.y.policy: ignored, a domain's vCPUs are scheduled by its pool's scheduler",
      "d (domain 1): d.json: tasks.y.phases.p.mem: ignored, but for its CPU time, an instruction for 8 bytes",
    ]);
    rig.run(999 * MS);
    expect(domain.shutdownReason).toBe(null);
    rig.run(1100 * MS);
    expect(domain.shutdownReason).toBe(ShutdownReason.poweroff);
  });

  test("a browser: render threads, a compositor and its queue run for their six seconds", async () => {
    const file = `{"tasks":{
      "Main":{"loop":3,"phases":{
        "start":{"sleep":400000,"run":15000,"resume":"Display","run":7000,"sleep":8000},
        "render":{"loop":50,"resume":"Sub","run":3000},
        "stop":{"run":2000,"sleep":200000}}},
      "Sub1":{"priority":-6,"loop":-1,"suspend":"Sub","run":100},
      "Sub2":{"priority":-6,"loop":-1,"suspend":"Sub","run":100},
      "Display":{"loop":-1,"suspend":"Display","run":300,"lock":"mutex11",
        "sync":{"ref":"queue11","mutex":"mutex11"},"unlock":"mutex11","run":400},
      "Dummy":{"loop":-1,"lock":"mutex11","wait":{"ref":"queue11","mutex":"mutex11"},"unlock":"mutex11","run":200,
        "lock":"mutex11","signal":"queue11","unlock":"mutex11","run":100}},
     "global":{"duration":6}}`;
    const rig = await play(file, 5, 6500 * MS, 2);
    expect(rig.jobsOf("d.0").length).toBe(3 * 52);
    expect(rig.jobsOf("d.1").length).toBe(150);
    expect(rig.jobsOf("d.2").length).toBe(150);
    expect(rig.jobsOf("d.3").length).toBe(3);
    expect(rig.jobsOf("d.4").length).toBe(3);
  });

  test("events that take no time do not keep time from going on", async () => {
    const rig = await play(
      `{"tasks":{"a":{"loop":-1,"phases":{"p":{"loop":100000,"resume":"b"},"q":{"sleep":1000}}}}}`,
      1,
      10 * MS,
    );
    expect(rig.hypervisor.machine.now).toBe(10 * MS);
  });
});
