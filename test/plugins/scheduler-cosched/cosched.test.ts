/** Relaxed co-scheduling: exact co-stops and co-starts, the limit on skew, who does not count, weights. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { PauseFlag, RunState, type Vcpu } from "../../../core/domain/vcpu.ts";
import { ConfigError } from "../../../core/errors.ts";
import type { MachineConfig } from "../../../core/machine/machine.ts";
import type { ParamValues, SchedulerHost } from "../../../core/scheduling/scheduler.ts";
import { runStateTime } from "../../../core/scheduling/unit.ts";
import { CoScheduler } from "../../../plugins/scheduler-cosched/cosched.ts";
import { type Behaviour, hog, Load, periodic } from "../../support/load.ts";

const MS = 1e6;
const free = { contextSwitch: 0, migration: 0, tickle: 0, warmUp: 0, coldAfter: 0 };
const provider = { name: "cosched", plugin: "test", make: (host: SchedulerHost) => new CoScheduler(host) };

function cosched(pcpus: number, params: ParamValues = {}, config: Partial<MachineConfig> = {}): Load {
  const load = new Load(provider.make, { pcpus, costs: free, lazy: true, ...config });
  expect(load.scheduling.adjust(load.pool, null, params)).toBe(0);
  return load;
}

function pin(load: Load, vcpu: Vcpu | undefined, pcpu: number): void {
  load.scheduling.setAffinity(vcpu!, new Set([pcpu]), new Set([pcpu]));
}

/** Runs of a vCPU as `from-to` in milliseconds. */
function runsOf(load: Load, who: Vcpu): string[] {
  const runs: string[] = [];
  let since = 0;
  load.machine.hooks.runstate.tap("test", (vcpu, from, to, now) => {
    if (vcpu !== who) return;
    if (to === RunState.running) since = now;
    if (from === RunState.running) runs.push(`${since / MS}-${now / MS}`);
  });
  return runs;
}

/** A domain of two vCPUs, the first beside a hog on pCPU 0, the second alone on pCPU 1. */
function lopsided(params: ParamValues = {}, behaviours: readonly Behaviour[] = [hog, hog]) {
  const load = cosched(2, params);
  const gang = load.domain("gang", behaviours);
  const [slow, fast] = gang.vcpus as [Vcpu, Vcpu];
  const rival = load.domain("rival", [hog]);
  pin(load, slow, 0);
  pin(load, fast, 1);
  pin(load, rival.vcpus[0], 0);
  return { load, gang, slow, fast, rival };
}

