/**
 * Critical sections under a lock that vCPUs of the domain share, by default a spin lock.
 *
 * A holder that is preempted makes the others burn their CPU (lock-holder preemption); with `yieldAfter` they give way instead, as Linux's
 * paravirtual locks and a CPU's pause exits do.
 */
import type { Nanoseconds } from "hookvisor";
import type { Guest } from "../guest.ts";
import { type RandomStream, Variable } from "../random.ts";
import type { Lock } from "../sync.ts";
import type { Behaviour, BehaviourKind } from "./behaviour.ts";
import { readWaiting, type Waiting, waitForOthers } from "./waiting.ts";

interface Parameters {
  readonly critical: Variable;
  readonly think: Variable;
  readonly names: readonly string[];
  readonly waiting: Waiting;
  readonly fair: boolean;
  readonly rounds: number;
}

/** What its next step is about. */
const Stage = Object.freeze({ think: 0, want: 1, wait: 2, hold: 3, release: 4 });
type Stage = (typeof Stage)[keyof typeof Stage];

class Locker implements Behaviour {
  readonly #p: Parameters;
  readonly #locks: readonly Lock[];
  readonly #stream: RandomStream;
  readonly #choice: RandomStream;
  #stage: Stage = Stage.think;
  #lock: Lock;
  #wanted: Nanoseconds = 0;
  #got: Nanoseconds = 0;
  #work = 0;
  #rounds = 0;

  constructor(parameters: Parameters, guest: Guest, scope: string) {
    this.#p = parameters;
    this.#locks = parameters.names.map((name) => guest.group.lock(name));
    this.#lock = this.#locks[0]!;
    this.#stream = guest.stream(`${scope}/lock`);
    this.#choice = guest.stream(`${scope}/choice`);
  }

  start(): void {
    this.#stage = Stage.think;
    this.#rounds = 0;
  }

  next(guest: Guest, now: Nanoseconds): void {
    switch (this.#stage) {
      case Stage.think:
        this.#stage = Stage.want;
        guest.run(this.#p.think.draw(this.#stream));
        return;
      case Stage.want:
        this.#wanted = now;
        if (this.#locks.length > 1) this.#lock = this.#locks[this.#choice.below(this.#locks.length)]!;
        break;
      case Stage.wait:
        this.#hold(guest, now);
        return;
      case Stage.hold:
        guest.jobDone(this.#wanted, this.#got, now, Infinity, this.#work);
        this.#stage = Stage.release;
        break;
      default:
        break;
    }
    guest.sync();
  }

  sync(guest: Guest, now: Nanoseconds): void {
    if (this.#stage === Stage.release) {
      this.#lock.release(now, this.#p.fair);
      this.#stage = Stage.think;
      if (++this.#rounds === this.#p.rounds) guest.end();
      else this.next(guest, now);
    } else if (this.#stage === Stage.want ? this.#lock.acquire(guest) : this.#lock.retry(guest)) this.#hold(guest, now);
    else {
      this.#stage = Stage.wait;
      waitForOthers(guest, this.#p.waiting);
    }
  }

  #hold(guest: Guest, now: Nanoseconds): void {
    guest.lockGot(now - this.#wanted);
    this.#got = now;
    this.#stage = Stage.hold;
    this.#work = this.#p.critical.draw(this.#stream);
    guest.run(this.#work);
  }
}

/** Most locks that one behaviour chooses from. */
const MAX_LOCKS = 1024;

export const lock: BehaviourKind = {
  name: "lock",
  summary: "thinks, then has a critical section under a lock of the domain",
  read(fields) {
    const name = fields.get("lock")?.string() ?? "lock";
    const count = fields.get("locks")?.whole(1, MAX_LOCKS) ?? 1;
    const parameters: Parameters = {
      critical: Variable.read(fields.need("critical"), { min: 1 }),
      think: Variable.read(fields.need("think")),
      names: Array.from({ length: count }, (_, i) => (count === 1 ? name : `${name}${i}`)),
      waiting: readWaiting(fields, "spin"),
      fair: fields.get("fair")?.boolean() ?? false,
      rounds: fields.get("rounds")?.whole(1) ?? Infinity,
    };
    fields.close("lock");
    const { scope } = fields.value;
    return {
      finite: parameters.rounds < Infinity,
      shared: true,
      make: (guest) => new Locker(parameters, guest, scope),
    };
  },
};
