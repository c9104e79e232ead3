/** The host's time and virtual time: io(), hold, inject, and how runs end. */
import { describe, expect, test } from "vitest";
import { Assembler, ToyMachine } from "./machine.ts";

const MS = 1e6;

function spin(): Assembler {
  return new Assembler().label("spin").addi(8, 8, 1).jump("spin");
}
function sleep(): Assembler {
  return new Assembler().label("sleep").halt().jump("sleep");
}
function later<T>(ms: number, value: T): Promise<T> {
  return new Promise((resolve) => setTimeout(() => resolve(value), ms));
}

describe.each([
  ["a busy machine", spin],
  ["an idle machine", sleep],
])("io() on %s", (_name, program) => {
  test.each([
    ["early", 0],
    ["late", 60],
  ])("a promise that is %s: done at now + latency exactly", async (_when, ms) => {
    const toy = await ToyMachine.boot();
    await toy.start("d", program());
    await toy.run({ until: 1 * MS });
    const { loop, machine } = toy.hypervisor;
    const asked = machine.now;
    let told: [number, unknown] | null = null;
    loop.io(later(ms, "data"), 2 * MS, (result) => {
      told = [machine.now, result];
    });
    const end = await toy.run({ until: 10 * MS, done: () => told !== null });
    expect(end).toBe("done");
    expect(told).toEqual([asked + 2 * MS, "data"]);
    // No pCPU has run past it.
    for (const pcpu of machine.pcpus) expect(pcpu.clock).toBeLessThanOrEqual(asked + 2 * MS + 1000);
  });

  test("a rejection is handed over as an error, at its time too", async () => {
    const toy = await ToyMachine.boot();
    await toy.start("d", program());
    const { loop, machine } = toy.hypervisor;
    const told: unknown[] = [];
    loop.io(Promise.reject(new Error("disk on fire")), 1 * MS, (result) => told.push(result, machine.now));
    loop.io(
      later(30, null).then(() => Promise.reject("no error")),
      2 * MS,
      (result) => told.push(result, machine.now),
    );
    await toy.run({ until: 5 * MS });
    expect(told).toEqual([new Error("disk on fire"), 1 * MS, new Error("no error"), 2 * MS]);
  });
});

test("several io() settle out of order and are done in order of their latencies, whatever the host does", async () => {
  const run = async (delays: readonly number[]): Promise<string[]> => {
    const toy = await ToyMachine.boot();
    await toy.start("d", spin());
    const { loop, machine } = toy.hypervisor;
    const order: string[] = [];
    delays.forEach((ms, i) => {
      loop.io(later(ms, i), (5 - i) * 100_000, () => order.push(`${i} at ${machine.now}`));
    });
    await toy.run({ until: 2 * MS });
    return order;
  };
  const expected = [4, 3, 2, 1, 0].map((i) => `${i} at ${(5 - i) * 100_000}`);
  expect(await run([0, 0, 0, 0, 0])).toEqual(expected);
  expect(await run([5, 30, 1, 20, 10])).toEqual(expected);
});

test("while a hold is pending virtual time stands still, for all pCPUs", async () => {
  const toy = await ToyMachine.boot({ pcpus: 2 });
  await toy.start("a", spin());
  await toy.start("b", spin());
  await toy.run({ until: 1 * MS });
  const { loop, machine } = toy.hypervisor;
  const clocks = machine.pcpus.map((pcpu) => pcpu.clock);
  const told: unknown[] = [];
  loop.hold(later(30, "one"), (result) => told.push(result, ...machine.pcpus.map((pcpu) => pcpu.clock)));
  loop.hold(
    later(60, null).then(() => Promise.reject(new Error("two"))),
    (result) => told.push(result, ...machine.pcpus.map((pcpu) => pcpu.clock)),
  );
  expect(await toy.run({ until: 2 * MS })).toBe("limit");
  expect(told).toEqual(["one", ...clocks, new Error("two"), ...clocks]);
});

test("what is injected happens at the present time, before anything else", async () => {
  const toy = await ToyMachine.boot();
  await toy.start("d", spin());
  await toy.run({ until: 3 * MS });
  const at: number[] = [];
  toy.hypervisor.inject(() => at.push(toy.hypervisor.machine.now));
  toy.hypervisor.inject(() => at.push(toy.hypervisor.machine.now));
  await toy.run({ until: 4 * MS });
  expect(at).toEqual([3 * MS, 3 * MS]);
});

