/**
 * The scheduler laboratory on the command line: `hookvisor lab run|compare|sweep|replay`, `hookvisor new scheduler NAME`.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { ConfigError, definePlugin, providers } from "hookvisor";
import { labCommand } from "./command.ts";
import { newScheduler } from "./new-scheduler.ts";
import { parseOptions } from "./options.ts";

const NAME = "toolstack-lab";

const HELP = `
  run FILE          runs an experiment (.yaml, .ts) with each of its seeds
  compare A B       two folders of results, or two experiments, or one
                    experiment with --scheduler A --scheduler B
  sweep FILE        every combination of the experiment's 'parameters'; goes on
                    where it was broken off
  replay DIR        what the guests of recorded runs did, under --scheduler

Examples:
  hookvisor lab run experiment.yaml --seeds 1-10
  hookvisor lab run experiment.yaml --plugin ./my-scheduler --scheduler mine
  hookvisor lab compare experiment.yaml --scheduler credit2 --scheduler mine
  hookvisor lab compare before after --threshold wake-p99=5%
  hookvisor lab sweep experiment.yaml --jobs 8 --out sweep
  hookvisor lab replay lab-results/web-1a2b3c4d --scheduler rtds

Results: manifest.json, results.json, metrics.csv, runs.csv, report.html, and
recordings/ of runs with few events (--keep-events: of all).
Exit code: 0, 1 your mistake, 2 a threshold of compare is exceeded.`;

const collect = (value: string, before: readonly string[] | undefined): readonly string[] => [...(before ?? []), value];

export default definePlugin({
  name: NAME,
  api: "^1.0.0",
  requires: ["toolstack-cli"],
  description: "experiments with schedulers: the commands lab and new",
  apply(hypervisor) {
    const toolstack = hypervisor.hooksOf("toolstack");
    if (toolstack === undefined) return;
    toolstack.command.for("lab").tap(NAME, () => ({
      summary: "experiments with schedulers: run, compare, sweep, replay",
      declare: (command) => {
        command
          .argument("[ACTION]", "run, compare, sweep, replay")
          .argument("[ITEM...]", "experiment files, folders of results")
          .option("-o, --out <dir>", "folder for the results (default: lab-results/NAME-...)")
          .option("--seeds <list>", "seeds in place of the experiment's, such as 1-10")
          .option("--duration <time>", "virtual time in place of the experiment's")
          .option("--set <name=value>", "a parameter of the experiment; may be repeated", collect)
          .option("--scheduler <name>", "scheduler in place of the experiment's; twice for compare", collect)
          .option("-j, --jobs <n>", "threads (default: one a core)")
          .option("--keep-events", "keep the recordings of all runs")
          .option("--trace <format>", "write traces of the runs too, such as perfetto; may be repeated", collect)
          .option("--threshold <metric=limit>", "of compare: how much worse B may be, such as wake-p99=5%", collect)
          .option("--json", "print the results as JSON")
          .option("-q, --quiet", "print nothing but results and errors")
          .addHelpText("after", HELP);
      },
      run: (run) => {
        const { version } = JSON.parse(readFileSync(join(run.root, "package.json"), "utf8")) as { version: string };
        const images = providers(toolstack.image).map(({ key }) => key);
        return labCommand(
          {
            run,
            images,
            image: async (name) => {
              const image = toolstack.image.for(name).call();
              if (image === undefined) throw new ConfigError(`There is no image '${name}'.`);
              return image.settings({ streams: run.streams, quiet: run.options["quiet"] === true });
            },
            version,
          },
          run.args,
          parseOptions(run.options),
        );
      },
    }));
    toolstack.command.for("new").tap(NAME, () => ({
      summary: "write the folder of a new plugin that runs: new scheduler NAME",
      declare: (command) => {
        command
          .argument("[KIND]", "scheduler")
          .argument("[NAME]", "its name, such as my-scheduler")
          .argument("[DIR]", "folder to write (default: NAME)")
          .addHelpText("after", "\nExample:\n  hookvisor new scheduler lottery");
      },
      run: async ({ args, streams, hypervisor: own }) => {
        const [kind, name, folder] = args;
        if (kind !== "scheduler")
          throw new ConfigError(
            kind === undefined
              ? "Say what to make: hookvisor new scheduler NAME."
              : `There is no 'new ${kind}'; there is scheduler: hookvisor new scheduler NAME.`,
          );
        if (name === undefined) throw new ConfigError("Say its name: hookvisor new scheduler NAME.");
        const taken = providers(own.hooks.scheduler).map(({ key }) => key);
        streams.stdout.write(newScheduler(name, folder, taken));
        return 0;
      },
    }));
  },
});
