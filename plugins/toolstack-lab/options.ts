/** Options of `hookvisor lab`, checked: mistakes are ConfigErrors of one sentence. */
import { ConfigError } from "hookvisor";
import { parseThreshold, type Threshold } from "./compare.ts";
import { parseTime } from "./experiment/values.ts";

export interface LabOptions {
  readonly out: string | null;
  readonly seeds: readonly number[] | null;
  /** ns. */
  readonly duration: number | null;
  readonly set: readonly string[];
  readonly schedulers: readonly string[];
  /** null: as many as are worth it. */
  readonly jobs: number | null;
  readonly keepEvents: boolean;
  readonly thresholds: readonly Threshold[];
  /** Formats of traces to write. */
  readonly traces: readonly string[];
  readonly json: boolean;
  readonly quiet: boolean;
}

/** Most seeds of one study. */
const MOST_SEEDS = 10_000;

export function parseOptions(given: Readonly<Record<string, unknown>>): LabOptions {
  const text = (key: string): string | null => (typeof given[key] === "string" ? given[key] : null);
  const texts = (key: string): readonly string[] => (Array.isArray(given[key]) ? given[key].map(String) : []);
  const jobs = text("jobs");
  const duration = text("duration");
  return {
    out: text("out"),
    seeds: parseSeeds(text("seeds")),
    duration: duration === null ? null : parseDuration(duration),
    set: texts("set"),
    schedulers: texts("scheduler"),
    jobs: jobs === null ? null : parseJobs(jobs),
    keepEvents: given["keepEvents"] === true,
    thresholds: texts("threshold").map(parseThreshold),
    traces: texts("trace"),
    json: given["json"] === true,
    quiet: given["quiet"] === true,
  };
}

/** `1-10,20`. */
export function parseSeeds(text: string | null): readonly number[] | null {
  if (text === null) return null;
  const seeds = new Set<number>();
  for (const part of text.split(",")) {
    const match = /^\s*(\d{1,10})(?:-(\d{1,10}))?\s*$/.exec(part);
    const from = Number(match?.[1]);
    const to = Number(match?.[2] ?? match?.[1]);
    if (match === null || to < from || to > 0xffff_ffff)
      throw new ConfigError(`Option --seeds: it must be seeds such as 1-10,20, got '${text}'.`);
    if (to - from + seeds.size >= MOST_SEEDS)
      throw new ConfigError(`Option --seeds: ${text} are more than ${MOST_SEEDS} seeds.`);
    for (let seed = from; seed <= to; seed++) seeds.add(seed);
  }
  return [...seeds];
}

function parseDuration(text: string): number {
  const ns = parseTime(text);
  if (ns === null || ns === 0)
    throw new ConfigError(`Option --duration: it must be a duration such as 10s or 500ms, got '${text}'.`);
  return ns;
}

function parseJobs(text: string): number {
  const jobs = Number(text);
  if (!/^\d+$/.test(text) || jobs < 1 || jobs > 1024)
    throw new ConfigError(`Option --jobs: it must be a whole number from 1 to 1024, got '${text}'.`);
  return jobs;
}
