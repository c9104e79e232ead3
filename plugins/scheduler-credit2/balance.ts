/**
 * Balancing between runqueues: the furthest one in load, and the push, pull or swap that brings the two closest.
 *
 * Source: Xen's credit2.c (balance_load, consider). Of each side at most 32 units are looked at, going on where the last balancing of
 * that runqueue ended, so that the cost does not grow with their number; with up to 32 members it is Xen's search.
 */
import type { Nanoseconds } from "hookvisor";
import { LOAD_ONE } from "./load.ts";
import type { Runqueue } from "./runqueue.ts";
import type { Credit2Unit } from "./unit.ts";

/** Units of a runqueue that one balancing looks at. */
const LOOKED_AT = 32;
/** Least difference of load that is acted upon while all fits (underload) and when not (overload): 1.0 and 0.125. */
const UNDERLOAD = LOAD_ONE;
const OVERLOAD = LOAD_ONE / 8;

/** Units that should change places; null: none in that direction. */
export interface Exchange {
  readonly other: Runqueue;
  readonly push: Credit2Unit | null;
  readonly pull: Credit2Unit | null;
}

/** What balancing would do for `local`; null: nothing. `except` stays where it is. */
export function balance(
  local: Runqueue,
  queues: readonly Runqueue[],
  except: Credit2Unit,
  now: Nanoseconds,
): Exchange | null {
  local.load.update(now, 0);
  let other: Runqueue | null = null;
  let apart = 0;
  for (const queue of queues) {
    if (queue === local || queue.active === 0) continue;
    queue.load.update(now, 0);
    const difference = Math.abs(local.load.average - queue.load.average);
    if (difference > apart) {
      apart = difference;
      other = queue;
    }
  }
  if (other === null) return null;
  const busier = Math.max(local.load.average, other.load.average);
  const capacity = Math.max(local.pcpuCount, other.pcpuCount) * LOAD_ONE;
  if (apart < (busier < capacity ? UNDERLOAD : OVERLOAD)) return null;

  const difference = local.load.average - other.load.average;
  const pushes = movable(local, other, except, now);
  const pulls = movable(other, local, except, now);
  let [push, pull]: [Credit2Unit | null, Credit2Unit | null] = [null, null];
  const consider = (out: Credit2Unit | null, into: Credit2Unit | null): void => {
    const moved = (out?.load.average ?? 0) - (into?.load.average ?? 0);
    const left = Math.abs(difference - 2 * moved);
    if (left >= apart) return;
    apart = left;
    push = out;
    pull = into;
  };
  for (const out of pushes) {
    for (const into of pulls) consider(out, into);
    consider(out, null);
  }
  for (const into of pulls) consider(null, into);
  return push === null && pull === null ? null : { other, push, pull };
}

/** Members of a runqueue that may move to another. */
function movable(from: Runqueue, to: Runqueue, except: Credit2Unit, now: Nanoseconds): Credit2Unit[] {
  const { members } = from;
  const count = Math.min(members.length, LOOKED_AT);
  const found: Credit2Unit[] = [];
  for (let i = 0; i < count; i++) {
    const one = members[(from.cursor + i) % members.length]!;
    if (one === except || one.migrateTo !== null || to.maskOf(one.unit.hardAffinity) === 0) continue;
    one.load.update(now, 0);
    found.push(one);
  }
  from.cursor = members.length === 0 ? 0 : (from.cursor + count) % members.length;
  return found;
}
