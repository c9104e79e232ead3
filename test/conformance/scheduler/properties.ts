/**
 * The properties that hold whatever the policy: random trials and a few fixed loads.
 */
import fc from "fast-check";
import { RunState } from "../../../core/domain/vcpu.ts";
import { ConfigError } from "../../../core/errors.ts";
import type { ParamSpec, ParamSpecs, ParamValue } from "../../../core/scheduling/scheduler.ts";
import { runStateTime } from "../../../core/scheduling/unit.ts";
import { hog, Load, periodic } from "../../support/load.ts";
import { check, MS, type SchedulerProperty, type SchedulerUnderTest, starvationBound } from "./contract.ts";
import { EVENTS, type EventKind, PLAIN_EVENTS, type Plan, plans } from "./plan.ts";
import { checkAdjusted, Trial } from "./trial.ts";
import { beyond, within } from "./values.ts";
import { Watch } from "./watch.ts";

/** Options of fast-check for `runs` random inputs. */
export function options(under: SchedulerUnderTest, runs: number): fc.Parameters<unknown> {
  const { effort = 1, seed = 1, shrink = true } = under;
  const numRuns = Math.max(1, Math.round(runs * effort));
  return {
    numRuns,
    endOnFailure: !shrink,
    ...(seed === null ? {} : { seed }),
    interruptAfterTimeLimit: 15_000 * Math.max(1, effort),
  };
}

/** What happens more often where restores matter. */
const RESTORES: readonly EventKind[] = ["replace", "replace", "replace", "domainParam", "unitParam", "poolParam"];

export function genericProperties(under: SchedulerUnderTest): SchedulerProperty[] {
  const trials = (runs: number, arbitrary: fc.Arbitrary<Plan>, body: (plan: Plan) => void): void =>
    fc.assert(fc.property(arbitrary, body), options(under, runs));
  const lawful = (plan: Plan): void => void new Trial(under, plan).run();
  const without = (...kinds: EventKind[]): EventKind[] => PLAIN_EVENTS.filter((kind) => !kinds.includes(kind));
  const properties: SchedulerProperty[] = [
    {
      name: "is never ejected, loses nobody, keeps affinity and pool, under random loads, hotplug and moves",
      run: () => trials(60, plans(without("replace")), lawful),
    },
    {
      name: "the same while parameters change at random within their bounds",
      run: () => trials(60, plans(EVENTS.filter((kind) => kind !== "replace")), lawful),
    },
    {
      name: "the same while dispatch and tickles are late, timers late, coalesced or lost",
      run: () =>
        trials(
          40,
          plans(
            EVENTS.filter((kind) => kind !== "replace"),
            { disturbed: true },
          ),
          lawful,
        ),
    },
    {
      name: "a new instance goes on from the state of the old one: parameters, state, nobody lost",
      run: () => trials(50, plans([...EVENTS, ...RESTORES], { lazy: true }), lawful),
    },
    {
      name: "gives equal runs for equal inputs",
      run: () =>
        trials(10, plans(EVENTS, { disturbed: true }), (plan) => {
          const first = new Trial(under, plan).run();
          check(first === new Trial(under, plan).run(), "two equal runs differ");
        }),
    },
    { name: "starves no hog", run: () => starvesNoHog(under) },
    { name: "lets units come and go", run: () => comeAndGo(under) },
    { name: "parameters: what is set is read back, bounds are kept", run: () => parameters(under) },
  ];
  if (under.invariant !== undefined)
    properties.push({
      name: "the state keeps its invariant at each decision, late dispatch and changing parameters included",
      run: () =>
        trials(60, plans(EVENTS, { disturbed: true, lazy: true }), (plan) => void new Trial(under, plan, true).run()),
    });
  if (under.workConserving !== false) {
    const within = typeof under.workConserving === "object" ? under.workConserving.within : 1 * MS;
    properties.push(
      {
        name: "no pCPU idles while a unit that could run there waits",
        run: () =>
          trials(50, plans(without("replace"), { lazy: true }), (plan) => {
            const trial = new Trial(under, plan);
            trial.run(conserving(trial, within));
          }),
      },
      { name: "runs a unit that wakes on an idle pCPU at once", run: () => wakesAtOnce(under) },
    );
  }
  return properties;
}

/** Notes when a pCPU has idled beside a unit that it could run for longer than `within`. */
function conserving(trial: Trial, within: number): () => void {
  const { machine, scheduling } = trial.load;
  /** Since when, by unit and pCPU. */
  let since = new Map<string, number>();
  return () => {
    const next = new Map<string, number>();
    for (const pool of scheduling.pools)
      for (const unit of pool.units) {
        if (!unit.runnable || unit.runningOn !== null) continue;
        for (const resource of pool.resources) {
          if (resource.currentUnit !== null || !unit.hardAffinity.has(resource.id)) continue;
          const key = `${unit} waits while ${resource}`;
          const from = since.get(key) ?? machine.now;
          next.set(key, from);
          if (machine.now - from > within)
            trial.watch.problem(
              `${key} has idled for ${machine.now - from} ns, at ${machine.now}\n${pool.scheduler.dump?.() ?? ""}`,
            );
        }
      }
    since = next;
  };
}

function unejected(load: Load): void {
  const [fault] = load.pool.faults;
  check(fault === undefined, `ejected: ${fault?.reason}\n${fault?.dump}`);
}

