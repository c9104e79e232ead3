/**
 * A scheduler that throws, or never returns, in any of its methods: it is ejected with a dump of its state, the operation that called
 * it is carried through, and no domain is lost. On the real core, with every way to reach the method.
 */
import { describe, expect, test } from "vitest";
import type { Hypervisor } from "../../../core/hypervisor.ts";
import { createGuard } from "../../../core/node/guard.ts";
import { FifoScheduler } from "../../../core/scheduling/fifo.ts";
import { Pools } from "../../../core/scheduling/pools.ts";
import type { Decision, Scheduler, SchedulerHost, SchedulerPcpu } from "../../../core/scheduling/scheduler.ts";
import { runStateTime } from "../../../core/scheduling/unit.ts";
import { hog, Load, periodic } from "../../support/load.ts";

const MS = 1e6;
const METHODS = [
  "insertUnit",
  "removeUnit",
  "wake",
  "sleep",
  "doSchedule",
  "yielded",
  "contextSaved",
  "pcpuAdded",
  "pcpuRemoved",
  "affinityChanged",
  "adjust",
  "read",
  "save",
  "restore",
  "entitled",
  "timer",
] as const;
type Method = (typeof METHODS)[number];

/** A FIFO with every method there is; `bad` is called in the one that is under test, from `armed` on. */
class Complete implements Scheduler {
  readonly params = { domain: { share: { description: "", type: "integer", default: 1 } } } as const;
  readonly #inner: FifoScheduler;
  readonly #at: (method: Method) => void;

  constructor(host: SchedulerHost, at: (method: Method) => void) {
    this.#inner = new FifoScheduler(host);
    this.#at = at;
    const tick = (now: number): void =>
      void host.timer(now + 5 * MS, (then) => {
        at("timer");
        tick(then);
      });
    tick(host.now());
  }
  insertUnit(): void {
    this.#at("insertUnit");
  }
  removeUnit(unit: Parameters<Scheduler["removeUnit"]>[0]): void {
    this.#at("removeUnit");
    this.#inner.removeUnit(unit);
  }
  wake(unit: Parameters<Scheduler["wake"]>[0]): void {
    this.#at("wake");
    this.#inner.wake(unit);
  }
  sleep(unit: Parameters<Scheduler["sleep"]>[0]): void {
    this.#at("sleep");
    this.#inner.sleep(unit);
  }
  doSchedule(pcpu: SchedulerPcpu): Decision {
    this.#at("doSchedule");
    return this.#inner.doSchedule(pcpu);
  }
  yielded(): void {
    this.#at("yielded");
  }
  contextSaved(): void {
    this.#at("contextSaved");
  }
  pcpuAdded(): void {
    this.#at("pcpuAdded");
  }
  pcpuRemoved(): void {
    this.#at("pcpuRemoved");
  }
  affinityChanged(): void {
    this.#at("affinityChanged");
  }
  adjust(): number {
    this.#at("adjust");
    return 0;
  }
  read() {
    this.#at("read");
    return { share: 1 };
  }
  save() {
    this.#at("save");
    return {};
  }
  restore(): void {
    this.#at("restore");
  }
  entitled(): boolean {
    this.#at("entitled");
    return true;
  }
  dump(): string {
    return "what it knew";
  }
}

