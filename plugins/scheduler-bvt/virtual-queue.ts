/**
 * The run queue of one pCPU, by effective virtual time, and the pCPU's system virtual time.
 *
 * Invariants: units that are runnable and do not run are in both orders; the system virtual time never decreases.
 */
import type { Nanoseconds, SchedulerPcpu } from "hookvisor";
import { OrderedQueue } from "../lib-runqueue/index.ts";
import type { BvtUnit } from "./unit.ts";

export class VirtualQueue {
  readonly pcpu: SchedulerPcpu;
  readonly #byEvt = new OrderedQueue<BvtUnit>();
  readonly #byAvt = new OrderedQueue<BvtUnit>();
  running: BvtUnit | null = null;
  /** The running unit has to prove that it is first: it yielded, or one that woke is before it. */
  contested = false;
  /** When doSchedule comes at the latest. */
  expires: Nanoseconds = Infinity;
  /** Units whose home this is, awake or not. */
  readonly members = new Set<BvtUnit>();
  #svt = 0;

  constructor(pcpu: SchedulerPcpu) {
    this.pcpu = pcpu;
  }

  add(one: BvtUnit): void {
    this.#byEvt.add(one, one.evt);
    this.#byAvt.add(one, one.avt);
  }

  /** False: it was not queued. */
  remove(one: BvtUnit): boolean {
    this.#byAvt.remove(one);
    return this.#byEvt.remove(one);
  }

  first(): BvtUnit | null {
    return this.#byEvt.first();
  }

  /** System virtual time: the lowest actual virtual time of what is runnable; the running unit has been charged. */
  get svt(): number {
    const lowest = Math.min(this.#byAvt.firstKey(), this.running?.avt ?? Infinity);
    return lowest < Infinity && lowest > this.#svt ? lowest : this.#svt;
  }

  /** Keeps the system virtual time before a unit leaves. */
  keepSvt(): void {
    this.#svt = this.svt;
  }

  queued(): Iterable<BvtUnit> {
    return this.#byEvt;
  }
}
