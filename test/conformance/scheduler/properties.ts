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
import { type Exploration, explore, Failure } from "./explore.ts";
import { EVENTS, type EventKind, PLAIN_EVENTS, type Plan, plans } from "./plan.ts";
import { disturbs } from "./story.ts";
import { checkAdjusted, Trial } from "./trial.ts";
import { beyond, within } from "./values.ts";
import { Watch } from "./watch.ts";

/** What happens more often where restores matter. */
const RESTORES: readonly EventKind[] = ["replace", "replace", "replace", "domainParam", "unitParam", "poolParam"];

const PARAMETERS_KEPT = "parameters: what is set is read back, bounds are kept";

/** Actions that properties are about. */
const PARAMETERS = {
  what: "change of a parameter",
  within: (plan: Plan): boolean => plan.events.some(({ what }) => what.endsWith("Param")),
};
const DISTURBANCE = {
  what: "disturbance of the host",
  within: (plan: Plan): boolean => disturbs(plan.disturbance),
};
const REPLACEMENT = {
  what: "replacement of the instance",
  within: (plan: Plan): boolean => plan.events.some(({ what }) => what === "replace"),
};

export function genericProperties(under: SchedulerUnderTest): SchedulerProperty[] {
  /** A property of random loads: `trial` carries one out. */
  const loads = (
    name: string,
    runs: number,
    inputs: fc.Arbitrary<Plan>,
    trial: (plan: Plan) => Trial,
    own?: Exploration<Plan>["own"],
  ): SchedulerProperty => ({
    name,
    run: () =>
      explore(under, {
        name,
        runs,
        inputs,
        body: (plan) => void trial(plan),
        replayable: true,
        ...(own === undefined ? {} : { own }),
      }),
    replay: (plan) => trial(plan).story,
  });
  const lawful = (plan: Plan): Trial => {
    const trial = new Trial(under, plan);
    trial.run();
    return trial;
  };
  const without = (...kinds: EventKind[]): EventKind[] => PLAIN_EVENTS.filter((kind) => !kinds.includes(kind));
  const changing = EVENTS.filter((kind) => kind !== "replace");
  const properties: SchedulerProperty[] = [
    loads(
      "is never ejected, loses nobody, keeps affinity and pool, under random loads, hotplug and moves",
      60,
      plans(without("replace")),
      lawful,
    ),
    loads("the same while parameters change at random within their bounds", 60, plans(changing), lawful, PARAMETERS),
    loads(
      "the same while dispatch and tickles are late, timers late, coalesced or lost",
      40,
      plans(changing, { disturbed: true }),
      lawful,
      DISTURBANCE,
    ),
    loads(
      "a new instance goes on from the state of the old one: parameters, state, nobody lost",
      50,
      plans([...EVENTS, ...RESTORES], { lazy: true }),
      lawful,
      REPLACEMENT,
    ),
    loads("gives equal runs for equal inputs", 10, plans(EVENTS, { disturbed: true }), (plan) => twice(under, plan)),
    { name: "starves no hog", run: () => starvesNoHog(under) },
    { name: "lets units come and go", run: () => comeAndGo(under) },
    { name: PARAMETERS_KEPT, run: () => parameters(under) },
  ];
  if (under.invariant !== undefined)
    properties.push(
      loads(
        "the state keeps its invariant at each decision, late dispatch and changing parameters included",
        60,
        plans(EVENTS, { disturbed: true, lazy: true }),
        (plan) => {
          const trial = new Trial(under, plan, true);
          trial.run();
          return trial;
        },
      ),
    );
  if (under.workConserving !== false) {
    const within = typeof under.workConserving === "object" ? under.workConserving.within : 1 * MS;
    properties.push(
      loads(
        "no pCPU idles while a unit that could run there waits",
        50,
        plans(without("replace"), { lazy: true }),
        (plan) => {
          const trial = new Trial(under, plan);
          trial.run(conserving(trial, within));
          return trial;
        },
      ),
      { name: "runs a unit that wakes on an idle pCPU at once", run: () => wakesAtOnce(under) },
    );
  }
  return properties;
}

/** Two equal trials switch the same vCPUs at the same times. */
function twice(under: SchedulerUnderTest, plan: Plan): Trial {
  const trials = [new Trial(under, plan), new Trial(under, plan)] as const;
  const [one, other] = trials.map((trial) => trial.run().split("\n")) as [string[], string[]];
  const i = one.findIndex((line, at) => line !== other[at]);
  if (i >= 0 || one.length !== other.length)
    throw new Failure(
      `equal runs: two equal runs differ, first in: ${one[i] ?? "the end"} | ${other[i] ?? "the end"} (time, pCPU, domain.vCPU before and after)`,
      trials[0].story,
    );
  return trials[0];
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
              "no pCPU idles beside who waits",
              `${key} has idled for ${machine.now - from} ns, at ${machine.now}\n${pool.scheduler.dump?.() ?? ""}`,
            );
        }
      }
    since = next;
  };
}

function unejected(load: Load): void {
  const [fault] = load.pool.faults;
  const place = fault?.place === undefined ? "" : ` at ${fault.place}`;
  check(fault === undefined, `never ejected: ejected at ${fault?.time} ns: ${fault?.reason}${place}\n${fault?.dump}`);
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
      unejected(load);
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
    const nothing = (): void => {
      check(problems.length === 0, problems.join("; "));
      check(watch.problems.length === 0, watch.problems.join("; "));
    };
    nothing();
    if (names.length === 0) continue;
    explore(under, {
      name: PARAMETERS_KEPT,
      part: kind,
      runs: 20,
      inputs: fc.array(fc.tuple(fc.nat(255), fc.nat(1023)), { minLength: 1, maxLength: 8 }),
      body: (changes) => {
        problems.length = 0;
        watch.problems.length = 0;
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
        nothing();
      },
    });
  }
}
