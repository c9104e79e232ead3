/** Credit2's rules one by one, to the nanosecond, on a host that the test drives. */
import { describe, expect, test } from "vitest";
import { Credit2Scheduler } from "../../../plugins/scheduler-credit2/credit2.ts";
import { LOAD_ONE, LoadAverage } from "../../../plugins/scheduler-credit2/load.ts";
import { ScriptedHost, type ScriptedUnit, type Topology } from "./scripted-host.ts";

const US = 1e3;
const MS = 1e6;

function credit2(topology: Topology = { pcpus: 1 }): ScriptedHost<Credit2Scheduler> {
  return new ScriptedHost(topology, (host) => new Credit2Scheduler(host));
}

/** A unit's credit, from the saved state. */
function creditOf(host: ScriptedHost<Credit2Scheduler>, unit: ScriptedUnit): number {
  const { domains } = host.scheduler.save() as { domains: { units: { id: number; credit: number }[] }[] };
  return domains.flatMap((domain) => domain.units).find((one) => one.id === unit.id)!.credit;
}

describe("credit", () => {
  test("starts at 10 ms, burns 1 a nanosecond, and is 10 ms again after the reset", () => {
    const host = credit2();
    const [unit] = host.domain("a", 1) as [ScriptedUnit];
    expect(creditOf(host, unit)).toBe(10 * MS);
    host.wake(unit);
    host.pass(4 * MS);
    expect(creditOf(host, unit)).toBe(6 * MS);
    host.pass(6 * MS);
    expect(creditOf(host, unit)).toBe(10 * MS);
  });

  test("burns by the highest weight of the runqueue over its own, to the last fraction", () => {
    const host = credit2({ pcpus: 2 });
    const [light] = host.domain("light", 1) as [ScriptedUnit];
    const [heavy] = host.domain("heavy", 1) as [ScriptedUnit];
    host.scheduler.adjust(light.domain, { weight: 300 });
    host.scheduler.adjust(heavy.domain, { weight: 1000 });
    host.wake(light);
    host.settle();
    // 1000 / 300 a nanosecond: 1/3 is carried over each time.
    for (let i = 0; i < 9; i++) {
      host.pass(1);
      creditOf(host, light);
    }
    expect(creditOf(host, light)).toBe(10 * MS - 30);
    // Without the heavy one it burns 1 a nanosecond.
    host.scheduler.removeUnit(heavy, host.now());
    host.pass(100);
    expect(creditOf(host, light)).toBe(10 * MS - 130);
  });

  test("is never below -10 ms, and from there a reset adds 20 ms", () => {
    const host = credit2();
    const [light] = host.domain("light", 1) as [ScriptedUnit];
    const [heavy] = host.domain("heavy", 1) as [ScriptedUnit];
    host.scheduler.adjust(light.domain, { weight: 1 });
    host.scheduler.adjust(heavy.domain, { weight: 65535 });
    host.wake(light);
    host.settle();
    const { slice } = host.pcpus[0]!.decision;
    expect(slice).toBe(1 * MS);
    host.pass(0.9 * MS);
    expect(creditOf(host, light)).toBe(-10 * MS);
    host.pass(0.1 * MS);
    // The reset at the end of its slice.
    expect(creditOf(host, light)).toBe(10 * MS);
  });

  test("of a sleeper is 10.5 ms at most after resets", () => {
    const host = credit2();
    const [hog] = host.domain("hog", 1) as [ScriptedUnit];
    const [sleeper] = host.domain("sleeper", 1) as [ScriptedUnit];
    host.wake(hog);
    host.pass(35 * MS);
    expect(creditOf(host, sleeper)).toBe(10.5 * MS);
  });

  test("a move to another pCPU is compensated with 50 us", () => {
    const host = credit2({ pcpus: 2 });
    const [a] = host.domain("a", 1) as [ScriptedUnit];
    host.wake(a);
    host.pass(1 * MS);
    const from = a.runningOn!;
    const [other] = host.domain("other", 1) as [ScriptedUnit];
    host.sleep(a);
    host.settle();
    const before = creditOf(host, a);
    host.pin(a, [1 - from.id]);
    // Its place is the new pCPU already: no compensation for what it was not.
    host.wake(a);
    host.settle();
    expect(creditOf(host, a)).toBe(before);
    host.sleep(a);
    host.settle();
    host.pin(a, [0, 1]);
    host.pin(other, [1 - from.id]);
    host.wake(other);
    host.settle();
    host.wake(a);
    host.settle();
    expect(a.runningOn).toBe(from);
    expect(creditOf(host, a)).toBe(before + 50 * US);
  });
});

