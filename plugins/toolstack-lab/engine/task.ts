/**
 * A run as a task that any thread can do: what goes in and what comes out is plain data, files apart.
 */
import { mkdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { ConfigError, type LoadedPlugin } from "hookvisor";
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

/** What a run gave, and what the user should hear of it. */
export interface TaskOutcome {
  readonly record: RunRecord;
  /** What the guests' descriptions have that is ignored, a line each. */
  readonly notes: readonly string[];
}

/** Does it. `stopped`: true once nobody wants it any more, and then it throws Aborted. */
export async function doTask(
  plugins: readonly LoadedPlugin[],
  task: RunTask,
  stopped?: () => boolean,
): Promise<TaskOutcome> {
  const { experiment, seed } = task;
  const { recording, metrics, notes } = await runExperiment(plugins, experiment, seed, stopped);
  const events = recording.events.time.length;
  const kept = task.recording !== null && events <= task.mostEvents;
  if (kept) writeWhole(task.recording!, encodeRecording(recording));
  return { record: { seed, metrics, events, kept, faults: recording.faults }, notes };
}

/** What the host says when a file cannot be written, in words. */
const REASONS: Readonly<Record<string, string>> = {
  ENOSPC: "no space is left there",
  EDQUOT: "the quota is used up",
  EFBIG: "it is larger than a file may be",
  EACCES: "it is not allowed",
  EPERM: "it is not allowed",
  EROFS: "the file system is read-only",
};

/** Writes a file so that it is there whole or not at all. ConfigError. */
export function writeWhole(path: string, content: string | Uint8Array): void {
  const part = `${path}.part`;
  try {
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(part, content);
    renameSync(part, path);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (typeof code !== "string") throw error;
    try {
      rmSync(part, { force: true });
    } catch {
      // It stays, and the next writing replaces it.
    }
    const reason = Object.hasOwn(REASONS, code) ? `${code}: ${REASONS[code]}` : code;
    throw new ConfigError(`${path} cannot be written (${reason}).`, { cause: error });
  }
}
