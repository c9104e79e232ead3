/**
 * `hookvisor lab run|compare|sweep|replay`: from the command line to folders of results and text.
 *
 * Exit codes: 0; 1 the user's mistake; 2 a threshold of compare is exceeded; 130 interrupted. Results go to a folder, a short table (or --json) to stdout, progress to
 * stderr if that is a terminal.
 */
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { basename, join, relative, resolve } from "node:path";
import { ConfigError, providers } from "hookvisor";
import type { HostRun } from "../../core/node/host-plugin.ts";
import { type TraceFormat, traceFormat } from "../lib-trace/index.ts";
import { type Comparison, compare, type Side } from "./compare.ts";
import { differencesOf } from "./differences.ts";
import { fingerprint, sourcesOf } from "./engine/sources.ts";
import { writeWhole } from "./engine/task.ts";
import { chooseParameters, combinations, type ExperimentSource, loadExperiment } from "./experiment/load.ts";
import type { Experiment } from "./experiment/model.ts";
import { modulePlaces } from "./experiment/places.ts";
import { type ResolveContext, resolveExperiment } from "./experiment/resolve.ts";
import { formatTime } from "./experiment/values.ts";
import { prune } from "./folder.ts";
import { nearest } from "./nearest.ts";
import type { LabOptions } from "./options.ts";
import { replayExperiment } from "./replay.ts";
import { renderReport } from "./report/index.ts";
import { readManifest, readRunReport, recordingOf, writeTrace } from "./report-file.ts";
import { type ScalarValue, scalarsOf } from "./scalars.ts";
import {
  Interrupted,
  readResults,
  recordingPath,
  runStudy,
  type StudyContext,
  type StudyPlan,
  type StudyPoint,
  studyKey,
} from "./study.ts";
import { comparisonText, faultSentences, pointText, sweepText } from "./text.ts";

/** Exit code of compare when B is worse than a threshold allows. */
export const EXIT_EXCEEDED = 2;

/** Exit code of a command that was interrupted. */
const EXIT_INTERRUPTED = 130;

/** Values of an image of the toolstack's, ready to boot. */
type ImageOf = (name: string) => Promise<Readonly<Record<string, unknown>>>;

/** What the command is run with. */
export interface LabContext {
  readonly run: HostRun;
  readonly images: readonly string[];
  readonly image: ImageOf;
  /** Version of hookvisor. */
  readonly version: string;
}

const ACTIONS = ["run", "compare", "sweep", "replay"];

/** Runs the command; answers the exit code. */
export async function labCommand(context: LabContext, args: readonly string[], options: LabOptions): Promise<number> {
  const [action, ...items] = args;
  const lab = new Lab(context, options);
  try {
    return await act(lab, action, items);
  } catch (error) {
    if (!(error instanceof Interrupted)) throw error;
    const { done, all, resumes } = error;
    const next = resumes ? "the same command goes on from here" : "none of them is kept; the same command starts anew";
    context.run.streams.stderr.write(`hookvisor: interrupted after ${done} of ${counted(all, "run")}; ${next}\n`);
    return EXIT_INTERRUPTED;
  }
}

async function act(lab: Lab, action: string | undefined, items: readonly string[]): Promise<number> {
  switch (action) {
    case "run":
      return lab.run(one(items, action, "an experiment file"));
    case "sweep":
      return lab.sweep(one(items, action, "an experiment file with 'parameters'"));
    case "replay":
      return lab.replay(one(items, action, "a folder of results with recordings"));
    case "compare":
      return lab.compare(items);
    default:
      throw new ConfigError(
        action === undefined
          ? `Say what to do: hookvisor lab ${ACTIONS.join("|")}; see hookvisor lab --help.`
          : `There is no 'lab ${action}'; there are ${ACTIONS.join(", ")}.`,
      );
  }
}

function one(items: readonly string[], action: string, what: string): string {
  const [item, ...more] = items;
  if (item === undefined) throw new ConfigError(`hookvisor lab ${action} needs ${what}.`);
  if (more.length > 0) throw new ConfigError(`hookvisor lab ${action} takes one thing, and got '${more[0]}' besides.`);
  return item;
}

class Lab {
  readonly #context: LabContext;
  readonly #options: LabOptions;
  /** What has been noted: each is told once. */
  readonly #noted = new Set<string>();
  #code: Promise<string> | null = null;

  constructor(context: LabContext, options: LabOptions) {
    this.#context = context;
    this.#options = options;
  }

