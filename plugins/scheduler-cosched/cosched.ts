/**
 * Relaxed co-scheduling: vCPUs of a domain run when they can, but none gets further ahead of its slowest sibling than a limit.
 *
 * Sources: J. K. Ousterhout, "Scheduling Techniques for Concurrent Systems" (ICDCS 1982), for co-scheduling; VMware, "The CPU Scheduler in VMware
 * vSphere" (technical white paper), for its relaxed form with skew, co-stop and co-start of single vCPUs. README.md says what is ours.
 * Below it lies a proportional share in virtual time: who has the least runs next, for a turn. Invariants: the virtual time of who is queued is
 * at most MOST_BEHIND turns behind #time and that of who just ran is at most a turn ahead, so that nobody waits for ever; the slowest awake member of a gang is never stopped, so that a gang always goes on; a
 * member's slice ends at the latest when it reaches the limit against each sibling that does not run, or frees a stopped one; a pCPU that is
 * neither busy nor about to choose is in #idle.
 */
import {
  type Decision,
  type Domain,
  type Nanoseconds,
  type ParamValues,
  type Scheduler,
  type SchedulerHost,
  type SchedulerPcpu,
  type SchedulerStateObject,
  type SchedulingUnit,
  xen,
} from "hookvisor";
import { Gang, Lane, Member, NORMAL_WEIGHT, State } from "./member.ts";
import { domainParams, poolParams } from "./params.ts";

const IDLE: Decision = Object.freeze({ unit: null, slice: null });
/** How many turns a unit's virtual time may be behind: more than that of what it missed is forgotten. */
const MOST_BEHIND = 2;
/** A round of all turns that is longer than this makes nobody entitled: some rounds may be longer than what a watchdog of the core waits for. */
const LONG_ROUND: Nanoseconds = 5_000_000_000;

interface Saved extends SchedulerStateObject {
  readonly slice: number;
  readonly costop: number;
  readonly costart: number;
  readonly time: number;
  /** Of each unit: id, weight of its domain, virtual time, progress, how long it has been asleep (null: it has never been awake, or it is). */
  readonly units: readonly (readonly [
    id: number,
    weight: number,
    time: number,
    progress: number,
    asleep: number | null,
  ])[];
  /** Units in the order in which they go on: those that run, that wait, that are stopped. */
  readonly order: readonly number[];
}

export class CoScheduler implements Scheduler {
  readonly params = { domain: domainParams, pool: poolParams };
  readonly #host: SchedulerHost;
  readonly #units = new Map<SchedulingUnit, Member>();
  readonly #gangs = new Map<Domain, Gang>();
  readonly #lanes = new Map<string, Lane>();
  readonly #lanesOf = new Map<number, Lane[]>();
  readonly #idle = new Set<SchedulerPcpu>();
  #slice: Nanoseconds = poolParams.slice_ns.default;
  #costop: Nanoseconds = poolParams.costop_skew_ns.default;
  #costart: Nanoseconds = poolParams.costart_skew_ns.default;
  #order = 0;
  /** The pool's virtual time: the latest at which a turn began. */
  #time = 0;
  /** Sum of the weights of all units. */
  #weights = 0;

  constructor(host: SchedulerHost) {
    this.#host = host;
  }

  // ---- units -----------------------------------------------------------------------------------

  insertUnit(unit: SchedulingUnit): void {
    let gang = this.#gangs.get(unit.domain);
    if (gang === undefined) {
      gang = new Gang(NORMAL_WEIGHT);
      this.#gangs.set(unit.domain, gang);
    }
    gang.size++;
    this.#weights += gang.weight;
    this.#units.set(unit, new Member(unit, gang, this.#joinLane(unit)));
  }

  removeUnit(unit: SchedulingUnit): void {
    const one = this.#of(unit);
    this.#leaveLane(one.lane);
    this.#units.delete(unit);
    this.#weights -= one.gang.weight;
    if (--one.gang.size === 0) this.#gangs.delete(unit.domain);
  }

