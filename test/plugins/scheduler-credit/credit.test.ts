/** The credit scheduler's own promises: shares by weight, caps, boost, balancing, parameters with Xen's bounds. */
import { describe, expect, test } from "vitest";
import type { Domain } from "../../../core/domain/domain.ts";
import { RunState } from "../../../core/domain/vcpu.ts";
import { ConfigError } from "../../../core/errors.ts";
import type { MachineConfig } from "../../../core/machine/machine.ts";
import type { ParamValues } from "../../../core/scheduling/scheduler.ts";
import { runStateTime } from "../../../core/scheduling/unit.ts";
import { CreditScheduler } from "../../../plugins/scheduler-credit/credit.ts";
import { hog, Load, periodic } from "../../support/load.ts";

const MS = 1e6;
const SECOND = 1e9;

function credit(config: Partial<MachineConfig> = {}): Load {
  return new Load((host) => new CreditScheduler(host), config);
}

/** What each domain got of so many seconds, as parts of one pCPU. */
function shares(load: Load, seconds: number): number[] {
  const start = Math.max(load.machine.now, ...load.machine.pcpus.map((pcpu) => pcpu.clock));
  const before = load.domains.map((domain) => load.domainTime(domain));
  expect(load.run(start + seconds * SECOND)).toBe("limit");
  expect(load.pool.faults).toEqual([]);
  return load.domains.map((domain, i) => (load.domainTime(domain) - before[i]!) / (seconds * SECOND));
}

function expectShares(got: readonly number[], expected: readonly number[], within: number): void {
  expected.forEach((share, i) => {
    expect(Math.abs(got[i]! - share), `share ${i} is ${got[i]}, not ${share}`).toBeLessThanOrEqual(within);
  });
}

/** What a unit waited for in runnable, per time that it woke. */
function waited(load: Load, domain: Domain): number {
  return domain.vcpus.reduce((sum, vcpu) => sum + runStateTime(vcpu, RunState.runnable, load.machine.now), 0);
}

describe("weights", () => {
  test("256 : 512 : 1024 give 1/7, 2/7, 4/7 of a pCPU over 64 s", () => {
    const load = credit();
    for (const weight of [256, 512, 1024]) load.domain(`w${weight}`, [hog], { weight });
    expectShares(shares(load, 64), [1 / 7, 2 / 7, 4 / 7], 0.015);
  });

  test("a weight is for each active vCPU: two vCPUs of 256 get twice what one gets", () => {
    const load = credit();
    load.domain("two", [hog, hog]);
    load.domain("one", [hog]);
    expectShares(shares(load, 30), [2 / 3, 1 / 3], 0.02);
  });

  test("what a domain cannot use goes to the others by weight", () => {
    const load = credit();
    load.domain("sleeper", [periodic(1 * MS, 9 * MS)], { weight: 1024 });
    load.domain("a", [hog], { weight: 256 });
    load.domain("b", [hog], { weight: 512 });
    const [sleeper, a, b] = shares(load, 30) as [number, number, number];
    expect(sleeper).toBeGreaterThan(0.08);
    // Not quite 1 : 2: credits that the sleeper earns and does not use are missing to both, which then take turns as OVER (README).
    expect(b / a).toBeGreaterThan(1.5);
    expect(b / a).toBeLessThan(2.2);
    expect(sleeper + a + b).toBeGreaterThan(0.999);
  });

  test("a weight that changes while it runs", () => {
    const load = credit();
    const [a] = [load.domain("a", [hog]), load.domain("b", [hog])];
    expectShares(shares(load, 10), [0.5, 0.5], 0.02);
    expect(load.scheduling.adjust(load.pool, a, { weight: 768 })).toBe(0);
    shares(load, 2);
    expectShares(shares(load, 20), [0.75, 0.25], 0.02);
  });

  test("more pCPUs than one domain can use: 3 hogs on 2 pCPUs", () => {
    const load = credit({ pcpus: 2 });
    for (const weight of [256, 256, 1024]) load.domain(`w${weight}`, [hog], { weight });
    // The heavy one is entitled to 4/3 of a pCPU and can use one.
    expectShares(shares(load, 30), [0.5, 0.5, 1], 0.05);
  });
});