  async run(file: string): Promise<number> {
    this.#refuse("run", {
      thresholds: this.#options.thresholds.length > 0,
      schedulers: this.#options.schedulers.length > 1,
    });
    const source = await loadExperiment(file);
    const [scheduler] = this.#options.schedulers;
    const formats = this.#traceFormats();
    const plan = await this.#planOf("run", source, scheduler);
    const out = await this.#out(plan);
    const points = await this.#study(plan, out);
    await this.#reported(plan, out, formats);
    this.#print(points, out);
    return 0;
  }

  async sweep(file: string): Promise<number> {
    const { thresholds, schedulers, set } = this.#options;
    this.#refuse("sweep", {
      traces: this.#options.traces.length > 0,
      thresholds: thresholds.length > 0,
      schedulers: schedulers.length > 1,
      set: set.length > 0,
    });
    const source = await loadExperiment(file);
    if (Object.keys(source.parameters).length === 0)
      throw new ConfigError(
        `${file} has no 'parameters' to sweep over; add some, such as parameters: { weight: [128, 256] }, and use them as \${weight}.`,
      );
    const resolver = this.#resolver(schedulers[0]);
    const points: Experiment[] = [];
    for (const chosen of combinations(source.parameters))
      points.push(this.#overridden(await resolveExperiment(source, chosen, resolver), source));
    const plan: StudyPlan = {
      kind: "sweep",
      command: this.#commandLine("sweep", [file], schedulers),
      file,
      text: readFileSync(file, "utf8"),
      places: source.places,
      points,
    };
    const out = await this.#out(plan);
    const results = await this.#study(plan, out, true);
    if (this.#options.json) this.#stdout(readFileSync(join(out, "results.json"), "utf8"));
    else this.#stdout(sweepText(results));
    this.#note(
      `${counted(results.length, "point")} with ${counted(points[0]!.seeds.length, "seed")} each in ${shown(out)}`,
    );
    return 0;
  }

  async replay(folder: string): Promise<number> {
    const { schedulers, thresholds, set } = this.#options;
    this.#refuse("replay", {
      thresholds: thresholds.length > 0,
      schedulers: schedulers.length > 1,
      set: set.length > 0,
    });
    const manifest = readManifest(folder);
    const [experiment, ...more] = manifest.experiments;
    if (experiment === undefined || more.length > 0)
      throw new ConfigError(
        `${folder} has ${manifest.experiments.length} points; a replay is of the results of lab run.`,
      );
    const seeds = (this.#options.seeds ?? experiment.seeds).filter((seed) =>
      existsSync(recordingPath(folder, 0, 1, seed)),
    );
    if (seeds.length === 0)
      throw new ConfigError(
        `${folder} has no recording${this.#options.seeds === null ? "" : " of these seeds"}; make it with hookvisor lab run --keep-events.`,
      );
    const [scheduler] = schedulers;
    const known = providers(this.#context.run.hypervisor.hooks.scheduler).map(({ key }) => key);
    if (scheduler !== undefined) refuseUnknown(scheduler, known);
    const formats = this.#traceFormats();
    const base = this.#overridden({ ...replayedBy(experiment, scheduler), seeds });
    const plan: StudyPlan = {
      kind: "replay",
      command: this.#commandLine("replay", [folder], schedulers),
      file: folder,
      text: "",
      places: modulePlaces(folder),
      points: [base],
      variant: (point, seed) => replayExperiment(point, recordingOf(folder, seed)!),
    };
    const out = await this.#out(plan);
    if (resolve(out) === resolve(folder))
      throw new ConfigError(`Option --out: ${out} is what is replayed; give another folder.`);
    const points = await this.#study(plan, out);
    await this.#reported(plan, out, formats);
    this.#print(points, out);
    return 0;
  }

  async compare(items: readonly string[]): Promise<number> {
    const { schedulers, thresholds, out } = this.#options;
    this.#refuse("compare", { traces: this.#options.traces.length > 0 });
    if (out !== null) refuseOutOfCompare(out, items);
    const sides: { readonly side: Side; readonly folder: string }[] = [];
    const take = async (item: string, scheduler: string | undefined, letter: string): Promise<void> => {
      if (existsSync(item) && statSync(item).isDirectory()) {
        if (scheduler !== undefined)
          throw new ConfigError(`${item} is a folder of results; --scheduler is for experiment files.`);
        sides.push({ side: sideOfFolder(item), folder: item });
        return;
      }
      const plan = await this.#planOf("run", await loadExperiment(item), scheduler);
      const folder = out === null ? await this.#out(plan) : join(out, letter);
      if (items.some((other) => resolve(other) === resolve(folder)))
        throw new ConfigError(
          `Option --out: the runs of ${item} would go to ${folder}, which is to be compared; give another folder.`,
        );
      const points = await this.#study(plan, folder);
      const name = scheduler === undefined ? item : `${item} with ${scheduler}`;
      sides.push({ side: { name, runs: figuresBySeed(points[0]!) }, folder });
    };
    const [a, b, ...more] = items;
    if (a === undefined || more.length > 0)
      throw new ConfigError(
        "hookvisor lab compare needs two folders or experiment files, or one experiment file and --scheduler twice.",
      );
    if (b === undefined) {
      if (schedulers.length !== 2)
        throw new ConfigError(
          `hookvisor lab compare ${a} needs a second folder or file, or --scheduler twice (A, then B).`,
        );
      await take(a, schedulers[0], "a");
      await take(a, schedulers[1], "b");
    } else {
      if (schedulers.length > 1)
        throw new ConfigError("With two things to compare, --scheduler is given once at most (for both).");
      await take(a, schedulers[0], "a");
      await take(b, schedulers[0], "b");
    }
    const [left, right] = sides;
    const differences = differencesOf(
      readManifest(left!.folder).experiments[0]!,
      readManifest(right!.folder).experiments[0]!,
    );
    const comparison = { ...compare(left!.side, right!.side, thresholds), differences };
    for (const text of differences) this.#note(`the two were not measured alike: ${text}`);
    return this.#compared(
      items,
      comparison,
      [left!.folder, right!.folder],
      out ?? join("lab-results", `compare-${basename(left!.folder)}-${basename(right!.folder)}`),
    );
  }

  async #compared(
    items: readonly string[],
    comparison: Comparison,
    folders: readonly [string, string],
    out: string,
  ): Promise<number> {
    if (existsSync(out)) prune(out, () => false);
    for (const letter of ["a", "b"]) {
      const former = join(out, letter);
      if (
        existsSync(join(former, "manifest.json")) &&
        !folders.concat(items).some((one) => resolve(one) === resolve(former))
      )
        prune(former, () => false);
    }
    writeWhole(join(out, "compare.json"), `${JSON.stringify(comparison, null, 2)}\n`);
    writeWhole(join(out, "compare.txt"), comparisonText(comparison));
    const sides = [readRunReport(folders[0]), readRunReport(folders[1])] as const;
    const html = await renderReport({
      kind: "compare",
      title: `${comparison.a} against ${comparison.b}`,
      command: this.#commandLine("compare", items, this.#options.schedulers),
      versions: { hookvisor: this.#context.version, node: process.versions.node },
      comparison,
      sides,
    });
    writeWhole(join(out, "compare.html"), html);
    this.#stdout(this.#options.json ? `${JSON.stringify(comparison, null, 2)}\n` : comparisonText(comparison));
    this.#note(`the comparison is in ${shown(out)}; open ${shown(join(out, "compare.html"))}`);
    return comparison.exceeded.length > 0 ? EXIT_EXCEEDED : 0;
  }

  /** Options that have no meaning for an action. */
  #refuse(
    action: string,
    given: {
      readonly thresholds?: boolean;
      readonly schedulers?: boolean;
      readonly set?: boolean;
      readonly traces?: boolean;
    },
  ): void {
    if (given.thresholds === true) throw new ConfigError(`Option --threshold is for lab compare, not lab ${action}.`);
    if (given.schedulers === true)
      throw new ConfigError(`Option --scheduler is given several times; lab ${action} takes one, lab compare two.`);
    if (given.traces === true)
      throw new ConfigError(`Option --trace is for lab run and lab replay, not lab ${action}.`);
    if (given.set === true) throw new ConfigError(`Option --set has no meaning for lab ${action}.`);
  }

  async #planOf(kind: "run", source: ExperimentSource, scheduler: string | undefined): Promise<StudyPlan> {
    const chosen = chooseParameters(source, this.#options.set);
    const experiment = this.#overridden(await resolveExperiment(source, chosen, this.#resolver(scheduler)), source);
    return {
      kind,
      command: this.#commandLine(kind, [source.file], scheduler === undefined ? [] : [scheduler]),
      file: source.file,
      text: readFileSync(source.file, "utf8"),
      places: source.places,
      points: [experiment],
    };
  }

  /** The command without what changes no result. */
  #commandLine(action: string, items: readonly string[], schedulers: readonly string[]): string {
    const { seeds, duration, set, keepEvents, thresholds } = this.#options;
    const sources = sourcesOf(this.#context.run.argv, process.cwd());
    return [
      "hookvisor lab",
      action,
      ...items.map(quoted),
      ...sources.plugins.map((spec) => `--plugin ${quoted(spec)}`),
      ...schedulers.map((scheduler) => `--scheduler ${quoted(scheduler)}`),
      ...(seeds === null ? [] : [`--seeds ${seeds.join(",")}`]),
      ...(duration === null ? [] : [`--duration ${formatTime(duration)}`]),
      ...set.map((text) => `--set ${quoted(text)}`),
      ...(keepEvents ? ["--keep-events"] : []),
      ...thresholds.map(({ text }) => `--threshold ${quoted(text)}`),
    ].join(" ");
  }

  /** With the seeds and duration of the options. */
  #overridden(experiment: Experiment, source?: ExperimentSource): Experiment {
    const { seeds, duration } = this.#options;
    if (duration !== null && duration <= experiment.warmUp)
      throw new ConfigError(
        `Option --duration: ${formatTime(duration)} is not longer than the experiment's warm-up of ${formatTime(experiment.warmUp)}.`,
      );
    const end = duration ?? experiment.duration;
    for (const { at, entry } of experiment.changes)
      if (source !== undefined && at >= end)
        this.#note(
          `${source.places.at(["changes", entry])}: the change at ${formatTime(at)} never happens, since the run ends at ${formatTime(end)}`,
        );
    return { ...experiment, seeds: seeds ?? experiment.seeds, duration: end };
  }

  #resolver(scheduler: string | undefined): ResolveContext {
    const { run, images, image } = this.#context;
    const { hooks } = run.hypervisor;
    if (scheduler !== undefined)
      refuseUnknown(
        scheduler,
        providers(hooks.scheduler).map(({ key }) => key),
      );
    const keys = (of: readonly { readonly key: string }[]): readonly string[] => of.map(({ key }) => key);
    return {
      schedulers: keys(providers(hooks.scheduler)),
      governors: keys(providers(hooks.governor)),
      types: keys(providers(hooks.arch)),
      images,
      image,
      note: (text) => this.#note(text),
      ...(scheduler === undefined ? {} : { scheduler }),
    };
  }

  async #out(plan: StudyPlan): Promise<string> {
    return (
      this.#options.out ?? join("lab-results", `${plan.points[0]!.name}-${studyKey(plan, await this.#fingerprint())}`)
    );
  }

  /** Of all code. */
  #fingerprint(): Promise<string> {
    this.#code ??= fingerprint(sourcesOf(this.#context.run.argv, process.cwd()));
    return this.#code;
  }

  async #study(plan: StudyPlan, out: string, resume = false): Promise<readonly StudyPoint[]> {
    const { run, version } = this.#context;
    const sources = sourcesOf(run.argv, process.cwd());
    const { stderr } = run.streams;
    const live = stderr.isTTY === true && !this.#options.quiet;
    const stop = new AbortController();
    const interrupt = (): void => stop.abort();
    const context: StudyContext = {
      sources,
      fingerprint: await this.#fingerprint(),
      hookvisor: version,
      plugins: run.hypervisor.plugins.map(({ plugin }) => plugin.name).sort(),
      jobs: this.#options.jobs,
      keepEvents: this.#options.keepEvents,
      resume,
      signal: stop.signal,
      note: (text) => this.#note(text),
      progress: (done, all, taken) => {
        if (taken > 0)
          this.#note(`${taken} of ${counted(all, "run")} ${taken === 1 ? "is" : "are"} taken over from ${shown(out)}`);
        if (live) stderr.write(`\r${done} of ${all} runs${done === all ? "\n" : ""}`);
      },
    };
    process.once("SIGINT", interrupt);
    run.outputLost.addEventListener("abort", interrupt);
    try {
      const points = await runStudy(plan, out, context);
      for (const text of faultSentences(points)) stderr.write(`hookvisor: ${text}\n`);
      return points;
    } finally {
      process.removeListener("SIGINT", interrupt);
      run.outputLost.removeEventListener("abort", interrupt);
    }
  }

  /** The report, and the traces that were asked for. */
  async #reported(plan: StudyPlan, out: string, formats: readonly TraceFormat[]): Promise<void> {
    const data = readRunReport(out);
    writeWhole(join(out, "report.html"), await renderReport(data));
    for (const format of formats)
      for (const { seed, recording } of data.runs) {
        if (recording === null)
          throw new ConfigError(
            `The run of ${plan.file} with seed ${seed} has too many events to be kept without being asked; give --keep-events with --trace.`,
          );
        writeTrace(join(out, "traces", `seed-${seed}.${format.extension}`), format, recording);
      }
  }

  /** The formats of the traces that were asked for. */
  #traceFormats(): readonly TraceFormat[] {
    const hooks = this.#context.run.hypervisor.hooksOf("trace");
    return this.#options.traces.map((name) => {
      const format = hooks === undefined ? undefined : traceFormat(hooks, name);
      const known = hooks?.formats().map((one) => one.name) ?? [];
      if (format !== undefined) return format;
      throw new ConfigError(
        `Option --trace: no plugin provides the format '${name}'; ${known.length === 0 ? "there is none" : `there are ${known.join(", ")}`}.`,
      );
    });
  }

  #print(points: readonly StudyPoint[], out: string): void {
    if (this.#options.json) this.#stdout(readFileSync(join(out, "results.json"), "utf8"));
    else for (const point of points) this.#stdout(pointText(point));
    const report = join(out, "report.html");
    this.#note(`results are in ${shown(out)}${existsSync(report) ? `; open ${shown(report)}` : ""}`);
  }

  #stdout(text: string): void {
    this.#context.run.streams.stdout.write(text);
  }

  #note(text: string): void {
    if (this.#noted.has(text)) return;
    this.#noted.add(text);
    if (!this.#options.quiet) this.#context.run.streams.stderr.write(`hookvisor: ${text}\n`);
  }
}

