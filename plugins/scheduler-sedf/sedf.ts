/**
 * sedf: simple earliest deadline first, a queue for each pCPU.
 *
 * Source: Xen's common/sched_sedf.c of 2007; where this departs from it, README.md says so. A unit has a slice in each period; what slices leave is
 * extra time, first for units that a short block has cost something (penalty), then by weight.
 * Invariants: a unit is queued on its home only, which its hard affinity names; it is awake here exactly while it is runnable and the scheduler has been
 * told so, except that a unit which fell asleep while it ran stays queued until doSchedule or contextSaved.
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
  xen,
} from "hookvisor";
import { EdfQueue } from "./edf-queue.ts";
import { EXTRA_QUANTUM, SLICE_MIN, serverParams, WEIGHT_PERIOD, WEIGHT_SAFETY } from "./params.ts";
import { SedfUnit } from "./unit.ts";

/** Where slices take more of a pCPU than this, extra time may take long to come. */
const MOST_SLICES = 0.95;

export class SedfScheduler implements Scheduler {
  readonly params = { domain: serverParams, unit: serverParams };
  readonly #host: SchedulerHost;
  readonly #queues = new Map<number, EdfQueue>();
  readonly #units = new Map<SchedulingUnit, SedfUnit>();

  constructor(host: SchedulerHost) {
    this.#host = host;
    for (const pcpu of host.pcpus) this.#queues.set(pcpu.id, new EdfQueue(pcpu));
  }

  // ---- units and pCPUs -------------------------------------------------------------------------

  insertUnit(unit: SchedulingUnit): void {
    const one = new SedfUnit(unit);
    this.#units.set(unit, one);
    this.#settle(one);
  }

  removeUnit(unit: SchedulingUnit): void {
    const one = this.#of(unit);
    this.#units.delete(unit);
    this.#unsettle(one);
  }

  affinityChanged(unit: SchedulingUnit): void {
    const one = this.#of(unit);
    this.#unsettle(one);
    this.#settle(one);
  }

  pcpuAdded(pcpu: SchedulerPcpu, now: Nanoseconds): void {
    this.#queues.set(pcpu.id, new EdfQueue(pcpu));
    for (const one of this.#units.values()) if (one.home === null) this.#move(one, now);
  }

  pcpuRemoved(pcpu: SchedulerPcpu, now: Nanoseconds): void {
    const gone = this.#queues.get(pcpu.id);
    this.#queues.delete(pcpu.id);
    for (const one of gone === undefined ? [] : [...gone.members]) this.#move(one, now);
  }

  /** Gives a unit a new home; one that is awake is queued there. */
  #move(one: SedfUnit, now: Nanoseconds): void {
    this.#unsettle(one);
    this.#settle(one);
    if (one.awake && one.home !== null) this.#enqueue(one, one.home, now);
  }

