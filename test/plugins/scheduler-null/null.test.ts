/** The null scheduler's own promises: a pCPU each, who waits, who gets a pCPU that becomes free. */
import { describe, expect, test } from "vitest";
import type { Domain } from "../../../core/domain/domain.ts";
import { PauseFlag, RunState } from "../../../core/domain/vcpu.ts";
import type { MachineConfig } from "../../../core/machine/machine.ts";
import type { SchedulerHost } from "../../../core/scheduling/scheduler.ts";
import { runStateTime } from "../../../core/scheduling/unit.ts";
import { NullScheduler } from "../../../plugins/scheduler-null/null.ts";
import { hog, Load, periodic } from "../../support/load.ts";

const MS = 1e6;
const free = { contextSwitch: 0, migration: 0, tickle: 0, warmUp: 0, coldAfter: 0 };
const provider = { name: "null", plugin: "test", make: (host: SchedulerHost) => new NullScheduler(host) };

function nullLoad(pcpus: number, config: Partial<MachineConfig> = {}): Load {
  return new Load(provider.make, { pcpus, costs: free, ...config });
}

/** Domains with one hog each. */
function hogs(load: Load, ...names: string[]): Domain[] {
  return names.map((name) => load.domain(name, [hog]));
}

function pin(load: Load, domain: Domain, hard: number[], soft = hard): void {
  load.scheduling.setAffinity(domain.vcpus[0]!, new Set(hard), new Set(soft));
}

/** Who runs on each pCPU of the pool. */
function running(load: Load): (string | null)[] {
  expect(load.pool.faults).toEqual([]);
  return load.pool.pcpus.map((pcpu) => pcpu.current?.domain.name ?? null);
}

/** Goes on for 10 ms. */
function goOn(load: Load): (string | null)[] {
  load.run(load.machine.now + 10 * MS);
  return running(load);
}

const waiting = (load: Load): string => load.pool.scheduler.dump!().split("\n").at(-1)!;

describe("a pCPU each", () => {
  test("the lowest that is free, for good: no switch ever", () => {
    const load = nullLoad(3);
    let switches = 0;
    load.machine.hooks.contextSwitch.tap("test", () => switches++);
    const domains = hogs(load, "a", "b");
    expect(goOn(load)).toEqual(["a", "b", null]);
    load.run(5000 * MS);
    expect(switches).toBe(2);
    for (const domain of domains) expect(load.domainTime(domain)).toBe(5000 * MS);
  });

  test("a vCPU that sleeps keeps its pCPU, one that is paused too", () => {
    const load = nullLoad(1);
    const io = load.domain("io", [periodic(1 * MS, 9 * MS)]);
    const [hungry] = hogs(load, "hungry");
    load.run(1000 * MS);
    load.scheduling.pauseDomain(io);
    load.run(2000 * MS);
    expect(load.domainTime(hungry!)).toBe(0);
    expect(load.domainTime(io)).toBeGreaterThan(99 * MS);
    expect(load.machine.pcpus[0]!.idleTime).toBeGreaterThan(890 * MS);
    expect(load.pool.faults).toEqual([]);
  });

  test("a unit that wakes on its pCPU runs at once", () => {
    const load = nullLoad(2);
    hogs(load, "hog");
    const io = load.domain("io", [periodic(1 * MS, 3 * MS)]);
    load.run(1000 * MS);
    expect(runStateTime(io.vcpus[0]!, RunState.runnable, load.machine.now)).toBe(0);
  });

  test("who has none waits for ever, and that is no stall", () => {
    const load = nullLoad(1);
    const [, b] = hogs(load, "a", "b");
    load.run(100_000 * MS);
    expect(running(load)).toEqual(["a"]);
    expect(load.domainTime(b!)).toBe(0);
    expect(load.pool.scheduler.entitled!(b!.vcpus[0]!.unit!)).toBe(false);
  });
});

describe("which pCPU", () => {
  test("one of the soft affinity, then of the hard one, then none", () => {
    const load = nullLoad(4);
    const domains = ["a", "b", "c", "d", "e"].map((name) => {
      const domain = load.domain(name, [hog]);
      pin(load, domain, [1, 2, 3], [3]);
      return domain;
    });
    // a starts on pCPU 0 and moves; b would have pCPU 0 before its affinity is set, and so on.
    expect(goOn(load)).toEqual([null, "b", "c", "a"]);
    expect(waiting(load)).toBe("waiting: d vcpu 0, e vcpu 0");
    load.scheduling.removeVcpu(domains[0]!.vcpus[0]!);
    expect(goOn(load)).toEqual([null, "b", "c", "d"]);
  });

  test("its own while its affinity allows, also when a better one is free", () => {
    const load = nullLoad(3);
    const [a] = hogs(load, "a");
    goOn(load);
    pin(load, a!, [0, 2]);
    expect(goOn(load)).toEqual(["a", null, null]);
    pin(load, a!, [0, 1, 2], [2]); // not where it should be, and such a one is free
    expect(goOn(load)).toEqual([null, null, "a"]);
    pin(load, a!, [1, 2], [1, 2]);
    expect(goOn(load)).toEqual([null, null, "a"]);
  });

  test("a free pCPU goes to the first that should run there, then to the first that may", () => {
    const load = nullLoad(2);
    const [a, b, c, d, e] = hogs(load, "a", "b", "c", "d", "e");
    pin(load, c!, [1]);
    pin(load, d!, [0, 1], [1]);
    pin(load, e!, [0, 1], [0]);
    goOn(load);
    load.scheduling.removeVcpu(a!.vcpus[0]!);
    expect(goOn(load)).toEqual(["e", "b"]);
    load.scheduling.removeVcpu(e!.vcpus[0]!);
    expect(goOn(load)).toEqual(["d", "b"]);
    load.scheduling.removeVcpu(b!.vcpus[0]!);
    expect(goOn(load)).toEqual(["d", "c"]);
  });

  test("an affinity that forbids the pCPU frees it for who waits", () => {
    const load = nullLoad(2);
    const [a, , c] = hogs(load, "a", "b", "c");
    goOn(load);
    pin(load, a!, [1]);
    expect(goOn(load)).toEqual(["c", "b"]);
    expect(waiting(load)).toBe("waiting: a vcpu 0");
    pin(load, c!, [1]);
    expect(goOn(load)).toEqual([null, "b"]);
    pin(load, a!, [0]);
    expect(goOn(load)).toEqual(["a", "b"]);
  });
});