/** `1 run`, `2 runs`. */
function counted(count: number, what: string): string {
  return `${count} ${what}${count === 1 ? "" : "s"}`;
}

/** An argument as a shell takes it. */
function quoted(text: string): string {
  return /^[\w./:=,@%+~-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

/** The option --scheduler names one that there is. */
function refuseUnknown(scheduler: string, known: readonly string[]): void {
  if (known.includes(scheduler)) return;
  const near = nearest(scheduler, known);
  const hint = near === null ? "" : `perhaps ${near} is meant; `;
  throw new ConfigError(
    `Option --scheduler: no plugin provides scheduler '${scheduler}'; ${hint}there are ${known.join(", ")}.`,
  );
}

/** A comparison goes to a folder of its own: not among the results that it compares, nor among others. */
function refuseOutOfCompare(out: string, items: readonly string[]): void {
  if (items.some((item) => resolve(item) === resolve(out)))
    throw new ConfigError(`Option --out: ${out} is to be compared; give another folder for the comparison.`);
  if (!existsSync(out)) return;
  if (!statSync(out).isDirectory()) throw new ConfigError(`Option --out: ${out} is no folder; give another.`);
  const foreign = readdirSync(out).find((name) => !/^([ab]|compare\.(json|txt|html)(\.part)?)$/.test(name));
  if (foreign !== undefined)
    throw new ConfigError(`${out} is no folder of a comparison (it has ${foreign}); give another with --out.`);
}

/** The experiment under another scheduler. */
function replayedBy(experiment: Experiment, scheduler: string | undefined): Experiment {
  if (scheduler === undefined) return experiment;
  const pools = experiment.pools.map((pool) => ({
    ...pool,
    scheduler,
    replaced: pool.replaced || pool.scheduler !== scheduler,
  }));
  return { ...experiment, pools };
}

function figuresBySeed(point: StudyPoint): ReadonlyMap<number, readonly ScalarValue[]> {
  return new Map(point.runs.map(({ seed, scalars }) => [seed, scalars]));
}

function sideOfFolder(folder: string): Side {
  const results = readResults(folder);
  const [point, ...more] = results.points;
  if (point === undefined || more.length > 0)
    throw new ConfigError(`${folder} has ${results.points.length} points; compare takes results of lab run.`);
  return { name: folder, runs: new Map(point.runs.map(({ seed, metrics }) => [seed, scalarsOf(metrics)])) };
}

function shown(path: string): string {
  const short = relative(process.cwd(), path);
  return short.startsWith("..") ? path : short || ".";
}