describe("a run ends", () => {
  test("done: when its condition holds, checked between steps", async () => {
    const toy = await ToyMachine.boot();
    expect(await toy.run({ done: () => true })).toBe("done");
    expect(toy.hypervisor.machine.now).toBe(0);
    await toy.start("d", spin());
    expect(await toy.run({ done: () => toy.hypervisor.machine.now > 2 * MS })).toBe("done");
  });

  test("limit: exactly at the limit, busy or idle, and goes on from there", async () => {
    const toy = await ToyMachine.boot({ pcpus: 2 });
    const { machine } = toy.hypervisor;
    machine.timers.arm(50 * MS, () => {});
    expect(await toy.run({ until: 1_234_567 })).toBe("limit");
    expect(machine.now).toBe(1_234_567);
    await toy.start("d", spin());
    // A run ends with an instruction, so that it passes the limit by less than one: 20 ns.
    const within = (limit: number): void => {
      expect(machine.now).toBeGreaterThanOrEqual(limit);
      expect(machine.now).toBeLessThan(limit + 20);
    };
    expect(await toy.run({ until: 2 * MS })).toBe("limit");
    within(2 * MS);
    expect(await toy.run({ until: 1 * MS })).toBe("limit");
    within(2 * MS);
    expect(await toy.run({ until: 3 * MS })).toBe("limit");
    within(3 * MS);
  });

  test("idle: when nothing can ever happen again", async () => {
    const toy = await ToyMachine.boot();
    expect(await toy.run()).toBe("idle");
    await toy.start("d", sleep());
    expect(await toy.run()).toBe("idle");
    const paused = await toy.create("p", spin());
    expect(await toy.run()).toBe("idle");
    expect(paused.domain.vcpus[0]!.runStateTimes[0]).toBe(0);
  });

  test("timeout: when the host's time is up, however busy it is", async () => {
    const toy = await ToyMachine.boot({ cpuMhz: 1 });
    await toy.start("d", spin());
    const started = performance.now();
    expect(await toy.run({ until: Number.MAX_SAFE_INTEGER, wallTimeout: 50 })).toBe("timeout");
    expect(performance.now() - started).toBeLessThan(2000);
    const waits = await ToyMachine.boot();
    waits.hypervisor.loop.hold(new Promise(() => {}), () => {});
    expect(await waits.run({ wallTimeout: 30 })).toBe("timeout");
  });

  test("input that may still come is waited for", async () => {
    const toy = await ToyMachine.boot();
    await toy.start("d", sleep());
    let keys = 2;
    const seen: number[] = [];
    const input = (): Promise<void> | null => {
      if (keys-- === 0) return null;
      return later(10, undefined).then(() => toy.hypervisor.inject(() => seen.push(toy.hypervisor.machine.now)));
    };
    expect(await toy.run({ input })).toBe("idle");
    expect(seen.length).toBe(2);
  });

  test("in real time an idle machine follows the wall clock", async () => {
    const toy = await ToyMachine.boot();
    const { machine } = toy.hypervisor;
    const fired: number[] = [];
    machine.timers.arm(200 * MS, (now) => fired.push(now));
    const started = performance.now();
    let typed = -1;
    let keys = 1;
    const input = (): Promise<void> | null => {
      if (keys-- <= 0) return null;
      return later(20, undefined).then(() =>
        toy.hypervisor.inject(() => {
          typed = machine.now;
        }),
      );
    };
    expect(await toy.run({ realtime: true, done: () => fired.length > 0, input })).toBe("done");
    expect(performance.now() - started).toBeGreaterThanOrEqual(199);
    expect(fired).toEqual([200 * MS]);
    expect(typed).toBeGreaterThanOrEqual(18 * MS);
    expect(typed).toBeLessThanOrEqual(200 * MS);
  });

  test("it returns to the host's event loop every so often", async () => {
    const toy = await ToyMachine.boot({ cpuMhz: 1 });
    await toy.start("d", spin());
    let turns = 0;
    const interval = setInterval(() => turns++, 1);
    await toy.run({ until: Number.MAX_SAFE_INTEGER, wallTimeout: 300 });
    clearInterval(interval);
    expect(turns).toBeGreaterThanOrEqual(3);
  });
});
