/** What a hostile or careless plugin does to the scheduling core: hooks that pause, decisions that are code, changes of pools half refused. */
import { describe, expect, test } from "vitest";
import { RunState } from "../../../core/domain/vcpu.ts";
import { FifoScheduler } from "../../../core/scheduling/fifo.ts";
import { Pools } from "../../../core/scheduling/pools.ts";
import type { Scheduler, SchedulerHost } from "../../../core/scheduling/scheduler.ts";
import { hog, Load, periodic } from "../../support/load.ts";

const MS = 1e6;
const FREE = { contextSwitch: 0, migration: 0, tickle: 0, warmUp: 0, coldAfter: 0 };
const fifo = (host: SchedulerHost) => new FifoScheduler(host);
const provider = { name: "fifo", plugin: "test", make: fifo };

describe.each([{ lazy: false }, { lazy: true }])("lazy: $lazy", ({ lazy }) => {
  test("who is paused in the middle of a job keeps what it has done of it", () => {
    const load = new Load(fifo, { lazy, costs: FREE });
    const domain = load.domain("a", [periodic(10 * MS, Infinity)]);
    const vcpu = domain.vcpus[0]!;
    const { timers } = load.machine;
    timers.arm(2 * MS, () => load.scheduling.pauseVcpu(vcpu));
    timers.arm(3 * MS, () => load.scheduling.unpauseVcpu(vcpu));
    timers.arm(4 * MS, () => load.scheduling.pauseDomain(domain));
    timers.arm(9 * MS, () => load.scheduling.unpauseDomain(domain));
    load.run(100 * MS);
    // Guests that are run in quanta pay 200 ns for the halt.
    expect(load.domainTime(domain)).toBe(10 * MS + (lazy ? 0 : 200));
    expect(vcpu.runStateTimes[RunState.offline]).toBe(6 * MS);
  });

  test("who is moved to another pool in the middle of a job keeps what it has done of it", () => {
    const load = new Load(fifo, { pcpus: 2, lazy, costs: FREE });
    const pools = new Pools(load.machine, load.scheduling, () => provider);
    pools.remove(load.pool, [1]);
    const second = pools.create({ name: "second", scheduler: "fifo", cpus: [1] });
    const domain = load.domain("a", [periodic(10 * MS, Infinity)]);
    load.machine.timers.arm(4 * MS, () => pools.move(domain, second));
    load.run(100 * MS);
    expect(load.domainTime(domain)).toBe(10 * MS + (lazy ? 0 : 200));
  });

  test.each(["comes", "goes"])("a runstate hook that pauses who %s leaves its runstate true", (which) => {
    const load = new Load(fifo, { lazy, costs: FREE });
    const [a, b] = [load.domain("a", [hog]), load.domain("b", [hog])];
    const vcpu = a.vcpus[0]!;
    let paused = false;
    load.machine.hooks.runstate.tap("test", (who, from, to) => {
      if (who !== vcpu || paused || (which === "comes" ? to : from) !== RunState.running) return;
      paused = true;
      load.scheduling.pauseVcpu(vcpu);
    });
    load.run(50 * MS);
    expect(vcpu.runState).toBe(RunState.offline);
    expect(load.domainTime(a)).toBe(which === "comes" ? 0 : 10 * MS);
    expect(load.domainTime(a) + load.domainTime(b)).toBe(50 * MS);
  });

  test("a runstate hook sees where who comes will run, and where who goes ran", () => {
    const load = new Load(fifo, { pcpus: 2, lazy });
    for (const name of ["a", "b", "c"]) load.domain(name, [hog, periodic(3 * MS, 2 * MS)]);
    const seen: (number | undefined)[] = [];
    load.machine.hooks.runstate.tap("test", (vcpu, from, to) => {
      if (from === RunState.running || to === RunState.running) seen.push(vcpu.runningOn?.id);
    });
    load.run(100 * MS);
    expect(new Set(seen)).toEqual(new Set([0, 1]));
  });

  test("a runstate hook that pauses and unpauses who comes: what it runs is run time", () => {
    const load = new Load(fifo, { lazy });
    const domain = load.domain("a", [hog]);
    let times = 0;
    load.machine.hooks.runstate.tap("test", (vcpu, _from, to) => {
      if (to !== RunState.running || times++ > 0) return;
      load.scheduling.pauseVcpu(vcpu);
      load.scheduling.unpauseVcpu(vcpu);
    });
    load.run(50 * MS);
    expect(load.domainTime(domain)).toBe(50 * MS);
  });

  test("virtual time ends where nanoseconds are no longer exact", () => {
    const load = new Load(fifo, { pcpus: 2, lazy });
    load.domain("a", [hog]);
    load.domain("b", [periodic(MS, MS)]);
    const { machine } = load;
    load.run(MS);
    machine.now = 2 ** 53 - 20 * MS;
    for (const pcpu of machine.pcpus) pcpu.clock = machine.now;
    let steps = 0;
    while (load.loop.step(Infinity) === "ran" && steps < 100_000) steps++;
    expect(load.loop.step(Infinity)).toBe("limit");
    expect(machine.now).toBe(Number.MAX_SAFE_INTEGER);
    expect(load.pool.faults).toEqual([]);
  });
});

