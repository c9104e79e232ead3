/**
 * What relaxed co-scheduling knows of a unit (Member) and of a domain (Gang), and the two orders that it keeps: least virtual time
 * first for turns (Lane), least progress first within a domain (ByProgress).
 *
 * Invariants: a member that waits is in its lane and in its gang's `waiting`; one that is stopped is in `stopped` only; one that runs is in
 * `running` only; progress and virtual time of a member change only while it waits nowhere.
 */
import type { Nanoseconds, SchedulingUnit } from "hookvisor";

/** The weight at which virtual time goes as fast as time. */
export const NORMAL_WEIGHT = 256;

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
  /** Its virtual time: what it ran, over its weight, never far behind others'. */
  time = 0;
  /** What is left of its turn. */
  turn: Nanoseconds = 0;
  /** The progress at which its present slice ends. */
  reach: Nanoseconds = 0;
  /** When it fell asleep; null: it has never been awake. */
  asleepSince: Nanoseconds | null = null;
  /** It has given way since it was last chosen. */
  yields = false;
  /** Among those with the same time or progress: rises with each queueing. `kept`: from a saved state, still to be used. */
  order = 0;
  kept = false;
  /** Its places in a Lane and in a ByProgress, or -1. */
  inLane = -1;
  inGang = -1;

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

  /** Virtual time up to the present moment. */
  get timeNow(): number {
    return this.time + ((this.progressNow - this.progress) * NORMAL_WEIGHT) / this.gang.weight;
  }

  /** Counts what it ran since the last time. */
  charge(): void {
    const { runTime } = this.unit;
    const ran = runTime - this.charged;
    this.charged = runTime;
    this.progress += ran;
    this.turn -= ran;
    this.time += (ran * NORMAL_WEIGHT) / this.gang.weight;
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

/** Members in an order: a binary heap that knows where each is. */
abstract class Heap {
  readonly #heap: Member[] = [];

  get first(): Member | null {
    return this.#heap[0] ?? null;
  }

  /** All of them, in no order. */
  get members(): readonly Member[] {
    return this.#heap;
  }

  abstract before(a: Member, b: Member): boolean;
  abstract placeOf(one: Member): number;
  abstract put(one: Member, place: number): void;

  add(one: Member): void {
    this.#heap.push(one);
    this.#up(one, this.#heap.length - 1);
  }

  remove(one: Member): void {
    const place = this.placeOf(one);
    this.put(one, -1);
    const last = this.#heap.pop()!;
    if (last === one) return;
    this.#up(last, place);
    this.#down(last, this.placeOf(last));
  }

  #up(one: Member, from: number): void {
    const heap = this.#heap;
    let at = from;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      const above = heap[parent]!;
      if (!this.before(one, above)) break;
      heap[at] = above;
      this.put(above, at);
      at = parent;
    }
    heap[at] = one;
    this.put(one, at);
  }

  #down(one: Member, from: number): void {
    const heap = this.#heap;
    let at = from;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && this.before(heap[child + 1]!, heap[child]!)) child++;
      const below = heap[child]!;
      if (!this.before(below, one)) break;
      heap[at] = below;
      this.put(below, at);
      at = child;
    }
    heap[at] = one;
    this.put(one, at);
  }
}

/** Those that wait and have the same hard affinity: by virtual time, then first in, first out. */
export class Lane extends Heap {
  readonly key: string;
  readonly pcpus: readonly number[];
  /** Units with this affinity, whether they wait or not. */
  size = 0;

  constructor(key: string, pcpus: readonly number[]) {
    super();
    this.key = key;
    this.pcpus = pcpus;
  }

  override before(a: Member, b: Member): boolean {
    return a.time < b.time || (a.time === b.time && a.order < b.order);
  }
  override placeOf(one: Member): number {
    return one.inLane;
  }
  override put(one: Member, place: number): void {
    one.inLane = place;
  }
}

/** Members of a gang by progress, then first in, first out. */
export class ByProgress extends Heap {
  /** Progress of the first; Infinity: there is none. */
  get least(): Nanoseconds {
    return this.first?.progress ?? Infinity;
  }

  override before(a: Member, b: Member): boolean {
    return a.progress < b.progress || (a.progress === b.progress && a.order < b.order);
  }
  override placeOf(one: Member): number {
    return one.inGang;
  }
  override put(one: Member, place: number): void {
    one.inGang = place;
  }
}