describe("slices", () => {
  test("until credit is used up, at most 10 ms, when nobody waits", () => {
    const host = credit2();
    const [a] = host.domain("a", 1) as [ScriptedUnit];
    host.wake(a);
    host.settle();
    expect(host.pcpus[0]!.decision.slice).toBe(10 * MS);
  });

  test("until credit meets the next waiter's, in time of its own weight", () => {
    const host = credit2();
    const [a, b] = host.domain("d", 2) as [ScriptedUnit, ScriptedUnit];
    host.wake(a);
    host.pass(7 * MS);
    host.sleep(a);
    host.settle();
    // a has 3 ms left, b 10 ms.
    host.wake(a, b);
    host.settle();
    expect(b.runningOn).not.toBeNull();
    expect(host.pcpus[0]!.decision.slice).toBe(7 * MS);
  });

  test("not shorter than the rate limit, nor than 500 us without one", () => {
    for (const [ratelimit, shortest] of [
      [1000, 1 * MS],
      [0, 0.5 * MS],
      [100, 0.5 * MS],
      [500_000, 500 * MS],
    ] as const) {
      const host = credit2();
      const [a, b] = host.domain("d", 2) as [ScriptedUnit, ScriptedUnit];
      expect(host.scheduler.adjust(null, { ratelimit_us: ratelimit })).toBe(0);
      host.wake(a, b);
      host.settle();
      expect(host.pcpus[0]!.decision.slice).toBe(shortest);
    }
  });

  test("a waiter that may not run here does not shorten them", () => {
    const host = credit2({ pcpus: 2 });
    const [a, b, c] = host.domain("d", 3) as [ScriptedUnit, ScriptedUnit, ScriptedUnit];
    for (const one of [b, c]) host.pin(one, [1]);
    host.pin(a, [0]);
    host.wake(a, b, c);
    host.settle();
    expect(host.pcpus[0]!.decision.slice).toBe(10 * MS);
    expect(host.pcpus[1]!.decision.slice).toBe(1 * MS);
  });
});

describe("wakes", () => {
  /** A hog alone; a second unit of more credit wakes so long after the hog's slice began; the time until it runs. */
  function latency(after: number): number {
    const host = credit2();
    const [hog, io] = host.domain("d", 2) as [ScriptedUnit, ScriptedUnit];
    host.wake(hog);
    // Into its second slice, so that it has run for `after` and has less credit than the other.
    host.pass(10 * MS);
    host.pass(after);
    const at = host.now();
    host.wake(io);
    while (io.runningOn === null) host.pass(10 * US);
    return host.now() - at;
  }

  test("an early one (up to 950 us) waits for the end of the slice, a later one preempts", () => {
    // The run began with the slice before: after 10 ms no rate limit is in the way.
    expect(latency(2 * MS)).toBeLessThanOrEqual(10 * US);
    const early = (after: number): { tickles: number; slice: number } => {
      const host = credit2();
      const [hog, io] = host.domain("d", 2) as [ScriptedUnit, ScriptedUnit];
      host.wake(hog);
      host.pass(after);
      host.tickles.length = 0;
      host.wake(io);
      host.settle();
      return { tickles: host.tickles.length, slice: host.pcpus[0]!.decision.slice! };
    };
    expect(early(900 * US)).toEqual({ tickles: 0, slice: 10 * MS });
    expect(early(950 * US)).toEqual({ tickles: 0, slice: 10 * MS });
    expect(early(951 * US).tickles).toBe(1);
  });

  test("one with more credit preempts its own pCPU, a foreign one only for 500 us more", () => {
    const host = credit2({ pcpus: 2 });
    const [a, b, c] = host.domain("d", 3) as [ScriptedUnit, ScriptedUnit, ScriptedUnit];
    host.wake(a, b);
    host.pass(2 * MS);
    host.tickles.length = 0;
    // c has 10 ms against 8: on whichever pCPU, it preempts.
    host.wake(c);
    host.settle();
    expect(c.runningOn).not.toBeNull();
    expect(host.tickles.length).toBeGreaterThan(0);
  });

  test("goes to an idle pCPU: its own, then a whole idle core, or a busy core's thread with smt_power_savings", () => {
    for (const savings of [false, true]) {
      const host = credit2({ pcpus: 4, threadsPerCore: 2 });
      expect(host.scheduler.adjust(null, { smt_power_savings: savings })).toBe(0);
      const [a, b] = host.domain("d", 2) as [ScriptedUnit, ScriptedUnit];
      host.settle();
      host.wake(a);
      host.settle();
      host.wake(b);
      host.settle();
      expect(a.runningOn!.core === b.runningOn!.core).toBe(savings);
      const before = b.runningOn;
      if (savings) continue;
      host.sleep(b);
      host.settle();
      host.wake(b);
      host.settle();
      expect(b.runningOn).toBe(before);
    }
  });

  test("soft affinity decides among idle pCPUs, and a unit outside it moves when one inside idles", () => {
    const host = credit2({ pcpus: 2 });
    const [a, b] = host.domain("d", 2) as [ScriptedUnit, ScriptedUnit];
    host.pin(a, [0, 1], [1]);
    host.pin(b, [1]);
    host.wake(b);
    host.settle();
    host.wake(a);
    host.settle();
    expect([a.runningOn!.id, b.runningOn!.id]).toEqual([0, 1]);
    host.pass(1500 * US);
    host.sleep(b);
    host.pass(10 * MS);
    expect(a.runningOn!.id).toBe(1);
  });

  test("yield lets a waiter with less credit pass, in spite of the rate limit", () => {
    const host = credit2();
    const [a, b] = host.domain("d", 2) as [ScriptedUnit, ScriptedUnit];
    host.wake(a);
    host.pass(2 * MS);
    host.sleep(a);
    host.settle();
    host.wake(b);
    host.settle();
    host.wake(a);
    host.settle();
    expect(b.runningOn).not.toBeNull();
    host.pass(100 * US);
    host.yieldNow(b);
    host.settle();
    expect(a.runningOn).not.toBeNull();
  });
});

