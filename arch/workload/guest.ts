/**
 * One vCPU's guest: the engine that does what a behaviour decides.
 *
 * A behaviour decides one step at a time (run so much, sleep until, wait for others, ...); the guest carries it out over as many runs as the
 * scheduler makes of it, and asks for the next step at the very instruction where the last one ended, so that no cut of the runs shows.
 *
 * What others can see (a lock taken, a barrier reached) is never done within a run, for the clocks of other pCPUs may be behind: `sync` ends
 * the run and arms a timer for that instant; core fires it before any pCPU passes it, and only then does the behaviour act. So whatever is
 * shared changes in the order of virtual time.
 * Invariants: at most one timer a guest; execute() and horizon() allocate nothing (a sleep or a sync arms one timer of core's);
 * a halt or a yield is the last instruction of the run before it, or takes one of its own;
 * horizon() is exact for a vCPU that waits for nobody; one that spins is woken through ArchHost.reconsider; at most STALLED steps in a row
 * take no time.
 */
import {
  type ArchHost,
  type Exit,
  ExitCode,
  type Nanoseconds,
  type Pcpu,
  RunState,
  type Timer,
  type Vcpu,
} from "hookvisor";
import type { Behaviour } from "./behaviours/behaviour.ts";
import type { Group } from "./group.ts";
import type { WorkloadHooks } from "./hooks.ts";
import { RandomStream } from "./random.ts";

/** What a vCPU does now. */
export const Does = Object.freeze({
  /** It asks its behaviour what to do as soon as it is on a pCPU. */
  ready: 0,
  run: 1,
  sleep: 2,
  /** Waits, halted, until another vCPU grants. */
  block: 3,
  /** Waits, burning CPU, until another vCPU grants. */
  spin: 4,
  giveWay: 5,
  /** Waits for this very instant to come on all pCPUs. */
  sync: 6,
  /** For good. */
  end: 7,
});
export type Does = (typeof Does)[keyof typeof Does];

const NAMES = ["ready", "runs", "sleeps", "waits", "spins", "gives way", "acts", "has ended"] as const;

/** Steps in a row that take no time, after which some instructions are charged, so that time goes on. */
const STALLED = 64;
const STALLED_COST = 1000;

/** What a guest needs of its machine. */
export interface GuestServices {
  readonly host: ArchHost;
  readonly hooks: WorkloadHooks;
}

export class Guest {
  readonly vcpu: Vcpu;
  readonly group: Group;
  readonly services: GuestServices;
  does: Does = Does.ready;
  /** Instructions left of a run; Infinity: until `until`. */
  left = 0;
  /** Virtual time at which a run or a sleep ends at the latest. */
  until: Nanoseconds = Infinity;
  #behaviour: Behaviour | null = null;
  #started = false;
  /** A spinner was let through at this time. */
  #granted: Nanoseconds = Infinity;
  /** Instructions of spinning since the last yield, and how many there are between two. */
  #spun = 0;
  #patience = Infinity;
  /** What a spinner waits for became free while it was off its pCPU: it looks again. */
  #looks = false;
  #stalled = 0;
  #timer: Timer | null = null;
  readonly #fire = (now: Nanoseconds): void => this.#fired(now);

  constructor(vcpu: Vcpu, group: Group, services: GuestServices) {
    this.vcpu = vcpu;
    this.group = group;
    this.services = services;
  }

  /** Gives it its behaviour, once, before it runs. */
  become(behaviour: Behaviour): void {
    this.#behaviour = behaviour;
  }

  /** A random stream of this vCPU's own, by purpose. */
  stream(purpose: string): RandomStream {
    const { domain, seed } = this.group;
    return new RandomStream(seed, `${domain.name}/${this.vcpu.id}/${purpose}`);
  }

  // What a behaviour decides: exactly one of these each time it is asked.

  /** Runs `work` instructions (ns at 1000 MHz), at most until a virtual time. */
  run(work: number): void {
    this.does = Does.run;
    this.left = work;
    this.until = Infinity;
  }

