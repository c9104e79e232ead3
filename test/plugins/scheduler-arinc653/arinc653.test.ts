/** The ARINC 653 scheduler's own promises: windows to the nanosecond, no drift, Xen's errnos, a default for pools without a table. */
import { describe, expect, test } from "vitest";
import { RunState, type Vcpu } from "../../../core/domain/vcpu.ts";
import { ConfigError } from "../../../core/errors.ts";
import type { MachineConfig } from "../../../core/machine/machine.ts";
import type { ParamRow, SchedulerHost } from "../../../core/scheduling/scheduler.ts";
import { runStateTime } from "../../../core/scheduling/unit.ts";
import { Arinc653Scheduler } from "../../../plugins/scheduler-arinc653/arinc653.ts";
import { type Behaviour, hog, Load, periodic } from "../../support/load.ts";

const MS = 1e6;
const free = { contextSwitch: 0, migration: 0, tickle: 0, warmUp: 0, coldAfter: 0 };
const EINVAL = -22;

function arinc(config: Partial<MachineConfig> = {}): Load {
  return new Load((host) => new Arinc653Scheduler(host), { costs: free, ...config });
}

const row = (domain: string, ms: number, vcpu = 0): ParamRow => ({ domain, vcpu, runtime_ns: ms * MS });

function setTable(load: Load, schedule: readonly ParamRow[], majorMs = 0): number {
  return load.scheduling.adjust(load.pool, null, { schedule, major_frame_ns: majorMs * MS });
}

/** Every run as `name vcpu from-to` in milliseconds; those of one vCPU that touch are one. */
function runsOf(load: Load): () => string[] {
  const runs: { vcpu: Vcpu; from: number; to: number }[] = [];
  load.machine.hooks.runstate.tap("test", (vcpu, from, to, now) => {
    const last = runs.findLast((run) => run.vcpu === vcpu);
    if (to === RunState.running)
      if (last?.to === now) last.to = Infinity;
      else runs.push({ vcpu, from: now, to: Infinity });
    if (from === RunState.running && last !== undefined) last.to = now;
  });
  return () => runs.map(({ vcpu, from, to }) => `${vcpu.domain.name}${vcpu.id} ${from / MS}-${to / MS}`);
}

