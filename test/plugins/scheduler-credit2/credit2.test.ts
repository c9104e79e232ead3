/** What credit2 promises on the real core: shares by weight, caps, latency, nobody lost under random operations. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { RunState } from "../../../core/domain/vcpu.ts";
import { ConfigError } from "../../../core/errors.ts";
import type { MachineConfig } from "../../../core/machine/machine.ts";
import type { ParamValues } from "../../../core/scheduling/scheduler.ts";
import { runStateTime } from "../../../core/scheduling/unit.ts";
import { Credit2Scheduler } from "../../../plugins/scheduler-credit2/credit2.ts";
import { hog, Load, periodic } from "../../support/load.ts";
import { ScriptedHost } from "./scripted-host.ts";

const MS = 1e6;
const SECOND = 1e9;

function credit2(config: Partial<MachineConfig> = {}): Load {
  return new Load((host) => new Credit2Scheduler(host), config);
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

describe("weights", () => {
  test("256 : 512 : 1024 give 1/7, 2/7, 4/7 of a pCPU", () => {
    const load = credit2();
    for (const weight of [256, 512, 1024]) load.domain(`w${weight}`, [hog], { weight });
    expectShares(shares(load, 30), [1 / 7, 2 / 7, 4 / 7], 0.02);
  });

  test("a weight is for each vCPU", () => {
    const load = credit2();
    load.domain("two", [hog, hog]);
    load.domain("one", [hog]);
    expectShares(shares(load, 20), [2 / 3, 1 / 3], 0.01);
  });

  test("a weight that changes while it runs", () => {
    const load = credit2();
    const [a] = [load.domain("a", [hog]), load.domain("b", [hog])];
    expectShares(shares(load, 10), [0.5, 0.5], 0.01);
    expect(load.scheduling.adjust(load.pool, a, { weight: 768 })).toBe(0);
    expectShares(shares(load, 20), [0.75, 0.25], 0.03);
  });

  test("more pCPUs than one domain can use: 3 hogs on 2 pCPUs", () => {
    const load = credit2({ pcpus: 2 });
    for (const weight of [256, 256, 1024]) load.domain(`w${weight}`, [hog], { weight });
    const [a, b, c] = shares(load, 30) as [number, number, number];
    expect(Math.abs(a - b)).toBeLessThan(0.05);
    expect(c).toBeGreaterThan(0.8);
    expect(a + b + c).toBeGreaterThan(1.999);
  });

  test("the lightest beside the heaviest is served", () => {
    const load = credit2();
    load.domain("light", [hog], { weight: 1 });
    load.domain("heavy", [hog], { weight: 65535 });
    const [light] = shares(load, 5) as [number];
    expect(light).toBeGreaterThan(0);
    expect(light).toBeLessThan(0.15);
  });
});

describe("caps", () => {
  test.each([1, 10, 25, 50, 75, 100])("cap %i gives so much of an idle pCPU and not more", (cap) => {
    const load = credit2();
    load.domain("capped", [hog], { cap });
    expectShares(shares(load, 5), [cap / 100], 0.002);
  });

  test("cap 150 of two vCPUs on two pCPUs, and 50 beside a hog", () => {
    const load = credit2({ pcpus: 2 });
    load.domain("capped", [hog, hog], { cap: 150 });
    expectShares(shares(load, 5), [1.5], 0.01);
    const beside = credit2();
    beside.domain("capped", [hog], { cap: 50, weight: 1024 });
    beside.domain("free", [hog]);
    expectShares(shares(beside, 10), [0.5, 0.5], 0.01);
  });

  test("a cap that is lifted, and a domain destroyed while it is parked", () => {
    const load = credit2();
    const domain = load.domain("d", [hog], { cap: 20 });
    expectShares(shares(load, 2), [0.2], 0.01);
    load.scheduling.adjust(load.pool, domain, { cap: 0 });
    expectShares(shares(load, 1), [1], 0.001);
    load.scheduling.adjust(load.pool, domain, { cap: 1 });
    const other = load.domain("other", [hog]);
    load.run(load.machine.now + 1 * SECOND);
    for (const vcpu of domain.vcpus) load.scheduling.removeVcpu(vcpu);
    const before = load.domainTime(other);
    load.run(load.machine.now + 1 * SECOND);
    expect(load.domainTime(other) - before).toBeGreaterThan(0.999 * SECOND);
    expect(load.pool.faults).toEqual([]);
  });
});

describe("latency", () => {
  test("an I/O unit beside hogs waits for the rate limit at most, on average", () => {
    const load = credit2();
    const io = load.domain("io", [periodic(200_000, 5 * MS)]);
    for (let i = 0; i < 3; i++) load.domain(`hog${i}`, [hog]);
    shares(load, 10);
    const wakes = load.domainTime(io) / 200_000;
    const waited = runStateTime(io.vcpus[0]!, RunState.runnable, load.machine.now);
    expect(wakes).toBeGreaterThan(1500);
    expect(waited / wakes).toBeLessThan(1.5 * MS);
  });
});

describe("many pCPUs", () => {
  test("eight hogs get half of four pCPUs each, and none idles", () => {
    const load = credit2({ pcpus: 4 });
    for (let i = 0; i < 8; i++) load.domain(`hog${i}`, [hog]);
    expectShares(shares(load, 10), new Array(8).fill(0.5), 0.02);
    for (const pcpu of load.machine.pcpus) expect(pcpu.idleTime).toBeLessThan(1 * MS);
  });

  test("on four sockets of two too, after balancing", () => {
    const load = credit2({ pcpus: 8, coresPerSocket: 2 });
    for (let i = 0; i < 16; i++) load.domain(`hog${i}`, [hog]);
    expectShares(shares(load, 10), new Array(16).fill(0.5), 0.05);
  });
});

describe("parameters", () => {
  test.each<[ParamValues, "ok" | "EINVAL" | "refused"]>([
    [{ weight: 1 }, "ok"],
    [{ weight: 65535, cap: 100 }, "ok"],
    [{ weight: 0 }, "refused"],
    [{ weight: 65536 }, "refused"],
    [{ cap: -1 }, "refused"],
    [{ cap: 101 }, "EINVAL"],
    [{ extratime: true }, "refused"],
  ])("of a domain of one vCPU: %j is %s", (values, verdict) => {
    const load = credit2();
    const domain = load.domain("d", [hog]);
    if (verdict === "refused") expect(() => load.scheduling.adjust(load.pool, domain, values)).toThrow(ConfigError);
    else expect(load.scheduling.adjust(load.pool, domain, values)).toBe(verdict === "ok" ? 0 : -22);
    expect(load.pool.read(domain)).toEqual({ weight: 256, cap: 0, ...(verdict === "ok" ? values : {}) });
  });
});

describe("under random operations", () => {
  const operations = fc.array(fc.record({ kind: fc.nat(10), unit: fc.nat(11), value: fc.nat(1000) }), {
    maxLength: 60,
  });
  const topologies = fc.constantFrom(
    { pcpus: 1 },
    { pcpus: 3 },
    { pcpus: 4, threadsPerCore: 2 },
    { pcpus: 4, coresPerSocket: 2 },
    { pcpus: 6, threadsPerCore: 2, coresPerSocket: 1, socketsPerNode: 2 },
  );

  test("no pCPU of a runqueue idles while a unit of it waits that it may run; no cap is passed", () => {
    fc.assert(
      fc.property(topologies, operations, (topology, list) => {
        const host = new ScriptedHost(topology, (h) => new Credit2Scheduler(h));
        const units = [...host.domain("a", 4), ...host.domain("b", 4), ...host.domain("capped", 4)];
        const capped = units.slice(8);
        host.scheduler.adjust(capped[0]!.domain, { cap: 60 });
        const count = topology.pcpus;
        for (const { kind, unit: index, value } of list) {
          const unit = units[index]!;
          if (kind <= 2) {
            if (unit.runnable) host.sleep(unit);
            else host.wake(unit);
          } else if (kind === 3) host.pass(value * 10_000);
          else if (kind === 4) host.pass(value * 100);
          else if (kind === 5 && unit.runningOn !== null) host.yieldNow(unit);
          else if (kind === 6 && index < 8) host.scheduler.adjust(unit.domain, { weight: 1 + value * 65 });
          else if (kind === 7)
            host.scheduler.adjust(null, { smt_power_savings: value % 2 === 0, ratelimit_us: value + 100 });
          else if (kind === 8 && !unit.runnable && unit.runningOn === null) {
            const all = host.pcpus.map((pcpu) => pcpu.id);
            const hard = all.filter((id) => (value & (1 << id)) !== 0);
            const soft = hard.filter((id) => (value & (64 << id)) !== 0);
            if (hard.length > 0) host.pin(unit, hard, soft.length > 0 ? soft : hard);
          } else if (kind === 9) {
            const gone = host.pcpus[value % host.pcpus.length]!.id;
            const pinned = units.some((one) => one.hardAffinity.size < host.pcpus.length);
            if (host.pcpus.length > 1 && !pinned) host.remove(gone);
          } else if (kind === 10 && host.pcpus.length < count) {
            const missing = Array.from({ length: count }, (_, id) => id).find((id) =>
              host.pcpus.every((one) => one.id !== id),
            );
            host.add(missing!);
          }
          if (value % 3 === 0) {
            host.settle();
            const idle = host.pcpus.filter((pcpu) => pcpu.currentUnit === null);
            const waiting = units.filter((one) => one.runnable && one.runningOn === null && !capped.includes(one));
            const queueOf = new Map(
              host.scheduler
                .dump()
                .split("\n")
                .filter((line) => line.includes(" in runqueue "))
                .map((line) => [/unit \d+/.exec(line)![0], Number(/in runqueue (\d+)/.exec(line)![1])]),
            );
            const pcpusOf = new Map(
              [...host.scheduler.dump().matchAll(/^runqueue (\d+): pCPUs ([\d,]*\d)/gm)].map((match) => [
                Number(match[1]),
                match[2]!.split(",").map(Number),
              ]),
            );
            for (const one of waiting)
              for (const pcpu of idle)
                expect(
                  one.hardAffinity.has(pcpu.id) &&
                    pcpusOf.get(queueOf.get(one.toString())!)?.includes(pcpu.id) === true,
                  `${pcpu} idles while ${one} waits\n${host.scheduler.dump()}`,
                ).toBe(false);
          }
        }
        // 6 ms of each 10, and the two periods that are cut at the ends.
        const used = capped.reduce((sum, one) => sum + one.runTime, 0);
        expect(used).toBeLessThanOrEqual((Math.ceil(host.now() / (10 * MS)) + 1) * 6 * MS);
        // Whoever can run does so before long.
        for (const one of units) {
          one.hardAffinity = new Set(host.pcpus.map((pcpu) => pcpu.id));
          if (one.runnable) host.sleep(one);
          host.settle();
        }
        for (const one of units)
          host.pin(
            one,
            host.pcpus.map((pcpu) => pcpu.id),
          );
        const before = units.map((one) => one.runTime);
        host.wake(...units);
        host.pass(8 * SECOND);
        for (const [i, one] of units.entries()) expect(one.runTime, `${one}`).toBeGreaterThan(before[i]!);
      }),
      { numRuns: 60, interruptAfterTimeLimit: 4_000 },
    );
  });
});
