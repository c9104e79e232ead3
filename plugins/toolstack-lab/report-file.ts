/**
 * What is made of a folder of results with one point: the data of its report, and traces of its recordings.
 */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { ConfigError } from "hookvisor";
import type { TraceFormat } from "../lib-trace/index.ts";
import { writeWhole } from "./engine/task.ts";
import type { Experiment } from "./experiment/model.ts";
import { feed } from "./feed.ts";
import type { Recording } from "./recording.ts";
import { decodeRecording } from "./recording-file.ts";
import type { RunReportData } from "./report-data.ts";
import { scalarsOf } from "./scalars.ts";
import { readResults, recordingPath } from "./study.ts";

/** manifest.json, as far as it is read back. */
export interface Manifest {
  readonly command: string;
  readonly hookvisor: string;
  readonly node: string;
  readonly experiments: readonly Experiment[];
}

/** Reads the manifest of a folder of results. ConfigError. */
export function readManifest(folder: string): Manifest {
  const path = join(folder, "manifest.json");
  if (!existsSync(path))
    throw new ConfigError(`${folder} has no manifest.json; give a folder of results of hookvisor lab run.`);
  try {
    const manifest = JSON.parse(readFileSync(path, "utf8")) as Manifest;
    if (!Array.isArray(manifest.experiments)) throw new Error("it has no experiments");
    return manifest;
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new ConfigError(`${path} cannot be read (${why}); run the experiment anew.`, { cause: error });
  }
}

/** The recording of a seed; null: it was not kept. */
export function recordingOf(folder: string, seed: number): Recording | null {
  const path = recordingPath(folder, 0, 1, seed);
  return existsSync(path) ? decodeRecording(readFileSync(path), path) : null;
}

/** The data of the report of a folder with one point. */
export function readRunReport(folder: string): RunReportData {
  const { command, hookvisor, node, experiments } = readManifest(folder);
  const experiment = experiments[0]!;
  const runs = readResults(folder).points[0]!.runs;
  const scalars = runs.map(({ metrics }) => scalarsOf(metrics));
  return {
    kind: "run",
    title: `${experiment.name}: ${[...new Set(experiment.pools.map((pool) => pool.scheduler))].join(", ")}`,
    command,
    versions: { hookvisor, node },
    experiment,
    runs: runs.map(({ seed, metrics }) => ({ seed, metrics, recording: recordingOf(folder, seed) })),
    scalars: (scalars[0] ?? []).map(({ name, title, unit, better }, i) => ({
      name,
      title,
      unit,
      better,
      values: scalars.map((one) => one[i]!.value),
    })),
  };
}

/** Writes a trace of a recording. */
export function writeTrace(path: string, format: TraceFormat, recording: Recording): void {
  const parts: Uint8Array[] = [];
  const writer = format.open({ pcpus: recording.pcpus.length, sink: (bytes) => parts.push(bytes) });
  feed(recording, writer);
  writeWhole(path, Buffer.concat(parts));
}
