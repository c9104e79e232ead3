/**
 * What vCPUs of a domain wait for each other with. All of it is called from a behaviour's `sync` only, so in the order of virtual time.
 *
 * Declared orders: who waits first is served first. A lock that is given back goes to the first waiter who can take it at once (it sleeps, or it
 * spins on a pCPU at this moment); with `fair` to the first waiter, preempted or not (a ticket lock). If all waiters spin and are
 * preempted, the lock is free, and who comes first takes it.
 */
import type { Nanoseconds } from "hookvisor";
import { Does, type Guest } from "./guest.ts";

export class Lock {
  owner: Guest | null = null;
  readonly waiters: Guest[] = [];

  /** Takes it, or joins the waiters; the caller then blocks or spins until it is granted. */
  acquire(guest: Guest): boolean {
    if (this.owner === null) {
      this.owner = guest;
      return true;
    }
    this.waiters.push(guest);
    return false;
  }

  /** A waiter looks again: takes it if it is free. */
  retry(guest: Guest): boolean {
    if (this.owner !== null) return this.owner === guest;
    this.waiters.splice(this.waiters.indexOf(guest), 1);
    this.owner = guest;
    return true;
  }

  /** Gives it back, and to the next. */
  release(now: Nanoseconds, fair: boolean): void {
    const { waiters } = this;
    this.owner = null;
    for (let i = 0; i < waiters.length; i++) {
      const guest = waiters[i]!;
      if (!fair && guest.does === Does.spin && !guest.running) continue;
      waiters.splice(i, 1);
      this.owner = guest;
      guest.grant(now);
      return;
    }
    for (const guest of waiters) guest.lookAgain();
  }
}

export class Barrier {
  /** How many meet. */
  parties = 0;
  /** How often each member will still come to the end of its phases; Infinity: never. */
  readonly #uses = new Map<Guest, number>();
  /** When it opened last. */
  opened: Nanoseconds = 0;
  readonly #waiting: Guest[] = [];

  /** Arrives: true, if all are there now (the others are let go); else the caller blocks or spins until it is granted. */
  arrive(guest: Guest, now: Nanoseconds): boolean {
    if (this.#waiting.length + 1 < this.parties) {
      this.#waiting.push(guest);
      return false;
    }
    this.#open(now);
    return true;
  }

  /** A guest meets the others until it has left so many times. */
  enlist(guest: Guest, times: number): void {
    const uses = this.#uses.get(guest);
    if (uses === undefined) this.parties++;
    this.#uses.set(guest, (uses ?? 0) + times);
  }

  /** One has done its phases; if it has no others to come, it meets the rest no longer, who may be complete now. */
  leave(guest: Guest, now: Nanoseconds): void {
    const uses = this.#uses.get(guest)! - 1;
    this.#uses.set(guest, uses);
    if (uses > 0) return;
    this.parties--;
    if (this.#waiting.length > 0 && this.#waiting.length >= this.parties) this.#open(now);
  }

  #open(now: Nanoseconds): void {
    this.opened = now;
    for (const guest of this.#waiting.splice(0)) guest.grant(now);
  }
}

/** A condition variable: a signal without a waiter is lost. A woken waiter has its lock again before it goes on. */
export class Condition {
  readonly #waiting: { readonly guest: Guest; readonly lock: Lock | null }[] = [];

  /** The caller gives `lock` back, if it has it, and blocks. */
  wait(guest: Guest, lock: Lock | null, now: Nanoseconds): void {
    this.#waiting.push({ guest, lock });
    if (lock?.owner === guest) lock.release(now, false);
  }

  /** Wakes the first waiter, or all. */
  signal(now: Nanoseconds, all: boolean): void {
    for (const { guest, lock } of this.#waiting.splice(0, all ? this.#waiting.length : 1))
      if (lock === null || lock.acquire(guest)) guest.grant(now);
  }
}
