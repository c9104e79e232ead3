/**
 * Runs an experiment of this folder in the lab's engine, as `hookvisor lab run` does, and reads exact figures out of its recording.
 *
 * A recording's times are whole nanoseconds of virtual time: a figure of a test is the schedule's own, without an error of measurement.
 */
import { join } from "node:path";
import { Hypervisor, type LoadedPlugin, providers, RunState } from "hookvisor";
import { hostPlugin } from "../../core/node/host-plugin.ts";
import { NodeHost } from "../../core/node/host-services.ts";
import { type RunOutcome, runExperiment } from "../../plugins/toolstack-lab/engine/run.ts";
import { loadPlugins } from "../../plugins/toolstack-lab/engine/sources.ts";
import { chooseParameters, loadExperiment } from "../../plugins/toolstack-lab/experiment/load.ts";
import { resolveExperiment } from "../../plugins/toolstack-lab/experiment/resolve.ts";
import type { DomainMetrics } from "../../plugins/toolstack-lab/metrics/types.ts";
import { EventKind, forEachRun, forEachState, type Recording } from "../../plugins/toolstack-lab/recording.ts";

export const US = 1e3;
export const MS = 1e6;
export const S = 1e9;

/** What a run is made with, besides its file. */
export interface RunOptions {
  /** Values of the experiment's parameters, as `--set`. */
  readonly set?: Readonly<Record<string, string | number | boolean>>;
  /** Default: the experiment's first seed. */
  readonly seed?: number;
  /** Plugins of this folder, as `--plugin`. */
  readonly plugins?: readonly string[];
}

const loaded = new Map<string, Promise<readonly LoadedPlugin[]>>();

function pluginsOf(specs: readonly string[]): Promise<readonly LoadedPlugin[]> {
  const key = specs.join("\0");
  let plugins = loaded.get(key);
  if (plugins === undefined) {
    plugins = loadPlugins({ folder: import.meta.dirname, config: null, plugins: specs });
    loaded.set(key, plugins);
  }
  return plugins;
}

/** Runs `file` of this folder once. Throws what the lab would complain of, and where a plugin was ejected. */
export async function run(file: string, { set = {}, seed, plugins: specs = [] }: RunOptions = {}): Promise<RunOutcome> {
  const plugins = await pluginsOf(specs);
  const { hooks } = new Hypervisor({ plugins: [hostPlugin(), ...plugins], services: new NodeHost() });
  const source = await loadExperiment(join(import.meta.dirname, file));
  const chosen = chooseParameters(
    source,
    Object.entries(set).map(([name, value]) => `${name}=${value}`),
  );
  const keys = (of: readonly { readonly key: string }[]): readonly string[] => of.map(({ key }) => key);
  const experiment = await resolveExperiment(source, chosen, {
    schedulers: keys(providers(hooks.scheduler)),
    governors: keys(providers(hooks.governor)),
    types: keys(providers(hooks.arch)),
    images: [],
    image: () => Promise.reject(new Error("these experiments have no images")),
  });
  const outcome = await runExperiment(plugins, experiment, seed ?? experiment.seeds[0]!);
  const [fault] = outcome.recording.faults;
  if (fault !== undefined) throw new Error(`plugin ${fault.plugin} was ejected: ${fault.reason}`);
  return outcome;
}

/** Metrics of one domain. */
export function domainOf({ metrics }: RunOutcome, name: string): DomainMetrics {
  const domain = metrics.domains.find((one) => one.name === name);
  if (domain === undefined) throw new Error(`there is no domain ${name}`);
  return domain;
}

/** A job that ended. Times in ns; `deadline` absolute. */
export interface Job {
  readonly release: number;
  readonly deadline: number;
  readonly end: number;
}

/** The jobs of a domain, by when they ended. */
export function jobsOf({ events, jobs, vcpus, domains }: Recording, name: string): readonly Job[] {
  const found: Job[] = [];
  for (let i = 0; i < events.time.length; i++) {
    if (events.kind[i] !== EventKind.job || domains[vcpus[events.vcpu[i]!]!.domain]!.name !== name) continue;
    const row = events.extra[i]!;
    found.push({ release: jobs.release[row]!, deadline: jobs.deadline[row]!, end: jobs.end[row]! });
  }
  return found;
}

/** When something ran, from and to. */
export type Stretch = readonly [from: number, to: number];

/** The runs of a domain of one vCPU, in order; what follows without a gap is one run. */
export function runsOf(recording: Recording, name: string): readonly Stretch[] {
  const runs: [number, number][] = [];
  forEachRun(recording, (vcpu, _pcpu, from, to) => {
    if (recording.domains[recording.vcpus[vcpu]!.domain]!.name !== name || to === from) return;
    const last = runs.at(-1);
    if (last !== undefined && last[1] === from) last[1] = to;
    else runs.push([from, to]);
  });
  return runs;
}

/** How long a domain of one vCPU waited for a pCPU each time that it woke up: waits that ended after the warm-up, and before the run's end. */
export function wakeWaitsOf(recording: Recording, name: string): readonly number[] {
  const waits: number[] = [];
  forEachState(recording, (vcpu, state, from, to, _pcpu, before) => {
    const { domain } = recording.vcpus[vcpu]!;
    if (state !== RunState.runnable || before !== RunState.blocked) return;
    if (to <= recording.warmUp || to === recording.end) return;
    if (recording.domains[domain]!.name === name) waits.push(to - from);
  });
  return waits;
}
