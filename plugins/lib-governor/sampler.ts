/**
 * A timer for governors that look at the load now and then: it fires at multiples of its period while the pCPU is busy, and sleeps with it.
 *
 * That is Linux's deferrable timer: an idle pCPU is not woken for a sample, the one that is due is taken when the pCPU is busy again. So an idle
 * machine has nothing to wait for.
 */
import type { GovernorHost, Nanoseconds, Timer } from "hookvisor";

export class Sampler {
  readonly #host: GovernorHost;
  readonly #period: Nanoseconds;
  readonly #sample: (now: Nanoseconds) => void;
  #timer: Timer | null = null;
  #due: Nanoseconds;

  constructor(host: GovernorHost, period: Nanoseconds, sample: (now: Nanoseconds) => void) {
    this.#host = host;
    this.#period = period;
    this.#sample = sample;
    this.#due = this.#after(host.now());
  }

  /** The next multiple of the period. */
  #after(now: Nanoseconds): Nanoseconds {
    return (Math.floor(now / this.#period) + 1) * this.#period;
  }

  /** The pCPU is busy: takes a sample that is overdue. */
  busy(now: Nanoseconds): void {
    if (now >= this.#due) {
      this.#due = this.#after(now);
      this.#sample(now);
    }
    if (this.#timer === null) this.#arm();
  }

  /** It idles: the timer is taken away. Answers the time until the next timer of others: `expected`, or Infinity where that was this one. */
  idle(now: Nanoseconds, expected: Nanoseconds): Nanoseconds {
    const timer = this.#timer;
    if (timer === null) return expected;
    this.#timer = null;
    timer.cancel();
    return timer.at - now <= expected ? Number.POSITIVE_INFINITY : expected;
  }

  #arm(): void {
    this.#timer = this.#host.timer(this.#due, (now) => {
      this.#due = this.#after(now);
      this.#arm();
      this.#sample(now);
    });
  }
}
