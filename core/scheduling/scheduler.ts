/**
 * The scheduler interface: what a scheduler plugin implements and what it is handed.
 *
 * A scheduler's subject is a scheduling unit: one vCPU, or the vCPUs that a coarser granularity groups. It returns
 * decisions and mutates nothing of the core; the core checks each decision, keeps runstates and exact run times,
 * and swaps in the FIFO fallback when a scheduler throws, stalls or answers nonsense.
 * Invariants that the core keeps towards a scheduler: one instance per cpupool, which sees only its pool's pCPUs and
 * units; the times it is handed never decrease; a unit is inserted before anything else is said of it, and removed
 * while asleep; wake is called only for a unit that became runnable, sleep only for one that ceased to be.
 */
import type { Domain } from "../domain/domain.ts";
import type { Vcpu } from "../domain/vcpu.ts";
import type { Nanoseconds, Timer } from "../machine/timers.ts";

/** What a scheduler sees of a pCPU. */
export interface SchedulerPcpu {
  readonly id: number;
  readonly socket: number;
  readonly core: number;
  readonly node: number;
  /** The unit on it; null: idle. */
  readonly currentUnit: SchedulingUnit | null;
}

/** The subject of scheduling. */
export interface SchedulingUnit {
  /** Unique in the machine, never reused; rises in the order of creation. */
  readonly id: number;
  readonly domain: Domain;
  readonly vcpus: readonly Vcpu[];
  /** Some vCPU of it can run. */
  readonly runnable: boolean;
  /** The pCPU that it runs on now; null: it runs nowhere. */
  readonly runningOn: SchedulerPcpu | null;
  /** The pCPU where it runs or last ran; null: never ran. */
  readonly lastPcpu: SchedulerPcpu | null;
  /** pCPU ids where it may run; never empty within the pool. */
  readonly hardAffinity: ReadonlySet<number>;
  /** pCPU ids where it should run. */
  readonly softAffinity: ReadonlySet<number>;
  /** Exact time it has run so far, up to the pCPU's clock when it runs now. */
  readonly runTime: Nanoseconds;
}

/** What the core offers to a scheduler. */
export interface SchedulerHost {
  /** The cpupool's name and number. */
  readonly pool: { readonly id: number; readonly name: string };
  /** The pool's pCPUs, by rising id; changes with pcpuAdded and pcpuRemoved. */
  readonly pcpus: readonly SchedulerPcpu[];
  /** The pool's time; never decreases. */
  now(): Nanoseconds;
  /** Ask that `pcpu` calls doSchedule as soon as it can. */
  tickle(pcpu: SchedulerPcpu): void;
  /** A one-shot timer of the scheduler's own (ticks, replenishments). Timers of one instant fire in the order of arming. */
  timer(at: Nanoseconds, fire: (now: Nanoseconds) => void): Timer;
}

/** What runs next, and for how long at most. */
export interface Decision {
  /** null: idle. */
  readonly unit: SchedulingUnit | null;
  /** Longest run before doSchedule is called again, above 0; null: until something happens. */
  readonly slice: Nanoseconds | null;
}

/** Describes one parameter: the core validates values against it before `adjust`. */
export interface ParamSpec {
  readonly description: string;
  readonly type: "integer" | "boolean" | "nanoseconds";
  readonly min?: number;
  readonly max?: number;
  readonly default: number | boolean;
}

/** Parameters by name. Structured ones (an ARINC 653 table) are one `table` of such rows. */
export type ParamSpecs = Readonly<Record<string, ParamSpec>>;

/** Values by parameter name. */
export type ParamValues = Readonly<Record<string, number | boolean>>;

/** A scheduler. Five methods are mandatory. */
export interface Scheduler {
  /** A unit joins the pool; core calls wake next if it is runnable. */
  insertUnit(unit: SchedulingUnit, now: Nanoseconds): void;
  /** A unit leaves the pool; it is asleep and on no pCPU. */
  removeUnit(unit: SchedulingUnit, now: Nanoseconds): void;
  /** The unit became runnable. */
  wake(unit: SchedulingUnit, now: Nanoseconds): void;
  /** The unit ceased to be runnable; may be the one that runs. */
  sleep(unit: SchedulingUnit, now: Nanoseconds): void;
  /** Picks what runs on `pcpu` from now on; the unit that ran until now (pcpu.currentUnit) may be picked again. */
  doSchedule(pcpu: SchedulerPcpu, now: Nanoseconds): Decision;

  /** The running unit gives way. Default: nothing; doSchedule follows at once. */
  yielded?(unit: SchedulingUnit, now: Nanoseconds): void;
  /** The unit has left its pCPU: deferred requeues belong here. Default: nothing. */
  contextSaved?(unit: SchedulingUnit, now: Nanoseconds): void;
  /** A pCPU joined the pool; core calls doSchedule on it later. Default: nothing. */
  pcpuAdded?(pcpu: SchedulerPcpu, now: Nanoseconds): void;
  /** A pCPU left the pool; units with it in their affinity have been removed and come back. Default: nothing. */
  pcpuRemoved?(pcpu: SchedulerPcpu, now: Nanoseconds): void;
  /** A unit's affinity changed while it sleeps or waits. Default: core removes and inserts it again. */
  affinityChanged?(unit: SchedulingUnit, now: Nanoseconds): void;
  /** Parameters of a domain, of a unit, of the pool. Default: none. */
  readonly params?: { readonly domain?: ParamSpecs; readonly unit?: ParamSpecs; readonly pool?: ParamSpecs };
  /** Sets parameters (already validated against `params`): 0 or a negative errno. Target null: the pool. Mandatory with `params`. */
  adjust?(target: Domain | SchedulingUnit | null, values: ParamValues): number;
  /** Reads parameters back. Mandatory with `params`. */
  read?(target: Domain | SchedulingUnit | null): ParamValues;
  /** For the state dump when the scheduler is ejected, and for dmesg. Default: nothing. */
  dump?(): string;
}
