/**
 * The credit scheduler: weights, caps, boost, a queue for each pCPU and work stealing.
 *
 * Source: Xen's common/sched/credit.c; where this departs from it, README.md says so. Priorities BOOST > UNDER > OVER; within
 * one the order of arrival. A pCPU ticks three times a slice while it is busy, credits are handed out once a slice while somebody earns.
 * Invariants: a unit is in at most one queue, and never while it runs; a parked unit is in none; queues are in order of
 * priority except between an accounting and the next tick (they are sorted lazily, as in Xen).
 */
import {
  type Decision,
  type Domain,
  type Nanoseconds,
  type ParamValues,
  type Scheduler,
  type SchedulerHost,
  type SchedulerPcpu,
  type SchedulerState,
  type SchedulingUnit,
  xen,
} from "hookvisor";
import { account, CREDITS_PER_MS, CreditDomain, CreditUnit, Earning, Priority } from "./accounting.ts";
import { domainParams, poolParams, RATELIMIT_MIN_US } from "./params.ts";
import { Placement } from "./placement.ts";
import type { Runqueue } from "./runqueue.ts";
import { readState, saveState } from "./state.ts";

const { EINVAL, ESRCH } = xen.ERRNO;
const MS = 1_000_000;
const TICKS_PER_SLICE = 3;
/** A pCPU that has work looks at others' queues when more than this has passed since it did. */
const BALANCE_INTERVAL = 1 * MS;
/** Units of a queue that are offered to idle pCPUs at a decision. */
const OFFERED = 16;
const IDLE: Decision = Object.freeze({ unit: null, slice: null });

export class CreditScheduler implements Scheduler {
  readonly params = { domain: domainParams, pool: poolParams };
  readonly #host: SchedulerHost;
  readonly #places = new Placement();
  readonly #units = new Map<SchedulingUnit, CreditUnit>();
  readonly #domains = new Map<Domain, CreditDomain>();
  readonly #earning = new Earning();
  #slice = poolParams.tslice_ms.default * MS;
  #ratelimit = poolParams.ratelimit_us.default * 1000;
  #migrationDelay = poolParams.migration_delay_us.default * 1000;
  #powerSavings: boolean = poolParams.smt_power_savings.default;
  #balance = 0;
  #accountings = 0;
  #accounting = false;
  readonly #actions = { park: (one: CreditUnit) => this.#park(one), unpark: (one: CreditUnit) => this.#unpark(one) };

  constructor(host: SchedulerHost) {
    this.#host = host;
    for (const pcpu of host.pcpus) this.#places.add(pcpu);
  }

  // ---- pCPUs -----------------------------------------------------------------------------------

  pcpuAdded(pcpu: SchedulerPcpu): void {
    if (this.#places.of(pcpu.id) !== undefined) return;
    this.#places.add(pcpu);
    // Those are there whose affinity names nothing but the new pCPU, as core tells of that first.
    this.#rehome(this.#places.limbo);
  }

  pcpuRemoved(pcpu: SchedulerPcpu): void {
    const queue = this.#places.of(pcpu.id);
    if (queue === undefined) return;
    this.#places.remove(queue);
    this.#rehome(queue);
    const asked = queue.askedFor;
    queue.askedFor = null;
    if (asked !== null && asked.queue !== null) this.#tickleFor(asked);
  }

  /** What waits in a queue whose pCPU is gone waits elsewhere. Who sleeps finds a new home when it wakes. */
  #rehome(queue: Runqueue): void {
    const waiting = [...queue];
    for (const one of waiting) queue.remove(one);
    for (const one of waiting) {
      this.#enqueue(one);
      this.#tickleFor(one);
    }
  }

  // ---- units -----------------------------------------------------------------------------------

