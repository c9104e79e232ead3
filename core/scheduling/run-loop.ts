/**
 * The run loop: virtual time.
 *
 * A step does the next thing that happens: backend work that is queued, a timer that is due, or a run of the pCPU that
 * is furthest behind (lowest number first) up to the earliest of its slice's end, the next timer, and the slowest other
 * busy clock plus a quantum. When every pCPU is idle the clock jumps to the next timer.
 * Invariants: nothing is awaited between a guest exit and the next guest entry; no pCPU passes a timer that has not fired;
 * equal inputs give equal steps, whatever the host's speed; while a hold is pending virtual time stands still.
 */
import { createExit, type Exit, ExitCode } from "../architecture/arch-backend.ts";
import { PauseFlag, type Vcpu } from "../domain/vcpu.ts";
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
  readonly #exits = new Map<Vcpu, Exit>();
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

  /** Is some pCPU busy? */
  get busy(): boolean {
    return this.#furthestBehind() !== null;
  }

  /** When the next timer is due, or Infinity. */
  get nextDue(): Nanoseconds {
    return Math.min(this.machine.timers.next, this.#nextIdle()?.sliceEnd ?? Infinity);
  }

  /** Nanoseconds: the clock of the busy pCPU furthest behind, else the present time. */
  get time(): Nanoseconds {
    const pcpu = this.#furthestBehind();
    return pcpu === null ? this.machine.now : Math.max(pcpu.clock, 0);
  }

  /** Does the next thing that happens; `limit` is a virtual time that nothing passes. */
  step(limit: Nanoseconds): Step {
    const { machine } = this;
    const queued = this.#injected.length > 0 || machine.hasPosted;
    for (const task of this.#injected.splice(0)) task();
    machine.runPosted();
    this.#services.pump();
    if (queued || machine.hasPosted) return "ran";
    if (this.#holds.size > 0) return "hold";
    const pcpu = this.#furthestBehind();
    const timer = machine.timers.next;
    const idle = this.#nextIdle();
    const due = Math.min(timer, idle?.sliceEnd ?? Infinity);
    if (pcpu === null || due <= pcpu.clock) {
      if (due === Infinity) return "idle";
      if (due > limit) {
        machine.now = Math.max(machine.now, limit);
        return "limit";
      }
      machine.now = due;
      if (timer <= due) {
        machine.timers.fireOne(due);
        machine.takeCharge();
        this.#checkStall();
      } else if (idle !== null) {
        idle.clock = Math.max(idle.clock, due);
        idle.needSchedule = true;
      }
      return "ran";
    }
    if (pcpu.clock >= limit) {
      machine.now = Math.max(machine.now, limit);
      return "limit";
    }
    machine.now = pcpu.clock;
    if (pcpu.needSchedule || pcpu.clock >= pcpu.sliceEnd) {
      this.scheduling.schedule(pcpu);
      machine.now = pcpu.clock;
      this.#checkStall();
      return "ran";
    }
    this.#run(pcpu, Math.min(pcpu.sliceEnd, due, this.#slowestOther(pcpu) + machine.config.quantum, limit));
    return "ran";
  }

  #run(pcpu: Pcpu, until: Nanoseconds): void {
    const { machine } = this;
    const vcpu = pcpu.current!;
    const arch = vcpu.domain.arch!;
    let exit = this.#exits.get(vcpu);
    if (exit === undefined) {
      exit = createExit();
      this.#exits.set(vcpu, exit);
    }
    exit.code = ExitCode.budget;
    const budget = Math.min(LONGEST_RUN, pcpu.instructionsUntil(until));
    let retired = 0;
    try {
      retired = arch.run(vcpu, budget, exit);
      if (!(retired >= 0 && retired <= budget))
        throw new Error(`run() says that ${retired} of ${budget} instructions retired`);
      this.retired += retired;
      pcpu.retire(retired);
      machine.now = pcpu.clock;
      if (exit.code !== ExitCode.budget) this.#handle(vcpu, exit);
    } catch (error) {
      this.#services.crash(vcpu, error instanceof Error ? error.message : String(error), { error });
    }
    const cost = machine.takeCharge() + EXIT_COST[exit.code];
    pcpu.retire(cost);
    vcpu.clock = pcpu.clock;
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

  /** A vCPU is gone: its Exit too. */
  forget(vcpu: Vcpu): void {
    this.#exits.delete(vcpu);
  }

  #furthestBehind(): Pcpu | null {
    let found: Pcpu | null = null;
    for (const pcpu of this.machine.pcpus)
      if ((pcpu.current !== null || pcpu.needSchedule) && (found === null || pcpu.clock < found.clock)) found = pcpu;
    return found;
  }

  #slowestOther(but: Pcpu): Nanoseconds {
    let clock = Infinity;
    for (const pcpu of this.machine.pcpus)
      if (pcpu !== but && (pcpu.current !== null || pcpu.needSchedule) && pcpu.clock < clock) clock = pcpu.clock;
    return clock;
  }

  /** Moves an idle machine's present time on: nothing is due before `to`. */
  advance(to: Nanoseconds): void {
    if (!this.busy && !this.held) this.machine.now = Math.max(this.machine.now, Math.min(to, this.nextDue));
  }

  /** The idle pCPU whose scheduler wants to be asked again first. */
  #nextIdle(): Pcpu | null {
    let found: Pcpu | null = null;
    for (const pcpu of this.machine.pcpus)
      if (pcpu.current === null && !pcpu.needSchedule && pcpu.sliceEnd < (found?.sliceEnd ?? Infinity)) found = pcpu;
    return found;
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
