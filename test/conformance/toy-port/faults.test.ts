/** Plugins that break their contract: schedulers, devices, an arch. The machine and its domains go on. */
import { describe, expect, test } from "vitest";
import * as xen from "../../../core/abi/index.ts";
import type { DeviceHost, DeviceType } from "../../../core/device/device-type.ts";
import type { PluginFault } from "../../../core/hooks.ts";
import type { HypervisorSetup } from "../../../core/hypervisor.ts";
import { FifoScheduler } from "../../../core/scheduling/fifo.ts";
import type {
  Decision,
  Scheduler,
  SchedulerHost,
  SchedulerPcpu,
  SchedulingUnit,
} from "../../../core/scheduling/scheduler.ts";
import { ToyArch } from "./backend.ts";
import { Assembler, ToyMachine, type ToyOptions } from "./machine.ts";

const MS = 1e6;

/** A program that runs for about so many milliseconds at 50 MHz, sleeping none, then ends. */
function work(ms: number): Assembler {
  const p = new Assembler();
  p.data("sum", 4);
  p.loop(7, Math.floor((ms * 50_000) / 4), () => p.addi(8, 8, 1));
  return p.store(8, "sum").shutdown();
}

/** A scheduler that is right but for what `bad` replaces. */
function faulty(bad: (inner: FifoScheduler, host: SchedulerHost) => Partial<Scheduler>) {
  return (setup: HypervisorSetup): void => {
    setup.hooks.scheduler.for("faulty").tap("test", (host) => {
      const inner = new FifoScheduler(host);
      const right: Scheduler = {
        insertUnit: () => inner.insertUnit(),
        removeUnit: (unit) => inner.removeUnit(unit),
        wake: (unit) => inner.wake(unit),
        sleep: (unit) => inner.sleep(unit),
        doSchedule: (pcpu) => inner.doSchedule(pcpu),
        dump: () => "state of the faulty one",
      };
      return Object.assign(right, bad(inner, host));
    });
  };
}

/** Takes a note, and has no verdict. */
function record<T>(list: T[], one: T): undefined {
  list.push(one);
}

/** Calls `then` from the n-th call on. */
function from<A, R>(n: number, first: (arg: A) => R, then: (arg: A) => R): (arg: A) => R {
  let calls = 0;
  return (arg) => (++calls >= n ? then(arg) : first(arg));
}

