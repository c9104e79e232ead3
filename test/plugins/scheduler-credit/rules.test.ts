/** Credit's rules one by one, on a host that the test drives. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { CreditScheduler } from "../../../plugins/scheduler-credit/credit.ts";
import { ScriptedHost, type ScriptedUnit, type Topology } from "../scheduler-credit2/scripted-host.ts";

const US = 1e3;
const MS = 1e6;
const [BOOST, UNDER, OVER] = [0, -1, -2];

type Host = ScriptedHost<CreditScheduler>;

function credit(topology: Topology = { pcpus: 1 }): Host {
  return new ScriptedHost(topology, (host) => new CreditScheduler(host));
}

interface Seen {
  readonly id: number;
  readonly priority: number;
  readonly credit: number;
  readonly active: boolean;
  readonly parked: boolean;
}

/** What the scheduler holds of a unit, from the saved state. */
function see(host: Host, unit: ScriptedUnit): Seen {
  const { domains } = host.scheduler.save() as unknown as { domains: { units: Seen[] }[] };
  return domains.flatMap((domain) => domain.units).find((one) => one.id === unit.id)!;
}

describe("credit", () => {
  test("burns 10 a millisecond, exactly, the rest carried over", () => {
    const host = credit();
    const [a] = host.domain("a", 1) as [ScriptedUnit];
    host.wake(a);
    for (let i = 0; i < 50; i++) {
      host.pass(90 * US);
      expect(see(host, a).credit).toBe(0 - Math.floor((90 * (i + 1)) / 100));
    }
  });

  test("a hog is active from its first tick, earns at the end of each slice, at most a slice's worth", () => {
    const host = credit();
    const [a] = host.domain("a", 1) as [ScriptedUnit];
    host.wake(a);
    host.pass(9 * MS);
    expect(see(host, a)).toMatchObject({ active: false, credit: -90 });
    host.pass(2 * MS);
    expect(see(host, a)).toMatchObject({ active: true, credit: -110 });
    host.pass(20 * MS);
    // 300 burnt in 30 ms, 300 earned, 10 burnt since.
    expect(see(host, a)).toMatchObject({ active: true, credit: -10, priority: UNDER });
  });

  test("above a slice's worth a unit goes inactive with half of it, and earns no more", () => {
    const host = credit();
    const [a] = host.domain("a", 1) as [ScriptedUnit];
    host.wake(a);
    host.pass(10 * MS);
    host.sleep(a);
    // -100, then +300 at 30 ms, +300 at 60 ms is 500: inactive with 250.
    host.pass(25 * MS);
    expect(see(host, a)).toMatchObject({ active: true, credit: 200 });
    host.pass(30 * MS);
    expect(see(host, a)).toMatchObject({ active: false, credit: 250 });
    host.pass(100 * MS);
    expect(see(host, a)).toMatchObject({ active: false, credit: 250 });
  });

  test("below 0 is OVER, and never below minus a slice's worth after accounting", () => {
    const host = credit();
    const [a] = host.domain("a", 1) as [ScriptedUnit];
    const [b] = host.domain("b", 1) as [ScriptedUnit];
    host.scheduler.adjust(a.domain, { weight: 1 });
    host.scheduler.adjust(b.domain, { weight: 65535 });
    host.wake(a);
    host.pass(20 * MS);
    host.wake(b);
    host.pass(100 * MS);
    expect(see(host, a).priority).toBe(OVER);
    expect(see(host, a).credit).toBeGreaterThanOrEqual(-300);
    expect(host.scheduler.entitled(a)).toBe(false);
    expect(host.scheduler.entitled(b)).toBe(true);
  });
});

describe("boost", () => {
  test("on a wake from UNDER, until a tick finds the unit running", () => {
    const host = credit();
    const [a] = host.domain("a", 1) as [ScriptedUnit];
    expect(see(host, a).priority).toBe(UNDER);
    host.wake(a);
    expect(see(host, a).priority).toBe(BOOST);
    host.pass(9 * MS);
    expect(see(host, a).priority).toBe(BOOST);
    host.pass(1 * MS);
    expect(see(host, a).priority).toBe(UNDER);
  });

  test("preempts UNDER when the rate limit is over, and not when only moved", () => {
    for (const moved of [false, true]) {
      const host = credit();
      const [a, b] = host.domain("d", 2) as [ScriptedUnit, ScriptedUnit];
      host.pass(5 * MS);
      host.wake(a);
      host.pass(12 * MS);
      host.sleep(b);
      host.pass(500 * US);
      if (moved) host.pin(b, [0]);
      host.wake(b);
      expect(see(host, b).priority).toBe(moved ? UNDER : BOOST);
      host.pass(1 * US);
      expect(b.runningOn !== null).toBe(!moved);
    }
  });

  test("not from OVER", () => {
    const host = credit();
    const [a] = host.domain("a", 1) as [ScriptedUnit];
    const [b] = host.domain("b", 1) as [ScriptedUnit];
    host.scheduler.adjust(a.domain, { weight: 1 });
    host.scheduler.adjust(b.domain, { weight: 65535 });
    host.wake(a);
    host.pass(20 * MS);
    host.wake(b);
    host.pass(100 * MS);
    expect(see(host, a).priority).toBe(OVER);
    host.sleep(a);
    host.settle();
    host.wake(a);
    expect(see(host, a).priority).toBe(OVER);
  });
});

