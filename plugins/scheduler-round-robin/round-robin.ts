/**
 * Round robin: one queue, equal turns. The smallest real scheduler; read it first.
 *
 * Invariants: a unit that is runnable and runs nowhere is in the queue, exactly once; a pCPU that is neither busy nor about to choose is
 * in `idle`, so that no two units that wake together are offered to the same one. Whoever's turn ends goes to the back.
 */
import type {
  Decision,
  Domain,
  ParamSpecs,
  ParamValues,
  Scheduler,
  SchedulerHost,
  SchedulerPcpu,
  SchedulerStateObject,
  SchedulingUnit,
} from "hookvisor";
import { Place, Queue } from "./queue.ts";

const MS = 1_000_000;

const poolParams: ParamSpecs = {
  turn_ns: { description: "length of a turn", type: "nanoseconds", min: 0.1 * MS, max: 1000 * MS, default: 10 * MS },
};

/** What is saved: the turn, and units in the order in which they are to go on. */
interface Saved extends SchedulerStateObject {
  readonly turn: number;
  readonly order: readonly number[];
}

export class RoundRobin implements Scheduler {
  readonly params = { pool: poolParams };
  readonly host: SchedulerHost;
  readonly places = new Map<SchedulingUnit, Place>();
  readonly queue = new Queue();
  readonly idle = new Set<SchedulerPcpu>();
  turn = 10 * MS;

  constructor(host: SchedulerHost) {
    this.host = host;
  }

  insertUnit(unit: SchedulingUnit): void {
    this.places.set(unit, new Place(unit));
  }

  removeUnit(unit: SchedulingUnit): void {
    this.sleep(unit);
    this.places.delete(unit);
  }

  wake(unit: SchedulingUnit): void {
    if (unit.runningOn !== null) return; // it fell asleep and woke before its pCPU was asked: doSchedule comes
    this.queue.push(this.places.get(unit)!);
    this.offer(unit);
  }

  sleep(unit: SchedulingUnit): void {
    this.queue.delete(this.places.get(unit)!);
  }

  doSchedule(pcpu: SchedulerPcpu): Decision {
    this.idle.delete(pcpu);
    const current = pcpu.currentUnit;
    const goesOn = current?.runnable === true;
    if (goesOn) this.queue.push(this.places.get(current)!);
    const next = this.firstFor(pcpu);
    if (next === null) {
      this.idle.add(pcpu);
      return { unit: null, slice: null };
    }
    this.queue.delete(next);
    if (goesOn && next.unit !== current) this.offer(current);
    return { unit: next.unit, slice: this.turn };
  }

  /** The first in the queue that may run there. */
  firstFor(pcpu: SchedulerPcpu): Place | null {
    let place = this.queue.first;
    while (place !== null && !(place.unit.runnable && place.unit.hardAffinity.has(pcpu.id))) place = place.behind;
    return place;
  }

  /** An idle pCPU that suits the unit is asked to choose: of its soft affinity if there is one, the lowest number first. */
  offer(unit: SchedulingUnit): void {
    const { hardAffinity, softAffinity } = unit;
    let best: SchedulerPcpu | null = null;
    for (const pcpu of this.idle) {
      if (!hardAffinity.has(pcpu.id)) continue;
      const better = best === null ? 1 : Number(softAffinity.has(pcpu.id)) - Number(softAffinity.has(best.id));
      if (best === null || better > 0 || (better === 0 && pcpu.id < best.id)) best = pcpu;
    }
    if (best === null) return;
    this.idle.delete(best);
    this.host.tickle(best);
  }

  pcpuRemoved(pcpu: SchedulerPcpu): void {
    this.idle.delete(pcpu);
  }

  affinityChanged(): void {} // the unit is asleep, so not in the queue; the queue looks at affinities when a pCPU chooses

  adjust(_target: Domain | SchedulingUnit | null, values: ParamValues): number {
    if (values["turn_ns"] !== undefined) this.turn = values["turn_ns"] as number;
    return 0;
  }

  read(target: Domain | SchedulingUnit | null): ParamValues {
    return target === null ? { turn_ns: this.turn } : {};
  }

  save(): Saved {
    const running = this.host.pcpus.map((pcpu) => pcpu.currentUnit).filter((unit) => unit !== null);
    return { turn: this.turn, order: [...running, ...this.queue].map((unit) => unit.id) };
  }

  /** A unit keeps its place until it is woken. */
  restore(state: Saved, unit: (id: number) => SchedulingUnit | undefined): void {
    this.turn = state.turn;
    for (const id of state.order) {
      const one = unit(id);
      if (one !== undefined) this.queue.push(this.places.get(one)!);
    }
  }

  dump(): string {
    return `turn ${this.turn} ns, queue: ${[...this.queue].join(", ") || "empty"}`;
  }
}
