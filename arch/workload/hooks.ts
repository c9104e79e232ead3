/** The hooks that the plugin owns, as `workload`: what the guests achieved, for whoever measures. Free when nobody taps. */
import type { Nanoseconds, Vcpu } from "hookvisor";
import { SyncHook } from "tapable";

/** A job, request, phase or round that a vCPU has ended. Times in ns of virtual time; README.md says per behaviour what they are. */
export interface Job {
  /** It could have begun. */
  readonly released: Nanoseconds;
  /** Its first instruction. */
  readonly started: Nanoseconds;
  readonly finished: Nanoseconds;
  /** When it should have ended; null: it has no deadline. */
  readonly deadline: Nanoseconds | null;
  /** Instructions: nanoseconds of CPU at 1000 MHz. */
  readonly work: number;
}

export interface WorkloadHooks {
  /** At the end of a job. */
  readonly job: SyncHook<[Vcpu, Job]>;
  /** A lock was got: nanoseconds from wanting it to going on with it, 0: it was free. */
  readonly lockWait: SyncHook<[Vcpu, Nanoseconds]>;
}

export function createWorkloadHooks(): WorkloadHooks {
  return Object.freeze({
    job: new SyncHook<[Vcpu, Job]>(["vcpu", "job"]),
    lockWait: new SyncHook<[Vcpu, Nanoseconds]>(["vcpu", "waited"]),
  });
}

declare module "hookvisor" {
  interface PluginHooks {
    workload: WorkloadHooks;
  }
}
