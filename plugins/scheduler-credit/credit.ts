/**
 * The credit scheduler: weights, caps, boost, a queue for each pCPU and work stealing.
 *
 * Source: Xen's common/sched/credit.c; where this departs from it, README.md says so. Priorities BOOST > UNDER > OVER; within
 * one the order of arrival. A pCPU ticks every 10 ms while it is busy, credits are handed out every 30 ms while
 * somebody earns.
 * Invariants: a unit is in at most one queue, and never while it runs; a parked unit is in none; queues are in order of
 * priority except between an accounting and the next tick (they are sorted lazily, as in Xen).
 */
import type {
  Decision,
  Domain,
  Nanoseconds,
  ParamValues,
  Scheduler,
  SchedulerHost,
  SchedulerPcpu,
  SchedulingUnit,
  Timer,
} from "hookvisor";
import { account, CREDITS_PER_MS, type CreditDomain, CreditUnit, Priority } from "./accounting.ts";
import { domainParams, poolParams } from "./params.ts";

const MS = 1_000_000;
const TICKS_PER_SLICE = 3;
/** A pCPU looks at others' queues at most once in this time. */
const BALANCE_INTERVAL = 1 * MS;

interface Runqueue {
  readonly pcpu: SchedulerPcpu;
  readonly units: CreditUnit[];
  tick: Timer | null;
  lastBalance: Nanoseconds;
  /** The queue was sorted after the accounting with this number. */
  sorted: number;
}

export class CreditScheduler implements Scheduler {
  readonly params = { domain: domainParams, pool: poolParams };
  readonly #host: SchedulerHost;
  readonly #queues = new Map<number, Runqueue>();
  readonly #units = new Map<SchedulingUnit, CreditUnit>();
  readonly #domains = new Map<Domain, CreditDomain>();
  /** Domains with active units. */
  readonly #earning: CreditDomain[] = [];
  #slice = 30 * MS;
  #ratelimit = 1 * MS;
  #migrationDelay = 0;
  #balance = 0;
  #accountings = 0;
  #accountTimer: Timer | null = null;

  constructor(host: SchedulerHost) {
    this.#host = host;
    for (const pcpu of host.pcpus) this.pcpuAdded(pcpu);
  }

  get #sliceCredits(): number {
    return (this.#slice / MS) * CREDITS_PER_MS;
  }

  pcpuAdded(pcpu: SchedulerPcpu): void {
    this.#queues.set(pcpu.id, { pcpu, units: [], tick: null, lastBalance: 0, sorted: 0 });
  }

  pcpuRemoved(pcpu: SchedulerPcpu): void {
    this.#queues.get(pcpu.id)?.tick?.cancel();
    this.#queues.delete(pcpu.id);
  }

  insertUnit(unit: SchedulingUnit): void {
    let domain = this.#domains.get(unit.domain);
    if (domain === undefined) {
      domain = { domain: unit.domain, weight: domainParams.weight.default, cap: domainParams.cap.default, active: [] };
      this.#domains.set(unit.domain, domain);
    }
    const one = new CreditUnit(unit, domain);
    one.home = this.#pick(one).pcpu.id;
    this.#units.set(unit, one);
  }

