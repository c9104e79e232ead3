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

/**
 * What a scheduler sees of a pCPU. With a coarser granularity it stands for the pCPUs of a core or a socket, which run vCPUs of one
 * unit at any time (Xen: sched_resource); a scheduler need not know.
 */
export interface SchedulerPcpu {
  /** The pCPU's number; of several, the lowest. Affinities name it. */
  readonly id: number;
  /** Numbers of the pCPUs that it stands for, rising. */
  readonly cpus: readonly number[];
  /** Numbers of socket, core and NUMA node, each unique in the machine: threads of one core have the same `core`. */
  readonly socket: number;
  readonly core: number;
  readonly node: number;
  /** The unit on it; null: idle. */
  readonly currentUnit: SchedulingUnit | null;
  /** doSchedule is due on it already: an idle pCPU that has been tickled for one unit is no idle pCPU for the next. */
  readonly needSchedule: boolean;
}

/** The subject of scheduling. */
export interface SchedulingUnit {
  /** Unique in the machine, never reused; rises in the order of creation. */
  readonly id: number;
  readonly domain: Domain;
  readonly vcpus: readonly Vcpu[];
  /** Some vCPU of it can run. While the unit is inserted, removed, restored or changes its affinity it is false. */
  readonly runnable: boolean;
  /** The pCPU that it runs on now, one of `host.pcpus`; null: it runs nowhere. */
  readonly runningOn: SchedulerPcpu | null;
  /** The pCPU where it runs or last ran; null: never ran. */
  readonly lastPcpu: SchedulerPcpu | null;
  /** Ids of pCPUs (SchedulerPcpu.id) where it may run: within the pool, never empty. */
  readonly hardAffinity: ReadonlySet<number>;
  /** Ids of pCPUs where it should run: within hardAffinity, never empty (equal to it when nothing was asked for, or nothing of it is possible). */
  readonly softAffinity: ReadonlySet<number>;
  /** Exact time it has run so far, up to the pCPU's clock when it runs now; of several vCPUs, the time that any of them held the pCPU. */
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
  /**
   * Ask that doSchedule is called for `pcpu` as soon as it can be. Within doSchedule or contextSaved of that very pCPU it is called once more, at the same
   * time: who always does so never lets time go on, and is ejected.
   */
  tickle(pcpu: SchedulerPcpu): void;
  /** A one-shot timer of the scheduler's own (ticks, replenishments). Timers of one instant fire in the order of arming. */
  timer(at: Nanoseconds, fire: (now: Nanoseconds) => void): Timer;
  /** Next 32 bits of the pool's seeded random stream. */
  random(): number;
  /** A line for the hypervisor's log (dmesg). */
  log(message: string): void;
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
  readonly type: "integer" | "boolean" | "nanoseconds" | "string" | "table";
  /** Bounds of a number; of a string its length, of a table its rows. */
  readonly min?: number;
  readonly max?: number;
  /** The value until it is set. For `adjust` every parameter is optional: an absent one stays as it is. */
  readonly default: ParamValue;
  /** Columns of a table (an ARINC 653 schedule); each row gives every column that has no default. */
  readonly columns?: Readonly<Record<string, ColumnSpec>>;
}

/** One column of a table parameter; without a default it must be given. */
export interface ColumnSpec {
  readonly description: string;
  readonly type: "integer" | "boolean" | "nanoseconds" | "string";
  readonly min?: number;
  readonly max?: number;
  readonly default?: ParamScalar;
}

/** A single value: numbers are whole. */
export type ParamScalar = number | boolean | string;
/** A row of a table. */
export type ParamRow = Readonly<Record<string, ParamScalar>>;
/** What a parameter may be set to. */
export type ParamValue = ParamScalar | readonly ParamRow[];

/** Parameters by name. */
export type ParamSpecs = Readonly<Record<string, ParamSpec>>;

/** Values by parameter name. */
export type ParamValues = Readonly<Record<string, ParamValue>>;

/** What `read` answers: a name that is undefined is as good as absent, so that each kind of target can answer with its own names. */
export type ParamReadings = Readonly<Record<string, ParamValue | undefined>>;

/** What `save` returns: plain JSON; units go by their ids. */
export type SchedulerState = string | number | boolean | null | readonly SchedulerState[] | SchedulerStateObject;
/** An object of SchedulerState. */
export interface SchedulerStateObject {
  readonly [key: string]: SchedulerState;
}

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
  /** A pCPU joined the pool (host.pcpus has it, affinities too); core calls doSchedule on it later. Default: nothing. */
  pcpuAdded?(pcpu: SchedulerPcpu, now: Nanoseconds): void;
  /**
   * A pCPU left the pool: it is idle, host.pcpus and affinities are without it, and it is never scheduled again; what the scheduler had
   * queued there it moves elsewhere now. Default: core removes every unit before and inserts it afterwards.
   */
  pcpuRemoved?(pcpu: SchedulerPcpu, now: Nanoseconds): void;
  /**
   * A unit's affinity changed; it is asleep and on no pCPU, and wake follows if it can run. When a pCPU joins, this comes before its pcpuAdded, and names
   * it already. Default: core removes and inserts it again.
   */
  affinityChanged?(unit: SchedulingUnit, now: Nanoseconds): void;
  /**
   * Parameters of a domain, of a unit, of the pool. Default: none. For weights of domains, with `#weights = new WeakMap<Domain, number>()`:
   *
   * ```ts
   * readonly params = {
   *   domain: { weight: { description: "share of the CPU", type: "integer", min: 1, max: 1000, default: 100 } },
   * } as const;
   * adjust(target: Domain | SchedulingUnit | null, { weight }: ParamValues): number {
   *   // Only names of `params` come, for their kind of target, within their bounds; undefined: it stays as it is.
   *   if (weight !== undefined) this.#weights.set(target as Domain, Number(weight));
   *   return 0;
   * }
   * read(target: Domain | SchedulingUnit | null) {
   *   // It is asked about units (they have `vcpus` and a `domain`) and the pool (null) too, which have no parameters here.
   *   if (target === null || "domain" in target) return {};
   *   return { weight: this.#weights.get(target) ?? this.params.domain.weight.default };
   * }
   * ```
   */
  readonly params?: { readonly domain?: ParamSpecs; readonly unit?: ParamSpecs; readonly pool?: ParamSpecs };
  /** Sets parameters (already validated against `params`): 0 or a negative errno. Target null: the pool. Mandatory with `params`. */
  adjust?(target: Domain | SchedulingUnit | null, values: ParamValues): number;
  /** Reads parameters back. Mandatory with `params`. */
  read?(target: Domain | SchedulingUnit | null): ParamReadings;
  /**
   * false: the policy may keep this runnable unit waiting for longer than any bound (it is in no table, it has no pCPU of its own, others
   * come first), so that its waiting is no stall. Default: true, always.
   */
  entitled?(unit: SchedulingUnit): boolean;
  /** The whole state as plain JSON; units by their ids. Default: state is not kept, a restored pool starts afresh. */
  save?(): SchedulerState;
  /**
   * Takes over the state that `save` of the same scheduler returned. Called once on a new instance, after every unit has been inserted,
   * before any is woken; `unit` finds one by its id (undefined: it is gone). Arms its timers anew. Mandatory with `save`.
   */
  restore?(state: SchedulerState, unit: (id: number) => SchedulingUnit | undefined, now: Nanoseconds): void;
  /** For the state dump when the scheduler is ejected, and for dmesg. Default: nothing. */
  dump?(): string;
}
