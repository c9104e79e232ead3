/**
 * A recording: what happened in one run, as columns of numbers, and tables that say what the numbers mean.
 *
 * It is what metrics, the report, trace writers and replay read; nothing else of a run is kept. An event is a row of five columns: time
 * (ns of virtual time), kind (EventKind), pcpu (the pCPU's number, -1: none), vcpu (index into `vcpus`, -1: none) and extra (a whole number; what it
 * means depends on the kind). Domains, vCPUs and pools go by their index in the tables, which is the order of their creation.
 * Invariants: times never decrease from row to row; rows of one instant are in the order in which they happened; a vCPU's first runstate
 * event starts from `offline`, and each further one from where the last went; a run is on one pCPU (a vCPU that changes pCPUs leaves first).
 */
import type { ParamValues, RunState } from "hookvisor";

/** What an event says. The numbers are part of the file format. */
export const EventKind = Object.freeze({
  /**
   * vcpu went from one runstate to another: extra = from * 4 + to (numbers of RunState). pcpu: where it runs from now on (to = running) or ran until
   * now (from = running), else -1.
   */
  runstate: 0,
  /** A job of the workload on vcpu ended: extra = index into `jobs`. */
  job: 1,
  /** pcpu's rate changed: extra = kHz. */
  frequency: 2,
  /** pcpu went idle: extra = index into `idleStates`; -1: it woke up. */
  idleState: 3,
  /** pcpu joined a pool: extra = index into `pools`; -1: it left its pool or went offline. */
  pcpuPool: 4,
  /** vcpu joined another pool: extra = index into `pools`. */
  vcpuPool: 5,
  /** Scheduler parameters of a domain were set: extra = index into `params`. */
  params: 6,
  /** A change of the experiment was made: extra = index into `changes`. */
  change: 7,
  /** A plugin was ejected: extra = index into `faults`. */
  fault: 8,
});
export type EventKind = (typeof EventKind)[keyof typeof EventKind];

/** A pCPU as it was at the start. */
export interface RecordedPcpu {
  readonly id: number;
  /** Unique in the machine: threads of one core have the same `core`. */
  readonly core: number;
  readonly socket: number;
  readonly node: number;
  /** Rate at the start. */
  readonly mhz: number;
  /** Index of its pool; -1: none. */
  readonly pool: number;
}

/** A cpupool. */
export interface RecordedPool {
  readonly name: string;
  /** The scheduler asked for; an ejection is an event. */
  readonly scheduler: string;
  readonly granularity: string;
}

/** A domain. */
export interface RecordedDomain {
  /** Its name in the run: `hog-1`. */
  readonly name: string;
  /** Its name in the experiment, which several share: `hog`. */
  readonly group: string;
  /** The domain's number in the run. */
  readonly id: number;
  /** workload, pv, pvh, ... */
  readonly type: string;
  /** Index of its pool at the start. */
  readonly pool: number;
  /** Indices of its vCPUs, by their ids. */
  readonly vcpus: readonly number[];
}

/** A vCPU. */
export interface RecordedVcpu {
  /** Index of its domain. */
  readonly domain: number;
  /** Its number in the domain. */
  readonly id: number;
  /** pCPUs of its hard affinity as asked for; null: all. In a pool that has none of them, all of the pool. */
  readonly hard: readonly number[] | null;
  /** pCPUs of its soft affinity as asked for; null: all. */
  readonly soft: readonly number[] | null;
}

/** Scheduler parameters as the scheduler reads them back. */
export interface RecordedParams {
  /** Index of the domain. */
  readonly domain: number;
  /** The domain's; a scheduler whose parameters are those of vCPUs has vCPU 0's here. */
  readonly values: ParamValues;
}

