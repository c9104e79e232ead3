/** sedf: exact schedules of slices, blocks and extra time. Times in ms; costs are zero. */
import { describe, expect, test } from "vitest";
import { PauseFlag } from "../../../core/domain/vcpu.ts";
import { ConfigError } from "../../../core/errors.ts";
import type { MachineConfig } from "../../../core/machine/machine.ts";
import type { SchedulingUnit } from "../../../core/scheduling/scheduler.ts";
import { SedfScheduler } from "../../../plugins/scheduler-sedf/sedf.ts";
import { SedfUnit } from "../../../plugins/scheduler-sedf/unit.ts";
import { ExactLoad, hog, steps } from "../../support/exact-load.ts";

const MS = 1e6;
const EINVAL = -22;
const ESRCH = -3;

/** A slice's parameters, in ms; extra time off. */
const server = (period: number, slice: number, extratime = false) => ({
  period: period * MS,
  slice: slice * MS,
  extratime,
});

class Lab extends ExactLoad {
  constructor(config: Partial<MachineConfig> = {}) {
    super((host) => new SedfScheduler(host), config);
  }
}

describe("slices", () => {
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

  test("the earlier deadline first, preemption when a period begins: (4,2) against (10,5)", () => {
    const lab = new Lab();
    lab.domain("long", [hog], server(10, 5));
    lab.domain("short", [hog], server(4, 2));
    // At 8 the deadline of short is 12, that of long 10: long goes on. At 16 both are 20: long is not preempted.
    expect(lab.schedule(20)).toBe("0 short, 2 long, 4 short, 6 long, 9 short, 11 long, 12 short, 14 long, 18 short");
  });

  test("a utilisation of 1: (2,1) and (5,2.5) miss nothing in 10 s", () => {
    const lab = new Lab();
    const a = lab.domain("a", [hog], server(2, 1));
    const b = lab.domain("b", [hog], server(5, 2.5));
    for (let at = 5; at <= 10_000; at += 5) {
      lab.run(at * MS);
      expect(lab.ran(b)).toBe(at / 2);
    }
    expect(lab.ran(a)).toBe(5000);
  });

  test("used up without extra time it waits for its next period, though the pCPU idles", () => {
    const lab = new Lab();
    lab.domain("a", [hog], server(10, 4));
    expect(lab.schedule(30)).toBe("0 a, 4 -, 10 a, 14 -, 20 a, 24 -");
  });

  test("no admission control: who comes first gets its slice", () => {
    const lab = new Lab();
    const domains = ["a", "b", "c"].map((name) => lab.domain(name, [hog], server(10, 8)));
    lab.run(100 * MS);
    expect(domains.map((d) => lab.ran(d))).toEqual([80, 20, 0]);
    expect(lab.pool.scheduler.entitled?.(domains[2]!.vcpus[0]!.unit!)).toBe(false);
  });

  test("domain 0 has 15 ms of 20", () => {
    const unit = { domain: { id: 0 }, runTime: 0 } as unknown as SchedulingUnit;
    expect(new SedfUnit(unit)).toMatchObject({ period: 20 * MS, slice: 15 * MS, extratime: true });
  });
});