  insertUnit(unit: SchedulingUnit): void {
    let domain = this.#domains.get(unit.domain);
    if (domain === undefined) {
      domain = new CreditDomain(unit.domain, domainParams.weight.default, domainParams.cap.default);
      this.#domains.set(unit.domain, domain);
    }
    const one = new CreditUnit(unit, domain, this.#places.limbo);
    domain.units.add(one);
    this.#units.set(unit, one);
    this.#settle(one);
  }

  removeUnit(unit: SchedulingUnit): void {
    const one = this.#of(unit);
    one.queue?.remove(one);
    this.#earning.stop(one);
    this.#units.delete(unit);
    const { domain } = one;
    domain.units.delete(one);
    if (domain.units.size === 0) this.#domains.delete(domain.domain);
  }

  affinityChanged(unit: SchedulingUnit, now: Nanoseconds): void {
    const one = this.#of(unit);
    one.movedAt = now;
    one.migrateTo = null;
    this.#settle(one);
  }

  /** Finds a unit a home by its affinity. */
  #settle(one: CreditUnit): void {
    const { softAffinity, hardAffinity } = one.unit;
    one.hasSoft = softAffinity.size < hardAffinity.size;
    one.home = this.#places.place(one, this.#powerSavings);
  }

  wake(unit: SchedulingUnit, now: Nanoseconds): void {
    const one = this.#of(unit);
    if (unit.runningOn !== null || one.queue !== null || one.parked) return;
    if (one.priority === Priority.under && one.movedAt !== now) one.priority = Priority.boost;
    this.#enqueue(one);
    this.#tickleFor(one);
  }

  sleep(unit: SchedulingUnit): void {
    const one = this.#of(unit);
    one.yielded = false;
    one.queue?.remove(one);
  }

  yielded(unit: SchedulingUnit): void {
    this.#of(unit).yielded = true;
  }

  contextSaved(unit: SchedulingUnit, now: Nanoseconds): void {
    const one = this.#of(unit);
    one.leftAt = now;
    if (one.moving) {
      one.moving = false;
      one.home = one.migrateTo ?? one.home;
      if (unit.runnable && !one.parked) {
        this.#enqueue(one);
        this.#tickleFor(one);
      }
    }
    one.migrateTo = null;
    this.#places.switching = null;
  }

  entitled(unit: SchedulingUnit): boolean {
    const one = this.#of(unit);
    return !one.wasParked && one.priority > Priority.over;
  }

