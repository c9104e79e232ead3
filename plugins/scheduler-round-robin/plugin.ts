/**
 * Round robin: one queue, equal turns. The smallest real scheduler; read it first.
 *
 * A unit that is runnable and runs nowhere is in the queue, exactly once; whoever runs out of its turn goes to the back.
 */
import {
  type Decision,
  definePlugin,
  type Scheduler,
  type SchedulerHost,
  type SchedulerPcpu,
  type SchedulingUnit,
} from "hookvisor";

const TURN = 10_000_000; // nanoseconds

class RoundRobin implements Scheduler {
  readonly host: SchedulerHost;
  readonly queue: SchedulingUnit[] = [];

  constructor(host: SchedulerHost) {
    this.host = host;
  }

  insertUnit(): void {}

  removeUnit(unit: SchedulingUnit): void {
    this.sleep(unit);
  }

  wake(unit: SchedulingUnit): void {
    if (unit.runningOn !== null || this.queue.includes(unit)) return;
    this.queue.push(unit);
    this.offer(unit);
  }

  /** An idle pCPU, if there is one, should take this unit. */
  offer(unit: SchedulingUnit): void {
    const idle = this.host.pcpus.find((pcpu) => pcpu.currentUnit === null && unit.hardAffinity.has(pcpu.id));
    if (idle !== undefined) this.host.tickle(idle);
  }

  sleep(unit: SchedulingUnit): void {
    const at = this.queue.indexOf(unit);
    if (at >= 0) this.queue.splice(at, 1);
  }

  doSchedule(pcpu: SchedulerPcpu): Decision {
    const current = pcpu.currentUnit;
    if (current?.runnable && !this.queue.includes(current)) this.queue.push(current);
    const next = this.queue.findIndex(
      (unit) => unit.hardAffinity.has(pcpu.id) && (unit === current || unit.runningOn === null),
    );
    if (next < 0) return { unit: null, slice: null };
    const unit = this.queue.splice(next, 1)[0]!;
    if (unit !== current && current?.runnable) this.offer(current);
    return { unit, slice: TURN };
  }

  dump(): string {
    return `queue: ${this.queue.join(", ")}`;
  }
}

export default definePlugin({
  name: "scheduler-round-robin",
  api: "^1.0.0",
  description: "equal turns of 10 ms from one queue",
  apply({ hooks }) {
    hooks.scheduler.for("round-robin").tap("scheduler-round-robin", (host) => new RoundRobin(host));
  },
});
