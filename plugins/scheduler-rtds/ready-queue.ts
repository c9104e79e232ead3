/**
 * The ready queue of global EDF: all units that could run and do not, in the order (priority level, deadline, arrival), and which of them is
 * the first that a given pCPU may run.
 *
 * Units of one hard affinity form a group with a queue of its own, so that a pCPU compares the heads of the groups that name it instead of
 * scanning past units that it may not run: O(groups of the pCPU + log units). Xen's one list costs a scan.
 * Invariants: a unit is queued in its group's queue or nowhere; a group exists while it has members; `groups` of a place are exactly those whose affinity names it.
 */
import type { SchedulerPcpu } from "hookvisor";
import { OrderedQueue } from "../lib-runqueue/index.ts";
import type { RtUnit } from "./unit.ts";

/** One pCPU and what runs there. */
export class Place {
  readonly pcpu: SchedulerPcpu;
  running: RtUnit | null = null;
  /** It has been tickled for this unit and has not scheduled since. */
  tickledFor: RtUnit | null = null;
  /** It is deciding what it runs: no need to tickle it. */
  deciding = false;
  readonly groups: Group[] = [];

  constructor(pcpu: SchedulerPcpu) {
    this.pcpu = pcpu;
  }
}

/** The units of one priority level of a group, by deadline. */
interface Level {
  level: number;
  readonly units: OrderedQueue<RtUnit>;
}

/** Units with the same hard affinity. */
export class Group {
  readonly key: string;
  /** pCPUs of the affinity, by rising id. */
  readonly places: readonly Place[];
  readonly #at = new Map<number, number>();
  members = 0;
  readonly #order = new OrderedQueue<Level>();
  readonly #levels = new Map<number, Level>();
  /** An emptied level, kept for the next one. */
  #spare: Level | null = null;

  constructor(key: string, places: readonly Place[]) {
    this.key = key;
    this.places = places;
    places.forEach((place, i) => {
      this.#at.set(place.pcpu.id, i);
      place.groups.push(this);
    });
  }

  /** Where in `places` a pCPU is; 0: nowhere. */
  indexOf(pcpu: SchedulerPcpu | null): number {
    return pcpu === null ? 0 : (this.#at.get(pcpu.id) ?? 0);
  }

  first(): RtUnit | null {
    return this.#order.first()?.units.first() ?? null;
  }

  add(one: RtUnit): void {
    let level = this.#levels.get(one.level);
    if (level === undefined) {
      level = this.#spare ?? { level: 0, units: new OrderedQueue<RtUnit>() };
      this.#spare = null;
      level.level = one.level;
      this.#levels.set(one.level, level);
      this.#order.add(level, one.level);
    }
    level.units.add(one, one.deadline);
  }

  /** Takes a unit out; `level`: the one it was added with. */
  remove(one: RtUnit, level: number): void {
    const found = this.#levels.get(level);
    if (found === undefined || !found.units.remove(one) || found.units.size > 0) return;
    this.#levels.delete(level);
    this.#order.remove(found);
    this.#spare = found;
  }

  *[Symbol.iterator](): IterableIterator<RtUnit> {
    for (const level of this.#order) yield* level.units;
  }
}

/** Above 0: `a` goes before `b`; 0: equal. */
export function compare(a: RtUnit, b: RtUnit): number {
  return b.level - a.level || b.deadline - a.deadline;
}

export class ReadyQueue {
  readonly #groups = new Map<string, Group>();
  readonly places = new Map<number, Place>();
  #arrivals = 0;

  /** A unit comes, or its affinity or the pCPUs have changed: finds its group. It must not be queued. */
  join(one: RtUnit): void {
    this.leave(one);
    const ids = [...one.unit.hardAffinity].filter((id) => this.places.has(id)).sort((a, b) => a - b);
    const key = ids.join(",");
    let group = this.#groups.get(key);
    if (group === undefined) {
      group = new Group(
        key,
        ids.map((id) => this.places.get(id)!),
      );
      this.#groups.set(key, group);
    }
    group.members++;
    one.group = group;
  }

  /** A unit goes; it must not be queued. */
  leave(one: RtUnit): void {
    const { group } = one;
    if (group === null) return;
    one.group = null;
    if (--group.members > 0) return;
    this.#groups.delete(group.key);
    for (const place of group.places) place.groups.splice(place.groups.indexOf(group), 1);
  }

  /** Behind all of the same level and deadline; where it is already it is moved. */
  add(one: RtUnit): void {
    this.remove(one);
    one.arrival = ++this.#arrivals;
    one.queuedLevel = one.level;
    one.group!.add(one);
    one.queued = true;
  }

  remove(one: RtUnit): void {
    if (!one.queued) return;
    one.queued = false;
    one.group!.remove(one, one.queuedLevel);
  }

  /** The first unit that may run at a place. */
  first(place: Place): RtUnit | null {
    const { groups } = place;
    let best: RtUnit | null = null;
    for (let i = 0; i < groups.length; i++) {
      const one = groups[i]!.first();
      if (one === null) continue;
      if (best === null) best = one;
      else {
        const order = compare(one, best);
        if (order > 0 || (order === 0 && one.arrival < best.arrival)) best = one;
      }
    }
    return best;
  }

  /** All queued units in order. O(n log n): for dumps and when pCPUs come and go. */
  all(): RtUnit[] {
    return [...this.#groups.values()]
      .flatMap((group) => [...group])
      .sort((a, b) => -compare(a, b) || a.arrival - b.arrival);
  }
}
