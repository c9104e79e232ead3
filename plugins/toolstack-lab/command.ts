/**
 * `hookvisor lab run|compare|sweep|replay`: from the command line to folders of results and text.
 *
 * Exit codes: 0; 1 the user's mistake; 2 a threshold of compare is exceeded. Results go to a folder, a short table (or --json) to stdout, progress to
 * stderr if that is a terminal.
 */
import { existsSync, readFileSync, statSync } from "node:fs";
import { basename, join, relative } from "node:path";
import { ConfigError, providers } from "hookvisor";
import type { HostRun } from "../../core/node/host-plugin.ts";
import { traceFormat } from "../lib-trace/index.ts";
import { type Comparison, compare, type Side } from "./compare.ts";
import { fingerprint, sourcesOf } from "./engine/sources.ts";
import { writeWhole } from "./engine/task.ts";
import { chooseParameters, combinations, type ExperimentSource, loadExperiment } from "./experiment/load.ts";
import type { Experiment } from "./experiment/model.ts";
import { modulePlaces } from "./experiment/places.ts";
import { type ResolveContext, resolveExperiment } from "./experiment/resolve.ts";
import { formatTime } from "./experiment/values.ts";
import type { LabOptions } from "./options.ts";
import { replayExperiment } from "./replay.ts";
import { renderReport } from "./report/index.ts";
import { readManifest, readRunReport, recordingOf, writeTrace } from "./report-file.ts";
import { type ScalarValue, scalarsOf } from "./scalars.ts";
import {
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
    const plan = await this.#planOf("run", source, scheduler);
    const out = this.#out(plan);
    const points = await this.#study(plan, out);
    await this.#reported(plan, out);
    this.#print(points, out);
    return 0;
  }

  async sweep(file: string): Promise<number> {
    const { thresholds, schedulers, set } = this.#options;
    this.#refuse("sweep", {
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
      points.push(this.#overridden(await resolveExperiment(source, chosen, resolver)));
    const plan: StudyPlan = {
      kind: "sweep",
      command: this.#commandLine("sweep", source, schedulers[0]),
      file,
      text: readFileSync(file, "utf8"),
      places: source.places,
      points,
    };
    const out = this.#out(plan);
    const results = await this.#study(plan, out, true);
    if (this.#options.json) this.#stdout(readFileSync(join(out, "results.json"), "utf8"));
    else this.#stdout(sweepText(results));
    this.#note(`${results.length} points with ${points[0]!.seeds.length} seeds each in ${shown(out)}`);
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
    if (scheduler !== undefined && !known.includes(scheduler))
      throw new ConfigError(`No plugin provides the scheduler '${scheduler}'; there are ${known.join(", ")}.`);
    const base = this.#overridden({ ...replayedBy(experiment, scheduler), seeds });
    const plan: StudyPlan = {
      kind: "replay",
      command: `hookvisor lab replay ${folder}${scheduler === undefined ? "" : ` --scheduler ${scheduler}`}`,
      file: folder,
      text: "",
      places: modulePlaces(folder),
      points: [base],
      variant: (point, seed) => replayExperiment(point, recordingOf(folder, seed)!),
    };
    const out = this.#out(plan);
    const points = await this.#study(plan, out);
    await this.#reported(plan, out);
    this.#print(points, out);
    return 0;
  }

  async compare(items: readonly string[]): Promise<number> {
    const { schedulers, thresholds, out } = this.#options;
    const sides: { readonly side: Side; readonly folder: string }[] = [];
    const take = async (item: string, scheduler: string | undefined, letter: string): Promise<void> => {
      if (existsSync(item) && statSync(item).isDirectory()) {
        if (scheduler !== undefined)
          throw new ConfigError(`${item} is a folder of results; --scheduler is for experiment files.`);
        sides.push({ side: sideOfFolder(item), folder: item });
        return;
      }
      const plan = await this.#planOf("run", await loadExperiment(item), scheduler);
      const folder = out === null ? this.#out(plan) : join(out, letter);
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
    const comparison = compare(left!.side, right!.side, thresholds);
    return this.#compared(
      comparison,
      [left!.folder, right!.folder],
      out ?? join("lab-results", `compare-${basename(left!.folder)}-${basename(right!.folder)}`),
    );
  }

  async #compared(comparison: Comparison, folders: readonly [string, string], out: string): Promise<number> {
    writeWhole(join(out, "compare.json"), `${JSON.stringify(comparison, null, 2)}\n`);
    writeWhole(join(out, "compare.txt"), comparisonText(comparison));
    const sides = [readRunReport(folders[0]), readRunReport(folders[1])] as const;
    const html = await renderReport({
      kind: "compare",
      title: `${comparison.a} against ${comparison.b}`,
      command: `hookvisor lab compare ${folders.join(" ")}`,
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
    given: { readonly thresholds?: boolean; readonly schedulers?: boolean; readonly set?: boolean },
  ): void {
    if (given.thresholds === true) throw new ConfigError(`Option --threshold is for lab compare, not lab ${action}.`);
    if (given.schedulers === true)
      throw new ConfigError(`Option --scheduler is given several times; lab ${action} takes one, lab compare two.`);
    if (given.set === true) throw new ConfigError(`Option --set has no meaning for lab ${action}.`);
  }

  async #planOf(kind: "run", source: ExperimentSource, scheduler: string | undefined): Promise<StudyPlan> {
    const chosen = chooseParameters(source, this.#options.set);
    const experiment = this.#overridden(await resolveExperiment(source, chosen, this.#resolver(scheduler)));
    return {
      kind,
      command: this.#commandLine(kind, source, scheduler),
      file: source.file,
      text: readFileSync(source.file, "utf8"),
      places: source.places,
      points: [experiment],
    };
  }

  /** The command without what changes no result. */
  #commandLine(action: string, source: ExperimentSource, scheduler: string | undefined): string {
    const { seeds, duration, set, keepEvents } = this.#options;
    const sources = sourcesOf(this.#context.run.argv, process.cwd());
    return [
      "hookvisor lab",
      action,
      source.file,
      ...sources.plugins.map((spec) => `--plugin ${spec}`),
      ...(scheduler === undefined ? [] : [`--scheduler ${scheduler}`]),
      ...(seeds === null ? [] : [`--seeds ${seeds.join(",")}`]),
      ...(duration === null ? [] : [`--duration ${formatTime(duration)}`]),
      ...set.map((text) => `--set ${text}`),
      ...(keepEvents ? ["--keep-events"] : []),
    ].join(" ");
  }

  #overridden(experiment: Experiment): Experiment {
    const { seeds, duration } = this.#options;
    if (duration !== null && duration <= experiment.warmUp)
      throw new ConfigError(
        `Option --duration: ${formatTime(duration)} is not longer than the experiment's warm-up of ${formatTime(experiment.warmUp)}.`,
      );
    return { ...experiment, seeds: seeds ?? experiment.seeds, duration: duration ?? experiment.duration };
  }

  #resolver(scheduler: string | undefined): ResolveContext {
    const { run, images, image } = this.#context;
    const { hooks } = run.hypervisor;
    const keys = (of: readonly { readonly key: string }[]): readonly string[] => of.map(({ key }) => key);
    return {
      schedulers: keys(providers(hooks.scheduler)),
      governors: keys(providers(hooks.governor)),
      types: keys(providers(hooks.arch)),
      images,
      image,
      ...(scheduler === undefined ? {} : { scheduler }),
    };
  }

  #out(plan: StudyPlan): string {
    return this.#options.out ?? join("lab-results", `${plan.points[0]!.name}-${studyKey(plan)}`);
  }

  async #study(plan: StudyPlan, out: string, resume = false): Promise<readonly StudyPoint[]> {
    const { run, version } = this.#context;
    const sources = sourcesOf(run.argv, process.cwd());
    const { stderr } = run.streams;
    const live = stderr.isTTY === true && !this.#options.quiet;
    const context: StudyContext = {
      sources,
      fingerprint: await fingerprint(sources),
      hookvisor: version,
      plugins: run.hypervisor.plugins.map(({ plugin }) => plugin.name).sort(),
      jobs: this.#options.jobs,
      keepEvents: this.#options.keepEvents,
      resume,
      progress: (done, all) => {
        if (live) stderr.write(`\r${done} of ${all} runs${done === all ? "\n" : ""}`);
      },
    };
    const points = await runStudy(plan, out, context);
    for (const text of faultSentences(points)) stderr.write(`hookvisor: ${text}; fifo took over\n`);
    return points;
  }

  /** The report, and the traces that were asked for. */
  async #reported(plan: StudyPlan, out: string): Promise<void> {
    const data = readRunReport(out);
    writeWhole(join(out, "report.html"), await renderReport(data));
    if (this.#options.traces.length === 0) return;
    const hooks = this.#context.run.hypervisor.hooksOf("trace");
    for (const name of this.#options.traces) {
      const format = hooks === undefined ? undefined : traceFormat(hooks, name);
      const known = hooks?.formats().map((one) => one.name) ?? [];
      if (format === undefined)
        throw new ConfigError(
          `Option --trace: no plugin provides the format '${name}'; ${known.length === 0 ? "there is none" : `there are ${known.join(", ")}`}.`,
        );
      for (const { seed, recording } of data.runs) {
        if (recording === null)
          throw new ConfigError(
            `The run of ${plan.file} with seed ${seed} has too many events to be kept without being asked; give --keep-events with --trace.`,
          );
        writeTrace(join(out, "traces", `seed-${seed}.${format.extension}`), format, recording);
      }
    }
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
    if (!this.#options.quiet) this.#context.run.streams.stderr.write(`hookvisor: ${text}\n`);
  }
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
