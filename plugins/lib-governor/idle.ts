/**
 * Which idle state to enter, decided as Linux's cpuidle governor `menu` does: by the time to the next timer, corrected by how wrong that has been,
 * and by what idling has lately been like.
 *
 * - Expected: the time until the next timer, times a correction factor. A factor is the running average (weight 1/8) of idle time over expected
 *   time, one for each order of magnitude of the expected time (10 us to 100 ms). Idling of 50 ms or longer counts as a perfect forecast.
 * - Recent: of the last eight residencies, their average if they are alike (deviation at most 20 us, or a sixth of the average), without the
 *   longest ones where that is needed, down to six; as soon as there are eight.
 * - The lower of the two is the forecast. The deepest state is taken whose target residency is not above it, nor its exit latency.
 *
 * Not here: the tick (there is none), the count of tasks waiting for I/O, a user's latency limits. Invariant: no allocation per decision.
 */
import type { GovernorHost, Nanoseconds } from "hookvisor";

const US = 1000;
const MS = 1_000_000;

/** Decays of the correction factors and their magnitudes. */
const DECAY = 8;
const MAGNITUDES = [10 * US, 100 * US, 1 * MS, 10 * MS, 100 * MS] as const;
/** From here on a longer sleep saves nothing more. */
const MAX_INTERESTING: Nanoseconds = 50 * MS;
const INTERVALS = 8;
/** Variance below which intervals are alike, ns^2. */
const ALIKE = (20 * US) ** 2;
/** Where no timer is armed at all. */
const LONGEST: Nanoseconds = 1_000_000 * MS;

/** Chooses idle states of one pCPU. */
export class MenuIdle {
  readonly #host: GovernorHost;
  readonly #factors = new Float64Array(MAGNITUDES.length + 1).fill(1);
  readonly #recent = new Float64Array(INTERVALS);
  #next = 0;
  #known = 0;
  /** When it went idle; -1: it is busy. */
  #since: Nanoseconds = -1;
  #expected: Nanoseconds = 0;
  #state = 0;

  constructor(host: GovernorHost) {
    this.#host = host;
  }

  /** The pCPU goes idle: the state to enter. `expected`: until the next timer. */
  idle(now: Nanoseconds, expected: Nanoseconds): number {
    this.#since = now;
    this.#expected = Math.min(expected, LONGEST);
    this.#state = this.#choose(this.forecast());
    return this.#state;
  }

  /** It is busy again. The exit latency is part of the time until `now`. */
  busy(now: Nanoseconds): void {
    if (this.#since < 0) return;
    const { exitLatency } = this.#host.idleStates[this.#state]!;
    const passed = now - this.#since;
    this.#since = -1;
    const slept = Math.min(passed > 2 * exitLatency ? passed - exitLatency : passed / 2, this.#expected);
    const m = magnitude(this.#expected);
    const exact = this.#expected === 0 || slept >= MAX_INTERESTING ? 1 : slept / this.#expected;
    this.#factors[m] = this.#factors[m]! * (1 - 1 / DECAY) + exact / DECAY;
    this.#recent[this.#next] = slept;
    this.#next = (this.#next + 1) % INTERVALS;
    if (this.#known < INTERVALS) this.#known++;
  }

  /** How long idling is going to last. */
  forecast(): Nanoseconds {
    const predicted = this.#expected * this.#factors[magnitude(this.#expected)]!;
    return Math.min(predicted, this.#typical(predicted));
  }

  #choose(forecast: Nanoseconds): number {
    const { idleStates } = this.#host;
    let chosen = 0;
    for (let i = 1; i < idleStates.length; i++) {
      const state = idleStates[i]!;
      if (state.targetResidency > forecast || state.exitLatency > forecast) break;
      chosen = i;
    }
    return chosen;
  }

  /** The average of the recent residencies, where they are alike; Infinity where they are not, or are no shorter than `predicted`. */
  #typical(predicted: Nanoseconds): Nanoseconds {
    if (this.#known < INTERVALS) return Number.POSITIVE_INFINITY;
    let limit = Number.POSITIVE_INFINITY;
    for (;;) {
      let sum = 0;
      let count = 0;
      let max = 0;
      let min = Number.POSITIVE_INFINITY;
      for (let i = 0; i < INTERVALS; i++) {
        const value = this.#recent[i]!;
        if (value >= limit) continue;
        sum += value;
        count++;
        if (value > max) max = value;
        if (value < min) min = value;
      }
      if (min >= predicted) return Number.POSITIVE_INFINITY;
      const average = sum / count;
      let variance = 0;
      for (let i = 0; i < INTERVALS; i++) {
        const value = this.#recent[i]!;
        if (value < limit) variance += (value - average) ** 2 / count;
      }
      if (variance <= ALIKE || (average * average > 36 * variance && count * 4 >= INTERVALS * 3)) return average;
      if (count * 4 <= INTERVALS * 3) return Number.POSITIVE_INFINITY;
      limit = max;
    }
  }

  dump(): string {
    const factors = Array.from(this.#factors, (factor) => factor.toFixed(3)).join(" ");
    return `idle state ${this.#state}, expected ${this.#expected} ns, factors ${factors}`;
  }
}

function magnitude(expected: Nanoseconds): number {
  let m = 0;
  while (m < MAGNITUDES.length && expected >= MAGNITUDES[m]!) m++;
  return m;
}
