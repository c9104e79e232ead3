/**
 * bvt: borrowed virtual time, a run queue for each pCPU.
 *
 * Source: K. Duda and D. Cheriton, "Borrowed-Virtual-Time (BVT) scheduling", SOSP 1999, and Xen's common/sched_bvt.c of 2006, whose parameters
 * these are; README.md says where this differs. The unit with the lowest effective virtual time runs; while it runs, its virtual time
 * advances by mcu_advance each 100 us; a unit that warps is put before its time.
 * Invariants: a unit is queued on its home only, which its hard affinity names; the running unit is in no queue.
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
import { ALONE, MCU, poolParams, unitParams } from "./params.ts";
import { BvtUnit } from "./unit.ts";
import { VirtualQueue } from "./virtual-queue.ts";

/** Who is behind by more than this may lawfully wait for longer than a watchdog does. */
const LONG_LAG = 10e9;

export class BvtScheduler implements Scheduler {
  readonly params = { domain: unitParams, unit: unitParams, pool: poolParams };
  readonly #host: SchedulerHost;
  readonly #queues = new Map<number, VirtualQueue>();
  readonly #units = new Map<SchedulingUnit, BvtUnit>();
  #allowance: Nanoseconds = poolParams.ctx_allow.default;

  constructor(host: SchedulerHost) {
    this.#host = host;
    for (const pcpu of host.pcpus) this.#queues.set(pcpu.id, new VirtualQueue(pcpu));
  }

  // ---- units and pCPUs -------------------------------------------------------------------------

  insertUnit(unit: SchedulingUnit): void {
    const one = new BvtUnit(unit);
    this.#units.set(unit, one);
    this.#settle(one, this.#emptiest(one));
  }

  removeUnit(unit: SchedulingUnit): void {
    const one = this.#of(unit);
    one.unwarp?.cancel();
    this.#units.delete(unit);
    this.#settle(one, null);
  }

  affinityChanged(unit: SchedulingUnit): void {
    const one = this.#of(unit);
    if (one.home === null || !unit.softAffinity.has(one.home.pcpu.id)) this.#settle(one, this.#emptiest(one));
  }

  pcpuAdded(pcpu: SchedulerPcpu): void {
    this.#queues.set(pcpu.id, new VirtualQueue(pcpu));
    for (const one of this.#units.values()) if (one.home === null) this.#move(one);
  }

  pcpuRemoved(pcpu: SchedulerPcpu): void {
    const gone = this.#queues.get(pcpu.id);
    this.#queues.delete(pcpu.id);
    for (const one of gone === undefined ? [] : [...gone.members]) this.#move(one);
  }

  /** Gives a unit a new home; one that is awake is queued there. */
  #move(one: BvtUnit): void {
    this.#settle(one, this.#emptiest(one));
    if (one.awake) this.#enqueue(one);
  }

