/** Results as text for a terminal: tables with the figures that matter most, and where the rest is. */
import type { Comparison } from "./compare.ts";
import { formatTime } from "./experiment/values.ts";
import { formatScalar } from "./scalars.ts";
import { type StudyPoint, summarise } from "./study.ts";

/** Rows in columns; the first row is the head. Numbers to the right. */
export function table(rows: readonly (readonly string[])[]): string {
  const columns = Math.max(...rows.map((row) => row.length));
  const widths = Array.from({ length: columns }, (_, c) => Math.max(...rows.map((row) => (row[c] ?? "").length)));
  const right = widths.map((_, c) =>
    rows.slice(1).every((row) => /^(-|[-+]?[0-9.]+( ?[a-zA-Z%/]+)?)$/.test(row[c] ?? "-")),
  );
  return rows
    .map((row) =>
      row
        .map((text, c) => (right[c] ? text.padStart(widths[c]!) : text.padEnd(widths[c]!)))
        .join("  ")
        .trimEnd(),
    )
    .map((line) => `${line}\n`)
    .join("");
}

/** Figures that the short table shows. */
const SHORT = [
  "share-error-100ms",
  "share-error-all",
  "jain",
  "lag",
  "wake-p50",
  "wake-p99",
  "wake-max",
  "preemption-p99",
  "jobs",
  "misses",
  "tardiness-max",
  "response-p99",
  "switches",
  "migrations",
  "utilisation",
  "idle-waiting",
  "energy",
  "faults",
];

/** Groups of domains that the short table shows. */
const MOST_GROUPS = 20;

/** The results of one point. */
export function pointText({ experiment, runs }: StudyPoint): string {
  const { pools, seeds, duration, warmUp, machine } = experiment;
  const schedulers = pools.map((pool) => (pools.length === 1 ? pool.scheduler : `${pool.name}: ${pool.scheduler}`));
  const head = `${experiment.name}: ${schedulers.join(", ")} on ${machine.pcpus} pCPU${machine.pcpus === 1 ? "" : "s"}, ${formatTime(duration - warmUp)} measured, ${seeds.length === 1 ? `seed ${seeds[0]}` : `${seeds.length} seeds`}\n`;
  return `${head}\n${groupsText({ experiment, runs })}\n${figuresText(runs)}`;
}

/** Shares by group of domains, means over the runs. */
function groupsText({ runs }: StudyPoint): string {
  const groups = [...new Set(runs[0]?.metrics.domains.map((domain) => domain.group) ?? [])];
  const rows = groups.slice(0, MOST_GROUPS).map((group) => {
    const all = runs.flatMap(({ metrics }) => metrics.domains.filter((domain) => domain.group === group));
    const sum = (of: (domain: (typeof all)[number]) => number): number =>
      all.reduce((total, domain) => total + of(domain), 0) / runs.length;
    const worst = (of: (domain: (typeof all)[number]) => number | null): number | null =>
      all.reduce<number | null>((most, domain) => {
        const value = of(domain);
        return value === null ? most : Math.max(most ?? 0, value);
      }, null);
    const jobs = sum((domain) => domain.jobs?.withDeadline ?? 0);
    return [
      group,
      String(all.length / runs.length),
      formatTime(sum((domain) => domain.cpu)),
      formatScalar(
        sum((domain) => domain.share),
        "ratio",
      ),
      formatScalar(
        sum((domain) => domain.entitledShare),
        "ratio",
      ),
      formatScalar(
        worst((domain) => domain.wake?.p99 ?? null),
        "ns",
      ),
      formatScalar(
        worst((domain) => domain.wake?.max ?? null),
        "ns",
      ),
      jobs === 0 ? "-" : formatScalar(sum((domain) => domain.jobs?.misses ?? 0) / jobs, "ratio"),
    ];
  });
  const more = groups.length > MOST_GROUPS ? `and ${groups.length - MOST_GROUPS} more (metrics.csv)\n` : "";
  return table([["DOMAIN", "N", "CPU TIME", "SHARE", "ENTITLED", "WAKE 99%", "WAKE MAX", "MISSED"], ...rows]) + more;
}

