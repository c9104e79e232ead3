/**
 * Load averages: runnable units, averaged over a window with a linear decay, as in Xen's credit2.c (update_runq_load).
 *
 * Fixed point with 18 fraction bits, a window of 2^30 ns, times in steps of 2^10 ns.
 */
import type { Nanoseconds } from "hookvisor";

/** 1.0 of a load. */
export const LOAD_ONE = 2 ** 18;
const STEP = 2 ** 10;
const WINDOW = 2 ** 20; // steps

/** A load that changes by steps, and its average. */
export class LoadAverage {
  /** Average, in LOAD_ONE. */
  average: number;
  /** Present load: runnable units. */
  present = 0;
  #updated: number;

  constructor(now: Nanoseconds, average: number) {
    this.average = average;
    this.#updated = Math.floor(now / STEP);
  }

  /** Brings the average up to `now`; from then on the load is `present + change`. */
  update(now: Nanoseconds, change: number): void {
    const at = Math.floor(now / STEP);
    const passed = at - this.#updated;
    if (passed >= WINDOW) this.average = this.present * LOAD_ONE;
    else if (passed > 0)
      this.average +=
        Math.floor((passed * this.present * LOAD_ONE) / WINDOW) - Math.floor((passed * this.average) / WINDOW);
    if (passed > 0) this.#updated = at;
    this.present += change;
  }
}
