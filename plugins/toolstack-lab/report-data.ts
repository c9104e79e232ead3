/**
 * What a report is made of. `renderReport(data): Promise<string>` (report/index.ts) makes one self-contained HTML file of it.
 *
 * It holds no time of day and nothing of the host: equal data give equal reports.
 */
import type { Comparison } from "./compare.ts";
import type { Experiment } from "./experiment/model.ts";
import type { RunMetrics } from "./metrics/types.ts";
import type { Recording } from "./recording.ts";
import type { Scalar } from "./scalars.ts";

/** One run: an experiment with one seed. */
export interface ReportRun {
  readonly seed: number;
  readonly metrics: RunMetrics;
  /** null: the events were not kept. */
  readonly recording: Recording | null;
}

/** Who made it. */
export interface ReportVersions {
  readonly hookvisor: string;
  readonly node: string;
}

/** A report of `lab run`. */
export interface RunReportData {
  readonly kind: "run";
  readonly title: string;
  /** The command that makes the same results again. */
  readonly command: string;
  readonly versions: ReportVersions;
  readonly experiment: Experiment;
  /** In the order of the experiment's seeds. */
  readonly runs: readonly ReportRun[];
  /** What the figures of `scalars` mean, in the order in which to show them; `values` has one a run (null: it has none). */
  readonly scalars: readonly (Scalar & { readonly values: readonly (number | null)[] })[];
}

/** A report of `lab compare`. */
export interface CompareReportData {
  readonly kind: "compare";
  readonly title: string;
  readonly command: string;
  readonly versions: ReportVersions;
  readonly comparison: Comparison;
  /** The two sides, where they were run or kept with their events. */
  readonly sides: readonly [RunReportData, RunReportData];
}

/** Data of a report of either kind. */
export type ReportData = RunReportData | CompareReportData;
