/** bvt: exact schedules by virtual time, and the faults of 2006 that it does not have. Times in ms; costs are zero. */
import { describe, expect, test } from "vitest";
import { PauseFlag, RunState } from "../../../core/domain/vcpu.ts";
import { ConfigError } from "../../../core/errors.ts";
import type { MachineConfig } from "../../../core/machine/machine.ts";
import { runStateTime } from "../../../core/scheduling/unit.ts";
import { BvtScheduler } from "../../../plugins/scheduler-bvt/bvt.ts";
import { ExactLoad, hog, steps } from "../../support/exact-load.ts";

const MS = 1e6;
const ESRCH = -3;

class Lab extends ExactLoad {
  constructor(config: Partial<MachineConfig> = {}) {
    super((host) => new BvtScheduler(host), config);
  }
}

describe("virtual time", () => {
  test("equal units run until one is a context allowance past the other", () => {
    const lab = new Lab();
    for (const name of ["a", "b"]) lab.domain(name, [hog]);
    expect(lab.schedule(50)).toBe("0 a, 5 b, 15 a, 25 b, 35 a, 45 b");
  });

  test("mcu_advance 10, 20, 40 give 4/7, 2/7, 1/7", () => {
    const lab = new Lab();
    const domains = [10, 20, 40].map((mcu_advance) => lab.domain(`m${mcu_advance}`, [hog], { mcu_advance }));
    for (let at = 700; at <= 7000; at += 700) {
      lab.run(at * MS);
      // Within what one may run ahead of the others: the allowance, and what that is for them.
      for (const [i, share] of [4, 2, 1].entries())
        expect(Math.abs(lab.ran(domains[i]!) - (at * share) / 7)).toBeLessThan(15);
    }
  });

  test("a run is charged in whole units of 100 us", () => {
    const lab = new Lab();
    lab.domain("a", [steps([0.01, 5], [0.01, 5], [0.15, Infinity])]);
    lab.run(20 * MS);
    expect(lab.pool.scheduler.dump?.()).toContain("avt 40 ");
  });

  test("scheduling again and again charges nothing twice", () => {
    const lab = new Lab();
    const a = lab.domain("a", [hog]);
    for (let at = 1; at < 1000; at++)
      lab.machine.timers.arm(at * 0.77 * MS, () => lab.scheduling.yieldNow(a.vcpus[0]!));
    lab.run(1000 * MS);
    lab.scheduling.pauseVcpu(a.vcpus[0]!);
    lab.run(1001 * MS);
    expect(lab.pool.scheduler.dump?.()).toContain("avt 100000 ");
  });

  test("a wake raises to the system virtual time: sleeping earns nothing", () => {
    const lab = new Lab();
    const a = lab.domain("a", [hog]);
    const b = lab.domain("b", [steps([10, 1000], [1e6, 0])]);
    lab.run(1010 * MS);
    const before = [lab.ran(a), lab.ran(b)];
    lab.run(2010 * MS);
    expect(Math.abs(lab.ran(a) - before[0]! - 500)).toBeLessThan(10);
    expect(Math.abs(lab.ran(b) - before[1]! - 500)).toBeLessThan(10);
  });

  test("a unit that comes with equal virtual time runs at once; alone, 50 ms are a turn", () => {
    const lab = new Lab();
    lab.domain("a", [hog]);
    lab.machine.timers.arm(20 * MS, () => lab.domain("b", [hog]));
    expect(lab.schedule(40)).toBe("0 a, 20 b, 25 a, 35 b");
    expect(lab.pool.scheduler.read?.(null)).toEqual({ ctx_allow: 5 * MS });
  });

  test("a wake behind the running unit shortens its turn and does not end it", () => {
    const lab = new Lab();
    lab.domain("late", [steps([0.95, 3], [100, 0])], { mcu_advance: 100 });
    lab.domain("hog", [hog]);
    // late wakes at 3.95 with 1000, hog is at 300: 7 ms to late and 5 more. Then late has 500 / 100 * 100 us and 5 ms.
    expect(lab.schedule(30)).toBe("0 late, 0.95 hog, 15.95 late, 21.45 hog");
  });

  test("the context allowance is a parameter of the pool", () => {
    const lab = new Lab();
    for (const name of ["a", "b"]) lab.domain(name, [hog]);
    expect(lab.scheduling.adjust(lab.pool, null, { ctx_allow: 1 * MS })).toBe(0);
    expect(lab.schedule(8)).toBe("0 a, 1 b, 3 a, 5 b, 7 a");
    expect(() => lab.scheduling.adjust(lab.pool, null, { ctx_allow: 99_999 })).toThrow(ConfigError);
  });
});