describe("a scheduler that breaks its contract is ejected, and the domains go on", () => {
  const decision = (name: string, make: (unit: SchedulingUnit | null, stolen: SchedulingUnit | null) => unknown) =>
    [
      name,
      (inner: FifoScheduler): Partial<Scheduler> => {
        let other: SchedulingUnit | null = null;
        return {
          wake: (unit) => {
            other ??= unit;
            inner.wake(unit);
          },
          doSchedule: from(
            4,
            (pcpu: SchedulerPcpu) => inner.doSchedule(pcpu),
            (pcpu) => make(inner.doSchedule(pcpu).unit, other) as Decision,
          ),
        };
      },
    ] as const;
  const boom = (): never => {
    throw new Error("boom");
  };

  const cases: readonly (readonly [
    string,
    (inner: FifoScheduler, host: SchedulerHost) => Partial<Scheduler>,
    RegExp,
  ])[] = [
    ...["insertUnit", "removeUnit", "wake", "sleep"].map(
      (name) => [`throws in ${name}`, () => ({ [name]: boom }), new RegExp(`^${name} threw: boom$`)] as const,
    ),
    [
      "throws in doSchedule",
      (inner) => ({ doSchedule: from(3, (pcpu: SchedulerPcpu) => inner.doSchedule(pcpu), boom) }),
      /^doSchedule threw: boom$/,
    ],
    [
      "throws what is no error",
      () => ({
        wake: () => {
          throw "a string";
        },
      }),
      /^wake threw: a string$/,
    ],
    ["throws in contextSaved", () => ({ contextSaved: boom }), /^contextSaved threw: boom$/],
    [
      "throws in a timer",
      (inner, host) => ({
        insertUnit: () => {
          host.timer(host.now() + 2 * MS, boom);
          inner.insertUnit();
        },
      }),
      /^timer threw: boom$/,
    ],
    ["throws in its dump too", () => ({ wake: boom, dump: boom }), /^wake threw: boom$/],
    [...decision("returns nothing", () => undefined), /returned undefined instead of a decision/],
    [...decision("returns null", () => null), /returned null instead of a decision/],
    [...decision("returns a number", () => 7), /returned 7 instead of a decision/],
    [...decision("returns something that is no unit", () => ({ unit: { id: 1 }, slice: 1 })), /no unit/],
    [...decision("returns no slice", (unit) => ({ unit })), /the slice undefined/],
    [...decision("returns a slice of 0", (unit) => ({ unit, slice: 0 })), /the slice 0/],
    [...decision("returns a negative slice", (unit) => ({ unit, slice: -5 })), /the slice -5/],
    [...decision("returns NaN as slice", (unit) => ({ unit, slice: Number.NaN })), /the slice NaN/],
    [...decision("returns an endless slice as a number", (unit) => ({ unit, slice: Infinity })), /the slice Infinity/],
    [
      ...decision("returns one unit for every pCPU", (_unit, stolen) => ({ unit: stolen, slice: null })),
      /which (runs on pCPU|is not runnable|is not in pool)/,
    ],
    [
      "loses every unit that wakes after a while",
      (inner) => ({
        wake: from(
          3,
          (unit) => inner.wake(unit),
          () => {},
        ),
      }),
      /has been runnable (for|since) \d+ ns/,
    ],
    [
      "always says idle",
      () => ({ doSchedule: () => ({ unit: null, slice: null }) }),
      /has been runnable since 0 ns, and nothing will ever happen/,
    ],
    [
      "tickles itself for ever",
      (inner, host) => ({
        doSchedule: (pcpu) => {
          host.tickle(pcpu);
          const unit = pcpu.currentUnit;
          return unit?.runnable ? { unit, slice: MS } : { ...inner.doSchedule(pcpu), slice: MS };
        },
      }),
      /^\w+: called 1000000 times at \d+ ns, and time did not go on$/,
    ],
    ["lacks methods", () => ({ sleep: undefined as never, wake: undefined as never }), /^lacks wake, sleep$/],
    ["declares parameters that nobody can set", () => ({ params: { domain: {} } }), /adjust and read/],
  ];

  test.each(cases)("%s", async (_name, bad, reason) => {
    const faults: PluginFault[] = [];
    const toy = await ToyMachine.boot({
      pcpus: 2,
      scheduler: "faulty",
      apply: (setup) => {
        faulty(bad)(setup);
        setup.hooks.pluginFault.tap("test", (fault) => record(faults, fault));
      },
    });
    toy.hypervisor.loop.stallBound = 0.5e9;
    const guests = [];
    for (let i = 0; i < 4; i++) guests.push(await toy.start(`d${i}`, work(3 + i)));
    expect(await toy.run({ end: guests })).toBe("done");
    for (const guest of guests) {
      expect(guest.domain.shutdownReason).toBe(xen.SHUTDOWN.poweroff);
      await toy.hypervisor.destroyDomain(guest.domain);
    }
    const pool = toy.hypervisor.scheduling.pools[0]!;
    expect(faults.length).toBe(1);
    expect(faults[0]).toMatchObject({ plugin: "test", kind: "scheduler" });
    expect(faults[0]!.reason).toMatch(reason);
    expect(pool.schedulerName).toBe("fifo");
    expect(pool.units.size).toBe(0);
    expect(toy.hypervisor.machine.frames.free).toBe(16 * 256);
    expect([...toy.log, ""].some((line) => line.includes("fifo takes over")) || pool.fallen).toBe(true);
  });

  test("what it dumps is in the fault; parameters are ignored afterwards, new domains can be made", async () => {
    const faults: PluginFault[] = [];
    const toy = await ToyMachine.boot({
      scheduler: "faulty",
      apply: (setup) => {
        faulty(() => ({ wake: boom }))(setup);
        setup.hooks.pluginFault.tap("test", (fault) => record(faults, fault));
      },
    });
    await toy.runProgram(work(1));
    expect(faults[0]!.dump).toBe("state of the faulty one");
    const next = await toy.start("next", work(1), { schedulerParams: { weight: 512 } });
    expect(await toy.run({ end: [next] })).toBe("done");
    expect(toy.log).toContain("pool Pool-0: scheduler parameters are ignored, fifo has none");
  });

  test("the verdict crash ends the run with the plugin's own error", async () => {
    const toy = await ToyMachine.boot({
      scheduler: "faulty",
      apply: (setup) => {
        faulty((inner) => ({ doSchedule: from(3, (pcpu: SchedulerPcpu) => inner.doSchedule(pcpu), boom) }))(setup);
        setup.hooks.pluginFault.tap("test", () => "crash" as const);
      },
    });
    await toy.start("d", work(30));
    await toy.start("e", work(30));
    await expect(toy.run()).rejects.toThrow("boom");
  });

  test("a scheduler that throws while it is made: fifo from the start", async () => {
    const toy = await ToyMachine.boot({
      scheduler: "faulty",
      apply: ({ hooks }) => hooks.scheduler.for("faulty").tap("test", boom),
    });
    expect(toy.hypervisor.scheduling.pools[0]!.faults[0]!.reason).toBe("could not be made: boom");
    await toy.runProgram(work(1));
  });

  test("adjust that throws: the scheduler is ejected, the creation refused, the next one works", async () => {
    const toy = await ToyMachine.boot({
      scheduler: "faulty",
      apply: faulty(() => ({
        params: { domain: { share: { description: "", type: "integer", default: 1 } } },
        adjust: boom,
        read: () => ({}),
      })),
    });
    const config = { schedulerParams: { share: 2 } };
    await expect(toy.create("d", work(1), config)).rejects.toThrow(/refuses the parameters of domain 'd' \(EIO\)/);
    await toy.runProgram(work(1), config);
  });
});

