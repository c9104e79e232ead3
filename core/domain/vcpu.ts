/**
 * A virtual CPU: why it does not run, its runstate with exact times, where its vcpu_info lies.
 *
 * Invariants: `runnable` is exactly "no pause flag, and pause counts of vCPU and domain are 0"; the four runstate times add up to
 * the time since creation; runnable changes are reported to the scheduler by the run loop (`changed`), nobody else.
 */
import type { Exit } from "../architecture/arch-backend.ts";
import type { Pcpu } from "../machine/pcpu.ts";
import type { Nanoseconds, Timer } from "../machine/timers.ts";
import type { SchedulingUnit } from "../scheduling/scheduler.ts";
import type { Domain } from "./domain.ts";

/** Runstates with Xen's numbers (public/vcpu.h, RUNSTATE_*). */
export const RunState = Object.freeze({ running: 0, runnable: 1, blocked: 2, offline: 3 });
export type RunState = (typeof RunState)[keyof typeof RunState];

/** Why a vCPU is paused (xen/sched.h, VPF_*; the numbers are this project's own). */
export const PauseFlag = Object.freeze({ blocked: 1, down: 2, polling: 4, device: 8 });

export class Vcpu {
  readonly id: number;
  readonly domain: Domain;
  /** Bits of PauseFlag. A vCPU starts down, as in Xen. */
  pauseFlags: number = PauseFlag.down;
  pauseCount = 0;
  runState: RunState = RunState.offline;
  /** When the present runstate began. */
  runStateSince: Nanoseconds;
  /** Time spent in each runstate up to runStateSince. */
  readonly runStateTimes: [number, number, number, number] = [0, 0, 0, 0];
  /** Where it runs; null: nowhere. */
  runningOn: Pcpu | null = null;
  /** Where it runs or last ran. */
  lastPcpu: Pcpu | null = null;
  /** Busy time of `lastPcpu` when it left there: what has run there since has cooled its caches. */
  leftAt: Nanoseconds = 0;
  /** What its arch fills when a run ends; one for all runs. */
  exit: Exit | null = null;
  /** Its own last time: it never starts before. */
  clock: Nanoseconds;
  hardAffinity: ReadonlySet<number>;
  softAffinity: ReadonlySet<number>;
  /** The unit it belongs to; set by the scheduling core when the vCPU joins a pool. */
  unit: SchedulingUnit | null = null;
  /** Machine byte address of its struct vcpu_info: in the shared info page, or where the guest registered it; -1: it has none. */
  infoAddress = -1;
  /** Frame registered by VCPUOP_register_vcpu_info (a reference and a writable type are held), or -1. */
  infoMfn = -1;
  /** Machine byte address of the runstate area registered by VCPUOP_register_runstate_memory_area is per arch (a guest virtual address): lo, hi; 0, 0: none. */
  runstateArea: { lo: number; hi: number } = { lo: 0, hi: 0 };
  /** VIRQ number -> port, 0: not bound. */
  readonly virqToPort = new Uint32Array(24);
  /** Guest virtual address of VCPUOP_register_vcpu_time_memory_area; 0, 0: none. */
  timeArea: { lo: number; hi: number } = { lo: 0, hi: 0 };
  /** VCPUOP_set_periodic_timer: period (0: off), last tick, and the armed timer while the vCPU runs. */
  periodicTimer: { period: Nanoseconds; last: Nanoseconds; timer: Timer | null } = { period: 0, last: 0, timer: null };
  singleshotTimer: Timer | null = null;
  /** SCHEDOP_poll: the single polled port, 0: none, -1: several; with its timeout. */
  pollPort = 0;
  pollTimer: Timer | null = null;
  /** VCPUOP_initialise has succeeded. */
  initialised = false;

  constructor(domain: Domain, id: number, now: Nanoseconds, pcpus: ReadonlySet<number> | readonly number[]) {
    this.domain = domain;
    this.id = id;
    this.runStateSince = now;
    this.clock = now;
    this.hardAffinity = Array.isArray(pcpus) ? new Set(pcpus) : (pcpus as ReadonlySet<number>);
    this.softAffinity = this.hardAffinity;
  }

  get runnable(): boolean {
    return this.pauseFlags === 0 && this.pauseCount === 0 && this.domain.pauseCount === 0;
  }

  /** For people: `name v0`. */
  toString(): string {
    return `${this.domain.name} vcpu ${this.id}`;
  }
}