describe("a table", () => {
  test("gives its windows to the nanosecond, and nobody the rest of the frame", () => {
    const load = arinc();
    const runs = runsOf(load);
    load.domain("a", [hog]);
    load.domain("b", [hog]);
    load.domain("c", [hog]);
    expect(setTable(load, [row("a", 10), row("b", 20), row("a", 5)], 40)).toBe(0);
    load.run(100 * MS);
    expect(runs()).toEqual([
      "a0 0-10",
      "b0 10-30",
      "a0 30-35",
      "a0 40-50",
      "b0 50-70",
      "a0 70-75",
      "a0 80-90",
      "b0 90-Infinity",
    ]);
    expect(load.machine.pcpus[0]!.idleTime).toBe(10 * MS);
  });

  test("does not drift over 1000 frames, though dispatches come late", () => {
    // Guests that give way all the time, with hypercalls of 50 us that no window's end interrupts, and switches that cost.
    const load = new Load((host) => new Arinc653Scheduler(host));
    const awkward: Behaviour = () => {
      load.machine.charge(50_000);
      return { run: 33_337, sleep: 0 };
    };
    load.domain("a", [awkward]);
    load.domain("b", [awkward]);
    load.domain("c", [awkward]);
    setTable(load, [row("a", 1), row("b", 2), row("c", 3)], 7);
    const starts = new Map<string, number[]>([
      ["a", []],
      ["b", []],
      ["c", []],
    ]);
    load.machine.hooks.runstate.tap("test", (vcpu, _from, to, now) => {
      if (to === RunState.running) starts.get(vcpu.domain.name)!.push(now);
    });
    load.run(7000 * MS);
    let late = 0;
    for (const [name, offset] of [
      ["a", 0],
      ["b", 1],
      ["c", 3],
    ] as const) {
      const at = starts.get(name)!;
      expect(at).toHaveLength(1000);
      at.forEach((start, frame) => {
        const delay = start - (frame * 7 + offset) * MS;
        expect(delay).toBeGreaterThanOrEqual(0);
        expect(delay).toBeLessThan(51_000);
        if (delay > 0) late++;
      });
    }
    expect(late).toBeGreaterThan(1000);
    expect(load.pool.faults).toEqual([]);
  });

  test("takes effect at once, in the middle of a window", () => {
    const load = arinc();
    const runs = runsOf(load);
    load.domain("a", [hog]);
    load.domain("b", [hog]);
    setTable(load, [row("a", 10), row("b", 10)]);
    load.run(13 * MS);
    expect(setTable(load, [row("a", 2), row("b", 3)])).toBe(0);
    load.run(22 * MS);
    expect(runs()).toEqual(["a0 0-10", "b0 10-13", "a0 13-15", "b0 15-18", "a0 18-20", "b0 20-Infinity"]);
  });

  test("a window of an unknown domain or vCPU idles until there is one; a UUID goes before a name", () => {
    const load = arinc();
    const runs = runsOf(load);
    const named = load.domain("load-3", [hog]);
    load.domain("b", [hog]);
    setTable(load, [row("load-3", 10), row("b", 10), row("late", 10, 1)]);
    load.run(60 * MS);
    expect(runs()).toEqual(["load-30 0-10", "b0 10-20", "load-30 30-40", "b0 40-50"]);
    load.domain("late", [hog, hog]); // its UUID is load-3
    load.run(90 * MS);
    expect(runs().slice(4)).toEqual(["late0 60-70", "b0 70-80", "late1 80-Infinity"]);
    for (const vcpu of load.domains[2]!.vcpus) load.scheduling.removeVcpu(vcpu);
    load.run(120 * MS);
    expect(runs().slice(7)).toEqual(["load-30 90-100", "b0 100-110"]);
    expect(load.domainTime(named)).toBe(30 * MS);
  });

  test("a window belongs to its unit, whether it has anything to do or not", () => {
    const load = arinc();
    const runs = runsOf(load);
    load.domain("io", [periodic(1 * MS - 200, 3 * MS + 200)]); // 200 ns are what the exit costs
    load.domain("b", [hog]);
    setTable(load, [row("io", 10), row("b", 10)]);
    load.run(40 * MS);
    // It sleeps from 9 to 12, where its window is over.
    expect(runs()).toEqual([
      "io0 0-1",
      "io0 4-5",
      "io0 8-9",
      "b0 10-20",
      "io0 20-21",
      "io0 24-25",
      "io0 28-29",
      "b0 30-Infinity",
    ]);
  });

  test("an empty table is the default schedule again", () => {
    const load = arinc();
    const runs = runsOf(load);
    load.domain("a", [hog]);
    load.domain("b", [hog]);
    setTable(load, [row("a", 5)]);
    load.run(15 * MS);
    expect(setTable(load, [])).toBe(0);
    load.run(40 * MS);
    expect(runs()).toEqual(["a0 0-25", "b0 25-35", "a0 35-Infinity"]);
  });
});

describe("without a table", () => {
  test("each unit has a window of 10 ms, in the order of coming", () => {
    const load = arinc();
    const runs = runsOf(load);
    load.domain("a", [hog, hog]);
    load.domain("b", [hog]);
    load.run(50 * MS);
    expect(runs()).toEqual(["a0 0-10", "a1 10-20", "b0 20-30", "a0 30-40", "a1 40-Infinity"]);
  });

  test("who comes is last in the present frame; who goes leaves no hole", () => {
    const load = arinc();
    const runs = runsOf(load);
    const a = load.domain("a", [hog]);
    load.domain("b", [hog]);
    load.run(15 * MS);
    load.domain("c", [hog]);
    load.run(35 * MS); // a 0-10, b 10-20, c 20-30, a 30-35
    load.scheduling.removeVcpu(a.vcpus[0]!);
    load.run(60 * MS);
    expect(runs()).toEqual(["a0 0-10", "b0 10-20", "c0 20-30", "a0 30-35", "b0 35-45", "c0 45-55", "b0 55-Infinity"]);
  });

  test("200 units get their turn", () => {
    const load = arinc();
    const domains = Array.from({ length: 200 }, (_, i) => load.domain(`d${i}`, [hog]));
    load.run(4000 * MS);
    for (const domain of domains) expect(load.domainTime(domain)).toBe(20 * MS);
  });
});

