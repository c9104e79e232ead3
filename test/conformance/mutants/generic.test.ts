/**
 * Schedulers that are wrong in one way each: for every property that is no matter of one policy there is one that it finds. The one that
 * they are made from passes.
 */
import { describe, expect, test } from "vitest";
import { FifoScheduler } from "../../../core/scheduling/fifo.ts";
import type {
  Decision,
  ParamSpecs,
  ParamValues,
  Scheduler,
  SchedulerHost,
  SchedulerPcpu,
  SchedulerState,
  SchedulingUnit,
} from "../../../core/scheduling/scheduler.ts";
import { Failure, type Plan, replayLoad, type SchedulerClaims, schedulerProperties } from "../scheduler.ts";

const MS = 1e6;
const IDLE: Decision = { unit: null, slice: null };

/** First in, first out, with parameters and a state. */
class Right implements Scheduler {
  readonly params: { readonly pool: ParamSpecs; readonly domain: ParamSpecs } = {
    pool: { turn: { description: "turn", type: "nanoseconds", min: 1 * MS, max: 50 * MS, default: 10 * MS } },
    domain: {
      weight: { description: "share", type: "integer", min: 1, max: 10_000, default: 100 },
      cap: { description: "per cent", type: "integer", min: 0, max: 1000, default: 0 },
    },
  };
  readonly host: SchedulerHost;
  readonly inner: FifoScheduler;
  readonly units = new Set<SchedulingUnit>();
  turn = 10 * MS;
  readonly values = new Map<number, ParamValues>();

  constructor(host: SchedulerHost) {
    this.host = host;
    this.inner = new FifoScheduler(host);
  }
  insertUnit(unit: SchedulingUnit): void {
    this.units.add(unit);
  }
  removeUnit(unit: SchedulingUnit): void {
    this.units.delete(unit);
    this.inner.removeUnit(unit);
    if (![...this.units].some((other) => other.domain === unit.domain)) this.values.delete(unit.domain.id);
  }
  affinityChanged(_unit: SchedulingUnit): void {}
  wake(unit: SchedulingUnit): void {
    this.inner.wake(unit);
  }
  sleep(unit: SchedulingUnit): void {
    this.inner.sleep(unit);
  }
  doSchedule(pcpu: SchedulerPcpu): Decision {
    const { unit } = this.inner.doSchedule(pcpu);
    return unit === null ? IDLE : { unit, slice: this.turn };
  }
  adjust(target: { readonly id: number } | null, values: ParamValues): number {
    if (target === null) this.turn = Number(values["turn"]);
    else this.values.set(target.id, { ...this.values.get(target.id), ...values });
    return 0;
  }
  read(target: { readonly id: number } | null): ParamValues {
    return target === null ? { turn: this.turn } : { weight: 100, cap: 0, ...this.values.get(target.id) };
  }
  save(): SchedulerState {
    return { turn: this.turn, values: [...this.values] as unknown as SchedulerState };
  }
  restore(state: SchedulerState): void {
    const saved = state as unknown as { turn: number; values: [number, ParamValues][] };
    this.turn = saved.turn;
    for (const [id, values] of saved.values) this.values.set(id, values);
  }
}

interface Wrong {
  readonly what: string;
  readonly make: new (host: SchedulerHost) => Scheduler;
  readonly property: RegExp;
  readonly says: RegExp;
  readonly claims?: SchedulerClaims;
}

