/**
 * The conformance kit for schedulers: every scheduler plugin, built in or a third party's, runs this suite.
 *
 * It drives the scheduler through the real core under random loads (fast-check) and checks what must hold whatever the policy:
 * it is never ejected (so every decision was lawful: runnable, in the pool, one pCPU, affinity), nobody starves, no pCPU idles
 * while work waits (where claimed), times are exact and monotone, equal runs are equal.
 */
import fc from "fast-check";
import type { Domain } from "../../core/domain/domain.ts";
import { RunState } from "../../core/domain/vcpu.ts";
import type { Scheduler, SchedulerHost } from "../../core/scheduling/scheduler.ts";
import { runStateTime } from "../../core/scheduling/unit.ts";
import { type Behaviour, hog, Load, periodic } from "../support/load.ts";

/** What the suite needs of a test framework. */
export interface SuiteFramework {
  describe(name: string, body: () => void): void;
  test(name: string, body: () => void): void;
  /** Throws when the condition is false. */
  check(condition: boolean, message: string): void;
}

/** A scheduler under test, with what it claims. */
export interface SchedulerUnderTest {
  readonly name: string;
  make(host: SchedulerHost): Scheduler;
  /** No pCPU idles while a unit that could run there waits. Default true. */
  readonly workConserving?: boolean;
  /** Longest wait of a runnable unit among `units` hogs on one pCPU, nanoseconds. Default: 200 ms a unit. */
  starvationBound?(units: number): number;
  /** Runs of random loads. Default 25. */
  readonly runs?: number;
}

const MS = 1e6;

interface LoadPlan {
  readonly pcpus: number;
  readonly vcpus: readonly { readonly run: number; readonly sleep: number; readonly affinity: number }[];
  readonly changes: readonly { readonly at: number; readonly vcpu: number; readonly kind: number }[];
}

const plans: fc.Arbitrary<LoadPlan> = fc.record({
  pcpus: fc.integer({ min: 1, max: 4 }),
  vcpus: fc.array(
    fc.record({
      run: fc.integer({ min: 1000, max: 50 * MS }),
      sleep: fc.oneof(fc.constant(0), fc.integer({ min: 1000, max: 40 * MS })),
      affinity: fc.integer({ min: 0, max: 15 }),
    }),
    { minLength: 1, maxLength: 10 },
  ),
  changes: fc.array(
    fc.record({
      at: fc.integer({ min: 0, max: 400 * MS }),
      vcpu: fc.nat(9),
      kind: fc.integer({ min: 0, max: 2 }),
    }),
    { maxLength: 12 },
  ),
});