describe("rate limit and slice", () => {
  test("a run lasts the rate limit unless it yields; the slice is 30 ms", () => {
    const host = credit();
    const [a, b] = host.domain("d", 2) as [ScriptedUnit, ScriptedUnit];
    host.wake(a);
    host.settle();
    expect(host.pcpus[0]!.decision.slice).toBe(30 * MS);
    host.pass(11 * MS);
    host.sleep(a);
    host.settle();
    host.wake(a);
    host.pass(10 * MS);
    // a is UNDER and has run for long; b is boosted and runs at once, then a's boost waits for b's rate limit.
    host.sleep(a);
    host.wake(b);
    host.settle();
    host.pass(300 * US);
    expect(b.runningOn).not.toBeNull();
    host.pass(9.7 * MS);
    host.wake(a);
    host.settle();
    expect(a.runningOn).not.toBeNull();
  });

  test("within the limit the running unit goes on for the rest of it", () => {
    const host = credit();
    const [a, b] = host.domain("d", 2) as [ScriptedUnit, ScriptedUnit];
    // A tick ends a's boost while it runs; then it starts anew and b's boost beats it.
    host.pass(9.5 * MS);
    host.wake(a);
    host.pass(0.7 * MS);
    host.wake(b);
    host.settle();
    expect(a.runningOn).not.toBeNull();
    expect(host.pcpus[0]!.decision.slice).toBe(0.3 * MS);
    host.pass(0.3 * MS);
    expect(b.runningOn).not.toBeNull();
    host.yieldNow(b);
    host.settle();
    expect(a.runningOn).not.toBeNull();
  });
});

describe("yield", () => {
  test("lets one unit of a lower priority pass", () => {
    const host = credit();
    const [low, other] = host.domain("low", 2) as [ScriptedUnit, ScriptedUnit];
    const [high] = host.domain("high", 1) as [ScriptedUnit];
    host.scheduler.adjust(low.domain, { weight: 1 });
    host.scheduler.adjust(high.domain, { weight: 65535 });
    host.wake(low, other);
    host.pass(100 * MS);
    host.wake(high);
    host.pass(400 * MS);
    for (const one of [low, other]) expect(see(host, one).priority).toBe(OVER);
    expect(high.runningOn).not.toBeNull();
    const before = high.runTime;
    host.yieldNow(high);
    host.settle();
    const passed = low.runningOn !== null ? low : other;
    expect(passed.runningOn).not.toBeNull();
    // And not two.
    host.pass(31 * MS);
    expect(high.runTime).toBeGreaterThan(before);
  });
});

describe("caps", () => {
  test("park below minus the cap's credits, unpark at 0; nobody is boosted by that", () => {
    const host = credit();
    const [a] = host.domain("a", 1) as [ScriptedUnit];
    host.scheduler.adjust(a.domain, { cap: 50 });
    host.wake(a);
    let [parked, unparked] = [0, 0];
    for (let at = 0; at < 1000; at++) {
      const before = see(host, a);
      host.pass(1 * MS);
      const now = see(host, a);
      if (now.parked && !before.parked) parked++;
      if (!now.parked && before.parked) {
        unparked++;
        expect(now.credit).toBeGreaterThanOrEqual(-10);
        expect(now.priority).toBe(UNDER);
      }
      if (now.parked) {
        expect(a.runningOn).toBeNull();
        expect(host.scheduler.entitled(a)).toBe(false);
      }
    }
    expect(parked).toBeGreaterThan(5);
    expect(unparked).toBeGreaterThan(5);
    expect(a.runTime / host.now()).toBeGreaterThan(0.45);
    expect(a.runTime / host.now()).toBeLessThan(0.55);
  });

  test("a wake of a parked unit changes nothing, and a lifted cap frees it at once", () => {
    const host = credit();
    const [a] = host.domain("a", 1) as [ScriptedUnit];
    host.scheduler.adjust(a.domain, { cap: 1 });
    host.wake(a);
    host.pass(95 * MS);
    expect(see(host, a).parked).toBe(true);
    host.sleep(a);
    host.wake(a);
    host.settle();
    expect(a.runningOn).toBeNull();
    host.scheduler.adjust(a.domain, { cap: 0 });
    host.settle();
    expect(a.runningOn).not.toBeNull();
  });
});

