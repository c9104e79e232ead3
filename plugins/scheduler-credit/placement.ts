/**
 * The pCPUs of the pool: which of them idle, which a unit should go to, and whom to steal from.
 *
 * Source: Xen's credit.c (_csched_cpu_pick, csched_load_balance, csched_runq_steal).
 * Invariants: `queues` by rising pCPU; the counts of idle pCPUs, of cores and of sockets, agree with `idle` of the queues.
 */
import type { Nanoseconds, SchedulerPcpu } from "hookvisor";
import { type CreditUnit, Priority } from "./accounting.ts";
import { NodeQueues, Runqueue } from "./runqueue.ts";

/** Units of one queue that a thief looks at. */
const LOOKED_AT = 64;
/** What stands in for a pCPU when the pool has none. */
const NOWHERE: SchedulerPcpu = Object.freeze({
  id: -1,
  cpus: [],
  socket: -1,
  core: -1,
  node: -1,
  currentUnit: null,
  needSchedule: false,
});

export class Placement {
  readonly queues: Runqueue[] = [];
  readonly #byId = new Map<number, Runqueue>();
  /** By rising number. */
  readonly #nodes: NodeQueues[] = [];
  idleCount = 0;
  readonly #idleOfCore = new Map<number, number>();
  readonly #idleOfSocket = new Map<number, number>();
  /** The pCPU tickled last among idle ones, and the one that a new unit was given last. */
  #tickled = -1;
  #placed = -1;
  /** The queue whose pCPU is between doSchedule and contextSaved: tickling it would be lost. */
  switching: Runqueue | null = null;
  /** Where units are while there is no pCPU that they may run on. */
  readonly limbo: Runqueue;

  constructor() {
    this.limbo = new Runqueue(NOWHERE, new NodeQueues(-1));
    this.limbo.idle = false;
    this.limbo.present = false;
  }

  add(pcpu: SchedulerPcpu): Runqueue {
    let node = this.#nodes.find((one) => one.id === pcpu.node);
    if (node === undefined) {
      node = new NodeQueues(pcpu.node);
      this.#nodes.push(node);
      this.#nodes.sort((a, b) => a.id - b.id);
    }
    const queue = new Runqueue(pcpu, node);
    node.queues.push(queue);
    node.queues.sort((a, b) => a.pcpu.id - b.pcpu.id);
    this.queues.push(queue);
    this.queues.sort((a, b) => a.pcpu.id - b.pcpu.id);
    this.#byId.set(pcpu.id, queue);
    this.#countIdle(queue, 1);
    return queue;
  }

  /** A pCPU leaves; what waits in its queue is the caller's. */
  remove(queue: Runqueue): void {
    this.setIdle(queue, false);
    queue.present = false;
    queue.tick?.cancel();
    queue.tick = null;
    this.#byId.delete(queue.pcpu.id);
    this.queues.splice(this.queues.indexOf(queue), 1);
    const { node } = queue;
    node.queues.splice(node.queues.indexOf(queue), 1);
    if (node.queues.length === 0) this.#nodes.splice(this.#nodes.indexOf(node), 1);
  }

  of(pcpu: number): Runqueue | undefined {
    return this.#byId.get(pcpu);
  }

  setIdle(queue: Runqueue, idle: boolean): void {
    if (queue.idle === idle) return;
    queue.idle = idle;
    this.#countIdle(queue, idle ? 1 : -1);
  }