  /** Runs until a virtual time, whatever CPU it gets meanwhile. */
  runUntil(time: Nanoseconds): void {
    this.does = Does.run;
    this.left = Infinity;
    this.until = time;
  }

  /** Sleeps; not at all if the time has passed. */
  sleepUntil(time: Nanoseconds): void {
    this.does = Does.sleep;
    this.until = time;
  }

  /** Halts until `grant`. */
  block(): void {
    this.does = Does.block;
  }

  /** Burns CPU until `grant`; with `patience` it yields after each so many instructions. */
  spin(patience: number): void {
    if (this.does !== Does.spin) this.#spun = 0;
    this.does = Does.spin;
    this.#patience = patience;
    this.#granted = Infinity;
    this.#looks = false;
  }

  /** Offers its pCPU to others. */
  giveWay(): void {
    this.does = Does.giveWay;
  }

  /** Ends its run; the behaviour's `sync` is called at this instant, when all that came before it has happened. */
  sync(): void {
    this.does = Does.sync;
  }

  /** It will do nothing any more. */
  end(): void {
    this.does = Does.end;
  }

  /** Ends the present run or sleep at a virtual time, if it would last longer. */
  cut(time: Nanoseconds): void {
    if ((this.does === Does.run || this.does === Does.sleep) && this.until > time) this.until = time;
  }

  // What the others do to it, from within their `sync`.

  /** It is on a pCPU now. */
  get running(): boolean {
    return this.vcpu.runningOn !== null;
  }

  /** What it waited for has come; its behaviour is asked for the next step. */
  grant(now: Nanoseconds): void {
    const { host } = this.services;
    if (this.does === Does.block) {
      this.does = Does.ready;
      host.wake(this.vcpu);
    } else if (this.does === Does.spin) this.#granted = now;
    if (this.running) host.reconsider(this.vcpu);
  }

  /** What it spins for may be free when it comes back to a pCPU: then its `sync` is called. */
  lookAgain(): void {
    if (this.does === Does.spin) this.#looks = true;
  }

  // What it tells.

  /** A job has ended. */
  jobDone(released: Nanoseconds, started: Nanoseconds, finished: Nanoseconds, deadline: number, work: number): void {
    const { job } = this.services.hooks;
    if (job.isUsed())
      job.call(this.vcpu, { released, started, finished, deadline: deadline === Infinity ? null : deadline, work });
  }

  /** It goes on with a lock after so many nanoseconds. */
  lockGot(waited: Nanoseconds): void {
    const { lockWait } = this.services.hooks;
    if (lockWait.isUsed()) lockWait.call(this.vcpu, waited);
  }

  /** For people. */
  describe(): string {
    const time = this.until < Infinity && this.does <= Does.sleep ? ` until ${this.until} ns` : "";
    const left = this.does === Does.run && this.left < Infinity ? `, ${this.left} instructions left` : "";
    return `${this.vcpu}: ${NAMES[this.does]}${time}${left}`;
  }

  // The engine.

