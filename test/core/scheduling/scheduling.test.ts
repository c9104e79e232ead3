/** Pools, runstates, affinity, the watchdog: the scheduling core under hand-written schedulers and synthetic loads. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { RunState, type Vcpu } from "../../../core/domain/vcpu.ts";
import { ConfigError } from "../../../core/errors.ts";
import { FifoScheduler } from "../../../core/scheduling/fifo.ts";
import type { Scheduler, SchedulerHost, SchedulingUnit } from "../../../core/scheduling/scheduler.ts";
import { runStateTime } from "../../../core/scheduling/unit.ts";
import { hog, Load, periodic } from "../../support/load.ts";

const MS = 1e6;
const fifo = (host: SchedulerHost): Scheduler => new FifoScheduler(host);

/** A FIFO that notes what it is told. */
class Noting implements Scheduler {
  readonly notes: string[] = [];
  readonly times: number[] = [];
  readonly inner: FifoScheduler;
  readonly host: SchedulerHost;
  constructor(host: SchedulerHost) {
    this.host = host;
    this.inner = new FifoScheduler(host);
  }
  note(what: string, unit: SchedulingUnit, now: number): void {
    this.notes.push(`${what} ${unit} ${unit.runnable ? "runnable" : "asleep"}${unit.runningOn === null ? "" : " on"}`);
    this.times.push(now);
  }
  insertUnit(unit: SchedulingUnit, now: number): void {
    this.note("insert", unit, now);
  }
  removeUnit(unit: SchedulingUnit, now: number): void {
    this.note("remove", unit, now);
    this.inner.removeUnit(unit);
  }
  wake(unit: SchedulingUnit, now: number): void {
    this.note("wake", unit, now);
    this.inner.wake(unit);
  }
  sleep(unit: SchedulingUnit, now: number): void {
    this.note("sleep", unit, now);
    this.inner.sleep(unit);
  }
  doSchedule(pcpu: Parameters<Scheduler["doSchedule"]>[0], now: number) {
    this.times.push(now);
    return this.inner.doSchedule(pcpu);
  }
  yielded(unit: SchedulingUnit, now: number): void {
    this.note("yielded", unit, now);
  }
  contextSaved(unit: SchedulingUnit, now: number): void {
    this.note("saved", unit, now);
  }
}

function noting(pcpus = 1): { load: Load; scheduler: Noting } {
  let scheduler: Noting | null = null;
  const load = new Load(
    (host) => {
      scheduler = new Noting(host);
      return scheduler;
    },
    { pcpus },
  );
  return { load, scheduler: scheduler! };
}