describe("a device that throws is closed, alone", () => {
  /** A device that does `what` at 2 ms, beside one that counts. */
  const device = (type: string, what: (host: DeviceHost) => void, closed: string[]): DeviceType => ({
    type,
    handshake: "none",
    parse: () => null,
    deviceId: () => 0,
    create: (host) => {
      host.timer(2 * MS, () => what(host));
      return {
        kind: "split",
        probe: () => {},
        connect: () => {},
        disconnect: () => void closed.push(`${type} disconnected`),
        close: () => void closed.push(`${type} closed`),
      };
    },
  });

  test("in a timer; its sibling and its domain go on", async () => {
    const closed: string[] = [];
    const faults: string[] = [];
    let ticks = 0;
    const tick = (host: DeviceHost): void => {
      ticks++;
      host.timer(host.now() + MS, () => tick(host));
    };
    const toy = await ToyMachine.boot({
      scheduler: "round-robin",
      apply: ({ hooks }) => {
        hooks.deviceType.for("bad").tap("test", () =>
          device(
            "bad",
            (host) => {
              host.timer(host.now() + 1, () => closed.push("called after its end"));
              throw new Error("device bang");
            },
            closed,
          ),
        );
        hooks.deviceType.for("good").tap("test", () => device("good", tick, closed));
        hooks.pluginFault.tap("test", (fault) => record(faults, `${fault.kind} ${fault.reason}`));
      },
    });
    const devices = ["bad", "good"].map((type) => ({ type, spec: "" }));
    const guest = await toy.runProgram(work(8), { devices });
    expect(closed).toEqual(["bad disconnected", "bad closed"]);
    expect(faults).toEqual(["device bad 0 of toy (domain 1): device bang"]);
    expect(ticks).toBeGreaterThanOrEqual(6);
    expect(toy.hypervisor.devices.list(guest.domain).map((one) => one.type)).toEqual(["good"]);
    await toy.hypervisor.destroyDomain(guest.domain);
    expect(toy.hypervisor.machine.timers.size).toBe(0);
  });

  test("an emulated device in its read: the access reads all ones, like every later one", async () => {
    const writes: string[] = [];
    const toy = await ToyMachine.boot({
      apply: ({ hooks }) =>
        hooks.deviceType.for("port").tap("test", () => ({
          type: "port",
          kind: "emulated",
          parse: () => null,
          deviceId: () => 0,
          create: () => ({
            kind: "emulated" as const,
            regions: [{ space: "pio" as const, base: 0x100, size: 8 }],
            read: (_region, offset) => {
              if (offset === 4) throw new Error("bad register");
              return 0xabcd_0000 + offset;
            },
            write: (region, offset, size, value) =>
              void writes.push(`${region} ${offset} ${size} ${value.toString(16)}`),
            reset: () => {},
          }),
        })),
    });
    const p = new Assembler();
    p.data("in", 16);
    p.li(9, 0x100).li(8, 0x1234_5678).out(8, 9, 4);
    for (const [i, offset] of [0, 4, 0, 0x200].entries()) p.in(8, 9, offset).store(8, "in", 4 * i);
    const guest = await toy.runProgram(p.shutdown(), { devices: [{ type: "port", spec: "" }] });
    expect(writes).toEqual(["0 4 4 12345678"]);
    expect(toy.words(guest, "in", 4)).toEqual([0xabcd_0000, 0xffff_ffff, 0xffff_ffff, 0xffff_ffff]);
    expect(toy.hypervisor.devices.list(guest.domain)).toEqual([]);
  });
});

describe("an arch that fails crashes the domain that it ran, and no other", () => {
  class Broken extends ToyArch {
    how: "throw" | "no progress" | "too much" | "NaN" = "throw";
    override run(...args: Parameters<ToyArch["run"]>): number {
      const [vcpu, budget] = args;
      if (vcpu.domain.name !== "bad") return super.run(...args);
      if (this.how === "throw") throw new Error("arch bang");
      return this.how === "too much" ? budget + 1 : this.how === "NaN" ? Number.NaN : 0;
    }
  }

  test.each([
    ["throw", /^plugin 'test' failed: arch bang$/],
    ["no progress", /retires no instruction/],
    ["too much", /^plugin 'test' failed: run\(\) says that \d+ of \d+ instructions retired$/],
    ["NaN", /says that NaN of/],
  ] as const)("%s", async (how, message) => {
    const faults: PluginFault[] = [];
    const options: ToyOptions = {
      apply: ({ hooks }) => {
        hooks.arch.for("broken").tap("test", (host) => Object.assign(new Broken(host), { how }));
        hooks.pluginFault.tap("test", (fault) => record(faults, fault));
      },
    };
    const toy = await ToyMachine.boot(options);
    const bad = await toy.start("bad", work(1), { type: "broken" });
    const good = await toy.start("good", work(1), { type: "broken" });
    expect(await toy.run({ end: [bad, good] })).toBe("done");
    expect(bad.domain.shutdownReason).toBe(xen.SHUTDOWN.crash);
    expect(bad.domain.crashMessage).toMatch(message);
    expect(good.domain.shutdownReason).toBe(xen.SHUTDOWN.poweroff);
    expect(faults.map((fault) => `${fault.plugin} ${fault.kind}`)).toEqual(["test arch"]);
  });
});