function figuresText(runs: StudyPoint["runs"]): string {
  const summary = summarise(runs).filter(
    ({ name, mean }) => SHORT.includes(name) && !(name === "faults" && mean === 0),
  );
  const several = runs.length > 1;
  return table([
    several ? ["FIGURE", "MEAN", "LEAST", "MOST"] : ["FIGURE", "VALUE"],
    ...summary.map(({ title, unit, mean, min, max }) => [
      title,
      formatScalar(mean, unit),
      ...(several ? [formatScalar(min, unit), formatScalar(max, unit)] : []),
    ]),
  ]);
}

/** What was ejected in which runs, and since when the figures are the fallback's; a sentence each. */
export function faultSentences(points: readonly StudyPoint[]): readonly string[] {
  const runs = points.flatMap((point) => point.runs);
  const found = new Map<string, { count: number; seed: number; text: string }>();
  for (const { faults, seed } of runs)
    for (const { plugin, reason, kind, at, where } of faults.slice(0, 1)) {
      // Reasons name times and units, which differ from run to run.
      const key = `${plugin}: ${where ?? reason.replaceAll(/\d+/g, "0")}`;
      const known = found.get(key);
      if (known !== undefined) known.count++;
      else {
        const when = at === undefined ? "" : ` after ${formatTime(at)}`;
        const after = kind === undefined || kind === "scheduler" ? "; from then on fifo decided" : "";
        const place = where === undefined ? "" : `, at ${where}`;
        found.set(key, { count: 1, seed, text: `plugin '${plugin}' was ejected${when} (${reason}${place})${after}` });
      }
    }
  const all = runs.length;
  return [...found.values()].map(({ count, seed, text }) =>
    all === 1 ? `with seed ${seed} ${text}` : `in ${count} of ${all} runs, first with seed ${seed}, ${text}`,
  );
}

/** Figures of a sweep, a point a row. */
export function sweepText(points: readonly StudyPoint[]): string {
  const parameters = Object.keys(points[0]?.experiment.parameters ?? {});
  const shown = ["share-error-all", "jain", "wake-p99", "misses", "switches", "migrations", "idle-waiting"];
  // Without rates and states to choose from it says no more than utilisation does.
  if (points.some(({ experiment: { machine } }) => machine.frequencies.length + machine.idleStates.length > 0))
    shown.push("energy");
  const summaries = points.map(({ runs }) => summarise(runs));
  const columns = shown.filter((name) => summaries.some((summary) => summary.some((one) => one.name === name)));
  return table([
    [...parameters, ...columns.map((name) => name.toUpperCase())],
    ...points.map(({ experiment }, i) => [
      ...parameters.map((name) => String(experiment.parameters[name])),
      ...columns.map((name) => {
        const one = summaries[i]!.find((summary) => summary.name === name);
        return one === undefined ? "-" : formatScalar(one.mean, one.unit);
      }),
    ]),
  ]);
}

/** A comparison. */
export function comparisonText(comparison: Comparison): string {
  const { a, b, seeds, metrics, exceeded, differences = [] } = comparison;
  const rows = metrics.map(({ title, unit, a: left, b: right, interval, verdict, relative }) => [
    title,
    formatScalar(left, unit),
    formatScalar(right, unit),
    relative === null ? "-" : `${relative > 0 ? "+" : ""}${Number((relative * 100).toFixed(2))}%`,
    interval === null ? "-" : `${formatScalar(interval[0], unit)} .. ${formatScalar(interval[1], unit)}`,
    verdict,
  ]);
  return [
    `A: ${a}\nB: ${b}\n${seeds.length} pair${seeds.length === 1 ? "" : "s"} of runs with equal seeds; intervals of B - A hold 95%\n${differences.map((text) => `not measured alike: ${text}\n`).join("")}\n`,
    table([["FIGURE", "A", "B", "CHANGE", "B - A", "B IS"], ...rows]),
    ...exceeded.map(({ threshold, measured }) => `over the threshold ${threshold}: ${measured}\n`),
  ].join("");
}
