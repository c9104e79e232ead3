/**
 * The scheduling unit: core's implementation of what a scheduler sees. One vCPU a unit (granularity `cpu`).
 */
import type { Domain } from "../domain/domain.ts";
import { RunState, type Vcpu } from "../domain/vcpu.ts";
import type { Pcpu } from "../machine/pcpu.ts";
import type { Nanoseconds } from "../machine/timers.ts";
import type { CpuPool } from "./cpupool.ts";
import type { SchedulingUnit } from "./scheduler.ts";

export class Unit implements SchedulingUnit {
  readonly id: number;
  readonly domain: Domain;
  readonly vcpus: readonly Vcpu[];
  pool: CpuPool;

  constructor(id: number, vcpu: Vcpu, pool: CpuPool) {
    this.id = id;
    this.domain = vcpu.domain;
    this.vcpus = [vcpu];
    this.pool = pool;
  }

  get vcpu(): Vcpu {
    return this.vcpus[0]!;
  }
  get runnable(): boolean {
    return this.vcpu.runnable;
  }
  get runningOn(): Pcpu | null {
    return this.vcpu.runningOn;
  }
  get lastPcpu(): Pcpu | null {
    return this.vcpu.lastPcpu;
  }
  get hardAffinity(): ReadonlySet<number> {
    return this.vcpu.hardAffinity;
  }
  get softAffinity(): ReadonlySet<number> {
    return this.vcpu.softAffinity;
  }
  get runTime(): Nanoseconds {
    return runStateTime(this.vcpu, RunState.running, this.vcpu.runningOn?.clock ?? 0);
  }
  toString(): string {
    return this.vcpu.toString();
  }
}

/** Time a vCPU spent in a runstate up to `now`. */
export function runStateTime(vcpu: Vcpu, state: RunState, now: Nanoseconds): Nanoseconds {
  const past = vcpu.runStateTimes[state];
  return vcpu.runState === state ? past + Math.max(0, now - vcpu.runStateSince) : past;
}
