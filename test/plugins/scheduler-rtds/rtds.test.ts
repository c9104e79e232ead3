/** rtds: exact schedules of deferrable servers under global EDF, and the bugs that Xen's had. Times in ms; costs are zero. */
import { describe, expect, test } from "vitest";
import { PauseFlag } from "../../../core/domain/vcpu.ts";
import { ConfigError } from "../../../core/errors.ts";
import type { MachineConfig } from "../../../core/machine/machine.ts";
import { RtdsScheduler } from "../../../plugins/scheduler-rtds/rtds.ts";
import { ExactLoad, hog, steps } from "../../support/exact-load.ts";

const MS = 1e6;
const EINVAL = -22;
const ESRCH = -3;

/** A server's parameters, in ms; extratime off. */
const server = (period: number, budget: number, extratime = false) => ({
  period: period * MS,
  budget: budget * MS,
  extratime,
});

class Lab extends ExactLoad {
  constructor(config: Partial<MachineConfig> = {}) {
    super((host) => new RtdsScheduler(host), config);
  }
}

describe("deferrable servers", () => {
  test("(10,4) and (10,6) fill a pCPU and miss nothing", () => {
    const lab = new Lab();
    const a = lab.domain("a", [hog], server(10, 4));
    const b = lab.domain("b", [hog], server(10, 6));
    for (let period = 1; period <= 100; period++) {
      lab.run(period * 10 * MS);
      expect([lab.ran(a), lab.ran(b)]).toEqual([4 * period, 6 * period]);
    }
    expect(lab.pool.faults).toEqual([]);
  });

  test("the earlier deadline first, preemption at a replenishment: (4,2) against (10,5)", () => {
    const lab = new Lab();
    lab.domain("long", [hog], server(10, 5));
    lab.domain("short", [hog], server(4, 2));
    // At 8 the deadline of short is 12, that of long 10: long goes on. At 16 both are 20: long is not preempted.
    expect(lab.schedule(20)).toBe("0 short, 2 long, 4 short, 6 long, 9 short, 11 long, 12 short, 14 long, 18 short");
  });

  test("a utilisation of 1 under EDF: (2,1) and (5,2.5) miss nothing in 10 s", () => {
    const lab = new Lab();
    const a = lab.domain("a", [hog], server(2, 1));
    const b = lab.domain("b", [hog], server(5, 2.5));
    for (let at = 5; at <= 10_000; at += 5) {
      lab.run(at * MS);
      expect(lab.ran(b)).toBe(at / 2);
    }
    expect(lab.ran(a)).toBe(5000);
  });

  test("depleted without extra time it waits for its replenishment, though the pCPU idles", () => {
    const lab = new Lab();
    lab.domain("a", [hog], server(10, 4));
    expect(lab.schedule(30)).toBe("0 a, 4 -, 10 a, 14 -, 20 a, 24 -");
  });

  test("the budget outlasts a sleep within the period (deferrable), not its end", () => {
    const lab = new Lab();
    // Sleeps 1..6 and has 3 left; sleeps 7..18 and has a new budget of 4, of which 2 remain in the period.
    lab.domain("a", [steps([1, 5], [1, 11], [100, 0])], server(10, 4));
    expect(lab.schedule(40)).toBe("0 a, 1 -, 6 a, 7 -, 18 a, 24 -, 30 a, 34 -");
  });

  test("a replenishment in the middle of a run charges nothing of the previous period", () => {
    const lab = new Lab();
    // Wakes at 9 with 4 left: runs 9..10 of the old period and all 4 ms of the new one.
    lab.domain("a", [steps([0.000001, 9], [100, 0])], server(10, 4));
    expect(lab.schedule(30).replace(/^0 a, 0 -, /, "")).toBe("9 a, 14 -, 20 a, 24 -");
  });
});

