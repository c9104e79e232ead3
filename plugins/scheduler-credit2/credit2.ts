/**
 * The credit2 scheduler: credit that burns by weight, runqueues shared by the pCPUs of a socket, caps, load balancing.
 *
 * Source: Xen's common/sched/credit2.c; where this departs from it, README.md says so. The unit with the most credit runs; when nobody
 * has any, all get some more (a reset), and only then the load of runqueues is balanced.
 * Invariants: a unit belongs to one runqueue, whose pCPUs alone run it; it waits there (Runqueue), or runs, or is parked for want of budget,
 * or sleeps; `idle` and `tickled` of a runqueue are what doSchedule left and tickles asked for since; while a pCPU idles
 * that a waiting unit may use, one of the runqueue's pCPUs has been tickled.
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
import { balance } from "./balance.ts";
import { armReplenishment, giveBack, grab, PERIOD, setQuota, setTotal } from "./budget.ts";
import { domainParams, poolParams, RATELIMIT_MIN_US } from "./params.ts";
import { cycle, MAX_PCPUS, Runqueue } from "./runqueue.ts";
import { restoreState, saveState } from "./state.ts";
import { CREDIT_INIT, CREDIT_MIN, type Credit2Domain, Credit2Unit, IDLE_CREDIT, MIN_TIMER } from "./unit.ts";

const { EINVAL, ESRCH } = xen.ERRNO;
/** Longest slice. */
const MAX_TIMER: Nanoseconds = CREDIT_INIT;
/** A unit that ran elsewhere must have so much more credit to be taken over. */
const MIGRATE_RESIST = 500_000;
/** What a unit gets for having been moved to another pCPU. */
const MIGRATE_COMPENSATION = 50_000;
/** So shortly before the end of its rate limit a run may be interrupted. */
const RATELIMIT_TOLERANCE: Nanoseconds = 50_000;
const IDLE: Decision = Object.freeze({ unit: null, slice: null });

/** A pCPU's place. */
interface Place {
  readonly queue: Runqueue;
  readonly slot: number;
}

export class Credit2Scheduler implements Scheduler {
  readonly params = { domain: domainParams, pool: poolParams };
  readonly #host: SchedulerHost;
  readonly #queues: Runqueue[] = [];
  readonly #places = new Map<number, Place>();
  readonly #units = new Map<SchedulingUnit, Credit2Unit>();
  readonly #domains = new Map<Domain, Credit2Domain>();
  #nextQueue = 0;
  #ratelimit: Nanoseconds = poolParams.ratelimit_us.default * 1000;
  #powerSavings: boolean = poolParams.smt_power_savings.default;
  /** The pCPU that is between doSchedule and contextSaved: tickling it would be lost. */
  #switching: Place | null = null;

  constructor(host: SchedulerHost) {
    this.#host = host;
    for (const pcpu of host.pcpus) this.#place(pcpu, host.now());
  }

  // ---- pCPUs -----------------------------------------------------------------------------------