describe("stealing", () => {
  /** One unit that may run everywhere waits on pCPU `from`, behind a pinned one that was there first. */
  function crowded(host: Host, from: number): [ScriptedUnit, ScriptedUnit] {
    const [pinned, free] = host.domain(`on${from}`, 2) as [ScriptedUnit, ScriptedUnit];
    host.pin(pinned, [from]);
    host.pin(free, [from]);
    host.wake(pinned, free);
    host.settle();
    return [pinned, free];
  }

  test("an idle pCPU takes what waits, of its own node first", () => {
    const host = credit({ pcpus: 6, coresPerSocket: 2 });
    // pCPUs 0,1 | 2,3 | 4,5. Pinned ones keep all but pCPU 3 busy; on 0 and on 2 somebody waits who may go to 3.
    const busy = host.domain("busy", 6);
    for (const [id, one] of busy.entries()) host.pin(one, [id]);
    host.wake(...busy);
    host.settle();
    const [far, near] = host.domain("waiting", 2) as [ScriptedUnit, ScriptedUnit];
    host.pin(far, [0, 3]);
    host.pin(near, [2, 3]);
    host.wake(far, near);
    host.settle();
    host.pass(12 * MS);
    host.sleep(busy[3]!);
    host.settle();
    expect([far, near].some((one) => one.runningOn?.id === 3)).toBe(true);
  });

  test("with work of its own that is UNDER a pCPU does not look elsewhere", () => {
    const host = credit({ pcpus: 2 });
    const [, waits] = crowded(host, 0);
    waits.hardAffinity = new Set([0, 1]);
    const [own] = host.domain("own", 1) as [ScriptedUnit];
    host.pin(own, [1]);
    host.wake(own);
    host.pass(1 * MS);
    expect(own.runningOn?.id).toBe(1);
    expect(waits.runningOn === null || waits.runningOn.id === 0).toBe(true);
  });

  test("with OVER work it takes UNDER work, at most once a millisecond", () => {
    const host = credit({ pcpus: 2 });
    const [hog] = host.domain("hog", 1) as [ScriptedUnit];
    const [x, y] = host.domain("xy", 2) as [ScriptedUnit, ScriptedUnit];
    host.scheduler.adjust(hog.domain, { weight: 1 });
    for (const [one, id] of [
      [hog, 1],
      [x, 0],
    ] as const)
      host.pin(one, [id]);
    host.wake(hog, x);
    host.pass(120 * MS);
    expect(see(host, hog).priority).toBe(OVER);
    // y may run on both, and its home is pCPU 0, where x runs.
    host.pin(y, [0]);
    y.hardAffinity = new Set([0, 1]);
    y.softAffinity = y.hardAffinity;
    host.wake(y);
    host.pass(31 * MS);
    expect(y.runTime).toBeGreaterThan(0);
    expect(hog.runTime + x.runTime + y.runTime).toBe(2 * host.now());
  });

  test("not what left a pCPU within the migration delay", () => {
    for (const delay of [0, 100_000]) {
      const host = credit({ pcpus: 2 });
      host.scheduler.adjust(null, { migration_delay_us: delay, ratelimit_us: 0 });
      const [a, b] = host.domain("d", 2) as [ScriptedUnit, ScriptedUnit];
      const [c] = host.domain("c", 1) as [ScriptedUnit];
      host.pin(a, [0]);
      host.pin(c, [1]);
      host.wake(a, c);
      host.settle();
      host.pin(b, [0]);
      b.hardAffinity = new Set([0, 1]);
      b.softAffinity = b.hardAffinity;
      host.wake(b);
      host.pass(1 * MS);
      host.yieldNow(host.pcpus[0]!.currentUnit!);
      host.pass(1 * MS);
      if (b.runningOn !== null) host.yieldNow(b);
      host.settle();
      expect(b.runningOn).toBeNull();
      host.sleep(c);
      host.settle();
      expect(b.runningOn !== null).toBe(delay === 0);
    }
  });
});