  removeUnit(unit: SchedulingUnit): void {
    const one = this.#of(unit);
    this.#dequeue(one);
    this.#stopEarning(one);
    this.#units.delete(unit);
    if (![...this.#units.values()].some((other) => other.domain === one.domain)) this.#domains.delete(unit.domain);
  }

  wake(unit: SchedulingUnit): void {
    const one = this.#of(unit);
    if (unit.runningOn !== null || one.queued || one.parked) return;
    if (one.priority === Priority.under) one.priority = Priority.boost;
    if (!this.#queues.has(one.home) || !unit.hardAffinity.has(one.home)) one.home = this.#pick(one).pcpu.id;
    this.#enqueue(one);
    this.#tickleFor(one);
  }

  sleep(unit: SchedulingUnit): void {
    this.#dequeue(this.#of(unit));
  }

  yielded(unit: SchedulingUnit): void {
    this.#of(unit).yielding = true;
  }

  doSchedule(pcpu: SchedulerPcpu, now: Nanoseconds): Decision {
    const queue = this.#queues.get(pcpu.id)!;
    const current = pcpu.currentUnit === null ? null : this.#of(pcpu.currentUnit);
    if (current !== null) {
      current.burn();
      const ran = now - current.startedAt;
      const keeps = current.unit.runnable && !current.parked && !current.yielding && ran < this.#ratelimit;
      if (keeps) return { unit: current.unit, slice: this.#ratelimit - ran };
      if (current.unit.runnable && !current.parked) {
        if (current.unit.hardAffinity.has(pcpu.id)) current.home = pcpu.id;
        this.#enqueue(current);
      }
      current.yielding = false;
    }
    let next = queue.units.find((one) => one === current || one.unit.runningOn === null) ?? null;
    if (next === null || next.priority <= Priority.over) next = this.#steal(queue, next, now) ?? next;
    if (next === null) {
      queue.tick?.cancel();
      queue.tick = null;
      return { unit: null, slice: null };
    }
    this.#dequeue(next);
    if (current?.queued) this.#offer(current);
    next.home = pcpu.id;
    if (next !== current) next.startedAt = now;
    this.#startTick(queue, now);
    return { unit: next.unit, slice: this.#slice };
  }

  adjust(target: Domain | SchedulingUnit | null, values: ParamValues): number {
    if (target === null) return this.#adjustPool(values);
    const domain = this.#domains.get(target as Domain);
    if (domain === undefined) return -3; // ESRCH
    if (values["weight"] !== undefined) domain.weight = values["weight"] as number;
    if (values["cap"] !== undefined) {
      domain.cap = values["cap"] as number;
      if (domain.cap === 0)
        for (const one of this.#units.values()) if (one.domain === domain && one.parked) this.#unpark(one);
    }
    return 0;
  }

  #adjustPool(values: ParamValues): number {
    const slice = values["tslice_ms"] === undefined ? this.#slice : (values["tslice_ms"] as number) * MS;
    const limit = values["ratelimit_us"] === undefined ? this.#ratelimit : (values["ratelimit_us"] as number) * 1000;
    if (limit > slice || (limit !== 0 && limit < 100_000)) return -22; // EINVAL
    this.#slice = slice;
    this.#ratelimit = limit;
    if (values["migration_delay_us"] !== undefined)
      this.#migrationDelay = (values["migration_delay_us"] as number) * 1000;
    return 0;
  }

  read(target: Domain | SchedulingUnit | null): ParamValues {
    if (target === null)
      return {
        tslice_ms: this.#slice / MS,
        ratelimit_us: this.#ratelimit / 1000,
        migration_delay_us: this.#migrationDelay / 1000,
      };
    const domain = this.#domains.get(target as Domain);
    return domain === undefined ? {} : { weight: domain.weight, cap: domain.cap };
  }

  dump(): string {
    const show = (one: CreditUnit): string =>
      `${one.unit} priority ${one.priority} credit ${one.credit}${one.parked ? " parked" : ""}`;
    const queues = [...this.#queues.values()].map(
      (q) => `pcpu ${q.pcpu.id}: ${q.units.map(show).join("; ") || "empty"}`,
    );
    return [`balance ${this.#balance}, accountings ${this.#accountings}`, ...queues].join("\n");
  }

  #of(unit: SchedulingUnit): CreditUnit {
    return this.#units.get(unit)!;
  }

  // ---- queues ----------------------------------------------------------------------------------

  /** Behind everything of its priority or higher; a unit that yields also lets one lower pass. */
  #enqueue(one: CreditUnit): void {
    const { units } = this.#queues.get(one.home) ?? this.#pick(one);
    let at = units.findIndex((other) => other.priority < one.priority);
    if (at < 0) at = units.length;
    else if (one.yielding) at++;
    units.splice(at, 0, one);
    one.queued = true;
  }

  #dequeue(one: CreditUnit): void {
    if (!one.queued) return;
    one.queued = false;
    for (const { units } of this.#queues.values()) {
      const at = units.indexOf(one);
      if (at >= 0) units.splice(at, 1);
    }
  }

  /** Where a unit should wait: an idle pCPU of its soft, then of its hard affinity, else the shortest queue; the present one on a tie. */
  #pick(one: CreditUnit): Runqueue {
    const load = (q: Runqueue): number =>
      q.units.length + (q.pcpu.currentUnit !== null && q.pcpu.currentUnit !== one.unit ? 1 : 0);
    for (const affinity of [one.unit.softAffinity, one.unit.hardAffinity]) {
      const candidates = [...this.#queues.values()].filter(
        (q) => affinity.has(q.pcpu.id) && one.unit.hardAffinity.has(q.pcpu.id),
      );
      if (candidates.length === 0) continue;
      return candidates.reduce((best, q) =>
        load(q) < load(best) || (load(q) === load(best) && q.pcpu.id === one.home && best.pcpu.id !== one.home)
          ? q
          : best,
      );
    }
    return this.#queues.values().next().value!;
  }

  /** Wakes the pCPU that should look at a unit just queued. */
  #tickleFor(one: CreditUnit): void {
    const { pcpu } = this.#queues.get(one.home)!;
    const current = pcpu.currentUnit === null ? null : this.#units.get(pcpu.currentUnit);
    if (pcpu.currentUnit === null) {
      this.#host.tickle(pcpu);
      return;
    }
    const idle = [one.unit.softAffinity, one.unit.hardAffinity]
      .map((affinity) =>
        this.#host.pcpus.find((p) => p.currentUnit === null && affinity.has(p.id) && one.unit.hardAffinity.has(p.id)),
      )
      .find((p) => p !== undefined);
    if (idle !== undefined) this.#host.tickle(idle);
    else if (current === null || current === undefined || one.priority > current.priority) this.#host.tickle(pcpu);
  }

