/**
 * A periodic real-time job: released every period, wants its budget by its deadline.
 *
 * Release k is at start + phase + k * period, later by a jitter drawn from [0, jitter]. A job that is not done when the next is released makes it
 * wait ("late": "queue"); with "skip" the releases that came meanwhile are dropped.
 */
import type { Nanoseconds } from "hookvisor";
import type { Guest } from "../guest.ts";
import { type RandomStream, Variable } from "../random.ts";
import type { Behaviour, BehaviourKind } from "./behaviour.ts";

interface Parameters {
  readonly period: Nanoseconds;
  readonly budget: Variable;
  /** After the release; Infinity: none. */
  readonly deadline: Nanoseconds;
  readonly jitter: Nanoseconds;
  readonly phase: Nanoseconds;
  readonly skip: boolean;
  readonly jobs: number;
}

class Periodic implements Behaviour {
  readonly #p: Parameters;
  readonly #budgets: RandomStream;
  readonly #jitters: RandomStream;
  #base: Nanoseconds = 0;
  #job = 0;
  #done = 0;
  #release: Nanoseconds = 0;
  #started: Nanoseconds = 0;
  #work = 0;
  #busy = false;

  constructor(parameters: Parameters, guest: Guest, scope: string) {
    this.#p = parameters;
    this.#budgets = guest.stream(`${scope}/budget`);
    this.#jitters = guest.stream(`${scope}/jitter`);
  }

  start(_guest: Guest, now: Nanoseconds): void {
    this.#base = now + this.#p.phase;
    this.#job = 0;
    this.#done = 0;
    this.#busy = false;
    this.#release = this.#draw();
  }

  next(guest: Guest, now: Nanoseconds): void {
    const p = this.#p;
    if (this.#busy) {
      this.#busy = false;
      guest.jobDone(this.#release, this.#started, now, this.#release + p.deadline, this.#work);
      if (++this.#done === p.jobs) {
        guest.end();
        return;
      }
      do {
        this.#job++;
        this.#release = this.#draw();
      } while (p.skip && this.#release < now);
    }
    if (this.#release > now) {
      guest.sleepUntil(this.#release);
      return;
    }
    this.#busy = true;
    this.#started = now;
    this.#work = p.budget.draw(this.#budgets);
    guest.run(this.#work);
  }

  #draw(): Nanoseconds {
    const { period, jitter } = this.#p;
    return this.#base + this.#job * period + (jitter === 0 ? 0 : this.#jitters.below(jitter + 1));
  }
}

export const periodic: BehaviourKind = {
  name: "periodic",
  summary: "a job every period, with a budget and a deadline",
  read(fields) {
    const period = fields.need("period").duration({ min: 1 });
    const budget = fields.need("budget");
    const constant = budget.isObject ? null : budget.duration({ min: 1 });
    if (constant !== null && constant > period)
      budget.fail(`must be at most the period, ${period} ns, got ${constant} ns`);
    const deadline = fields.get("deadline");
    const jitter = fields.get("jitter")?.duration({ max: period - 1 }) ?? 0;
    const parameters: Parameters = {
      period,
      budget: Variable.read(budget, { min: 1 }),
      deadline: deadline === undefined ? period : deadline.isNull ? Infinity : deadline.duration({ min: 1 }),
      jitter,
      phase: fields.get("phase")?.duration() ?? 0,
      skip: fields.get("late")?.word(["queue", "skip"]) === "skip",
      jobs: fields.get("jobs")?.whole(1) ?? Infinity,
    };
    fields.close("a periodic job");
    const { scope } = fields.value;
    return {
      finite: parameters.jobs < Infinity,
      shared: false,
      make: (guest) => new Periodic(parameters, guest, scope),
    };
  },
};
