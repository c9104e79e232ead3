/** Replays a trace: runs so much, sleeps so long, and so on; a sleep counts from the end of its run. */
import type { Nanoseconds } from "hookvisor";
import type { Guest } from "../guest.ts";
import type { Behaviour, BehaviourKind } from "./behaviour.ts";
import { readRepeat } from "./sequence.ts";

class Bursts implements Behaviour {
  readonly #run: Float64Array;
  readonly #sleep: Float64Array;
  readonly #repeat: number;
  #at = 0;
  #rounds = 0;
  #busy = false;
  #released: Nanoseconds = 0;
  #started: Nanoseconds = 0;

  constructor(run: Float64Array, sleep: Float64Array, repeat: number) {
    this.#run = run;
    this.#sleep = sleep;
    this.#repeat = repeat;
  }

  start(_guest: Guest, now: Nanoseconds): void {
    this.#at = 0;
    this.#rounds = 0;
    this.#busy = false;
    this.#released = now;
  }

  next(guest: Guest, now: Nanoseconds): void {
    if (!this.#busy) {
      if (this.#at === this.#run.length) {
        this.#at = 0;
        if (++this.#rounds === this.#repeat) {
          guest.end();
          return;
        }
      }
      this.#busy = true;
      this.#started = now;
      guest.run(this.#run[this.#at]!);
      return;
    }
    this.#busy = false;
    const work = this.#run[this.#at]!;
    if (work > 0) guest.jobDone(this.#released, this.#started, now, Infinity, work);
    this.#released = now + this.#sleep[this.#at]!;
    this.#at++;
    guest.sleepUntil(this.#released);
  }
}

export const bursts: BehaviourKind = {
  name: "bursts",
  summary: "replays bursts of a trace: [run, sleep] each",
  read(fields) {
    const list = fields.need("bursts");
    const pairs = list.items(1).map((item) => {
      const pair = item.items();
      if (pair.length !== 2) item.fail("must be [run, sleep]");
      return [pair[0]!.duration(), pair[1]!.duration()] as const;
    });
    if (pairs.every(([run, sleep]) => run + sleep === 0)) list.fail("must have a burst that is not empty");
    const repeat = readRepeat(fields);
    fields.close("bursts");
    const run = Float64Array.from(pairs, (pair) => pair[0]);
    const sleep = Float64Array.from(pairs, (pair) => pair[1]);
    return { finite: repeat < Infinity, shared: false, make: () => new Bursts(run, sleep, repeat) };
  },
};