  pcpuAdded(pcpu: SchedulerPcpu, now: Nanoseconds): void {
    if (!this.#places.has(pcpu.id)) this.#arrange(() => this.#place(pcpu, now), now);
  }

  pcpuRemoved(pcpu: SchedulerPcpu, now: Nanoseconds): void {
    const place = this.#places.get(pcpu.id);
    if (place === undefined) return;
    this.#arrange(() => {
      this.#places.delete(pcpu.id);
      place.queue.removePcpu(place.slot);
    }, now);
  }

  /** A pCPU joins a runqueue of its socket: where its core is, else the one with the fewest pCPUs; a new one when all are full. */
  #place(pcpu: SchedulerPcpu, now: Nanoseconds): void {
    const open = this.#queues.filter((q) => q.socket === pcpu.socket && q.active !== 0 && q.pcpuCount < MAX_PCPUS);
    let queue = open.find((q) => q.hasCore(pcpu.core));
    if (queue === undefined && open.length > 0)
      queue = open.reduce((least, q) => (q.pcpuCount < least.pcpuCount ? q : least));
    if (queue === undefined) {
      queue = new Runqueue(this.#nextQueue++, pcpu.socket, now);
      this.#queues.push(queue);
    }
    this.#places.set(pcpu.id, { queue, slot: queue.addPcpu(pcpu) });
  }

  /** Changes the topology, then finds everybody a place again; the order of those that wait stays. */
  #arrange(change: () => void, now: Nanoseconds): void {
    const waiting = new Set<Credit2Unit>();
    for (const queue of this.#queues) for (const one of queue.waiters()) waiting.add(one);
    for (const one of waiting) one.queue.dequeue(one);
    change();
    for (const one of this.#units.values()) {
      this.#settle(one, one.queue);
      if (one.mask !== 0) continue;
      const { runningOn } = one.unit;
      const to = this.#pick(one, now);
      if (to === one.queue) continue;
      if (runningOn === null) this.#move(one, to, now);
      else {
        one.migrateTo = to;
        this.#host.tickle(runningOn);
      }
    }
    for (const one of waiting) one.queue.enqueue(one);
    for (let i = this.#queues.length - 1; i >= 0; i--) {
      const queue = this.#queues[i]!;
      if (queue.active === 0 && queue.members.length === 0 && this.#queues.length > 1) this.#queues.splice(i, 1);
    }
    for (const one of waiting) this.#tickleFor(one);
  }

  // ---- units -----------------------------------------------------------------------------------

  insertUnit(unit: SchedulingUnit, now: Nanoseconds): void {
    let domain = this.#domains.get(unit.domain);
    if (domain === undefined) {
      domain = {
        domain: unit.domain,
        units: new Set(),
        weight: domainParams.weight.default,
        cap: domainParams.cap.default,
        total: 0,
        budget: 0,
        quota: 0,
        replenishAt: 0,
        timer: null,
        parked: new Set(),
      };
      this.#domains.set(unit.domain, domain);
    }
    if (this.#queues.length === 0) this.#queues.push(new Runqueue(this.#nextQueue++, -1, now));
    const one = new Credit2Unit(unit, domain, this.#queues[0]!, now);
    this.#units.set(unit, one);
    domain.units.add(one);
    if (domain.cap !== 0) setQuota(domain);
    const queue = this.#pick(one, now);
    this.#join(one, queue, now);
    one.credit = CREDIT_INIT;
  }

  removeUnit(unit: SchedulingUnit, now: Nanoseconds): void {
    const one = this.#of(unit);
    if (one.waiting !== null) one.queue.dequeue(one);
    this.#count(one, -1, now);
    this.#leave(one, now);
    this.#units.delete(unit);
    const { domain } = one;
    domain.units.delete(one);
    domain.parked.delete(one);
    if (domain.units.size === 0) {
      domain.timer?.cancel();
      this.#domains.delete(domain.domain);
    } else if (domain.cap !== 0) {
      const freed = giveBack(one);
      setQuota(domain);
      if (freed) this.#unpark(domain, now);
    }
  }

  affinityChanged(unit: SchedulingUnit, now: Nanoseconds): void {
    const one = this.#of(unit);
    one.migrateTo = null;
    const queue = this.#pick(one, now);
    if (queue === one.queue) this.#settle(one, queue);
    else this.#move(one, queue, now);
  }

  wake(unit: SchedulingUnit, now: Nanoseconds): void {
    const one = this.#of(unit);
    if (unit.runningOn !== null || one.waiting !== null || one.parked) return;
    this.#enqueue(one, now);
    this.#tickleFor(one);
  }

  sleep(unit: SchedulingUnit, now: Nanoseconds): void {
    const one = this.#of(unit);
    one.requeue = false;
    if (unit.runningOn !== null) return;
    if (one.waiting !== null) one.queue.dequeue(one);
    this.#count(one, -1, now);
  }

  yielded(unit: SchedulingUnit): void {
    this.#of(unit).yielding = true;
  }

  contextSaved(unit: SchedulingUnit, now: Nanoseconds): void {
    const one = this.#of(unit);
    const { requeue, migrateTo } = one;
    one.requeue = false;
    one.migrateTo = null;
    if (one.queue.running[one.slot] === one) one.queue.running[one.slot] = null;
    // Core takes it off without asking when it moves it: doSchedule has not seen what it ran then.
    one.burn();
    if (one.domain.cap !== 0 && giveBack(one)) this.#unpark(one.domain, now);
    if (migrateTo !== null) this.#move(one, migrateTo, now);
    if (requeue && unit.runnable && !one.parked) {
      this.#enqueue(one, now);
      this.#tickleFor(one);
    } else this.#count(one, -1, now);
    this.#switching = null;
  }

  entitled(unit: SchedulingUnit): boolean {
    return !this.#of(unit).waitedForBudget;
  }

  #of(unit: SchedulingUnit): Credit2Unit {
    return this.#units.get(unit)!;
  }

  /** Waits, and counts as runnable. */
  #enqueue(one: Credit2Unit, now: Nanoseconds): void {
    this.#count(one, 1, now);
    one.queue.enqueue(one);
  }

  /** Counts a unit as runnable, or no longer. */
  #count(one: Credit2Unit, change: 1 | -1, now: Nanoseconds): void {
    if (one.counted === change > 0) return;
    one.counted = change > 0;
    one.queue.load.update(now, change);
    one.load.update(now, change);
  }

  #join(one: Credit2Unit, queue: Runqueue, now: Nanoseconds): void {
    queue.join(one);
    queue.load.update(now, one.counted ? 1 : 0);
    one.load.update(now, 0);
    queue.load.average += one.load.average;
    this.#settle(one, queue, true);
  }

  #leave(one: Credit2Unit, now: Nanoseconds): void {
    const { queue } = one;
    queue.leave(one);
    queue.load.update(now, one.counted ? -1 : 0);
    one.load.update(now, 0);
    queue.load.average = Math.max(0, queue.load.average - one.load.average);
  }

  /** Moves a unit, which neither waits nor runs, to another runqueue. */
  #move(one: Credit2Unit, to: Runqueue, now: Nanoseconds): void {
    const { credit } = one;
    this.#leave(one, now);
    this.#join(one, to, now);
    one.credit = credit;
    one.reserved = -1;
  }

  /** Reads the unit's affinity in terms of its runqueue's slots, and gives it a slot when it is new there or its own is forbidden. */
  #settle(one: Credit2Unit, queue: Runqueue, isNew = false): void {
    const { hardAffinity, softAffinity } = one.unit;
    one.mask = queue.maskOf(hardAffinity);
    const soft = softAffinity === hardAffinity ? one.mask : queue.maskOf(softAffinity) & one.mask;
    one.soft = soft === one.mask ? 0 : soft;
    if (one.mask === 0 || one.unit.runningOn !== null || (!isNew && (one.mask & (1 << one.slot)) !== 0)) return;
    const from = one.soft !== 0 ? one.soft : one.mask;
    queue.bias = cycle(from, (queue.bias + 1) % MAX_PCPUS);
    one.slot = queue.bias;
  }

  /** The least loaded runqueue of its soft, else of its hard affinity; the first of equals; its own when none is possible. */
  #pick(one: Credit2Unit, now: Nanoseconds): Runqueue {
    if (this.#queues.length === 1) return this.#queues[0]!;
    const { hardAffinity, softAffinity } = one.unit;
    let [best, bestSoft]: [Runqueue | null, Runqueue | null] = [null, null];
    let [least, leastSoft] = [Infinity, Infinity];
    for (const queue of this.#queues) {
      if (queue.maskOf(hardAffinity) === 0) continue;
      queue.load.update(now, 0);
      const member = queue.members[one.index] === one;
      const load = queue.load.average - (member ? one.load.average : 0);
      if (load < least) [best, least] = [queue, load];
      if (load < leastSoft && queue.maskOf(softAffinity) !== 0) [bestSoft, leastSoft] = [queue, load];
    }
    return bestSoft ?? best ?? one.queue;
  }

  // ---- decisions -------------------------------------------------------------------------------

  doSchedule(pcpu: SchedulerPcpu, now: Nanoseconds): Decision {
    const place = this.#places.get(pcpu.id)!;
    const { queue, slot } = place;
    const bit = 1 << slot;
    this.#switching = null;
    queue.tickled &= ~bit;
    const unit = pcpu.currentUnit;
    const current = unit === null ? null : this.#of(unit);
    const next = this.#choose(queue, slot, current, now);
    if (current !== null && next !== current) {
      this.#switching = place;
      current.requeue = current.unit.runnable && !current.parked;
    }
    if (next === null) {
      queue.idle |= bit;
      queue.running[slot] = null;
      queue.load.update(now, 0);
      this.#nudge(queue, bit);
      return IDLE;
    }
    queue.idle &= ~bit;
    next.burntAt = now;
    if (next !== current) {
      queue.running[slot] = next;
      queue.dequeue(next);
      next.ranBefore = next.unit.runTime;
      next.waitedForBudget = false;
    }
    next.reserved = -1;
    if (next.credit <= 0 && queue.topCredit(-1) <= 0) {
      this.#reset(queue, slot, next);
      this.#balance(queue, slot, next, now);
    }
    if (next.slot !== slot) {
      next.slot = slot;
      next.credit += MIGRATE_COMPENSATION;
    }
    this.#nudge(queue, bit);
    return { unit: next.unit, slice: this.#slice(queue, bit, next, current) };
  }

  /** Who runs next on a slot. */
  #choose(queue: Runqueue, slot: number, current: Credit2Unit | null, now: Nanoseconds): Credit2Unit | null {
    let stays: Credit2Unit | null = null;
    let yields = false;
    if (current !== null) {
      const { domain, unit } = current;
      const bit = 1 << slot;
      current.burn();
      yields = current.yielding;
      current.yielding = false;
      if (unit.runnable && domain.cap !== 0 && !grab(current)) this.#park(current);
      if (unit.runnable && !current.parked && current.migrateTo === null && (current.mask & bit) !== 0) {
        if (!yields && this.#ratelimit > 0 && current.ran < this.#ratelimit) return current;
        const better = (current.soft & bit) === 0 ? current.soft & queue.idle & ~queue.tickled : 0;
        if (better === 0) stays = current;
      }
      // What it leaves may let others run here and now.
      if (stays === null && giveBack(current)) this.#unpark(domain, now);
    }
    for (;;) {
      if (queue.waiting === 0) return stays;
      const credit = stays === null ? IDLE_CREDIT : stays.credit;
      const best = queue.candidate(slot, stays === null ? -Infinity : credit + MIGRATE_RESIST);
      if (best === null || (!yields && best.credit <= credit)) return stays;
      if (best.domain.cap === 0 || grab(best)) return best;
      queue.dequeue(best);
      this.#park(best);
      this.#count(best, -1, now);
    }
  }

  /** How long a unit runs: until its credit meets that of the next who waits, and no longer than its budget. */
  #slice(queue: Runqueue, bit: number, next: Credit2Unit, current: Credit2Unit | null): Nanoseconds {
    let least = MIN_TIMER;
    const limit = next === current ? this.#ratelimit - next.ran : this.#ratelimit;
    if (limit > least) least = limit;
    const top = queue.topCredit(bit);
    const credit = top > 0 ? next.credit - top : next.credit;
    let time = credit <= 0 ? least : next.timeFor(credit);
    if (time < least) time = least;
    else if (time > MAX_TIMER && time > least) time = Math.max(MAX_TIMER, least);
    return next.domain.cap !== 0 && next.budget < time ? Math.max(1, next.budget) : time;
  }

  /** Nobody has credit: everybody gets some. */
  #reset(queue: Runqueue, slot: number, next: Credit2Unit): void {
    for (let i = 0; i < queue.pcpus.length; i++) {
      const one = i === slot ? null : queue.running[i]!;
      if (one === null) continue;
      one.burn();
      if (one.domain.cap !== 0 && one.budget <= 0) this.#tickle(queue, i);
      one.raw = one.credit - queue.epoch;
    }
    queue.epoch += next.credit === CREDIT_MIN ? 2 * CREDIT_INIT : CREDIT_INIT;
  }

  // ---- tickling --------------------------------------------------------------------------------

  #tickle(queue: Runqueue, slot: number): void {
    queue.tickled |= 1 << slot;
    this.#host.tickle(queue.pcpus[slot]!);
  }

  /** Finds a unit that waits a pCPU: an idle one (its own, a whole idle core, any), else the one whose unit has the least credit to spare. */
  #tickleFor(one: Credit2Unit): void {
    const { queue, slot: own } = one;
    const switching = this.#switching;
    const able =
      queue.active & ~queue.tickled & ~(switching !== null && switching.queue === queue ? 1 << switching.slot : 0);
    const free = queue.idle & able;
    let target = -1;
    if (free !== 0) {
      const allowed = (free & one.soft) !== 0 ? free & one.soft : free & one.mask;
      if (allowed !== 0) {
        const whole = allowed & queue.idleCores;
        const preferred = this.#powerSavings ? allowed & ~whole : whole;
        target = cycle(preferred !== 0 ? preferred : allowed, own);
      }
    }
    if (target < 0) target = this.#victim(one, able & ~queue.idle & one.mask);
    if (target < 0) return;
    one.reserved = target;
    this.#tickle(queue, target);
  }

  /** The busy slot of `mask` where a unit should run instead of what runs there; -1: none. Its own goes first, then rising. */
  #victim(one: Credit2Unit, mask: number): number {
    const own = 1 << one.slot;
    const { running } = one.queue;
    const enough = one.credit - MIGRATE_RESIST;
    const now = this.#host.now();
    let best = -1;
    let most = 0;
    if ((mask & own) !== 0) {
      most = this.#score(one, one.slot);
      if (most > 0) best = one.slot;
      else most = 0;
      if (best >= 0 && (one.soft === 0 || (one.soft & own) !== 0)) return best;
    }
    for (let left = mask & ~own; left !== 0; left &= left - 1) {
      const slot = 31 - Math.clz32(left & -left);
      const current = running[slot]!;
      if (current === null || enough <= current.leastCredit(now)) continue;
      const score = this.#score(one, slot);
      if (score > most) {
        most = score;
        best = slot;
      }
    }
    return best;
  }

  /** By how much a unit should rather run on a slot than what runs there. */
  #score(one: Credit2Unit, slot: number): number {
    const current = one.queue.running[slot]!;
    if (current === null) return -1;
    const { runTime } = current.unit;
    const protects = this.#ratelimit - RATELIMIT_TOLERANCE;
    if (protects > 0 && runTime - current.ranBefore <= protects) return -1;
    current.burnTo(runTime);
    const bit = 1 << slot;
    let score = one.credit - current.credit - (slot === one.slot ? 0 : MIGRATE_RESIST);
    if (score <= 0) return score;
    if (one.soft === 0 || (one.soft & bit) !== 0) score += CREDIT_INIT;
    if (current.soft !== 0 && (current.soft & bit) === 0) score += CREDIT_INIT;
    return score;
  }

  /** While a pCPU idles and somebody waits whom it could run and nobody was asked to, it is asked. */
  #nudge(queue: Runqueue, except: number): void {
    const free = queue.idle & ~queue.tickled & ~except;
    if (free === 0 || queue.waiting === 0) return;
    const one = queue.unclaimed(free);
    if (one !== null) this.#tickleFor(one);
  }

  // ---- balancing -------------------------------------------------------------------------------

  #balance(queue: Runqueue, slot: number, next: Credit2Unit, now: Nanoseconds): void {
    if (this.#queues.length === 1) return;
    const exchange = balance(queue, this.#queues, next, now);
    if (exchange === null) return;
    if (exchange.push !== null) this.#migrate(exchange.push, exchange.other, slot, now);
    if (exchange.pull !== null) this.#migrate(exchange.pull, queue, slot, now);
  }

  /** Moves a unit to another runqueue: at once, or when it has left its pCPU, which is asked to let it go. */
  #migrate(one: Credit2Unit, to: Runqueue, slot: number, now: Nanoseconds): void {
    const from = one.queue;
    if (one.unit.runningOn !== null) {
      one.migrateTo = to;
      // On the pCPU that is just choosing somebody else it leaves anyway.
      if (one.slot !== slot || this.#switching?.queue !== from) this.#tickle(from, one.slot);
      return;
    }
    const waits = one.waiting !== null;
    if (waits) from.dequeue(one);
    this.#move(one, to, now);
    if (!waits) return;
    to.enqueue(one);
    this.#tickleFor(one);
  }

  // ---- caps ------------------------------------------------------------------------------------

  #park(one: Credit2Unit): void {
    one.parked = true;
    one.waitedForBudget = true;
    one.domain.parked.add(one);
  }

  /** There is budget: all that were parked for want of it wait again. */
  #unpark(domain: Credit2Domain, now: Nanoseconds): void {
    const parked = [...domain.parked];
    domain.parked.clear();
    for (const one of parked) {
      one.parked = false;
      if (!one.unit.runnable || one.unit.runningOn !== null || one.waiting !== null) continue;
      this.#enqueue(one, now);
      this.#tickleFor(one);
    }
  }

  #setCap(domain: Credit2Domain, cap: number, now: Nanoseconds): void {
    const before = domain.cap;
    if (before === 0 && cap === 0) return;
    for (const one of domain.units) one.burn();
    setTotal(domain, cap);
    if (cap === 0) {
      domain.timer?.cancel();
      domain.timer = null;
      this.#unpark(domain, now);
      return;
    }
    if (before !== 0) return;
    domain.budget = domain.total;
    domain.replenishAt = now + PERIOD;
    this.#arm(domain);
    for (const one of domain.units) {
      one.budget = 0;
      const { runningOn } = one.unit;
      if (runningOn !== null) this.#tickle(one.queue, one.slot);
    }
  }

  #arm(domain: Credit2Domain): void {
    armReplenishment(this.#host, domain, (refilled, now) => this.#unpark(refilled, now));
  }

  // ---- parameters and state --------------------------------------------------------------------

  adjust(target: Domain | SchedulingUnit | null, values: ParamValues): number {
    if (target === null) return this.#adjustPool(values);
    const domain = this.#domains.get(target as Domain);
    if (domain === undefined) return -ESRCH;
    const { weight, cap } = values;
    if (typeof cap === "number" && cap > 100 * domain.units.size) return -EINVAL;
    if (typeof weight === "number" && weight !== domain.weight) {
      const before = domain.weight;
      for (const one of domain.units) {
        one.burn();
        one.queue.removeWeight(before);
        one.queue.addWeight(weight);
      }
      domain.weight = weight;
    }
    if (typeof cap === "number") this.#setCap(domain, cap, this.#host.now());
    return 0;
  }

  #adjustPool(values: ParamValues): number {
    const { ratelimit_us, smt_power_savings } = values;
    if (typeof ratelimit_us === "number") {
      if (ratelimit_us !== 0 && ratelimit_us < RATELIMIT_MIN_US) return -EINVAL;
      this.#ratelimit = ratelimit_us * 1000;
    }
    if (typeof smt_power_savings === "boolean") this.#powerSavings = smt_power_savings;
    return 0;
  }

  read(target: Domain | SchedulingUnit | null): ParamValues {
    if (target === null) return { ratelimit_us: this.#ratelimit / 1000, smt_power_savings: this.#powerSavings };
    const domain = this.#domains.get(target as Domain);
    return domain === undefined ? {} : { weight: domain.weight, cap: domain.cap };
  }

  save(): SchedulerState {
    return saveState(this.read(null), this.#domains.values(), this.#host.now());
  }

  restore(state: SchedulerState, unit: (id: number) => SchedulingUnit | undefined, now: Nanoseconds): void {
    const { pool, domains } = restoreState(state);
    this.#adjustPool(pool);
    for (const saved of domains) {
      for (const was of saved.units) {
        const found = unit(was.id);
        const one = found === undefined ? undefined : this.#units.get(found);
        if (one === undefined) continue;
        this.adjust(one.unit.domain, { weight: saved.weight });
        const queue = was.pcpu === null ? undefined : this.#places.get(was.pcpu)?.queue;
        if (queue !== undefined && queue !== one.queue && queue.maskOf(one.unit.hardAffinity) !== 0)
          this.#move(one, queue, now);
        const slot = was.pcpu === null ? undefined : this.#places.get(was.pcpu)?.slot;
        if (slot !== undefined && queue === one.queue && (one.mask & (1 << slot)) !== 0) one.slot = slot;
        one.credit = was.credit;
        one.residual = was.residual;
        one.queue.load.average = Math.max(0, one.queue.load.average + was.load - one.load.average);
        one.load.average = was.load;
        const { domain } = one;
        if (saved.cap === 0) continue;
        if (domain.cap !== saved.cap) {
          setTotal(domain, saved.cap);
          domain.budget = saved.budget;
          domain.replenishAt = now + saved.replenishIn;
          this.#arm(domain);
        }
        // Units give back what they have when they leave their pCPU; all sleep now.
        if (was.budget > 0) domain.budget += was.budget;
        else one.budget = was.budget;
      }
    }
  }

  dump(): string {
    const show = (one: Credit2Unit): string => `${one.unit} credit ${one.credit}`;
    const lines = [`ratelimit ${this.#ratelimit} ns${this.#powerSavings ? ", smt power savings" : ""}`];
    const ids = (queue: Runqueue, mask: number): string =>
      queue.pcpus
        .flatMap((pcpu, slot) => (pcpu !== undefined && (mask & (1 << slot)) !== 0 ? [pcpu.id] : []))
        .join(",");
    for (const queue of this.#queues)
      lines.push(
        `runqueue ${queue.id}: pCPUs ${ids(queue, queue.active)}, idle ${ids(queue, queue.idle) || "none"}, tickled ${ids(queue, queue.tickled) || "none"}, load ${(queue.load.average / 2 ** 18).toFixed(3)}, highest weight ${queue.maxWeight}`,
        `  waiting: ${queue.waiters().map(show).join("; ") || "nobody"}`,
      );
    for (const { domain, units, weight, cap, budget, parked } of this.#domains.values()) {
      const capped = cap === 0 ? "" : `, cap ${cap}, budget ${budget} ns`;
      lines.push(`${domain}: weight ${weight}${capped}`);
      for (const one of units) {
        const state =
          one.unit.runningOn !== null
            ? `on ${one.unit.runningOn}`
            : parked.has(one)
              ? "parked"
              : one.waiting !== null
                ? "waits"
                : "sleeps";
        lines.push(
          `  ${show(one)} in runqueue ${one.queue.id}, ${state}${cap === 0 ? "" : `, budget ${one.budget} ns`}`,
        );
      }
    }
    return lines.join("\n");
  }
}