const nothing = Object.create(null);
const bomb = new Proxy({}, { get: () => nothing.x.y });

test.each<[string, (host: SchedulerHost) => unknown]>([
  [
    "a getter that throws",
    () => ({
      get unit() {
        return nothing.x.y;
      },
      slice: null,
    }),
  ],
  ["a slice that cannot be shown", () => ({ unit: null, slice: nothing })],
  ["an object of nothing", () => nothing],
  ["a symbol", () => Symbol("x")],
  ["a proxy that throws", () => bomb],
  ["a unit that cannot be shown", () => ({ unit: bomb, slice: null })],
  [
    "what is thrown and cannot be shown",
    () => {
      throw nothing;
    },
  ],
  ["a negative slice", () => ({ unit: null, slice: -1 })],
  ["a slice of no number", () => ({ unit: null, slice: Number.NaN })],
])("a decision that is %s ejects the scheduler and nobody else", (_what, decide) => {
  const make = (host: SchedulerHost) =>
    ({
      insertUnit() {},
      removeUnit() {},
      wake: () => host.tickle(host.pcpus[0]!),
      sleep() {},
      doSchedule: () => decide(host),
      dump: () => bomb,
    }) as unknown as Scheduler;
  const load = new Load(make);
  const domain = load.domain("a", [hog]);
  load.run(50 * MS);
  expect(load.pool.faults.length).toBe(1);
  expect(typeof load.pool.faults[0]!.dump).toBe("string");
  expect(load.domainTime(domain)).toBe(50 * MS);
});

test("a decision that says something else when it is looked at again is believed once", () => {
  const make = (host: SchedulerHost) => {
    let known: unknown = null;
    let looks = 0;
    return {
      insertUnit: (unit: unknown) => {
        known = unit;
      },
      removeUnit() {},
      wake: () => host.tickle(host.pcpus[0]!),
      sleep() {},
      doSchedule: () => {
        looks = 0;
        return {
          get unit() {
            return looks++ === 0 ? known : { vcpus: [] };
          },
          slice: null,
        };
      },
    } as unknown as Scheduler;
  };
  const load = new Load(make);
  const domain = load.domain("a", [hog]);
  load.run(50 * MS);
  expect(load.pool.faults).toEqual([]);
  expect(load.domainTime(domain)).toBe(50 * MS);
});

