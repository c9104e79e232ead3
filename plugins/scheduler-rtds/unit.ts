/**
 * What rtds knows of a unit: a deferrable server.
 *
 * Invariants: 0 <= left <= budget; `depleted` exactly while the budget is used up and no extra time is allowed; `queued` never while it runs.
 */
import type { Nanoseconds, SchedulingUnit } from "hookvisor";
import { serverParams } from "./params.ts";
import type { Group, Place } from "./ready-queue.ts";

export class RtUnit {
  readonly unit: SchedulingUnit;
  /** In force since the last replenishment. */
  period: Nanoseconds = serverParams.period.default;
  budget: Nanoseconds = serverParams.budget.default;
  /** In force from the next replenishment on. */
  nextPeriod: Nanoseconds = serverParams.period.default;
  nextBudget: Nanoseconds = serverParams.budget.default;
  extratime: boolean = serverParams.extratime.default;
  /** 0 within the budget; each refill by extra time raises it by one. */
  level = 0;
  /** End of the present period; 0: it has not begun one. */
  deadline: Nanoseconds = 0;
  /** Budget left at this level. */
  left: Nanoseconds = 0;
  depleted = false;
  /** Run time up to which it has been charged. */
  charged: Nanoseconds = 0;
  /** When it was charged last: who waited longest comes first among those replenished at one instant. */
  ranAt: Nanoseconds = -1;
  queued = false;
  /** In the replenishment queue. */
  arrival = 0;
  queuedLevel = 0;
  group: Group | null = null;
  /** Where it runs. */
  place: Place | null = null;

  constructor(unit: SchedulingUnit) {
    this.unit = unit;
    this.charged = unit.runTime;
  }

  /**
   * A new period with a full budget: the first whose end is after `now`, on the grid of deadlines. What ran before belongs to the period
   * before and is not charged. The parameters set last come into force.
   */
  replenish(now: Nanoseconds): void {
    const period = this.nextPeriod;
    const { deadline } = this;
    this.period = period;
    this.budget = this.nextBudget;
    this.deadline =
      deadline + period > now ? deadline + period : deadline + (Math.floor((now - deadline) / period) + 1) * period;
    this.left = this.budget;
    this.level = 0;
    this.depleted = false;
    this.charged = this.unit.runTime;
  }

  /** Takes what it ran since the last charge from its budget; used up, it goes a level down with a new one, or is depleted. */
  charge(now: Nanoseconds): void {
    const { runTime } = this.unit;
    const ran = runTime - this.charged;
    if (ran <= 0) return;
    this.charged = runTime;
    this.ranAt = now;
    this.left -= ran;
    if (this.left > 0) return;
    this.left = 0;
    this.depleted = true;
    if (this.extratime) this.refill();
  }

  /** Extra time: a depleted unit gets a budget at the next lower priority level. */
  refill(): void {
    this.level++;
    this.left = this.budget;
    this.depleted = false;
  }

  /** Something is left of the budget, at whatever level. */
  get eligible(): boolean {
    return this.left > 0;
  }
}