  /** The pCPU with the fewest units of the soft, else of the hard affinity; the lowest number of several. */
  #emptiest(one: BvtUnit): VirtualQueue | null {
    return this.#emptiestOf(one, one.unit.softAffinity) ?? this.#emptiestOf(one, one.unit.hardAffinity);
  }

  #emptiestOf(one: BvtUnit, affinity: ReadonlySet<number>): VirtualQueue | null {
    let best: VirtualQueue | null = null;
    let fewest = Infinity;
    for (const id of affinity) {
      const queue = this.#queues.get(id);
      if (queue === undefined) continue;
      const members = queue.members.size - Number(queue.members.has(one));
      if (members > fewest || (members === fewest && best !== null && best.pcpu.id < id)) continue;
      best = queue;
      fewest = members;
    }
    return best;
  }

  /** Moves a unit that runs nowhere; it keeps its distance to the system virtual time. */
  #settle(one: BvtUnit, home: VirtualQueue | null): void {
    const before = one.home;
    if (before === home) return;
    if (before !== null) {
      one.avt -= this.#svt(before);
      before.remove(one);
      before.members.delete(one);
    }
    one.home = home;
    if (home === null) return;
    one.avt += this.#svt(home);
    home.members.add(one);
  }

  /** A pCPU's system virtual time now. */
  #svt(queue: VirtualQueue): number {
    if (queue.running !== null) this.#charge(queue.running);
    return queue.svt;
  }

  // ---- what happens to units -------------------------------------------------------------------

  wake(unit: SchedulingUnit): void {
    // Still on its pCPU: doSchedule or contextSaved will see that it is runnable.
    if (unit.runningOn === null) this.#wake(this.#of(unit));
  }

  sleep(unit: SchedulingUnit): void {
    if (unit.runningOn === null) this.#sleep(this.#of(unit));
  }

  yielded(unit: SchedulingUnit): void {
    const { home } = this.#of(unit);
    if (home !== null) home.contested = true;
  }

  contextSaved(unit: SchedulingUnit): void {
    const one = this.#of(unit);
    const { home } = one;
    // It was taken off without a decision.
    if (home?.running === one) this.#stop(home);
    if (unit.runnable) this.#wake(one);
  }

  #sleep(one: BvtUnit): void {
    one.awake = false;
    one.warped = 0;
    one.home?.remove(one);
  }

  /** A unit that slept comes to the system virtual time, if it is behind it: sleeping earns nothing. */
  #wake(one: BvtUnit): void {
    if (one.awake) return;
    one.awake = true;
    const { home } = one;
    if (home === null) return;
    if (one.resumes) one.resumes = false;
    else one.avt = Math.max(one.avt, this.#svt(home));
    this.#enqueue(one);
  }

  /** Queues a unit on its home, and asks the pCPU to schedule if it comes first, or sooner than the present run ends. */
  #enqueue(one: BvtUnit): void {
    const { home } = one;
    if (home === null) return;
    home.add(one);
    const { running } = home;
    if (running === null) {
      this.#host.tickle(home.pcpu);
      return;
    }
    this.#charge(running);
    if (one.evt <= running.evt) home.contested = true;
    else if (this.#host.now() + this.#lead(running, one) >= home.expires) return;
    this.#host.tickle(home.pcpu);
  }

  /** How long `ahead` may run on before it is `behind`'s turn: until it has run the context allowance past its virtual time. */
  #lead(ahead: BvtUnit, behind: BvtUnit): Nanoseconds {
    return ((behind.evt - ahead.evt) / ahead.mcuAdvance) * MCU + this.#allowance;
  }

  // ---- decisions -------------------------------------------------------------------------------

  doSchedule(pcpu: SchedulerPcpu, now: Nanoseconds): Decision {
    const queue = this.#queues.get(pcpu.id)!;
    const current = queue.running;
    const { contested } = queue;
    queue.contested = false;
    if (current !== null) {
      this.#charge(current);
      const first = queue.first();
      if (current.unit.runnable && (first === null || (!contested && this.#lead(current, first) >= 1)))
        return this.#run(queue, current, now);
      this.#stop(queue);
    }
    const next = queue.first();
    if (next === null) {
      queue.expires = Infinity;
      return { unit: null, slice: null };
    }
    queue.remove(next);
    queue.running = next;
    // Who gave way and comes first all the same goes on with its stint.
    if (next !== current) next.startStint();
    return this.#run(queue, next, now);
  }

  /** The running unit is no longer; it is queued if it can run. */
  #stop(queue: VirtualQueue): void {
    const one = queue.running!;
    this.#charge(one);
    queue.keepSvt();
    queue.running = null;
    if (one.unit.runnable) queue.add(one);
    else this.#sleep(one);
  }

  #run(queue: VirtualQueue, one: BvtUnit, now: Nanoseconds): Decision {
    const first = queue.first();
    const turn = first === null ? ALONE * this.#allowance : this.#lead(one, first);
    const slice = Math.max(1, Math.ceil(Math.min(turn, one.warpLeft)));
    queue.expires = now + slice;
    return { unit: one.unit, slice };
  }

  /** Charges a unit that runs; one that has warped for too long stops warping. */
  #charge(one: BvtUnit): void {
    if (!one.charge()) return;
    one.warping = false;
    one.warped = 0;
    if (one.warpu === 0) one.warpback = false;
    else this.#awaitWarp(one, this.#host.now() + one.warpu);
  }

  #awaitWarp(one: BvtUnit, at: Nanoseconds): void {
    one.unwarp?.cancel();
    one.unwarpAt = at;
    one.unwarp = this.#host.timer(at, () => {
      one.unwarp = null;
      one.warping = one.warpback;
      this.#requeue(one);
    });
  }

  /** Its effective virtual time has changed. */
  #requeue(one: BvtUnit): void {
    const { home } = one;
    if (home === null) return;
    if (home.running === one) this.#host.tickle(home.pcpu);
    else if (home.remove(one)) this.#enqueue(one);
  }

  // ---- parameters ------------------------------------------------------------------------------

  adjust(target: Domain | SchedulingUnit | null, values: ParamValues): number {
    if (target === null) {
      this.#allowance = (values["ctx_allow"] as number | undefined) ?? this.#allowance;
      return 0;
    }
    const units = this.#targets(target);
    if (units.length === 0) return -xen.ERRNO.ESRCH;
    const { mcu_advance, warpback, warpvalue, warpl, warpu } = values as Partial<UnitParams>;
    const warp = warpback !== undefined || warpvalue !== undefined || warpl !== undefined || warpu !== undefined;
    for (const one of units) {
      if (one.home?.running === one) this.#charge(one);
      one.startStint();
      one.mcuAdvance = mcu_advance ?? one.mcuAdvance;
      one.warpvalue = warpvalue ?? one.warpvalue;
      one.warpl = warpl ?? one.warpl;
      one.warpu = warpu ?? one.warpu;
      one.warpback = warpback ?? one.warpback;
      if (warp) {
        one.unwarp?.cancel();
        one.unwarp = null;
        one.warping = one.warpback;
        one.warped = 0;
      }
      this.#requeue(one);
    }
    return 0;
  }

  read(target: Domain | SchedulingUnit | null): ParamValues {
    if (target === null) return { ctx_allow: this.#allowance };
    const one = this.#targets(target)[0];
    if (one === undefined) return {};
    const { mcuAdvance: mcu_advance, warpback, warpvalue, warpl, warpu } = one;
    return { mcu_advance, warpback, warpvalue, warpl, warpu };
  }

  #targets(target: Domain | SchedulingUnit): BvtUnit[] {
    if (target instanceof Domain) {
      const found = new Set<BvtUnit>();
      for (const { unit } of target.vcpus) {
        const one = unit === null ? undefined : this.#units.get(unit);
        if (one !== undefined) found.add(one);
      }
      return [...found];
    }
    const one = this.#units.get(target);
    return one === undefined ? [] : [one];
  }

  /** Virtual time entitles the first of a queue, unless what runs has so much less of it that its turn takes long. */
  entitled(unit: SchedulingUnit): boolean {
    const one = this.#of(unit);
    const { home } = one;
    if (home === null || home.first() !== one) return false;
    return home.running === null || this.#lead(home.running, one) < LONG_LAG;
  }

  // ---- state -----------------------------------------------------------------------------------

  /** Virtual times are relative to the system virtual time of the unit's pCPU, times to the present. */
  save(): SchedulerState {
    const now = this.#host.now();
    const svt = new Map([...this.#queues.values()].map((queue) => [queue, this.#svt(queue)]));
    return {
      allowance: this.#allowance,
      units: [...this.#units.values()].map((one) => ({
        id: one.unit.id,
        home: one.home?.pcpu.id ?? -1,
        mcuAdvance: one.mcuAdvance,
        warpback: one.warpback,
        warpvalue: one.warpvalue,
        warpl: one.warpl,
        warpu: one.warpu,
        lag: one.avt - (one.home === null ? 0 : (svt.get(one.home) ?? 0)),
        warping: one.warping,
        warped: one.warped,
        unwarpIn: one.unwarp === null ? -1 : Math.max(0, one.unwarpAt - now),
        resumes: one.awake || one.resumes,
      })),
    };
  }

  restore(state: SchedulerState, find: (id: number) => SchedulingUnit | undefined, now: Nanoseconds): void {
    const saved = state as { readonly allowance: number; readonly units: readonly SavedUnit[] };
    this.#allowance = saved.allowance;
    for (const { id, home, lag, unwarpIn, ...rest } of saved.units) {
      const unit = find(id);
      const one = unit === undefined ? undefined : this.#units.get(unit);
      if (one === undefined) continue;
      Object.assign(one, rest);
      if (one.unit.hardAffinity.has(home)) this.#settle(one, this.#queues.get(home) ?? one.home);
      one.avt = lag + (one.home === null ? 0 : this.#svt(one.home));
      if (unwarpIn >= 0) this.#awaitWarp(one, now + unwarpIn);
    }
  }

  dump(): string {
    const show = (one: BvtUnit): string =>
      `${one.unit} evt ${one.evt} avt ${one.avt} advance ${one.mcuAdvance}${one.warping ? ` warping by ${one.warpvalue} for ${one.warped}` : ""}`;
    const list = (units: Iterable<BvtUnit>): string => [...units].map(show).join("; ") || "none";
    return [...this.#queues.values()]
      .flatMap((queue) => [
        `pcpu ${queue.pcpu.id}: svt ${queue.svt}, ${queue.running === null ? "idle" : show(queue.running)}`,
        `  queued: ${list(queue.queued())}`,
        `  asleep: ${list([...queue.members].filter((one) => !one.awake))}`,
      ])
      .join("\n");
  }

  #of(unit: SchedulingUnit): BvtUnit {
    return this.#units.get(unit)!;
  }
}

interface UnitParams {
  readonly mcu_advance: number;
  readonly warpback: boolean;
  readonly warpvalue: number;
  readonly warpl: number;
  readonly warpu: number;
}

/** A unit as `save` returns it. */
interface SavedUnit extends SchedulerStateObject {
  readonly id: number;
  readonly home: number;
  readonly lag: number;
  readonly unwarpIn: number;
}
