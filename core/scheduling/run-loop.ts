/**
 * The run loop: virtual time.
 *
 * A step does the next thing that happens: backend work that is queued, a timer that is due, or a run of the pCPU that
 * is furthest behind (lowest number first) up to the earliest of its slice's end, the next timer, and the slowest other
 * busy clock plus a quantum. When every pCPU is idle the clock jumps to the next timer. A vCPU whose arch knows when it will stop by
 * itself (ArchBackend.horizon) is run in one piece, no earlier than something happens to it: then nothing is a quantum off.
 * Invariants: nothing is awaited between a guest exit and the next guest entry; no pCPU passes a timer that has not fired;
 * equal inputs give equal steps, whatever the host's speed; while a hold is pending virtual time stands still.
 */
import { createExit, type Exit, ExitCode } from "../architecture/arch-backend.ts";
import { PauseFlag, type Vcpu } from "../domain/vcpu.ts";
import { messageOf } from "../errors.ts";
import type { Hypercalls } from "../hypercall/dispatcher.ts";
import { Result } from "../hypercall/table.ts";
import type { Machine } from "../machine/machine.ts";
import type { Pcpu } from "../machine/pcpu.ts";
import type { Nanoseconds } from "../machine/timers.ts";
import type { Scheduling } from "./scheduling.ts";

/** Instructions charged for leaving and entering a guest, by exit code. */
const EXIT_COST: Readonly<Record<ExitCode, number>> = Object.freeze({
  [ExitCode.budget]: 0,
  [ExitCode.hypercall]: 200,
  [ExitCode.io]: 1000,
  [ExitCode.halt]: 200,
  [ExitCode.yield]: 200,
  [ExitCode.crash]: 0,
  [ExitCode.debug]: 0,
});

/** A vCPU whose runs retire nothing and cost nothing so often in a row keeps time from going on: its domain crashes. */
const MAX_FRUITLESS_RUNS = 1000;

/** The longest run between two looks at the host's clock, in instructions. */
const LONGEST_RUN = 100_000;

/** Where virtual time ends: later ones are no exact numbers of nanoseconds. */
const END: Nanoseconds = Number.MAX_SAFE_INTEGER;

/** What a step did, or why none was possible. */
export type Step = "ran" | "idle" | "hold" | "limit";

/** What the run loop needs from the rest of the hypervisor. */
export interface RunLoopServices {
  readonly hypercalls: Hypercalls;
  /** Delivers what XenStore has for domain 0 and for guests. */
  pump(): void;
  /** Answers an access to a port or MMIO address in exit.valueLo/valueHi. */
  io(vcpu: Vcpu, exit: Exit): void;
  /** The domain cannot go on. `fault`: not the guest's doing, but its arch plugin's. */
  crash(vcpu: Vcpu, reason: string, fault?: { readonly error: unknown }): void;
}

export class RunLoop {
  readonly machine: Machine;
  readonly scheduling: Scheduling;
  readonly #services: RunLoopServices;
  readonly #holds = new Set<Promise<unknown>>();
  readonly #injected: (() => void)[] = [];
  /** A runnable vCPU that waits for longer than this ejects its scheduler. */
  stallBound: Nanoseconds = 30e9;
  /** Instructions that guests have retired so far: a measure of the host's work. */
  retired = 0;
  #stallChecked: Nanoseconds = 0;
  #fruitless = 0;

  constructor(machine: Machine, scheduling: Scheduling, services: RunLoopServices) {
    this.machine = machine;
    this.scheduling = scheduling;
    this.#services = services;
    scheduling.bring = (pcpu) => this.#bring(pcpu);
  }

  /** Virtual time stands still until the promise settles; `then` runs at the present virtual time. */
  hold<T>(promise: Promise<T>, then: (result: T | Error) => void): void {
    const held: Promise<unknown> = promise
      .then(
        (value) => value,
        (error: unknown) => (error instanceof Error ? error : new Error(String(error))),
      )
      .then((result) => {
        this.#holds.delete(held);
        this.machine.post(() => then(result));
      });
    this.#holds.add(held);
  }

