/**
 * Steals CPU from a scheduler that charges whoever runs when its tick comes: it sleeps over every tick.
 *
 * The ticks are at phase + k * period of the machine's time. It looks at the clock all the time: preempted past its hour it sleeps at once.
 */
import type { Nanoseconds } from "hookvisor";
import type { Guest } from "../guest.ts";
import type { Behaviour, BehaviourKind } from "./behaviour.ts";

interface Parameters {
  readonly period: Nanoseconds;
  readonly before: Nanoseconds;
  readonly after: Nanoseconds;
  readonly phase: Nanoseconds;
}

class TickDodger implements Behaviour {
  readonly #p: Parameters;
  #tick: Nanoseconds = 0;
  #running = false;

  constructor(parameters: Parameters) {
    this.#p = parameters;
  }

  start(): void {
    this.#running = false;
  }

  next(guest: Guest, now: Nanoseconds): void {
    const { period, before, after, phase } = this.#p;
    this.#running = !this.#running;
    if (this.#running) {
      this.#tick = phase + (Math.floor((now + before - phase) / period) + 1) * period;
      guest.runUntil(this.#tick - before);
    } else guest.sleepUntil(this.#tick + after);
  }
}

export const tickDodger: BehaviourKind = {
  name: "tick-dodger",
  summary: "computes, but sleeps over every tick of a sampling scheduler",
  read(fields) {
    const period = fields.need("period").duration({ min: 2 });
    const parameters: Parameters = {
      period,
      before: fields.need("before").duration({ min: 1, max: period - 1 }),
      after: fields.get("after")?.duration() ?? 0,
      phase: fields.get("phase")?.duration({ max: period - 1 }) ?? 0,
    };
    if (parameters.before + parameters.after >= period)
      fields.value.fail("must have 'before' and 'after' that together are less than 'period'");
    fields.close("tick-dodger");
    return { finite: false, shared: false, make: () => new TickDodger(parameters) };
  },
};