/** A plugin that was ejected. */
export interface RecordedFault {
  readonly plugin: string;
  readonly reason: string;
  /** The state dump that it gave. */
  readonly dump: string;
  readonly kind?: "scheduler" | "device" | "arch" | "governor";
  /** ns of virtual time. */
  readonly at?: number;
  /** `FILE:LINE` of the plugin's that threw, relative to the folder of the command; absent: unknown. */
  readonly where?: string;
}

/** The tables. They are plain JSON. */
export interface RecordingTables {
  /** Name of the experiment. */
  readonly name: string;
  readonly seed: number;
  /** ns until which metrics leave out what happens. */
  readonly warmUp: number;
  /** ns at which the run ended. */
  readonly end: number;
  readonly pcpus: readonly RecordedPcpu[];
  readonly pools: readonly RecordedPool[];
  readonly domains: readonly RecordedDomain[];
  readonly vcpus: readonly RecordedVcpu[];
  /** One each domain first (what it started with), then one an event. */
  readonly params: readonly RecordedParams[];
  /** Shares that the experiment says (by domain, of 1), in place of those that follow from weights and caps. */
  readonly entitlement: readonly number[] | null;
  readonly idleStates: readonly { readonly name: string; readonly exitLatency: number }[];
  /** The experiment's changes, in words. */
  readonly changes: readonly string[];
  readonly faults: readonly RecordedFault[];
}

/** Events by columns. All columns have the same length. */
export interface EventColumns {
  readonly time: Float64Array;
  readonly kind: Uint8Array;
  readonly pcpu: Int16Array;
  readonly vcpu: Int32Array;
  readonly extra: Int32Array;
}

/** Jobs by columns; a job event names a row. Times in ns. */
export interface JobColumns {
  /** When it was released: it could have started. */
  readonly release: Float64Array;
  /** When it should have been done, absolute; Infinity: it has no deadline. */
  readonly deadline: Float64Array;
  /** When it was done (the event's time). */
  readonly end: Float64Array;
}

/** A recording. */
export interface Recording extends RecordingTables {
  readonly events: EventColumns;
  readonly jobs: JobColumns;
}

/** Called for each stretch of time that a vCPU spent in one runstate. `pcpu`: -1 unless it ran. `before`: the runstate it came from, -1: none. */
export type StateVisitor = (
  vcpu: number,
  state: RunState,
  from: number,
  to: number,
  pcpu: number,
  before: RunState | -1,
) => void;

/**
 * Calls `visit` for each stretch in a runstate, in the order of their ends, those of length 0 too (a wait that ended at once); what is under way at
 * the end of the run ends there.
 */
export function forEachState(recording: Recording, visit: StateVisitor): void {
  const { events, vcpus, end } = recording;
  const since = new Float64Array(vcpus.length);
  const state = new Uint8Array(vcpus.length).fill(3);
  const before = new Int8Array(vcpus.length).fill(-1);
  const where = new Int16Array(vcpus.length).fill(-1);
  const { time, kind, pcpu, vcpu, extra } = events;
  for (let i = 0; i < time.length; i++) {
    if (kind[i] !== EventKind.runstate) continue;
    const v = vcpu[i]!;
    const now = time[i]!;
    const from = state[v]! as RunState;
    if (now > 0 || before[v] !== -1) visit(v, from, since[v]!, now, where[v]!, before[v]! as RunState | -1);
    const to = extra[i]! & 3;
    before[v] = from;
    state[v] = to;
    since[v] = now;
    where[v] = to === 0 ? pcpu[i]! : -1;
  }
  for (let v = 0; v < vcpus.length; v++)
    if (end > since[v]!) visit(v, state[v]! as RunState, since[v]!, end, where[v]!, before[v]! as RunState | -1);
}

/** Calls `visit` for each run of a vCPU on a pCPU, in the order of their ends. */
export function forEachRun(
  recording: Recording,
  visit: (vcpu: number, pcpu: number, from: number, to: number) => void,
): void {
  forEachState(recording, (vcpu, state, from, to, pcpu) => {
    if (state === 0) visit(vcpu, pcpu, from, to);
  });
}
