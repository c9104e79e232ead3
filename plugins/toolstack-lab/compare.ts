/**
 * A against B: runs of equal seeds are paired, each figure's differences (B - A) get a bootstrap interval, and a verdict.
 *
 * The interval is the percentile bootstrap of the mean difference: pairs are drawn with replacement, 10,000 times, from a stream that is seeded by the
 * figure's name, so that equal data give equal intervals. Seeds that only one side has are left out. Invariant: a verdict is never better or worse
 * unless the whole interval is on one side of 0; a single pair has no interval and decides nothing unless it is equal.
 */
import { ConfigError } from "hookvisor";
import { parseTime } from "./experiment/values.ts";
import { formatScalar, type Scalar, type ScalarValue } from "./scalars.ts";

/** B measured against A. */
export type Verdict =
  | "better"
  | "worse"
  | "no difference"
  /** The interval is on one side of 0, and neither way of this figure is better. */
  | "different"
  /** One pair of runs that differ. */
  | "unclear";

/** One figure. */
export interface ComparedMetric extends Scalar {
  /** Means over the paired runs. */
  readonly a: number;
  readonly b: number;
  /** Mean of B - A. */
  readonly difference: number;
  /** Of `a`'s size; null: a is 0. */
  readonly relative: number | null;
  /** 95% interval of the mean difference; null: one pair only. */
  readonly interval: readonly [number, number] | null;
  readonly verdict: Verdict;
}

/** A threshold that B went over. */
export interface Exceeded {
  readonly metric: string;
  readonly threshold: string;
  /** What was measured, for people. */
  readonly measured: string;
}

/** The result. */
export interface Comparison {
  readonly a: string;
  readonly b: string;
  /** Seeds that both have. */
  readonly seeds: readonly number[];
  readonly metrics: readonly ComparedMetric[];
  readonly exceeded: readonly Exceeded[];
  /** What the two experiments do not have in common besides schedulers, a clause each. */
  readonly differences?: readonly string[];
}

/** One side: its name and each run's figures by seed. */
export interface Side {
  readonly name: string;
  readonly runs: ReadonlyMap<number, readonly ScalarValue[]>;
}

/** How much worse B may be. */
export interface Threshold {
  readonly metric: string;
  readonly text: string;
  /** Part of A's value (0.05), or an amount in the figure's own unit. */
  readonly kind: "relative" | "absolute";
  readonly value: number;
}

export const RESAMPLES = 10_000;

/** `wake-p99=5%`, `lag=1ms`, `migrations=10`. ConfigError. */
export function parseThreshold(text: string): Threshold {
  const match = /^([a-z0-9.-]+)=(.+)$/i.exec(text);
  if (match === null)
    throw new ConfigError(`--threshold ${text}: it must be METRIC=LIMIT, such as wake-p99=5% or lag=1ms.`);
  const [, metric = "", limit = ""] = match;
  const percent = /^([0-9]+(?:\.[0-9]+)?)%$/.exec(limit);
  if (percent !== null) return { metric, text, kind: "relative", value: Number(percent[1]) / 100 };
  const value = /^[0-9]+(\.[0-9]+)?$/.test(limit) ? Number(limit) : parseTime(limit);
  if (value === null)
    throw new ConfigError(`--threshold ${text}: the limit must be such as 5%, 1ms or 10, got '${limit}'.`);
  return { metric, text, kind: "absolute", value };
}

/** Compares. ConfigError when there is nothing to pair, or a threshold names no figure. */
export function compare(a: Side, b: Side, thresholds: readonly Threshold[] = []): Comparison {
  const seeds = [...a.runs.keys()].filter((seed) => b.runs.has(seed));
  if (seeds.length === 0)
    throw new ConfigError(
      `${a.name} and ${b.name} have no seed in common (${[...a.runs.keys()].join(", ")} and ${[...b.runs.keys()].join(", ")}), so there is nothing to pair; run both with the same seeds.`,
    );
  const metrics: ComparedMetric[] = [];
  for (const scalar of a.runs.get(seeds[0]!)!) {
    const pairs = seeds.flatMap((seed) => {
      const left = figureOf(a.runs.get(seed)!, scalar.name);
      const right = figureOf(b.runs.get(seed)!, scalar.name);
      return left === null || right === null ? [] : [[left, right] as const];
    });
    if (pairs.length > 0) metrics.push(compared(scalar, pairs));
  }
  return { a: a.name, b: b.name, seeds, metrics, exceeded: thresholds.flatMap((one) => check(one, metrics)) };
}