describe("warp", () => {
  test("borrows virtual time: 1000 are 10 ms more at first, the share stays", () => {
    const lab = new Lab();
    const a = lab.domain("a", [hog]);
    const b = lab.domain("b", [hog], { warpback: true, warpvalue: 1000 });
    expect(lab.schedule(50)).toBe("0 b, 15 a, 25 b, 35 a, 45 b");
    lab.run(1000 * MS);
    expect(Math.abs(lab.ran(a) - lab.ran(b))).toBeLessThan(20);
  });

  test("a unit that warps runs as soon as it wakes", () => {
    const wait = (params: Record<string, number | boolean>): number => {
      const lab = new Lab();
      for (const name of ["a", "b", "c"]) lab.domain(name, [hog]);
      const io = lab.domain("io", [() => ({ run: 2 * MS, sleep: 4 * MS })], params);
      lab.run(1000 * MS);
      return runStateTime(io.vcpus[0]!, RunState.runnable, lab.machine.now) / MS;
    };
    expect(wait({ warpback: true, warpvalue: 100_000 })).toBeLessThan(1);
    expect(wait({})).toBeGreaterThan(100);
  });

  test("more than the virtual time does not starve anybody; warpl 2 s and warpu 1 s in turns", () => {
    const lab = new Lab();
    lab.domain("a", [hog]);
    lab.domain("b", [hog], { warpback: true, warpvalue: 2 ** 31 - 1 });
    expect(lab.schedule(9000)).toBe("0 b, 2000 a, 3000 b, 5000 a, 6000 b, 8000 a");
  });

  test("warpl counts run time until the unit sleeps, not until it is preempted", () => {
    const lab = new Lab();
    lab.domain("a", [hog]);
    lab.domain("b", [hog], { warpback: true, warpvalue: 1000, warpl: 20 * MS, warpu: 500 * MS });
    lab.run(60 * MS);
    // b 0..15 and 25..30, when it has warped for 20 ms; its time is then 2000, that of a 1000: a has 10 ms more than the allowance.
    expect(lab.schedule(60)).toBe("0 b, 15 a, 25 b, 30 a, 45 b, 55 a");

    const sleeper = new Lab();
    sleeper.domain("a", [hog]);
    const io = sleeper.domain("io", [() => ({ run: 2 * MS, sleep: 4 * MS })], {
      warpback: true,
      warpvalue: 100_000,
      warpl: 3 * MS,
    });
    sleeper.run(600 * MS);
    expect(sleeper.ran(io)).toBeCloseTo(200, 0);
  });

  test("warpu 0: it does not warp again until its parameters are set", () => {
    const lab = new Lab();
    lab.domain("a", [hog]);
    const b = lab.domain("b", [hog], { warpback: true, warpvalue: 2 ** 31 - 1, warpl: 10 * MS, warpu: 0 });
    lab.run(1000 * MS);
    expect(lab.ran(b)).toBeGreaterThan(450);
    expect(lab.ran(b)).toBeLessThan(550);
    expect(lab.pool.scheduler.read?.(b)["warpback"]).toBe(false);
    expect(lab.scheduling.adjust(lab.pool, b, { warpback: true })).toBe(0);
    expect(lab.pool.scheduler.dump?.()).toContain("warping by 2147483647 for 0");
  });

  test("switched off while it runs, the others' turn comes", () => {
    const lab = new Lab();
    lab.domain("a", [hog]);
    const b = lab.domain("b", [hog], { warpback: true, warpvalue: 1_000_000 });
    lab.machine.timers.arm(30 * MS, () => lab.scheduling.adjust(lab.pool, b, { warpback: false }));
    expect(lab.schedule(60)).toBe("0 b, 30 a");
  });
});

