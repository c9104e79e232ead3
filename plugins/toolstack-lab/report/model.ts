/**
 * What a report shows, computed: everything that the page draws, as plain JSON, so that the page itself only draws.
 *
 * Figures over several runs are medians, with the least and the largest. What needs events is there only where a run's recording was kept, and
 * the page says so where it is missing. Invariant: it depends on the report's data alone; equal data give equal bytes.
 */
import type { ComparedMetric } from "../compare.ts";
import { formatCpuSet, formatTime } from "../experiment/values.ts";
import type { DomainMetrics } from "../metrics/types.ts";
import { EventKind, forEachRun, forEachState, type Recording } from "../recording.ts";
import type { CompareReportData, RunReportData } from "../report-data.ts";
import { formatScalar } from "../scalars.ts";

/** Most runs of vCPUs that a timeline holds: more would make a page that no browser likes. */
const TIMELINE_RUNS = 60_000;
/** Points of a curve. */
const POINTS = 240;
/** Most domains with a colour and a curve of their own. */
const CURVES = 24;

/** A table: `rows` are texts; the first column is a name. */
export interface Table {
  readonly columns: readonly string[];
  readonly rows: readonly (readonly string[])[];
}

/** The runs of vCPUs on pCPUs, by columns; times are ns from `from`. */
export interface Timeline {
  readonly seed: number;
  readonly pcpus: readonly string[];
  readonly vcpus: readonly { readonly name: string; readonly domain: number }[];
  readonly from: number;
  readonly to: number;
  /** The runs that are shown are all of them up to `to`; false: the recording goes on. */
  readonly whole: boolean;
  readonly pcpu: readonly number[];
  readonly vcpu: readonly number[];
  /** Start of each run and its length. */
  readonly start: readonly number[];
  readonly length: readonly number[];
  readonly marks: readonly { readonly at: number; readonly text: string }[];
}

/** A curve. */
export interface Curve {
  readonly name: string;
  /** Its colour: of a group of domains the number of its first domain, so that it is the same everywhere. */
  readonly colour: number;
  readonly dashed?: boolean;
  readonly points: readonly (readonly [number, number])[];
}

/** One set of runs. */
export interface RunModel {
  readonly title: string;
  readonly facts: readonly (readonly [string, string])[];
  readonly figures: Table;
  readonly domains: Table;
  /** By domain, per cent of all CPU time that was given: median, least, largest, entitled. */
  readonly shares: readonly {
    readonly name: string;
    readonly got: number;
    readonly least: number;
    readonly most: number;
    readonly entitled: number;
  }[];
  /** By domain: medians over the runs. */
  readonly movement: readonly { readonly name: string; readonly switches: number; readonly migrations: number }[];
  /** By domain with deadlines: parts of the jobs that were late, per cent. */
  readonly misses: readonly { readonly name: string; readonly missed: number; readonly tardiness: number }[];
  readonly energy: readonly { readonly name: string; readonly joules: number }[];
  /** Per cent of pCPU time by group of domains, over time, of the first run. */
  readonly shareOverTime: readonly Curve[];
  /** Part of the wake-ups (per cent) that took at most so long (ns), by group. */
  readonly wake: readonly Curve[];
  /** The same for waits after a preemption. */
  readonly preemption: readonly Curve[];
  /** MHz over time by pCPU, where rates changed. */
  readonly frequency: readonly Curve[];
  readonly timeline: Timeline | null;
  readonly faults: readonly string[];
  /** Why something is not shown. */
  readonly notes: readonly string[];
}

/** A page. */
export interface PageModel {
  readonly title: string;
  readonly command: string;
  readonly versions: string;
  readonly runs: readonly RunModel[];
  readonly comparison: ComparisonModel | null;
}