function figureOf(values: readonly ScalarValue[], name: string): number | null {
  return values.find((one) => one.name === name)?.value ?? null;
}

function compared(scalar: Scalar, pairs: readonly (readonly [number, number])[]): ComparedMetric {
  const { name, title, unit, better } = scalar;
  const differences = Float64Array.from(pairs, ([a, b]) => b - a);
  const a = mean(pairs.map((pair) => pair[0]));
  const b = mean(pairs.map((pair) => pair[1]));
  const difference = mean(differences);
  const interval = differences.length < 2 ? null : bootstrap(differences, seedOf(name));
  return {
    name,
    title,
    unit,
    better,
    a,
    b,
    difference,
    relative: a === 0 ? null : difference / Math.abs(a),
    interval,
    verdict: verdictOf(differences, interval, better),
  };
}

function verdictOf(
  differences: Float64Array,
  interval: readonly [number, number] | null,
  better: Scalar["better"],
): Verdict {
  if (differences.every((one) => one === 0)) return "no difference";
  if (interval === null) return "unclear";
  const [low, high] = interval;
  if (low <= 0 && high >= 0) return "no difference";
  if (better === null) return "different";
  return low > 0 === (better === "more") ? "better" : "worse";
}

function mean(values: ArrayLike<number>): number {
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += values[i]!;
  return sum / values.length;
}

/** 95% interval of the mean, by resampling. */
export function bootstrap(
  values: Float64Array,
  seed: number,
  resamples: number = RESAMPLES,
): readonly [number, number] {
  const means = new Float64Array(resamples);
  const { length } = values;
  let state = seed >>> 0;
  for (let r = 0; r < resamples; r++) {
    let sum = 0;
    for (let i = 0; i < length; i++) {
      // SplitMix32
      state = (state + 0x9e3779b9) >>> 0;
      let z = state;
      z = Math.imul(z ^ (z >>> 16), 0x85ebca6b);
      z = Math.imul(z ^ (z >>> 13), 0xc2b2ae35);
      sum += values[Math.floor((((z ^ (z >>> 16)) >>> 0) / 0x1_0000_0000) * length)]!;
    }
    means[r] = sum / length;
  }
  means.sort();
  return [means[Math.floor(resamples * 0.025)]!, means[Math.ceil(resamples * 0.975) - 1]!];
}

/** FNV-1a of a name. */
function seedOf(name: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < name.length; i++) hash = Math.imul(hash ^ name.charCodeAt(i), 0x01000193);
  return hash >>> 0;
}

function check(threshold: Threshold, metrics: readonly ComparedMetric[]): readonly Exceeded[] {
  const metric = metrics.find((one) => one.name === threshold.metric);
  if (metric === undefined)
    throw new ConfigError(
      `--threshold ${threshold.text}: there is no figure '${threshold.metric}' in both; there are ${metrics.map((one) => one.name).join(", ")}.`,
    );
  const { better, difference, a, unit } = metric;
  const worse = better === null ? Math.abs(difference) : better === "less" ? difference : -difference;
  const limit = threshold.kind === "relative" ? threshold.value * Math.abs(a) : threshold.value;
  if (worse <= limit) return [];
  const by = metric.relative === null ? formatScalar(worse, unit) : `${(Math.abs(metric.relative) * 100).toFixed(2)}%`;
  return [
    {
      metric: metric.name,
      threshold: threshold.text,
      measured: `${formatScalar(metric.a, unit)} to ${formatScalar(metric.b, unit)}, worse by ${by}`,
    },
  ];
}
