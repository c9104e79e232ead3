/**
 * A parallel program: in each phase every vCPU does its part, then all meet at a barrier.
 *
 * The vCPUs of the domain whose behaviour names the same barrier meet there, as long as they have phases to come: one that has done its last (in
 * a sequence: of its last part) leaves, so that the others are not kept.
 */
import type { Nanoseconds } from "hookvisor";
import type { Guest } from "../guest.ts";
import { type RandomStream, Variable } from "../random.ts";
import type { Barrier } from "../sync.ts";
import type { Behaviour, BehaviourKind } from "./behaviour.ts";
import { readWaiting, type Waiting, waitForOthers } from "./waiting.ts";

interface Parameters {
  readonly work: Variable;
  /** A part is work * (1 + imbalance * u), u uniform in [-1, 1). */
  readonly imbalance: number;
  readonly phases: number;
  readonly barrier: string;
  readonly waiting: Waiting;
}

/** What its next step is about. */
const Stage = Object.freeze({ begin: 0, work: 1, arrive: 2, leave: 3 });
type Stage = (typeof Stage)[keyof typeof Stage];

class ForkJoin implements Behaviour {
  readonly #p: Parameters;
  readonly #barrier: Barrier;
  readonly #stream: RandomStream;
  #stage: Stage = Stage.begin;
  #phase = 0;
  #released: Nanoseconds = 0;
  #started: Nanoseconds = 0;
  #work = 0;

  constructor(parameters: Parameters, guest: Guest, scope: string) {
    this.#p = parameters;
    this.#barrier = guest.group.barrier(parameters.barrier);
    this.#stream = guest.stream(`${scope}/work`);
  }

  start(_guest: Guest, now: Nanoseconds): void {
    this.#stage = Stage.begin;
    this.#phase = 0;
    this.#released = now;
  }

  next(guest: Guest, now: Nanoseconds): void {
    if (this.#stage === Stage.begin) this.#begin(guest, now);
    else {
      if (this.#stage === Stage.work) {
        guest.jobDone(this.#released, this.#started, now, Infinity, this.#work);
        this.#stage = Stage.arrive;
      }
      guest.sync();
    }
  }

  sync(guest: Guest, now: Nanoseconds): void {
    if (this.#stage === Stage.arrive) {
      this.#stage = ++this.#phase === this.#p.phases ? Stage.leave : Stage.begin;
      // Asked for the next step when the barrier opens.
      if (!this.#barrier.arrive(guest, now)) {
        waitForOthers(guest, this.#p.waiting);
        return;
      }
    }
    if (this.#stage === Stage.leave) {
      this.#barrier.leave(guest, now);
      guest.end();
      return;
    }
    this.#begin(guest, now);
  }

  #begin(guest: Guest, now: Nanoseconds): void {
    const { work, imbalance } = this.#p;
    if (this.#phase > 0) this.#released = this.#barrier.opened;
    this.#stage = Stage.work;
    this.#started = now;
    const part = work.draw(this.#stream);
    this.#work =
      imbalance === 0 ? part : Math.max(1, Math.round(part * (1 + imbalance * (2 * this.#stream.uniform() - 1))));
    guest.run(this.#work);
  }
}

export const forkJoin: BehaviourKind = {
  name: "fork-join",
  summary: "phases of work, with a barrier of the domain's vCPUs after each",
  read(fields) {
    const parameters: Parameters = {
      work: Variable.read(fields.need("work"), { min: 1 }),
      imbalance: fields.get("imbalance")?.number(0, 1) ?? 0,
      phases: fields.get("phases")?.whole(1) ?? Infinity,
      barrier: fields.get("barrier")?.string() ?? "barrier",
      waiting: readWaiting(fields, "block"),
    };
    fields.close("fork-join");
    const { scope } = fields.value;
    return {
      finite: parameters.phases < Infinity,
      shared: true,
      enlist(guest, times) {
        guest.group.barrier(parameters.barrier).enlist(guest, times);
      },
      make: (guest) => new ForkJoin(parameters, guest, scope),
    };
  },
};