describe("caps", () => {
  test.each([10, 25, 50, 75])("cap %i gives so much of an idle pCPU and not more", (cap) => {
    const load = credit();
    load.domain("capped", [hog], { cap });
    expectShares(shares(load, 30), [cap / 100], 0.02);
  });

  test("cap 50 beside a hog", () => {
    const load = credit();
    load.domain("capped", [hog], { cap: 50, weight: 1024 });
    load.domain("free", [hog]);
    const [capped, free] = shares(load, 30) as [number, number];
    expect(capped).toBeLessThanOrEqual(0.52);
    expect(capped).toBeGreaterThan(0.42);
    expect(capped + free).toBeGreaterThan(0.999);
  });

  test("cap 150 of two vCPUs on two pCPUs", () => {
    const load = credit({ pcpus: 2 });
    load.domain("capped", [hog, hog], { cap: 150 });
    expectShares(shares(load, 30), [1.5], 0.05);
  });

  test("a cap that is lifted", () => {
    const load = credit();
    const domain = load.domain("d", [hog], { cap: 20 });
    expectShares(shares(load, 10), [0.2], 0.02);
    load.scheduling.adjust(load.pool, domain, { cap: 0 });
    expectShares(shares(load, 1), [1], 0.001);
  });

  test("a domain destroyed while it is parked leaves no trace", () => {
    const load = credit();
    const domain = load.domain("d", [hog], { cap: 1 });
    const other = load.domain("other", [hog]);
    load.run(1 * SECOND);
    for (const vcpu of domain.vcpus) load.scheduling.removeVcpu(vcpu);
    const before = load.domainTime(other);
    load.run(2 * SECOND);
    expect(load.domainTime(other) - before).toBeGreaterThan(0.999 * SECOND);
    expect(load.pool.faults).toEqual([]);
  });
});

describe("boost", () => {
  test("an I/O unit beside hogs waits for the rate limit at most, most of the time", () => {
    const load = credit();
    const io = load.domain("io", [periodic(200_000, 5 * MS)]);
    for (let i = 0; i < 3; i++) load.domain(`hog${i}`, [hog]);
    shares(load, 10);
    // About 1900 wakes; without boost each would wait for slices of 30 ms.
    const wakes = load.domainTime(io) / 200_000;
    expect(wakes).toBeGreaterThan(1500);
    expect(waited(load, io) / wakes).toBeLessThan(1.1 * MS);
  });

  /** A unit that wants half a pCPU, with a weight for a thirteenth, beside three hogs: its share. */
  const greedy = (sleep: number): number => {
    const load = credit();
    load.domain("greedy", [periodic(5 * MS, sleep)], { weight: 64 });
    for (let i = 0; i < 3; i++) load.domain(`hog${i}`, [hog], { weight: 256 });
    return shares(load, 20)[0]!;
  };

  test("a unit that ticks find running over its share is not boosted", () => {
    expect(greedy(4.3 * MS)).toBeLessThan(0.2);
  });

  test("one that runs between ticks only is never accounted, as in Xen (README: what credit does not promise)", () => {
    expect(greedy(5 * MS)).toBeGreaterThan(0.45);
  });

  test("the rate limit bounds preemption: switches with and without it", () => {
    const switches = (params: ParamValues): number => {
      const load = credit();
      let count = 0;
      load.machine.hooks.contextSwitch.tap("test", () => count++);
      expect(load.scheduling.adjust(load.pool, null, params)).toBe(0);
      load.domain("hog", [hog]);
      for (let i = 0; i < 4; i++) load.domain(`io${i}`, [periodic(20_000, 300_000 + i * 10_007)]);
      load.run(1 * SECOND);
      expect(load.pool.faults).toEqual([]);
      return count;
    };
    expect(switches({ ratelimit_us: 0 })).toBeGreaterThan(1.5 * switches({ ratelimit_us: 5000 }));
  });
});