describe("blocks", () => {
  test("a short block forfeits the rest of the period; one quantum of extra time makes up for it", () => {
    const lab = new Lab();
    lab.domain("a", [steps([1, 2], [100, 0])], server(10, 4));
    expect(lab.schedule(20)).toBe("0 a, 1 -, 3 a, 3.5 -, 10 a, 14 -");
  });

  test("after a long block the deadline is now + period", () => {
    const lab = new Lab();
    lab.domain("a", [steps([1, 14], [100, 0])], server(10, 4));
    expect(lab.schedule(35)).toBe("0 a, 1 -, 15 a, 19 -, 25 a, 29 -");
  });

  test("a period that began in the block begins when it wakes", () => {
    const lab = new Lab();
    lab.domain("a", [steps([4, 8], [100, 0])], server(10, 4));
    expect(lab.schedule(30)).toBe("0 a, 4 -, 12 a, 16 -, 22 a, 26 -");
  });

  test("a block after the slice forfeits nothing", () => {
    const lab = new Lab();
    lab.domain("a", [steps([4, 2], [100, 0])], server(10, 4));
    expect(lab.schedule(20)).toBe("0 a, 4 -, 10 a, 14 -");
  });

  test("the penalty queue goes before the utilisation queue, at once", () => {
    const lab = new Lab();
    lab.domain("hog", [hog]);
    lab.domain("io", [steps([1, 2.2], [100, 0])], server(10, 4));
    expect(lab.schedule(20)).toBe("0 io, 1 hog, 3.2 io, 3.7 hog, 10 io, 14 hog");
  });

  test("in the penalty queue the greater loss of its period goes first", () => {
    const lab = new Lab();
    // small wakes in big's turn and has lost 1 ms of 20, big 3; then the other way round.
    lab.domain("small", [steps([1, 5.1], [100, 0])], server(20, 2));
    lab.domain("big", [steps([1, 4], [100, 0])], server(20, 4));
    expect(lab.schedule(19)).toBe("0 small, 1 big, 2 -, 6 big, 6.5 small, 7 -");
    const other = new Lab();
    other.domain("small", [steps([1, 4.7], [100, 0])], server(20, 2));
    other.domain("big", [steps([1, 4], [100, 0])], server(20, 4));
    // What is left of a turn is not lost.
    expect(other.schedule(19)).toBe("0 small, 1 big, 2 -, 5.7 small, 6 big, 6.5 small, 6.7 -");
  });
});

describe("extra time", () => {
  test("2^17 / extraweight: 1, 2, 4 give 1/7, 2/7, 4/7", () => {
    const lab = new Lab();
    const domains = [1, 2, 4].map((extraweight) => lab.domain(`w${extraweight}`, [hog], { extraweight }));
    for (let at = 100; at <= 700; at += 100) {
      lab.run(at * MS);
      domains.forEach((d, i) => {
        expect(Math.abs(lab.ran(d) - (at * 2 ** i) / 7)).toBeLessThan(1);
      });
    }
  });

  test("in turns of 500 us", () => {
    const lab = new Lab();
    for (const name of ["a", "b"]) lab.domain(name, [hog]);
    expect(lab.schedule(2)).toBe("0 a, 0.5 b, 1 a, 1.5 b");
  });

  test("without an extra weight it follows the slices", () => {
    const lab = new Lab();
    const a = lab.domain("a", [hog], server(10, 1, true));
    const b = lab.domain("b", [hog], server(10, 3, true));
    lab.run(1000 * MS);
    // 6 of 10 ms are extra time, 1 : 3.
    expect(Math.abs(lab.ran(a) - 250)).toBeLessThan(2);
    expect(Math.abs(lab.ran(b) - 750)).toBeLessThan(2);
  });

  test("a slice of the whole period counts as much as the extra weight 128", () => {
    const unit = { domain: { id: 1 }, runTime: 0 } as unknown as SchedulingUnit;
    const half = Object.assign(new SedfUnit(unit), { period: 10 * MS, slice: 5 * MS, extraweight: 0 });
    const weight = Object.assign(new SedfUnit(unit), { extraweight: 64 });
    expect(half.score).toBe(weight.score);
  });

  test("it ends when a period begins, and only what it ran counts", () => {
    const lab = new Lab();
    const real = lab.domain("real", [hog], server(1, 0.7));
    const a = lab.domain("a", [hog]);
    const b = lab.domain("b", [hog]);
    lab.run(1000 * MS);
    expect(lab.ran(real)).toBe(700);
    expect(lab.ran(a)).toBeCloseTo(150, 0);
    expect(lab.ran(b)).toBeCloseTo(150, 0);
  });

  test("switched on and off while it runs", () => {
    const lab = new Lab();
    const a = lab.domain("a", [hog], server(10, 2, true));
    lab.machine.timers.arm(5.2 * MS, () => lab.scheduling.adjust(lab.pool, a, { extratime: false }));
    lab.machine.timers.arm(15 * MS, () => lab.scheduling.adjust(lab.pool, a, { extratime: true }));
    // The turn that began at 5 ends.
    expect(lab.schedule(30)).toBe("0 a, 5.5 -, 10 a, 12 -, 15 a");
  });
});

