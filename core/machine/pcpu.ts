/**
 * A simulated physical CPU: its place in the topology, its clock, what runs on it.
 *
 * Invariants: `clock` never decreases; `mhz` instructions retire a virtual microsecond; the division of instructions
 * into nanoseconds keeps its remainder, so that time is exact at any rate. A pCPU whose vCPU is run lazily (ArchBackend.horizon)
 * has a `clock` that lags behind; its `time` does not.
 */
import type { Vcpu } from "../domain/vcpu.ts";
import type { PcpuPower } from "../scheduling/power.ts";
import type { Resource } from "../scheduling/resource.ts";
import type { Nanoseconds } from "./timers.ts";

export class Pcpu {
  readonly id: number;
  readonly socket: number;
  readonly core: number;
  readonly node: number;
  /** Virtual time up to which this pCPU has been simulated. */
  clock: Nanoseconds = 0;
  /** The vCPU on it; null: idle. */
  current: Vcpu | null = null;
  /** The vCPU that hooks were told is on it. */
  announced: Vcpu | null = null;
  /** What is on it is run only when something happens to it. */
  lazy = false;
  /** Instructions a virtual microsecond. */
  mhz: number;
  /** What it is scheduled as; null: it is in no cpupool, or offline. */
  resource: Resource | null = null;
  online = true;
  /** Its governor and idle states; null: a fixed rate, and idling costs nothing. */
  power: PcpuPower | null = null;
  /** Nanoseconds spent idle until `idleSince`, exact. While it is idle, what has passed since then comes on top. */
  idleTime: Nanoseconds = 0;
  idleSince: Nanoseconds = 0;
  /** Remainder of instructions * 1000 / mhz. */
  #rest = 0;
  readonly #machine: { readonly now: Nanoseconds };

  constructor(
    id: number,
    place: { socket: number; core: number; node: number },
    mhz: number,
    machine: { readonly now: Nanoseconds },
  ) {
    this.id = id;
    this.socket = place.socket;
    this.core = place.core;
    this.node = place.node;
    this.mhz = mhz;
    this.#machine = machine;
  }

  /** This pCPU's virtual time: its clock, or the present where that lags behind. */
  get time(): Nanoseconds {
    return this.lazy && this.#machine.now > this.clock ? this.#machine.now : this.clock;
  }

  /** Time that it has been busy so far. */
  get busyTime(): Nanoseconds {
    return (this.current === null ? this.idleSince : this.time) - this.idleTime;
  }

  /** Moves the clock on by instructions. */
  retire(instructions: number): void {
    const total = instructions * 1000 + this.#rest;
    const ns = Math.floor(total / this.mhz);
    this.#rest = total - ns * this.mhz;
    this.clock += ns;
  }

  /** Another rate from now on; what is less than a nanosecond is dropped. */
  setRate(mhz: number): void {
    this.mhz = mhz;
    this.#rest = 0;
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