describe("balancing over 4 pCPUs", () => {
  test("eight hogs get half a pCPU each, and no pCPU idles", () => {
    const load = credit({ pcpus: 4 });
    for (let i = 0; i < 8; i++) load.domain(`hog${i}`, [hog]);
    expectShares(shares(load, 20), new Array(8).fill(0.5), 0.06);
    for (const pcpu of load.machine.pcpus) expect(pcpu.idleTime).toBeLessThan(1 * MS);
  });

  test("a pCPU that runs out of work takes over from the others", () => {
    const load = credit({ pcpus: 4 });
    const domains = Array.from({ length: 8 }, (_, i) => load.domain(`hog${i}`, [hog]));
    load.run(100 * MS);
    for (const domain of domains.slice(0, 4)) load.scheduling.pauseDomain(domain);
    load.run(150 * MS);
    const before = domains.map((domain) => load.domainTime(domain));
    load.run(1150 * MS);
    const got = domains.slice(4).map((domain, i) => load.domainTime(domain) - before[4 + i]!);
    expectShares(
      got.map((time) => time / SECOND),
      [1, 1, 1, 1],
      0.01,
    );
  });

  test("hard affinity is kept, soft affinity preferred while there is room", () => {
    const load = credit({ pcpus: 4 });
    const pinned = load.domain("pinned", [hog]).vcpus[0]!;
    const soft = load.domain("soft", [hog]).vcpus[0]!;
    load.scheduling.setAffinity(pinned, new Set([2]), new Set([2]));
    load.scheduling.setAffinity(soft, new Set([0, 1, 2, 3]), new Set([3]));
    const where = new Map<string, Set<number>>();
    load.machine.hooks.contextSwitch.tap("test", (pcpu, _previous, next) => {
      if (next !== null) where.set(next.domain.name, (where.get(next.domain.name) ?? new Set()).add(pcpu.id));
    });
    load.domain("a", [periodic(3 * MS, 2 * MS)]);
    load.domain("b", [periodic(2 * MS, 3 * MS)]);
    load.run(2 * SECOND);
    expect([...where.get("pinned")!]).toEqual([2]);
    expect([...where.get("soft")!]).toEqual([3]);
    // The pinned one is alone on its pCPU, as the others have room elsewhere.
    expect(load.domainTime(pinned.domain)).toBeGreaterThan(1.9 * SECOND);
  });
});

describe("parameters", () => {
  test.each<[ParamValues, boolean]>([
    [{ weight: 1 }, true],
    [{ weight: 65535 }, true],
    [{ weight: 0 }, false],
    [{ weight: 65536 }, false],
    [{ weight: 1.5 }, false],
    [{ cap: 0 }, true],
    [{ cap: 65534 }, true],
    [{ cap: -1 }, false],
    [{ cap: 65535 }, false],
    [{ extratime: true }, false],
  ])("of a domain: %j", (values, good) => {
    const load = credit();
    const domain = load.domain("d", [hog]);
    if (!good) {
      expect(() => load.scheduling.adjust(load.pool, domain, values)).toThrow(ConfigError);
      expect(load.pool.read(domain)).toEqual({ weight: 256, cap: 0 });
      return;
    }
    expect(load.scheduling.adjust(load.pool, domain, values)).toBe(0);
    expect(load.pool.read(domain)).toEqual({ weight: 256, cap: 0, ...values });
  });

  test.each<[ParamValues, "ok" | "EINVAL" | "refused"]>([
    [{ tslice_ms: 1, ratelimit_us: 1000 }, "ok"],
    [{ tslice_ms: 1000 }, "ok"],
    [{ tslice_ms: 0 }, "refused"],
    [{ tslice_ms: 1001 }, "refused"],
    [{ ratelimit_us: 0 }, "ok"],
    [{ ratelimit_us: 100 }, "ok"],
    [{ ratelimit_us: 99 }, "EINVAL"],
    [{ ratelimit_us: 500_001 }, "refused"],
    [{ tslice_ms: 10, ratelimit_us: 10_001 }, "EINVAL"],
    [{ migration_delay_us: 100_000 }, "ok"],
    [{ migration_delay_us: 100_001 }, "refused"],
  ])("of the pool: %j is %s", (values, verdict) => {
    const load = credit();
    const defaults = { tslice_ms: 30, ratelimit_us: 1000, migration_delay_us: 0, smt_power_savings: false };
    expect(load.pool.read(null)).toEqual(defaults);
    if (verdict === "refused") expect(() => load.scheduling.adjust(load.pool, null, values)).toThrow(ConfigError);
    else expect(load.scheduling.adjust(load.pool, null, values)).toBe(verdict === "ok" ? 0 : -22);
    expect(load.pool.read(null)).toEqual(verdict === "ok" ? { ...defaults, ...values } : defaults);
  });

  test.each([
    [1, 0.12], // ten credits a slice: they are rounded up for each unit, and the slice is no longer than the rate limit
    [7, 0.03],
    [10, 0.03],
    [100, 0.03],
  ])("a slice of %i ms works, shares within %f", (tslice_ms, within) => {
    const load = credit();
    load.scheduling.adjust(load.pool, null, { tslice_ms });
    load.domain("a", [hog], { weight: 256 });
    load.domain("b", [hog], { weight: 512 });
    expectShares(shares(load, 20), [1 / 3, 2 / 3], within);
    const clocks = load.machine.pcpus.map((pcpu) => pcpu.clock);
    expect(clocks.every(Number.isInteger)).toBe(true);
  });
});