describe("several pCPUs", () => {
  test("one window at a time, each unit on one pCPU for good", () => {
    const load = arinc({ pcpus: 3 });
    const runs = runsOf(load);
    const where = new Map<string, Set<number>>();
    load.machine.hooks.contextSwitch.tap("test", (pcpu, _previous, next) => {
      if (next !== null) where.set(next.domain.name, (where.get(next.domain.name) ?? new Set()).add(pcpu.id));
    });
    const [a, b] = [load.domain("a", [hog]), load.domain("b", [hog])];
    load.scheduling.setAffinity(b.vcpus[0]!, new Set([1, 2]), new Set([2]));
    setTable(load, [row("a", 10), row("b", 20)]);
    load.run(60 * MS);
    expect(runs()).toEqual(
      ["a0 0-10", "b0 10-30", "a0 30-40", "b0 40-60"].map((run) => run.replace("-60", "-Infinity")),
    );
    expect(where).toEqual(
      new Map([
        ["a", new Set([0])],
        ["b", new Set([2])],
      ]),
    );
    load.scheduling.setAffinity(a.vcpus[0]!, new Set([1]), new Set([1]));
    load.run(90 * MS);
    expect(where.get("a")).toEqual(new Set([0, 1]));
    expect(load.domainTime(a)).toBe(30 * MS);
  });

  test("a pCPU that leaves the pool gives its units to others", () => {
    const load = arinc({ pcpus: 2 });
    const a = load.domain("a", [hog]);
    load.run(25 * MS);
    load.scheduling.removeResources(load.pool, [load.pool.resources[0]!]);
    load.run(50 * MS);
    expect(load.domainTime(a)).toBe(50 * MS);
    expect(a.vcpus[0]!.runningOn?.id).toBe(1);
    expect(load.pool.faults).toEqual([]);
  });

  test("by cores, a row names a vCPU and its neighbour runs beside it", () => {
    const load = new Load((host) => new Arinc653Scheduler(host), {
      costs: free,
      pcpus: 2,
      threadsPerCore: 2,
      granularity: "core",
    });
    const a = load.domain("a", [hog, hog]);
    const b = load.domain("b", [hog, hog]);
    setTable(load, [row("a", 10, 1), row("b", 20, 0)]);
    load.run(60 * MS);
    expect(load.domainTime(a)).toBe(2 * 20 * MS);
    expect(load.domainTime(b)).toBe(2 * 40 * MS);
  });
});

describe("parameters", () => {
  const rows = (n: number, ms = 1): ParamRow[] => Array.from({ length: n }, (_, i) => row(`d${i}`, ms));

  test.each<[string, readonly ParamRow[], number, number | "refused"]>([
    ["as long as the frame", rows(2, 5), 10, 0],
    ["longer than the frame", rows(2, 5), 9.999999, EINVAL],
    ["a window without length", [row("a", 0)], 10, EINVAL],
    ["the shortest window", [row("a", 0.01)], 10, 0],
    ["a shorter one", [row("a", 0.009999)], 10, EINVAL],
    ["64 rows", rows(64), 64, 0],
    ["65 rows", rows(65), 0, "refused"],
    ["a negative window", [row("a", -1)], 0, "refused"],
    ["no domain", [{ vcpu: 0, runtime_ns: 1 }], 0, "refused"],
    ["a column that there is not", [{ ...row("a", 1), pcpu: 1 }], 0, "refused"],
    ["half a nanosecond", [{ ...row("a", 1), runtime_ns: 0.5 }], 0, "refused"],
  ])("%s", (_name, schedule, major, verdict) => {
    const load = arinc();
    load.domain("a", [hog]);
    if (verdict === "refused") expect(() => setTable(load, schedule, major)).toThrow(ConfigError);
    else expect(setTable(load, schedule, major)).toBe(verdict);
    expect(load.pool.read(null)).toEqual(
      verdict === 0 ? { schedule, major_frame_ns: major * MS } : { schedule: [], major_frame_ns: 0 },
    );
    load.run(200 * MS);
    expect(load.pool.faults).toEqual([]);
  });

  test("the frame alone may be set, and not below its windows", () => {
    const load = arinc();
    load.domain("a", [hog]);
    setTable(load, [row("a", 10)]);
    expect(load.scheduling.adjust(load.pool, null, { major_frame_ns: 9 * MS })).toBe(EINVAL);
    expect(load.scheduling.adjust(load.pool, null, { major_frame_ns: 20 * MS })).toBe(0);
    load.run(100 * MS);
    expect(load.domainTime(load.domains[0]!)).toBe(50 * MS);
  });
});