  /** Its home is the first pCPU of its affinity: of the soft one, which is within the hard one. */
  #settle(one: SedfUnit): void {
    one.home = this.#first(one.unit.softAffinity) ?? this.#first(one.unit.hardAffinity);
    if (one.home === null) return;
    one.home.members.add(one);
    if (one.weight > 0) one.home.weighted++;
    this.#share(one.home);
  }

  #first(affinity: ReadonlySet<number>): EdfQueue | null {
    let first: EdfQueue | null = null;
    for (const id of affinity) {
      const queue = this.#queues.get(id);
      if (queue !== undefined && (first === null || id < first.pcpu.id)) first = queue;
    }
    return first;
  }

  #unsettle(one: SedfUnit): void {
    const { home } = one;
    if (home === null) return;
    home.remove(one);
    home.members.delete(one);
    if (one.weight > 0) home.weighted--;
    one.home = null;
    this.#share(home);
  }

  /** Works out the slices of a pCPU's units with a weight: what the others' slices and a reserve leave of each 100 ms, by weight. */
  #share(queue: EdfQueue): void {
    if (queue.weighted === 0) return;
    let weights = 0;
    let reserved = 0;
    for (const one of queue.members)
      if (one.weight > 0) weights += one.weight;
      else reserved += Math.floor((WEIGHT_PERIOD * one.setSlice) / one.setPeriod);
    const free = Math.max(0, WEIGHT_PERIOD - WEIGHT_SAFETY - reserved);
    for (const one of queue.members) {
      if (one.weight === 0) continue;
      one.nextPeriod = WEIGHT_PERIOD;
      one.nextSlice = Math.floor((one.weight * free) / weights);
      this.#takeOver(one);
    }
  }

  /** A unit without a slice is in no period: a new slice begins at once. Others take it over with their next period. */
  #takeOver(one: SedfUnit): void {
    if (one.slice > 0) return;
    const now = this.#host.now();
    one.startPeriod(now);
    if (!one.awake || one.home === null) return;
    one.home.addPeriod(one, now);
    if (one.slice > 0) this.#host.tickle(one.home.pcpu);
  }

  // ---- what happens to units -------------------------------------------------------------------

  wake(unit: SchedulingUnit, now: Nanoseconds): void {
    // Still on its pCPU: doSchedule or contextSaved will see that it is runnable.
    if (unit.runningOn === null) this.#wake(this.#of(unit), now);
  }

  sleep(unit: SchedulingUnit, now: Nanoseconds): void {
    const one = this.#of(unit);
    one.blockedAt = now;
    if (unit.runningOn === null) this.#sleep(one);
  }

  contextSaved(unit: SchedulingUnit, now: Nanoseconds): void {
    const one = this.#of(unit);
    // It was taken off without a decision.
    if (one.home?.running === one) this.#stop(one.home, now);
    if (unit.runnable) this.#wake(one, now);
  }

  #sleep(one: SedfUnit): void {
    one.awake = false;
    one.home?.remove(one);
  }

  #wake(one: SedfUnit, now: Nanoseconds): void {
    if (one.awake) return;
    one.awake = true;
    if (!one.resumes) one.lost = 0;
    const blocked = !one.resumes && one.blockedAt < now;
    one.resumes = false;
    if (now >= one.deadline) one.startPeriod(now);
    else if (blocked && one.slice > 0 && one.begin <= now) {
      if (one.blockedAt < one.begin) one.startPeriod(now);
      else this.#forfeit(one);
    }
    if (one.home !== null) this.#enqueue(one, one.home, now);
  }

  /** A short block: what is left of the slice is lost in this period. Extra time may make up for it. */
  #forfeit(one: SedfUnit): void {
    one.lost = Math.max(0, one.slice - one.used);
    one.turn = EXTRA_QUANTUM;
    one.endSlice();
  }

  /** Queues a unit that is awake, and asks the pCPU to schedule if it matters. */
  #enqueue(one: SedfUnit, home: EdfQueue, now: Nanoseconds): void {
    home.addPeriod(one, now);
    if (one.extratime) home.addExtra(one);
    if (one.lost > 0) home.addPenalty(one, one.period, one.lost);
    if (this.#matters(one, home, now)) this.#host.tickle(home.pcpu);
  }

  #matters(one: SedfUnit, home: EdfQueue, now: Nanoseconds): boolean {
    const { running } = home;
    if (running === null) return true;
    if (one.slice > 0 && one.begin > now && one.begin < home.expires) return true;
    switch (running.mode) {
      case "slice":
        return one.slice > 0 && one.begin <= now && one.deadline < running.deadline;
      case "penalty":
        if (one.slice > 0 && one.begin <= now) return true;
        return (home.penalty.keyOf(one) ?? Infinity) < (home.penalty.keyOf(running) ?? 0);
      default:
        return (one.slice > 0 && one.begin <= now) || one.lost > 0;
    }
  }

  // ---- decisions -------------------------------------------------------------------------------

  doSchedule(pcpu: SchedulerPcpu, now: Nanoseconds): Decision {
    const queue = this.#queues.get(pcpu.id)!;
    if (queue.running !== null) this.#stop(queue, now);
    queue.update(now);
    const next = queue.ready.first();
    let until = queue.waiting.firstKey();
    if (next !== null) until = Math.min(until, next.deadline, now + next.slice - next.used);
    const chosen = next ?? queue.penalty.first() ?? queue.extra.first();
    if (chosen !== null) {
      chosen.mode = next !== null ? "slice" : queue.penalty.has(chosen) ? "penalty" : "extra";
      if (next === null) until = Math.min(until, now + (chosen.mode === "penalty" ? chosen.turn : EXTRA_QUANTUM));
    }
    queue.running = chosen;
    queue.expires = until;
    const slice = until === Infinity ? null : until - now;
    if (chosen === null) return { unit: null, slice };
    chosen.charged = chosen.unit.runTime;
    return { unit: chosen.unit, slice };
  }

  /** The unit that ran until now is charged, for its slice or as extra time, and put where it belongs. */
  #stop(queue: EdfQueue, now: Nanoseconds): void {
    const one = queue.running!;
    this.#charge(one, queue);
    // One turn of the penalty queue, whatever the unit has lost (as in Xen).
    if (one.mode === "penalty" && one.turn <= 0) {
      one.lost = 0;
      queue.penalty.remove(one);
    }
    if (one.mode === "slice" && one.used >= one.slice) queue.addPeriod(one, now);
    one.mode = null;
    queue.running = null;
    if (!one.unit.runnable) this.#sleep(one);
  }

  #charge(one: SedfUnit, queue: EdfQueue): void {
    const { runTime } = one.unit;
    const ran = runTime - one.charged;
    one.charged = runTime;
    if (one.mode === "slice") one.used += ran;
    else if (one.mode === "penalty") one.turn -= ran;
    else queue.chargeExtra(one, ran);
  }

  // ---- parameters ------------------------------------------------------------------------------

  adjust(target: Domain | SchedulingUnit | null, values: ParamValues): number {
    const units = this.#targets(target);
    if (units.length === 0) return -xen.ERRNO.ESRCH;
    const { period, slice, weight, extratime, extraweight } = values as Partial<ServerParams>;
    for (const one of units) {
      const share = slice ?? one.setSlice;
      if (share > (period ?? one.setPeriod) || (share > 0 && share < SLICE_MIN)) return -xen.ERRNO.EINVAL;
    }
    const homes = new Set<EdfQueue>();
    for (const one of units) {
      one.setPeriod = period ?? one.setPeriod;
      one.setSlice = slice ?? one.setSlice;
      const before = one.weight;
      one.weight = weight ?? before;
      if (one.home !== null) one.home.weighted += Number(one.weight > 0) - Number(before > 0);
      if (one.weight === 0) {
        one.nextPeriod = one.setPeriod;
        one.nextSlice = one.setSlice;
      }
      one.extraweight = extraweight ?? one.extraweight;
      one.extratime = extratime ?? one.extratime;
      if (one.home !== null) homes.add(one.home);
    }
    for (const home of homes) this.#share(home);
    for (const one of units) {
      if (one.home === null) continue;
      this.#takeOver(one);
      if (one.awake && one.extratime !== one.home.extra.has(one)) this.#setExtra(one, one.home);
    }
    return 0;
  }

  #setExtra(one: SedfUnit, home: EdfQueue): void {
    if (!one.extratime) home.extra.remove(one);
    else {
      home.addExtra(one);
      if (home.running === null) this.#host.tickle(home.pcpu);
    }
  }

  read(target: Domain | SchedulingUnit | null): ParamValues {
    const one = this.#targets(target)[0];
    if (one === undefined) return {};
    const { setPeriod: period, setSlice: slice, weight, extratime, extraweight } = one;
    return { period, slice, weight, extratime, extraweight };
  }

  #targets(target: Domain | SchedulingUnit | null): SedfUnit[] {
    if (target instanceof Domain) {
      const found = new Set<SedfUnit>();
      for (const { unit } of target.vcpus) {
        const one = unit === null ? undefined : this.#units.get(unit);
        if (one !== undefined) found.add(one);
      }
      return [...found];
    }
    const one = target === null ? undefined : this.#units.get(target);
    return one === undefined ? [] : [one];
  }

  /** Without admission control nothing is promised where slices want more than a pCPU has, and extra time to nobody but the next unit. */
  entitled(unit: SchedulingUnit): boolean {
    const one = this.#of(unit);
    let used = 0;
    for (const other of one.home?.members ?? []) used += other.slice / other.period;
    return one.slice > 0 ? used <= 1 : used <= MOST_SLICES && one.home?.extra.first() === one;
  }

  // ---- state -----------------------------------------------------------------------------------

  /** Times are relative to the present. */
  save(): SchedulerState {
    const now = this.#host.now();
    for (const queue of this.#queues.values()) if (queue.running !== null) this.#charge(queue.running, queue);
    return {
      units: [...this.#units.values()].map((one) => ({
        id: one.unit.id,
        setPeriod: one.setPeriod,
        setSlice: one.setSlice,
        weight: one.weight,
        extratime: one.extratime,
        extraweight: one.extraweight,
        nextPeriod: one.nextPeriod,
        nextSlice: one.nextSlice,
        period: one.period,
        slice: one.slice,
        begin: one.begin - now,
        deadline: one.deadline - now,
        used: one.used,
        lost: one.lost,
        turn: one.turn,
        pass: one.home?.extraLag(one) ?? null,
        resumes: one.awake || one.resumes,
        blockedAt: one.blockedAt - now,
      })),
    };
  }

  /** Who was awake goes on where it was; it has not blocked. */
  restore(state: SchedulerState, find: (id: number) => SchedulingUnit | undefined, now: Nanoseconds): void {
    for (const saved of (state as { units: readonly SavedUnit[] }).units) {
      const unit = find(saved.id);
      const one = unit === undefined ? undefined : this.#units.get(unit);
      if (one === undefined) continue;
      const { id: _, ...rest } = saved;
      Object.assign(one, rest);
      one.begin = saved.begin + now;
      one.deadline = saved.deadline + now;
      one.blockedAt = saved.blockedAt + now;
      one.charged = one.unit.runTime;
    }
    for (const queue of this.#queues.values())
      queue.weighted = [...queue.members].filter((one) => one.weight > 0).length;
  }

  dump(): string {
    const show = (one: SedfUnit): string =>
      `${one.unit} ${one.mode ?? (one.awake ? "queued" : "asleep")} ${one.used} of ${one.slice} in ${one.begin}..${one.deadline}${one.weight > 0 ? ` weight ${one.weight}` : ""}${one.extratime ? ` score ${Math.round(one.score)}` : ""}${one.lost > 0 ? ` lost ${one.lost}` : ""}`;
    const list = (units: Iterable<SedfUnit>): string => [...units].map(show).join("; ") || "none";
    return [...this.#queues.values()]
      .flatMap((queue) => [
        `pcpu ${queue.pcpu.id}: ${queue.running === null ? "idle" : show(queue.running)}`,
        `  ready: ${list(queue.ready)}`,
        `  waiting: ${list(queue.waiting)}`,
        `  penalty: ${list(queue.penalty)}`,
        `  extra time: ${list(queue.extra)}`,
        `  asleep: ${list([...queue.members].filter((one) => !one.awake))}`,
      ])
      .join("\n");
  }

  #of(unit: SchedulingUnit): SedfUnit {
    return this.#units.get(unit)!;
  }
}

interface ServerParams {
  readonly period: number;
  readonly slice: number;
  readonly weight: number;
  readonly extratime: boolean;
  readonly extraweight: number;
}

/** A unit as `save` returns it. */
interface SavedUnit extends SchedulerStateObject {
  readonly id: number;
  readonly begin: number;
  readonly deadline: number;
  readonly blockedAt: number;
}
