/**
 * The fallback scheduler: first in, first out, with a fixed slice. It is what a pool gets when its scheduler broke
 * its contract; it is simple enough to be right, ignores all parameters and starves nobody.
 */
import type { Nanoseconds } from "../machine/timers.ts";
import type { Decision, Scheduler, SchedulerHost, SchedulerPcpu, SchedulingUnit } from "./scheduler.ts";

const SLICE: Nanoseconds = 10_000_000;

export class FifoScheduler implements Scheduler {
  readonly #host: SchedulerHost;
  readonly #queue: SchedulingUnit[] = [];

  constructor(host: SchedulerHost) {
    this.#host = host;
  }

  insertUnit(): void {}

  removeUnit(unit: SchedulingUnit): void {
    this.sleep(unit);
  }

  wake(unit: SchedulingUnit): void {
    if (unit.runningOn !== null || this.#queue.includes(unit)) return;
    this.#queue.push(unit);
    this.#offer(unit);
  }

  /** An idle pCPU, if there is one, should take this unit. */
  #offer(unit: SchedulingUnit): void {
    const idle = this.#host.pcpus.find(
      (pcpu) => pcpu.currentUnit === null && !pcpu.needSchedule && unit.hardAffinity.has(pcpu.id),
    );
    if (idle !== undefined) this.#host.tickle(idle);
  }

  sleep(unit: SchedulingUnit): void {
    const at = this.#queue.indexOf(unit);
    if (at >= 0) this.#queue.splice(at, 1);
  }

  doSchedule(pcpu: SchedulerPcpu): Decision {
    const running = pcpu.currentUnit;
    if (running?.runnable && !this.#queue.includes(running)) this.#queue.push(running);
    const at = this.#queue.findIndex(
      (unit) => unit.hardAffinity.has(pcpu.id) && (unit.runningOn === null || unit.runningOn === pcpu),
    );
    if (at < 0) return { unit: null, slice: null };
    const unit = this.#queue.splice(at, 1)[0]!;
    if (unit !== running && running?.runnable) this.#offer(running);
    return { unit, slice: SLICE };
  }

  dump(): string {
    return `fifo queue: ${this.#queue.join(", ")}`;
  }
}
