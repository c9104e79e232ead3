/**
 * A runqueue: up to 16 pCPUs of one socket, the units that belong to it, and those of them that wait.
 *
 * The pCPUs have slots, 0..15, so that sets of them are bit masks. Waiting units are kept by class: which slots they may run on and
 * where they ran last, as a decision treats all units of a class alike; in a class the most credit is first, and of equals the one that
 * came first. A decision looks at the heads of the classes: there are as many as there are different affinities times pCPUs, however many units.
 * Invariants: a unit that waits is in exactly one class, and runs nowhere; keys do not change while it waits, since a reset
 * raises the epoch for all; maxWeight is the highest weight of the members, 1 without any.
 */
import type { Nanoseconds, SchedulerPcpu } from "hookvisor";
import { OrderedQueue } from "../lib-runqueue/index.ts";
import { LoadAverage } from "./load.ts";
import { CREDIT_CLIP, type Credit2Unit } from "./unit.ts";

/** pCPUs of a runqueue at most (Xen: sched_credit2_max_cpus_runqueue). */
export const MAX_PCPUS = 16;
/** Classes kept though they are empty. */
const KEPT_CLASSES = 64;

/** Units that wait, may run on the same slots and ran last on the same one. */
export interface WaitClass {
  readonly mask: number;
  readonly slot: number;
  readonly units: OrderedQueue<Credit2Unit>;
  /** The first of them, and its `raw` (-Infinity: none). */
  head: Credit2Unit | null;
  top: number;
}

export class Runqueue {
  readonly id: number;
  readonly socket: number;
  /** By slot; undefined: free. */
  readonly pcpus: (SchedulerPcpu | undefined)[] = [];
  /** What doSchedule chose for each slot and has not left since; null: nothing. */
  readonly running: (Credit2Unit | null)[] = [];
  /** Slots with the threads of the same core, by slot. */
  readonly #siblings: number[] = [];
  /** Slots in use, idle ones, and those that have been tickled and not yet scheduled. */
  active = 0;
  idle = 0;
  tickled = 0;
  /** What resets have added so far. */
  epoch = 0;
  maxWeight = 1;
  /** Slot that the unit placed last was given. */
  bias = MAX_PCPUS - 1;
  /** Units that belong here, runnable or not. */
  readonly members: Credit2Unit[] = [];
  /** Where the next balancing begins to look at members. */
  cursor = 0;
  /** Units that wait. */
  waiting = 0;
  readonly load: LoadAverage;
  readonly #classes: WaitClass[] = [];
  readonly #classOf = new Map<number, WaitClass>();
  readonly #weights = new OrderedQueue<number>();
  readonly #weightCounts = new Map<number, number>();
  #sequence = 0;

  constructor(id: number, socket: number, now: Nanoseconds) {
    this.id = id;
    this.socket = socket;
    this.load = new LoadAverage(now, 0);
  }

  get pcpuCount(): number {
    let count = 0;
    for (let left = this.active; left !== 0; left &= left - 1) count++;
    return count;
  }

  hasCore(core: number): boolean {
    return this.pcpus.some((pcpu) => pcpu?.core === core);
  }

  /** A pCPU joins, idle; its slot. */
  addPcpu(pcpu: SchedulerPcpu): number {
    let slot = 0;
    while (this.pcpus[slot] !== undefined) slot++;
    this.pcpus[slot] = pcpu;
    this.running[slot] = null;
    this.active |= 1 << slot;
    if (pcpu.currentUnit === null) this.idle |= 1 << slot;
    this.#findSiblings();
    return slot;
  }

  removePcpu(slot: number): void {
    this.pcpus[slot] = undefined;
    this.running[slot] = null;
    const others = ~(1 << slot);
    this.active &= others;
    this.idle &= others;
    this.tickled &= others;
    this.#findSiblings();
  }

