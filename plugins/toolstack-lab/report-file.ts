/** What the report of a study with one point is made of: its results, with the recordings that were kept. */
import { existsSync, readFileSync } from "node:fs";
import { decodeRecording } from "./recording-file.ts";
import type { RunReportData } from "./report-data.ts";
import { recordingPath, type StudyPlan, type StudyPoint } from "./study.ts";

/** The data of a study's report. `out`: its folder. */
export function runReportData(plan: StudyPlan, point: StudyPoint, out: string, hookvisor: string): RunReportData {
  const { experiment, runs } = point;
  return {
    kind: "run",
    title: `${experiment.name}: ${experiment.pools.map((pool) => pool.scheduler).join(", ")}`,
    command: plan.command,
    versions: { hookvisor, node: process.versions.node },
    experiment,
    runs: runs.map(({ seed, metrics, kept }) => {
      const path = recordingPath(out, 0, 1, seed);
      const there = kept && existsSync(path);
      return { seed, metrics, recording: there ? decodeRecording(readFileSync(path), path) : null };
    }),
    scalars: (runs[0]?.scalars ?? []).map(({ name, title, unit, better }, i) => ({
      name,
      title,
      unit,
      better,
      values: runs.map(({ scalars }) => scalars[i]!.value),
    })),
  };
}
