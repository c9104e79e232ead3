/**
 * A counter that is the sum of changes told by all pCPUs, whose clocks differ: changes are put in order of time before they are summed.
 *
 * Invariants: values are handed over in order of time, one for each instant, and only where it differs from the one before. A change that comes later
 * than `SETTLED` after its time counts from the newest value handed over.
 */
import type { Nanoseconds } from "hookvisor";

const SETTLED: Nanoseconds = 100_000_000;
const BATCH = 1 << 14;

export class SummedCounter {
  readonly #emit: (value: number, now: Nanoseconds) => void;
  #times = new Float64Array(BATCH);
  #deltas = new Int8Array(BATCH);
  #length = 0;
  #limit = BATCH;
  #value = 0;
  #told = 0;
  /** Everything before it is handed over. */
  #done: Nanoseconds = 0;

  constructor(emit: (value: number, now: Nanoseconds) => void) {
    this.#emit = emit;
  }

  /** Changes the sum by -128 to 127. */
  add(delta: number, now: Nanoseconds): void {
    if (this.#length >= this.#limit) this.#settle(this.#times[this.#length - 1]! - SETTLED);
    if (this.#length === this.#times.length) this.#grow();
    const time = Math.max(now, this.#done);
    let at = this.#length;
    while (at > 0 && this.#times[at - 1]! > time) at--;
    if (at < this.#length) {
      this.#times.copyWithin(at + 1, at, this.#length);
      this.#deltas.copyWithin(at + 1, at, this.#length);
    }
    this.#times[at] = time;
    this.#deltas[at] = delta;
    this.#length++;
  }

  /** Hands over what is left. */
  finish(): void {
    this.#settle(Number.POSITIVE_INFINITY);
  }

  /** Hands over what is before a time. */
  #settle(before: Nanoseconds): void {
    let at = 0;
    for (; at < this.#length && this.#times[at]! < before; at++) {
      this.#value += this.#deltas[at]!;
      const time = this.#times[at]!;
      if (at + 1 < this.#length && this.#times[at + 1] === time) continue;
      if (this.#value !== this.#told) this.#emit(this.#value, time);
      this.#told = this.#value;
    }
    this.#times.copyWithin(0, at, this.#length);
    this.#deltas.copyWithin(0, at, this.#length);
    this.#length -= at;
    this.#limit = this.#length + BATCH;
    if (before < Number.POSITIVE_INFINITY) this.#done = Math.max(this.#done, before);
  }

  #grow(): void {
    const times = new Float64Array(this.#times.length * 2);
    times.set(this.#times);
    this.#times = times;
    const deltas = new Int8Array(this.#deltas.length * 2);
    deltas.set(this.#deltas);
    this.#deltas = deltas;
  }
}
