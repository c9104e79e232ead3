/**
 * The scheduling unit: core's implementation of what a scheduler sees. One vCPU, or as many neighbours of a domain as a resource of the
 * pool has pCPUs: its vCPU number i runs on the resource's pCPU number i, nowhere else.
 *
 * Invariants: `awake` is what the scheduler was told last (wake, sleep); affinities are within the pool, never empty.
 */
import type { Domain } from "../domain/domain.ts";
import type { RunState, Vcpu } from "../domain/vcpu.ts";
import type { Nanoseconds } from "../machine/timers.ts";
import type { CpuPool } from "./cpupool.ts";
import type { Resource } from "./resource.ts";
import type { SchedulingUnit } from "./scheduler.ts";

export class Unit implements SchedulingUnit {
  readonly id: number;
  readonly domain: Domain;
  readonly vcpus: Vcpu[];
  pool: CpuPool;
  /** vCPUs of it that are still there. */
  left = 1;
  runningOn: Resource | null = null;
  lastPcpu: Resource | null = null;
  hardAffinity: ReadonlySet<number> = new Set();
  softAffinity: ReadonlySet<number> = new Set();
  /** The scheduler knows it as runnable. */
  awake = false;
  /** Kept from running while it changes hands, whatever its vCPUs could do. */
  suspended = false;
  /** Run time before the present run. */
  past: Nanoseconds = 0;
  /** Since when it has been runnable without running; Infinity: it is not. */
  waitsSince: Nanoseconds = Infinity;

  constructor(id: number, vcpu: Vcpu, pool: CpuPool) {
    this.id = id;
    this.domain = vcpu.domain;
    this.vcpus = [vcpu];
    this.pool = pool;
  }

  get runnable(): boolean {
    const { vcpus } = this;
    if (this.suspended) return false;
    if (vcpus.length === 1) return vcpus[0]!.runnable;
    for (const vcpu of vcpus) if (vcpu.runnable) return true;
    return false;
  }
  get runTime(): Nanoseconds {
    const resource = this.runningOn;
    return resource === null ? this.past : this.past + Math.max(0, resource.time - resource.unitSince);
  }
  toString(): string {
    return this.vcpus.length === 1 ? this.vcpus[0]!.toString() : `${this.vcpus[0]} to ${this.vcpus.at(-1)!.id}`;
  }

  /** Takes the affinities that were asked for its vCPUs over into the pool as it is now. */
  updateAffinity(): void {
    const { pool } = this;
    const hard = pool.within(this.vcpus[0]!.hardAffinity, pool.ids);
    this.hardAffinity = hard;
    this.softAffinity = pool.within(this.vcpus[0]!.softAffinity, hard);
  }
}

/** Time a vCPU spent in a runstate up to `now`. */
export function runStateTime(vcpu: Vcpu, state: RunState, now: Nanoseconds): Nanoseconds {
  const past = vcpu.runStateTimes[state];
  return vcpu.runState === state ? past + Math.max(0, now - vcpu.runStateSince) : past;
}