describe("topology", () => {
  const smt: Topology = { pcpus: 4, threadsPerCore: 2 };

  test("at a tick a unit moves off a shared core to an idle one, or the other way with smt_power_savings", () => {
    for (const savings of [false, true]) {
      const host = credit(smt);
      host.scheduler.adjust(null, { smt_power_savings: savings });
      const [a, b] = host.domain("d", 2) as [ScriptedUnit, ScriptedUnit];
      // Both on one core, or each on its own.
      host.pin(a, [0]);
      host.pin(b, [savings ? 2 : 1]);
      host.wake(a, b);
      host.settle();
      for (const one of [a, b]) {
        one.hardAffinity = new Set([0, 1, 2, 3]);
        one.softAffinity = one.hardAffinity;
      }
      host.pass(45 * MS);
      expect(a.runningOn!.core === b.runningOn!.core).toBe(savings);
      const where = [a.runningOn, b.runningOn];
      host.pass(100 * MS);
      expect([a.runningOn, b.runningOn]).toEqual(where);
      expect(a.runTime + b.runTime).toBe(2 * host.now());
    }
  });

  test("such a move gives no boost", () => {
    const host = credit(smt);
    const [a, b] = host.domain("d", 2) as [ScriptedUnit, ScriptedUnit];
    host.pin(a, [0]);
    host.pin(b, [1]);
    host.wake(a, b);
    host.settle();
    for (const one of [a, b]) one.hardAffinity = one.softAffinity = new Set([0, 1, 2, 3]);
    host.pass(45 * MS);
    expect(a.runningOn!.core).not.toBe(b.runningOn!.core);
    for (const one of [a, b]) expect(see(host, one).priority).toBe(UNDER);
  });

  test("another socket only when it is more than twice as idle", () => {
    const host = credit({ pcpus: 8, coresPerSocket: 4 });
    const units = host.domain("d", 3);
    for (const [i, one] of units.entries()) host.pin(one, [i]);
    host.wake(...units);
    host.settle();
    for (const one of units) one.hardAffinity = one.softAffinity = new Set([0, 1, 2, 3, 4, 5, 6, 7]);
    host.pass(100 * MS);
    // 1 idle and its own against 4: not more than twice; a fourth would make it 1 against 4.
    expect(units.filter((one) => one.runningOn!.socket === 0).length).toBe(3);
  });

  test("soft affinity: where it waits, who takes it", () => {
    const host = credit({ pcpus: 4 });
    const [a] = host.domain("a", 1) as [ScriptedUnit];
    host.pin(a, [0, 1, 2, 3], [2, 3]);
    for (let i = 0; i < 8; i++) {
      host.wake(a);
      host.pass(3 * MS);
      expect(a.runningOn!.id).toBeGreaterThanOrEqual(2);
      host.sleep(a);
      host.pass(1 * MS);
    }
  });
});