/** A against B. */
export interface ComparisonModel {
  readonly a: string;
  readonly b: string;
  readonly seeds: string;
  readonly table: Table;
  /** Verdict of each row of the table: a word. */
  readonly verdicts: readonly string[];
  /** Figures with an interval, in per cent of the larger of A and B: difference, low, high. */
  readonly differences: readonly {
    readonly name: string;
    readonly verdict: string;
    readonly value: number;
    readonly low: number;
    readonly high: number;
  }[];
  readonly exceeded: readonly string[];
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

function round(value: number, digits: number): number {
  return Number(value.toPrecision(digits));
}

function timeOr(value: number | null | undefined): string {
  return value === null || value === undefined ? "-" : formatTime(value);
}

/** The model of a set of runs. */
export function runModel(data: RunReportData): RunModel {
  const { experiment, runs } = data;
  const notes: string[] = [];
  const kept = runs.flatMap(({ recording }) => (recording === null ? [] : [recording]));
  if (kept.length === 0)
    notes.push(
      "The events of these runs were not kept: timeline and distributions are missing. Run with --keep-events.",
    );
  else if (kept.length < runs.length)
    notes.push(`Distributions are of the ${kept.length} of ${runs.length} runs whose events were kept.`);
  const names = (runs[0]?.metrics.domains ?? []).map((domain) => domain.name);
  const of = (pick: (domain: DomainMetrics) => number | null, index: number): number[] =>
    runs.flatMap(({ metrics }) => {
      const value = pick(metrics.domains[index]!);
      return value === null ? [] : [value];
    });
  const shares = names.map((name, i) => {
    const got = of((d) => d.share * 100, i);
    return {
      name,
      got: round(median(got), 6),
      least: round(Math.min(...got), 6),
      most: round(Math.max(...got), 6),
      entitled: round(median(of((d) => d.entitledShare * 100, i)), 6),
    };
  });
  const seconds = (runs[0]?.metrics.time ?? 1) / 1e9;
  const moves = (d: DomainMetrics): number =>
    Object.values(d.migrations as unknown as Record<string, number>).reduce((a, b) => a + b, 0);
  const movement = names.map((name, i) => ({
    name,
    switches: round(median(of((d) => d.switches / seconds, i)), 5),
    migrations: round(median(of((d) => moves(d) / seconds, i)), 5),
  }));
  const misses = names.flatMap((name, i) => {
    const with_ = of((d) => d.jobs?.withDeadline ?? 0, i).reduce((a, b) => a + b, 0);
    if (with_ === 0) return [];
    const missed = of((d) => d.jobs?.misses ?? 0, i).reduce((a, b) => a + b, 0);
    const worst = Math.max(0, ...of((d) => d.jobs?.tardiness?.max ?? null, i));
    return [{ name, missed: round((100 * missed) / with_, 5), tardiness: worst }];
  });
  const energy = names.flatMap((name, i) => {
    const joules = of((d) => d.energy, i);
    return joules.length === 0 ? [] : [{ name, joules: round(median(joules), 6) }];
  });
  return {
    title: data.title,
    facts: factsOf(data),
    figures: figuresOf(data),
    domains: domainsOf(data, names, of),
    shares,
    movement,
    misses,
    energy,
    shareOverTime: kept[0] === undefined ? [] : shareOverTime(kept[0]),
    wake: waits(kept, 2),
    preemption: waits(kept, 0),
    frequency: kept[0] === undefined ? [] : frequencies(kept[0]),
    timeline: kept[0] === undefined ? null : timelineOf(kept[0]),
    faults: kept.flatMap((one) => one.faults.map((fault) => `${fault.plugin} was ejected: ${fault.reason}`)),
    notes:
      kept.length > 0 && new Set(experiment.domains.map((domain) => domain.group)).size > CURVES
        ? [...notes, `Curves are of the first ${CURVES} groups of domains.`]
        : notes,
  };
}

function factsOf({ experiment, runs }: RunReportData): [string, string][] {
  const { machine } = experiment;
  const topology = [
    machine.threadsPerCore > 1 ? `${machine.threadsPerCore} threads a core` : null,
    machine.pcpus > machine.coresPerSocket * machine.threadsPerCore ? `${machine.coresPerSocket} cores a socket` : null,
  ].filter((part) => part !== null);
  const groups = new Map<string, number>();
  for (const domain of experiment.domains) groups.set(domain.group, (groups.get(domain.group) ?? 0) + 1);
  const facts: [string, string][] = [
    [
      "Duration",
      `${formatTime(experiment.duration)}, of which ${formatTime(experiment.warmUp)} are left out at the start`,
    ],
    ["Machine", [`${machine.pcpus} pCPUs at ${machine.mhz} MHz`, ...topology].join(", ")],
    [
      "Pools",
      experiment.pools
        .map(
          (pool) =>
            `${pool.name}: ${pool.scheduler} on ${formatCpuSet(pool.cpus)}${pool.granularity === "cpu" ? "" : ` by ${pool.granularity}`}`,
        )
        .join("; "),
    ],
    ["Domains", [...groups].map(([name, count]) => (count === 1 ? name : `${name} (${count})`)).join(", ")],
    ["Runs", `${runs.length}, ${runs.length === 1 ? "seed" : "seeds"} ${runs.map(({ seed }) => seed).join(", ")}`],
  ];
  if (machine.governor !== null) facts.push(["Governor", `${machine.governor}: ${machine.frequencies.join(", ")} MHz`]);
  const parameters = Object.entries(experiment.parameters);
  if (parameters.length > 0)
    facts.push(["Parameters", parameters.map(([name, value]) => `${name} = ${value}`).join(", ")]);
  return facts;
}

function figuresOf({ scalars, runs }: RunReportData): Table {
  const several = runs.length > 1;
  return {
    columns: ["Figure", several ? "Median" : "Value", ...(several ? ["Least", "Largest"] : [])],
    rows: scalars.flatMap(({ title, unit, values }) => {
      const there = values.filter((value) => value !== null);
      if (there.length === 0) return [];
      const cells = several ? [median(there), Math.min(...there), Math.max(...there)] : [there[0]!];
      return [[title, ...cells.map((value) => formatScalar(value, unit))]];
    }),
  };
}

function domainsOf(
  { runs }: RunReportData,
  names: readonly string[],
  of: (pick: (domain: DomainMetrics) => number | null, index: number) => number[],
): Table {
  const typical = (pick: (domain: DomainMetrics) => number | null, i: number): number | null => {
    const values = of(pick, i);
    return values.length === 0 ? null : median(values);
  };
  const percent = (value: number | null): string => (value === null ? "-" : `${(value * 100).toFixed(2)}%`);
  const jobs = runs.some(({ metrics }) => metrics.jobs !== null);
  return {
    columns: [
      ...[
        "Domain",
        "CPU time",
        "Share",
        "Entitled",
        "Behind",
        "Wake-up 50%",
        "Wake-up 99%",
        "Wake-up longest",
        "Preempted 99%",
      ],
      ...(jobs ? ["Jobs", "Missed", "Latest"] : []),
    ],
    rows: names.map((name, i) => [
      name,
      timeOr(typical((d) => d.cpu, i)),
      percent(typical((d) => d.share, i)),
      percent(typical((d) => d.entitledShare, i)),
      timeOr(typical((d) => Math.max(0, d.lagBehind), i)),
      timeOr(typical((d) => d.wake?.p50 ?? null, i)),
      timeOr(typical((d) => d.wake?.p99 ?? null, i)),
      timeOr(typical((d) => d.wake?.max ?? null, i)),
      timeOr(typical((d) => d.preemption?.p99 ?? null, i)),
      ...(jobs
        ? [
            String(typical((d) => d.jobs?.jobs ?? null, i) ?? "-"),
            String(typical((d) => (d.jobs === null || d.jobs.withDeadline === 0 ? null : d.jobs.misses), i) ?? "-"),
            timeOr(typical((d) => d.jobs?.tardiness?.max ?? null, i)),
          ]
        : []),
    ]),
  };
}

/** Groups of domains, at most CURVES, with the group of each vCPU (-1: of none). */
function groupsOf(recording: Recording): { names: string[]; first: number[]; ofVcpu: Int32Array } {
  const names: string[] = [];
  const first: number[] = [];
  const ofVcpu = new Int32Array(recording.vcpus.length).fill(-1);
  recording.domains.forEach(({ group, vcpus }, domain) => {
    let index = names.indexOf(group);
    if (index < 0 && names.length < CURVES) {
      index = names.push(group) - 1;
      first.push(domain);
    }
    for (const vcpu of vcpus) ofVcpu[vcpu] = index;
  });
  return { names, first, ofVcpu };
}

function shareOverTime(recording: Recording): Curve[] {
  const { names, first, ofVcpu } = groupsOf(recording);
  const { end, warmUp } = recording;
  const width = Math.max(1, (end - warmUp) / POINTS);
  const times = names.map(() => new Float64Array(POINTS));
  forEachRun(recording, (vcpu, _pcpu, start, stop) => {
    const from = Math.max(0, start - warmUp);
    const to = stop - warmUp;
    const sums = times[ofVcpu[vcpu]!];
    if (sums === undefined) return;
    for (let bin = Math.floor(from / width); bin < POINTS && bin * width < to; bin++)
      sums[bin]! += Math.min(to, (bin + 1) * width) - Math.max(from, bin * width);
  });
  const capacity = width * Math.max(1, recording.pcpus.length);
  return names.map((name, i) => ({
    name,
    colour: first[i]!,
    points: Array.from(
      times[i]!,
      (time, bin) => [Math.round(warmUp + (bin + 0.5) * width), round((100 * time) / capacity, 4)] as const,
    ),
  }));
}

/** Distribution of waits: from `before` (2: blocked; 0: running, which is a preemption) over runnable to running. */
function waits(recordings: readonly Recording[], before: number): Curve[] {
  const found = new Map<string, number[]>();
  const colours = new Map<string, number>();
  for (const recording of recordings) {
    const { names, first, ofVcpu } = groupsOf(recording);
    names.forEach((name, i) => {
      colours.set(name, first[i]!);
    });
    forEachState(recording, (vcpu, state, from, to, _pcpu, came) => {
      if (state !== 1 || came !== before || to < recording.warmUp) return;
      const name = names[ofVcpu[vcpu]!];
      if (name === undefined) return;
      const list = found.get(name);
      if (list === undefined) found.set(name, [to - from]);
      else list.push(to - from);
    });
  }
  return [...found].map(([name, list]) => {
    list.sort((a, b) => a - b);
    const points: [number, number][] = [];
    const count = Math.min(POINTS, list.length);
    for (let i = 1; i <= count; i++) {
      const at = Math.ceil((i / count) * list.length) - 1;
      points.push([Math.max(1, list[at]!), round((100 * (at + 1)) / list.length, 6)]);
    }
    return { name: `${name} (${list.length})`, colour: colours.get(name)!, points };
  });
}

function frequencies(recording: Recording): Curve[] {
  const { events, pcpus, end } = recording;
  const curves = new Map<number, [number, number][]>();
  for (let i = 0; i < events.time.length; i++) {
    if (events.kind[i] !== EventKind.frequency) continue;
    const id = events.pcpu[i]!;
    let points = curves.get(id);
    if (points === undefined) {
      points = [[0, pcpus.find((pcpu) => pcpu.id === id)?.mhz ?? 0]];
      curves.set(id, points);
    }
    if (points.length < 5000) points.push([events.time[i]!, events.extra[i]! / 1000]);
  }
  return [...curves]
    .sort((a, b) => a[0] - b[0])
    .slice(0, CURVES)
    .map(([id, points]) => ({
      name: `pCPU ${id}`,
      colour: id,
      points: [...points, [end, points.at(-1)![1]] as const],
    }));
}

function timelineOf(recording: Recording): Timeline {
  const rows: { start: number; to: number; pcpu: number; vcpu: number }[] = [];
  const line = new Map(recording.pcpus.map((pcpu, i) => [pcpu.id, i]));
  const from = recording.warmUp;
  forEachRun(recording, (vcpu, pcpu, start, to) => {
    const at = line.get(pcpu);
    if (to > from && to > start && at !== undefined) rows.push({ start: Math.max(start, from), to, pcpu: at, vcpu });
  });
  rows.sort((a, b) => a.start - b.start || a.pcpu - b.pcpu);
  const whole = rows.length <= TIMELINE_RUNS;
  const shown = rows.slice(0, TIMELINE_RUNS);
  const to = whole ? recording.end : shown.at(-1)!.start;
  const marks: { at: number; text: string }[] = [];
  const { events } = recording;
  for (let i = 0; i < events.time.length && marks.length < 100; i++) {
    const at = events.time[i]!;
    if (at < from || at > to) continue;
    if (events.kind[i] === EventKind.change)
      marks.push({ at: at - from, text: recording.changes[events.extra[i]!] ?? "change" });
    else if (events.kind[i] === EventKind.fault) marks.push({ at: at - from, text: "a plugin is ejected" });
  }
  return {
    seed: recording.seed,
    pcpus: recording.pcpus.map((pcpu) => `pCPU ${pcpu.id}`),
    vcpus: recording.vcpus.map(({ domain, id }) => {
      const { name, vcpus } = recording.domains[domain]!;
      return { name: vcpus.length === 1 ? name : `${name} vCPU ${id}`, domain };
    }),
    from,
    to: to - from,
    whole,
    pcpu: shown.map((row) => row.pcpu),
    vcpu: shown.map((row) => row.vcpu),
    start: shown.map((row) => row.start - from),
    length: shown.map((row) => row.to - row.start),
    marks,
  };
}

/** The model of a comparison. */
export function comparisonModel({ comparison }: CompareReportData): ComparisonModel {
  const { a, b, seeds, metrics, exceeded } = comparison;
  const sign = (text: string, value: number): string => (value > 0 ? `+${text}` : text);
  const interval = (one: ComparedMetric): string =>
    one.interval === null ? "-" : one.interval.map((value) => sign(formatScalar(value, one.unit), value)).join(" to ");
  return {
    a,
    b,
    seeds: seeds.join(", "),
    table: {
      columns: ["Figure", "A", "B", "B - A", "95% interval", "Verdict"],
      rows: metrics.map((one) => [
        one.title,
        formatScalar(one.a, one.unit),
        formatScalar(one.b, one.unit),
        sign(formatScalar(one.difference, one.unit), one.difference),
        interval(one),
        one.verdict,
      ]),
    },
    verdicts: metrics.map((one) => one.verdict),
    differences: metrics.flatMap((one) => {
      const size = Math.max(Math.abs(one.a), Math.abs(one.b));
      if (one.interval === null || size === 0) return [];
      const part = (value: number): number => round((100 * value) / size, 5);
      const [low, high] = one.interval;
      return [{ name: one.title, verdict: one.verdict, value: part(one.difference), low: part(low), high: part(high) }];
    }),
    exceeded: exceeded.map(
      ({ metric, threshold, measured }) => `${metric}: the limit is ${threshold}, and it is ${measured}`,
    ),
  };
}
