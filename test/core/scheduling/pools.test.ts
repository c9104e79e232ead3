/** Cpupools: what comes and goes, what is refused; core scheduling; lazily run vCPUs; governors. */
import { expect, test } from "vitest";
import { RunState } from "../../../core/domain/vcpu.ts";
import type { Governor, GovernorHost } from "../../../core/machine/governor.ts";
import { FifoScheduler } from "../../../core/scheduling/fifo.ts";
import { PoolError, Pools } from "../../../core/scheduling/pools.ts";
import type { SchedulerHost, SchedulingUnit } from "../../../core/scheduling/scheduler.ts";
import { runStateTime } from "../../../core/scheduling/unit.ts";
import { hog, Load, periodic } from "../../support/load.ts";

const MS = 1e6;
const fifo = (host: SchedulerHost) => new FifoScheduler(host);
const provider = { name: "fifo", plugin: "test", make: fifo };

function machine(pcpus: number, more: ConstructorParameters<typeof Load>[1] = {}): { load: Load; pools: Pools } {
  const load = new Load(fifo, { pcpus, ...more });
  for (const domain of load.domains) load.machine.domains.set(domain.id, domain);
  return { load, pools: new Pools(load.machine, load.scheduling, () => provider) };
}

/** The refusal's errno and text. */
function refusal(body: () => void): [number, string] {
  try {
    body();
  } catch (error) {
    if (error instanceof PoolError) return [error.errno, error.message];
    throw error;
  }
  throw new Error("it was not refused");
}

test("pCPUs leave and join: what ran there goes on elsewhere, and comes back", () => {
  for (const lazy of [false, true]) {
    const { load, pools } = machine(2, { lazy });
    const domains = [load.domain("a", [hog]), load.domain("b", [hog])];
    for (const domain of domains) load.machine.domains.set(domain.id, domain);
    load.run(100 * MS);
    pools.offline([1]);
    expect(load.machine.pcpus[1]!.current).toBe(null);
    load.run(300 * MS);
    const times = domains.map((d) => load.domainTime(d));
    expect(times[0]! + times[1]!).toBeCloseTo(400 * MS, -6);
    expect(Math.abs(times[0]! - times[1]!)).toBeLessThan(25 * MS);
    pools.online([1]);
    load.run(400 * MS);
    expect(domains.reduce((sum, d) => sum + load.domainTime(d), 0)).toBeCloseTo(600 * MS, -6);
    expect(load.pool.faults).toEqual([]);
  }
});

test("a domain moves to another pool and runs there only; a pool with domains stays, an empty one goes", () => {
  const { load, pools } = machine(4, { lazy: true });
  const domains = ["a", "b", "c", "d"].map((name) => load.domain(name, [hog]));
  for (const domain of domains) load.machine.domains.set(domain.id, domain);
  load.run(10 * MS);
  pools.remove(load.pool, [2, 3]);
  const second = pools.create({ name: "second", scheduler: "fifo", cpus: [3, 2] });
  for (const domain of domains.slice(1)) pools.move(domain, second);
  const before = domains.map((d) => load.domainTime(d));
  load.run(310 * MS);
  const after = domains.map((d, i) => load.domainTime(d) - before[i]!);
  expect(after[0]).toBe(300 * MS);
  expect(after[1]! + after[2]! + after[3]!).toBe(600 * MS);
  expect(domains[1]!.vcpus[0]!.lastPcpu!.id).toBeGreaterThan(1);
  expect(refusal(() => pools.destroy(second))).toEqual([
    -16,
    "Cpupool 'second' still has domains (b, c, d); move or destroy them first.",
  ]);
  expect(refusal(() => pools.remove(second, [2, 3]))[0]).toBe(-16);
  for (const domain of domains) pools.move(domain, load.pool);
  pools.destroy(second);
  pools.add(load.pool, [2, 3]);
  const then = domains.map((d) => load.domainTime(d));
  load.run(410 * MS);
  expect(domains.map((d, i) => load.domainTime(d) - then[i]!)).toEqual([100 * MS, 100 * MS, 100 * MS, 100 * MS]);
});

