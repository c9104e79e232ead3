/**
 * The command line: commander's program, put together from the toolstack's own commands and those that plugins add.
 *
 * Invariants: mistakes are one sentence on stderr, exit code 1; `--help` goes to stdout, exit code 0; nothing calls process.exit.
 */
import { Command, CommanderError, InvalidArgumentError, Option } from "commander";
import { ConfigError, defaultMachine, providers } from "hookvisor";
import { z } from "zod";
import type { HostRun } from "../../core/node/host-plugin.ts";
import { type CompletionWords, completionScript, SHELLS } from "./completion.ts";
import { demoCommand } from "./demo.ts";
import { provided, type RunOptionProvider, type ToolstackHooks } from "./hooks.ts";
import { listPlugins } from "./list-plugins.ts";
import { type RunSettings, runCommand } from "./run.ts";
import { parseDuration } from "./units.ts";
import type { XlSetting, XlValue } from "./xl-cfg.ts";

const RUN_EXAMPLES = `
An ITEM is a kernel (ELF, bzImage, packed or in a .deb), a config file in
xl.cfg's syntax, or the name of an image (see hookvisor images); KEY=VALUE
overrides a config's key (NAME:KEY=VALUE for one domain). Options apply to
every item.

Examples:
  an image of the project, and Debian's Linux (256 MiB, fetched once):
    hookvisor run hello
    hookvisor run debian --disk 'disk.img,raw,xvda,w'
  kernels:
    hookvisor run --kernel vmlinuz --ramdisk initrd.img --extra console=hvc0
    hookvisor run --kernel grub-x86_64-xen.bin --disk 'disk.img,raw,xvda,r'
  a config file, two keys overridden:
    hookvisor run guest.cfg vcpus=2 memory=256
  side by side; the second gets twice the CPU of the first:
    hookvisor run busy busy busy-2:cpu_weight=512 --max-time 2s --json
  the same input and the same trace every time:
    hookvisor run grub.bin --input session.txt --trace run.trace

Exit code: 0 all guests powered off, 1 your mistake, 3 a guest crashed,
124 a limit, 130 interrupted.`;

/** Options of `run` as commander has them, checked by a schema. */
const runOptions = z.object({
  kernel: z.string().optional(),
  ramdisk: z.string().optional(),
  extra: z.string().optional(),
  memory: z.string().optional(),
  vcpus: z.string().optional(),
  type: z.string().optional(),
  name: z.string().optional(),
  disk: z.array(z.string()).default([]),
  pcpus: z.coerce.number().int().min(1).max(256).optional(),
  scheduler: z.string().min(1).optional(),
  cpuMhz: z.coerce.number().positive().max(100_000).optional(),
  seed: z.coerce.number().int().min(0).max(0xffff_ffff).optional(),
  realtime: z.boolean().default(false),
  maxTime: z.number().optional(),
  timeout: z.number().optional(),
  input: z.string().optional(),
  trace: z.string().optional(),
  json: z.boolean().default(false),
  quiet: z.boolean().default(false),
  verbose: z.boolean().default(false),
});

function duration(text: string): number {
  const ns = parseDuration(text);
  if (ns === null) throw new InvalidArgumentError("It must be a duration such as 64s, 500ms or 2m.");
  return ns;
}

function collect(value: string, before: readonly string[] | undefined): readonly string[] {
  return [...(before ?? []), value];
}

/** A plain-words sentence for an option that the schema refuses. */
function checked<T>(schema: z.ZodType<T>, values: unknown): T {
  const result = schema.safeParse(values);
  if (result.success) return result.data;
  const issue = result.error.issues[0]!;
  const key = String(issue.path[0] ?? "");
  const flag = `--${key.replace(/[A-Z]/g, (c) => `-${c.toLowerCase()}`)}`;
  const got = (values as Record<string, unknown>)[key];
  throw new ConfigError(`Option ${flag}: ${inWords(issue)}, got '${String(got)}'.`);
}

function inWords(issue: z.core.$ZodIssue): string {
  switch (issue.code) {
    case "too_small":
      return `it must be ${issue.inclusive === false ? "above" : "at least"} ${String(issue.minimum)}`;
    case "too_big":
      return `it must be at most ${String(issue.maximum)}`;
    case "invalid_type":
      return `it must be a ${issue.expected === "int" ? "whole number" : issue.expected}`;
    default:
      return issue.message.charAt(0).toLowerCase() + issue.message.slice(1);
  }
}

function declareRun(command: Command, added: readonly AddedOption[]): Command {
  declareOwn(command);
  for (const { name, provider } of added)
    if (!command.options.some((option) => option.long === `--${name}`))
      command.option(`--${name} <${provider.value}>`, provider.summary, collect);
  return command;
}

/** An option of `run` that a plugin adds. */
interface AddedOption {
  readonly name: string;
  readonly provider: RunOptionProvider;
}

