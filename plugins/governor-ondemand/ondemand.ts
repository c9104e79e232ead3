/**
 * The rate follows how busy the pCPU was in the last sample, as in Xen's and Linux's cpufreq governor of that name.
 *
 * Source of fact: Xen, drivers/cpufreq/cpufreq_ondemand.c. Every `samplingRate` (at multiples of it): load = 100 * busy / elapsed, cut to a whole
 * percent. If load * rate > upThreshold * rate, the highest rate. If load < upThreshold - 10, the lowest rate at which the load would
 * be upThreshold - 10 at most. Else the rate stays. A sample of less than 100 us is passed over.
 */
import type { Governor, GovernorHost, Nanoseconds } from "hookvisor";
import { checkParameter, highestRate, lowestRate, MenuIdle, rateAtLeast, Sampler } from "../lib-governor/index.ts";

/** Parameters; absent ones have Xen's defaults. */
export interface OndemandParameters {
  /** Percent of busy time above which the highest rate is set: 11 to 100. Default 80. */
  readonly upThreshold?: number;
  /** Nanoseconds between samples: 10 ms to 10 s. Default 20 ms (Xen: 1000 times the transition latency, 20 ms at least). */
  readonly samplingRate?: Nanoseconds;
}

const MS = 1_000_000;
/** Points below upThreshold at which the load is to be after the rate was lowered. */
const DOWN_DIFFERENTIAL = 10;
/** Shorter samples say nothing (MIN_DBS_INTERVAL). */
const SHORTEST_SAMPLE: Nanoseconds = 100_000;

export class Ondemand implements Governor {
  readonly #host: GovernorHost;
  readonly #up: number;
  readonly #idle: MenuIdle;
  readonly #sampler: Sampler;
  #lastTime: Nanoseconds;
  #lastBusy: Nanoseconds;
  #load = 0;

  constructor(host: GovernorHost, { upThreshold = 80, samplingRate = 20 * MS }: OndemandParameters = {}) {
    this.#host = host;
    this.#up = checkParameter("ondemand", "upThreshold", upThreshold, 11, 100);
    checkParameter("ondemand", "samplingRate", samplingRate, 10 * MS, 10_000 * MS);
    this.#idle = new MenuIdle(host);
    this.#sampler = new Sampler(host, samplingRate, (now) => this.#sample(now));
    this.#lastTime = host.now();
    this.#lastBusy = host.busyTime();
  }

  busy(now: Nanoseconds): void {
    this.#idle.busy(now);
    this.#sampler.busy(now);
  }

  idle(now: Nanoseconds, expected: Nanoseconds): number {
    const next = this.#sampler.idle(now, expected);
    return this.#idle.idle(now, next);
  }

  #sample(now: Nanoseconds): void {
    const host = this.#host;
    const elapsed = now - this.#lastTime;
    if (elapsed < SHORTEST_SAMPLE) return;
    const busyTime = host.busyTime();
    const busy = Math.min(busyTime - this.#lastBusy, elapsed);
    this.#lastTime = now;
    this.#lastBusy = busyTime;
    const load = Math.floor((100 * busy) / elapsed);
    this.#load = load;
    const { frequency, frequencies } = host;
    const highest = highestRate(frequencies);
    if (load > this.#up) {
      if (frequency < highest) host.setFrequency(highest);
    } else if (frequency > lowestRate(frequencies) && load < this.#up - DOWN_DIFFERENTIAL)
      host.setFrequency(rateAtLeast(frequencies, Math.floor((load * frequency) / (this.#up - DOWN_DIFFERENTIAL))));
  }

  dump(): string {
    return `${this.#host.frequency} MHz, load of the last sample ${this.#load} %; ${this.#idle.dump()}`;
  }
}
