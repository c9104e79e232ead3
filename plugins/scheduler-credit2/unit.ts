/**
 * What credit2 knows of a unit and of a domain.
 *
 * Credit is kept relative to the `epoch` of the unit's runqueue, which a reset raises for all units at once: a unit's credit is
 * min(raw + epoch, CREDIT_CLIP), so that a reset costs nothing for each unit that waits or sleeps.
 * Invariants: a unit burns what it ran (unit.runTime) times max_weight / weight, to the last fraction (residual); credit is never
 * below CREDIT_MIN.
 */
import type { Domain, Nanoseconds, SchedulingUnit, Timer } from "hookvisor";
import { LOAD_ONE, LoadAverage } from "./load.ts";
import type { Runqueue, WaitClass } from "./runqueue.ts";

/** Credit at start, and what a reset adds: 10 ms at the weight that burns slowest. */
export const CREDIT_INIT = 10_000_000;
/** No unit is poorer. */
export const CREDIT_MIN = -CREDIT_INIT;
/** What an idle pCPU counts as: below every unit. */
export const IDLE_CREDIT = CREDIT_MIN - 1;
/** Shortest slice; also what a unit may keep over CREDIT_INIT at a reset. */
export const MIN_TIMER: Nanoseconds = 500_000;
/** Credit is at most this after a reset. */
export const CREDIT_CLIP = CREDIT_INIT + MIN_TIMER;

/** A domain: parameters, and the budget of its cap. */
export interface Credit2Domain {
  readonly domain: Domain;
  readonly units: Set<Credit2Unit>;
  weight: number;
  /** Per cent of a pCPU; 0: none. */
  cap: number;
  /** Budget of a period. */
  total: Nanoseconds;
  /** What is left of this period's for units to take; negative: overrun. */
  budget: Nanoseconds;
  /** What a unit takes at once. */
  quota: Nanoseconds;
  replenishAt: Nanoseconds;
  timer: Timer | null;
  /** Units without budget, which may run once there is some; in the order in which they ran out. */
  readonly parked: Set<Credit2Unit>;
}

/** A unit. */
export class Credit2Unit {
  readonly unit: SchedulingUnit;
  readonly domain: Credit2Domain;
  /** The runqueue that it belongs to, runnable or not. */
  queue: Runqueue;
  /** Index among the runqueue's members. */
  index = 0;
  /** Slot of the runqueue's pCPU that it runs on, or ran on last. */
  slot = 0;
  /** Slots of the runqueue where it may, and where it should run (0: no wish among those). */
  mask = 0;
  soft = 0;
  /** Where it waits; null: it does not. */
  waiting: WaitClass | null = null;
  /** Order of arrival among those that wait. */
  sequence = 0;
  /** Credit minus the runqueue's epoch, before clipping. */
  raw = 0;
  residual = 0;
  readonly load: LoadAverage;
  /** It counts as runnable in the loads. */
  counted = false;
  /** It gives way at the next doSchedule. */
  yielding = false;
  /** It left its pCPU although it could run: contextSaved puts it back. */
  requeue = false;
  /** Runqueue that it moves to once it has left its pCPU. */
  migrateTo: Runqueue | null = null;
  /** Slot of the pCPU that was asked to take it; -1: none. */
  reserved = -1;
  /** Stopped by its domain's cap. */
  parked = false;
  /** It has been parked since it last ran. */
  waitedForBudget = false;
  /** What it may still run of its domain's budget; meaningless without a cap. */
  budget: Nanoseconds = 0;
  /** Its run time when its present run began. */
  ranBefore: Nanoseconds;
  /** A time since when it ran, at most, what it has not burned yet. */
  burntAt: Nanoseconds = 0;
  #burnt: Nanoseconds;

  constructor(unit: SchedulingUnit, domain: Credit2Domain, queue: Runqueue, now: Nanoseconds) {
    this.unit = unit;
    this.domain = domain;
    this.queue = queue;
    this.load = new LoadAverage(now, LOAD_ONE / 2);
    this.ranBefore = unit.runTime;
    this.#burnt = unit.runTime;
  }

  get credit(): number {
    const credit = this.raw + this.queue.epoch;
    return credit > CREDIT_CLIP ? CREDIT_CLIP : credit;
  }

  set credit(credit: number) {
    this.raw = credit - this.queue.epoch;
  }

  /** Time of its present run. */
  get ran(): Nanoseconds {
    return this.unit.runTime - this.ranBefore;
  }

  /** Charges what it ran since the last call. */
  burn(): void {
    this.burnTo(this.unit.runTime);
  }

  /** The same when its run time is known. */
  burnTo(runTime: Nanoseconds): void {
    const time = runTime - this.#burnt;
    if (time <= 0) return;
    this.#burnt = runTime;
    const { weight, cap } = this.domain;
    const { maxWeight } = this.queue;
    let burnt = time;
    if (weight !== maxWeight || this.residual !== 0) {
      // In two parts, so that every product stays exact.
      const whole = Math.floor(time / weight);
      const rest = (time - whole * weight) * maxWeight + this.residual;
      const more = Math.floor(rest / weight);
      burnt = whole * maxWeight + more;
      this.residual = rest - more * weight;
    }
    const credit = this.credit - burnt;
    this.credit = credit < CREDIT_MIN ? CREDIT_MIN : credit;
    if (cap !== 0) this.budget -= time;
  }

  /** Less credit than this it cannot have at `now`, while it runs: a cheap bound. */
  leastCredit(now: Nanoseconds): number {
    const { queue } = this;
    return this.credit - ((now - this.burntAt) * queue.maxWeight) / this.domain.weight;
  }

  /** How long it can run on so much credit. */
  timeFor(credit: number): Nanoseconds {
    return Math.ceil((credit * this.domain.weight) / this.queue.maxWeight);
  }
}