test("an affinity that the pool cannot honour is void until it can", () => {
  const { load, pools } = machine(2, { lazy: true });
  const domain = load.domain("a", [hog]);
  load.machine.domains.set(domain.id, domain);
  load.scheduling.setAffinity(domain.vcpus[0]!, new Set([1]), new Set([1]));
  load.run(10 * MS);
  expect(domain.vcpus[0]!.runningOn!.id).toBe(1);
  pools.offline([1]);
  load.run(20 * MS);
  expect(domain.vcpus[0]!.runningOn!.id).toBe(0);
  pools.online([1]);
  load.run(30 * MS);
  expect(domain.vcpus[0]!.runningOn!.id).toBe(1);
  expect(load.domainTime(domain)).toBe(30 * MS);
});

test("what is refused", () => {
  const { load, pools } = machine(4, { threadsPerCore: 2 });
  load.domain("a", [hog]);
  expect(refusal(() => pools.destroy(load.pool))).toMatchInlineSnapshot(`
    [
      -16,
      "Cpupool 'Pool-0' is the first one, which stays.",
    ]
  `);
  expect(refusal(() => pools.remove(load.pool, [0, 1, 2, 3]))).toMatchInlineSnapshot(`
    [
      -16,
      "pCPU 3 is the last of cpupool 'Pool-0', which has domains (a); move them first.",
    ]
  `);
  expect(refusal(() => pools.add(load.pool, [1]))).toMatchInlineSnapshot(`
    [
      -16,
      "pCPU 1 is in cpupool 'Pool-0' already.",
    ]
  `);
  expect(refusal(() => pools.remove(load.pool, [9]))).toMatchInlineSnapshot(`
    [
      -22,
      "There is no pCPU 9; the machine has 0 to 3.",
    ]
  `);
  expect(refusal(() => pools.named("x"))).toMatchInlineSnapshot(`
    [
      -2,
      "There is no cpupool 'x'; there are: Pool-0.",
    ]
  `);
  pools.remove(load.pool, [1, 2, 3]);
  expect(() =>
    pools.create({ name: "c", scheduler: "fifo", cpus: [1, 2, 3], granularity: "core" }),
  ).toThrowErrorMatchingInlineSnapshot(
    `[ConfigError: Pool 'c' schedules by core: the core of pCPU 1 comes whole, and 0 is not given; name all of its pCPUs, or use granularity 'cpu'.]`,
  );
  const cores = pools.create({ name: "cores", scheduler: "fifo", cpus: [2, 3], granularity: "core" });
  expect(refusal(() => pools.remove(cores, [2]))).toMatchInlineSnapshot(`
    [
      -22,
      "Cpupool 'cores' schedules by core: pCPUs 2, 3 leave it together; name all of them.",
    ]
  `);
  expect(() => pools.create({ name: "cores", scheduler: "fifo", cpus: [1] })).toThrowErrorMatchingInlineSnapshot(
    `[ConfigError: There is a cpupool 'cores' already; give this one another name.]`,
  );
});