const wrongs: readonly Wrong[] = [
  {
    what: "looks at soft affinity only, and takes anybody",
    make: class extends Right {
      override doSchedule(pcpu: SchedulerPcpu): Decision {
        const unit = [...this.units].find((one) => one.runnable && one.runningOn === null);
        const decision = super.doSchedule(pcpu);
        return decision.unit === null && unit !== undefined ? { unit, slice: this.turn } : decision;
      }
    },
    property: /^is never ejected/,
    says: /outside its hard affinity/,
  },
  {
    what: "loses a unit now and then",
    make: class extends Right {
      wakes = 0;
      override wake(unit: SchedulingUnit): void {
        if (++this.wakes % 5 !== 0) super.wake(unit);
      }
    },
    property: /^is never ejected/,
    says: /could run since \d+ ns, is entitled, and has not/,
  },
  {
    what: "forgets in a pool that a pCPU has gone",
    make: class extends Right {
      readonly idle: SchedulerPcpu[] = [];
      pcpuRemoved(): void {}
      override doSchedule(pcpu: SchedulerPcpu): Decision {
        for (const unit of this.units)
          if (!unit.hardAffinity.has(this.host.pcpus[0]!.id)) return super.doSchedule(pcpu);
        if (!this.idle.includes(pcpu)) this.idle.push(pcpu);
        if (this.idle.some((one) => !this.host.pcpus.includes(one))) return IDLE;
        return super.doSchedule(pcpu);
      }
    },
    property: /^is never ejected/,
    says: /could run since/,
  },
  {
    what: "never schedules again after a short turn was set",
    make: class extends Right {
      override doSchedule(pcpu: SchedulerPcpu): Decision {
        return this.turn < 2 * MS ? IDLE : super.doSchedule(pcpu);
      }
    },
    property: /^the same while parameters change/,
    says: /could run since/,
  },
  {
    what: "relies on its timers to be in time",
    make: class extends Right {
      constructor(host: SchedulerHost) {
        super(host);
        const tick = (at: number): void =>
          void host.timer(at, (now) => {
            if (now > at) throw new Error("late");
            tick(at + 10 * MS);
          });
        tick(10 * MS);
      }
    },
    property: /^the same while dispatch and tickles are late/,
    says: /timer threw: late/,
  },
  {
    what: "does not save a domain's parameters",
    make: class extends Right {
      override save(): SchedulerState {
        return { turn: this.turn, values: [] };
      }
    },
    property: /^a new instance goes on/,
    says: /after a restore/,
  },
  {
    what: "saves what it does not restore",
    make: class extends Right {
      override restore(): void {}
    },
    property: /^a new instance goes on/,
    says: /is not the state saved|after a restore/,
  },
  {
    what: "throws dice of its own",
    make: class extends Right {
      override doSchedule(pcpu: SchedulerPcpu): Decision {
        const { unit } = super.doSchedule(pcpu);
        return unit === null ? IDLE : { unit, slice: 1 * MS + Math.random() * MS };
      }
    },
    property: /^gives equal runs/,
    says: /two equal runs differ/,
  },
  {
    what: "lets a hog run for as long as it likes",
    make: class extends Right {
      override doSchedule(pcpu: SchedulerPcpu): Decision {
        const { currentUnit } = pcpu;
        return currentUnit?.runnable && currentUnit.hardAffinity.has(pcpu.id)
          ? { unit: currentUnit, slice: null }
          : super.doSchedule(pcpu);
      }
    },
    property: /^starves no hog/,
    says: /did not run for/,
  },
  {
    what: "cannot do without units",
    make: class extends Right {
      override removeUnit(unit: SchedulingUnit): void {
        super.removeUnit(unit);
        if (this.units.size === 0) throw new Error("nobody left");
      }
    },
    property: /^lets units come and go/,
    says: /nobody left/,
  },
  {
    what: "clamps what it is set to",
    make: class extends Right {
      override read(target: { readonly id: number } | null): ParamValues {
        const values = super.read(target);
        return target === null ? values : { ...values, weight: Math.min(5000, Number(values["weight"])) };
      }
    },
    property: /^parameters: what is set/,
    says: /'weight' reads 5000/,
  },
  {
    what: "sets half of what it refuses",
    make: class extends Right {
      override adjust(target: { readonly id: number } | null, values: ParamValues): number {
        super.adjust(target, values);
        return target !== null && Number(values["cap"]) > 500 ? -22 : 0;
      }
    },
    property: /^parameters: what is set/,
    says: /answered -22, and '\w+' reads/,
  },
  {
    what: "declares bounds that it does not keep",
    make: class extends Right {
      override adjust(target: { readonly id: number } | null, values: ParamValues): number {
        return target !== null && values["weight"] === 100 ? -22 : super.adjust(target, values);
      }
    },
    property: /^parameters: what is set/,
    says: /cannot be set to its default/,
  },
  {
    what: "keeps a pCPU to itself",
    make: class extends Right {
      override doSchedule(pcpu: SchedulerPcpu): Decision {
        const decision = super.doSchedule(pcpu);
        if (pcpu.id !== 1 || decision.unit === null || decision.unit.hardAffinity.size === 1) return decision;
        if (decision.unit !== pcpu.currentUnit) this.inner.wake(decision.unit);
        return { unit: null, slice: 5 * MS };
      }
    },
    property: /^no pCPU idles/,
    says: /waits while pCPUs? 1[ ,]/,
  },
  {
    what: "looks for work every 30 ms instead of being woken",
    make: class extends Right {
      override wake(unit: SchedulingUnit): void {
        this.waiting.add(unit);
      }
      override sleep(unit: SchedulingUnit): void {
        this.waiting.delete(unit);
        super.sleep(unit);
      }
      readonly waiting = new Set<SchedulingUnit>();
      override doSchedule(pcpu: SchedulerPcpu): Decision {
        for (const unit of this.waiting) if (unit.runningOn === null) this.inner.wake(unit);
        this.waiting.clear();
        const decision = super.doSchedule(pcpu);
        return decision.unit === null ? { unit: null, slice: 30 * MS } : decision;
      }
    },
    property: /^runs a unit that wakes/,
    says: /with a pCPU to itself waited/,
  },
  {
    what: "claims weights and has none",
    make: Right,
    claims: { proportionalShare: { param: "weight", error: 0.1, errorOnSeveral: 0.1 } },
    property: /^shares of hogs/,
    says: /its fair share is/,
  },
  {
    what: "claims caps and has none",
    make: Right,
    claims: { cap: { param: "cap", window: 1000 * MS, slack: 50 * MS } },
    property: /^a cap holds/,
    says: /with a cap of/,
  },
];

