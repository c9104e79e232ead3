/**
 * A first-in, first-out queue of units with a cheap way out of its middle: a doubly linked list.
 *
 * Invariants: a place is in one queue at most, and in it once; every operation takes the same time, however long the queue is.
 */
import type { SchedulingUnit } from "hookvisor";

/** A unit's place: in the queue, or beside it. */
export class Place {
  readonly unit: SchedulingUnit;
  queued = false;
  ahead: Place | null = null;
  behind: Place | null = null;

  constructor(unit: SchedulingUnit) {
    this.unit = unit;
  }
}

export class Queue {
  first: Place | null = null;
  #last: Place | null = null;

  /** To the end; a place that is in the queue stays where it is. */
  push(place: Place): void {
    if (place.queued) return;
    place.queued = true;
    place.ahead = this.#last;
    if (this.#last === null) this.first = place;
    else this.#last.behind = place;
    this.#last = place;
  }

  /** Out of the queue, wherever it is; nothing if it is not in it. */
  delete(place: Place): void {
    if (!place.queued) return;
    place.queued = false;
    if (place.ahead === null) this.first = place.behind;
    else place.ahead.behind = place.behind;
    if (place.behind === null) this.#last = place.ahead;
    else place.behind.ahead = place.ahead;
    place.ahead = place.behind = null;
  }

  /** From the first to the last. */
  *[Symbol.iterator](): Iterator<SchedulingUnit> {
    for (let place = this.first; place !== null; place = place.behind) yield place.unit;
  }
}