/** The slices in force from the next period on. */
function slices(lab: Lab): number[] {
  const { units } = lab.pool.save() as unknown as { units: readonly { nextSlice: number }[] };
  return units.map((unit) => unit.nextSlice);
}

describe("weights", () => {
  test("share what the others' slices and 5 % leave of each 100 ms", () => {
    const lab = new Lab();
    const [one, two] = [1, 2].map((weight) => lab.domain(`w${weight}`, [hog], { weight, extratime: false }));
    expect(slices(lab)).toEqual([Math.floor(95e6 / 3), Math.floor((2 * 95e6) / 3)]);
    const real = lab.domain("real", [hog], server(10, 2));
    expect(slices(lab)).toEqual([25e6, 50e6, 2e6]);
    lab.run(300 * MS);
    const before = [one!, two!, real].map((d) => lab.ran(d));
    lab.run(1300 * MS);
    expect([one!, two!, real].map((d, i) => Math.round(lab.ran(d) - before[i]!))).toEqual([250, 500, 200]);
  });

  test("are of one pCPU", () => {
    const lab = new Lab({ pcpus: 2 });
    const [, b] = [1, 3].map((weight) => lab.domain(`w${weight}`, [hog], { weight }));
    expect(slices(lab)).toEqual([23_750_000, 71_250_000]);
    lab.scheduling.setAffinity(b!.vcpus[0]!, new Set([1]), new Set([1]));
    expect(slices(lab)).toEqual([95e6, 95e6]);
  });

  test("override period and slice; weight 0 gives them back", () => {
    const lab = new Lab();
    const a = lab.domain("a", [hog], server(10, 4));
    const set = (values: Record<string, number>) => lab.scheduling.adjust(lab.pool, a, values);
    expect(set({ weight: 5 })).toBe(0);
    expect(lab.pool.scheduler.read?.(a)).toMatchObject({ weight: 5, ...server(10, 4) });
    expect(slices(lab)).toEqual([95e6]);
    expect(set({ slice: 3 * MS })).toBe(0);
    expect(slices(lab)).toEqual([95e6]);
    expect(set({ weight: 0 })).toBe(0);
    expect(slices(lab)).toEqual([3e6]);
  });
});

describe("parameters", () => {
  test("a change takes effect with the next period", () => {
    const lab = new Lab();
    const a = lab.domain("a", [hog], server(10, 4));
    lab.machine.timers.arm(2 * MS, () => expect(lab.scheduling.adjust(lab.pool, a, server(20, 5))).toBe(0));
    expect(lab.schedule(50)).toBe("0 a, 4 -, 10 a, 15 -, 30 a, 35 -");
  });

  test("bounds", () => {
    const lab = new Lab();
    const a = lab.domain("a", [hog]);
    const set = (values: Record<string, number>) => lab.scheduling.adjust(lab.pool, a, values);
    expect(() => set({ period: 9_999 })).toThrow(ConfigError);
    expect(() => set({ period: 10e9 + 1 })).toThrow(ConfigError);
    expect(() => set({ weight: 65536 })).toThrow(ConfigError);
    expect(set({ period: 10_000, slice: 4_999 })).toBe(EINVAL);
    expect(set({ period: 10_000, slice: 10_001 })).toBe(EINVAL);
    expect(lab.pool.scheduler.read?.(a)).toEqual({
      ...server(100, 0, true),
      weight: 0,
      extraweight: 0,
    });
    expect(set({ period: 10_000, slice: 5_000 })).toBe(0);
    expect(set({ period: 10e9, slice: 10e9 })).toBe(0);
    expect(lab.pool.scheduler.adjust?.(null, {})).toBe(ESRCH);
  });

  test("of a vCPU; of a domain: all its vCPUs", () => {
    const lab = new Lab();
    const a = lab.domain("a", [hog, hog], server(10, 2));
    expect(lab.scheduling.adjust(lab.pool, a.vcpus[0]!, { slice: 3 * MS })).toBe(0);
    lab.run(100 * MS);
    const before = a.vcpus.map((v) => lab.cpuTime(v));
    lab.run(200 * MS);
    expect(a.vcpus.map((v, i) => lab.cpuTime(v) - before[i]!)).toEqual([30 * MS, 20 * MS]);
  });
});