describe("skew", () => {
  test("co-stop at the limit, co-start below it, to the nanosecond", () => {
    const { load, slow, fast } = lopsided();
    const runs = [runsOf(load, slow), runsOf(load, fast)];
    load.run(36 * MS);
    // At 4 the slow one has run for 4, so the fast one stops at 4 + 3. It goes on when the slow one has run for 7 - 2, at 9, for a turn.
    expect(runs).toEqual([
      ["0-4", "8-12", "16-20", "24-28"],
      ["0-7", "9-13", "17-21", "25-29"],
    ]);
    expect(load.pool.faults).toEqual([]);
  });

  test("both get the same in the long run; without a limit the fast one gets all of its pCPU", () => {
    const share = (params: ParamValues): number[] => {
      const { load, slow, fast, rival } = lopsided(params);
      load.run(10_000 * MS);
      expect(load.pool.faults).toEqual([]);
      return [slow, fast, rival.vcpus[0]!].map((vcpu) => load.cpuTime(vcpu) / (10_000 * MS));
    };
    const [slow, fast, rival] = share({}) as [number, number, number];
    expect(slow + rival).toBe(1);
    expect(Math.abs(slow - 0.5)).toBeLessThan(0.001);
    expect(Math.abs(fast - slow)).toBeLessThan(0.001);
    expect(share({ costop_skew_ns: 1e12, costart_skew_ns: 0 })[1]).toBe(1);
  });

  test("never passes the limit between hogs, however they are thrown together", () => {
    const inputs = fc.record({
      pcpus: fc.integer({ min: 1, max: 4 }),
      gangs: fc.array(fc.integer({ min: 1, max: 4 }), { minLength: 1, maxLength: 4 }),
      pins: fc.array(fc.nat(7), { maxLength: 8 }),
      costop: fc.integer({ min: 1, max: 50 }),
      costart: fc.nat(50),
      restored: fc.boolean(),
    });
    fc.assert(
      fc.property(inputs, ({ pcpus, gangs, pins, costop, costart, restored }) => {
        const limit = (costop * MS) / 5;
        const load = cosched(pcpus, {
          costop_skew_ns: limit,
          costart_skew_ns: Math.min(limit - 1, (costart * MS) / 5),
        });
        const domains = gangs.map((size, i) => load.domain(`g${i}`, new Array<Behaviour>(size).fill(hog)));
        const vcpus = domains.flatMap((domain) => domain.vcpus);
        pins.forEach((where, i) => {
          if (where < pcpus) pin(load, vcpus[i % vcpus.length], where);
        });
        const before = new Map(vcpus.map((vcpu) => [vcpu, load.cpuTime(vcpu)]));
        for (let at = 1; at <= 300; at++) {
          if (restored && at === 150) {
            const state = JSON.parse(JSON.stringify(load.pool.scheduler.save!()));
            load.scheduling.replaceScheduler(load.pool, provider, state);
          }
          load.run(at * MS);
          for (const domain of domains) {
            const times = domain.vcpus.map((vcpu) => load.cpuTime(vcpu) - before.get(vcpu)!);
            expect(Math.max(...times) - Math.min(...times)).toBeLessThanOrEqual(limit);
          }
        }
        for (const vcpu of vcpus) expect(load.cpuTime(vcpu)).toBeGreaterThan(0);
        expect(load.pool.faults).toEqual([]);
      }),
      { numRuns: 60, seed: 1 },
    );
  });

  test("a limit that changes takes effect at once", () => {
    const { load, slow, fast } = lopsided();
    load.run(100 * MS);
    load.scheduling.adjust(load.pool, null, { costop_skew_ns: 1000 * MS });
    load.run(1000 * MS);
    expect(load.cpuTime(fast)).toBeGreaterThan(940 * MS);
    load.scheduling.adjust(load.pool, null, { costop_skew_ns: 3 * MS });
    const before = load.cpuTime(fast);
    load.run(1300 * MS);
    expect(load.cpuTime(fast)).toBe(before);
    load.run(3000 * MS);
    expect(load.cpuTime(fast) - load.cpuTime(slow)).toBeLessThanOrEqual(3 * MS);
  });
});

describe("who does not count", () => {
  test("a sibling that is blocked holds nobody back, and is not ahead when it wakes", () => {
    // The slow one sleeps most of the time; it lags behind only while it waits for its turn.
    const { load, slow, fast } = lopsided({}, [periodic(1 * MS, 50 * MS), hog]);
    load.run(2000 * MS);
    expect(load.cpuTime(fast)).toBeGreaterThan(1900 * MS);
    expect(load.cpuTime(slow)).toBeGreaterThan(35 * MS);
  });

  test("one that sleeps for less than it lags behind still has to catch up", () => {
    // Of 4 ms it runs 1, sleeps 1 and waits for 2 or more: the fast one may not be ahead of its running and sleeping.
    const { load, slow, fast } = lopsided({}, [periodic(1 * MS, 1 * MS), hog]);
    load.run(2000 * MS);
    const progress =
      load.cpuTime(slow) + runStateTime(slow, RunState.blocked, Math.max(load.machine.now, slow.runStateSince));
    expect(load.cpuTime(fast)).toBeLessThanOrEqual(progress + 3 * MS);
    expect(load.cpuTime(fast)).toBeGreaterThan(progress - 5 * MS);
  });

  test("one that is paused, offline, or leaves", () => {
    for (const how of ["pause", "down", "remove"]) {
      const { load, slow, fast } = lopsided({ costop_skew_ns: 50 * MS, costart_skew_ns: 1 * MS });
      load.run(103 * MS); // the fast one stopped at 102, when the slow one had run for 52
      expect(fast.runningOn).toBe(null);
      expect(load.pool.scheduler.entitled!(fast.unit!)).toBe(false);
      if (how === "pause") load.scheduling.pauseVcpu(slow);
      else if (how === "down") load.scheduling.setFlag(slow, PauseFlag.down);
      else load.scheduling.removeVcpu(slow);
      const before = load.cpuTime(fast);
      load.run(203 * MS);
      expect(load.cpuTime(fast) - before).toBe(100 * MS);
      if (how === "pause") load.scheduling.unpauseVcpu(slow);
      else if (how === "down") load.scheduling.clearFlag(slow, PauseFlag.down);
      load.run(1203 * MS);
      expect(load.pool.faults).toEqual([]);
      if (how !== "remove") expect(load.cpuTime(fast) - load.cpuTime(slow)).toBeLessThanOrEqual(150 * MS);
    }
  });

  test("a vCPU that comes up late starts beside the others", () => {
    const load = cosched(2);
    const gang = load.domain("gang", [hog, hog]);
    load.scheduling.setFlag(gang.vcpus[1]!, PauseFlag.down);
    load.run(1000 * MS);
    load.scheduling.clearFlag(gang.vcpus[1]!, PauseFlag.down);
    load.run(2000 * MS);
    expect(gang.vcpus.map((vcpu) => load.cpuTime(vcpu))).toEqual([2000 * MS, 1000 * MS]);
  });

  test("domains of one vCPU: whoever wakes beside an idle pCPU runs at once", () => {
    const load = cosched(4);
    for (let i = 0; i < 4; i++) load.domain(`io${i}`, [periodic(1 * MS, 3 * MS)]);
    load.run(1000 * MS);
    for (const { vcpus } of load.domains) expect(runStateTime(vcpus[0]!, RunState.runnable, load.machine.now)).toBe(0);
  });
});