test("core scheduling: the threads of a core run vCPUs of one domain at any time", () => {
  for (const lazy of [false, true]) {
    const { load } = machine(4, { threadsPerCore: 2, lazy, granularity: "core" });
    const domains = [
      load.domain("a", [hog, hog]),
      load.domain("b", [hog, periodic(3 * MS, 2 * MS)]),
      load.domain("c", [periodic(1 * MS, 4 * MS), periodic(2 * MS, 7 * MS), hog]),
    ];
    let together = 0;
    load.machine.hooks.contextSwitch.tap("test", () => {
      if (!lazy) return;
      const [p, q] = [load.machine.pcpus[0]!.current, load.machine.pcpus[1]!.current];
      if (p !== null && q !== null && p.domain === q.domain) together++;
    });
    const steps = (): void => {
      for (const core of [0, 2]) {
        const there = [core, core + 1]
          .map((id) => load.machine.pcpus[id]!.current?.domain)
          .filter((d) => d !== undefined);
        expect(new Set(there).size).toBeLessThan(2);
      }
    };
    while (load.machine.now < 500 * MS && load.loop.step(500 * MS) === "ran") steps();
    if (lazy) expect(together).toBeGreaterThan(0);
    expect(load.pool.faults).toEqual([]);
    for (const domain of domains)
      for (const vcpu of domain.vcpus) {
        const now = vcpu.runningOn?.time ?? Math.max(load.machine.now, vcpu.runStateSince);
        const total = [0, 1, 2, 3].reduce((sum, s) => sum + runStateTime(vcpu, s as RunState, now), 0);
        expect(total).toBe(now);
        expect(runStateTime(vcpu, RunState.running, now)).toBeGreaterThan(20 * MS);
      }
  }
});

test("lazily run vCPUs: the same shares and runstates as in quanta, exact to the nanosecond with one pCPU", () => {
  const times = [false, true].map((lazy) => {
    const load = new Load(fifo, {
      pcpus: 1,
      lazy,
      costs: { contextSwitch: 0, migration: 0, tickle: 0, warmUp: 0, coldAfter: 0 },
    });
    const domains = [load.domain("a", [hog]), load.domain("b", [periodic(3 * MS, 5 * MS)]), load.domain("c", [hog])];
    load.run(1000 * MS);
    return domains.map((d) => load.domainTime(d));
  });
  // In quanta each exit costs 200 instructions.
  for (const [i, time] of times[1]!.entries()) expect(Math.abs(time - times[0]![i]!)).toBeLessThan(1 * MS);
  expect(times[1]!.reduce((a, b) => a + b)).toBe(1000 * MS);
});

test("a lazy vCPU that stops before its horizon, with nothing retired, does not hold time up", () => {
  const load = new Load(fifo, { pcpus: 1, lazy: true });
  let naps = 0;
  load.domain("a", [
    () => {
      naps++;
      return { run: naps % 2 === 0 ? 0.0001 : 1000, sleep: 5000 };
    },
  ]);
  load.domain("b", [periodic(3000, 7000)]);
  expect(load.run(1 * MS)).toBe("limit");
  expect(naps).toBeGreaterThan(50);
});

test("costs: a switch, a migration and cold caches take the pCPU's time", () => {
  const run = (
    costs: Partial<Record<"contextSwitch" | "migration" | "tickle" | "warmUp" | "coldAfter", number>>,
  ): number => {
    const all = { contextSwitch: 0, migration: 0, tickle: 0, warmUp: 0, coldAfter: 0, ...costs };
    const load = new Load(fifo, { pcpus: 1, lazy: true, costs: all });
    let jobs = 0;
    load.domain("a", [
      () => {
        jobs++;
        return { run: 1 * MS, sleep: 1 * MS };
      },
    ]);
    load.domain("b", [hog]);
    load.run(1000 * MS);
    return jobs;
  };
  const free = run({});
  expect(run({ contextSwitch: 2 * MS })).toBeLessThan(free);
  expect(run({ warmUp: 2 * MS, coldAfter: 1 * MS })).toBeLessThan(free);
  expect(run({ warmUp: 2 * MS, coldAfter: 1e12 })).toBeGreaterThan(run({ warmUp: 2 * MS, coldAfter: 1 * MS }));
});