  /** A unit has been preempted: an idle pCPU may take it (Xen migrates it in its runq_tickle). */
  #offer(one: CreditUnit): void {
    const idle = this.#host.pcpus.find((p) => p.currentUnit === null && one.unit.hardAffinity.has(p.id));
    if (idle !== undefined) this.#host.tickle(idle);
  }

  /** The best unit of other queues that is more urgent than `local`; own node first, then the others. */
  #steal(queue: Runqueue, local: CreditUnit | null, now: Nanoseconds): CreditUnit | null {
    if (local !== null && now - queue.lastBalance < BALANCE_INTERVAL) return null;
    queue.lastBalance = now;
    const { pcpu } = queue;
    const others = [...this.#queues.values()]
      .filter((q) => q !== queue && q.units.length > 0)
      .sort((a, b) => Number(a.pcpu.node !== pcpu.node) - Number(b.pcpu.node !== pcpu.node) || distance(a, b, pcpu.id));
    const floor = local?.priority ?? Priority.idle;
    for (const soft of [true, false])
      for (const other of others)
        for (const one of other.units) {
          if (one.priority <= floor) break;
          const { unit } = one;
          if (unit.runningOn !== null || one.yielding || !unit.hardAffinity.has(pcpu.id)) continue;
          if (soft && !unit.softAffinity.has(pcpu.id)) continue;
          if (this.#migrationDelay > 0 && now - one.startedAt < this.#migrationDelay) continue;
          return one;
        }
    return null;
  }

  // ---- ticks and accounting --------------------------------------------------------------------

  get #tickPeriod(): Nanoseconds {
    return Math.floor(this.#slice / TICKS_PER_SLICE);
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
      this.#startTick(queue, now);
    }
    if (queue.sorted !== this.#accountings) {
      queue.sorted = this.#accountings;
      queue.units.sort((a, b) => Number(b.priority > Priority.over) - Number(a.priority > Priority.over));
      const first = queue.units[0];
      if (first !== undefined && first.unit.runningOn === null) this.#preemptIfBetter(queue, first);
    }
  }

  #preemptIfBetter(queue: Runqueue, first: CreditUnit): void {
    const current = queue.pcpu.currentUnit === null ? null : this.#of(queue.pcpu.currentUnit);
    if (current !== null && first.priority > current.priority) this.#host.tickle(queue.pcpu);
  }

  #startEarning(one: CreditUnit, now: Nanoseconds): void {
    one.active = true;
    const { domain } = one;
    if (domain.active.length === 0) this.#earning.unshift(domain);
    domain.active.push(one);
    if (this.#accountTimer === null) this.#armAccounting(now);
  }

  #stopEarning(one: CreditUnit): void {
    if (!one.active) return;
    one.active = false;
    const { active } = one.domain;
    active.splice(active.indexOf(one), 1);
    if (active.length === 0) this.#earning.splice(this.#earning.indexOf(one.domain), 1);
  }

  #armAccounting(now: Nanoseconds): void {
    const at = (Math.floor(now / this.#slice) + 1) * this.#slice;
    this.#accountTimer = this.#host.timer(at, (time) => this.#account(time));
  }

  #account(now: Nanoseconds): void {
    this.#accountTimer = null;
    if (this.#earning.length === 0) {
      this.#balance = 0;
      return;
    }
    for (const pcpu of this.#host.pcpus) if (pcpu.currentUnit !== null) this.#of(pcpu.currentUnit).burn();
    const { park, unpark, full, balance } = account(
      this.#earning,
      this.#host.pcpus.length,
      this.#sliceCredits,
      this.#balance,
    );
    this.#balance = balance;
    this.#accountings++;
    for (const one of park) this.#park(one);
    for (const one of unpark) this.#unpark(one);
    for (const one of full) this.#stopEarning(one);
    this.#armAccounting(now);
  }

  #park(one: CreditUnit): void {
    one.parked = true;
    this.#dequeue(one);
    if (one.unit.runningOn !== null) this.#host.tickle(one.unit.runningOn);
  }

  #unpark(one: CreditUnit): void {
    one.parked = false;
    if (!one.unit.runnable || one.unit.runningOn !== null || one.queued) return;
    this.#enqueue(one);
    this.#tickleFor(one);
  }
}

/** Order of stealing: rising pCPU ids, beginning behind one's own. */
function distance(a: Runqueue, b: Runqueue, from: number): number {
  const of = (q: Runqueue): number => (q.pcpu.id > from ? q.pcpu.id - from : q.pcpu.id + 0x10000);
  return of(a) - of(b);
}
