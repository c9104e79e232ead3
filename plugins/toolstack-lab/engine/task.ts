/**
 * A run as a task that any thread can do: what goes in and what comes out is plain data, files apart.
 */
import { mkdirSync, renameSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import type { LoadedPlugin } from "hookvisor";
import type { Experiment } from "../experiment/model.ts";
import type { RunMetrics } from "../metrics/types.ts";
import type { RecordedFault } from "../recording.ts";
import { encodeRecording } from "../recording-file.ts";
import { runExperiment } from "./run.ts";

/** One run. */
export interface RunTask {
  readonly experiment: Experiment;
  readonly seed: number;
  /** File for the recording; null: it is not kept. */
  readonly recording: string | null;
  /** Events up to which it is kept. */
  readonly mostEvents: number;
}

/** What is known of a finished run. */
export interface RunRecord {
  readonly seed: number;
  readonly metrics: RunMetrics;
  readonly events: number;
  /** The recording was kept. */
  readonly kept: boolean;
  readonly faults: readonly RecordedFault[];
}

/** Does it. */
export async function doTask(plugins: readonly LoadedPlugin[], task: RunTask): Promise<RunRecord> {
  const { experiment, seed } = task;
  const { recording, metrics } = await runExperiment(plugins, experiment, seed);
  const events = recording.events.time.length;
  const kept = task.recording !== null && events <= task.mostEvents;
  if (kept) writeWhole(task.recording!, encodeRecording(recording));
  return { seed, metrics, events, kept, faults: recording.faults };
}

/** Writes a file so that it is there whole or not at all. */
export function writeWhole(path: string, content: string | Uint8Array): void {
  mkdirSync(dirname(path), { recursive: true });
  const part = `${path}.part`;
  writeFileSync(part, content);
  renameSync(part, path);
}