describe("the kit finds a scheduler that", () => {
  test.each(wrongs)("$what", ({ make, property, says, claims = {} }) => {
    const under = { name: "wrong", make: (host: SchedulerHost) => new make(host), shrink: false, ...claims };
    let error: unknown = null;
    try {
      schedulerProperties(under)
        .find(({ name }) => property.test(name))!
        .run();
    } catch (thrown) {
      error = thrown;
    }
    expect(error, "the property holds").not.toBeNull();
    expect(String((error as Error).cause ?? error)).toMatch(says);
  });
});

describe("the one that they are made from", () => {
  for (const { name, run } of schedulerProperties({ name: "right", make: (host) => new Right(host) })) test(name, run);
});

/** Loses who has brothers. */
class Forgetful extends Right {
  override wake(unit: SchedulingUnit): void {
    if (unit.domain.vcpus.length < 2) super.wake(unit);
  }
}

/** Takes a weight of more than 1000 for a reason to throw. */
class Touchy extends Right {
  override adjust(target: { readonly id: number } | null, values: ParamValues): number {
    if (Number(values["weight"]) > 1000) throw new Error("too heavy");
    return super.adjust(target, values);
  }
}

/** What a property says when it fails. */
function failureOf(run: () => unknown): Failure {
  try {
    run();
  } catch (error) {
    if (error instanceof Failure) return error;
    throw error;
  }
  throw new Error("it does not fail");
}