  wake(unit: SchedulingUnit, now: Nanoseconds): void {
    const one = this.#of(unit);
    const { gang } = one;
    if (one.state !== State.asleep) return;
    if (unit.runningOn !== null) {
      // It fell asleep and woke before its pCPU was asked: doSchedule comes.
      one.state = State.running;
      one.asleepSince = null;
      gang.running.add(one);
      return;
    }
    if (gang.size > 1) {
      // Being blocked is progress too, but brings nobody past the slowest of those that ran.
      const { slowest } = gang;
      if (slowest < Infinity && one.progress < slowest) {
        const slept = one.asleepSince === null ? Infinity : now - one.asleepSince;
        one.progress = Math.min(slowest, one.progress + slept);
      }
    }
    one.asleepSince = null;
    if (!one.kept) one.time = Math.max(one.time, this.#time);
    const waits = this.#park(one);
    this.#rebound(gang);
    if (waits) this.#offer(one);
  }

  sleep(unit: SchedulingUnit, now: Nanoseconds): void {
    const one = this.#of(unit);
    const { gang } = one;
    switch (one.state) {
      case State.running:
        one.charge();
        gang.running.delete(one);
        break;
      case State.waiting:
        one.lane.remove(one);
        gang.waiting.remove(one);
        break;
      case State.stopped:
        gang.stopped.remove(one);
        break;
      default:
        return;
    }
    one.state = State.asleep;
    one.asleepSince = now;
    one.turn = 0;
    one.yields = false;
    this.#release(gang);
  }

  yielded(unit: SchedulingUnit): void {
    this.#of(unit).yields = true;
  }

  /** What it ran between falling asleep and leaving its pCPU. */
  contextSaved(unit: SchedulingUnit): void {
    const one = this.#units.get(unit);
    if (one?.state === State.asleep) one.charge();
  }

  affinityChanged(unit: SchedulingUnit): void {
    const one = this.#of(unit);
    this.#leaveLane(one.lane);
    one.lane = this.#joinLane(unit);
  }

  // ---- pCPUs -----------------------------------------------------------------------------------

  pcpuAdded(): void {} // lanes follow the units' affinities

  pcpuRemoved(pcpu: SchedulerPcpu): void {
    this.#idle.delete(pcpu);
    this.#lanesOf.delete(pcpu.id);
  }

  doSchedule(pcpu: SchedulerPcpu): Decision {
    this.#idle.delete(pcpu);
    const current = pcpu.currentUnit === null ? null : this.#of(pcpu.currentUnit);
    let leaves: Member | null = null;
    if (current?.state === State.running) {
      current.charge();
      this.#release(current.gang);
      const stops = this.#tooFarAhead(current);
      if (current.turn > 0 && !current.yields && !stops) return this.#grant(current);
      leaves = current;
      if (!current.yields) this.#park(current);
    }
    let next = this.#take(pcpu);
    if (leaves?.yields) {
      leaves.yields = false;
      if (next === null && !this.#tooFarAhead(leaves)) next = leaves;
      else this.#park(leaves);
    }
    if (next !== null) {
      next.state = State.running;
      next.gang.running.add(next);
      next.turn = (this.#slice * next.gang.weight) / NORMAL_WEIGHT;
      this.#time = Math.max(this.#time, next.time);
    }
    if (leaves !== null && leaves !== next) {
      if (leaves.state === State.waiting) this.#offer(leaves);
      this.#rebound(leaves.gang);
    }
    if (next !== null) return this.#grant(next);
    this.#idle.add(pcpu);
    return IDLE;
  }

  /** The one with the least virtual time that may run there and is not too far ahead; who is, stops. */
  #take(pcpu: SchedulerPcpu): Member | null {
    const lanes = this.#lanesOf.get(pcpu.id);
    if (lanes === undefined) return null;
    for (;;) {
      let first: Member | null = null;
      for (let i = 0; i < lanes.length; i++) {
        const one = lanes[i]!.first;
        if (one !== null && (first === null || lanes[i]!.before(one, first))) first = one;
      }
      if (first === null) return null;
      const { gang } = first;
      const stops = this.#tooFarAhead(first);
      first.lane.remove(first);
      gang.waiting.remove(first);
      if (!stops) return first;
      first.state = State.stopped;
      gang.stopped.add(first);
      this.#rebound(gang);
    }
  }

  /** Lets a member run until its turn ends or its gang needs a look. */
  #grant(one: Member): Decision {
    const slice = Math.max(1, Math.ceil(Math.min(one.turn, this.#barrier(one) - one.progress)));
    one.reach = one.progress + slice;
    return { unit: one.unit, slice };
  }

  /** A member of this affinity waits: an idle pCPU is asked to choose, of its soft affinity if there is one, the lowest first. */
  #offer(one: Member): void {
    const { hardAffinity, softAffinity } = one.unit;
    let best: SchedulerPcpu | null = null;
    for (const pcpu of this.#idle) {
      if (!hardAffinity.has(pcpu.id)) continue;
      const better = best === null ? 1 : Number(softAffinity.has(pcpu.id)) - Number(softAffinity.has(best.id));
      if (best === null || better > 0 || (better === 0 && pcpu.id < best.id)) best = pcpu;
    }
    if (best === null) return;
    this.#idle.delete(best);
    this.#host.tickle(best);
  }

  // ---- skew ------------------------------------------------------------------------------------

  #tooFarAhead(one: Member): boolean {
    return one.gang.size > 1 && one.progressNow - one.gang.slowest >= this.#costop;
  }

  /** A member that is awake and will not run now waits for its turn (true), or stops. */
  #park(one: Member): boolean {
    const { gang } = one;
    const stops = this.#tooFarAhead(one);
    gang.running.delete(one);
    if (stops) {
      one.state = State.stopped;
      gang.stopped.add(one);
    } else this.#enqueue(one);
    return !stops;
  }

  #enqueue(one: Member): void {
    one.state = State.waiting;
    if (one.kept) one.kept = false;
    else one.order = ++this.#order;
    one.time = Math.max(one.time, this.#time - MOST_BEHIND * this.#slice);
    one.lane.add(one);
    one.gang.waiting.add(one);
  }

  /** Stopped members that the slowest has come near enough to go on. */
  #release(gang: Gang): void {
    for (;;) {
      const { first } = gang.stopped;
      if (first === null || first.progress - gang.slowest > this.#costart) return;
      gang.stopped.remove(first);
      this.#enqueue(first);
      this.#offer(first);
    }
  }

  /** The progress at which a running member needs a look: it is too far ahead of one that does not run, or one that is stopped may go on. */
  #barrier(one: Member): Nanoseconds {
    const { gang } = one;
    if (gang.size === 1) return Infinity;
    const stopped = gang.stopped.least;
    const tooFar = Math.min(gang.waiting.least, stopped) + this.#costop;
    const frees = stopped - this.#costart;
    return frees > one.progressNow ? Math.min(tooFar, frees) : tooFar;
  }

