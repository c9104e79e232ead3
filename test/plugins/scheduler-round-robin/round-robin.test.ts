/** Round robin's own promises: equal turns in the order of coming, idle pCPUs found, a turn's length that may change, state that is kept. */
import { describe, expect, test } from "vitest";
import { RunState } from "../../../core/domain/vcpu.ts";
import { ConfigError } from "../../../core/errors.ts";
import type { MachineConfig } from "../../../core/machine/machine.ts";
import type { SchedulerHost } from "../../../core/scheduling/scheduler.ts";
import { runStateTime } from "../../../core/scheduling/unit.ts";
import { RoundRobin } from "../../../plugins/scheduler-round-robin/plugin.ts";
import { hog, Load, periodic } from "../../support/load.ts";

const MS = 1e6;
const free = { contextSwitch: 0, migration: 0, tickle: 0, warmUp: 0, coldAfter: 0 };
const provider = { name: "round-robin", plugin: "test", make: (host: SchedulerHost) => new RoundRobin(host) };

function roundRobin(config: Partial<MachineConfig> = {}): Load {
  return new Load(provider.make, { costs: free, ...config });
}

/** Who is put on pCPU 0, and when (milliseconds). */
function turnsOf(load: Load): string[] {
  const turns: string[] = [];
  load.machine.hooks.contextSwitch.tap("test", (pcpu, _previous, next, now) => {
    if (pcpu.id === 0) turns.push(`${next?.domain.name ?? "-"} ${now / MS}`);
  });
  return turns;
}

describe("turns", () => {
  test("are equal, in the order of coming", () => {
    const load = roundRobin();
    const turns = turnsOf(load);
    for (const name of ["a", "b", "c"]) load.domain(name, [hog]);
    load.run(55 * MS);
    expect(turns).toEqual(["a 0", "b 10", "c 20", "a 30", "b 40", "c 50"]);
  });

  test("end when a unit gives way, and it goes to the back", () => {
    const load = roundRobin();
    const turns = turnsOf(load);
    load.domain("a", [periodic(1 * MS - 200, 0)]); // 200 ns are what the exit costs
    for (const name of ["b", "c"]) load.domain(name, [hog]);
    load.run(45 * MS);
    expect(turns).toEqual(["a 0", "b 1", "c 11", "a 21", "b 22", "c 32", "a 42", "b 43"]);
  });

  test("one alone goes on without a switch", () => {
    const load = roundRobin();
    const turns = turnsOf(load);
    load.domain("a", [hog]);
    load.run(500 * MS);
    expect(turns).toEqual(["a 0"]);
  });

  test("who wakes goes to the back", () => {
    const load = roundRobin();
    const turns = turnsOf(load);
    load.domain("io", [periodic(1 * MS - 200, 3 * MS)]);
    for (const name of ["a", "b"]) load.domain(name, [hog]);
    load.run(43 * MS);
    expect(turns).toEqual(["io 0", "a 1", "b 11", "io 21", "a 22", "b 32", "io 42"]);
  });

  test("their length may change; bounds are kept", () => {
    const load = roundRobin();
    for (const name of ["a", "b"]) load.domain(name, [hog]);
    load.run(5 * MS);
    const turns = turnsOf(load);
    expect(load.scheduling.adjust(load.pool, null, { turn_ns: 2 * MS })).toBe(0);
    expect(load.pool.read(null)).toEqual({ turn_ns: 2 * MS });
    load.run(15 * MS);
    expect(turns).toEqual(["b 10", "a 12", "b 14"]);
    for (const turn_ns of [99_999, 1000 * MS + 1, 1.5 * MS + 0.5, "10ms"])
      expect(() => load.scheduling.adjust(load.pool, null, { turn_ns })).toThrow(ConfigError);
    expect(load.pool.read(load.domains[0]!)).toEqual({});
  });
});

