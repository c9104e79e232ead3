/**
 * The queues of one pCPU: units in their periods by deadline, units that wait for a period by its begin, and two levels of extra time.
 *
 * Extra time by weight is a stride scheduler: a unit's pass grows by its score for each quantum it has run, the lowest pass is next. Xen
 * takes the score of whoever ran from everybody else's instead, which is the same order and a scan.
 * Invariants: only units that are awake are queued; what runs in its slice stays in `ready`, what runs in extra time in its queue.
 */
import type { Nanoseconds, SchedulerPcpu } from "hookvisor";
import { OrderedQueue } from "../lib-runqueue/index.ts";
import { EXTRA_QUANTUM } from "./params.ts";
import type { SedfUnit } from "./unit.ts";

export class EdfQueue {
  readonly pcpu: SchedulerPcpu;
  /** Units whose period has begun and whose slice is not used up, by deadline. */
  readonly ready = new OrderedQueue<SedfUnit>();
  /** Units with a slice whose next period has not begun, by its begin. */
  readonly waiting = new OrderedQueue<SedfUnit>();
  /** Xen's L0: units that a short block has cost something, by period / loss. */
  readonly penalty = new OrderedQueue<SedfUnit>();
  /** Xen's L1: units that want extra time, by pass. */
  readonly extra = new OrderedQueue<SedfUnit>();
  running: SedfUnit | null = null;
  /** When doSchedule comes at the latest. */
  expires: Nanoseconds = Infinity;
  /** Every unit whose home this is, awake or not. */
  readonly members = new Set<SedfUnit>();
  /** Members with a weight. */
  weighted = 0;
  /** Pass of the unit that had extra time last. */
  #pass = 0;

  constructor(pcpu: SchedulerPcpu) {
    this.pcpu = pcpu;
  }

  /** Takes a unit out of all queues. */
  remove(one: SedfUnit): void {
    this.ready.remove(one);
    this.waiting.remove(one);
    this.penalty.remove(one);
    this.extra.remove(one);
  }

  /** Queues a unit with a slice by its present period, or the next if the slice is used up. */
  addPeriod(one: SedfUnit, now: Nanoseconds): void {
    this.ready.remove(one);
    this.waiting.remove(one);
    while (one.slice > 0 && one.used >= one.slice) one.endSlice();
    if (one.slice === 0) return;
    if (one.begin > now) this.waiting.add(one, one.begin);
    else this.ready.add(one, one.deadline);
  }

  /** A unit that wants extra time, one quantum behind the one that had it last. */
  addExtra(one: SedfUnit): void {
    this.extra.add(one, this.#pass + (one.pass ?? one.score));
    one.pass = null;
  }

  /** How far a unit is from its turn of extra time; null: it wants none. */
  extraLag(one: SedfUnit): number | null {
    const key = this.extra.keyOf(one);
    return key === undefined ? one.pass : key - this.#pass;
  }

  addPenalty(one: SedfUnit, period: Nanoseconds, lost: Nanoseconds): void {
    one.lost = lost;
    this.penalty.add(one, (period * 1024) / lost);
  }

  /** A unit has had so much extra time. */
  chargeExtra(one: SedfUnit, ran: Nanoseconds): void {
    const pass = this.extra.keyOf(one);
    if (pass === undefined) return;
    if (pass > this.#pass) this.#pass = pass;
    this.extra.add(one, this.#pass + (one.score * ran) / EXTRA_QUANTUM);
  }

  /** Takes to the ready queue whose period has begun, and on to their next period whose deadline has passed. */
  update(now: Nanoseconds): void {
    const { ready, waiting } = this;
    while (waiting.firstKey() <= now) {
      const one = waiting.shift()!;
      ready.add(one, one.deadline);
    }
    while (ready.firstKey() <= now) {
      const one = ready.first()!;
      one.catchUp(now);
      this.addPeriod(one, now);
    }
  }
}
