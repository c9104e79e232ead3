/**
 * A study: an experiment at one or more points (values of its parameters), each with every seed; and its folder of results.
 *
 *   manifest.json   what was run: versions, plugins, command, the experiment as given and resolved
 *   host.json       when and where, and how long it took: the only file that differs from host to host
 *   results.json    metrics of every run, and the figures by point
 *   metrics.csv     one figure a row;  runs.csv  one run a row
 *   recordings/     events of the runs that were kept
 *   finished/       runs of a sweep that are done, for going on after a break
 *
 * Invariants: all but host.json are equal, to the byte, for equal inputs, on any number of threads; what another study left in the folder is gone once
 * this one is finished, and as it was until then (folder.ts).
 */
import { createHash } from "node:crypto";
import { existsSync, readFileSync, renameSync } from "node:fs";
import { availableParallelism, cpus } from "node:os";
import { join } from "node:path";
import { ConfigError } from "hookvisor";
import { execute } from "./engine/execute.ts";
import { Aborted } from "./engine/run.ts";
import type { PluginSources } from "./engine/sources.ts";
import { type RunRecord, type RunTask, writeWhole } from "./engine/task.ts";
import type { Experiment } from "./experiment/model.ts";
import { complaint, type Places, WrongAt } from "./experiment/places.ts";
import { FINISHED, prepareFolder, prune, RECORDINGS, STAGED } from "./folder.ts";
import { type ScalarValue, scalarsOf } from "./scalars.ts";

/** Events of a run up to which its recording is kept without being asked for. */
const SMALL = 300_000;

/** Who runs it, with what. */
export interface StudyContext {
  readonly sources: PluginSources;
  readonly fingerprint: string;
  readonly hookvisor: string;
  /** Names of the plugins. */
  readonly plugins: readonly string[];
  /** Threads; null: as many as are worth it. */
  readonly jobs: number | null;
  readonly keepEvents: boolean;
  /** Runs that an earlier, equal study in the same folder has finished are not run again. */
  readonly resume: boolean;
  /** So many of so many runs are done; `taken`: of those, by an earlier study. */
  progress(done: number, all: number, taken: number): void;
  /** What is ignored of the guests' descriptions; a line may come several times. */
  note(text: string): void;
  /** Aborted: `runStudy` throws Interrupted. */
  readonly signal?: AbortSignal;
}

/** What is to be run. */
export interface StudyPlan {
  readonly kind: "run" | "sweep" | "replay";
  /** The command that makes the same results again. */
  readonly command: string;
  readonly file: string;
  /** The file's text. */
  readonly text: string;
  readonly places: Places;
  /** One experiment a point. */
  readonly points: readonly Experiment[];
  /** What a seed makes of a point's experiment; absent: nothing. */
  variant?(experiment: Experiment, seed: number): Experiment;
}

/** What a run gave, at its point. */
export interface StudyRun extends RunRecord {
  readonly scalars: readonly ScalarValue[];
}

/** The study was broken off. */
export class Interrupted extends Error {
  readonly done: number;
  readonly all: number;
  /** The same command goes on from here. */
  readonly resumes: boolean;
  constructor(done: number, all: number, resumes: boolean) {
    super("interrupted");
    this.done = done;
    this.all = all;
    this.resumes = resumes;
  }
}

/** One point. */
export interface StudyPoint {
  readonly experiment: Experiment;
  readonly runs: readonly StudyRun[];
}

/** results.json. */
export interface ResultsFile {
  readonly format: 1;
  readonly name: string;
  readonly kind: StudyPlan["kind"];
  readonly points: readonly {
    readonly parameters: Experiment["parameters"];
    readonly schedulers: readonly string[];
    readonly summary: Readonly<Record<string, { readonly mean: number; readonly min: number; readonly max: number }>>;
    readonly runs: readonly (RunRecord & { readonly figures: Readonly<Record<string, number | null>> })[];
  }[];
}

/** A digest of what a run depends on. */
export function runKey(
  experiment: Experiment,
  seed: number,
  context: { readonly fingerprint: string; readonly hookvisor: string },
): string {
  const { seeds: _seeds, ...rest } = experiment;
  const all = [rest, seed, context.fingerprint, context.hookvisor];
  return createHash("sha256").update(JSON.stringify(all)).digest("hex").slice(0, 24);
}

/** A digest of what is run, and with what code, for the name of its folder. */
export function studyKey({ kind, file, points }: StudyPlan, code: string): string {
  const all = [kind, kind === "replay" ? file : "", points, code];
  return createHash("sha256").update(JSON.stringify(all)).digest("hex").slice(0, 8);
}

function recordingName(point: number, points: number, seed: number): string {
  return points === 1 ? `seed-${seed}.hvrec` : `point-${point + 1}-seed-${seed}.hvrec`;
}

/** Where the recording of a run is, if it was kept. */
export function recordingPath(out: string, point: number, points: number, seed: number): string {
  return join(out, RECORDINGS, recordingName(point, points, seed));
}