describe("extra time", () => {
  test("a lone hog runs on, a level lower with each budget", () => {
    const lab = new Lab();
    const a = lab.domain("a", [hog], server(10, 4, true));
    expect(lab.schedule(99)).toBe("0 a");
    expect(lab.ran(a)).toBe(99);
    expect(lab.pool.scheduler.dump?.()).toContain("level 2");
  });

  test("levels share what is left by budgets", () => {
    const lab = new Lab();
    lab.domain("a", [hog], server(20, 4, true));
    lab.domain("b", [hog], server(20, 2, true));
    lab.domain("c", [hog], server(20, 4));
    // Level 0: a 4, b 2, c 4; level 1: a 4, b 2; level 2: a 4, replenished at 20.
    expect(lab.schedule(20)).toBe("0 a, 4 b, 6 c, 10 a, 14 b, 16 a");
  });

  test("extra time never delays a budget", () => {
    const lab = new Lab();
    const greedy = lab.domain("greedy", [hog], server(10, 1, true));
    const real = lab.domain("real", [hog], server(5, 4));
    for (let at = 5; at <= 1000; at += 5) {
      lab.run(at * MS);
      expect(lab.ran(real)).toBe((at / 5) * 4);
    }
    expect(lab.ran(greedy)).toBe(200);
  });

  test("a queued unit whose level drops at its replenishment preempts extra time", () => {
    const lab = new Lab();
    const a = lab.domain("a", [hog], server(100, 40, true));
    const b = lab.domain("b", [hog], server(10, 2, true));
    lab.run(100 * MS);
    // Each of the ten periods gives b its 2 ms; the rest beyond both budgets is shared at the levels below.
    expect(lab.ran(b)).toBeGreaterThanOrEqual(20);
    expect(lab.ran(a)).toBeGreaterThanOrEqual(40);
    expect(lab.ran(a) + lab.ran(b)).toBe(100);
  });

  test("switched on for a depleted unit, it runs again at once", () => {
    const lab = new Lab();
    const a = lab.domain("a", [hog], server(10, 4));
    lab.machine.timers.arm(6 * MS, () => expect(lab.scheduling.adjust(lab.pool, a, { extratime: true })).toBe(0));
    expect(lab.schedule(50)).toBe("0 a, 4 -, 6 a");
  });

  test("switched off, it waits when what it has is used up", () => {
    const lab = new Lab();
    const a = lab.domain("a", [hog], server(10, 4, true));
    lab.machine.timers.arm(5 * MS, () => expect(lab.scheduling.adjust(lab.pool, a, { extratime: false })).toBe(0));
    expect(lab.schedule(25)).toBe("0 a, 8 -, 10 a, 14 -, 20 a, 24 -");
  });

  test("priority levels do not wrap: 10 us of a period of 4000 s", () => {
    const lab = new Lab();
    const a = lab.domain("a", [hog], { period: 4e12, budget: 10_000, extratime: true });
    lab.run(500 * MS);
    expect(lab.pool.scheduler.dump?.()).toContain("level 49999");
    lab.domain("b", [hog], { period: 4e12, budget: 10_000, extratime: true });
    const before = lab.ran(a);
    lab.run(900 * MS);
    // b catches up: it has had no extra time yet.
    expect(lab.ran(a)).toBe(before);
  });
});

describe("several pCPUs", () => {
  test("three (10,6) on two pCPUs: the third runs when one is free", () => {
    const lab = new Lab({ pcpus: 2 });
    const [a, b, c] = ["a", "b", "c"].map((name) => lab.domain(name, [hog], server(10, 6)));
    lab.run(10 * MS);
    // Global EDF: a and b to 6, c 6..10 and, as nobody is on two pCPUs, 4 only (Dhall and Liu).
    expect([lab.ran(a!), lab.ran(b!), lab.ran(c!)]).toEqual([6, 6, 4]);
  });

  test("a unit that waits takes the pCPU of the latest deadline", () => {
    const lab = new Lab({ pcpus: 2 });
    lab.domain("late", [hog], server(50, 40));
    lab.domain("later", [hog], server(100, 80));
    lab.domain("early", [steps([0.000001, 5], [2, 3], [100, 0])], server(10, 9));
    expect(lab.schedule(11)).toMatch(/5@0 early, 7@0 later, 10@0 early$/);
  });

  test("affinity: a pCPU passes over what it may not run", () => {
    const lab = new Lab({ pcpus: 2 });
    const domains = [1, 2, 3].map((i) => lab.domain(`pinned${i}`, [hog], server(10, 3)));
    for (const { vcpus } of domains) lab.scheduling.setAffinity(vcpus[0]!, new Set([1]), new Set([1]));
    const free = lab.domain("free", [hog], server(20, 20));
    lab.run(100 * MS);
    expect(domains.map((d) => lab.ran(d))).toEqual([30, 30, 30]);
    expect(lab.ran(free)).toBe(100);
  });
});

