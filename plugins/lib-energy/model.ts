/**
 * Energy models: what a pCPU draws while it runs, while it idles, and for waking up.
 *
 * A model is a formula with stated figures, no measurement: it compares policies on one machine, it does not predict a power bill.
 */
import { ConfigError } from "hookvisor";

/** An idle state: what it draws, and what leaving it takes beside that (refilling caches, ramping voltages). */
export interface IdlePower {
  readonly watts: number;
  readonly wakeJoules: number;
}

/** Power of one pCPU. */
export interface EnergyModel {
  /** Watts while it runs something, at a rate. */
  busyWatts(mhz: number): number;
  /** By the machine's idle states, from shallow to deep; a state beyond the last is as the last. */
  readonly idle: readonly IdlePower[];
}

/** Halting; clock stopped; caches flushed; power off. */
export const DEFAULT_IDLE: readonly IdlePower[] = Object.freeze([
  Object.freeze({ watts: 0.8, wakeJoules: 0 }),
  Object.freeze({ watts: 0.4, wakeJoules: 1e-6 }),
  Object.freeze({ watts: 0.1, wakeJoules: 2e-5 }),
  Object.freeze({ watts: 0.02, wakeJoules: 1e-4 }),
]);

/** Figures of the cubic model. */
export interface CubicFigures {
  /** The rate at which dynamicWatts are drawn: the machine's highest. */
  readonly maxMhz: number;
  /** Watts that it draws whenever it runs: leakage, its share of caches. Default 1. */
  readonly staticWatts?: number;
  /** Watts on top of that at the highest rate. Default 4. */
  readonly dynamicWatts?: number;
  readonly idle?: readonly IdlePower[];
}

/**
 * P = static + dynamic * (f / fmax)^3: dynamic power is C V^2 f, with a voltage that is proportional to the rate.
 * The energy of a fixed piece of work is then static/f + dynamic * f^2/fmax^3 per instruction, least at f = fmax * cbrt(static / (2 dynamic)).
 */
export function cubicModel({
  maxMhz,
  staticWatts = 1,
  dynamicWatts = 4,
  idle = DEFAULT_IDLE,
}: CubicFigures): EnergyModel {
  positive("maxMhz", maxMhz);
  notNegative("staticWatts", staticWatts);
  notNegative("dynamicWatts", dynamicWatts);
  return { idle: checkIdle(idle), busyWatts: (mhz) => staticWatts + dynamicWatts * (mhz / maxMhz) ** 3 };
}

/** Figures of the voltage model. */
export interface VoltageFigures {
  /** Voltages by rate, rising; between two rates the voltage is interpolated, beyond them it is that of the nearest. */
  readonly volts: readonly { readonly mhz: number; readonly volts: number }[];
  /** Watts per volt^2 and GHz: effective switched capacitance in nF. */
  readonly nanofarads: number;
  readonly staticWatts: number;
  readonly idle?: readonly IdlePower[];
}

/** P = static + C V(f)^2 f, with a table of voltages (a processor's operating points). */
export function voltageModel({ volts, nanofarads, staticWatts, idle = DEFAULT_IDLE }: VoltageFigures): EnergyModel {
  notNegative("nanofarads", nanofarads);
  notNegative("staticWatts", staticWatts);
  const points = volts.map((point) => ({ mhz: positive("mhz", point.mhz), volts: positive("volts", point.volts) }));
  if (points.length === 0 || points.some((point, i) => i > 0 && point.mhz <= points[i - 1]!.mhz))
    throw new ConfigError("The voltages of an energy model must be a list with rising rates.");
  return {
    idle: checkIdle(idle),
    busyWatts: (mhz) => staticWatts + (nanofarads * voltage(points, mhz) ** 2 * mhz) / 1000,
  };
}

function voltage(points: readonly { readonly mhz: number; readonly volts: number }[], mhz: number): number {
  const above = points.findIndex((point) => point.mhz >= mhz);
  if (above < 0) return points.at(-1)!.volts;
  const high = points[above]!;
  const low = points[above - 1];
  if (low === undefined) return high.volts;
  return low.volts + ((high.volts - low.volts) * (mhz - low.mhz)) / (high.mhz - low.mhz);
}

function checkIdle(idle: readonly IdlePower[]): readonly IdlePower[] {
  if (idle.length === 0) throw new ConfigError("An energy model needs one idle state at least.");
  for (const { watts, wakeJoules } of idle) {
    notNegative("watts of an idle state", watts);
    notNegative("wakeJoules of an idle state", wakeJoules);
  }
  return idle;
}

function positive(what: string, value: number): number {
  if (!(value > 0 && value < Number.POSITIVE_INFINITY))
    throw new ConfigError(`An energy model's ${what} must be above 0, got ${value}.`);
  return value;
}

function notNegative(what: string, value: number): void {
  if (!(value >= 0 && value < Number.POSITIVE_INFINITY))
    throw new ConfigError(`An energy model's ${what} must not be negative, got ${value}.`);
}