  /** ArchBackend.run. */
  execute(budget: number, exit: Exit): number {
    const pcpu = this.vcpu.runningOn!;
    let retired = 0;
    exit.code = ExitCode.budget;
    for (;;)
      switch (this.does) {
        case Does.run: {
          const n =
            this.until === Infinity ? this.left : Math.min(this.left, instructionsTo(pcpu, this.until, retired));
          const room = budget - retired;
          if (room > 0) this.#stalled = 0;
          if (n > room) {
            this.left -= room;
            return budget;
          }
          retired += n;
          this.left -= n;
          this.#next(pcpu.after(retired));
          break;
        }
        case Does.ready:
          this.#next(pcpu.after(retired));
          break;
        case Does.sleep:
          if (this.#timer === null) {
            if (this.until <= pcpu.after(retired)) {
              this.does = Does.ready;
              break;
            }
            this.#stalled = 0;
            if (this.until < Infinity) this.#timer = this.services.host.timer(this.until, this.#fire);
          }
          exit.code = ExitCode.halt;
          return Math.max(1, retired);
        case Does.block:
          exit.code = ExitCode.halt;
          return Math.max(1, retired);
        case Does.spin: {
          const toGrant = this.#granted === Infinity ? Infinity : instructionsTo(pcpu, this.#granted, retired);
          if (toGrant === 0) {
            this.does = Does.ready;
            break;
          }
          if (this.#looks) {
            this.#looks = false;
            this.does = Does.sync;
            break;
          }
          const toYield = this.#patience - this.#spun;
          const n = Math.min(budget - retired, toGrant, toYield);
          retired += n;
          this.#spun += n;
          if (n > 0) this.#stalled = 0;
          if (n === toGrant) {
            this.does = Does.ready;
            break;
          }
          if (n === toYield) {
            this.#spun = 0;
            exit.code = ExitCode.yield;
          }
          return retired;
        }
        case Does.giveWay:
          this.does = Does.ready;
          exit.code = ExitCode.yield;
          return Math.max(1, retired);
        case Does.sync: {
          const now = pcpu.after(retired);
          if (this.#timer === null) {
            this.#armSync(now);
            return retired;
          }
          // It is run before its instant's timer has fired (a timer was lost): it acts now.
          this.#timer.cancel();
          this.#timer = null;
          this.#behaviour!.sync!(this, now);
          break;
        }
        default:
          this.group.ended(this, pcpu.after(retired));
          exit.code = ExitCode.halt;
          return Math.max(1, retired);
      }
  }

  /** ArchBackend.horizon. */
  horizon(): number {
    const pcpu = this.vcpu.runningOn;
    if (pcpu === null) return 1;
    if (this.does === Does.ready) {
      const does = this.#next(pcpu.clock);
      if (does === Does.sync) this.#armSync(pcpu.clock);
    }
    let n = 1;
    if (this.does === Does.run)
      n = this.until === Infinity ? this.left : Math.min(this.left, instructionsTo(pcpu, this.until, 0));
    else if (this.does === Does.spin && !this.#looks) {
      n = this.#patience - this.#spun;
      if (this.#granted !== Infinity) n = Math.min(n, instructionsTo(pcpu, this.#granted, 0));
    }
    return n < 1 ? 1 : n;
  }

  /** Cancels its timer: the domain ends. */
  destroy(): void {
    this.#timer?.cancel();
    this.#timer = null;
    this.does = Does.end;
  }

  #armSync(now: Nanoseconds): void {
    this.#timer = this.services.host.timer(now, this.#fire);
  }

  #fired(now: Nanoseconds): void {
    const { host } = this.services;
    this.#timer = null;
    if (this.does === Does.sleep) {
      this.does = Does.ready;
      host.wake(this.vcpu);
    } else if (this.does === Does.sync) {
      this.#behaviour!.sync!(this, now);
      if (this.running) host.reconsider(this.vcpu);
    }
  }

  /** Asks the behaviour for the next step; says what it is. */
  #next(now: Nanoseconds): Does {
    if (++this.#stalled > STALLED) {
      this.run(STALLED_COST);
      return this.does;
    }
    const behaviour = this.#behaviour!;
    if (!this.#started) {
      this.#started = true;
      behaviour.start(this, Math.min(now, this.#origin()));
    }
    behaviour.next(this, now);
    return this.does;
  }

  /** When it became runnable first: before it had waited for a pCPU. */
  #origin(): Nanoseconds {
    const { vcpu } = this;
    return vcpu.runStateSince - vcpu.runStateTimes[RunState.runnable];
  }
}

/** Instructions until a pCPU's clock reaches a time, after those that have retired in the present run; 0: it has. */
function instructionsTo(pcpu: Pcpu, time: Nanoseconds, retired: number): number {
  return pcpu.after(retired) >= time ? 0 : Math.max(1, pcpu.instructionsUntil(time) - retired);
}