  #countIdle({ pcpu }: Runqueue, change: number): void {
    this.idleCount += change;
    this.#idleOfCore.set(pcpu.core, (this.#idleOfCore.get(pcpu.core) ?? 0) + change);
    this.#idleOfSocket.set(pcpu.socket, (this.#idleOfSocket.get(pcpu.socket) ?? 0) + change);
  }

  /** Index of the first queue whose pCPU's number is above `id`, 0 behind the last. */
  #behind(id: number): number {
    const { queues } = this;
    for (let i = 0; i < queues.length; i++) if (queues[i]!.pcpu.id > id) return i;
    return 0;
  }

  /** The next queue in `affinity` from index `from` on, cyclically, only idle ones if so asked; null: none. */
  #next(affinity: ReadonlySet<number>, from: number, idle: boolean): Runqueue | null {
    const { queues } = this;
    for (let i = 0, at = from; i < queues.length; i++, at = at + 1 === queues.length ? 0 : at + 1) {
      const queue = queues[at]!;
      if ((!idle || (queue.idle && queue !== this.switching)) && affinity.has(queue.pcpu.id)) return queue;
    }
    return null;
  }

  /** An idle pCPU that a unit that waits may be run on: of its soft, else its hard affinity, by turns; null: none. */
  idleFor(one: CreditUnit): Runqueue | null {
    if (this.idleCount === 0) return null;
    const { softAffinity, hardAffinity } = one.unit;
    const from = this.#behind(this.#tickled);
    const found = (one.hasSoft ? this.#next(softAffinity, from, true) : null) ?? this.#next(hardAffinity, from, true);
    if (found !== null) this.#tickled = found.pcpu.id;
    return found;
  }

  /** Where a new unit, or one whose home is gone, should wait: by turns, then as pick() says; without idle pCPUs the shortest queue. */
  place(one: CreditUnit, powerSavings: boolean): Runqueue {
    const { softAffinity, hardAffinity } = one.unit;
    const affinity = one.hasSoft ? softAffinity : hardAffinity;
    const turn = this.#next(affinity, this.#behind(this.#placed), false);
    if (turn === null) return this.limbo;
    this.#placed = turn.pcpu.id;
    one.home = turn;
    const picked = this.pick(one, powerSavings);
    if (picked.idle) return picked;
    let best = turn;
    let least = Infinity;
    for (const queue of this.queues) {
      const load = queue.size + (queue.pcpu.currentUnit === null ? 0 : 1);
      if (load >= least || !affinity.has(queue.pcpu.id)) continue;
      best = queue;
      least = load;
    }
    return best;
  }

  /**
   * Where a unit that runs should rather be: the idle pCPU with the most idle neighbours, of its soft, else of its hard affinity. In the same
   * socket threads of the core count, and one more is enough; another socket must be more than twice as idle. With power
   * savings the one with the fewest. Its own pCPU counts as idle if nobody else wants it, and wins ties.
   */
  pick(one: CreditUnit, powerSavings: boolean): Runqueue {
    const { home } = one;
    const { softAffinity, hardAffinity } = one.unit;
    let pick = home;
    for (let step = one.hasSoft ? 0 : 1; step < 2; step++) {
      const affinity = step === 0 ? softAffinity : hardAffinity;
      if (!home.present || !affinity.has(home.pcpu.id)) {
        const other = this.#next(affinity, this.#behind(home.pcpu.id), false);
        if (other === null) continue;
        pick = other;
      } else pick = home;
      const found = this.#idlest(one, pick, affinity, powerSavings);
      if (found !== null) return found;
    }
    return pick;
  }

  #idlest(one: CreditUnit, start: Runqueue, affinity: ReadonlySet<number>, powerSavings: boolean): Runqueue | null {
    const { home } = one;
    const { currentUnit } = home.pcpu;
    // Its own pCPU, which only it keeps busy.
    const own = home.present && !home.idle && home.size === 0 && (currentUnit === null || currentUnit === one.unit);
    const counts = (queue: Runqueue): boolean => queue.idle || (own && queue === home);
    let best = start;
    if (!counts(best)) {
      const idle = this.#next(affinity, this.#behind(best.pcpu.id), true);
      if (idle === null) return null;
      best = idle;
    }
    const first = this.#behind(best.pcpu.id);
    const { queues } = this;
    for (let i = 0, at = first; i < queues.length; i++, at = at + 1 === queues.length ? 0 : at + 1) {
      const queue = queues[at]!;
      if (queue === best || !counts(queue) || !affinity.has(queue.pcpu.id)) continue;
      const { core, socket } = queue.pcpu;
      const near = socket === best.pcpu.socket;
      const there = near
        ? this.#idleOfCore.get(core)! + (own && core === home.pcpu.core ? 1 : 0)
        : this.#idleOfSocket.get(socket)! + (own && socket === home.pcpu.socket ? 1 : 0);
      const here = near
        ? this.#idleOfCore.get(best.pcpu.core)! + (own && best.pcpu.core === home.pcpu.core ? 1 : 0)
        : this.#idleOfSocket.get(best.pcpu.socket)! + (own && best.pcpu.socket === home.pcpu.socket ? 1 : 0);
      if (powerSavings ? here > there : here * (near ? 1 : 2) < there) best = queue;
    }
    return best;
  }

  /**
   * The unit that `thief` should take over: of a higher priority than `floor`, own node first, those with a soft affinity for it
   * before others. null: none.
   */
  steal(thief: Runqueue, floor: number, now: Nanoseconds, migrationDelay: Nanoseconds): CreditUnit | null {
    const own = this.#nodes.indexOf(thief.node);
    for (let step = 0; step < 2; step++)
      for (let i = 0; i < this.#nodes.length; i++) {
        const node = this.#nodes[(own + i) % this.#nodes.length]!;
        if (node.waiting === 0 || (step === 0 && node.picky === 0)) continue;
        if (floor >= Priority.over && node.urgent === 0) continue;
        const found = this.#stealFrom(node, thief, floor, step === 0, now, migrationDelay);
        if (found !== null) return found;
      }
    return null;
  }

  #stealFrom(
    node: NodeQueues,
    thief: Runqueue,
    floor: number,
    soft: boolean,
    now: Nanoseconds,
    migrationDelay: Nanoseconds,
  ): CreditUnit | null {
    const { queues } = node;
    const { id } = thief.pcpu;
    let at = 0;
    while (at < queues.length && queues[at]!.pcpu.id <= node.bias) at++;
    for (let i = 0; i < queues.length; i++, at++) {
      if (at >= queues.length) at = 0;
      const queue = queues[at]!;
      // An idle pCPU is about to take what waits there by itself.
      if (queue === thief || queue.size === 0 || queue.pcpu.currentUnit === null) continue;
      let looked = 0;
      for (let one = queue.first(); one !== null && looked < LOOKED_AT; one = queue.after(one), looked++) {
        if (floor >= Priority.over && one.list >= Priority.boost - Priority.over) break;
        if (one.priority <= floor || (one.yielded && floor > Priority.idle)) continue;
        if (soft ? !one.hasSoft || !one.unit.softAffinity.has(id) : !one.unit.hardAffinity.has(id)) continue;
        if (migrationDelay > 0 && now - one.leftAt < migrationDelay) continue;
        node.bias = queue.pcpu.id;
        return one;
      }
    }
    return null;
  }
}