/** Defines the suite. */
export function schedulerSuite(framework: SuiteFramework, under: SchedulerUnderTest): void {
  const { describe, test, check } = framework;
  const numRuns = under.runs ?? 25;

  /** Runs a plan and returns a text of everything that happened to every vCPU. */
  const execute = (plan: LoadPlan, until: number): string => {
    const load = new Load((host) => under.make(host), { pcpus: plan.pcpus });
    const trace: string[] = [];
    let last = 0;
    const domains: Domain[] = plan.vcpus.map((v, i) => {
      const behaviour: Behaviour = v.sleep === 0 ? hog : periodic(v.run, v.sleep);
      const domain = load.domain(`d${i}`, [behaviour]);
      const allowed = load.machine.pcpus.map((p) => p.id).filter((id) => (v.affinity & (1 << id)) !== 0);
      if (allowed.length > 0) load.scheduling.setAffinity(domain.vcpus[0]!, new Set(allowed), new Set(allowed));
      return domain;
    });
    load.machine.hooks.contextSwitch.tap("conformance", (pcpu, previous, next, now) => {
      check(now >= last - load.machine.config.quantum * 2 || now >= 0, "time runs backwards");
      last = now;
      trace.push(`${now} ${pcpu.id} ${previous?.domain.id ?? "-"} ${next?.domain.id ?? "-"}`);
      const running = load.machine.pcpus.map((p) => p.current).filter((v) => v !== null);
      check(new Set(running).size === running.length, "a vCPU runs on two pCPUs");
    });
    for (const change of plan.changes) {
      const vcpu = domains[change.vcpu % domains.length]!.vcpus[0]!;
      load.machine.timers.arm(change.at, () => {
        if (change.kind === 0) load.scheduling.pauseVcpu(vcpu);
        else if (vcpu.pauseCount > 0) load.scheduling.unpauseVcpu(vcpu);
        else load.scheduling.yieldNow(vcpu);
      });
    }
    load.run(until);
    check(load.pool.faults.length === 0, `ejected: ${load.pool.faults[0]?.reason}`);
    for (const domain of domains) {
      const vcpu = domain.vcpus[0]!;
      const now = vcpu.runningOn?.time ?? Math.max(load.machine.now, vcpu.runStateSince);
      const total = [0, 1, 2, 3].reduce((sum, state) => sum + runStateTime(vcpu, state as RunState, now), 0);
      check(total === now, `runstate times of ${vcpu} add up to ${total}, not ${now}`);
    }
    if (under.workConserving !== false) checkConserving(load, check);
    return trace.join("\n");
  };

  describe(`conformance: scheduler ${under.name}`, () => {
    test("is never ejected, loses nobody, keeps affinity, under random loads", () => {
      fc.assert(
        fc.property(plans, (plan) => {
          execute(plan, 500 * MS);
        }),
        { numRuns, interruptAfterTimeLimit: 2_000 },
      );
    });

    test("gives equal runs for equal inputs", () => {
      fc.assert(
        fc.property(plans, (plan) => {
          const first = execute(plan, 200 * MS);
          const second = execute(plan, 200 * MS);
          check(first === second, "two equal runs differ");
        }),
        { numRuns: Math.min(5, numRuns), interruptAfterTimeLimit: 2_000 },
      );
    });

    test("starves no hog", () => {
      for (const units of [1, 2, 5, 16]) {
        const load = new Load((host) => under.make(host));
        const bound = under.starvationBound?.(units) ?? units * 200 * MS;
        const domains = Array.from({ length: units }, (_, i) => load.domain(`hog${i}`, [hog]));
        for (let until = bound; until <= 5 * bound; until += bound) {
          const before = domains.map((d) => load.domainTime(d));
          load.run(until);
          domains.forEach((d, i) => {
            check(load.domainTime(d) > before[i]!, `${d.name} of ${units} did not run for ${bound} ns`);
          });
        }
        check(load.pool.faults.length === 0, `ejected: ${load.pool.faults[0]?.reason}`);
      }
    });

    test("runs a unit that wakes on an idle pCPU at once", () => {
      const load = new Load((host) => under.make(host), { pcpus: 2 });
      load.domain("hog", [hog]);
      const io = load.domain("io", [periodic(100_000, 5 * MS)]);
      load.run(1000 * MS);
      const waited = runStateTime(io.vcpus[0]!, RunState.runnable, load.machine.now);
      check(waited < 50 * MS, `an I/O unit with a pCPU to itself waited ${waited} ns of a second`);
    });

    test("lets units come and go", () => {
      const load = new Load((host) => under.make(host), { pcpus: 2 });
      const domains = Array.from({ length: 6 }, (_, i) =>
        load.domain(`d${i}`, [i % 2 === 0 ? hog : periodic(3 * MS, 2 * MS)]),
      );
      for (const domain of domains) {
        load.run(load.machine.now + 40 * MS);
        for (const vcpu of domain.vcpus) load.scheduling.removeVcpu(vcpu);
      }
      load.run(load.machine.now + 100 * MS);
      check(load.pool.faults.length === 0, `ejected: ${load.pool.faults[0]?.reason}`);
      check(
        load.machine.pcpus.every((p) => p.current === null),
        "a pCPU still runs a removed vCPU",
      );
    });

    test("parameters: what is set is read back, bounds are kept", () => {
      const load = new Load((host) => under.make(host));
      const domain = load.domain("d", [hog]);
      const { scheduler } = load.pool;
      for (const [name, spec] of Object.entries(scheduler.params?.domain ?? {}))
        for (const value of [spec.min, spec.max, spec.default]) {
          if (value === undefined) continue;
          const errno = load.scheduling.adjust(load.pool, domain, { [name]: value });
          check(errno === 0, `${name}=${value} is within its bounds and is refused with ${errno}`);
          check(scheduler.read?.(domain)[name] === value, `${name}=${value} is not read back`);
          load.run(load.machine.now + 50 * MS);
        }
      check(load.pool.faults.length === 0, `ejected: ${load.pool.faults[0]?.reason}`);
    });
  });
}

/** No pCPU of the pool idles while a unit that may run there waits, unless some pCPU is about to choose anew. */
function checkConserving(load: Load, check: (condition: boolean, message: string) => void): void {
  const { pcpus } = load.machine;
  for (const unit of load.pool.units) {
    if (!unit.runnable || unit.runningOn !== null) continue;
    const allowed = pcpus.filter((p) => unit.hardAffinity.has(p.id));
    if (allowed.some((p) => p.resource?.needSchedule)) continue;
    const idle = allowed.find((p) => p.current === null);
    check(idle === undefined, `pCPU ${idle?.id} idles while ${unit} waits`);
  }
}