describe("runqueues", () => {
  test("one a socket; a socket of 20 pCPUs has two, threads of a core together", () => {
    const host = credit2({ pcpus: 40, coresPerSocket: 10, threadsPerCore: 2 });
    const lines = host.scheduler
      .dump()
      .split("\n")
      .filter((line) => line.startsWith("runqueue"));
    expect(lines.map((line) => /pCPUs ([\d,]*\d)/.exec(line)![1])).toEqual([
      "0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15",
      "16,17,18,19",
      "20,21,22,23,24,25,26,27,28,29,30,31,32,33,34,35",
      "36,37,38,39",
    ]);
  });

  test("units are spread by load over them", () => {
    const host = credit2({ pcpus: 4, coresPerSocket: 2 });
    const units = host.domain("d", 4);
    host.wake(...units);
    host.settle();
    expect(new Set(units.map((unit) => unit.runningOn?.id)).size).toBe(4);
  });

  test("balancing at a reset spreads what one socket has too much of, whoever runs there", () => {
    const host = credit2({ pcpus: 4, coresPerSocket: 2 });
    const units = host.domain("d", 8);
    host.wake(...units);
    host.pass(100 * MS);
    // All of one socket fall asleep.
    for (const unit of units) if (unit.lastPcpu!.socket === 1) host.sleep(unit);
    host.pass(2000 * MS);
    const awake = units.filter((unit) => unit.runnable);
    expect(awake.length).toBe(4);
    expect(awake.filter((unit) => unit.runningOn !== null).length).toBe(4);
    expect(new Set(awake.map((unit) => unit.runningOn!.socket)).size).toBe(2);
  });

  test("a pCPU that leaves hands over what waits; one that joins takes its part", () => {
    const host = credit2({ pcpus: 3 });
    const units = host.domain("d", 6);
    host.wake(...units);
    host.pass(50 * MS);
    host.remove(1);
    host.pass(200 * MS);
    expect(host.pcpus.every((pcpu) => pcpu.currentUnit !== null)).toBe(true);
    const before = units.map((unit) => unit.runTime);
    host.pass(600 * MS);
    for (const [i, unit] of units.entries()) expect(unit.runTime - before[i]!).toBeGreaterThan(150 * MS);
    host.add(1);
    host.pass(20 * MS);
    expect(host.pcpus.every((pcpu) => pcpu.currentUnit !== null)).toBe(true);
    host.remove(0);
    host.remove(2);
    host.pass(100 * MS);
    expect(host.pcpus.map((pcpu) => pcpu.currentUnit !== null)).toEqual([true]);
  });
});

describe("affinity", () => {
  test("a unit that names only a pCPU that is about to join waits for it", () => {
    const host = credit2({ pcpus: 2 });
    host.remove(1);
    const [a] = host.domain("a", 1) as [ScriptedUnit];
    host.settle();
    host.pin(a, [1]);
    host.wake(a);
    host.settle();
    expect(a.runningOn).toBeNull();
    host.add(1);
    host.settle();
    expect(a.runningOn?.id).toBe(1);
  });
});