/** Runs a study and writes its folder. ConfigError with the place in the experiment's file. */
export async function runStudy(plan: StudyPlan, out: string, context: StudyContext): Promise<readonly StudyPoint[]> {
  const started = performance.now();
  const date = new Date().toISOString();
  const withdraw = prepareFolder(out);
  const { points } = plan;
  const keep = plan.kind !== "sweep" || context.keepEvents;
  // What is not gone on with is put in its place when all is done.
  const recordings = context.resume ? RECORDINGS : STAGED;
  const slots = points.flatMap((experiment, point) =>
    experiment.seeds.map((seed) => {
      const own = plan.variant?.(experiment, seed) ?? experiment;
      return { experiment: own, seed, point, key: runKey(own, seed, context) };
    }),
  );
  const found = slots.map(({ key, point, seed }) => {
    const record = context.resume ? finished(out, key) : null;
    const lacks = context.keepEvents && !existsSync(recordingPath(out, point, points.length, seed));
    return lacks ? null : record;
  });
  const todo = slots.flatMap((slot, index) => (found[index] === null ? [{ ...slot, index }] : []));
  const tasks = todo.map(
    ({ experiment, seed, point }): RunTask => ({
      experiment,
      seed,
      recording: keep ? join(out, recordings, recordingName(point, points.length, seed)) : null,
      mostEvents: context.keepEvents ? Infinity : SMALL,
    }),
  );
  prune(out, (folder) => folder !== STAGED);
  const taken = slots.length - todo.length;
  let done = taken;
  const jobs = context.jobs ?? availableParallelism();
  if (taken > 0 || tasks.length > 1) context.progress(done, slots.length, taken);
  try {
    await execute(tasks, {
      sources: context.sources,
      jobs,
      ...(context.signal === undefined ? {} : { signal: context.signal }),
      done: (i, { record: whole, notes }) => {
        const { index, key } = todo[i]!;
        const record = plan.kind === "replay" ? withoutJobs(whole) : whole;
        found[index] = record;
        for (const text of notes) context.note(text);
        if (context.resume) writeWhole(finishedPath(out, key), `${JSON.stringify(record)}\n`);
        done++;
        if (tasks.length > 1) context.progress(done, slots.length, taken);
      },
    });
  } catch (error) {
    prune(out, (folder) => folder !== STAGED);
    withdraw();
    if (error instanceof Aborted) throw new Interrupted(done, slots.length, context.resume);
    if (error instanceof WrongAt) throw complaint(plan.places, error.path, error.message, error);
    throw error;
  }
  const results = points.map((experiment, point) => ({
    experiment,
    runs: slots.flatMap((slot, index) => {
      const record = found[index];
      return slot.point !== point || record == null ? [] : [{ ...record, scalars: scalarsOf(record.metrics) }];
    }),
  }));
  const keys = new Set(slots.map(({ key }) => `${key}.json`));
  const kept = new Set(
    slots.flatMap(({ point, seed }, index) => (found[index]!.kept ? [recordingName(point, points.length, seed)] : [])),
  );
  prune(out, (folder, name) =>
    context.resume
      ? (folder === FINISHED && keys.has(name)) || (folder === RECORDINGS && kept.has(name))
      : folder === STAGED,
  );
  if (existsSync(join(out, STAGED))) renameSync(join(out, STAGED), join(out, RECORDINGS));
  writeResults(plan, out, context, results);
  const seconds = Number(((performance.now() - started) / 1000).toFixed(3));
  const host = {
    date,
    seconds,
    jobs,
    ran: todo.length,
    platform: process.platform,
    cpu: cpus()[0]?.model ?? "",
  };
  writeWhole(join(out, "host.json"), json(host));
  return results;
}

/** A replay's jobs are bursts of the recording: its figures of jobs would look like those of the guests. */
function withoutJobs(record: RunRecord): RunRecord {
  const { metrics } = record;
  const domains = metrics.domains.map((domain) => ({ ...domain, jobs: null }));
  return { ...record, metrics: { ...metrics, jobs: null, domains } };
}

function finishedPath(out: string, key: string): string {
  return join(out, FINISHED, `${key}.json`);
}

function finished(out: string, key: string): RunRecord | null {
  const path = finishedPath(out, key);
  if (!existsSync(path)) return null;
  try {
    return JSON.parse(readFileSync(path, "utf8")) as RunRecord;
  } catch {
    return null;
  }
}

function json(value: unknown): string {
  return `${JSON.stringify(value, null, 2)}\n`;
}