describe("hotplug and state", () => {
  test("a pCPU that leaves hands over its queue; one that joins takes its part", () => {
    const host = credit({ pcpus: 3 });
    const units = host.domain("d", 9);
    host.wake(...units);
    host.pass(20 * MS);
    host.remove(1);
    host.remove(0);
    const before = units.map((one) => one.runTime);
    host.pass(1000 * MS);
    for (const [i, one] of units.entries()) expect(one.runTime - before[i]!).toBeGreaterThan(50 * MS);
    host.add(0);
    host.add(1);
    host.pass(31 * MS);
    expect(host.pcpus.every((pcpu) => pcpu.currentUnit !== null)).toBe(true);
  });

  test("a unit whose affinity names only a pCPU that is about to join waits for it", () => {
    const host = credit({ pcpus: 2 });
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

  test("what is saved is restored, and saved again is the same", () => {
    const first = credit({ pcpus: 2 });
    const units = [...first.domain("a", 2), ...first.domain("b", 2)];
    first.scheduler.adjust(null, { tslice_ms: 20, ratelimit_us: 500, smt_power_savings: true });
    first.scheduler.adjust(units[0]!.domain, { weight: 1000, cap: 30 });
    first.wake(...units);
    first.pass(777 * MS);
    const state = JSON.parse(JSON.stringify(first.scheduler.save()));
    const second = credit({ pcpus: 2 });
    second.domain("a", 2);
    second.domain("b", 2);
    second.scheduler.restore(state, (id) => second.units[id], second.now());
    const units2 = (all: unknown): unknown => (all as { domains: { units: Seen[] }[] }).domains.map((one) => one.units);
    expect(units2(second.scheduler.save())).toEqual(units2(state));
    expect(second.scheduler.read(null)).toEqual(first.scheduler.read(null));
    second.wake(...second.units);
    for (const one of second.units) expect(see(second, one).priority).not.toBe(BOOST);
    second.pass(1000 * MS);
    const capped = second.units[0]!.runTime + second.units[1]!.runTime;
    expect(capped / second.now()).toBeLessThan(0.35);
    expect(second.scheduler.dump()).toContain("cap 30");
  });

  test("bounds across parameters: EINVAL; an unknown domain: ESRCH", () => {
    const host = credit();
    expect(host.scheduler.adjust(null, { ratelimit_us: 99 })).toBe(-22);
    expect(host.scheduler.adjust(null, { tslice_ms: 1, ratelimit_us: 1001 })).toBe(-22);
    expect(host.scheduler.adjust({} as never, { weight: 5 })).toBe(-3);
  });
});

describe("under random operations", () => {
  const operations = fc.array(fc.record({ kind: fc.nat(10), unit: fc.nat(11), value: fc.nat(1000) }), {
    maxLength: 60,
  });
  const topologies = fc.constantFrom<Topology>(
    { pcpus: 1 },
    { pcpus: 3 },
    { pcpus: 4, threadsPerCore: 2 },
    { pcpus: 6, threadsPerCore: 2, coresPerSocket: 1, socketsPerNode: 2 },
  );

  test("no pCPU idles while a unit waits that it may run, and nobody is lost", () => {
    fc.assert(
      fc.property(topologies, operations, (topology, list) => {
        const host = credit(topology);
        const units = [...host.domain("a", 4), ...host.domain("b", 4), ...host.domain("capped", 4)];
        host.scheduler.adjust(units[8]!.domain, { cap: 60 });
        for (const { kind, unit: index, value } of list) {
          const unit = units[index]!;
          if (kind <= 2) {
            if (unit.runnable) host.sleep(unit);
            else host.wake(unit);
          } else if (kind === 3) host.pass(value * 20_000);
          else if (kind === 4) host.pass(value * 100);
          else if (kind === 5 && unit.runningOn !== null) host.yieldNow(unit);
          else if (kind === 6) host.scheduler.adjust(unit.domain, { weight: 1 + value * 65 });
          else if (kind === 7)
            host.scheduler.adjust(null, {
              smt_power_savings: value % 2 === 0,
              tslice_ms: 1 + (value % 40),
              ratelimit_us: 100 + value,
            });
          else if (kind === 8 && !unit.runnable && unit.runningOn === null) {
            const all = host.pcpus.map((pcpu) => pcpu.id);
            const hard = all.filter((id) => (value & (1 << id)) !== 0);
            const soft = hard.filter((id) => (value & (8 << id)) !== 0);
            if (hard.length > 0) host.pin(unit, hard, soft.length > 0 ? soft : hard);
          } else if (kind === 9) {
            const gone = host.pcpus[value % host.pcpus.length]!.id;
            const pinned = units.some((one) => one.hardAffinity.size < host.pcpus.length);
            if (host.pcpus.length > 1 && !pinned) host.remove(gone);
          } else if (kind === 10 && host.pcpus.length < topology.pcpus) {
            const missing = Array.from({ length: topology.pcpus }, (_, id) => id).find((id) =>
              host.pcpus.every((one) => one.id !== id),
            );
            host.add(missing!);
          }
          if (value % 3 !== 0) continue;
          host.settle();
          const idle = host.pcpus.filter((pcpu) => pcpu.currentUnit === null);
          if (idle.length === 0) continue;
          for (const one of units)
            if (one.runnable && one.runningOn === null && !see(host, one).parked)
              for (const pcpu of idle)
                expect(
                  one.hardAffinity.has(pcpu.id),
                  `${pcpu} idles while ${one} waits\n${host.scheduler.dump()}`,
                ).toBe(false);
        }
        for (const one of units) if (one.runnable) host.sleep(one);
        host.settle();
        for (const one of units) {
          host.scheduler.adjust(one.domain, { weight: 256, cap: 0 });
          host.pin(
            one,
            host.pcpus.map((pcpu) => pcpu.id),
          );
        }
        const before = units.map((one) => one.runTime);
        host.wake(...units);
        host.pass(3000 * MS);
        for (const [i, one] of units.entries()) expect(one.runTime, `${one}`).toBeGreaterThan(before[i]!);
      }),
      { numRuns: 60, interruptAfterTimeLimit: 4_000 },
    );
  });
});