describe("parameters", () => {
  test("a change takes effect at the next replenishment", () => {
    const lab = new Lab();
    const a = lab.domain("a", [hog], server(10, 4));
    lab.machine.timers.arm(12 * MS, () => {
      expect(lab.scheduling.adjust(lab.pool, a, server(20, 2))).toBe(0);
      expect(lab.pool.scheduler.read?.(a)).toEqual(server(20, 2));
    });
    expect(lab.schedule(60)).toBe("0 a, 4 -, 10 a, 14 -, 20 a, 22 -, 40 a, 42 -");
  });

  test("a smaller budget counts for a unit that runs when it is replenished", () => {
    const lab = new Lab();
    const a = lab.domain("a", [hog], server(10, 10));
    lab.machine.timers.arm(5 * MS, () => expect(lab.scheduling.adjust(lab.pool, a, server(10, 1))).toBe(0));
    expect(lab.schedule(25)).toBe("0 a, 11 -, 20 a, 21 -");
  });

  test("of a vCPU; of a domain: all its vCPUs", () => {
    const lab = new Lab();
    const a = lab.domain("a", [hog, hog]);
    const [one, two] = a.vcpus as [(typeof a.vcpus)[0], (typeof a.vcpus)[0]];
    expect(lab.pool.scheduler.read?.(one.unit)).toEqual(server(10, 4, true));
    expect(lab.scheduling.adjust(lab.pool, one, server(10, 3))).toBe(0);
    expect(lab.scheduling.adjust(lab.pool, two, server(10, 5))).toBe(0);
    lab.run(110 * MS);
    const before = [lab.cpuTime(one), lab.cpuTime(two)];
    lab.run(210 * MS);
    expect([lab.cpuTime(one) - before[0]!, lab.cpuTime(two) - before[1]!]).toEqual([30 * MS, 50 * MS]);
    expect(lab.scheduling.adjust(lab.pool, a, { budget: 1 * MS })).toBe(0);
    expect(lab.pool.scheduler.read?.(two.unit)).toEqual(server(10, 1));
  });

  test("bounds: 10 us, budget within the period", () => {
    const lab = new Lab();
    const a = lab.domain("a", [hog]);
    const set = (values: Record<string, number>) => lab.scheduling.adjust(lab.pool, a, values);
    expect(() => set({ period: 9_999, budget: 10_000 })).toThrow(ConfigError);
    expect(() => set({ budget: 9_999 })).toThrow(ConfigError);
    expect(() => set({ period: 4_294_967_296_000 })).toThrow(ConfigError);
    expect(set({ period: 3 * MS })).toBe(EINVAL);
    expect(set({ budget: 11 * MS })).toBe(EINVAL);
    expect(set({ period: 10_000, budget: 10_001 })).toBe(EINVAL);
    expect(lab.pool.scheduler.read?.(a)).toEqual(server(10, 4, true));
    expect(set({ period: 10_000, budget: 10_000 })).toBe(0);
    expect(set({ period: 4_294_967_295_000, budget: 4_294_967_295_000 })).toBe(0);
    expect(lab.pool.scheduler.adjust?.(null, {})).toBe(ESRCH);
  });

  test("a domain's parameters are set for all its vCPUs or for none", () => {
    const lab = new Lab();
    const a = lab.domain("a", [hog, hog]);
    expect(lab.scheduling.adjust(lab.pool, a.vcpus[0]!, { budget: 1 * MS })).toBe(0);
    expect(lab.scheduling.adjust(lab.pool, a, { period: 2 * MS })).toBe(EINVAL);
    expect(lab.pool.scheduler.read?.(a.vcpus[0]!.unit)["period"]).toBe(10 * MS);
  });
});

describe("overload and ties", () => {
  test("equal servers that do not all fit take turns: who waited longest first", () => {
    const lab = new Lab();
    const domains = Array.from({ length: 8 }, (_, i) => lab.domain(`d${i}`, [hog], server(10, 5)));
    lab.run(400 * MS);
    for (const domain of domains) expect(lab.ran(domain)).toBe(50);
  });

  test("on equal deadlines the head of the queue beats the running unit, but does not preempt it", () => {
    const lab = new Lab();
    const a = lab.domain("a", [hog], server(10, 4));
    lab.domain("b", [hog], server(10, 4));
    // A second look at 2 (a yield) gives b the pCPU.
    lab.machine.timers.arm(2 * MS, () => lab.scheduling.yieldNow(a.vcpus[0]!));
    expect(lab.schedule(10)).toBe("0 a, 2 b, 6 a, 8 -");
  });
});

describe("state", () => {
  test("saved and restored, budgets, levels and deadlines are as they were", () => {
    const lab = new Lab();
    lab.domain("a", [hog], server(10, 4));
    const b = lab.domain("b", [hog], server(10, 2, true));
    lab.run(5 * MS);
    const saved = JSON.parse(JSON.stringify(lab.pool.scheduler.save?.()));
    expect(saved.units[0]).toMatchObject({ left: 0, depleted: true, deadline: 5 * MS });
    expect(saved.units[1]).toMatchObject({ left: 1 * MS, level: 0, deadline: 5 * MS });

    const again = new Lab();
    again.machine.timers.arm(100 * MS, () => {});
    again.run(100 * MS);
    const [a2, b2] = [again.domain("a", [hog]), again.domain("b", [hog])];
    const units = [a2, b2].map((d) => d.vcpus[0]!.unit!);
    for (const { vcpus } of [a2, b2]) again.scheduling.setFlag(vcpus[0]!, PauseFlag.down);
    again.pool.scheduler.restore?.(saved, (id) => units[id], again.machine.now);
    expect(again.pool.scheduler.save?.()).toEqual(saved);
    for (const { vcpus } of [a2, b2]) again.scheduling.clearFlag(vcpus[0]!, PauseFlag.down);
    // b has 1 ms left, then extra time (101, 103); at 105 both are replenished and its run is over.
    expect(again.schedule(109.5, 100.5)).toBe("105 a, 109 b");
    expect(lab.ran(b)).toBe(1);
  });
});
