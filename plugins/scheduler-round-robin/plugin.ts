/**
 * Round robin: one queue, equal turns. The smallest real scheduler; read it first.
 *
 * A unit that is runnable and runs nowhere is in the queue, exactly once; whoever runs out of its turn goes to the back. A pCPU that neither
 * runs a unit nor is about to choose one is in `idle`, so that two units that wake together are not offered to the same.
 */
import {
  type Decision,
  type Domain,
  definePlugin,
  type ParamValues,
  type Scheduler,
  type SchedulerHost,
  type SchedulerPcpu,
  type SchedulingUnit,
} from "hookvisor";

/** A unit's place in the queue, which is a ring of places: its neighbours, or itself while it is not in the queue. */
class Place {
  readonly unit: SchedulingUnit | null;
  ahead: Place = this;
  behind: Place = this;

  constructor(unit: SchedulingUnit | null) {
    this.unit = unit;
  }
}

export class RoundRobin implements Scheduler {
  readonly params = {
    pool: {
      turn_ns: {
        description: "length of a turn, 0.1 ms to 1 s",
        type: "nanoseconds",
        min: 100_000,
        max: 1_000_000_000,
        default: 10_000_000,
      },
    },
  } as const;
  readonly host: SchedulerHost;
  readonly places = new Map<SchedulingUnit, Place>();
  /** Its first is behind this place, its last ahead. */
  readonly queue = new Place(null);
  readonly idle = new Set<SchedulerPcpu>();
  turn: number = this.params.pool.turn_ns.default;

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
    if (unit.runningOn !== null) return; // it slept so short that its pCPU has not noticed: doSchedule comes
    this.push(unit);
    this.offer(unit);
  }

  sleep(unit: SchedulingUnit): void {
    const place = this.places.get(unit)!;
    place.ahead.behind = place.behind;
    place.behind.ahead = place.ahead;
    place.ahead = place.behind = place;
  }

  doSchedule(pcpu: SchedulerPcpu): Decision {
    this.idle.delete(pcpu);
    const current = pcpu.currentUnit?.runnable ? pcpu.currentUnit : null;
    if (current !== null) this.push(current);
    let place = this.queue.behind;
    while (place.unit !== null && !(place.unit.runnable && place.unit.hardAffinity.has(pcpu.id))) place = place.behind;
    const { unit } = place;
    if (unit === null) {
      this.idle.add(pcpu);
      return { unit: null, slice: null };
    }
    this.sleep(unit); // it leaves the queue
    if (current !== null && current !== unit) this.offer(current);
    return { unit, slice: this.turn };
  }

  /** To the end of the queue; who is in it stays where it is. */
  push(unit: SchedulingUnit): void {
    const place = this.places.get(unit)!;
    if (place.ahead !== place) return;
    place.ahead = this.queue.ahead;
    place.behind = this.queue;
    place.ahead.behind = place.behind.ahead = place;
  }

  /** The idle pCPU that suits the unit best, if there is one, should choose: of its soft affinity, of the lowest number. */
  offer(unit: SchedulingUnit): void {
    const rank = (pcpu: SchedulerPcpu) => (unit.softAffinity.has(pcpu.id) ? pcpu.id : pcpu.id + 1e6);
    let best: SchedulerPcpu | null = null;
    for (const pcpu of this.idle)
      if (unit.hardAffinity.has(pcpu.id) && (best === null || rank(pcpu) < rank(best))) best = pcpu;
    if (best === null) return;
    this.idle.delete(best);
    this.host.tickle(best);
  }

  pcpuRemoved(pcpu: SchedulerPcpu): void {
    this.idle.delete(pcpu);
  }

  affinityChanged(): void {} // the unit is asleep, and doSchedule looks at affinities anyway

  adjust(_target: Domain | SchedulingUnit | null, values: ParamValues): number {
    if (values["turn_ns"] !== undefined) this.turn = values["turn_ns"] as number;
    return 0;
  }

  read(target: Domain | SchedulingUnit | null): ParamValues {
    return target === null ? { turn_ns: this.turn } : {};
  }

  waiting(): SchedulingUnit[] {
    const units: SchedulingUnit[] = [];
    for (let { unit, behind } = this.queue.behind; unit !== null; { unit, behind } = behind) units.push(unit);
    return units;
  }

  /** Units in the order in which they go on. */
  save(): { turn: number; order: number[] } {
    const running = this.host.pcpus.map((pcpu) => pcpu.currentUnit).filter((unit) => unit !== null);
    return { turn: this.turn, order: [...running, ...this.waiting()].map((unit) => unit.id) };
  }

  /** Who was in the queue has its place there before it is woken. */
  restore(state: { turn: number; order: number[] }, unit: (id: number) => SchedulingUnit | undefined): void {
    this.turn = state.turn;
    for (const one of state.order.map(unit)) if (one !== undefined) this.push(one);
  }

  dump(): string {
    return `turn ${this.turn} ns, queue: ${this.waiting().join(", ") || "empty"}`;
  }
}

export default definePlugin({
  name: "scheduler-round-robin",
  api: "^1.0.0",
  description: "equal turns from one queue",
  apply({ hooks }) {
    hooks.scheduler.for("round-robin").tap("scheduler-round-robin", (host) => new RoundRobin(host));
  },
});
