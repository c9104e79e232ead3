/** A small load on several pCPUs with its trace: sleepers, hogs and a domain of two vCPUs under round robin, and core's own figures of the end. */
import { RunState, type Vcpu } from "../../../core/domain/vcpu.ts";
import { createHooks, provide } from "../../../core/hooks.ts";
import type { HypervisorSetup } from "../../../core/hypervisor.ts";
import { runStateTime } from "../../../core/scheduling/unit.ts";
import { type TraceOptions, TraceTap, type TraceWriter } from "../../../plugins/lib-trace/index.ts";
import roundRobin from "../../../plugins/scheduler-round-robin/plugin.ts";
import { hog, Load, periodic } from "../../support/load.ts";

type LoadOptions = NonNullable<ConstructorParameters<typeof Load>[1]>;

/** What core says of a vCPU at the end. */
export interface Truth {
  readonly domain: number;
  readonly vcpu: number;
  /** Nanoseconds in each runstate. */
  readonly times: readonly number[];
  /** Of these, before it first ran. */
  readonly before: readonly number[];
}

export interface TracedLoad {
  readonly bytes: Uint8Array;
  readonly truth: readonly Truth[];
  readonly end: number;
  /** The machine, at its end. */
  readonly load: Load;
}

/** Runs the load for so many nanoseconds. */
export function tracedLoad(
  open: (options: TraceOptions) => TraceWriter,
  { pcpus = 3, until = 60_000_000, config = {} as LoadOptions, before = (_load: Load): void => {} } = {},
): TracedLoad {
  const chunks: Uint8Array[] = [];
  const hooks = createHooks();
  roundRobin.apply({ apiVersion: "1.0.0", hooks, ownHooks() {}, hooksOf: () => undefined } as HypervisorSetup);
  const load = new Load((host) => provide(hooks.scheduler, "scheduler", "round-robin", host).value, {
    pcpus,
    ...config,
  });
  before(load);
  const tap = new TraceTap();
  tap.tap("test", load.machine.hooks);
  tap.now = () => load.machine.now;
  const writer = open({ pcpus, sink: (bytes) => chunks.push(bytes) });
  tap.writer = writer;
  const first = new Map<Vcpu, number[]>();
  load.machine.hooks.runstate.tap("test", (vcpu, _from, to) => {
    if (to === RunState.running && !first.has(vcpu)) first.set(vcpu, [...vcpu.runStateTimes]);
  });
  load.domain("hogs", [hog, hog]);
  load.domain("sleeper", [periodic(150_000, 350_000)]);
  load.domain("beat", [periodic(90_000, 10_000), periodic(20_000, 300_000), periodic(1_000, 5_000)]);
  load.domain("late", [periodic(400_000, 2_000_000)]);
  load.run(until);
  const clock = Math.max(load.machine.now, ...load.machine.pcpus.map((pcpu) => pcpu.time));
  const end = Math.max(clock, ...load.domains.flatMap((d) => d.vcpus.map((v) => v.runStateSince)));
  writer.finish(end);
  const states = [RunState.running, RunState.runnable, RunState.blocked, RunState.offline];
  const truth = load.domains.flatMap((domain) =>
    domain.vcpus.map((vcpu) => ({
      domain: domain.id,
      vcpu: vcpu.id,
      times: states.map((state) => runStateTime(vcpu, state, end)),
      before: first.get(vcpu) ?? states.map((state) => runStateTime(vcpu, state, end)),
    })),
  );
  return { bytes: Buffer.concat(chunks), truth, end, load };
}