describe("turns", () => {
  test("are as long as the weight says, in the order of coming", () => {
    const load = cosched(1);
    const turns: string[] = [];
    load.machine.hooks.contextSwitch.tap("test", (_pcpu, _previous, next, now) => {
      turns.push(`${next?.domain.name} ${now / MS}`);
    });
    load.domain("a", [hog], { weight: 256 });
    load.domain("b", [hog], { weight: 768 });
    load.domain("c", [hog], { weight: 16 });
    load.run(40 * MS);
    expect(turns).toEqual(["a 0", "b 4", "c 16", "a 16.25", "b 20.25", "c 32.25", "a 32.5", "b 36.5"]);
  });

  test("a weight and a slice that change hold from the next turn", () => {
    const load = cosched(1);
    const [a] = [load.domain("a", [hog]), load.domain("b", [hog])];
    load.run(1000 * MS);
    load.scheduling.adjust(load.pool, a, { weight: 768 });
    load.scheduling.adjust(load.pool, null, { slice_ns: 10 * MS });
    const before = load.domainTime(a);
    load.run(5000 * MS);
    expect((load.domainTime(a) - before) / (4000 * MS)).toBeCloseTo(0.75, 2);
  });

  test("who gives way lets somebody else go first", () => {
    const load = cosched(1, {}, { costs: free });
    const polite = load.domain("polite", [periodic(100_000, 0)]);
    const [a, b] = [load.domain("a", [hog]), load.domain("b", [hog])];
    load.run(1000 * MS);
    expect(load.domainTime(a)).toBeGreaterThan(480 * MS);
    expect(load.domainTime(b)).toBeGreaterThan(480 * MS);
    expect(load.domainTime(polite)).toBeGreaterThan(11 * MS);
  });
});

describe("nobody waits for ever", () => {
  test("a sleeper on a crowded pCPU, while virtual time goes fast on another", () => {
    const load = cosched(2);
    const alone = load.domain("alone", [hog]);
    pin(load, alone.vcpus[0], 1);
    const io = load.domain("io", [periodic(1 * MS, 30 * MS)]);
    pin(load, io.vcpus[0], 0);
    for (let i = 0; i < 10; i++) pin(load, load.domain(`hog${i}`, [hog]).vcpus[0], 0);
    for (let at = 1; at <= 50; at++) {
      const before = load.domains.map((domain) => load.domainTime(domain));
      load.run(at * 200 * MS);
      load.domains.forEach((domain, i) => {
        expect(load.domainTime(domain)).toBeGreaterThan(before[i]!);
      });
    }
    expect(load.domainTime(alone)).toBe(10_000 * MS);
  });

  test("hogs with any affinities: four rounds at most", () => {
    const inputs = fc.array(fc.tuple(fc.integer({ min: 1, max: 7 }), fc.constantFrom(64, 256, 1024)), {
      minLength: 1,
      maxLength: 10,
    });
    fc.assert(
      fc.property(inputs, (hogs) => {
        const load = cosched(3);
        for (const [mask, weight] of hogs) {
          const set = new Set([0, 1, 2].filter((id) => (mask & (1 << id)) !== 0));
          load.scheduling.setAffinity(load.domain("d", [hog], { weight }).vcpus[0]!, set, set);
        }
        const round = hogs.reduce((sum, [, weight]) => sum + (weight / 256) * 4 * MS, 0);
        for (let at = 1; at <= 20; at++) {
          const before = load.domains.map((domain) => load.domainTime(domain));
          load.run(at * 4 * round);
          load.domains.forEach((domain, i) => {
            expect(load.domainTime(domain)).toBeGreaterThan(before[i]!);
          });
        }
      }),
      { numRuns: 40, seed: 1 },
    );
  });
});