/** Runs everything that reaches a method, the method going wrong at its `nth` call; returns the reason of the ejection. */
function ordeal(method: Method, nth: number, bad: () => void, guarded: boolean, granularity: "cpu" | "core"): string {
  let calls = 0;
  let armed = false;
  const at = (called: Method): void => {
    if (armed && called === method && ++calls === nth) bad();
  };
  const make = (host: SchedulerHost): Scheduler => new Complete(host, at);
  const load = new Load(make, { pcpus: 4, threadsPerCore: 2, granularity, lazy: true });
  const { machine, scheduling } = load;
  const provider = { name: "complete", plugin: "test", make };
  const pools = new Pools(machine, scheduling, () => provider);
  const guard = createGuard({ scheduling } as unknown as Hypervisor, 300);
  const slice = (body: () => void): void => (guarded ? guard(body) : body());
  const domains = Array.from({ length: 4 }, (_, i) =>
    load.domain(`d${i}`, i % 2 === 0 ? [hog, hog] : [periodic(1 * MS, 2 * MS), hog]),
  );
  load.run(10 * MS);
  armed = true;
  const vcpu = domains[0]!.vcpus[0]!;
  const steps: (() => void)[] = [
    () => scheduling.setAffinity(vcpu, new Set([0, 1]), new Set([0])),
    () => pools.offline([2, 3]),
    () => pools.online([2, 3]),
    () => void scheduling.adjust(load.pool, domains[1]!, { share: 2 }),
    () => void load.pool.read(domains[1]!),
    () => scheduling.pauseDomain(domains[2]!),
    () => scheduling.unpauseDomain(domains[2]!),
    () => {
      for (const one of machine.pcpus) if (one.current !== null) scheduling.yieldNow(one.current);
    },
    () => void load.domain("late", [hog]),
    () => {
      for (const one of domains[3]!.vcpus) scheduling.removeVcpu(one);
    },
    () => void scheduling.replaceScheduler(load.pool, provider, load.pool.save() ?? {}),
    // The watchdog asks about whoever waits; that ejects whom it finds.
    () => void (method === "entitled" && load.pool.checkStall(machine.now, 1)),
  ];
  steps.forEach((step, i) => {
    machine.timers.arm((20 + 10 * i) * MS, step);
  });
  let fault: (typeof load.pool.faults)[number] | undefined;
  machine.hooks.pluginFault.tap("test", (one) => {
    fault ??= one;
    return undefined;
  });
  for (let until = 15 * MS; until <= 160 * MS; until += 5 * MS) {
    // What ended in the middle of a slice goes on in the next.
    for (let i = 0; i < 3; i++) slice(() => load.run(until));
  }
  armed = false;
  for (const one of domains.concat(load.domains.slice(4))) while (one.pauseCount > 0) scheduling.unpauseDomain(one);
  load.run(200 * MS);
  // A domain that was being made when the scheduler was ended by force is not: its vCPU is still down.
  const alive = load.domains.flatMap((one) => one.vcpus).filter((one) => one.unit !== null && one.pauseFlags === 0);
  expect(alive.length).toBeGreaterThanOrEqual(6);
  const before = alive.map((one) => load.cpuTime(one));
  load.run(500 * MS);
  alive.forEach((one, i) => {
    expect(load.cpuTime(one), `${one} is lost`).toBeGreaterThan(before[i]!);
    const now = one.runningOn?.time ?? Math.max(machine.now, one.runStateSince);
    const age = now - (one.domain.name === "late" ? 100 * MS : 0);
    const total = [0, 1, 2, 3].reduce((sum, state) => sum + runStateTime(one, state as 0, now), 0);
    expect(Math.abs(total - age)).toBeLessThan(1 * MS);
  });
  for (const resource of load.pool.resources) expect(resource.currentUnit, "a pCPU idles beside hogs").not.toBeNull();
  expect(load.pool.resources.length).toBeGreaterThan(0);
  expect(load.domains.length, "the domain that was to be made").toBe(5);
  expect(fault, `${method} was not reached`).toBeDefined();
  expect(fault).toMatchObject({ kind: "scheduler", dump: "what it knew" });
  return fault!.reason;
}

describe.each(["cpu", "core"] as const)(
  "granularity %s: a scheduler is ejected, and nobody is lost, when it",
  (granularity) => {
    const boom = (): void => {
      throw new Error("boom");
    };
    const forever = (): void => {
      for (;;);
    };
    // What is called often is called in the middle of other things, too.
    const often = (["wake", "sleep", "doSchedule", "contextSaved"] as const).flatMap((method) =>
      [2, 3, 5, 8].map((nth) => [method, nth] as const),
    );

    test.each(METHODS)("throws in %s", (method) => {
      expect(ordeal(method, 1, boom, false, granularity)).toBe(`${method} threw: boom`);
    });

    test.each(often)("throws in %s, call %i", (method, nth) => {
      expect(ordeal(method, nth, boom, false, granularity)).toBe(`${method} threw: boom`);
    });

    // Every one takes the guard's time, therefore not all with both. A busy host may end a slice that is in nobody's code: again then.
    const slow = granularity === "core" ? METHODS : (["sleep", "wake", "contextSaved", "affinityChanged"] as const);
    test.each(slow)("never returns from %s", { retry: 4 }, (method) => {
      for (const nth of granularity === "core" ? [1] : [method === "affinityChanged" ? 1 : 4])
        expect(ordeal(method, nth, forever, true, granularity)).toBe(`${method} did not return within 0.3 s`);
    });
  },
);
