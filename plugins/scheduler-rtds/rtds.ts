/**
 * rtds: global earliest deadline first with deferrable servers.
 *
 * Source: Xen's common/sched/rt.c; where this departs from it, README.md says so. A unit is a server with a budget in each period; the
 * server keeps what is left of its budget while the unit sleeps. Order: (priority level, deadline, arrival).
 * Invariants: a unit that is runnable, runs nowhere and has budget is in the ready queue, nobody else is; every unit that is runnable or
 * runs is in the replenishment queue at its deadline; the one timer fires no later than the first of that queue.
 */
import {
  type Decision,
  Domain,
  type Nanoseconds,
  type ParamValues,
  type Scheduler,
  type SchedulerHost,
  type SchedulerPcpu,
  type SchedulerState,
  type SchedulerStateObject,
  type SchedulingUnit,
  type Timer,
  xen,
} from "hookvisor";
import { OrderedQueue } from "../lib-runqueue/index.ts";
import { serverParams } from "./params.ts";
import { compare, Place, ReadyQueue } from "./ready-queue.ts";
import { RtUnit } from "./unit.ts";

/** A unit with a longer period may lawfully wait for longer than a watchdog does. */
const LONG_PERIOD = 10e9;

export class RtdsScheduler implements Scheduler {
  readonly params = { domain: serverParams, unit: serverParams };
  readonly #host: SchedulerHost;
  readonly #units = new Map<SchedulingUnit, RtUnit>();
  readonly #ready = new ReadyQueue();
  /** Replenishments to come, by deadline. */
  readonly #replenishments = new OrderedQueue<RtUnit>();
  #timer: Timer | null = null;
  readonly #onTimer = (now: Nanoseconds): void => {
    this.#timer = null;
    this.#replenish(now);
  };
  /** Scratch of #replenish. */
  readonly #due: RtUnit[] = [];

  constructor(host: SchedulerHost) {
    this.#host = host;
    for (const pcpu of host.pcpus) this.#ready.places.set(pcpu.id, new Place(pcpu));
  }

  // ---- units and pCPUs -------------------------------------------------------------------------

  insertUnit(unit: SchedulingUnit): void {
    const one = new RtUnit(unit);
    this.#units.set(unit, one);
    this.#ready.join(one);
  }

  removeUnit(unit: SchedulingUnit): void {
    const one = this.#of(unit);
    this.#forget(one);
    this.#ready.leave(one);
    this.#units.delete(unit);
  }

  affinityChanged(unit: SchedulingUnit): void {
    const one = this.#of(unit);
    this.#ready.remove(one);
    this.#ready.join(one);
  }

  pcpuAdded(pcpu: SchedulerPcpu): void {
    this.#ready.places.set(pcpu.id, new Place(pcpu));
    this.#regroup();
  }

  pcpuRemoved(pcpu: SchedulerPcpu): void {
    this.#ready.places.delete(pcpu.id);
    this.#regroup();
  }

  /** The pCPUs have changed: finds every unit's group again and keeps the order. */
  #regroup(): void {
    const queued = this.#ready.all();
    for (const one of queued) this.#ready.remove(one);
    for (const one of this.#units.values()) this.#ready.join(one);
    for (const one of queued) this.#ready.add(one);
    for (const one of queued) this.#tickleFor(one);
  }

  // ---- what happens to units -------------------------------------------------------------------

  wake(unit: SchedulingUnit, now: Nanoseconds): void {
    const one = this.#of(unit);
    // Still on its pCPU: its replenishment is still queued, and doSchedule or contextSaved will see that it is runnable.
    if (unit.runningOn !== null) return;
    this.#makeReady(one, now);
  }

  sleep(unit: SchedulingUnit): void {
    if (unit.runningOn === null) this.#forget(this.#of(unit));
  }

  contextSaved(unit: SchedulingUnit, now: Nanoseconds): void {
    const one = this.#of(unit);
    one.charge(now);
    if (one.place?.running === one) one.place.running = null;
    one.place = null;
    if (unit.runnable) this.#makeReady(one, now);
    else this.#forget(one);
  }

  /** A runnable unit that runs nowhere: queues it and its replenishment. */
  #makeReady(one: RtUnit, now: Nanoseconds): void {
    if (now >= one.deadline) one.replenish(now);
    this.#await(one);
    if (!one.eligible || one.queued) return;
    this.#ready.add(one);
    this.#tickleFor(one);
  }

  #forget(one: RtUnit): void {
    this.#ready.remove(one);
    this.#replenishments.remove(one);
  }

  doSchedule(pcpu: SchedulerPcpu, now: Nanoseconds): Decision {
    const place = this.#ready.places.get(pcpu.id)!;
    const asked = place.tickledFor;
    place.tickledFor = null;
    const current = pcpu.currentUnit === null ? null : this.#of(pcpu.currentUnit);
    current?.charge(now);
    // The timer may be late; a decision never goes by what is over.
    if (this.#replenishments.firstKey() <= now) {
      place.deciding = true;
      this.#replenish(now);
      place.deciding = false;
    }
    const best = this.#ready.first(place);
    let next = best;
    // On equal deadlines the head of the queue goes first.
    if (current?.unit.runnable && current.eligible && (best === null || compare(current, best) > 0)) next = current;
    place.running = next;
    if (next !== null && next !== current) {
      this.#ready.remove(next);
      next.charged = next.unit.runTime;
      next.place = place;
    }
    // The one that this pCPU was tickled for may go elsewhere.
    if (asked?.queued) this.#tickleFor(asked);
    return next === null ? { unit: null, slice: null } : { unit: next.unit, slice: next.left };
  }

  /**
   * A unit has become ready: wakes an idle pCPU where it may run (the one where it was last, then by rising id and round again), else
   * the one that runs the least urgent unit, if that is less urgent. pCPUs that were tickled for another unit are left alone.
   */
  #tickleFor(one: RtUnit): void {
    const { places } = one.group!;
    const start = one.group!.indexOf(one.unit.lastPcpu);
    let worst: Place | null = null;
    for (let i = 0; i < places.length; i++) {
      const at = start + i;
      const place = places[at < places.length ? at : at - places.length]!;
      if (place.tickledFor !== null || place.deciding) continue;
      if (place.running === null) {
        worst = place;
        break;
      }
      if (worst === null || compare(place.running, worst.running!) < 0) worst = place;
    }
    if (worst === null || (worst.running !== null && compare(worst.running, one) >= 0)) return;
    worst.tickledFor = one;
    this.#host.tickle(worst.pcpu);
  }

  // ---- replenishment ---------------------------------------------------------------------------

  /** Queues the replenishment of a unit at its deadline. */
  #await(one: RtUnit): void {
    if (this.#replenishments.keyOf(one) !== one.deadline) this.#replenishments.add(one, one.deadline);
    this.#arm();
  }

  #arm(): void {
    const at = this.#replenishments.firstKey();
    if (at === Infinity || (this.#timer !== null && this.#timer.at <= at)) return;
    this.#timer?.cancel();
    this.#timer = this.#host.timer(at, this.#onTimer);
  }

  /** Replenishes every unit whose deadline has come; of one instant, who waited longest first. */
  #replenish(now: Nanoseconds): void {
    const due = this.#due;
    due.length = 0;
    while (this.#replenishments.firstKey() <= now) due.push(this.#replenishments.shift()!);
    if (due.length > 1) due.sort(longestWaiting);
    for (const one of due) {
      const { budget } = one;
      one.replenish(now);
      this.#replenishments.add(one, one.deadline);
      if (one.place === null) this.#ready.add(one);
      // Its present slice may last for longer than its new budget does.
      else if (one.budget < budget && !one.place.deciding) this.#host.tickle(one.place.pcpu);
    }
    for (const one of due) {
      if (one.queued) this.#tickleFor(one);
      else if (one.place !== null) {
        const head = this.#ready.first(one.place);
        if (head !== null && compare(head, one) > 0) this.#tickleFor(head);
      }
    }
    due.length = 0;
    this.#arm();
  }

  // ---- parameters ------------------------------------------------------------------------------

  adjust(target: Domain | SchedulingUnit | null, values: ParamValues): number {
    const units = this.#targets(target);
    if (units.length === 0) return -xen.ERRNO.ESRCH;
    const { period, budget, extratime } = values as { period?: number; budget?: number; extratime?: boolean };
    for (const one of units) {
      const longest = period ?? one.nextPeriod;
      const share = budget ?? one.nextBudget;
      if (share > longest) return -xen.ERRNO.EINVAL;
    }
    for (const one of units) {
      one.nextPeriod = period ?? one.nextPeriod;
      one.nextBudget = budget ?? one.nextBudget;
      one.extratime = extratime ?? one.extratime;
      if (!one.extratime || !one.depleted) continue;
      one.refill();
      if (one.unit.runnable && one.unit.runningOn === null) this.#makeReady(one, this.#host.now());
    }
    return 0;
  }

  read(target: Domain | SchedulingUnit | null): ParamValues {
    const one = this.#targets(target)[0];
    return one === undefined ? {} : { period: one.nextPeriod, budget: one.nextBudget, extratime: one.extratime };
  }

  #targets(target: Domain | SchedulingUnit | null): RtUnit[] {
    if (target instanceof Domain) {
      const found = new Set<RtUnit>();
      for (const { unit } of target.vcpus) {
        const one = unit === null ? undefined : this.#units.get(unit);
        if (one !== undefined) found.add(one);
      }
      return [...found];
    }
    const one = target === null ? undefined : this.#units.get(target);
    return one === undefined ? [] : [one];
  }

  /**
   * EDF owes nothing to a unit that has used up its budget, nor to anybody when more was promised than its pCPUs have, but for turns among units
   * of equal periods.
   */
  entitled(unit: SchedulingUnit): boolean {
    const one = this.#of(unit);
    if (one.depleted || one.level > 0 || one.period > LONG_PERIOD) return false;
    const places = one.group?.places ?? [];
    let used = 0;
    let alike = true;
    for (const other of this.#units.values()) {
      if (!places.some((place) => other.unit.hardAffinity.has(place.pcpu.id))) continue;
      used += other.budget / other.period;
      alike &&= other.period === one.period && other.nextPeriod === one.period;
    }
    return alike || used <= places.length;
  }

  // ---- state -----------------------------------------------------------------------------------

  /** Times are relative to the present. */
  save(): SchedulerState {
    const now = this.#host.now();
    return {
      units: [...this.#units.values()].map((one) => {
        if (one.place !== null) one.charge(now);
        return {
          id: one.unit.id,
          period: one.period,
          budget: one.budget,
          nextPeriod: one.nextPeriod,
          nextBudget: one.nextBudget,
          extratime: one.extratime,
          level: one.level,
          deadline: one.deadline - now,
          left: one.left,
          depleted: one.depleted,
          ranAt: one.ranAt - now,
        };
      }),
    };
  }

  restore(state: SchedulerState, find: (id: number) => SchedulingUnit | undefined, now: Nanoseconds): void {
    for (const saved of (state as { units: readonly SavedUnit[] }).units) {
      const unit = find(saved.id);
      const one = unit === undefined ? undefined : this.#units.get(unit);
      if (one === undefined) continue;
      const { id: _, ...rest } = saved;
      Object.assign(one, rest);
      one.deadline = saved.deadline + now;
      one.ranAt = saved.ranAt + now;
      one.charged = one.unit.runTime;
    }
  }

  dump(): string {
    const show = (one: RtUnit): string =>
      `${one.unit} level ${one.level} deadline ${one.deadline} left ${one.left} of ${one.budget} in ${one.period}${one.extratime ? " extratime" : ""}${one.depleted ? " depleted" : ""}`;
    const running = [...this.#ready.places.values()].map(
      ({ pcpu, running }) => `pcpu ${pcpu.id}: ${running === null ? "idle" : show(running)}`,
    );
    const others = [...this.#units.values()].filter((one) => one.place === null && !one.queued);
    return [
      ...running,
      `ready: ${this.#ready.all().map(show).join("; ") || "none"}`,
      `replenishments: ${[...this.#replenishments].map((one) => `${one.unit} at ${one.deadline}`).join("; ") || "none"}`,
      `others: ${others.map(show).join("; ") || "none"}`,
    ].join("\n");
  }

  #of(unit: SchedulingUnit): RtUnit {
    return this.#units.get(unit)!;
  }
}

/** A unit as `save` returns it. */
interface SavedUnit extends SchedulerStateObject {
  readonly id: number;
  readonly deadline: number;
  readonly ranAt: number;
}

function longestWaiting(a: RtUnit, b: RtUnit): number {
  return a.ranAt - b.ranAt;
}
