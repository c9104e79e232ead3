/** A pCPU that a governor's test moves by hand. */
import type { Governor, GovernorHost, IdleState } from "../../../core/machine/governor.ts";
import { type Nanoseconds, type Timer, TimerQueue } from "../../../core/machine/timers.ts";

export const IDLE_STATES: readonly IdleState[] = [
  { name: "C1", exitLatency: 1_000, targetResidency: 2_000 },
  { name: "C3", exitLatency: 20_000, targetResidency: 100_000 },
  { name: "C6", exitLatency: 150_000, targetResidency: 1_000_000 },
];

export class FakeHost implements GovernorHost {
  readonly pcpu = { id: 0, core: 0, socket: 0, node: 0 };
  readonly idleStates = IDLE_STATES;
  readonly timers = new TimerQueue();
  readonly frequencies: readonly number[];
  readonly set: number[] = [];
  frequency: number;
  governor: Governor = {};
  waiting = 0;
  #now: Nanoseconds = 0;
  #busy: Nanoseconds = 0;
  #runs = false;

  constructor(frequencies: readonly number[] = [800, 1200, 1600, 2000, 2400]) {
    this.frequencies = frequencies;
    this.frequency = frequencies.at(-1)!;
  }

  now(): Nanoseconds {
    return this.#now;
  }

  setFrequency(mhz: number): void {
    if (!this.frequencies.includes(mhz)) throw new Error(`no rate ${mhz}`);
    this.frequency = mhz;
    this.set.push(mhz);
  }

  timer(at: Nanoseconds, fire: (now: Nanoseconds) => void): Timer {
    return this.timers.arm(Math.max(at, this.#now), fire);
  }

  busyTime(): Nanoseconds {
    return this.#busy;
  }

  load(): number {
    return this.waiting + (this.#runs ? 1 : 0);
  }

  /** Lets time pass, with the timers that are due. */
  pass(time: Nanoseconds): void {
    const end = this.#now + time;
    for (;;) {
      const next = Math.min(end, this.timers.next);
      if (this.#runs) this.#busy += next - this.#now;
      this.#now = next;
      if (!this.timers.fireOne(next)) break;
    }
  }

  /** Runs for a while, then idles; answers the idle state that was chosen. */
  run(time: Nanoseconds): number {
    this.#runs = true;
    this.governor.busy?.(this.#now);
    this.pass(time);
    this.#runs = false;
    return this.governor.idle?.(this.#now, this.timers.next - this.#now) ?? 0;
  }
}
