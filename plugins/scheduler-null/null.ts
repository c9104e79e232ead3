/**
 * The null scheduler: a unit has a pCPU of its own, or it waits until one becomes free.
 *
 * Source: Xen's common/sched/null.c; where this departs from it, README.md says so. All the work is done when a unit comes or goes; a
 * decision is "my unit, if it can run".
 * Invariants: a pCPU has one unit at most and a unit one pCPU at most; a unit that has a pCPU does not wait; no pCPU without a unit is in the
 * hard affinity of one that waits; a unit that is offline (each of its vCPUs is down) and known to be so has neither.
 */
import {
  type Decision,
  PauseFlag,
  type Scheduler,
  type SchedulerHost,
  type SchedulerPcpu,
  type SchedulerStateObject,
  type SchedulingUnit,
} from "hookvisor";

const IDLE: Decision = Object.freeze({ unit: null, slice: null });

/** A pCPU and the unit that it belongs to. */
interface Place {
  readonly pcpu: SchedulerPcpu;
  unit: SchedulingUnit | null;
}

/** What is saved: pairs of pCPU and unit, and who waits, in order. */
interface Saved extends SchedulerStateObject {
  readonly assigned: readonly (readonly [pcpu: number, unit: number])[];
  readonly waiting: readonly number[];
}

export class NullScheduler implements Scheduler {
  readonly #host: SchedulerHost;
  /** By the pCPU's id, rising. */
  #places = new Map<number, Place>();
  /** Where each unit of the pool belongs; null: nowhere, it waits or is offline. */
  readonly #units = new Map<SchedulingUnit, Place | null>();
  /** In order of arrival. */
  readonly #waiting = new Set<SchedulingUnit>();

  constructor(host: SchedulerHost) {
    this.#host = host;
    for (const pcpu of host.pcpus) this.#places.set(pcpu.id, { pcpu, unit: null });
  }

  // ---- units -----------------------------------------------------------------------------------

  insertUnit(unit: SchedulingUnit): void {
    this.#units.set(unit, null);
    if (!offline(unit)) this.#place(unit);
  }

  removeUnit(unit: SchedulingUnit): void {
    this.#release(unit);
    this.#units.delete(unit);
  }

  wake(unit: SchedulingUnit): void {
    const place = this.#units.get(unit);
    if (place !== null && place !== undefined) this.#host.tickle(place.pcpu);
    else if (!this.#waiting.has(unit)) this.#place(unit); // it was offline
  }

  sleep(unit: SchedulingUnit): void {
    if (offline(unit)) this.#release(unit);
  }

  affinityChanged(unit: SchedulingUnit): void {
    const old = this.#units.get(unit) ?? null;
    if (old === null && !this.#waiting.has(unit)) return; // offline
    const place = this.#pick(unit, old);
    if (place === old && place !== null) return;
    if (place !== null) {
      if (old !== null) old.unit = null;
      this.#waiting.delete(unit);
      this.#assign(unit, place);
    } else if (old !== null) {
      old.unit = null;
      this.#wait(unit);
    }
    if (old !== null) this.#fill(old);
  }

  // ---- pCPUs -----------------------------------------------------------------------------------

  doSchedule(pcpu: SchedulerPcpu): Decision {
    const unit = this.#places.get(pcpu.id)?.unit ?? null;
    if (unit === null || !unit.runnable) return IDLE;
    // It came online again elsewhere while it was leaving its old pCPU: contextSaved comes back here.
    if (unit.runningOn !== null && unit !== pcpu.currentUnit) return IDLE;
    return { unit, slice: null };
  }

  contextSaved(unit: SchedulingUnit): void {
    const place = this.#units.get(unit);
    if (place !== null && place !== undefined && unit.runnable) this.#host.tickle(place.pcpu);
  }

  pcpuAdded(pcpu: SchedulerPcpu): void {
    this.#places.set(pcpu.id, { pcpu, unit: null });
    this.#places = new Map([...this.#places].sort(([a], [b]) => a - b));
    this.#fill(this.#places.get(pcpu.id)!);
  }

  pcpuRemoved(pcpu: SchedulerPcpu): void {
    const place = this.#places.get(pcpu.id);
    if (place === undefined) return;
    this.#places.delete(pcpu.id);
    if (place.unit === null) return;
    this.#units.set(place.unit, null);
    this.#place(place.unit);
  }

  // ---- who belongs where -----------------------------------------------------------------------

  /** Gives a unit a pCPU, or has it wait. */
  #place(unit: SchedulingUnit): void {
    const place = this.#pick(unit, null) ?? this.#reclaim(unit);
    if (place === null) this.#wait(unit);
    else this.#assign(unit, place);
  }

  /** In its soft and then in its hard affinity: its own pCPU (`old`, or where it last ran), then the lowest that is free; null: none. */
  #pick(unit: SchedulingUnit, old: Place | null): Place | null {
    const own = old ?? (unit.lastPcpu === null ? undefined : this.#places.get(unit.lastPcpu.id));
    const { hardAffinity, softAffinity } = unit;
    let free: Place | null = null;
    if (own !== undefined && (own.unit === null || own.unit === unit)) {
      if (softAffinity.has(own.pcpu.id)) return own;
      if (hardAffinity.has(own.pcpu.id)) free = own;
    }
    for (const place of this.#places.values()) {
      if (place.unit !== null) continue;
      if (softAffinity.has(place.pcpu.id)) return place;
      if (free === null && hardAffinity.has(place.pcpu.id)) free = place;
    }
    return free;
  }

  /** A pCPU whose unit went offline while it was blocked, which nobody reports: it is free. */
  #reclaim(unit: SchedulingUnit): Place | null {
    for (const place of this.#places.values()) {
      if (place.unit === null || !offline(place.unit) || !unit.hardAffinity.has(place.pcpu.id)) continue;
      this.#units.set(place.unit, null);
      place.unit = null;
      return place;
    }
    return null;
  }

