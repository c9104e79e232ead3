/**
 * The queue of one pCPU, and the pCPUs of one NUMA node.
 *
 * A queue is three lists, one a priority (BOOST, UNDER, OVER), each in order of arrival: putting in and taking out cost O(1). A unit stays
 * in the list that it was put in when accounting changes its priority, until the pCPU's next tick sorts the queue (lazily, as in Xen).
 * Invariants: a unit is in at most one queue; counts of a node are those of its queues.
 */
import type { Nanoseconds, SchedulerPcpu, Timer } from "hookvisor";
import { type CreditUnit, Priority } from "./accounting.ts";
import { LinkedList } from "./list.ts";

/** Lists of a queue. */
const LISTS = 3;

/** The pCPUs of a NUMA node, by rising id. */
export class NodeQueues {
  readonly id: number;
  readonly queues: Runqueue[] = [];
  /** Units that wait there, and those of them in the lists above OVER. */
  waiting = 0;
  urgent = 0;
  /** Those that have a soft affinity. */
  picky = 0;
  /** The pCPU that was stolen from last: the next search begins behind it. */
  bias = -1;

  constructor(id: number) {
    this.id = id;
  }
}

export class Runqueue {
  readonly pcpu: SchedulerPcpu;
  readonly node: NodeQueues;
  /** It idles and has not been tickled since. */
  idle = true;
  /** Units that wait. */
  size = 0;
  /** The unit that waits elsewhere and that it was tickled for while it idled. */
  askedFor: CreditUnit | null = null;
  tick: Timer | null = null;
  lastBalance: Nanoseconds = Number.NEGATIVE_INFINITY;
  /** It was sorted after the accounting with this number. */
  sorted = 0;
  /** The pCPU is still in the pool. */
  present = true;
  readonly #lists: LinkedList<CreditUnit>[];
  readonly #changed: CreditUnit[] = [];
  #sequence = 0;

  constructor(pcpu: SchedulerPcpu, node: NodeQueues) {
    this.pcpu = pcpu;
    this.node = node;
    this.#lists = Array.from({ length: LISTS }, () => new LinkedList<CreditUnit>());
  }

  /** The unit that is next; null: nobody waits. */
  first(): CreditUnit | null {
    return this.#lists[0]!.first ?? this.#lists[1]!.first ?? this.#lists[2]!.first;
  }

  /** The one behind a unit of this queue. */
  after(one: CreditUnit): CreditUnit | null {
    let next = one.next;
    for (let i = one.list + 1; next === null && i < LISTS; i++) next = this.#lists[i]!.first;
    return next;
  }

  /** Behind everything of its priority or higher; a unit that yields also lets one lower pass. */
  add(one: CreditUnit): void {
    const list = Priority.boost - one.priority;
    one.sequence = this.#sequence++;
    if (one.yielded)
      for (let lower = list + 1; lower < LISTS; lower++) {
        const passes = this.#lists[lower]!.first;
        if (passes === null) continue;
        this.#lists[lower]!.insertAfter(one, passes);
        this.#count(one, lower);
        this.#changed.push(one);
        return;
      }
    this.#lists[list]!.append(one);
    this.#count(one, list);
  }

  #count(one: CreditUnit, list: number): void {
    one.list = list;
    one.queue = this;
    this.size++;
    this.node.waiting++;
    if (list < LISTS - 1) this.node.urgent++;
    if (one.hasSoft) this.node.picky++;
  }

  remove(one: CreditUnit): void {
    this.#lists[one.list]!.remove(one);
    if (one.list < LISTS - 1) this.node.urgent--;
    if (one.hasSoft) this.node.picky--;
    this.node.waiting--;
    this.size--;
    one.queue = null;
  }

  /** Accounting has changed the priority of a unit that waits here: the next sort moves it. */
  note(one: CreditUnit): void {
    if (Priority.boost - one.priority !== one.list) this.#changed.push(one);
  }

  /** Puts units whose priority has changed into its list: who sinks before those that are there, who rises behind them. */
  sort(): void {
    const changed = this.#changed;
    if (changed.length === 0) return;
    const wrong = changed.filter((one) => one.queue === this && Priority.boost - one.priority !== one.list);
    changed.length = 0;
    wrong.sort((a, b) => a.list - b.list || a.sequence - b.sequence);
    for (const one of wrong) {
      const list = Priority.boost - one.priority;
      if (list >= one.list) continue;
      this.remove(one);
      this.#lists[list]!.append(one);
      this.#count(one, list);
    }
    for (let i = wrong.length - 1; i >= 0; i--) {
      const one = wrong[i]!;
      const list = Priority.boost - one.priority;
      if (list <= one.list) continue;
      this.remove(one);
      this.#lists[list]!.prepend(one);
      this.#count(one, list);
    }
  }

  /** All that wait, in order. */
  *[Symbol.iterator](): IterableIterator<CreditUnit> {
    let one = this.first();
    while (one !== null) {
      const next = this.after(one);
      yield one;
      one = next;
    }
  }
}