describe("caps", () => {
  test("a capped unit runs its budget in each period of 10 ms and is parked in between", () => {
    const host = credit2();
    const [a] = host.domain("a", 1) as [ScriptedUnit];
    expect(host.scheduler.adjust(a.domain, { cap: 30 })).toBe(0);
    host.wake(a);
    for (let period = 1; period <= 20; period++) {
      host.pass(7 * MS);
      expect(host.scheduler.entitled(a)).toBe(false);
      host.pass(3 * MS);
      expect(a.runTime).toBe(period * 3 * MS);
    }
    host.scheduler.adjust(a.domain, { cap: 0 });
    host.pass(10 * MS);
    expect(a.runTime).toBe(70 * MS);
    expect(host.scheduler.entitled(a)).toBe(true);
  });

  test("units share the domain's budget, each by quotas of 500 us at least", () => {
    const host = credit2({ pcpus: 2 });
    const [a, b] = host.domain("d", 2) as [ScriptedUnit, ScriptedUnit];
    expect(host.scheduler.adjust(a.domain, { cap: 100 })).toBe(0);
    host.wake(a, b);
    host.pass(100 * MS);
    expect([a.runTime, b.runTime]).toEqual([50 * MS, 50 * MS]);
    // One that sleeps leaves the other all of it.
    host.sleep(b);
    host.pass(100 * MS);
    expect(a.runTime).toBe(150 * MS);
  });

  test("what a unit gives back when it sleeps lets a parked one run at once", () => {
    const host = credit2();
    const [a, b] = host.domain("d", 2) as [ScriptedUnit, ScriptedUnit];
    host.scheduler.adjust(a.domain, { cap: 2 });
    // 200 us a period, of which a takes all and uses 50.
    host.wake(a, b);
    host.pass(50 * US);
    expect(a.runTime).toBe(50 * US);
    host.sleep(a);
    host.pass(150 * US);
    expect(b.runTime).toBe(150 * US);
    host.pass(9 * MS);
    expect(b.runTime).toBe(150 * US);
  });

  test("bounds: 100 for each vCPU, else EINVAL; an unknown domain is ESRCH", () => {
    const host = credit2();
    const [a] = host.domain("d", 3) as [ScriptedUnit];
    expect(host.scheduler.adjust(a.domain, { cap: 300 })).toBe(0);
    expect(host.scheduler.adjust(a.domain, { cap: 301 })).toBe(-22);
    expect(host.scheduler.adjust(a.domain, { weight: 1000, cap: 301 })).toBe(-22);
    expect(host.scheduler.read(a.domain)).toEqual({ weight: 256, cap: 300 });
    expect(host.scheduler.adjust({} as never, { cap: 1 })).toBe(-3);
    expect(host.scheduler.adjust(null, { ratelimit_us: 99 })).toBe(-22);
  });
});

describe("state", () => {
  test("what is saved is restored: credit, caps with their budget, parameters, places", () => {
    const first = credit2({ pcpus: 2 });
    const [a, b] = first.domain("d", 2) as [ScriptedUnit, ScriptedUnit];
    first.scheduler.adjust(null, { ratelimit_us: 2000, smt_power_savings: true });
    first.scheduler.adjust(a.domain, { weight: 700, cap: 40 });
    first.wake(a, b);
    first.pass(13 * MS);
    const state = JSON.parse(JSON.stringify(first.scheduler.save()));
    const second = credit2({ pcpus: 2 });
    const [a2, b2] = second.domain("d", 2) as [ScriptedUnit, ScriptedUnit];
    second.scheduler.restore(state, (id) => second.units[id], second.now());
    expect(second.scheduler.read(null)).toEqual({ ratelimit_us: 2000, smt_power_savings: true });
    expect(second.scheduler.read(a2.domain)).toEqual({ weight: 700, cap: 40 });
    for (const [one, other] of [
      [a, a2],
      [b, b2],
    ] as const)
      expect(creditOf(second, other)).toBe(creditOf(first, one));
    const before = a.runTime + b.runTime;
    first.pass(7 * MS);
    second.wake(a2, b2);
    second.pass(7 * MS);
    expect(a2.runTime + b2.runTime).toBe(a.runTime + b.runTime - before);
    expect(second.scheduler.dump()).toContain("cap 40");
  });
});

describe("load averages", () => {
  test("approach the load linearly within a window of 2^30 ns", () => {
    const load = new LoadAverage(0, 0);
    load.update(0, 1);
    load.update(2 ** 29, 0);
    expect(load.average).toBe(LOAD_ONE / 2);
    load.update(2 ** 30, 0);
    expect(load.average).toBe(LOAD_ONE * 0.75);
    load.update(3 * 2 ** 30, 0);
    expect(load.average).toBe(LOAD_ONE);
  });
});