describe("the core's watchdog", () => {
  test("who is in no table may wait for ever, who has a window in a long frame for the frame", () => {
    const load = arinc();
    const out = load.domain("out", [hog]);
    const a = load.domain("a", [hog]);
    setTable(load, [row("a", 10)], 40_000);
    load.run(90_000 * MS);
    expect(load.pool.faults).toEqual([]);
    expect(load.domainTime(a)).toBe(30 * MS);
    expect(load.domainTime(out)).toBe(0);
    expect(runStateTime(out.vcpus[0]!, RunState.runnable, load.machine.now)).toBe(90_000 * MS);
  });

  test("a pool whose units all sleep has nothing to do", () => {
    const load = arinc();
    load.domain("a", [periodic(1 * MS, Infinity)]);
    expect(load.run(1000 * MS)).toBe("idle");
  });

  test("a timer that never fires costs 100 us at a window's end, and no more", () => {
    const deaf = (host: SchedulerHost): SchedulerHost => ({
      pool: host.pool,
      pcpus: host.pcpus,
      now: () => host.now(),
      tickle: (pcpu) => host.tickle(pcpu),
      timer: (at) => ({ at, cancel: () => {} }),
      random: () => host.random(),
      log: (message) => host.log(message),
    });
    const load = new Load((host) => new Arinc653Scheduler(deaf(host)), { costs: free });
    const runs = runsOf(load);
    load.domain("a", [hog]);
    load.domain("b", [hog]);
    setTable(load, [row("a", 10), row("b", 10)]);
    load.run(45 * MS);
    expect(runs()).toEqual(["a0 0-10.1", "b0 10.1-20.1", "a0 20.1-30.1", "b0 30.1-40.1", "a0 40.1-Infinity"]);
  });
});

describe("state", () => {
  test.each([true, false])("goes on where it was (a table: %s)", (table) => {
    const provider = { name: "arinc653", plugin: "test", make: (host: SchedulerHost) => new Arinc653Scheduler(host) };
    const history = (restored: boolean): string[] => {
      const load = arinc({ pcpus: 2 });
      const runs = runsOf(load);
      load.domain("a", [hog]);
      load.domain("b", [hog]);
      if (table) setTable(load, [row("b", 20), row("a", 10)], 40);
      load.run(93 * MS);
      if (restored) {
        const state = JSON.parse(JSON.stringify(load.pool.scheduler.save!()));
        load.scheduling.replaceScheduler(load.pool, provider, state);
        expect(load.pool.scheduler.save!()).toEqual(state);
      }
      load.run(200 * MS);
      expect(load.pool.faults).toEqual([]);
      return runs();
    };
    expect(history(true)).toEqual(history(false));
  });

  test("the dump says where in the frame it is", () => {
    const load = arinc();
    load.domain("a", [hog]);
    setTable(load, [row("a", 10), row("x", 5)], 20);
    load.run(32 * MS);
    expect(load.pool.scheduler.dump!()).toBe(
      "table, major frame 20000000 ns, 12000000 ns into it, window 1\n0: 10000000 ns 'a' vcpu 0: a vcpu 0 on pcpu 0\n1: 5000000 ns 'x' vcpu 0: nobody",
    );
  });
});
