/**
 * The command `hookvisor`: config, plugins, hypervisor, toolstack, in this order.
 *
 * Invariants: whatever is the user's mistake is one sentence on stderr and exit code 1, without a stack trace (HOOKVISOR_DEBUG=1
 * shows it); the rest of the command line is the toolstack's.
 */
import { ConfigError, HookvisorError } from "../errors.ts";
import { Hypervisor } from "../hypervisor.ts";
import type { LoadedPlugin } from "../plugin.ts";
import { loadConfig } from "./config.ts";
import { type HostStreams, hostPlugin } from "./host-plugin.ts";
import { NodeHost } from "./host-services.ts";
import { loadProjectPlugins, loadUserPlugin } from "./load.ts";
import { OutputWatch } from "./output.ts";
import { projectRoot } from "./resolve.ts";

/** Runs the command line; answers the exit code. */
export async function main(argv: readonly string[], streams: HostStreams = process): Promise<number> {
  const output = new OutputWatch(streams);
  try {
    const code = await run(argv, streams, output.lost);
    await output.flush();
    return output.exitCode(code);
  } catch (error) {
    streams.stderr.write(`hookvisor: ${describeError(error)}\n`);
    return 1;
  }
}

/** An error as the user sees it: its sentence, or with HOOKVISOR_DEBUG its stack. */
export function describeError(error: unknown): string {
  const debug = (process.env["HOOKVISOR_DEBUG"] ?? "") !== "";
  if (!(error instanceof Error)) return `unexpected failure: ${String(error)}`;
  if (debug) return withCauses(error);
  if (error instanceof HookvisorError) return error.message;
  return `unexpected failure: ${error.message}; HOOKVISOR_DEBUG=1 shows where (please report it)`;
}

function withCauses(error: Error): string {
  const cause = error.cause instanceof Error ? `\ncaused by: ${withCauses(error.cause)}` : "";
  return `${error.stack ?? error.message}${cause}`;
}

async function run(argv: readonly string[], streams: HostStreams, outputLost: AbortSignal): Promise<number> {
  const folder = process.cwd();
  const early = earlyOptions(argv);
  const config = await loadConfig(folder, early.config);
  const host = hostPlugin();
  const project = await loadProjectPlugins();
  const plugins: LoadedPlugin[] = [host, ...project];
  for (const spec of config.plugins)
    plugins.push(await loadUserPlugin({ spec, folder: config.folder, askedBy: config.path ?? "the config" }));
  for (const spec of early.plugins) plugins.push(await loadUserPlugin({ spec, folder, askedBy: "--plugin" }));
  const services = new NodeHost();
  const hypervisor = new Hypervisor({ plugins, services });
  const code = await host.hooks.main.promise({
    argv,
    hypervisor,
    host: services,
    config,
    root: projectRoot,
    streams,
    outputLost,
  });
  if (code === undefined)
    throw new ConfigError("No toolstack plugin is loaded, so there is no command to run; add one to the plugins.");
  return code;
}

/** The options that decide what is loaded; the toolstack declares them too, for its help. */
export function earlyOptions(argv: readonly string[]): {
  readonly plugins: readonly string[];
  readonly config?: string;
} {
  const plugins: string[] = [];
  let config: string | undefined;
  for (let i = 0; i < argv.length; i++) {
    const argument = argv[i]!;
    if (argument === "--") break;
    const match = /^--(plugin|config)(?:=(.*))?$/s.exec(argument);
    if (match === null) continue;
    const value = match[2] ?? argv[++i];
    if (value === undefined || value === "")
      throw new ConfigError(
        `Option --${match[1]} needs a ${match[1] === "plugin" ? "file or the name of a package" : "file"}.`,
      );
    if (match[1] === "plugin") plugins.push(value);
    else config = value;
  }
  return config === undefined ? { plugins } : { plugins, config };
}