  /** Host work in virtual time: `done` runs at now + latency; if the promise is later, the machine waits for it. */
  io<T>(work: Promise<T>, latency: Nanoseconds, done: (result: T | Error) => void): void {
    let result: { value: T | Error } | null = null;
    const settled = work.then(
      (value) => {
        result = { value };
        return value;
      },
      (error: unknown) => {
        const value = error instanceof Error ? error : new Error(String(error));
        result = { value };
        throw value;
      },
    );
    settled.catch(() => {});
    this.machine.timers.arm(this.machine.now + Math.max(0, latency), () => {
      if (result !== null) done(result.value);
      else this.hold(settled, done);
    });
  }

  /** Something from outside virtual time (a key typed live): runs before the next step, at the present time. */
  inject(task: () => void): void {
    this.#injected.push(task);
  }

  get held(): boolean {
    return this.#holds.size > 0;
  }

  /** Resolves when some hold has settled. */
  async settle(): Promise<void> {
    if (this.#holds.size > 0) await Promise.race(this.#holds);
  }

  /** Is some pCPU busy, or about to choose? */
  get busy(): boolean {
    for (const pcpu of this.machine.pcpus)
      if (pcpu.current !== null || (pcpu.resource?.needSchedule ?? false)) return true;
    return false;
  }

  /** When an idle machine's next event is, or Infinity. */
  get nextDue(): Nanoseconds {
    return Math.min(this.machine.timers.next, this.scheduling.queue.firstKey);
  }

  /** Nanoseconds: the time of the pCPU furthest behind, else the present time. */
  get time(): Nanoseconds {
    let time = Infinity;
    for (const pcpu of this.machine.pcpus) if (pcpu.current !== null && pcpu.time < time) time = pcpu.time;
    return time === Infinity ? this.machine.now : time;
  }

  /** Does the next thing that happens; `latest` is a virtual time that nothing passes, and at 2^53 - 1 ns all ends. */
  step(latest: Nanoseconds): Step {
    const { machine } = this;
    const limit = latest < END ? latest : END;
    const { queue } = this.scheduling;
    if (this.#injected.length > 0 || machine.hasPosted) {
      for (const task of this.#injected.splice(0)) task();
      machine.runPosted();
      this.#services.pump();
      return "ran";
    }
    this.#services.pump();
    if (machine.hasPosted) return "ran";
    if (this.#holds.size > 0) return "hold";
    const key = queue.firstKey;
    const timer = machine.timers.next;
    if (timer <= key) {
      if (timer === Infinity) return "idle";
      if (timer > limit) return this.#limit(limit);
      machine.now = timer;
      machine.timers.fireOne(timer);
      machine.takeCharge();
      this.#checkStall();
      return "ran";
    }
    if (key >= limit) return this.#limit(limit);
    machine.now = key;
    const pcpu = machine.pcpus[queue.first]!;
    const resource = pcpu.resource!;
    if (pcpu.current !== null && pcpu.clock < resource.due) {
      if (!pcpu.lazy) {
        this.#run(pcpu, Math.min(resource.due, timer, queue.secondKey + machine.config.quantum, limit), LONGEST_RUN);
        return "ran";
      }
      this.#lazy(pcpu, key);
      if (pcpu.current === null || pcpu.clock < resource.due || pcpu.resource !== resource) return "ran";
    }
    if (this.scheduling.waits(resource)) this.scheduling.rekey(resource);
    else {
      this.scheduling.schedule(resource);
      this.#checkStall();
    }
    return "ran";
  }

  #limit(limit: Nanoseconds): Step {
    if (limit > this.machine.now) this.machine.now = limit;
    return "limit";
  }

  /** Runs a lazy pCPU up to a time at which its vCPU stops by itself, or something happens to it. */
  #lazy(pcpu: Pcpu, until: Nanoseconds): void {
    const vcpu = pcpu.current!;
    if (!vcpu.runnable) {
      // It stopped before its horizon, and waits for its scheduler to be asked.
      if (until > pcpu.clock) pcpu.clock = until;
      this.scheduling.rekey(pcpu.resource!);
      return;
    }
    const horizon = vcpu.domain.arch!.horizon!(vcpu);
    if (pcpu.after(horizon) <= until) this.#run(pcpu, Infinity, horizon);
    else if (until > pcpu.clock) this.#run(pcpu, until, Infinity);
    else this.scheduling.rekey(pcpu.resource!);
  }

  /** Brings a lazy pCPU to the present, for somebody who is about to change what it runs. */
  #bring(pcpu: Pcpu): void {
    if (pcpu.lazy && pcpu.current !== null && pcpu.clock < this.machine.now && pcpu !== this.scheduling.inExit)
      this.#lazy(pcpu, this.machine.now);
  }