function addedOptions(toolstack: ToolstackHooks): readonly AddedOption[] {
  return providers(toolstack.runOption).flatMap(({ key }) => {
    const provider = provided(toolstack.runOption, key);
    return provider === undefined ? [] : [{ name: key, provider }];
  });
}

/** What was given of an option that a plugin adds. */
function givenValues({ name, provider }: AddedOption, values: unknown): readonly string[] {
  const key = name.replace(/-([a-z])/g, (_, letter: string) => letter.toUpperCase());
  const given = (values as Readonly<Record<string, readonly string[] | undefined>>)[key] ?? [];
  if (given.length > 1 && !provider.repeated)
    throw new ConfigError(`Option --${name} is given ${given.length} times; give it once.`);
  return given;
}

function declareOwn(command: Command): Command {
  return command
    .summary("run guests with their consoles attached")
    .description("Runs guests side by side until they power off, with their consoles attached.")
    .argument("[ITEM...]", "kernels, config files, images, KEY=VALUE")
    .option("--kernel <file>", "kernel to boot: an ELF image, a bzImage, one of these packed, or a .deb with one")
    .option("--ramdisk <file>", "initial ramdisk")
    .option("--extra <text>", "kernel command line")
    .option("--memory <MiB>", "memory of each guest (default: the image's, or 128)")
    .option("--vcpus <n>", "virtual CPUs of each guest (default 1)")
    .option("--pcpus <n>", "simulated physical CPUs (default 1)")
    .option("--type <type>", "pv, pvh, hvm, riscv64, workload (default: guessed from the kernel)")
    .option("--disk <spec>", "disk in xl's syntax, such as 'disk.img,raw,xvda,w'; may be repeated", collect)
    .option("--scheduler <name>", "scheduler of the machine (default credit)")
    .option("--name <name>", "name of the guest")
    .option("--cpu-mhz <n>", "instructions a virtual microsecond (default 1000)")
    .option("--seed <n>", "seeds UUIDs, MAC addresses and every random source (default 1)")
    .option("--realtime", "idle follows the wall clock (implied by a terminal)")
    .addOption(new Option("--max-time <time>", "virtual time after which to stop, such as 64s").argParser(duration))
    .addOption(new Option("--timeout <time>", "wall time after which to stop, such as 30s").argParser(duration))
    .option("--input <script>", "file of 'expect TEXT' and 'send TEXT' lines, delivered in virtual time")
    .option("--trace <file>", "write every event to a text file")
    .option("--json", "print the result as JSON on stdout (consoles go to stderr)")
    .option("-q, --quiet", "print nothing but the consoles and errors")
    .option("-v, --verbose", "print the hypervisor's whole log, what device plugins write to theirs included")
    .addHelpText("after", RUN_EXAMPLES);
}

/** Settings that apply to every item, from options of the same names. */
function optionSettings(
  options: z.infer<typeof runOptions>,
  values: unknown,
  added: readonly AddedOption[],
): readonly XlSetting[] {
  const settings: XlSetting[] = [];
  const add = (key: string, value: XlValue | undefined, flag = `--${key}`): void => {
    if (value !== undefined) settings.push({ key, value, place: flag });
  };
  for (const key of ["kernel", "ramdisk", "extra", "memory", "vcpus", "type", "name"] as const) add(key, options[key]);
  if (options.disk.length > 0) add("disk", options.disk);
  for (const option of added) {
    const given = givenValues(option, values);
    if (given.length === 0) continue;
    for (const [key, value] of Object.entries(option.provider.settings?.(given) ?? {}))
      add(key, value, `--${option.name}`);
  }
  return settings;
}

function runSettings(run: HostRun, values: unknown, added: readonly AddedOption[]): RunSettings {
  const options = checked(runOptions, values);
  const { config } = run;
  return {
    options: optionSettings(options, values, added),
    scheduler: options.scheduler ?? config.scheduler ?? "credit",
    pcpus: options.pcpus ?? config.pcpus ?? defaultMachine.pcpus,
    cpuMhz: options.cpuMhz ?? config.cpuMhz ?? defaultMachine.cpuMhz,
    seed: options.seed ?? config.seed ?? defaultMachine.seed,
    machineMemory: config.machineMemory ?? null,
    realtime: options.realtime,
    maxTime: options.maxTime ?? null,
    timeout: options.timeout === undefined ? null : options.timeout / 1e6,
    input: options.input ?? null,
    trace: options.trace ?? null,
    json: options.json,
    quiet: options.quiet,
    verbose: options.verbose,
  };
}

