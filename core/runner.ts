/**
 * Runs the machine on the host: steps of the run loop in slices of at most 10 ms of wall time (50 where nobody types), waits for host I/O, for
 * input, and in real time for the wall clock.
 *
 * Invariant: what it does with the host's clock never changes what happens in virtual time, except in real time, where
 * input arrives when a person types it.
 */
import type { Machine } from "./machine/machine.ts";
import type { Nanoseconds } from "./machine/timers.ts";
import type { RunLoop, Step } from "./scheduling/run-loop.ts";

/** Why run() came back. */
export type RunEnd =
  /** `done` said so. */
  | "done"
  /** Virtual time reached `until`. */
  | "limit"
  /** Nothing can ever happen again: all blocked, no timer, input at its end. */
  | "idle"
  /** The host's time is up. */
  | "timeout";

/** How long to run. */
export interface RunOptions {
  /** Virtual time that nothing passes. */
  readonly until?: Nanoseconds;
  /** Host milliseconds. */
  readonly wallTimeout?: number;
  /** Checked between steps. */
  readonly done?: () => boolean;
  /** Idle follows the wall clock. */
  readonly realtime?: boolean;
  /** A promise for the next input from outside, while somebody may still type; null or absent: input is at its end. */
  readonly input?: () => Promise<void> | null;
  /** Wraps a slice of the run loop (the guard against plugin callbacks that never return). */
  readonly guard?: (slice: () => void, what?: string) => void;
}

const SLICE_MS = 10;
/** Where nobody types: each slice costs the guard a thread of the host's, whose end a busy host is in no hurry to tell. */
const FREE_SLICE_MS = 50;
/** Steps, and instructions of guests, between two looks at the host's clock. */
const STEPS = 64;
const INSTRUCTIONS = 50_000;

/** One call of run(). */
export class Runner {
  readonly #loop: RunLoop;
  readonly #machine: Machine;
  readonly #options: RunOptions;
  readonly #limit: Nanoseconds;
  readonly #started = performance.now();
  readonly #virtualStart: Nanoseconds;
  readonly #deadline: number;

  constructor(loop: RunLoop, machine: Machine, options: RunOptions) {
    this.#loop = loop;
    this.#machine = machine;
    this.#options = options;
    this.#limit = options.until ?? Infinity;
    this.#virtualStart = machine.now;
    this.#deadline = this.#started + (options.wallTimeout ?? Infinity);
  }

  async run(): Promise<RunEnd> {
    const done = this.#options.done ?? (() => false);
    const guard = this.#options.guard ?? ((slice: () => void) => slice());
    let step: Step = "ran";
    let finished = done();
    const length = this.#options.realtime ? SLICE_MS : FREE_SLICE_MS;
    const slice = (): void => {
      const sliceEnd = performance.now() + length;
      do {
        const enough = this.#loop.retired + INSTRUCTIONS;
        for (let i = 0; i < STEPS && this.#loop.retired < enough && step === "ran" && !finished; i++) {
          step = this.#loop.step(this.#until());
          finished = done();
        }
      } while (step === "ran" && !finished && performance.now() < sliceEnd);
    };
    while (!finished) {
      step = "ran";
      guard(slice);
      if (finished) break;
      const end = await this.#between(step);
      if (end !== null) return end;
      if (performance.now() > this.#deadline) return "timeout";
    }
    return "done";
  }

  /** Wall time as virtual time. */
  get #wall(): Nanoseconds {
    return this.#virtualStart + (performance.now() - this.#started) * 1e6;
  }

  /** In real time no idle machine passes the wall clock; a busy one runs as fast as it can. */
  #until(): Nanoseconds {
    return this.#options.realtime && !this.#loop.busy ? Math.min(this.#limit, Math.floor(this.#wall)) : this.#limit;
  }

  async #between(step: Step): Promise<RunEnd | null> {
    switch (step) {
      case "ran":
        await waitFor(0, null);
        return null;
      case "hold":
        await waitFor(this.#left, this.#loop.settle());
        return null;
      case "limit": {
        if (!this.#options.realtime || this.#machine.now >= this.#limit) return "limit";
        const ahead = (this.#loop.nextDue - this.#wall) / 1e6;
        await waitFor(Math.min(Math.max(1, ahead), this.#left), this.#options.input?.() ?? null);
        this.#catchUp();
        return null;
      }
      case "idle": {
        if (this.#loop.ejectLosers()) return null;
        const input = this.#options.input?.() ?? null;
        if (input === null) return "idle";
        await waitFor(this.#left, input);
        this.#catchUp();
        return null;
      }
    }
  }

  /** In real time, what happens next (a key typed) happens at the wall clock's time. */
  #catchUp(): void {
    if (this.#options.realtime) this.#loop.advance(Math.min(this.#limit, Math.floor(this.#wall)));
  }

  get #left(): number {
    return Math.max(1, this.#deadline - performance.now());
  }
}

/** Waits for a promise or so many milliseconds, whichever is first; 0 only yields to the host's event loop. */
async function waitFor(ms: number, promise: Promise<unknown> | null): Promise<void> {
  const { setImmediate } = globalThis as { setImmediate?: (f: () => void) => void };
  if (ms === 0 && setImmediate !== undefined) return new Promise((resolve) => setImmediate(resolve));
  let timer: ReturnType<typeof setTimeout> | undefined;
  const timeout = new Promise<void>((resolve) => {
    if (ms < 0x7fffffff) timer = setTimeout(resolve, ms);
  });
  await Promise.race(promise === null ? [timeout] : [timeout, promise]);
  clearTimeout(timer);
}