  /** Runs the vCPU of a pCPU up to a time, for so many instructions at most. */
  #run(pcpu: Pcpu, until: Nanoseconds, longest: number): void {
    const { machine, scheduling } = this;
    const vcpu = pcpu.current!;
    const arch = vcpu.domain.arch!;
    vcpu.exit ??= createExit();
    const { exit } = vcpu;
    exit.code = ExitCode.budget;
    const budget = Math.min(longest, pcpu.instructionsUntil(until));
    const outer = scheduling.inExit;
    const present = machine.now;
    const { lazy } = pcpu;
    // What the exit that this run is part of has been charged is not this one's.
    const charged = outer === null ? 0 : machine.takeCharge();
    let retired = 0;
    scheduling.inExit = pcpu;
    try {
      retired = arch.run(vcpu, budget, exit);
      if (!(retired >= 0 && retired <= budget))
        throw new Error(`run() says that ${retired} of ${budget} instructions retired`);
      this.retired += retired;
      pcpu.retire(retired);
      if (pcpu.clock > machine.now || !lazy) machine.now = pcpu.clock;
      if (exit.code !== ExitCode.budget) this.#handle(vcpu, exit);
    } catch (error) {
      this.#services.crash(vcpu, messageOf(error), { error });
    }
    // A behaviour costs what it says; leaving and entering a guest costs where there is guest code.
    const cost = machine.takeCharge() + (lazy ? 0 : EXIT_COST[exit.code]);
    if (charged > 0) machine.charge(charged);
    if (cost > 0 && pcpu.current === vcpu) pcpu.retire(cost);
    scheduling.inExit = outer;
    if (pcpu.current === vcpu) vcpu.clock = pcpu.clock;
    const { resource } = pcpu;
    if (resource !== null) {
      if (resource.pcpus.length > 1) scheduling.fill(resource);
      else scheduling.rekey(resource);
    }
    if (outer !== null || present > machine.now) machine.now = present;
    this.#fruitless = retired + cost > 0 || !vcpu.runnable ? 0 : this.#fruitless + 1;
    if (this.#fruitless > MAX_FRUITLESS_RUNS)
      this.#services.crash(vcpu, "it retires no instruction", { error: new Error("run() retires no instruction") });
    this.#checkStall();
  }

  #handle(vcpu: Vcpu, exit: Exit): void {
    const arch = vcpu.domain.arch!;
    switch (exit.code) {
      case ExitCode.hypercall: {
        const result = this.#services.hypercalls.dispatch(vcpu, exit.nr);
        if (result !== Result.noReturn && result !== Result.continued) arch.finishHypercall(vcpu, result);
        return;
      }
      case ExitCode.io:
        this.#services.io(vcpu, exit);
        arch.finishIo(vcpu, exit.valueLo, exit.valueHi);
        return;
      case ExitCode.halt:
        if (!arch.eventsDeliverable(vcpu)) this.scheduling.setFlag(vcpu, PauseFlag.blocked);
        return;
      case ExitCode.yield:
        this.scheduling.yieldNow(vcpu);
        return;
      case ExitCode.crash:
        this.#services.crash(vcpu, exit.reason);
        return;
      default:
        return;
    }
  }

  /** Moves an idle machine's present time on: nothing is due before `to`. */
  advance(to: Nanoseconds): void {
    if (!this.busy && !this.held) this.machine.now = Math.max(this.machine.now, Math.min(to, this.nextDue));
  }

  /** Four times in each bound, looks whether a unit has waited for longer than that. */
  #checkStall(): void {
    if (this.machine.now - this.#stallChecked <= this.stallBound / 4) return;
    this.#stallChecked = this.machine.now;
    for (const pool of this.scheduling.pools) pool.checkStall(this.machine.now, this.stallBound);
  }

  /** Nothing will ever happen by itself, though some vCPU is runnable: its scheduler has lost it. */
  ejectLosers(): boolean {
    let any = false;
    for (const pool of this.scheduling.pools) any = pool.checkStall(Infinity, 0) || any;
    return any;
  }
}