describe("placement", () => {
  test("the first pCPU of the affinity, no balancing", () => {
    const lab = new Lab({ pcpus: 3 });
    for (const name of ["a", "b"]) lab.domain(name, [hog]);
    const c = lab.domain("c", [hog]);
    lab.scheduling.setAffinity(c.vcpus[0]!, new Set([0, 1, 2]), new Set([1, 2]));
    lab.run(100 * MS);
    expect(lab.machine.pcpus.map((p) => p.current?.domain.name.replace(/[ab]/, "a or b") ?? "-")).toEqual([
      "a or b",
      "c",
      "-",
    ]);
  });

  test("pCPUs that go and come: units go on elsewhere and stay there", () => {
    const lab = new Lab({ pcpus: 2 });
    const a = lab.domain("a", [hog], server(10, 4));
    const b = lab.domain("b", [hog]);
    lab.run(12 * MS);
    const resource = lab.machine.pcpus[0]!.resource!;
    lab.scheduling.removeResources(lab.pool, [resource]);
    lab.run(20 * MS);
    expect(lab.machine.pcpus[1]!.current?.domain).toBe(b);
    lab.scheduling.addPcpus(lab.pool, [lab.machine.pcpus[0]!]);
    lab.run(100 * MS);
    expect(lab.machine.pcpus[0]!.current).toBe(null);
    expect(lab.ran(a) + lab.ran(b)).toBeCloseTo(100, 3);
    expect(lab.ran(a)).toBeGreaterThanOrEqual(36);
    expect(lab.pool.faults).toEqual([]);
  });
});

describe("state", () => {
  test("saved and restored, slices and periods are as they were", () => {
    const lab = new Lab();
    lab.domain("a", [hog], server(10, 4));
    lab.domain("b", [hog], server(20, 10));
    lab.run(5 * MS);
    const saved = JSON.parse(JSON.stringify(lab.pool.scheduler.save?.()));
    expect(saved.units[0]).toMatchObject({ used: 0, begin: 5 * MS, deadline: 15 * MS });
    expect(saved.units[1]).toMatchObject({ used: 1 * MS, begin: -5 * MS, deadline: 15 * MS });

    const again = new Lab();
    again.machine.timers.arm(100 * MS, () => {});
    again.run(100 * MS);
    const domains = [again.domain("a", [hog]), again.domain("b", [hog])];
    const units = domains.map((d) => d.vcpus[0]!.unit!);
    for (const { vcpus } of domains) again.scheduling.setFlag(vcpus[0]!, PauseFlag.down);
    again.pool.scheduler.restore?.(saved, (id) => units[id], again.machine.now);
    for (const { vcpus } of domains) again.scheduling.clearFlag(vcpus[0]!, PauseFlag.down);
    // Both deadlines are 115: b, which was there first, goes on in its slice, then a.
    expect(again.schedule(130, 100)).toBe("100 b, 109 a, 113 -, 115 a, 119 b, 129 a");
  });
});
