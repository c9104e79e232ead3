/**
 * What sedf knows of a unit: its slice and period, the present period, its claim to extra time.
 *
 * Invariants: begin < deadline; `used` is what it ran of the slice of the period [begin, deadline); a unit with a slice that is awake is in
 * the run queue (its period has begun) or in the wait queue (it has not), never in both; one without a slice is in neither.
 */
import type { Nanoseconds, SchedulingUnit } from "hookvisor";
import type { EdfQueue } from "./edf-queue.ts";
import { DOMAIN_0, serverParams } from "./params.ts";

/** How a unit runs: in its slice, in extra time for what a short block cost it, in extra time by weight; or it does not run. */
export type Mode = "slice" | "penalty" | "extra" | null;

export class SedfUnit {
  readonly unit: SchedulingUnit;
  /** What was asked for; a weight above 0 overrides it. */
  setPeriod: Nanoseconds = serverParams.period.default;
  setSlice: Nanoseconds = serverParams.slice.default;
  weight: number = serverParams.weight.default;
  extratime: boolean = serverParams.extratime.default;
  extraweight: number = serverParams.extraweight.default;
  /** What follows from it and from the others' weights; in force from the next period on. */
  nextPeriod: Nanoseconds;
  nextSlice: Nanoseconds;
  /** In force. */
  period: Nanoseconds;
  slice: Nanoseconds;
  begin: Nanoseconds = 0;
  deadline: Nanoseconds = 0;
  used: Nanoseconds = 0;
  /** What the last short block cost it and extra time has not made up for; 0: nothing. */
  lost: Nanoseconds = 0;
  /** What is left of the turn that makes up for it. */
  turn: Nanoseconds = 0;
  awake = false;
  /** Pass that a restored unit had above its queue's, until it wakes; null: none. */
  pass: number | null = null;
  blockedAt: Nanoseconds = 0;
  /** It was awake when its state was saved: the next wake ends no block. */
  resumes = false;
  mode: Mode = null;
  /** Run time up to which it has been charged. */
  charged: Nanoseconds;
  /** Its pCPU; null: the pool has none. */
  home: EdfQueue | null = null;

  constructor(unit: SchedulingUnit) {
    this.unit = unit;
    this.charged = unit.runTime;
    if (unit.domain.id === 0) {
      this.setPeriod = DOMAIN_0.period;
      this.setSlice = DOMAIN_0.slice;
    }
    this.period = this.nextPeriod = this.setPeriod;
    this.slice = this.nextSlice = this.setSlice;
  }

  /** A full slice in a period that begins now, of the length set last. */
  startPeriod(now: Nanoseconds): void {
    this.period = this.nextPeriod;
    this.slice = this.nextSlice;
    this.begin = now;
    this.deadline = now + this.period;
    this.used = 0;
  }

  /** The slice is used up, or what is left of it forfeited: goes on to the next period. What it ran too long is charged there. */
  endSlice(): void {
    const overrun = Math.max(0, this.used - this.slice);
    this.startPeriod(this.deadline);
    this.used = overrun;
  }

  /** Its period is over and the slice is void: the period on the same grid that contains `now`. */
  catchUp(now: Nanoseconds): void {
    const missed = Math.floor((now - this.deadline) / this.nextPeriod);
    this.startPeriod(this.deadline + missed * this.nextPeriod);
  }

  /** What a quantum of extra time costs: the lower, the more it gets (Xen: 2^17 / extraweight, where a slice of the whole period counts 128). */
  get score(): number {
    if (this.extraweight > 0) return 2 ** 17 / this.extraweight;
    return this.slice > 0 ? (this.period * 1024) / this.slice : 2 ** 17;
  }
}
