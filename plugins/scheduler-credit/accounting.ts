/**
 * Credits: what the credit scheduler knows of units and domains, and the distribution of credits every accounting period.
 *
 * Source: Xen's common/sched/credit.c (csched_acct). 10 credits are 1 ms of a pCPU, so a 30 ms slice is 300.
 * Invariants: a unit burns exactly what it ran (a residual carries what is less than a credit); only active units earn; credit stays
 * within [-slice, +slice] after each accounting.
 */
import type { Domain, Nanoseconds, SchedulingUnit } from "hookvisor";
import { type Linked, LinkedList } from "./list.ts";
import type { Runqueue } from "./runqueue.ts";

/** Credits of a millisecond. */
export const CREDITS_PER_MS = 10;
const NS_PER_CREDIT = 1e6 / CREDITS_PER_MS;

/** Priorities, higher runs first. */
export const Priority = Object.freeze({ boost: 0, under: -1, over: -2, idle: -64 });

/** A domain: its parameters and its units. */
export class CreditDomain implements Linked<CreditDomain> {
  readonly domain: Domain;
  weight: number;
  /** Per cent of one pCPU; 0: none. */
  cap: number;
  readonly units = new Set<CreditUnit>();
  /** Units that earn. */
  readonly active: CreditUnit[] = [];
  /** Neighbours in the list of domains that earn. */
  previous: CreditDomain | null = null;
  next: CreditDomain | null = null;

  constructor(domain: Domain, weight: number, cap: number) {
    this.domain = domain;
    this.weight = weight;
    this.cap = cap;
  }
}

/** Domains that earn, and the weight of all their active units. */
export class Earning {
  readonly domains = new LinkedList<CreditDomain>();
  weight = 0;

  /** A unit begins to earn; its domain goes to the front when it is its first. */
  start(one: CreditUnit): void {
    const { domain } = one;
    if (domain.active.length === 0) this.domains.prepend(domain);
    one.activeIndex = domain.active.length;
    domain.active.push(one);
    this.weight += domain.weight;
  }

  stop(one: CreditUnit): void {
    if (!one.active) return;
    const { domain } = one;
    const last = domain.active.pop()!;
    if (last !== one) {
      domain.active[one.activeIndex] = last;
      last.activeIndex = one.activeIndex;
    }
    one.activeIndex = -1;
    this.weight -= domain.weight;
    if (domain.active.length === 0) this.domains.remove(domain);
  }

  reweigh(domain: CreditDomain, weight: number): void {
    this.weight += (weight - domain.weight) * domain.active.length;
    domain.weight = weight;
  }
}

/** What the scheduler keeps of a unit. */
export class CreditUnit implements Linked<CreditUnit> {
  readonly unit: SchedulingUnit;
  readonly domain: CreditDomain;
  priority: number = Priority.under;
  credit = 0;
  /** Index among its domain's active units; -1: it does not earn. */
  activeIndex = -1;
  /** Stopped by its domain's cap until its credit is not negative. */
  parked = false;
  /** It has been parked since it last ran. */
  wasParked = false;
  /** It gave way and has not run since. */
  yielded = false;
  /** The pCPU where it waits when it wakes. */
  home: Runqueue;
  /** The better pCPU that a tick found; it goes there when it has left its own. */
  migrateTo: Runqueue | null = null;
  /** It left its pCPU for that: contextSaved puts it there. */
  moving = false;
  /** When its affinity changed last: a wake at that moment is no wake. */
  movedAt: Nanoseconds = Number.NEGATIVE_INFINITY;
  /** The queue that it waits in, and the list there; its neighbours. */
  queue: Runqueue | null = null;
  list = 0;
  /** Order of arrival in the queue. */
  sequence = 0;
  previous: CreditUnit | null = null;
  next: CreditUnit | null = null;
  /** Its affinity allows several pCPUs, and prefers some of them. */
  hasSoft = false;
  /** Its run time when its present run began. */
  ranBefore: Nanoseconds;
  /** When it left a pCPU last, for the migration delay. */
  leftAt: Nanoseconds = Number.NEGATIVE_INFINITY;
  #burnt: Nanoseconds;

  constructor(unit: SchedulingUnit, domain: CreditDomain, home: Runqueue) {
    this.unit = unit;
    this.domain = domain;
    this.home = home;
    this.ranBefore = unit.runTime;
    this.#burnt = unit.runTime;
  }

  get active(): boolean {
    return this.activeIndex >= 0;
  }

  /** What it ran and has not been charged, less than one credit after burn(). */
  get residual(): Nanoseconds {
    return this.unit.runTime - this.#burnt;
  }

  set residual(time: Nanoseconds) {
    this.#burnt = this.unit.runTime - time;
  }

  /** Charges what it ran since the last call; the rest below one credit is charged next time. Returns its run time. */
  burn(): Nanoseconds {
    const { runTime } = this.unit;
    const credits = Math.floor((runTime - this.#burnt) / NS_PER_CREDIT);
    if (credits > 0) {
      this.credit -= credits;
      this.#burnt += credits * NS_PER_CREDIT;
    }
    return runTime;
  }
}

/** What accounting decides besides the credits themselves. */
export interface AccountingActions {
  park(one: CreditUnit): void;
  unpark(one: CreditUnit): void;
}

/**
 * Hands out the credits of one period among the domains that earn, whose order it may change (a domain that could take more than its
 * share goes first next time, as in Xen). Returns the balance: the sum of all credits.
 */
export function account(
  earning: Earning,
  pcpus: number,
  sliceCredits: number,
  lastBalance: number,
  actions: AccountingActions,
): number {
  const weightTotal = earning.weight;
  let weightLeft = weightTotal;
  // A negative balance converges to 0.
  let total = pcpus * sliceCredits + Math.max(0, -lastBalance);
  let balance = 0;
  let somebodyWantsMore = false;
  for (let domain = earning.domains.first; domain !== null; ) {
    const following: CreditDomain | null = domain.next;
    const { active, cap } = domain;
    const units = active.length;
    const weight = domain.weight * units;
    weightLeft -= weight;
    let peak = units * sliceCredits;
    if (lastBalance < 0) peak += Math.ceil((-lastBalance * weight) / weightTotal);
    let capPerUnit = 0;
    if (cap !== 0) {
      const capped = Math.ceil((cap * sliceCredits) / 100);
      peak = Math.min(peak, capped);
      capPerUnit = Math.ceil(capped / units);
    }
    let fair = Math.ceil((total * weight) / weightTotal);
    if (fair < peak) somebodyWantsMore = true;
    else {
      if (weightLeft !== 0) total += Math.ceil(((fair - peak) * weightTotal) / weightLeft);
      if (somebodyWantsMore) {
        earning.domains.remove(domain);
        earning.domains.prepend(domain);
      }
      fair = peak;
    }
    const each = Math.ceil(fair / units);
    // Backwards, as who stops earning is replaced by the last.
    for (let i = units - 1; i >= 0; i--) {
      const one = active[i]!;
      let credit = one.credit + each;
      if (credit < 0) {
        one.priority = Priority.over;
        if (cap !== 0 && credit < -capPerUnit && !one.parked) actions.park(one);
        if (credit < -sliceCredits) credit = -sliceCredits;
      } else {
        one.priority = Priority.under;
        if (one.parked) actions.unpark(one);
        if (credit > sliceCredits) {
          earning.stop(one);
          credit = Math.floor(credit / 2);
        }
      }
      one.queue?.note(one);
      one.credit = credit;
      balance += credit;
    }
    domain = following;
  }
  return balance;
}
