/**
 * The figures of a run that can be compared and tabled: a flat list, each with its unit and which way is better.
 *
 * Names are stable: `--threshold`, results.json and metrics.csv use them. Domain figures are `NAME@domain`.
 */

import { formatTime } from "./experiment/values.ts";
import type { RunMetrics, Spread } from "./metrics/types.ts";

/** Unit of a figure. */
export type Unit = "ns" | "ratio" | "count" | "per-second" | "J";

/** What a figure is. */
export interface Scalar {
  readonly name: string;
  readonly title: string;
  readonly unit: Unit;
  /** Which way is better; null: neither. */
  readonly better: "less" | "more" | null;
}

/** A figure with its value; null: this run has none. */
export interface ScalarValue extends Scalar {
  readonly value: number | null;
}

/** The figures of a run, in the order in which to show them. */
export function scalarsOf(metrics: RunMetrics): readonly ScalarValue[] {
  const seconds = metrics.time / 1e9;
  const all: ScalarValue[] = [];
  const add = (name: string, title: string, unit: Unit, better: Scalar["better"], value: number | null): number =>
    all.push({ name, title, unit, better, value });
  for (const { window, mean, max } of metrics.shareErrors) {
    const of = window === null ? "all" : formatTime(window);
    const where = window === null ? "over the whole run" : `over windows of ${of}`;
    add(`share-error-${of}`, `share error ${where}${window === null ? "" : ", mean"}`, "ratio", "less", mean);
    if (window !== null) add(`share-error-${of}-max`, `share error ${where}, worst`, "ratio", "less", max);
  }
  add("jain", "Jain's fairness index", "ratio", "more", metrics.jain);
  add("lag", "largest lag", "ns", "less", metrics.lag);
  const spread = (name: string, title: string, of: Spread | null): void => {
    add(`${name}-mean`, `${title}, mean`, "ns", "less", of?.mean ?? null);
    add(`${name}-p50`, `${title}, median`, "ns", "less", of?.p50 ?? null);
    add(`${name}-p90`, `${title}, 90%`, "ns", "less", of?.p90 ?? null);
    add(`${name}-p99`, `${title}, 99%`, "ns", "less", of?.p99 ?? null);
    add(`${name}-p999`, `${title}, 99.9%`, "ns", "less", of?.p999 ?? null);
    add(`${name}-max`, `${title}, longest`, "ns", "less", of?.max ?? null);
  };
  spread("wake", "wake-up latency", metrics.wake);
  spread("preemption", "preemption wait", metrics.preemption);
  const { jobs } = metrics;
  const deadlines = jobs !== null && jobs.withDeadline > 0 ? jobs : null;
  add("jobs", "jobs done a second", "per-second", "more", jobs === null ? null : jobs.jobs / seconds);
  add("misses", "deadlines missed", "ratio", "less", deadlines && deadlines.misses / deadlines.withDeadline);
  add("tardiness-max", "largest tardiness", "ns", "less", deadlines && (deadlines.tardiness?.max ?? 0));
  add("response-mean", "response time, mean", "ns", "less", jobs?.response?.mean ?? null);
  add("response-p99", "response time, 99%", "ns", "less", jobs?.response?.p99 ?? null);
  add("switches", "context switches a second", "per-second", "less", metrics.switches / seconds);
  const { thread, core, socket, node } = metrics.migrations;
  const moves = thread + core + socket + node;
  add("migrations", "migrations a second", "per-second", "less", moves / seconds);
  add("migrations-core", "migrations to another core of the socket a second", "per-second", "less", core / seconds);
  add("migrations-socket", "migrations to another socket of the node a second", "per-second", "less", socket / seconds);
  add("migrations-node", "migrations to another NUMA node a second", "per-second", "less", node / seconds);
  const { busy, capacity, idleWhileWaiting } = metrics;
  add("utilisation", "pCPU time in use", "ratio", null, capacity > 0 ? busy / capacity : null);
  add(
    "idle-waiting",
    "pCPU time idle while work waited",
    "ratio",
    "less",
    capacity > 0 ? idleWhileWaiting / capacity : null,
  );
  add("energy", "energy", "J", "less", metrics.energy);
  add("faults", "plugins ejected", "count", "less", metrics.faults);
  return all;
}

/** A figure for people. */
export function formatScalar(value: number | null, unit: Unit): string {
  if (value === null) return "-";
  switch (unit) {
    case "ns":
      return formatTime(value);
    case "ratio":
      return `${Number((value * 100).toFixed(value !== 0 && Math.abs(value) < 0.001 ? 5 : 3))}%`;
    case "per-second":
      return `${Number(value.toFixed(2))}/s`;
    case "J":
      return `${Number(value.toPrecision(6))} J`;
    case "count":
      return `${Number(value.toFixed(3))}`;
  }
}