  #of(unit: SchedulingUnit): CreditUnit {
    return this.#units.get(unit)!;
  }

  // ---- decisions -------------------------------------------------------------------------------

  doSchedule(pcpu: SchedulerPcpu, now: Nanoseconds): Decision {
    const places = this.#places;
    const queue = places.of(pcpu.id)!;
    places.switching = null;
    const unit = pcpu.currentUnit;
    const current = unit === null ? null : this.#of(unit);
    if (current !== null) {
      const ran = current.burn() - current.ranBefore;
      if (current.unit.runnable && !current.parked) {
        const allowed = current.unit.hardAffinity.has(pcpu.id);
        const target = allowed && current.migrateTo === null ? queue : places.pick(current, this.#powerSavings);
        if (target === queue) {
          current.migrateTo = null;
          if (!current.yielded && ran < this.#ratelimit) return { unit, slice: this.#ratelimit - ran };
          queue.add(current);
        } else {
          current.migrateTo = target;
          current.moving = true;
        }
      }
    }
    const asked = queue.askedFor;
    queue.askedFor = null;
    const next = this.#choose(queue, now);
    if (next !== current && current !== null) places.switching = queue;
    if (next === null) {
      queue.tick?.cancel();
      queue.tick = null;
      places.setIdle(queue, true);
      return IDLE;
    }
    next.queue!.remove(next);
    next.home = queue;
    next.yielded = false;
    next.wasParked = false;
    if (next !== current) next.ranBefore = next.unit.runTime;
    places.setIdle(queue, false);
    this.#startTick(queue, now);
    if (places.idleCount > 0) {
      // It found something else to do than what it was asked for, or leaves something.
      if (asked !== null && asked.queue !== null) this.#ask(asked);
      if (queue.size > 0) this.#offer(queue);
    }
    return { unit: next.unit, slice: this.#slice };
  }

  /** The first of the queue, or of another's when that is more urgent. */
  #choose(queue: Runqueue, now: Nanoseconds): CreditUnit | null {
    const local = queue.first();
    if (local !== null && (local.priority > Priority.over || now - queue.lastBalance <= BALANCE_INTERVAL)) return local;
    queue.lastBalance = now;
    const floor = local === null ? Priority.idle : local.priority;
    return this.#places.steal(queue, floor, now, this.#migrationDelay) ?? local;
  }

  /** While pCPUs idle that may run what waits here, they are tickled, one for each unit. */
  #offer(queue: Runqueue): void {
    let one = queue.first();
    for (let i = 0; one !== null && i < OFFERED && this.#places.idleCount > 0; i++) {
      this.#ask(one);
      one = queue.after(one);
    }
  }

  /** Tickles an idle pCPU for a unit that waits elsewhere; false: there is none for it. */
  #ask(one: CreditUnit): boolean {
    const idle = this.#places.idleFor(one);
    if (idle === null) return false;
    idle.askedFor = one;
    this.#tickle(idle);
    return true;
  }

  #enqueue(one: CreditUnit): void {
    if (!one.home.present || !one.unit.hardAffinity.has(one.home.pcpu.id)) this.#settle(one);
    one.home.add(one);
  }

  #tickle(queue: Runqueue): void {
    this.#places.setIdle(queue, false);
    this.#host.tickle(queue.pcpu);
  }

  /** Wakes the pCPU that should look at a unit just queued. */
  #tickleFor(one: CreditUnit): void {
    const { home } = one;
    if (!home.present) return;
    const running = home.pcpu.currentUnit;
    if (running === null) {
      if (home !== this.#places.switching) this.#tickle(home);
      return;
    }
    if (!this.#ask(one) && one.priority > this.#of(running).priority) this.#tickle(home);
  }

  // ---- ticks and accounting --------------------------------------------------------------------

  get #sliceCredits(): number {
    return (this.#slice / MS) * CREDITS_PER_MS;
  }

  get #tickPeriod(): Nanoseconds {
    return this.#slice < TICKS_PER_SLICE * MS ? this.#slice : Math.floor(this.#slice / TICKS_PER_SLICE);
  }

  #startTick(queue: Runqueue, now: Nanoseconds): void {
    if (queue.tick !== null) return;
    const period = this.#tickPeriod;
    queue.tick = this.#host.timer((Math.floor(now / period) + 1) * period, (at) => this.#tick(queue, at));
  }

  #tick(queue: Runqueue, now: Nanoseconds): void {
    queue.tick = null;
    const { currentUnit } = queue.pcpu;
    if (currentUnit !== null) {
      const current = this.#of(currentUnit);
      if (current.priority === Priority.boost) current.priority = Priority.under;
      current.burn();
      if (!current.active) this.#startEarning(current, now);
      else if (this.#places.idleCount > 0) this.#improve(current, queue);
      this.#startTick(queue, now);
    }
    if (queue.sorted === this.#accountings) return;
    queue.sorted = this.#accountings;
    queue.sort();
  }

  /** A unit that has been running for a while moves where it has more of a core, or a socket, for itself. */
  #improve(current: CreditUnit, queue: Runqueue): void {
    if (current.parked || current.home !== queue) return;
    const better = this.#places.pick(current, this.#powerSavings);
    if (better === queue) return;
    current.migrateTo = better;
    this.#tickle(queue);
  }

  #startEarning(one: CreditUnit, now: Nanoseconds): void {
    this.#earning.start(one);
    if (!this.#accounting) this.#armAccounting(now);
  }

  #armAccounting(now: Nanoseconds): void {
    this.#accounting = true;
    const at = (Math.floor(now / this.#slice) + 1) * this.#slice;
    this.#host.timer(at, (time) => this.#account(time));
  }

  #account(now: Nanoseconds): void {
    this.#accounting = false;
    if (this.#earning.weight === 0) {
      this.#balance = 0;
      return;
    }
    const { queues } = this.#places;
    for (const { pcpu } of queues) if (pcpu.currentUnit !== null) this.#of(pcpu.currentUnit).burn();
    this.#accountings++;
    this.#balance = account(this.#earning, queues.length, this.#sliceCredits, this.#balance, this.#actions);
    this.#armAccounting(now);
  }

  #park(one: CreditUnit): void {
    one.parked = true;
    one.wasParked = true;
    one.queue?.remove(one);
    if (one.unit.runningOn !== null) this.#host.tickle(one.unit.runningOn);
  }

  #unpark(one: CreditUnit): void {
    one.parked = false;
    if (!one.unit.runnable || one.unit.runningOn !== null || one.queue !== null) return;
    this.#enqueue(one);
    this.#tickleFor(one);
  }

  // ---- parameters and state --------------------------------------------------------------------

  adjust(target: Domain | SchedulingUnit | null, values: ParamValues): number {
    if (target === null) return this.#adjustPool(values);
    const domain = this.#domains.get(target as Domain);
    if (domain === undefined) return -ESRCH;
    const { weight, cap } = values;
    if (typeof weight === "number") this.#earning.reweigh(domain, weight);
    if (typeof cap === "number") {
      domain.cap = cap;
      if (cap === 0) for (const one of domain.units) if (one.parked) this.#unpark(one);
    }
    return 0;
  }

  #adjustPool(values: ParamValues): number {
    const { tslice_ms, ratelimit_us, migration_delay_us, smt_power_savings } = values;
    const slice = typeof tslice_ms === "number" ? tslice_ms * MS : this.#slice;
    const limit = typeof ratelimit_us === "number" ? ratelimit_us * 1000 : this.#ratelimit;
    if (limit > slice || (limit !== 0 && limit < RATELIMIT_MIN_US * 1000)) return -EINVAL;
    this.#slice = slice;
    this.#ratelimit = limit;
    if (typeof migration_delay_us === "number") this.#migrationDelay = migration_delay_us * 1000;
    if (typeof smt_power_savings === "boolean") this.#powerSavings = smt_power_savings;
    return 0;
  }

  read(target: Domain | SchedulingUnit | null): ParamValues {
    if (target === null)
      return {
        tslice_ms: this.#slice / MS,
        ratelimit_us: this.#ratelimit / 1000,
        migration_delay_us: this.#migrationDelay / 1000,
        smt_power_savings: this.#powerSavings,
      };
    const domain = this.#domains.get(target as Domain);
    return domain === undefined ? {} : { weight: domain.weight, cap: domain.cap };
  }

  save(): SchedulerState {
    return saveState(this.read(null), this.#balance, this.#earning, this.#domains.values());
  }

  restore(state: SchedulerState, unit: (id: number) => SchedulingUnit | undefined, now: Nanoseconds): void {
    const { pool, balance, domains } = readState(state);
    this.#adjustPool(pool);
    this.#balance = balance;
    // Domains and units come to the front as they begin to earn.
    for (const saved of [...domains].reverse())
      for (const was of saved.units) {
        const found = unit(was.id);
        const one = found === undefined ? undefined : this.#units.get(found);
        if (one === undefined) continue;
        this.adjust(one.unit.domain, { weight: saved.weight, cap: saved.cap });
        one.credit = was.credit;
        one.residual = was.residual;
        one.priority = was.priority;
        one.parked = was.parked;
        one.wasParked = was.parked;
        // Units that are woken only because they were put to sleep for this get no boost.
        one.movedAt = now;
        const home = this.#places.of(was.home);
        if (home !== undefined && one.unit.hardAffinity.has(was.home)) one.home = home;
        if (was.active) this.#startEarning(one, now);
      }
  }

  dump(): string {
    const show = (one: CreditUnit): string => {
      const what = one.priority === Priority.boost ? "BOOST" : one.priority === Priority.under ? "UNDER" : "OVER";
      return `${one.unit} ${what} credit ${one.credit}${one.active ? "" : " inactive"}${one.parked ? " parked" : ""}`;
    };
    const lines = [
      `slice ${this.#slice} ns, rate limit ${this.#ratelimit} ns, balance ${this.#balance}, accountings ${this.#accountings}`,
    ];
    for (const queue of this.#places.queues) {
      const { currentUnit } = queue.pcpu;
      const runs = currentUnit === null ? (queue.idle ? "idle" : "idle, tickled") : show(this.#of(currentUnit));
      lines.push(`pCPU ${queue.pcpu.id}: ${runs}; waiting: ${[...queue].map(show).join("; ") || "nobody"}`);
    }
    for (const { domain, weight, cap, units } of this.#domains.values()) {
      lines.push(`${domain}: weight ${weight}${cap === 0 ? "" : `, cap ${cap}`}`);
      for (const one of units)
        if (one.queue === null && one.unit.runningOn === null) lines.push(`  ${show(one)}, home ${one.home.pcpu.id}`);
    }
    return lines.join("\n");
  }
}