describe("what a scheduler is told", () => {
  test("inserted first, woken when runnable, asleep when it ceases to be, removed asleep and on no pCPU", () => {
    const { load, scheduler } = noting();
    const domain = load.domain("d", [hog]);
    const vcpu = domain.vcpus[0]!;
    load.run(1 * MS);
    load.scheduling.pauseVcpu(vcpu);
    load.scheduling.pauseVcpu(vcpu);
    load.run(2 * MS);
    load.scheduling.unpauseVcpu(vcpu);
    load.scheduling.unpauseVcpu(vcpu);
    load.run(3 * MS);
    load.scheduling.removeVcpu(vcpu);
    load.run(4 * MS);
    expect(scheduler.notes).toEqual([
      "insert d vcpu 0 asleep",
      "wake d vcpu 0 runnable",
      "sleep d vcpu 0 asleep on",
      "saved d vcpu 0 asleep",
      "wake d vcpu 0 runnable",
      "sleep d vcpu 0 asleep on",
      "saved d vcpu 0 asleep",
      "remove d vcpu 0 asleep",
    ]);
  });

  test("a change of affinity: it leaves and comes back, asleep meanwhile; or affinityChanged, where there is one", () => {
    const { load, scheduler } = noting(2);
    const domain = load.domain("d", [hog]);
    const vcpu = domain.vcpus[0]!;
    load.run(1 * MS);
    expect(vcpu.runningOn?.id).toBe(0);
    scheduler.notes.length = 0;
    load.scheduling.setAffinity(vcpu, new Set([1]), new Set([1]));
    const sequence = [
      "sleep d vcpu 0 asleep on",
      "saved d vcpu 0 asleep",
      "remove d vcpu 0 asleep",
      "insert d vcpu 0 asleep",
      "wake d vcpu 0 runnable",
    ];
    expect(scheduler.notes).toEqual(sequence);
    load.run(2 * MS);
    expect(vcpu.runningOn?.id).toBe(1);
    const changed: string[] = [];
    Object.assign(scheduler, {
      affinityChanged: (unit: SchedulingUnit) => changed.push([...unit.hardAffinity].join()),
    });
    scheduler.notes.length = 0;
    load.scheduling.setAffinity(vcpu, new Set([0]), new Set([0]));
    expect(changed).toEqual(["0"]);
    expect(scheduler.notes).toEqual(["sleep d vcpu 0 asleep on", "saved d vcpu 0 asleep", "wake d vcpu 0 runnable"]);
    load.run(3 * MS);
    expect(vcpu.runningOn?.id).toBe(0);
    expect(vcpu.pauseCount).toBe(0);
  });

  test("an affinity without a pCPU of the pool is refused in a sentence, and nothing has changed", () => {
    const { load, scheduler } = noting(2);
    const vcpu = load.domain("d", [hog]).vcpus[0]!;
    load.run(1 * MS);
    scheduler.notes.length = 0;
    expect(() => load.scheduling.setAffinity(vcpu, new Set([7]), new Set([7]))).toThrow(
      new ConfigError("The hard affinity 7 of d vcpu 0 has no pCPU of pool 'Pool-0' (0,1); name at least one of them."),
    );
    expect(scheduler.notes).toEqual([]);
    expect([...vcpu.hardAffinity]).toEqual([0, 1]);
  });

  test("its times never decrease, though pCPU clocks differ", () => {
    const { load, scheduler } = noting(4);
    for (let i = 0; i < 6; i++) load.domain(`d${i}`, [periodic(70_000 * (i + 1), 33_333 * i)]);
    load.run(50 * MS);
    expect(scheduler.times.length).toBeGreaterThan(500);
    expect(scheduler.times.every((time, i) => i === 0 || time >= scheduler.times[i - 1]!)).toBe(true);
  });

  test("a pCPU is in one pool", () => {
    const load = new Load(fifo, { pcpus: 2 });
    const provider = { name: "x", plugin: "x", make: fifo };
    expect(() => load.scheduling.createPool("other", [load.machine.pcpus[1]!], provider)).toThrow(
      "pCPU 1 is in cpupool 'Pool-0' already; remove it there first.",
    );
  });
});

describe("runstates", () => {
  test("add up to a vCPU's age at every switch, and to the pCPUs' busy time", () => {
    const plan = fc.record({
      pcpus: fc.integer({ min: 1, max: 3 }),
      mhz: fc.constantFrom(1000, 999, 37),
      loads: fc.array(fc.tuple(fc.integer({ min: 100, max: 300_000 }), fc.nat(300_000)), {
        minLength: 1,
        maxLength: 6,
      }),
      pauses: fc.array(fc.tuple(fc.nat(20 * MS), fc.nat(5)), { maxLength: 10 }),
    });
    fc.assert(
      fc.property(plan, ({ pcpus, mhz, loads, pauses }) => {
        const load = new Load(fifo, { pcpus, cpuMhz: mhz });
        const transitions = new Map<Vcpu, number>();
        load.machine.hooks.runstate.tap("test", (vcpu, from, to, now) => {
          expect(from).not.toBe(to);
          expect(now).toBeGreaterThanOrEqual(transitions.get(vcpu) ?? 0);
          transitions.set(vcpu, now);
          expect(vcpu.runStateTimes.reduce((a, b) => a + b)).toBe(now);
        });
        const domains = loads.map(([run, sleep], i) => load.domain(`d${i}`, [periodic(run, sleep)]));
        for (const [at, which] of pauses) {
          const vcpu = domains[which % domains.length]!.vcpus[0]!;
          load.machine.timers.arm(at, () => {
            if (vcpu.pauseCount === 0) load.scheduling.pauseVcpu(vcpu);
            else load.scheduling.unpauseVcpu(vcpu);
          });
        }
        load.run(20 * MS);
        const busy = domains.reduce((sum, domain) => sum + load.domainTime(domain), 0);
        const pcpuBusy = load.machine.pcpus.reduce((sum, pcpu) => {
          // An idle pCPU's clock stands where it went idle.
          const idle = pcpu.current === null ? pcpu.idleTime + pcpu.clock - pcpu.idleSince : pcpu.idleTime;
          return sum + pcpu.clock - idle;
        }, 0);
        expect(busy).toBe(pcpuBusy);
      }),
      { numRuns: 60, interruptAfterTimeLimit: 2500 },
    );
  });

  test("blocked, offline, runnable and running are what they are called", () => {
    const load = new Load(fifo);
    const one = load.domain("one", [periodic(1 * MS, Infinity)]).vcpus[0]!;
    const two = load.domain("two", [hog]).vcpus[0]!;
    const three = load.domain("three", [hog]).vcpus[0]!;
    load.run(5 * MS);
    expect([one.runState, two.runState, three.runState]).toEqual([
      RunState.blocked,
      RunState.running,
      RunState.runnable,
    ]);
    load.scheduling.pauseDomain(three.domain);
    load.scheduling.pauseVcpu(one);
    expect([one.runState, three.runState]).toEqual([RunState.offline, RunState.offline]);
    load.scheduling.unpauseVcpu(one);
    expect(one.runState).toBe(RunState.blocked);
    load.run(9 * MS);
    expect(runStateTime(three, RunState.running, load.machine.now)).toBe(0);
    expect(() => load.scheduling.unpauseVcpu(two)).toThrow("two vcpu 0 is not paused");
    expect(() => load.scheduling.unpauseDomain(two.domain)).toThrow("is not paused");
  });

  test("a vCPU never starts before the event that woke it, nor before its own last time", () => {
    const load = new Load(fifo, { pcpus: 4, quantum: 200_000 });
    const lastOff = new Map<Vcpu, number>();
    load.machine.hooks.contextSwitch.tap("test", (_pcpu, previous, next, now) => {
      if (previous !== null) lastOff.set(previous, now);
      if (next !== null) expect(next.runStateSince).toBeGreaterThanOrEqual(lastOff.get(next) ?? 0);
    });
    for (let i = 0; i < 9; i++) load.domain(`d${i}`, [periodic(10_000 * (i + 1), 7_001 * (i + 1))]);
    load.run(30 * MS);
    expect(load.pool.faults).toEqual([]);
  });

  test("pCPU clocks differ by at most the quantum, a switch and the last exit's cost", () => {
    const load = new Load(fifo, { pcpus: 3, quantum: 50_000 });
    for (let i = 0; i < 5; i++) load.domain(`d${i}`, [hog]);
    for (let until = 1 * MS; until < 20 * MS; until += 777_777) {
      load.run(until);
      const clocks = load.machine.pcpus.map((pcpu) => pcpu.clock);
      expect(Math.max(...clocks) - Math.min(...clocks)).toBeLessThanOrEqual(50_000 + 1000);
    }
  });
});