describe("parameters", () => {
  test("a co-start at or above the co-stop is EINVAL and changes nothing", () => {
    const load = cosched(1);
    const defaults = { slice_ns: 4 * MS, costop_skew_ns: 3 * MS, costart_skew_ns: 2 * MS };
    for (const values of [
      { costop_skew_ns: 2 * MS },
      { costart_skew_ns: 3 * MS },
      { costop_skew_ns: 10 * MS, costart_skew_ns: 11 * MS, slice_ns: 1 * MS },
    ])
      expect(load.scheduling.adjust(load.pool, null, values)).toBe(-22);
    expect(load.pool.read(null)).toEqual(defaults);
    expect(load.scheduling.adjust(load.pool, null, { costop_skew_ns: 1 * MS, costart_skew_ns: 0 })).toBe(0);
    expect(load.pool.read(null)).toEqual({ ...defaults, costop_skew_ns: 1 * MS, costart_skew_ns: 0 });
  });

  test.each([15, 4097, 1.5])("weight %f is refused", (weight) => {
    const load = cosched(1);
    const domain = load.domain("d", [hog]);
    expect(() => load.scheduling.adjust(load.pool, domain, { weight })).toThrow(ConfigError);
    expect(load.pool.read(domain)).toEqual({ weight: 256 });
  });
});

test("a member that is stopped for long is no stall", () => {
  const { load, slow, fast } = lopsided({ costop_skew_ns: 2000 * MS, costart_skew_ns: 0 });
  for (let i = 0; i < 60; i++) pin(load, load.domain(`heavy${i}`, [hog], { weight: 4096 }).vcpus[0], 0);
  load.run(200_000 * MS);
  expect(load.pool.faults).toEqual([]);
  expect(load.cpuTime(fast) - load.cpuTime(slow)).toBeLessThanOrEqual(2000 * MS);
  expect(runStateTime(fast, RunState.runnable, load.machine.now)).toBeGreaterThan(100_000 * MS);
});

describe("state", () => {
  test("is kept: skew, weights and the order of turns", () => {
    const { load, gang, slow, fast } = lopsided({ costop_skew_ns: 5 * MS, costart_skew_ns: 1 * MS, slice_ns: 10 * MS });
    load.scheduling.adjust(load.pool, gang, { weight: 512 });
    load.run(1007 * MS);
    const state = JSON.parse(JSON.stringify(load.pool.scheduler.save!()));
    load.scheduling.replaceScheduler(load.pool, provider, state);
    expect(JSON.parse(JSON.stringify(load.pool.scheduler.save!()))).toEqual(state);
    expect(load.pool.read(gang)).toEqual({ weight: 512 });
    for (let at = 1008; at < 2000; at++) {
      load.run(at * MS);
      expect(load.cpuTime(fast) - load.cpuTime(slow)).toBeLessThanOrEqual(5 * MS);
    }
    expect(load.pool.faults).toEqual([]);
  });

  test("the dump says who is ahead", () => {
    const { load } = lopsided();
    load.run(8 * MS - 1);
    expect(load.pool.scheduler.dump!()).toBe(
      [
        "slice 4000000 ns, co-stop at 3000000 ns, co-start at 2000000 ns",
        "gang weight 256: running none; waiting gang vcpu 0 (4000000 ns); stopped gang vcpu 1 (7000000 ns)",
        "rival weight 256: running rival vcpu 0 (3999999 ns); waiting none; stopped none",
      ].join("\n"),
    );
  });
});

test("pCPUs that come and go take nobody along", () => {
  const load = cosched(3);
  const gang = load.domain("gang", [hog, hog, hog]);
  load.run(50 * MS);
  const gone = load.machine.pcpus[0]!;
  load.scheduling.removeResources(load.pool, [load.pool.resources[0]!]);
  load.run(1050 * MS);
  load.scheduling.addPcpus(load.pool, [gone]);
  load.run(1150 * MS);
  // Three on two pCPUs take turns; the last to catch up may do so alone.
  expect(load.domainTime(gang)).toBeGreaterThan((150 + 2000 + 300 - 5) * MS);
  expect(load.pool.faults).toEqual([]);
});
