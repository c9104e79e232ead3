/** The energy meter: worked examples, and random events against a naive integral. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { RunState } from "../../../core/domain/vcpu.ts";
import { cubicModel, EnergyMeter, type EnergyModel, voltageModel } from "../../../plugins/lib-energy/index.ts";
import { tracedLoad } from "../lib-trace/traced-load.ts";

const { running, runnable, blocked } = RunState;
const MODEL: EnergyModel = cubicModel({
  maxMhz: 2000,
  staticWatts: 1,
  dynamicWatts: 8,
  idle: [
    { watts: 0.5, wakeJoules: 0 },
    { watts: 0.1, wakeJoules: 0.25 },
  ],
});
const S = 1e9;

describe("models", () => {
  test("cubic: static power, and the cube of the rate", () => {
    expect(MODEL.busyWatts(2000)).toBe(9);
    expect(MODEL.busyWatts(1000)).toBe(2);
  });

  test("by voltages: C V^2 f, interpolated", () => {
    const volts = [
      { mhz: 1000, volts: 0.8 },
      { mhz: 2000, volts: 1.2 },
    ];
    const model = voltageModel({ volts, nanofarads: 2, staticWatts: 0.5 });
    expect(model.busyWatts(2000)).toBeCloseTo(0.5 + 2 * 1.44 * 2, 12);
    expect(model.busyWatts(1500)).toBeCloseTo(0.5 + 2 * 1 * 1.5, 12);
    expect(model.busyWatts(500)).toBeCloseTo(0.5 + 2 * 0.64 * 0.5, 12);
  });

  test("nonsense is refused in one sentence", () => {
    expect(() => cubicModel({ maxMhz: 0 })).toThrow("An energy model's maxMhz must be above 0, got 0.");
    expect(() => cubicModel({ maxMhz: 1, staticWatts: -1 })).toThrow(/staticWatts must not be negative/);
    expect(() => cubicModel({ maxMhz: 1, idle: [] })).toThrow(/one idle state at least/);
    expect(() => voltageModel({ volts: [], nanofarads: 1, staticWatts: 0 })).toThrow(/rising rates/);
  });
});

test("who pays: the one that runs, the one that wakes, and by use of the pCPU", () => {
  const meter = new EnergyMeter({ pcpus: 2, mhz: 2000, model: MODEL });
  meter.vcpu(0, 1, "a");
  meter.vcpu(1, 2, "b");
  meter.idleState(0, -1, 2 * S); // 2 s idle in state 0
  meter.runstate(0, runnable, running, 0, 2 * S);
  meter.runstate(0, running, blocked, 0, 5 * S); // a runs for 3 s at 9 W
  meter.idleState(0, 1, 5 * S);
  meter.idleState(0, -1, 9 * S); // 4 s in state 1
  meter.frequency(0, 1000, 9 * S);
  meter.runstate(1, runnable, running, 0, 9 * S);
  meter.runstate(1, running, blocked, 0, 10 * S); // b for 1 s at 2 W
  meter.idleState(0, 0, 10 * S);
  meter.finish(10 * S);
  const { pcpus, domains, nobody, total } = meter.report();
  const idle = 2 * 0.5 + 4 * 0.1;
  expect(pcpus[0]).toMatchObject({ pcpu: 0, busy: 29, wake: 0.25 });
  expect(pcpus[0]!.idle).toBeCloseTo(idle, 12);
  expect(pcpus[1]).toMatchObject({ busy: 0, idle: 5, wake: 0, total: 5 });
  expect(domains[0]).toMatchObject({ domain: 1, name: "a", busy: 27, wake: 0 });
  expect(domains[0]!.idle).toBeCloseTo(idle * 0.3, 12);
  expect(domains[1]).toMatchObject({ domain: 2, name: "b", busy: 2, wake: 0.25 });
  expect(domains[1]!.idle).toBeCloseTo(idle * 0.1, 12);
  expect(nobody.idle).toBeCloseTo(idle * 0.6 + 5, 12);
  expect(total).toBeCloseTo(29 + 0.25 + idle + 5, 12);
  meter.reset(10 * S);
  expect(meter.report().total).toBe(0);
  meter.finish(11 * S);
  expect(meter.report().total).toBe(1);
});

test("a wake-up after which nothing runs is nobody's", () => {
  const meter = new EnergyMeter({ pcpus: 1, mhz: 2000, model: MODEL });
  meter.idleState(0, 1, 0);
  meter.idleState(0, -1, S);
  meter.idleState(0, 0, S);
  meter.finish(2 * S);
  const { nobody, total } = meter.report();
  expect(nobody).toEqual({ busy: 0, idle: 0.6, wake: 0.25, total: 0.85 });
  expect(total).toBeCloseTo(0.85, 15);
});

test("bills add up to what the pCPUs draw, and both to the integral of power", () => {
  const event = fc.record({
    pcpu: fc.integer({ min: 0, max: 3 }),
    wait: fc.integer({ min: 0, max: 3_000_000 }),
    kind: fc.constantFrom("run", "idle", "rate" as const),
    value: fc.integer({ min: 0, max: 5 }),
  });
  fc.assert(
    fc.property(fc.array(event, { minLength: 1, maxLength: 200 }), (events) => {
      const meter = new EnergyMeter({ pcpus: 4, mhz: 2000, model: MODEL });
      for (let v = 0; v < 6; v++) meter.vcpu(v, 100 + (v >> 1), `d${v >> 1}`);
      const state = Array.from({ length: 4 }, () => ({ on: -1, idle: 0, mhz: 2000, last: 0 }));
      let joules = 0;
      let now = 0;
      const pass = (p: (typeof state)[number]): void => {
        const watts = p.on >= 0 ? MODEL.busyWatts(p.mhz) : MODEL.idle[p.idle]!.watts;
        joules += watts * (now - p.last) * 1e-9;
        p.last = now;
      };
      for (const { pcpu, wait, kind, value } of events) {
        const p = state[pcpu]!;
        now += wait;
        pass(p);
        if (kind === "rate") {
          p.mhz = 500 + 300 * value;
          meter.frequency(pcpu, p.mhz, now);
          continue;
        }
        if (p.on >= 0) meter.runstate(p.on, running, blocked, pcpu, now);
        if (kind === "run") {
          if (p.on < 0) {
            meter.idleState(pcpu, -1, now);
            joules += MODEL.idle[p.idle]!.wakeJoules;
          }
          p.on = value;
          meter.runstate(value, runnable, running, pcpu, now);
        } else {
          if (p.on < 0) meter.idleState(pcpu, -1, now);
          if (p.on < 0) joules += MODEL.idle[p.idle]!.wakeJoules;
          p.on = -1;
          p.idle = value & 1;
          meter.idleState(pcpu, p.idle, now);
        }
      }
      now += 1000;
      state.forEach(pass);
      meter.finish(now);
      const { pcpus, domains, nobody, total } = meter.report();
      const paid = domains.reduce((sum, d) => sum + d.total, 0) + nobody.total;
      const drawn = pcpus.reduce((sum, p) => sum + p.total, 0);
      expect(Math.abs(paid - drawn)).toBeLessThanOrEqual(1e-12 * drawn);
      expect(Math.abs(total - joules)).toBeLessThanOrEqual(1e-9 * joules);
    }),
    { numRuns: 300 },
  );
});

test("fed by a machine: busy energy is CPU time times power", () => {
  let meter: EnergyMeter | null = null;
  const { truth, end } = tracedLoad(({ pcpus }) => {
    meter = new EnergyMeter({ pcpus, mhz: 2000, model: MODEL });
    return meter;
  });
  const { domains, pcpus, total } = meter!.report();
  for (const { domain, busy } of domains) {
    const time = truth.filter((t) => t.domain === domain).reduce((sum, t) => sum + t.times[0]!, 0);
    expect(busy).toBeCloseTo(9 * time * 1e-9, 12);
  }
  const ran = truth.reduce((sum, t) => sum + t.times[0]!, 0);
  expect(total).toBeCloseTo((9 * ran + 0.5 * (pcpus.length * end - ran)) * 1e-9, 12);
});
