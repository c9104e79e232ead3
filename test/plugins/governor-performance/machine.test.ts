/** All four governors on a real machine: rates as they should be, idle states in use, work and energy in the order that they promise. */
import { expect, test } from "vitest";
import { createHooks, provide } from "../../../core/hooks.ts";
import type { HypervisorSetup } from "../../../core/hypervisor.ts";
import ondemand from "../../../plugins/governor-ondemand/plugin.ts";
import performance from "../../../plugins/governor-performance/plugin.ts";
import powersave from "../../../plugins/governor-powersave/plugin.ts";
import schedutil from "../../../plugins/governor-schedutil/plugin.ts";
import { cubicModel, EnergyMeter } from "../../../plugins/lib-energy/index.ts";
import { TraceTap } from "../../../plugins/lib-trace/index.ts";
import roundRobin from "../../../plugins/scheduler-round-robin/plugin.ts";
import { type Behaviour, hog, Load, periodic } from "../../support/load.ts";
import { IDLE_STATES } from "../lib-governor/fake-host.ts";

const RATES = [500, 1000, 1500, 2000];
const MS = 1_000_000;

interface Outcome {
  readonly rates: ReadonlySet<number>;
  readonly last: readonly number[];
  readonly states: ReadonlySet<number>;
  readonly faults: readonly string[];
  readonly joules: number;
}

function run(governor: string, behaviours: readonly Behaviour[]): Outcome {
  const hooks = createHooks();
  const setup = { apiVersion: "1.0.0", hooks, ownHooks() {}, hooksOf: () => undefined } as HypervisorSetup;
  for (const plugin of [roundRobin, performance, powersave, ondemand, schedutil]) plugin.apply(setup);
  const load = new Load((host) => provide(hooks.scheduler, "scheduler", "round-robin", host).value, {
    pcpus: 2,
    cpuMhz: 2000,
    frequencies: RATES,
    idleStates: IDLE_STATES,
  });
  const { machine } = load;
  const rates = new Set<number>();
  const states = new Set<number>();
  const faults: string[] = [];
  machine.hooks.frequency.tap("test", (_pcpu, mhz) => void rates.add(mhz));
  machine.hooks.idleState.tap("test", (_pcpu, state) => void states.add(state));
  machine.hooks.pluginFault.tap("test", (fault) => void faults.push(fault.reason));
  const tap = new TraceTap();
  tap.tap("test", machine.hooks);
  const meter = new EnergyMeter({ pcpus: 2, mhz: 2000, model: cubicModel({ maxMhz: 2000, staticWatts: 0.2 }) });
  tap.writer = meter;
  for (const pcpu of machine.pcpus)
    load.scheduling.govern(pcpu, {
      name: governor,
      plugin: governor,
      make: (host) => provide(hooks.governor, "governor", governor, host).value,
    });
  load.domain("load", behaviours);
  load.run(500 * MS);
  meter.finish(500 * MS);
  return { rates, last: machine.pcpus.map((pcpu) => pcpu.mhz), states, faults, joules: meter.report().total };
}

const LIGHT = [periodic(400_000, 5 * MS), periodic(100_000, 800_000)];
const HEAVY = [hog, hog, hog];

test("performance stays up, powersave goes down and stays there", () => {
  expect(run("performance", LIGHT)).toMatchObject({ rates: new Set(), last: [2000, 2000], faults: [] });
  const saved = run("powersave", HEAVY);
  expect(saved.rates).toEqual(new Set([500]));
  expect(saved.last).toEqual([500, 500]);
});

for (const governor of ["ondemand", "schedutil"])
  test(`${governor} runs hogs at the highest rate and a light load slower, for less energy`, () => {
    expect(run(governor, HEAVY)).toMatchObject({ last: [2000, 2000], faults: [] });
    const light = run(governor, LIGHT);
    expect(light.faults).toEqual([]);
    expect(Math.max(...light.last)).toBeLessThan(2000);
    expect(light.joules).toBeLessThan(run("performance", LIGHT).joules);
    expect(light.states.has(2)).toBe(true);
  });

test("equal runs are equal", () => {
  expect(run("schedutil", LIGHT)).toEqual(run("schedutil", LIGHT));
});