describe("parameters", () => {
  test("defaults and bounds", () => {
    const lab = new Lab();
    const a = lab.domain("a", [hog]);
    const set = (values: Record<string, number>) => lab.scheduling.adjust(lab.pool, a, values);
    expect(lab.pool.scheduler.read?.(a)).toEqual({
      mcu_advance: 10,
      warpback: false,
      warpvalue: 0,
      warpl: 2000 * MS,
      warpu: 1000 * MS,
    });
    expect(() => set({ mcu_advance: 0 })).toThrow(ConfigError);
    expect(() => set({ warpl: -1 })).toThrow(ConfigError);
    expect(() => set({ warpvalue: 2 ** 31 })).toThrow(ConfigError);
    expect(set({ mcu_advance: 65535, warpvalue: 2 ** 31 - 1 })).toBe(0);
    expect(lab.pool.scheduler.adjust?.(new Lab().domain("elsewhere", [hog]), {})).toBe(ESRCH);
  });

  test("a new mcu_advance counts from now on", () => {
    const lab = new Lab();
    const a = lab.domain("a", [hog]);
    lab.machine.timers.arm(100 * MS, () => lab.scheduling.adjust(lab.pool, a, { mcu_advance: 30 }));
    lab.run(200 * MS);
    lab.scheduling.pauseVcpu(a.vcpus[0]!);
    lab.run(201 * MS);
    expect(lab.pool.scheduler.dump?.()).toContain("avt 40000 ");
  });

  test("of a vCPU; of a domain: all its vCPUs", () => {
    const lab = new Lab();
    const a = lab.domain("a", [hog, hog], { mcu_advance: 20 });
    expect(lab.scheduling.adjust(lab.pool, a.vcpus[0]!, { mcu_advance: 10 })).toBe(0);
    lab.run(3000 * MS);
    expect(Math.abs(lab.cpuTime(a.vcpus[0]!) / MS - 2000)).toBeLessThan(15);
    expect(Math.abs(lab.cpuTime(a.vcpus[1]!) / MS - 1000)).toBeLessThan(15);
  });
});

describe("placement", () => {
  test("the pCPU of the affinity with the fewest units, the lowest of several; no balancing", () => {
    const lab = new Lab({ pcpus: 2 });
    const [a, b, c] = ["a", "b", "c"].map((name) => lab.domain(name, [hog]));
    lab.run(100 * MS);
    expect([a, b, c].map((d) => d!.vcpus[0]!.lastPcpu?.id)).toEqual([0, 1, 0]);
    lab.scheduling.pauseDomain(b!);
    lab.run(200 * MS);
    expect(lab.machine.pcpus[1]!.current).toBe(null);
    lab.scheduling.setAffinity(c!.vcpus[0]!, new Set([0, 1]), new Set([1]));
    lab.run(300 * MS);
    expect(lab.machine.pcpus[1]!.current?.domain).toBe(c);
  });

  test("pCPUs that go and come: units go on elsewhere and stay there", () => {
    const lab = new Lab({ pcpus: 2 });
    const domains = ["a", "b", "c"].map((name) => lab.domain(name, [hog]));
    lab.run(500 * MS);
    lab.scheduling.removeResources(lab.pool, [lab.machine.pcpus[0]!.resource!]);
    const before = domains.map((d) => lab.ran(d));
    lab.run(1100 * MS);
    domains.forEach((d, i) => {
      expect(Math.abs(lab.ran(d) - before[i]! - 200)).toBeLessThan(20);
    });
    lab.scheduling.addPcpus(lab.pool, [lab.machine.pcpus[0]!]);
    lab.run(1200 * MS);
    expect(lab.machine.pcpus[0]!.current).toBe(null);
    expect(lab.pool.faults).toEqual([]);
  });
});

describe("state", () => {
  test("saved and restored, virtual times and warps are as they were", () => {
    const lab = new Lab();
    lab.domain("a", [hog], { mcu_advance: 20 });
    lab.domain("b", [hog], { warpback: true, warpvalue: 1000, warpl: 10 * MS, warpu: 500 * MS });
    lab.run(12 * MS);
    const saved = JSON.parse(JSON.stringify(lab.pool.scheduler.save?.()));
    // a, the only one that runs after b's warp, has 400 of b's 1000.
    expect(saved.units[0]).toMatchObject({ lag: 0, mcuAdvance: 20 });
    expect(saved.units[1]).toMatchObject({ lag: 600, warping: false, unwarpIn: 498 * MS });

    const again = new Lab();
    again.machine.timers.arm(100 * MS, () => {});
    again.run(100 * MS);
    const domains = [again.domain("a", [hog]), again.domain("b", [hog])];
    const units = domains.map((d) => d.vcpus[0]!.unit!);
    for (const { vcpus } of domains) again.scheduling.setFlag(vcpus[0]!, PauseFlag.down);
    again.pool.scheduler.restore?.(saved, (id) => units[id], again.machine.now);
    expect(again.pool.scheduler.save?.()).toEqual(saved);
    for (const { vcpus } of [...domains].reverse()) again.scheduling.clearFlag(vcpus[0]!, PauseFlag.down);
    // 600 / 20 * 100 us and the allowance.
    expect(again.schedule(110, 100)).toBe("100 a, 108 b");
  });
});
