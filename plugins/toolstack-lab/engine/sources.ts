/**
 * The plugins of a run, loaded alike in the main thread and in workers; and a fingerprint of all code that a run's result depends on.
 */
import { createHash } from "node:crypto";
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import type { LoadedPlugin } from "hookvisor";
import { loadConfig } from "../../../core/node/config.ts";
import { loadProjectPlugins, loadUserPlugin } from "../../../core/node/load.ts";
import { earlyOptions } from "../../../core/node/main.ts";
import { codeRoot } from "../../../core/node/resolve.ts";

/** Where plugins come from besides the project; plain data. */
export interface PluginSources {
  /** Folder that paths are relative to and where the config is looked for. */
  readonly folder: string;
  readonly config: string | null;
  readonly plugins: readonly string[];
}

/** The sources that a command line names. */
export function sourcesOf(argv: readonly string[], folder: string): PluginSources {
  const { plugins, config = null } = earlyOptions(argv);
  return { folder, config, plugins };
}

/** The user's plugins: what to load, and relative to where. */
async function requests(sources: PluginSources): Promise<Parameters<typeof loadUserPlugin>[0][]> {
  const { folder } = sources;
  const config = await loadConfig(folder, sources.config ?? undefined);
  return [
    ...config.plugins.map((spec) => ({ spec, folder: config.folder, askedBy: config.path ?? "the config" })),
    ...sources.plugins.map((spec) => ({ spec, folder, askedBy: "--plugin" })),
  ];
}

/** Loads them all, in the order of `hookvisor`'s own start. */
export async function loadPlugins(sources: PluginSources): Promise<readonly LoadedPlugin[]> {
  const plugins = [...(await loadProjectPlugins())];
  for (const request of await requests(sources)) plugins.push(await loadUserPlugin(request));
  return plugins;
}

const CODE = /\.[cm]?[jt]s$/;

function codeOf(folder: string, deep: boolean): readonly string[] {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    if (entry.isFile()) return CODE.test(entry.name) && !entry.name.endsWith(".d.ts") ? [path] : [];
    if (!deep || !entry.isDirectory() || entry.name === "node_modules" || entry.name.startsWith(".")) return [];
    return codeOf(path, true);
  });
}

/**
 * A digest of the code of core, the project's plugins and the user's (a file's folder without those below, a folder whole), so that what was
 * run with other code is not taken for finished.
 */
export async function fingerprint(sources: PluginSources): Promise<string> {
  const hash = createHash("sha256");
  const add = (root: string, files: readonly string[]): void => {
    for (const file of [...files].sort())
      hash
        .update(`${relative(root, file)}\0`)
        .update(readFileSync(file))
        .update("\0");
  };
  for (const part of ["core", "arch", "plugins"])
    if (existsSync(join(codeRoot, part))) add(codeRoot, codeOf(join(codeRoot, part), true));
  for (const { spec, folder } of await requests(sources)) {
    const path = resolve(folder, spec);
    hash.update(`${spec}\0`);
    if (!existsSync(path)) continue;
    const whole = statSync(path).isDirectory();
    add(whole ? path : dirname(path), codeOf(whole ? path : dirname(path), whole));
  }
  return hash.digest("hex").slice(0, 16);
}
