/**
 * Credits: what the credit scheduler knows of units and domains, and the distribution of credits every accounting period.
 *
 * Source: Xen's common/sched/credit.c (csched_acct). 10 credits are 1 ms of a pCPU, so a 30 ms slice is 300.
 * Invariants: a unit burns exactly what it ran (a residual carries what is less than a credit); only active units earn; credit stays
 * within [-slice, +slice] after each accounting.
 */
import type { Domain, Nanoseconds, SchedulingUnit } from "hookvisor";

/** Credits of a millisecond. */
export const CREDITS_PER_MS = 10;
const NS_PER_CREDIT = 1e6 / CREDITS_PER_MS;

/** Priorities, higher runs first. */
export const Priority = Object.freeze({ boost: 0, under: -1, over: -2, idle: -64 });

/** A domain's parameters and its active units. */
export interface CreditDomain {
  readonly domain: Domain;
  weight: number;
  /** Per cent of one pCPU; 0: none. */
  cap: number;
  readonly active: CreditUnit[];
}

/** What the scheduler keeps of a unit. */
export class CreditUnit {
  readonly unit: SchedulingUnit;
  readonly domain: CreditDomain;
  priority: number = Priority.under;
  credit = 0;
  /** Earns credits at accounting. */
  active = false;
  /** Stopped by its domain's cap until its credit is not negative. */
  parked = false;
  /** Gives way at the next doSchedule. */
  yielding = false;
  /** pCPU id of the queue that it belongs to. */
  home = 0;
  queued = false;
  /** When its present run began, for the rate limit. */
  startedAt: Nanoseconds = 0;
  #burnt: Nanoseconds;

  constructor(unit: SchedulingUnit, domain: CreditDomain) {
    this.unit = unit;
    this.domain = domain;
    this.#burnt = unit.runTime;
  }

  /** Charges what it ran since the last call; the rest below one credit is charged next time. */
  burn(): void {
    const credits = Math.floor((this.unit.runTime - this.#burnt) / NS_PER_CREDIT);
    if (credits <= 0) return;
    this.credit -= credits;
    this.#burnt += credits * NS_PER_CREDIT;
  }
}

/** What accounting decided besides the credits themselves. */
export interface Accounting {
  readonly park: readonly CreditUnit[];
  readonly unpark: readonly CreditUnit[];
  /** Units that have enough and stop earning. */
  readonly full: readonly CreditUnit[];
  readonly balance: number;
}

/**
 * Hands out the credits of one period. `domains` is the list of domains with active units, whose order it may change (a
 * domain that could take more than its fair share goes first next time, as in Xen).
 */
export function account(domains: CreditDomain[], pcpus: number, sliceCredits: number, lastBalance: number): Accounting {
  const park: CreditUnit[] = [];
  const unpark: CreditUnit[] = [];
  const full: CreditUnit[] = [];
  const weightTotal = domains.reduce((sum, d) => sum + d.weight * d.active.length, 0);
  let weightLeft = weightTotal;
  let total = pcpus * sliceCredits;
  let balance = 0;
  let somebodyWantsMore = false;
  for (const domain of [...domains]) {
    const units = domain.active.length;
    const weight = domain.weight * units;
    weightLeft -= weight;
    let peak = units * sliceCredits;
    if (lastBalance < 0) peak += Math.ceil((-lastBalance * weight) / weightTotal);
    let capPerUnit = 0;
    if (domain.cap !== 0) {
      const cap = Math.ceil((domain.cap * sliceCredits) / 100);
      peak = Math.min(peak, cap);
      capPerUnit = Math.ceil(cap / units);
    }
    let fair = Math.ceil((total * weight) / weightTotal);
    if (fair < peak) somebodyWantsMore = true;
    else {
      if (weightLeft !== 0) total += Math.ceil(((fair - peak) * weightTotal) / weightLeft);
      if (somebodyWantsMore) {
        domains.splice(domains.indexOf(domain), 1);
        domains.unshift(domain);
      }
      fair = peak;
    }
    const each = Math.ceil(fair / units);
    for (const one of domain.active) {
      one.credit += each;
      if (one.credit < 0) {
        one.priority = Priority.over;
        if (domain.cap !== 0 && one.credit < -capPerUnit && !one.parked) park.push(one);
        one.credit = Math.max(one.credit, -sliceCredits);
      } else {
        one.priority = Priority.under;
        if (one.parked) unpark.push(one);
        if (one.credit > sliceCredits) {
          full.push(one);
          one.credit = Math.floor(one.credit / 2);
        }
      }
      balance += one.credit;
    }
  }
  return { park, unpark, full, balance };
}
