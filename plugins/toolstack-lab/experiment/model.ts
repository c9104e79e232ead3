/**
 * An experiment, resolved: all that a run depends on besides its seed, as plain JSON with every default filled in.
 *
 * It crosses to worker threads, is hashed for resuming, and is written to the manifest. Times are ns.
 */
import type { Granularity, MachineConfig, Nanoseconds, ParamValues } from "hookvisor";

/** The machine. */
export interface ExperimentMachine {
  readonly pcpus: number;
  readonly threadsPerCore: number;
  readonly coresPerSocket: number;
  readonly socketsPerNode: number;
  readonly mhz: number;
  readonly costs: MachineConfig["costs"];
  readonly frequencies: readonly number[];
  readonly idleStates: MachineConfig["idleStates"];
  /** null: the machine's highest rate, always. */
  readonly governor: string | null;
  readonly quantum: Nanoseconds;
  readonly memoryMiB: number;
}

/** A cpupool. */
export interface ExperimentPool {
  readonly name: string;
  readonly scheduler: string;
  readonly cpus: readonly number[];
  readonly granularity: Granularity;
  readonly params: LooseParams;
  /** The scheduler is another than the experiment's: parameters that it does not have are left out. */
  readonly replaced: boolean;
  /** Index in the experiment's `pools`; null: it has none, and says scheduler and params at the top. */
  readonly entry: number | null;
}

/** Parameters as written: a duration such as "10ms" becomes ns where the scheduler's parameter is one of time. */
export type LooseParams = ParamValues;

/** What a domain runs. */
export type DomainImageSource =
  /** JSON for arch/workload; `name` says where it was written, for messages. `seeded`: it has a seed of its own, which rules. */
  | {
      readonly kind: "workload";
      readonly text: string;
      readonly name: string;
      readonly inline: boolean;
      readonly seeded: boolean;
    }
  /** Files, with the digest of their content. */
  | {
      readonly kind: "files";
      readonly kernel: string;
      readonly kernelSha256: string;
      readonly ramdisk: string | null;
      readonly ramdiskSha256: string | null;
    };

/** A step of what is typed at a guest's console. */
export type ScriptStep = { readonly expect: string } | { readonly send: string };

/** A domain. */
export interface ExperimentDomain {
  readonly name: string;
  /** The name as written, which several have with `count`. */
  readonly group: string;
  /** Index in the experiment's `domains`, for messages. */
  readonly entry: number;
  readonly type: string;
  readonly image: DomainImageSource;
  readonly extra: string;
  readonly memoryMiB: number;
  readonly vcpus: number;
  readonly pool: string;
  readonly cpus: readonly number[] | null;
  readonly softCpus: readonly number[] | null;
  readonly scheduler: LooseParams;
  readonly vcpuScheduler: readonly LooseParams[];
  readonly devices: readonly { readonly type: string; readonly spec: string }[];
  readonly script: readonly ScriptStep[];
}

/** Something that happens in the middle of a run. Domains are named by their own name or their group's. */
export type ExperimentChange = { readonly at: Nanoseconds; readonly entry: number } & (
  | { readonly kind: "offline" | "online"; readonly pcpu: number }
  | { readonly kind: "domainParams"; readonly domain: string; readonly values: LooseParams }
  | { readonly kind: "poolParams"; readonly pool: string; readonly values: LooseParams }
  | { readonly kind: "moveDomain"; readonly domain: string; readonly pool: string }
  | { readonly kind: "movePcpu"; readonly pcpu: number; readonly pool: string }
  | { readonly kind: "pause" | "unpause"; readonly domain: string }
);

/** Faults of the machine that a scheduler has to live with. */
export interface ExperimentFaults {
  /** A pCPU is asked to schedule, or a slice ends, later by so much, with this probability. */
  readonly lateDispatch: { readonly probability: number; readonly by: Nanoseconds } | null;
  /** Probability that a timer of the scheduler's never fires. */
  readonly loseTimers: number;
  /** The scheduler's timers fire at multiples of this; 0: when they are due. */
  readonly coalesceTimers: Nanoseconds;
}

/** A parameter's value. */
export type ParameterValue = string | number | boolean;

/** An experiment with everything filled in. */
export interface Experiment {
  readonly name: string;
  readonly duration: Nanoseconds;
  readonly warmUp: Nanoseconds;
  readonly seeds: readonly number[];
  readonly machine: ExperimentMachine;
  readonly pools: readonly ExperimentPool[];
  readonly domains: readonly ExperimentDomain[];
  /** Expected shares by domain or group, relative to one another; null: from weights and caps. */
  readonly entitlement: Readonly<Record<string, number>> | null;
  readonly changes: readonly ExperimentChange[];
  readonly faults: ExperimentFaults;
  /** The values that were put in for `${name}`. */
  readonly parameters: Readonly<Record<string, ParameterValue>>;
}
