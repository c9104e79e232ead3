/**
 * The governor interface: who decides a pCPU's rate (P-state) and how deep it idles (C-state).
 *
 * A governor is a plugin (hook `governor.for(name)`), one instance a pCPU. It returns or asks for states out of the machine's own lists;
 * core changes the rate at exact times, charges the exit latency of an idle state, and tells the hooks `frequency` and `idleState`.
 * Energy is not core's matter: it follows from those two hooks and the runstates.
 */
import type { Nanoseconds, Timer } from "./timers.ts";

/** A way to idle (ACPI: C-state). */
export interface IdleState {
  readonly name: string;
  /** From the wake-up to the first instruction. */
  readonly exitLatency: Nanoseconds;
  /** Idling for less than this makes the state a loss (cpuidle: target_residency). */
  readonly targetResidency: Nanoseconds;
}

/** What core offers to a governor of one pCPU. */
export interface GovernorHost {
  readonly pcpu: { readonly id: number; readonly core: number; readonly socket: number; readonly node: number };
  /** Rates there are, MHz (instructions a virtual microsecond), rising. */
  readonly frequencies: readonly number[];
  /** Idle states there are, from shallow to deep. */
  readonly idleStates: readonly IdleState[];
  /** The present rate, MHz. */
  readonly frequency: number;
  now(): Nanoseconds;
  /** Changes the rate at once; a rate that is not in `frequencies` is a breach of contract. */
  setFrequency(mhz: number): void;
  /** A one-shot timer of the governor's own. */
  timer(at: Nanoseconds, fire: (now: Nanoseconds) => void): Timer;
  /** Time that the pCPU has been busy so far. */
  busyTime(): Nanoseconds;
  /** The scheduler's load: runnable vCPUs (running ones included) of the pCPU's pool, divided by the pool's pCPUs. */
  load(): number;
}

/** A governor; every method is optional. The rate at start is the machine's highest. */
export interface Governor {
  /** The pCPU starts to run something. */
  busy?(now: Nanoseconds): void;
  /** The pCPU goes idle: index of the idle state to enter. `expected`: until the next timer that the machine knows of, Infinity: none. Default: 0. */
  idle?(now: Nanoseconds, expected: Nanoseconds): number;
  /** State for dumps. */
  dump?(): string;
}