function starvesNoHog(under: SchedulerUnderTest): void {
  for (const lazy of [true, false])
    for (const units of lazy ? [1, 2, 5, 16] : [3]) {
      const load = new Load((host) => under.make(host), { lazy });
      const bound = starvationBound(under, units);
      const domains = Array.from({ length: units }, (_, i) => load.domain(`hog${i}`, [hog]));
      for (let until = bound; until <= 5 * bound; until += bound) {
        const before = domains.map((d) => load.domainTime(d));
        load.run(until);
        domains.forEach((d, i) => {
          if (load.pool.scheduler.entitled?.(d.vcpus[0]!.unit!) === false) return;
          check(load.domainTime(d) > before[i]!, `${d.name} of ${units} did not run for ${bound} ns`);
        });
      }
      unejected(load);
    }
}

function wakesAtOnce(under: SchedulerUnderTest): void {
  for (const lazy of [true, false]) {
    const load = new Load((host) => under.make(host), { pcpus: 2, lazy });
    load.domain("hog", [hog]);
    const io = load.domain("io", [periodic(100_000, 5 * MS)]);
    load.run(1000 * MS);
    const waited = runStateTime(io.vcpus[0]!, RunState.runnable, load.machine.now);
    check(waited < 50 * MS, `an I/O unit with a pCPU to itself waited ${waited} ns of a second`);
    unejected(load);
  }
}

function comeAndGo(under: SchedulerUnderTest): void {
  for (const lazy of [true, false]) {
    const load = new Load((host) => under.make(host), { pcpus: 2, lazy });
    const domains = Array.from({ length: 6 }, (_, i) =>
      load.domain(`d${i}`, [i % 2 === 0 ? hog : periodic(3 * MS, 2 * MS)]),
    );
    for (const domain of domains) {
      load.run(load.machine.now + 40 * MS);
      for (const vcpu of domain.vcpus) load.scheduling.removeVcpu(vcpu);
    }
    load.run(load.machine.now + 100 * MS);
    unejected(load);
    check(
      load.machine.pcpus.every((p) => p.current === null),
      "a pCPU still runs a removed vCPU",
    );
  }
}

/** Every parameter at its bounds, alone and with others; everything beyond is refused and changes nothing. */
function parameters(under: SchedulerUnderTest): void {
  const problems: string[] = [];
  const problem = (text: string): void => void problems.push(text);
  const watch = new Watch(under);
  const fresh = (): Load => {
    const load = new Load(watch.make, { pcpus: 2, lazy: true });
    load.domain("a", [hog, periodic(1 * MS, 3 * MS)]);
    load.domain("b", [hog]);
    load.run(5 * MS);
    return load;
  };
  const { params = {} } = fresh().pool.scheduler;
  for (const kind of ["pool", "domain", "unit"] as const) {
    const specs: ParamSpecs = params[kind] ?? {};
    const set = (load: Load, values: Record<string, unknown>): number | null => {
      const domain = load.domains[0]!;
      const target = kind === "pool" ? null : kind === "domain" ? domain : domain.vcpus[0]!;
      const subject = kind === "unit" ? domain.vcpus[0]!.unit : kind === "pool" ? null : domain;
      const before = load.pool.read(subject);
      let errno: number | null = null;
      try {
        errno = load.scheduling.adjust(load.pool, target, values as Record<string, ParamValue>);
      } catch (error) {
        if (!(error instanceof ConfigError)) throw error;
      }
      checkAdjusted(errno === null ? {} : (values as never), errno ?? 0, before, load.pool.read(subject), problem);
      return errno;
    };
    for (const [name, spec] of Object.entries<ParamSpec>(specs)) {
      const load = fresh();
      const domain = load.domains[0]!;
      const subject = kind === "unit" ? domain.vcpus[0]!.unit : kind === "pool" ? null : domain;
      const initial = load.pool.read(subject)[name];
      if (JSON.stringify(initial) !== JSON.stringify(spec.default))
        problem(
          `${kind} parameter '${name}' is ${JSON.stringify(initial)} at first, not its default ${JSON.stringify(spec.default)}`,
        );
      if (set(load, { [name]: spec.default }) !== 0)
        problem(`${kind} parameter '${name}' cannot be set to its default`);
      for (const value of beyond(spec)) {
        const shown = typeof value === "object" ? JSON.stringify(value) : String(value);
        if (set(load, { [name]: value }) !== null) problem(`${kind} parameter '${name}' can be ${shown}`);
      }
      unejected(load);
    }
    if (set(fresh(), { "no such parameter": 1 }) !== null)
      problem(`a ${kind} parameter that does not exist can be set`);
    const names = Object.keys(specs);
    if (names.length === 0) continue;
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.nat(255), fc.nat(1023)), { minLength: 1, maxLength: 8 }), (changes) => {
        const load = fresh();
        for (const [how, x] of changes) {
          const values: Record<string, ParamValue> = {};
          const texts = load.domains.flatMap((d) => [d.name, d.uuid]);
          names.forEach((name, i) => {
            if (i === x % names.length || (how >> i) % 3 === 1)
              values[name] = within(specs[name]!, how >> 2, (x + 17 * i) % 1024, { texts });
          });
          set(load, values);
          load.run(load.machine.now + 2 * MS);
        }
        unejected(load);
        check(problems.length === 0, problems[0]!);
      }),
      options(under, 20),
    );
  }
  check(problems.length === 0, problems.join("; "));
  check(watch.problems.length === 0, watch.problems.join("; "));
}
