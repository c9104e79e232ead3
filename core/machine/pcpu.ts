/**
 * A simulated physical CPU: its place in the topology, its clock, what runs on it.
 *
 * Invariants: `clock` never decreases; `mhz` instructions retire a virtual microsecond; the division of instructions
 * into nanoseconds keeps its remainder, so that time is exact at any rate.
 */
import type { Vcpu } from "../domain/vcpu.ts";
import type { SchedulingUnit } from "../scheduling/scheduler.ts";
import type { Nanoseconds } from "./timers.ts";

export class Pcpu {
  readonly id: number;
  readonly socket: number;
  readonly core: number;
  readonly node: number;
  /** This pCPU's virtual time. */
  clock: Nanoseconds = 0;
  /** The vCPU on it; null: idle. */
  current: Vcpu | null = null;
  /** The scheduling unit on it; null: idle. */
  currentUnit: SchedulingUnit | null = null;
  /** Instructions a virtual microsecond. */
  mhz: number;
  /** When doSchedule is due at the latest. */
  sliceEnd: Nanoseconds = Infinity;
  /** doSchedule is due now. */
  needSchedule = true;
  /** Nanoseconds spent idle until `idleSince`, exact. While it is idle, what has passed since then comes on top. */
  idleTime: Nanoseconds = 0;
  idleSince: Nanoseconds = 0;
  /** Remainder of instructions * 1000 / mhz. */
  #rest = 0;

  constructor(id: number, place: { socket: number; core: number; node: number }, mhz: number) {
    this.id = id;
    this.socket = place.socket;
    this.core = place.core;
    this.node = place.node;
    this.mhz = mhz;
  }

  /** Moves the clock on by instructions. */
  retire(instructions: number): void {
    const total = instructions * 1000 + this.#rest;
    const ns = Math.floor(total / this.mhz);
    this.#rest = total - ns * this.mhz;
    this.clock += ns;
  }

  /** The clock after so many more instructions, without moving it. */
  after(instructions: number): Nanoseconds {
    return this.clock + Math.floor((instructions * 1000 + this.#rest) / this.mhz);
  }

  /** The least number of instructions (at least 1) after which the clock is not before `time`. */
  instructionsUntil(time: Nanoseconds): number {
    return Math.max(1, Math.ceil(((time - this.clock) * this.mhz - this.#rest) / 1000));
  }
}