describe("the watchdog", () => {
  /** Never runs units of the domain "unlucky". */
  const unfair = (host: SchedulerHost): Scheduler => {
    const inner = new FifoScheduler(host);
    const own: Scheduler = {
      insertUnit: () => inner.insertUnit(),
      removeUnit: (unit) => inner.removeUnit(unit),
      sleep: (unit) => inner.sleep(unit),
      wake: (unit) => {
        if (unit.domain.name !== "unlucky") inner.wake(unit);
      },
      doSchedule: (pcpu) => inner.doSchedule(pcpu),
    };
    return own;
  };

  test.each([
    ["a busy machine", hog],
    ["a machine that is idle between timers", periodic(1000, 10 * MS)],
  ])("a unit that waits past the bound ejects the scheduler, on %s", (_name, behaviour) => {
    const load = new Load(unfair);
    load.loop.stallBound = 400 * MS;
    load.domain("lucky", [behaviour]);
    const unlucky = load.domain("unlucky", [hog]);
    load.run(300 * MS);
    expect(load.pool.faults).toEqual([]);
    load.run(600 * MS);
    expect(load.pool.faults.length).toBe(1);
    expect(load.pool.faults[0]!.reason).toMatch(/^unlucky vcpu 0 has been runnable for \d+ ns without being run$/);
    expect(load.pool.scheduler).toBeInstanceOf(FifoScheduler);
    expect(load.domainTime(unlucky)).toBeGreaterThan(20 * MS);
  });

  test("when nothing else can happen the loser is found at once", () => {
    const load = new Load(unfair);
    const unlucky = load.domain("unlucky", [periodic(1 * MS, Infinity)]);
    expect(load.run(1e12)).toBe("idle");
    expect(load.loop.ejectLosers()).toBe(true);
    expect(load.run(1e12)).toBe("idle");
    expect(load.domainTime(unlucky)).toBeGreaterThanOrEqual(1 * MS);
    expect(load.loop.ejectLosers()).toBe(false);
  });

  test("timers of an ejected scheduler never fire", () => {
    let late = 0;
    const load = new Load((host) => {
      host.timer(50 * MS, () => late++);
      return unfair(host);
    });
    load.domain("d", [hog]);
    load.run(10 * MS);
    load.pool.eject("for the test");
    load.run(100 * MS);
    expect(late).toBe(0);
  });
});
