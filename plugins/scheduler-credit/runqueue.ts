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
    if (one.yielded)
      for (let lower = list + 1; lower < LISTS; lower++) {
        const passes = this.#lists[lower]!.first;
        if (passes === null) continue;
        this.#lists[lower]!.insertAfter(one, passes);
        this.#count(one, lower);
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

  /** Puts everybody into the list of the present priority, in the present order. */
  sort(): void {
    let one = this.first();
    if (one === null) return;
    const all: CreditUnit[] = [];
    let wrong = false;
    for (; one !== null; one = this.after(one)) {
      all.push(one);
      if (Priority.boost - one.priority !== one.list) wrong = true;
    }
    if (!wrong) return;
    for (const unit of all) this.remove(unit);
    for (const unit of all) {
      const list = Priority.boost - unit.priority;
      this.#lists[list]!.append(unit);
      this.#count(unit, list);
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
