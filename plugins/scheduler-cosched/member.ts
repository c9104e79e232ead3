/**
 * What relaxed co-scheduling knows of a unit (Member) and of a domain (Gang), and the two orders that it keeps: first in, first out for turns
 * (Lane), least progress first within a domain (ByProgress).
 *
 * Invariants: a member that waits is in its lane and in its gang's `waiting`; one that is stopped is in `stopped` only; one that runs is in
 * `running` only; progress of a member that does not run changes only while it is in none of them.
 */
import type { Nanoseconds, SchedulingUnit } from "hookvisor";

export const State = Object.freeze({ asleep: 0, waiting: 1, stopped: 2, running: 3 });
export type State = (typeof State)[keyof typeof State];

/** A unit. */
export class Member {
  readonly unit: SchedulingUnit;
  readonly gang: Gang;
  lane: Lane;
  state: State = State.asleep;
  /** Time that it ran or was blocked, as far as it counts, up to the run time `charged`. */
  progress: Nanoseconds = 0;
  charged: Nanoseconds;
  /** What is left of its turn. */
  turn: Nanoseconds = 0;
  /** The progress at which its present slice ends. */
  reach: Nanoseconds = 0;
  /** When it fell asleep; null: it has never been awake. */
  asleepSince: Nanoseconds | null = null;
  /** It has given way since it was last chosen. */
  yields = false;
  /** Its place among all that wait; `kept`: from a saved state, still to be used. */
  order = 0;
  kept = false;
  /** Its neighbours in the lane. */
  ahead: Member | null = null;
  behind: Member | null = null;
  /** Its place in ByProgress, or -1. */
  position = -1;

  constructor(unit: SchedulingUnit, gang: Gang, lane: Lane) {
    this.unit = unit;
    this.gang = gang;
    this.lane = lane;
    this.charged = unit.runTime;
  }

  /** Progress up to the present moment; of one that runs it grows. */
  get progressNow(): Nanoseconds {
    return this.state === State.running ? this.progress + this.unit.runTime - this.charged : this.progress;
  }

  /** Counts what it ran since the last time. */
  charge(): void {
    const { runTime } = this.unit;
    const ran = runTime - this.charged;
    this.charged = runTime;
    this.progress += ran;
    this.turn -= ran;
  }
}

/** The units of one domain. */
export class Gang {
  weight: number;
  size = 0;
  readonly waiting = new ByProgress();
  readonly stopped = new ByProgress();
  readonly running = new Set<Member>();

  constructor(weight: number) {
    this.weight = weight;
  }

  /** Least progress of those that are awake; Infinity: none is. */
  get slowest(): Nanoseconds {
    let slowest = Math.min(this.waiting.least, this.stopped.least);
    for (const one of this.running) slowest = Math.min(slowest, one.progressNow);
    return slowest;
  }
}

/** Those that wait and have the same hard affinity, first in, first out. */
export class Lane {
  readonly key: string;
  readonly pcpus: readonly number[];
  /** Units with this affinity, whether they wait or not. */
  members = 0;
  first: Member | null = null;
  #last: Member | null = null;

  constructor(key: string, pcpus: readonly number[]) {
    this.key = key;
    this.pcpus = pcpus;
  }

  /** Puts a member where its `order` says; the highest costs nothing to place. */
  insert(one: Member): void {
    let ahead = this.#last;
    while (ahead !== null && ahead.order > one.order) ahead = ahead.ahead;
    const behind = ahead === null ? this.first : ahead.behind;
    one.ahead = ahead;
    one.behind = behind;
    if (ahead === null) this.first = one;
    else ahead.behind = one;
    if (behind === null) this.#last = one;
    else behind.ahead = one;
  }

  remove(one: Member): void {
    if (one.ahead === null) this.first = one.behind;
    else one.ahead.behind = one.behind;
    if (one.behind === null) this.#last = one.ahead;
    else one.behind.ahead = one.ahead;
    one.ahead = one.behind = null;
  }
}

/** Members by progress, then by the order in which they came: a binary heap that knows where each is. */
export class ByProgress {
  readonly #heap: Member[] = [];

  get first(): Member | null {
    return this.#heap[0] ?? null;
  }

  /** Progress of the first; Infinity: there is none. */
  get least(): Nanoseconds {
    return this.#heap[0]?.progress ?? Infinity;
  }

  /** All of them, in no order. */
  get members(): readonly Member[] {
    return this.#heap;
  }

  add(one: Member): void {
    this.#heap.push(one);
    this.#up(one, this.#heap.length - 1);
  }

  remove(one: Member): void {
    const { position } = one;
    one.position = -1;
    const last = this.#heap.pop()!;
    if (last === one) return;
    this.#up(last, position);
    this.#down(last, last.position);
  }

  #up(one: Member, from: number): void {
    const heap = this.#heap;
    let at = from;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      const above = heap[parent]!;
      if (!before(one, above)) break;
      heap[at] = above;
      above.position = at;
      at = parent;
    }
    heap[at] = one;
    one.position = at;
  }

  #down(one: Member, from: number): void {
    const heap = this.#heap;
    let at = from;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && before(heap[child + 1]!, heap[child]!)) child++;
      const below = heap[child]!;
      if (!before(below, one)) break;
      heap[at] = below;
      below.position = at;
      at = child;
    }
    heap[at] = one;
    one.position = at;
  }
}

function before(a: Member, b: Member): boolean {
  return a.progress < b.progress || (a.progress === b.progress && a.order < b.order);
}
