/**
 * Caps: a domain's budget of a period, what units take of it, replenishment.
 *
 * Every 10 ms a capped domain's budget is filled up to cap per cent of that time. A unit takes a quota of it when it begins to run without any,
 * and gives back what is left when it stops; one that finds nothing is parked.
 * Invariants: what a domain runs in a period is at most its total plus what it overran before; an overrun is paid for first; while
 * a domain's budget is above 0 none of its units is parked.
 */
import type { Nanoseconds, SchedulerHost } from "hookvisor";
import { type Credit2Domain, type Credit2Unit, MIN_TIMER } from "./unit.ts";

/** Period of replenishment (Xen: CSCHED2_BDGT_REPL_PERIOD). */
export const PERIOD: Nanoseconds = 10_000_000;

/** Gives a unit budget to run on; false: there is none. */
export function grab(one: Credit2Unit): boolean {
  if (one.budget > 0) return true;
  const { domain } = one;
  domain.budget += one.budget;
  one.budget = 0;
  if (domain.budget <= 0) return false;
  one.budget = Math.min(domain.quota, domain.budget);
  domain.budget -= one.budget;
  return true;
}

/** Takes back what a unit has left; true: parked units of its domain may run now. */
export function giveBack(one: Credit2Unit): boolean {
  const { domain } = one;
  if (domain.cap === 0 || one.budget <= 0) return false;
  domain.budget += one.budget;
  one.budget = 0;
  return domain.budget > 0 && domain.parked.size > 0;
}

/** What a unit takes at once follows the number of units. */
export function setQuota(domain: Credit2Domain): void {
  domain.quota = Math.max(Math.floor(domain.total / Math.max(1, domain.units.size)), MIN_TIMER);
}

/** Budget of a period under a cap. */
export function setTotal(domain: Credit2Domain, cap: number): void {
  domain.total = (PERIOD * cap) / 100;
  domain.cap = cap;
  setQuota(domain);
}

/** Arms the next replenishment; `refilled` is called when there is budget again. */
export function armReplenishment(
  host: SchedulerHost,
  domain: Credit2Domain,
  refilled: (domain: Credit2Domain, now: Nanoseconds) => void,
): void {
  domain.timer?.cancel();
  domain.timer = host.timer(domain.replenishAt, (now) => {
    domain.timer = null;
    do {
      domain.replenishAt += PERIOD;
      domain.budget += domain.total;
    } while (domain.replenishAt <= now);
    domain.budget = Math.min(domain.budget, domain.total);
    armReplenishment(host, domain, refilled);
    if (domain.budget > 0) refilled(domain, now);
  });
}
