/**
 * The rate follows the scheduler's load, as Linux's cpufreq governor of that name does.
 *
 * - Utilisation of the pCPU: the share of time that it is busy, scaled by rate over highest rate (a busy second at half the rate is half
 *   the work), averaged with a half-life of 32 ms (PELT).
 * - Where more vCPUs are runnable in the pool than it has pCPUs, the utilisation is multiplied by that ratio: work waits.
 * - rate = 1.25 * highest rate * utilisation, at most the highest; of the machine's rates the lowest that is not below it.
 * - Looked at when the pCPU becomes busy or idle, and every 4 ms while it is busy; changed at most every `rateLimit`; never lowered when the pCPU has
 *   not been idle since the last look, as its utilisation is still growing then.
 *
 * Source of fact: Linux, kernel/sched/cpufreq_schedutil.c and pelt.c. Not here: boosts for I/O waits, clamps, deadlines' bandwidth.
 */
import type { Governor, GovernorHost, Nanoseconds } from "hookvisor";
import { checkParameter, highestRate, MenuIdle, rateAtLeast, Sampler } from "../lib-governor/index.ts";

/** Parameters. */
export interface SchedutilParameters {
  /** Least time between two changes, nanoseconds: 0 to 1 s. Default 1 ms (Linux takes it from the driver: 1 to 10 ms on most machines). */
  readonly rateLimit?: Nanoseconds;
}

const MS = 1_000_000;
const HALF_LIFE: Nanoseconds = 32 * MS;
const TICK: Nanoseconds = 4 * MS;
/** Head room: the pCPU is to be busy for 80 % of the time. */
const HEAD_ROOM = 1.25;

export class Schedutil implements Governor {
  readonly #host: GovernorHost;
  readonly #rateLimit: Nanoseconds;
  readonly #idle: MenuIdle;
  readonly #sampler: Sampler;
  #utilisation = 0;
  #updated: Nanoseconds;
  #busyTime: Nanoseconds;
  #changed: Nanoseconds = Number.NEGATIVE_INFINITY;
  #wasIdle = true;

  constructor(host: GovernorHost, { rateLimit = 1 * MS }: SchedutilParameters = {}) {
    this.#host = host;
    this.#rateLimit = checkParameter("schedutil", "rateLimit", rateLimit, 0, 1000 * MS);
    this.#idle = new MenuIdle(host);
    this.#sampler = new Sampler(host, TICK, (now) => this.#look(now));
    this.#updated = host.now();
    this.#busyTime = host.busyTime();
  }

  busy(now: Nanoseconds): void {
    this.#idle.busy(now);
    this.#wasIdle = true;
    this.#look(now);
    this.#sampler.busy(now);
  }

  idle(now: Nanoseconds, expected: Nanoseconds): number {
    const next = this.#sampler.idle(now, expected);
    this.#wasIdle = true;
    this.#look(now);
    return this.#idle.idle(now, next);
  }

  #look(now: Nanoseconds): void {
    const host = this.#host;
    const highest = highestRate(host.frequencies);
    this.#average(now, host.frequency / highest);
    if (now - this.#changed < this.#rateLimit) return;
    const demand = Math.min(1, this.#utilisation * Math.max(1, host.load()));
    const rate = rateAtLeast(host.frequencies, HEAD_ROOM * highest * demand);
    const lowers = rate < host.frequency;
    if (rate === host.frequency || (lowers && !this.#wasIdle)) {
      this.#wasIdle = false;
      return;
    }
    this.#wasIdle = false;
    this.#changed = now;
    host.setFrequency(rate);
  }

  /** Takes what has passed since the last time into the average; `scale`: rate over highest rate in that time. */
  #average(now: Nanoseconds, scale: number): void {
    const passed = now - this.#updated;
    if (passed <= 0) return;
    const busyTime = this.#host.busyTime();
    const busy = Math.max(0, Math.min(1, (busyTime - this.#busyTime) / passed));
    const kept = 0.5 ** (passed / HALF_LIFE);
    this.#utilisation = this.#utilisation * kept + busy * scale * (1 - kept);
    this.#updated = now;
    this.#busyTime = busyTime;
  }

  dump(): string {
    return `${this.#host.frequency} MHz, utilisation ${this.#utilisation.toFixed(3)}; ${this.#idle.dump()}`;
  }
}