function writeResults(plan: StudyPlan, out: string, context: StudyContext, points: readonly StudyPoint[]): void {
  const { name, seeds } = points[0]!.experiment;
  writeWhole(
    join(out, "manifest.json"),
    json({
      format: 1,
      kind: plan.kind,
      name,
      command: plan.command,
      hookvisor: context.hookvisor,
      node: process.versions.node,
      code: context.fingerprint,
      plugins: context.plugins,
      seeds,
      given: { file: plan.file, text: plan.text },
      experiments: points.map((point) => point.experiment),
    }),
  );
  const results: ResultsFile = {
    format: 1,
    name,
    kind: plan.kind,
    points: points.map(({ experiment, runs }) => ({
      parameters: experiment.parameters,
      schedulers: experiment.pools.map((pool) => pool.scheduler),
      summary: Object.fromEntries(
        summarise(runs).map(({ name: figure, mean, min, max }) => [figure, { mean, min, max }]),
      ),
      runs: runs.map(({ scalars, ...record }) => ({
        ...record,
        figures: Object.fromEntries(scalars.map(({ name: figure, value }) => [figure, value])),
      })),
    })),
  };
  writeWhole(join(out, "results.json"), json(results));
  writeWhole(join(out, "runs.csv"), runsCsv(points));
  writeWhole(join(out, "metrics.csv"), metricsCsv(points));
}

/** A figure over the runs of a point that have it. */
export interface Summary extends ScalarValue {
  readonly mean: number;
  readonly min: number;
  readonly max: number;
}

/** Figures over all runs of a point. */
export function summarise(runs: readonly { readonly scalars: readonly ScalarValue[] }[]): readonly Summary[] {
  return (runs[0]?.scalars ?? []).flatMap((scalar, i) => {
    const values = runs.flatMap(({ scalars }) => (scalars[i]!.value === null ? [] : [scalars[i]!.value]));
    if (values.length === 0) return [];
    const mean = values.reduce((a, b) => a + b, 0) / values.length;
    return [{ ...scalar, mean, min: Math.min(...values), max: Math.max(...values) }];
  });
}

function cell(value: unknown): string {
  if (value === null || value === undefined) return "";
  const text = String(value);
  return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

function csv(rows: readonly (readonly unknown[])[]): string {
  return rows.map((row) => `${row.map(cell).join(",")}\n`).join("");
}

/** One run a row. */
function runsCsv(points: readonly StudyPoint[]): string {
  const parameters = Object.keys(points[0]!.experiment.parameters);
  const figures = points[0]!.runs[0]?.scalars ?? [];
  return csv([
    [...parameters, "seed", "events", ...figures.map(({ name, unit }) => (unit === "ns" ? `${name}_ns` : name))],
    ...points.flatMap(({ experiment, runs }) =>
      runs.map(({ seed, events, scalars }) => [
        ...parameters.map((name) => experiment.parameters[name]),
        seed,
        events,
        ...scalars.map(({ value }) => value),
      ]),
    ),
  ]);
}

/** One figure a row; `domain` is empty for those of the whole run. */
function metricsCsv(points: readonly StudyPoint[]): string {
  const parameters = Object.keys(points[0]!.experiment.parameters);
  const rows: unknown[][] = [[...parameters, "seed", "domain", "metric", "unit", "value"]];
  for (const { experiment, runs } of points)
    for (const { seed, scalars, metrics } of runs) {
      const front = [...parameters.map((name) => experiment.parameters[name]), seed];
      for (const { name, unit, value } of scalars) rows.push([...front, "", name, unit, value]);
      for (const domain of metrics.domains) {
        const add = (name: string, unit: string, value: number | null): number =>
          rows.push([...front, domain.name, name, unit, value]);
        add("cpu", "ns", domain.cpu);
        add("entitled", "ns", domain.entitled);
        add("share", "ratio", domain.share);
        add("entitled-share", "ratio", domain.entitledShare);
        add("lag-behind", "ns", domain.lagBehind);
        add("lag-ahead", "ns", domain.lagAhead);
        for (const [kind, spread] of [
          ["wake", domain.wake],
          ["preemption", domain.preemption],
        ] as const)
          for (const part of ["mean", "p50", "p90", "p99", "p999", "max"] as const)
            add(`${kind}-${part}`, "ns", spread?.[part] ?? null);
        add("jobs", "count", domain.jobs?.jobs ?? null);
        add("misses", "count", domain.jobs?.misses ?? null);
        add("tardiness-max", "ns", domain.jobs?.tardiness?.max ?? null);
        add("switches", "count", domain.switches);
        const { thread, core, socket, node } = domain.migrations;
        add("migrations", "count", thread + core + socket + node);
        add("energy", "J", domain.energy);
      }
    }
  return csv(rows);
}

/** Reads the results of a folder back. ConfigError. */
export function readResults(folder: string): ResultsFile {
  const path = join(folder, "results.json");
  if (!existsSync(path))
    throw new ConfigError(
      `${folder} has no results.json; give a folder of results of hookvisor lab run, or an experiment file.`,
    );
  try {
    const results = JSON.parse(readFileSync(path, "utf8")) as ResultsFile;
    if (results.format !== 1 || !Array.isArray(results.points)) throw new Error("it is of another version");
    return results;
  } catch (error) {
    throw new ConfigError(
      `${path} cannot be read (${error instanceof Error ? error.message : String(error)}); run the experiment anew.`,
      { cause: error },
    );
  }
}