/** Builds the program. `finish` gets the exit code of the command that ran. */
export function createProgram(
  run: HostRun,
  toolstack: ToolstackHooks,
  version: string,
  finish: (code: number) => void,
): Command {
  const { stdout } = run.streams;
  const program = new Command("hookvisor")
    .description("A Xen-compatible hypervisor whose schedulers, devices and architectures are plugins.")
    .version(version, "-V, --version", "print the version")
    .helpOption("-h, --help", "print help")
    .option("--plugin <file>", "load a plugin for this run: a file or a package; may be repeated", collect)
    .option("--config <file>", "use this config instead of hookvisor.config.*")
    .exitOverride()
    .configureOutput({
      writeOut: (text) => stdout.write(text),
      writeErr: () => {},
    })
    .addHelpText(
      "after",
      "\nExamples:\n  hookvisor run hello\n  hookvisor run --help\n  hookvisor demo\n  hookvisor list-plugins\n  source <(hookvisor completion bash)",
    );
  const add = (name: string): Command =>
    program
      .command(name)
      .option("--plugin <file>", "load a plugin for this run: a file or a package; may be repeated", collect)
      .option("--config <file>", "use this config instead of hookvisor.config.*");
  const added = addedOptions(toolstack);
  declareRun(add("run"), added).action(async (items: readonly string[], values: unknown) => {
    const settings = runSettings(run, values, added);
    for (const option of added) {
      const given = givenValues(option, values);
      if (given.length > 0) option.provider.begin?.(given, run);
    }
    finish(await runCommand(run, toolstack, items, settings));
  });
  add("demo")
    .summary("boot the project's own guests side by side under the credit scheduler")
    .description(
      "Boots guests of the project side by side under the credit scheduler and ends with their CPU time against weight.",
    )
    .action(async () => finish(await demoCommand(run)));
  add("list-plugins")
    .summary("list the plugins, what they provide, and with --hooks the core's hooks")
    .option("--hooks", "list the core's hooks too")
    .option("--json", "print JSON")
    .action((options: { hooks?: boolean; json?: boolean }) => {
      stdout.write(
        listPlugins(run.hypervisor, toolstack, {
          hooks: options.hooks === true,
          json: options.json === true,
          width: stdout.columns ?? Infinity,
        }),
      );
      finish(0);
    });
  add("completion")
    .summary("print a completion script for bash, zsh or fish")
    .argument("<shell>", SHELLS.join(", "))
    .action((shell: string) => {
      stdout.write(completionScript(program, shell, completionWords(run, toolstack)));
      finish(0);
    });
  for (const { key } of providers(toolstack.command)) {
    const provider = provided(toolstack.command, key);
    if (provider === undefined || program.commands.some((one) => one.name() === key)) continue;
    const command = add(key).summary(provider.summary).description(provider.summary);
    provider.declare?.(command);
    command.action(async () => finish(await provider.run({ ...run, args: command.args, options: command.opts() })));
  }
  return program;
}

/** What completes what is no option of a command, and the values of options. */
function completionWords({ hypervisor }: HostRun, toolstack: ToolstackHooks): CompletionWords {
  const { scheduler, arch } = hypervisor.hooks;
  const keys = (of: readonly { readonly key: string }[]): readonly string[] => of.map(({ key }) => key);
  return {
    items: { run: keys(providers(toolstack.image)), completion: SHELLS },
    values: { "--scheduler": keys(providers(scheduler)), "--type": keys(providers(arch)) },
  };
}

/** Runs the command line; answers the exit code. */
export async function runCli(run: HostRun, toolstack: ToolstackHooks, version: string): Promise<number> {
  let code = 0;
  const program = createProgram(run, toolstack, version, (one) => {
    code = one;
  });
  if (run.argv.length === 0) {
    run.streams.stdout.write(program.helpInformation());
    return 0;
  }
  try {
    await program.parseAsync([...run.argv], { from: "user" });
    return code;
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    if (error.exitCode === 0) return 0;
    throw new ConfigError(commanderSentence(error, program, run.argv), { cause: error });
  }
}

/** Commander's message as a sentence of ours. */
function commanderSentence(error: CommanderError, program: Command, argv: readonly string[]): string {
  const command = program.commands.find((one) => one.name() === argv[0]);
  const help = `see hookvisor ${command === undefined ? "" : `${command.name()} `}--help`;
  const text = error.message
    .replace(/^error: /, "")
    .replace(/\n+\(Did you mean (.*?)\?\)/s, "; perhaps $1")
    .trim();
  if (error.code === "commander.help")
    return `Give a command: ${program.commands.map((c) => c.name()).join(", ")}; ${help}.`;
  const plain = text
    .replace(/ argument missing$/, " needs a value")
    .replace(/ is invalid\. It must/, " is wrong: it must")
    .replace(/^option '(--[a-z-]+) <[^>]*>'/, "option $1")
    .replace(/^(option --[a-z-]+) argument '(.*)' is wrong: (.*)\.$/s, "$1: $3, got '$2'.");
  const sentence = plain.charAt(0).toUpperCase() + plain.slice(1);
  return /[.?!]$/.test(sentence) ? sentence : `${sentence}; ${help}.`;
}