describe("several pCPUs", () => {
  test("units that wake together get a pCPU each", () => {
    const load = roundRobin({ pcpus: 4 });
    for (let i = 0; i < 4; i++) load.domain(`d${i}`, [periodic(1 * MS, 3 * MS)]);
    load.run(1000 * MS);
    for (const { vcpus } of load.domains) expect(runStateTime(vcpus[0]!, RunState.runnable, load.machine.now)).toBe(0);
  });

  test("hard affinity is kept, others pass who may not run there; soft affinity decides between idle pCPUs", () => {
    const load = roundRobin({ pcpus: 2 });
    const pinned = load.domain("pinned", [hog]);
    const also = load.domain("also", [hog]);
    const any = load.domain("any", [hog]);
    for (const { vcpus } of [pinned, also]) load.scheduling.setAffinity(vcpus[0]!, new Set([0]), new Set([0]));
    load.run(2000 * MS);
    expect(pinned.vcpus[0]!.lastPcpu?.id).toBe(0);
    expect(load.domainTime(pinned)).toBeGreaterThan(600 * MS);
    expect(load.domainTime(pinned) + load.domainTime(also) + load.domainTime(any)).toBeGreaterThan(3989 * MS);

    const soft = roundRobin({ pcpus: 4 });
    const domain = soft.domain("soft", [periodic(1 * MS, 1 * MS)]);
    soft.scheduling.setAffinity(domain.vcpus[0]!, new Set([0, 1, 2, 3]), new Set([2, 3]));
    soft.run(1.5 * MS); // at the start every pCPU chooses, and the first that does takes it
    const where = new Set<number>();
    soft.machine.hooks.contextSwitch.tap("test", (pcpu, _previous, next) => next !== null && where.add(pcpu.id));
    soft.run(100 * MS);
    expect([...where]).toEqual([2]);
  });

  test("a pCPU that leaves takes nobody along, one that comes has work at once", () => {
    const load = roundRobin({ pcpus: 2 });
    const domains = ["a", "b"].map((name) => load.domain(name, [hog]));
    load.run(15 * MS);
    const gone = load.machine.pcpus[1]!;
    load.scheduling.removeResources(load.pool, [load.pool.resources[1]!]);
    load.run(115 * MS);
    expect(domains.map((domain) => load.domainTime(domain))).toEqual([65 * MS, 65 * MS]);
    load.scheduling.addPcpus(load.pool, [gone]);
    load.run(215 * MS);
    expect(domains.map((domain) => load.domainTime(domain))).toEqual([165 * MS, 165 * MS]);
    expect(load.pool.faults).toEqual([]);
  });
});

describe("state", () => {
  test("is kept: the turn's length and whose turn it is", () => {
    const load = roundRobin();
    for (const name of ["a", "b", "c", "d"]) load.domain(name, [hog]);
    load.scheduling.adjust(load.pool, null, { turn_ns: 5 * MS });
    load.run(12 * MS); // c runs
    load.scheduling.pauseDomain(load.domains[3]!);
    const state = JSON.parse(JSON.stringify(load.pool.scheduler.save!()));
    const turns = turnsOf(load);
    load.scheduling.replaceScheduler(load.pool, provider, state);
    expect(load.pool.scheduler.save!()).toEqual(state);
    load.run(28 * MS);
    expect(turns.filter((turn) => !turn.startsWith("-"))).toEqual(["c 12", "a 17", "b 22", "c 27"]);
    load.scheduling.unpauseDomain(load.domains[3]!);
    load.run(48 * MS);
    expect(turns.slice(-4)).toEqual(["a 32", "b 37", "d 42", "c 47"]);
    expect(load.pool.faults).toEqual([]);
  });

  test("the dump names the queue", () => {
    const load = roundRobin();
    for (const name of ["a", "b", "c"]) load.domain(name, [hog]);
    load.run(15 * MS);
    expect(load.pool.scheduler.dump!()).toBe("turn 10000000 ns, queue: c vcpu 0, a vcpu 0");
  });
});

test("a decision costs the same with 20 and with 20,000 units", () => {
  const cost = (units: number): number => {
    const load = roundRobin();
    for (let i = 0; i < units; i++) load.domain(`d${i}`, [hog]);
    load.scheduling.adjust(load.pool, null, { turn_ns: 0.1 * MS });
    load.run(200 * MS);
    const start = performance.now();
    load.run(1200 * MS);
    return performance.now() - start;
  };
  cost(20);
  expect(cost(20_000)).toBeLessThan(20 * cost(20) + 50);
});
