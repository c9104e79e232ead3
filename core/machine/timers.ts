/**
 * Virtual time's timers: a binary heap ordered by (time, order of arming).
 *
 * Invariants: two timers of one instant fire in the order in which they were armed; a cancelled timer never fires;
 * a timer fires once.
 */

/** Virtual time or a duration, in nanoseconds; exact up to 2^53 (104 days). */
export type Nanoseconds = number;

/** A one-shot timer; `cancel` may be called at any time, and again. */
export interface Timer {
  readonly at: Nanoseconds;
  cancel(): void;
}

class Entry implements Timer {
  readonly at: Nanoseconds;
  readonly order: number;
  fire: ((now: Nanoseconds) => void) | null;
  readonly queue: TimerQueue;
  constructor(queue: TimerQueue, at: Nanoseconds, order: number, fire: (now: Nanoseconds) => void) {
    this.queue = queue;
    this.at = at;
    this.order = order;
    this.fire = fire;
  }
  cancel(): void {
    if (this.fire === null) return;
    this.fire = null;
    this.queue.cancelled();
  }
}

/** All timers of one machine. */
export class TimerQueue {
  #heap: Entry[] = [];
  #order = 0;
  #dead = 0;

  /**
   * Arms a timer; a time in the past fires at the next opportunity, a fraction of a nanosecond is rounded up. Virtual time ends at
   * 2^53: a later timer never fires.
   */
  arm(at: Nanoseconds, fire: (now: Nanoseconds) => void): Timer {
    if (!Number.isFinite(at)) throw new RangeError(`A timer's time must be finite, got ${at}.`);
    if (at > Number.MAX_SAFE_INTEGER) return { at, cancel: () => {} };
    const entry = new Entry(this, Math.ceil(at), this.#order++, fire);
    this.#heap.push(entry);
    this.#up(this.#heap.length - 1);
    return entry;
  }

  /** Time of the next timer, or Infinity. */
  get next(): Nanoseconds {
    this.#prune();
    return this.#heap[0]?.at ?? Infinity;
  }

  /** Fires the first timer if it is due at `now`; says whether it did. */
  fireOne(now: Nanoseconds): boolean {
    this.#prune();
    const first = this.#heap[0];
    if (first === undefined || first.at > now) return false;
    this.#pop();
    const fire = first.fire;
    first.fire = null;
    fire?.(first.at);
    return true;
  }

  /** Number of timers armed. */
  get size(): number {
    return this.#heap.length - this.#dead;
  }

  /** Called by an entry; rebuilds the heap when most of it is dead, so that cancelled timers cost no memory. */
  cancelled(): void {
    this.#dead++;
    if (this.#dead > 64 && this.#dead * 2 > this.#heap.length) {
      this.#heap = this.#heap.filter((e) => e.fire !== null).sort((a, b) => a.at - b.at || a.order - b.order);
      this.#dead = 0;
    }
  }

  #prune(): void {
    while (this.#heap[0] !== undefined && this.#heap[0].fire === null) {
      this.#pop();
      this.#dead--;
    }
  }

  #before(a: Entry, b: Entry): boolean {
    return a.at < b.at || (a.at === b.at && a.order < b.order);
  }

  #up(index: number): void {
    const heap = this.#heap;
    const entry = heap[index]!;
    while (index > 0) {
      const parent = (index - 1) >> 1;
      if (!this.#before(entry, heap[parent]!)) break;
      heap[index] = heap[parent]!;
      index = parent;
    }
    heap[index] = entry;
  }

  #pop(): void {
    const heap = this.#heap;
    const last = heap.pop()!;
    if (heap.length === 0) return;
    let index = 0;
    for (;;) {
      let child = 2 * index + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && this.#before(heap[child + 1]!, heap[child]!)) child++;
      if (!this.#before(heap[child]!, last)) break;
      heap[index] = heap[child]!;
      index = child;
    }
    heap[index] = last;
  }
}
