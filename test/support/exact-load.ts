/**
 * A machine under load whose schedule is told as text, for tests of exact schedules: times in ms, switches cost nothing.
 */
import { expect } from "vitest";
import type { Domain } from "../../core/domain/domain.ts";
import { defaultMachine, type MachineConfig } from "../../core/machine/machine.ts";
import type { Scheduler, SchedulerHost } from "../../core/scheduling/scheduler.ts";
import { type Behaviour, Load } from "./load.ts";

const MS = 1e6;

/** Never stops, not even to yield. */
export const hog: Behaviour = () => ({ run: 1e15, sleep: 0 });

/** Runs as long as it may, wakes from time to time: sleeps first. */
export function steps(...plan: readonly (readonly [run: number, sleep: number])[]): Behaviour {
  let i = 0;
  return () => {
    const [run, sleep] = plan[i++] ?? [1, Infinity];
    return { run: run * MS, sleep: sleep * MS };
  };
}

export class ExactLoad extends Load {
  readonly trace: string[] = [];

  constructor(make: (host: SchedulerHost) => Scheduler, config: Partial<MachineConfig> = {}) {
    super(make, {
      costs: { ...defaultMachine.costs, contextSwitch: 0 },
      ...config,
    });
    const many = this.machine.pcpus.length > 1;
    this.machine.hooks.contextSwitch.tap("test", (pcpu, _previous, next, now) => {
      if (now < this.from) return;
      const at = Math.round(now / 1000) / 1000;
      this.trace.push(`${at}${many ? `@${pcpu.id}` : ""} ${next?.domain.name ?? "-"}`);
    });
  }

  from = 0;

  /** Who was put on a pCPU when, in [from, to) ms; `-`: idle. */
  schedule(to: number, from = 0): string {
    this.from = from * MS;
    this.run(to * MS);
    expect(this.pool.faults).toEqual([]);
    return this.trace.filter((line) => Number.parseFloat(line) < to).join(", ");
  }

  ran(domain: Domain): number {
    return Math.round(this.domainTime(domain) / 1000) / 1000;
  }
}
