/**
 * Finding and loading plugins: those of the project by a sorted scan of its folders, the user's by name or path.
 *
 * Invariants: the order is the project's plugins by folder, then the config's, then the command line's; whatever goes wrong
 * is a PluginError of one sentence that names the plugin as the user wrote it.
 */
import { existsSync, readdirSync, statSync } from "node:fs";
import { isAbsolute, join, relative, resolve } from "node:path";
import { PluginError } from "../errors.ts";
import { type LoadedPlugin, validatePlugin } from "../plugin.ts";
import {
  codeRoot,
  defaultExport,
  importFile,
  importFrom,
  installResolution,
  installTypeScript,
  MODULE_ENDING,
} from "./resolve.ts";

/** A plugin that a user named: where, and relative to which folder. */
export interface PluginRequest {
  /** A path (with a slash or a file ending) or the name of a package. */
  readonly spec: string;
  readonly folder: string;
  /** What asked for it, for messages: `--plugin` or the config's path. */
  readonly askedBy: string;
}

/** Paths of the plugin modules below `root`: arch/NAME/plugin.* and plugins/NAME/plugin.*, sorted. */
export function scanPlugins(root: string = codeRoot, ending: string = MODULE_ENDING): readonly string[] {
  const found: string[] = [];
  for (const group of ["arch", "plugins"]) {
    const folder = join(root, group);
    if (!existsSync(folder)) continue;
    for (const name of readdirSync(folder).sort()) {
      const path = join(folder, name, `plugin${ending}`);
      if (existsSync(path)) found.push(path);
    }
  }
  return found;
}

/** Loads the project's plugins. */
export async function loadProjectPlugins(root: string = codeRoot): Promise<readonly LoadedPlugin[]> {
  installResolution();
  return Promise.all(scanPlugins(root).map((path) => loadModule(relative(root, path), () => importFile(path))));
}

/** Loads a plugin that a user named. */
export async function loadUserPlugin(request: PluginRequest): Promise<LoadedPlugin> {
  const { spec, folder } = request;
  const isPath = isAbsolute(spec) || spec.startsWith(".") || /\.[cm]?[jt]s$/.test(spec);
  const path = resolve(folder, spec);
  if (!isPath && !existsSync(path)) {
    installResolution();
    await installTypeScript();
    return loadModule(spec, () => importFrom(folder, spec), request);
  }
  if (!existsSync(path)) throw notFound(request, `there is no file ${spec}`);
  if (!statSync(path).isDirectory()) return loadFile(spec, path);
  for (const name of ["plugin.ts", "plugin.js", "plugin.mjs", "index.ts", "index.js", "index.mjs"])
    if (existsSync(join(path, name))) return loadFile(join(spec, name), join(path, name));
  throw notFound(request, `the folder ${spec} has no plugin.ts, plugin.js, index.ts or index.js`);
}

async function loadFile(source: string, path: string): Promise<LoadedPlugin> {
  installResolution();
  if (/\.[cm]?ts$/.test(path)) await installTypeScript();
  return loadModule(source, () => importFile(path));
}

function notFound(request: PluginRequest, why: string): PluginError {
  return new PluginError(
    "HV_PLUGIN_NOT_FOUND",
    request.spec,
    `Plugin ${request.spec} (from ${request.askedBy}) is not found: ${why}.`,
  );
}

async function loadModule(
  source: string,
  load: () => Promise<Record<string, unknown>>,
  request?: PluginRequest,
): Promise<LoadedPlugin> {
  let module: Record<string, unknown>;
  try {
    module = await load();
  } catch (error) {
    if (request !== undefined && isMissing(error, request.spec))
      throw notFound(
        request,
        `no package of that name is installed ${request.askedBy === "--plugin" ? "here" : "there"}, ${fileHint(request)}`,
      );
    throw new PluginError("HV_PLUGIN_LOAD", source, `Plugin ${source} cannot be loaded: ${reasonOf(error)}.`, {
      cause: error,
    });
  }
  return { plugin: validatePlugin(defaultExport(module), source), source };
}

/** What to write when a file was meant. */
function fileHint({ spec, folder }: PluginRequest): string {
  const file = ["ts", "js", "mjs"]
    .map((ending) => `${spec}.${ending}`)
    .find((name) => existsSync(resolve(folder, name)));
  return file === undefined ? "and a file is given by its path, such as ./mine.ts" : `perhaps ./${file} is meant`;
}

/** Is it the package itself that is missing, and not something that it imports? */
function isMissing(error: unknown, spec: string): boolean {
  return (
    error instanceof Error &&
    (error as NodeJS.ErrnoException).code === "ERR_MODULE_NOT_FOUND" &&
    error.message.includes(`'${spec}'`)
  );
}

/** First line of an error's message, without what only a developer of hookvisor wants to know. */
export function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return `it throws ${String(error)}`;
  const line = error.message.split("\n").find((l) => l.trim() !== "") ?? error.name;
  const what = error.message.startsWith("Transform failed") ? (error.message.split("\n")[1] ?? line) : line;
  const text = what.trim().replace(/\.$/, "");
  return error.name === "Error" || /^[A-Za-z]*Error\b/.test(text) ? text : `${error.name}: ${text}`;
}