test("a governor changes the rate at an exact time and pays the exit of the idle state that it chose", () => {
  const idleStates = [
    { name: "C1", exitLatency: 1000, targetResidency: 2000 },
    { name: "C6", exitLatency: 100_000, targetResidency: 300_000 },
  ];
  const load = new Load(fifo, {
    pcpus: 1,
    lazy: true,
    frequencies: [500, 1000],
    idleStates,
    costs: { contextSwitch: 0, migration: 0, tickle: 0, warmUp: 0, coldAfter: 0 },
  });
  const notes: string[] = [];
  load.machine.hooks.frequency.tap("test", (pcpu, mhz, now) => notes.push(`${now} pCPU ${pcpu.id} ${mhz} MHz`));
  load.machine.hooks.idleState.tap("test", (_pcpu, state, now) => notes.push(`${now} state ${state}`));
  const make = (host: GovernorHost): Governor => {
    host.timer(10 * MS, () => host.setFrequency(500));
    return { idle: (_now, expected) => (expected >= 300_000 ? 1 : 0) };
  };
  load.scheduling.govern(load.machine.pcpus[0]!, { name: "g", plugin: "test", make });
  const domain = load.domain("a", [periodic(15 * MS, 5 * MS)]);
  load.run(50 * MS);
  // 10 ms at 1000 MHz, 5 M instructions left at 500 MHz: until 20 ms; then 5 ms asleep and 0.1 ms to wake up.
  expect(notes.slice(0, 5)).toEqual(
    ["1000 state -1", "10000000 pCPU 0 500 MHz", "20002000 state 1", "25102000 state -1"].concat(notes.slice(4, 5)),
  );
  expect(load.cpuTime(domain.vcpus[0]!)).toBeGreaterThan(0);
});

test("a governor may choose the rate at once, while it is made", () => {
  const load = new Load(fifo, { pcpus: 1, lazy: true, frequencies: [500, 1000] });
  const make = (host: GovernorHost): Governor => {
    host.setFrequency(500);
    return {};
  };
  load.scheduling.govern(load.machine.pcpus[0]!, { name: "g", plugin: "test", make });
  expect(load.machine.pcpus[0]!.mhz).toBe(500);
});

test("a governor that throws or asks for a rate that is not there is taken away", () => {
  for (const make of [
    (host: GovernorHost): Governor => {
      host.timer(1 * MS, () => host.setFrequency(123));
      return {};
    },
    (): Governor => ({
      busy: () => {
        throw new Error("no");
      },
    }),
    (): Governor => ({ idle: () => 7 }),
  ]) {
    const load = new Load(fifo, { pcpus: 1 });
    const faults: string[] = [];
    load.machine.hooks.pluginFault.tap("test", (fault) => {
      faults.push(fault.reason);
      return undefined;
    });
    load.scheduling.govern(load.machine.pcpus[0]!, { name: "g", plugin: "test", make });
    const domain = load.domain("a", [periodic(1 * MS, 1 * MS)]);
    load.run(20 * MS);
    expect(faults.length).toBe(1);
    expect(load.domainTime(domain)).toBeGreaterThan(9 * MS);
  }
});

test("core scheduling: a unit whose last vCPU is removed is on no pCPU when its scheduler is told", () => {
  for (const first of [0, 1]) {
    const told: boolean[] = [];
    const load = new Load(
      (host) =>
        new (class extends FifoScheduler {
          override removeUnit(unit: SchedulingUnit): void {
            told.push(unit.runningOn !== null || host.pcpus.some((pcpu) => pcpu.currentUnit === unit));
            super.removeUnit(unit);
          }
        })(host),
      { pcpus: 2, threadsPerCore: 2, lazy: true, granularity: "core" },
    );
    const domain = load.domain("a", [hog, periodic(1 * MS, 1 * MS)]);
    load.domain("b", [hog]);
    load.run(5 * MS);
    load.machine.timers.arm(42 * MS + 1, () => {
      load.scheduling.removeVcpu(domain.vcpus[first]!);
      load.scheduling.removeVcpu(domain.vcpus[1 - first]!);
    });
    load.run(60 * MS);
    expect(told).toEqual([false]);
  }
});
