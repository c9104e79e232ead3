/**
 * What bvt knows of a unit: its virtual times and its warp.
 *
 * A stint is the time on a pCPU between two context switches. Invariants: within a stint the actual virtual time is that of its start plus
 * mcu_advance for each charging unit begun, however often it is worked out; it never decreases.
 */
import type { Nanoseconds, SchedulingUnit, Timer } from "hookvisor";
import { MCU, unitParams } from "./params.ts";
import type { VirtualQueue } from "./virtual-queue.ts";

export class BvtUnit {
  readonly unit: SchedulingUnit;
  mcuAdvance: number = unitParams.mcu_advance.default;
  warpback: boolean = unitParams.warpback.default;
  warpvalue: number = unitParams.warpvalue.default;
  warpl: Nanoseconds = unitParams.warpl.default;
  warpu: Nanoseconds = unitParams.warpu.default;
  /** Actual virtual time. */
  avt = 0;
  /** It borrows virtual time now. */
  warping = false;
  /** How long it has run warping since it slept or could warp again. */
  warped: Nanoseconds = 0;
  /** When it may warp again. */
  unwarp: Timer | null = null;
  unwarpAt: Nanoseconds = 0;
  /** Actual virtual time and run time where the stint began. */
  #stintAvt = 0;
  #stintRun: Nanoseconds = 0;
  /** Run time up to which it has been charged. */
  #charged: Nanoseconds;
  /** Its pCPU; null: the pool has none. */
  home: VirtualQueue | null = null;
  awake = false;
  /** It was awake when its state was saved: the next wake ends no sleep. */
  resumes = false;

  constructor(unit: SchedulingUnit) {
    this.unit = unit;
    this.#charged = unit.runTime;
    this.startStint();
  }

  /** Effective virtual time: the lowest runs next. */
  get evt(): number {
    return this.warping ? this.avt - this.warpvalue : this.avt;
  }

  /** It is put on a pCPU, or its parameters change there. */
  startStint(): void {
    this.#stintAvt = this.avt;
    this.#stintRun = this.unit.runTime;
  }

  /** Charges what it has run, in whole charging units of the stint. True: it has warped for as long as it may. */
  charge(): boolean {
    const { runTime } = this.unit;
    const ran = runTime - this.#charged;
    this.#charged = runTime;
    this.avt = this.#stintAvt + Math.ceil((runTime - this.#stintRun) / MCU) * this.mcuAdvance;
    if (!this.warping || this.warpl === 0) return false;
    this.warped += ran;
    return this.warped >= this.warpl;
  }

  /** How long it may run on warping; Infinity: no limit. */
  get warpLeft(): Nanoseconds {
    return this.warping && this.warpl > 0 ? this.warpl - this.warped : Infinity;
  }
}