describe("vCPUs that go offline", () => {
  const down = (load: Load, domain: Domain): void => load.scheduling.setFlag(domain.vcpus[0]!, PauseFlag.down);
  const up = (load: Load, domain: Domain): void => load.scheduling.clearFlag(domain.vcpus[0]!, PauseFlag.down);

  test("give their pCPU up, and wait when they come back", () => {
    const load = nullLoad(1);
    const [a, b] = hogs(load, "a", "b");
    goOn(load);
    down(load, a!);
    expect(goOn(load)).toEqual(["b"]);
    up(load, a!);
    expect(goOn(load)).toEqual(["b"]);
    down(load, b!);
    expect(goOn(load)).toEqual(["a"]);
  });

  test("have none before they first come up", () => {
    const load = nullLoad(1);
    const late = load.domain("late", [hog]);
    down(load, late);
    hogs(load, "a");
    up(load, late);
    expect(goOn(load)).toEqual(["a"]);
  });

  test("and come back before their pCPU has chosen: elsewhere, when it is taken", () => {
    const load = nullLoad(2);
    const [a, w] = hogs(load, "a", "w");
    pin(load, w!, [0]);
    expect(goOn(load)).toEqual(["a", null]);
    down(load, a!);
    up(load, a!);
    expect(goOn(load)).toEqual(["w", "a"]);
  });

  test("while they are blocked, which nobody reports: found when somebody else needs a pCPU", () => {
    const load = nullLoad(1);
    const a = load.domain("a", [periodic(1 * MS, Infinity)]);
    goOn(load);
    down(load, a);
    hogs(load, "b");
    expect(goOn(load)).toEqual(["b"]);
    load.scheduling.clearFlag(a.vcpus[0]!, PauseFlag.down | PauseFlag.blocked);
    expect(goOn(load)).toEqual(["b"]);
    expect(waiting(load)).toBe("waiting: a vcpu 0");
  });
});

describe("pCPUs that come and go", () => {
  test("a pCPU that leaves: its unit moves to a free one, or waits; one that comes takes who waits first", () => {
    const load = nullLoad(3);
    hogs(load, "a", "b");
    goOn(load);
    const [p0, p1] = load.machine.pcpus;
    load.scheduling.removeResources(load.pool, [load.pool.resources[0]!]);
    expect(goOn(load)).toEqual(["b", "a"]);
    load.scheduling.removeResources(load.pool, [load.pool.resources[0]!]);
    expect(goOn(load)).toEqual(["a"]);
    expect(waiting(load)).toBe("waiting: b vcpu 0");
    hogs(load, "c");
    load.scheduling.addPcpus(load.pool, [p1!]);
    expect(goOn(load)).toEqual(["b", "a"]);
    load.scheduling.addPcpus(load.pool, [p0!]);
    expect(goOn(load)).toEqual(["c", "b", "a"]);
    expect(waiting(load)).toBe("waiting: none");
  });
});

describe("state", () => {
  test("is kept: who has which pCPU, who waits in which order", () => {
    const load = nullLoad(3);
    const [a, b, c] = hogs(load, "a", "b", "c", "d", "e");
    pin(load, b!, [1]);
    pin(load, a!, [2]); // waits behind e
    expect(goOn(load)).toEqual(["d", "b", "c"]);
    const before = load.pool.scheduler.dump!();
    const state = JSON.parse(JSON.stringify(load.pool.scheduler.save!()));
    load.scheduling.replaceScheduler(load.pool, provider, state);
    expect(load.pool.scheduler.dump!()).toBe(before);
    expect(goOn(load)).toEqual(["d", "b", "c"]);
    expect(waiting(load)).toBe("waiting: e vcpu 0, a vcpu 0");
    load.scheduling.removeVcpu(c!.vcpus[0]!);
    expect(goOn(load)).toEqual(["d", "b", "e"]);
  });

  test("of a pCPU that is no more: its unit finds another place", () => {
    const load = nullLoad(2);
    hogs(load, "a", "b", "c");
    goOn(load);
    const state = JSON.parse(JSON.stringify(load.pool.scheduler.save!()));
    load.scheduling.removeResources(load.pool, [load.pool.resources[0]!]);
    load.scheduling.replaceScheduler(load.pool, provider, state);
    expect(goOn(load)).toEqual(["b"]);
    expect(waiting(load)).toBe("waiting: c vcpu 0, a vcpu 0");
  });
});

test("by cores: two vCPUs have a core, the next two wait", () => {
  const load = new Load(provider.make, { costs: free, pcpus: 2, threadsPerCore: 2, granularity: "core" });
  const a = load.domain("a", [hog, hog]);
  const b = load.domain("b", [hog, hog]);
  load.run(50 * MS);
  expect([load.domainTime(a), load.domainTime(b)]).toEqual([100 * MS, 0]);
});