  /** Somebody of the gang stopped running: those that run may need a look before their slices end. */
  #rebound(gang: Gang): void {
    if (gang.size === 1) return;
    for (const one of gang.running) {
      const pcpu = one.unit.runningOn;
      if (pcpu !== null && this.#barrier(one) < one.reach) this.#host.tickle(pcpu);
    }
  }

  // ---- lanes -----------------------------------------------------------------------------------

  #joinLane(unit: SchedulingUnit): Lane {
    const pcpus = [...unit.hardAffinity].sort((a, b) => a - b);
    const key = pcpus.join(",");
    let lane = this.#lanes.get(key);
    if (lane === undefined) {
      lane = new Lane(key, pcpus);
      this.#lanes.set(key, lane);
      for (const id of pcpus) {
        const lanes = this.#lanesOf.get(id);
        if (lanes === undefined) this.#lanesOf.set(id, [lane]);
        else lanes.push(lane);
      }
    }
    lane.size++;
    return lane;
  }

  #leaveLane(lane: Lane): void {
    if (--lane.size > 0) return;
    this.#lanes.delete(lane.key);
    for (const id of lane.pcpus) {
      const lanes = this.#lanesOf.get(id);
      if (lanes !== undefined) lanes.splice(lanes.indexOf(lane), 1);
    }
  }

  #of(unit: SchedulingUnit): Member {
    return this.#units.get(unit)!;
  }

  // ---- parameters ------------------------------------------------------------------------------

  adjust(target: Domain | SchedulingUnit | null, values: ParamValues): number {
    if (target !== null) {
      const gang = this.#gangs.get(target as Domain);
      if (gang === undefined) return -xen.ERRNO.ESRCH;
      if (values["weight"] !== undefined) this.#setWeight(gang, values["weight"] as number);
      return 0;
    }
    const { slice_ns, costop_skew_ns, costart_skew_ns } = values as Record<string, number | undefined>;
    const costop = costop_skew_ns ?? this.#costop;
    const costart = costart_skew_ns ?? this.#costart;
    if (costart >= costop) return -xen.ERRNO.EINVAL;
    this.#slice = slice_ns ?? this.#slice;
    this.#costop = costop;
    this.#costart = costart;
    for (const gang of this.#gangs.values()) {
      this.#release(gang);
      this.#rebound(gang);
    }
    return 0;
  }

  #setWeight(gang: Gang, weight: number): void {
    this.#weights += (weight - gang.weight) * gang.size;
    gang.weight = weight;
  }

  read(target: Domain | SchedulingUnit | null): ParamValues {
    if (target === null) return { slice_ns: this.#slice, costop_skew_ns: this.#costop, costart_skew_ns: this.#costart };
    const gang = this.#gangs.get(target as Domain);
    return gang === undefined ? {} : { weight: gang.weight };
  }

  /** Who is stopped waits for a sibling that may wait itself. */
  entitled(unit: SchedulingUnit): boolean {
    if (this.#units.get(unit)?.state === State.stopped) return false;
    return (this.#weights * this.#slice) / NORMAL_WEIGHT <= LONG_ROUND;
  }

  // ---- state -----------------------------------------------------------------------------------

  save(): Saved {
    const now = this.#host.now();
    const units: Saved["units"][number][] = [];
    // Of a state that was restored a moment ago nobody has been woken yet.
    const awake = (one: Member): boolean => one.state !== State.asleep || (one.kept && one.asleepSince === now);
    for (const one of this.#units.values()) {
      const asleep = one.asleepSince === null || awake(one) ? null : now - one.asleepSince;
      units.push([one.unit.id, one.gang.weight, one.timeNow, one.progressNow, asleep]);
    }
    const rank = (one: Member): number => (one.state === State.running ? 0 : one.state === State.stopped ? 2 : 1);
    const order = [...this.#units.values()]
      .filter(awake)
      .sort((a, b) => rank(a) - rank(b) || a.order - b.order)
      .map((one) => one.unit.id);
    return { slice: this.#slice, costop: this.#costop, costart: this.#costart, time: this.#time, units, order };
  }

  restore(state: Saved, unit: (id: number) => SchedulingUnit | undefined, now: Nanoseconds): void {
    this.#slice = state.slice;
    this.#costop = state.costop;
    this.#costart = state.costart;
    this.#time = state.time;
    const awake = new Set(state.order);
    for (const [id, weight, time, progress, asleep] of state.units) {
      const found = unit(id);
      if (found === undefined) continue;
      const one = this.#of(found);
      this.#setWeight(one.gang, weight);
      one.time = time;
      one.progress = progress;
      one.charged = found.runTime;
      one.asleepSince = asleep !== null ? now - asleep : awake.has(id) ? now : null;
    }
    for (const id of state.order) {
      const found = unit(id);
      if (found === undefined) continue;
      const one = this.#of(found);
      one.order = ++this.#order;
      one.kept = true;
    }
  }

  dump(): string {
    const show = (one: Member): string => `${one.unit} (${one.progressNow} ns)`;
    const lines = [...this.#gangs].map(([domain, { weight, waiting, stopped, running }]) => {
      const list = (members: Iterable<Member>): string => [...members].map(show).join(", ") || "none";
      return `${domain.name} weight ${weight}: running ${list(running)}; waiting ${list(waiting.members)}; stopped ${list(stopped.members)}`;
    });
    const head = `slice ${this.#slice} ns, co-stop at ${this.#costop} ns, co-start at ${this.#costart} ns`;
    return [head, ...lines].join("\n");
  }
}