test("pCPUs go offline all or none", () => {
  const load = new Load(fifo, { pcpus: 4 });
  const pools = new Pools(load.machine, load.scheduling, () => provider);
  load.domain("a", [hog]);
  pools.remove(load.pool, [1, 2, 3]);
  pools.create({ name: "second", scheduler: "fifo", cpus: [1, 2] });
  load.scheduling.moveDomain(load.domain("b", [hog]), pools.named("second"));
  expect(() => pools.offline([0, 1, 2])).toThrow("the last of cpupool");
  expect(() => pools.offline([1, 0])).toThrow("the last of cpupool");
  expect(load.machine.pcpus.map((pcpu) => [pcpu.online, pcpu.resource?.pool.name])).toEqual([
    [true, "Pool-0"],
    [true, "second"],
    [true, "second"],
    [true, undefined],
  ]);
});

test("core scheduling: a core is in a pool whole or not at all, also in one that has been empty", () => {
  const load = new Load(fifo, { pcpus: 4, threadsPerCore: 2, lazy: true, granularity: "core" });
  const pools = new Pools(load.machine, load.scheduling, () => provider);
  pools.offline([0, 1, 2, 3]);
  expect(() => pools.online([0])).toThrowErrorMatchingInlineSnapshot(
    `[ConfigError: Pool 'Pool-0' schedules by core: the core of pCPU 0 comes whole, and 1 is not given; name all of its pCPUs, or use granularity 'cpu'.]`,
  );
  expect(() => pools.create({ name: "half", scheduler: "fifo", cpus: [3], granularity: "core" })).toThrow("offline");
  expect(load.machine.pcpus.every((pcpu) => !pcpu.online && pcpu.resource === null)).toBe(true);
  const domain = load.domain("a", [hog, hog, hog]);
  load.run(5 * MS);
  pools.online([0, 1]);
  load.run(10 * MS);
  expect([...load.pool.units].map((unit) => unit.vcpus.length)).toEqual([2, 1]);
  pools.online([2, 3]);
  load.run(15 * MS);
  expect(load.domainTime(domain)).toBeGreaterThan(20 * MS);
  expect(load.pool.faults).toEqual([]);
});

test("a damaged state that makes a parameter what it may not be ejects the scheduler", () => {
  const make = (host: SchedulerHost) => {
    let cap: unknown = 0;
    return Object.assign(new FifoScheduler(host), {
      params: { domain: { cap: { description: "", type: "integer", min: 0, default: 0 } } },
      adjust: () => 0,
      read: (target: object | null) => (target === null ? {} : { cap }),
      save: () => ({ cap }),
      restore: (state: { cap: unknown }) => {
        cap = state.cap;
      },
    }) as unknown as Scheduler;
  };
  for (const [cap, faults] of [
    [20, 0],
    [-1, 1],
    ["x", 1],
    [null, 1],
    [1.5, 1],
  ] as const) {
    const load = new Load(make);
    const domain = load.domain("a", [hog]);
    load.run(MS);
    load.scheduling.replaceScheduler(load.pool, { name: "test", plugin: "test", make }, { cap });
    load.run(50 * MS);
    expect([cap, load.pool.faults.length]).toEqual([cap, faults]);
    expect(load.domainTime(domain)).toBe(50 * MS);
  }
});

test("parameters of a vCPU that has left are not taken for the pool's", () => {
  let asked = 0;
  const make = (host: SchedulerHost) =>
    Object.assign(new FifoScheduler(host), {
      params: { unit: { turn: { description: "", type: "integer", default: 0 } } },
      adjust: () => {
        asked++;
        return 0;
      },
      read: () => ({}),
    }) as Scheduler;
  const load = new Load(make);
  const vcpu = load.domain("a", [hog]).vcpus[0]!;
  expect(load.scheduling.adjust(load.pool, vcpu, { turn: 1 })).toBe(0);
  load.scheduling.removeVcpu(vcpu);
  expect(load.scheduling.adjust(load.pool, vcpu, { turn: 1 })).toBe(-3);
  expect(asked).toBe(1);
});
