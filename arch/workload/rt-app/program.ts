/**
 * A thread of an rt-app file: an interpreter of phases and events (rt-app: doc/tutorial.txt).
 *
 * The thread's phases are flat arrays of numbers, its events one array of records. Events that only this vCPU sees (run, sleep, timer) are
 * steps of its own; those that others see (locks, conditions, barriers) are done in `sync`, as many in a row as there are, and cost
 * nothing, but for one instruction after each BATCH of them, so that time goes on.
 * A job is what is between two timers, else one turn of a phase: released when the timer was due (else at its beginning), due by the next one.
 */
import type { Nanoseconds } from "hookvisor";
import type { Behaviour, Plan } from "../behaviours/behaviour.ts";
import type { Group } from "../group.ts";
import type { Guest } from "../guest.ts";
import type { Barrier, Condition, Lock } from "../sync.ts";

/** What an event does. */
export const EventKind = Object.freeze({
  /** Instructions, in `amount`. */
  run: 0,
  /** Nanoseconds on the clock, in `amount`. */
  runtime: 1,
  sleep: 2,
  timer: 3,
  yield: 4,
  lock: 5,
  unlock: 6,
  wait: 7,
  signal: 8,
  broad: 9,
  /** Signals, then waits. */
  sync: 10,
  barrier: 11,
  suspend: 12,
  resume: 13,
});
export type EventKind = (typeof EventKind)[keyof typeof EventKind];

/** One event as the file has it. */
export interface RtEvent {
  readonly kind: EventKind;
  readonly amount: number;
  /** The lock, condition, barrier or timer that it is about. */
  readonly ref: string;
  /** Of wait and sync. */
  readonly mutex: string;
  /** Of a timer: missed, it counts from now on; else it keeps to its grid. */
  readonly relative: boolean;
}

export interface RtPhase {
  /** Turns; Infinity: for ever. */
  readonly loop: number;
  readonly events: readonly RtEvent[];
}

export interface RtThread {
  /** Nanoseconds before it begins. */
  readonly delay: Nanoseconds;
  readonly loop: number;
  readonly phases: readonly RtPhase[];
  /** The use case ends so long after its first thread has begun; Infinity: never. */
  readonly duration: Nanoseconds;
}

/** A timer: all threads that name it share it, unless its name begins with "unique". */
interface RtTimer {
  /** When it was due last; NaN: never used. */
  next: Nanoseconds;
}

/** What the threads of one domain share beyond locks, conditions and barriers. */
export class RtShared {
  readonly #timers = new Map<string, RtTimer>();

  timer(name: string): RtTimer {
    let timer = this.#timers.get(name);
    if (timer === undefined) {
      timer = { next: Number.NaN };
      this.#timers.set(name, timer);
    }
    return timer;
  }
}

/** An event with what it refers to. */
interface Op extends RtEvent {
  readonly lock: Lock | null;
  readonly condition: Condition | null;
  readonly barrier: Barrier | null;
  readonly timer: RtTimer | null;
}

/** Shared events in a row that cost one instruction. */
const BATCH = 64;

/** Is it done in `sync`? A timer that threads share is looked at like a lock. */
function isShared(op: Op): boolean {
  return op.kind >= EventKind.lock || (op.kind === EventKind.timer && !op.ref.startsWith("unique"));
}

class Thread implements Behaviour {
  readonly #thread: RtThread;
  readonly #phases: readonly { readonly loop: number; readonly ops: readonly Op[] }[];
  #first: Nanoseconds = 0;
  #begun = false;
  #phase = 0;
  #turn = 0;
  #at = 0;
  #loop = 0;
  /** Since when it wants a lock; NaN: it does not. */
  #wants: Nanoseconds = Number.NaN;
  // The present job.
  #released: Nanoseconds = 0;
  #started: Nanoseconds = -1;
  #finished: Nanoseconds = 0;
  #work = 0;
  /** The last timed step was a run, begun with so much work. */
  #running = 0;