  #assign(unit: SchedulingUnit, place: Place): void {
    place.unit = unit;
    this.#units.set(unit, place);
    this.#host.tickle(place.pcpu);
  }

  #wait(unit: SchedulingUnit): void {
    this.#units.set(unit, null);
    this.#waiting.add(unit);
    this.#host.log(`${unit} has no pCPU of its own and waits`);
  }

  /** A unit goes offline or leaves. */
  #release(unit: SchedulingUnit): void {
    this.#waiting.delete(unit);
    const place = this.#units.get(unit);
    if (place === null || place === undefined) return;
    this.#units.set(unit, null);
    place.unit = null;
    this.#fill(place);
  }

  /** A pCPU is free: the first that waits and should run there gets it, else the first that may. */
  #fill(place: Place): void {
    let chosen: SchedulingUnit | null = null;
    for (const unit of this.#waiting) {
      if (!unit.hardAffinity.has(place.pcpu.id)) continue;
      if (unit.softAffinity.has(place.pcpu.id)) {
        chosen = unit;
        break;
      }
      chosen ??= unit;
    }
    if (chosen === null) return;
    this.#waiting.delete(chosen);
    this.#assign(chosen, place);
  }

  // ---- the rest --------------------------------------------------------------------------------

  entitled(unit: SchedulingUnit): boolean {
    return this.#units.get(unit) !== null;
  }

  save(): Saved {
    const assigned: [number, number][] = [];
    for (const { pcpu, unit } of this.#places.values()) if (unit !== null) assigned.push([pcpu.id, unit.id]);
    return { assigned, waiting: [...this.#waiting].map((unit) => unit.id) };
  }

  restore(state: Saved, unit: (id: number) => SchedulingUnit | undefined): void {
    this.#waiting.clear();
    for (const place of this.#places.values()) place.unit = null;
    const later = new Set(this.#units.keys());
    for (const one of later) this.#units.set(one, null);
    for (const [pcpu, id] of state.assigned) {
      const one = unit(id);
      const place = this.#places.get(pcpu);
      if (one === undefined || place === undefined || !one.hardAffinity.has(pcpu)) continue;
      this.#assign(one, place);
      later.delete(one);
    }
    const waiting = state.waiting.map(unit).filter((one) => one !== undefined);
    for (const one of [...waiting, ...later])
      if (this.#units.get(one) === null && !this.#waiting.has(one) && !offline(one)) this.#place(one);
  }

  dump(): string {
    const lines = [...this.#places.values()].map(({ pcpu, unit }) => `pcpu ${pcpu.id}: ${unit ?? "free"}`);
    return [...lines, `waiting: ${[...this.#waiting].join(", ") || "none"}`].join("\n");
  }
}

/** All its vCPUs are down: it is not merely blocked or paused (Xen: !is_unit_online). */
function offline(unit: SchedulingUnit): boolean {
  return unit.vcpus.every((vcpu) => (vcpu.pauseFlags & PauseFlag.down) !== 0);
}