  #findSiblings(): void {
    this.pcpus.forEach((pcpu, slot) => {
      let mask = 0;
      this.pcpus.forEach((other, i) => {
        if (pcpu !== undefined && other?.core === pcpu.core) mask |= 1 << i;
      });
      this.#siblings[slot] = mask;
    });
  }

  /** Slots of cores of which all threads idle, none of them about to be given work. */
  get idleCores(): number {
    const free = this.idle & ~this.tickled;
    let mask = 0;
    for (let left = free; left !== 0; ) {
      const slot = 31 - Math.clz32(left);
      const siblings = this.#siblings[slot]!;
      if ((siblings & free) === siblings) mask |= siblings;
      left &= ~siblings;
    }
    return mask;
  }

  /** Slots that a set of pCPU ids names. */
  maskOf(ids: ReadonlySet<number>): number {
    let mask = 0;
    for (let slot = 0; slot < this.pcpus.length; slot++) {
      const pcpu = this.pcpus[slot];
      if (pcpu !== undefined && ids.has(pcpu.id)) mask |= 1 << slot;
    }
    return mask;
  }

  // ---- members ---------------------------------------------------------------------------------

  join(one: Credit2Unit): void {
    one.queue = this;
    one.index = this.members.length;
    this.members.push(one);
    this.addWeight(one.domain.weight);
  }

  leave(one: Credit2Unit): void {
    const last = this.members.pop()!;
    if (last !== one) {
      this.members[one.index] = last;
      last.index = one.index;
    }
    this.removeWeight(one.domain.weight);
  }

  addWeight(weight: number): void {
    const count = this.#weightCounts.get(weight) ?? 0;
    this.#weightCounts.set(weight, count + 1);
    if (count === 0) {
      this.#weights.add(weight, -weight);
      this.maxWeight = this.#weights.first() ?? 1;
    }
  }

  removeWeight(weight: number): void {
    const count = this.#weightCounts.get(weight)! - 1;
    if (count > 0) this.#weightCounts.set(weight, count);
    else {
      this.#weightCounts.delete(weight);
      this.#weights.remove(weight);
      this.maxWeight = this.#weights.first() ?? 1;
    }
  }

  // ---- waiting units ---------------------------------------------------------------------------

  /** A unit waits, behind those with as much credit. */
  enqueue(one: Credit2Unit): void {
    one.sequence = this.#sequence++;
    this.#put(one);
  }

  #put(one: Credit2Unit): void {
    const key = one.mask * MAX_PCPUS + one.slot;
    let found = this.#classOf.get(key);
    if (found === undefined) {
      if (this.#classes.length >= KEPT_CLASSES) this.#prune();
      found = { mask: one.mask, slot: one.slot, units: new OrderedQueue(), head: null, top: -Infinity };
      this.#classes.push(found);
      this.#classOf.set(key, found);
    }
    one.raw = one.credit - this.epoch;
    found.units.add(one, -one.raw);
    if (one.raw > found.top) {
      found.head = one;
      found.top = one.raw;
    }
    one.waiting = found;
    this.waiting++;
  }

  dequeue(one: Credit2Unit): void {
    const from = one.waiting!;
    from.units.remove(one);
    if (from.head === one) {
      from.head = from.units.first();
      from.top = from.head === null ? -Infinity : from.head.raw;
    }
    one.waiting = null;
    this.waiting--;
  }

  /** All that wait, in order. O(n log n), for changes of the topology and dumps. */
  waiters(): Credit2Unit[] {
    return this.#classes.flatMap((c) => [...c.units]).sort((a, b) => b.raw - a.raw || a.sequence - b.sequence);
  }

  /** Takes all that wait out and puts them back, after masks and slots have changed; their order stays. */
  regroup(change: () => void): void {
    const waiters = this.waiters();
    for (const one of waiters) this.dequeue(one);
    change();
    for (const one of waiters) if (one.queue === this) this.#put(one);
  }

  #prune(): void {
    let kept = 0;
    for (const found of this.#classes) {
      if (found.units.size > 0) this.#classes[kept++] = found;
      else this.#classOf.delete(found.mask * MAX_PCPUS + found.slot);
    }
    this.#classes.length = kept;
  }

  /** Was the unit promised to another slot that has not been scheduled since? */
  #isReserved(one: Credit2Unit, slot: number): boolean {
    return one.reserved >= 0 && one.reserved !== slot && (this.tickled & (1 << one.reserved)) !== 0;
  }

  /**
   * The unit that waits for `slot` with the most credit; of those that ran elsewhere only one with at least `foreign` credit counts.
   * The one that came first of equals. null: none.
   */
  candidate(slot: number, foreign: number): Credit2Unit | null {
    return this.#best(1 << slot, slot, slot, foreign - this.epoch);
  }

  /** A unit that waits for one of the slots and was promised to nobody, the one with the most credit; null: none. */
  unclaimed(slots: number): Credit2Unit | null {
    return this.#best(slots, -1, -1, -Infinity);
  }

  /** Over the heads of the classes that may use `slots`; from classes of other slots than `own` only with `foreign` (raw) credit. */
  #best(slots: number, claimer: number, own: number, foreign: number): Credit2Unit | null {
    const classes = this.#classes;
    let best: Credit2Unit | null = null;
    let most = -Infinity;
    for (let i = 0; i < classes.length; i++) {
      const found = classes[i]!;
      let { top } = found;
      if (top < most || (found.mask & slots) === 0 || (top < foreign && found.slot !== own)) continue;
      let { head } = found;
      if (head === null) continue;
      if (head.reserved >= 0 && this.#isReserved(head, claimer)) {
        while (head !== null && this.#isReserved(head, claimer)) head = found.units.next(head);
        if (head === null) continue;
        top = head.raw;
        if (top < foreign && found.slot !== own) continue;
      }
      if (top > most || (top === most && head.sequence < best!.sequence)) {
        best = head;
        most = top;
      }
    }
    return best;
  }

  /** The most credit that any unit has that waits for one of the slots; -Infinity: none waits. */
  topCredit(slots: number): number {
    let top = -Infinity;
    if (this.waiting === 0) return top;
    const classes = this.#classes;
    for (let i = 0; i < classes.length; i++) {
      const found = classes[i]!;
      if (found.top > top && (found.mask & slots) !== 0) top = found.top;
    }
    return Math.min(top + this.epoch, CREDIT_CLIP);
  }
}

/** The set slot that is `from` or comes next after it, cyclically; the mask is not 0. */
export function cycle(mask: number, from: number): number {
  const rest = mask & ~((1 << from) - 1);
  const bits = rest !== 0 ? rest : mask;
  return 31 - Math.clz32(bits & -bits);
}