  constructor(thread: RtThread, guest: Guest, shared: RtShared) {
    const { group } = guest;
    const own = new RtShared();
    this.#thread = thread;
    this.#phases = thread.phases.map(({ loop, events }) => ({
      loop,
      ops: events.map((event) => bind(event, group, event.ref.startsWith("unique") ? own : shared)),
    }));
  }

  start(guest: Guest, now: Nanoseconds): void {
    this.#first = now + this.#thread.delay;
    this.#released = this.#first;
    if (this.#thread.duration < Infinity) guest.group.limit(now + this.#thread.duration);
  }

  next(guest: Guest, now: Nanoseconds): void {
    if (!this.#begun) {
      if (now < this.#first) {
        guest.sleepUntil(this.#first);
        return;
      }
      this.#begun = true;
    }
    if (!Number.isNaN(this.#wants)) {
      guest.lockGot(now - this.#wants);
      this.#wants = Number.NaN;
    }
    if (this.#running > 0) {
      this.#work += this.#running;
      this.#finished = now;
      this.#running = 0;
    }
    this.#proceed(guest, now, false);
  }

  sync(guest: Guest, now: Nanoseconds): void {
    this.#proceed(guest, now, true);
  }

  /** Does events until one takes time, or needs `sync`. */
  #proceed(guest: Guest, now: Nanoseconds, inSync: boolean): void {
    for (let batch = 0; batch < BATCH; batch++) {
      const op = this.#op(guest, now);
      if (op === null) {
        guest.end();
        return;
      }
      if (isShared(op) && !inSync) {
        guest.sync();
        return;
      }
      this.#at++;
      if (isShared(op) ? this.#share(guest, now, op) : this.#step(guest, now, op)) return;
    }
    guest.run(1);
  }

  /** The next event; null: the thread is over. */
  #op(guest: Guest, now: Nanoseconds): Op | null {
    for (let empty = 0; ; empty++) {
      const phase = this.#phases[this.#phase];
      if (phase === undefined) {
        if (++this.#loop === this.#thread.loop || empty > this.#phases.length) return null;
        this.#phase = 0;
        continue;
      }
      if (phase.loop > 0 && this.#at < phase.ops.length) return phase.ops[this.#at]!;
      if (phase.loop > 0) this.#turned(guest, now);
      this.#at = 0;
      if (++this.#turn >= phase.loop) {
        this.#turn = 0;
        this.#phase++;
      }
    }
  }

  /** A phase has been gone through once. */
  #turned(guest: Guest, now: Nanoseconds): void {
    if (this.#work > 0) this.#job(guest, now, Infinity);
    else this.#begin(now);
  }

  #job(guest: Guest, next: Nanoseconds, deadline: Nanoseconds): void {
    if (this.#work > 0) guest.jobDone(this.#released, this.#started, this.#finished, deadline, this.#work);
    this.#begin(next);
  }

  #begin(released: Nanoseconds): void {
    this.#released = released;
    this.#started = -1;
    this.#work = 0;
  }

  #step(guest: Guest, now: Nanoseconds, op: Op): boolean {
    switch (op.kind) {
      case EventKind.run:
      case EventKind.runtime:
        if (op.amount === 0) return false;
        if (this.#started < 0) this.#started = now;
        this.#running = op.amount;
        if (op.kind === EventKind.run) guest.run(op.amount);
        else guest.runUntil(now + op.amount);
        return true;
      case EventKind.sleep:
        guest.sleepUntil(now + op.amount);
        return true;
      case EventKind.yield:
        guest.giveWay();
        return true;
      default:
        return this.#timer(guest, now, op);
    }
  }

  #timer(guest: Guest, now: Nanoseconds, op: Op): boolean {
    const timer = op.timer!;
    const due = (Number.isNaN(timer.next) ? this.#first : timer.next) + op.amount;
    timer.next = due > now || !op.relative ? due : now;
    this.#job(guest, timer.next, due);
    if (due <= now) return false;
    guest.sleepUntil(due);
    return true;
  }

  #share(guest: Guest, now: Nanoseconds, op: Op): boolean {
    switch (op.kind) {
      case EventKind.timer:
        return this.#timer(guest, now, op);
      case EventKind.lock:
        if (op.lock!.acquire(guest)) {
          guest.lockGot(0);
          return false;
        }
        this.#wants = now;
        guest.block();
        return true;
      case EventKind.unlock:
        if (op.lock!.owner === guest) op.lock!.release(now, false);
        return false;
      case EventKind.signal:
      case EventKind.broad:
      case EventKind.resume:
        op.condition!.signal(now, op.kind !== EventKind.signal);
        return false;
      case EventKind.barrier:
        if (op.barrier!.arrive(guest, now)) return false;
        guest.block();
        return true;
      default:
        if (op.kind === EventKind.sync) op.condition!.signal(now, false);
        guest.block();
        op.condition!.wait(guest, op.lock, now);
        return true;
    }
  }
}

function bind(event: RtEvent, group: Group, timers: RtShared): Op {
  const { kind, ref, mutex } = event;
  const isLock = kind === EventKind.lock || kind === EventKind.unlock;
  const hasCondition = kind >= EventKind.wait && kind !== EventKind.barrier;
  const name = isLock ? ref : mutex;
  return {
    ...event,
    lock: name === "" ? null : group.lock(name),
    condition: hasCondition ? group.condition(ref) : null,
    barrier: kind === EventKind.barrier ? group.barrier(ref) : null,
    timer: kind === EventKind.timer ? timers.timer(ref) : null,
  };
}

/** The plan of one thread; threads of one file share timers by `sharedOf`. */
export function threadPlan(thread: RtThread, sharedOf: (group: Group) => RtShared): Plan {
  return {
    finite: thread.loop < Infinity && thread.phases.every((phase) => phase.loop < Infinity),
    shared: true,
    enlist({ group }) {
      for (const { loop, events } of thread.phases)
        for (const event of events)
          if (event.kind === EventKind.barrier && loop > 0) group.barrier(event.ref).parties++;
    },
    make: (guest) => new Thread(thread, guest, sharedOf(guest.group)),
  };
}