describe("a load that fails", () => {
  const forgetful = { name: "wrong", make: (host: SchedulerHost) => new Forgetful(host) };
  const touchy = { name: "touchy", make: (host: SchedulerHost) => new Touchy(host) };
  const planOf = (message: string): Plan => JSON.parse(/^Input: (.*)$/m.exec(message)![1]!) as Plan;
  const againOf = (message: string): { seed: number; path: string; only: string } =>
    JSON.parse(`{${/\.\.\.under, (.*) \}\)$/m.exec(message)![1]!}}`);

  test("is made small, and told in words", () => {
    const { message, story } = failureOf(() => schedulerProperties(forgetful)[0]!.run());
    expect(planOf(message)).toMatchObject({ cores: 1, events: [] });
    expect(planOf(message).domains.map((vcpus) => vcpus.length)).toEqual([2]);
    expect(message).toMatch(/^nobody is lost: d0v\d|^nobody is lost: .* could run since/);
    expect(story[0]).toMatch(/^1 pCPU: 1 core of 1 thread, 1 core a socket; granularity cpu; vCPUs run in \w+/);
    expect(story[1]).toMatch(/^d0\.0 (always runs|runs .* sleeps .*)$/);
    expect(story.at(-1)).toMatch(/^[\d.]+ (?:ns|us|ms): DOES NOT HOLD: nobody is lost: /);
    for (const line of story) expect(message).toContain(`  ${line}\n`);
  });

  test("says what changed: whose parameter got which value, and where the scheduler threw", () => {
    const property = schedulerProperties(touchy).find(({ name }) => /parameters change/.test(name))!;
    const { message, story } = failureOf(() => property.run());
    expect(message).toMatch(
      /^never ejected: ejected at \d+ ns: adjust threw: too heavy at test\/conformance\/mutants\/generic\.test\.ts:\d+\n/,
    );
    expect(story.join("\n")).toMatch(/^[\d.]+ (ns|us|ms): domain d0: (cap = \d+, )?weight = \d{4,5}/m);
    expect(message).not.toContain("has no change of a parameter");
  });

  test("says so when it lacks what the property is about", () => {
    const property = schedulerProperties(forgetful).find(({ name }) => /^a new instance/.test(name))!;
    const { message } = failureOf(() => property.run());
    expect(message).toMatch(/^nobody is lost: /);
    expect(message).toContain("has no replacement of the instance: what fails is not special to this property");
  });

  test.each([
    ["loads", /parameters change/],
    ["parts", /^parameters:/],
  ])("is run again by seed, path and name: %s", (_what, name) => {
    const property = schedulerProperties(touchy).find((one) => name.test(one.name))!;
    const { message } = failureOf(() => property.run());
    const again = againOf(message);
    expect(again.only).toBe(property.name);
    const [only, ...others] = schedulerProperties({ ...touchy, ...again });
    expect(others).toEqual([]);
    const second = failureOf(() => only!.run()).message;
    expect(/^Input: .*$/m.exec(second)![0]).toBe(/^Input: .*$/m.exec(message)![0]);
    expect(second.split("\n")[0]).toBe(message.split("\n")[0]);
    expect(() => schedulerProperties({ ...touchy, only: "none" })).toThrow("No property of touchy is 'none'");
  });

  test("is run again by replayLoad", () => {
    const property = schedulerProperties(touchy).find(({ name }) => /parameters change/.test(name))!;
    const { message, story } = failureOf(() => property.run());
    const [, json, name] = /^ {2}replayLoad\(under, (\{.*\}), ("[^"]*")\)$/m.exec(message)!;
    const plan = JSON.parse(json!) as Plan;
    expect(failureOf(() => replayLoad(touchy, plan, JSON.parse(name!))).story).toEqual(story);
    const right = replayLoad({ name: "right", make: (host) => new Right(host) }, plan);
    expect(right.join("\n")).toContain("weight = ");
    expect(right.join("\n")).not.toContain("DOES NOT HOLD");
    expect(() => replayLoad(touchy, plan, "starves no hog")).toThrow("no property of random loads");
  });
});
