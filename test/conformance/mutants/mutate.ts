/**
 * Mutants: a scheduler plugin with one small change to its source, which plants a bug that Xen once had.
 *
 * The plugin's folder is copied into a folder of its own beside this file, the change made, and the copy imported: the rest of
 * the plugin is what is published. A text to be changed that is not there exactly once is an error, so that a mutant cannot die unnoticed when
 * its plugin changes. The folder is removed at the end.
 */
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createHooks } from "../../../core/hooks.ts";
import type { HypervisorSetup } from "../../../core/hypervisor.ts";
import type { Plugin } from "../../../core/plugin.ts";
import type { Scheduler, SchedulerHost } from "../../../core/scheduling/scheduler.ts";

const PLUGINS = join(import.meta.dirname, "..", "..", "..", "plugins");

/** One change: in a file of the plugin, `from` becomes `to`. */
export interface Change {
  readonly file: string;
  readonly from: string;
  readonly to: string;
}

/** A scheduler plugin with changes; `remove` ends its files. */
export interface Mutant {
  make(host: SchedulerHost): Scheduler;
  remove(): void;
}

/** Makes a mutant of plugins/`folder`, whose scheduler's key is `key`. */
export async function mutant(folder: string, key: string, changes: readonly Change[]): Promise<Mutant> {
  const scratch = mkdtempSync(join(import.meta.dirname, ".mutant-"));
  const remove = (): void => rmSync(scratch, { recursive: true, force: true });
  try {
    const copy = join(scratch, folder);
    mkdirSync(copy);
    const files = readdirSync(join(PLUGINS, folder)).filter((name) => name.endsWith(".ts"));
    for (const change of changes)
      if (!files.includes(change.file)) throw new Error(`plugins/${folder} has no file ${change.file}`);
    for (const file of files) {
      let text = readFileSync(join(PLUGINS, folder, file), "utf8");
      for (const change of changes) if (change.file === file) text = changed(text, change, `plugins/${folder}/${file}`);
      writeFileSync(join(copy, file), text.replaceAll('from "../lib-', 'from "../../../../../plugins/lib-'));
    }
    const plugin = ((await import(/* @vite-ignore */ join(copy, "plugin.ts"))) as { default: Plugin }).default;
    return { make: provided(plugin, key), remove };
  } catch (error) {
    remove();
    throw error;
  }
}

/** The text with the change made; it must be possible in one place, no more and no less. */
export function changed(text: string, { from, to }: Change, where: string): string {
  const times = text.split(from).length - 1;
  if (times !== 1)
    throw new Error(
      `${where} has ${times === 0 ? "no" : times} place(s) with the text that the mutant changes: ${JSON.stringify(from)}`,
    );
  return text.replace(from, () => to);
}

/** What a plugin provides under a key, through the real hook. */
export function provided(plugin: Plugin, key: string): (host: SchedulerHost) => Scheduler {
  const hooks = createHooks();
  plugin.apply({ hooks } as HypervisorSetup);
  return (host) => hooks.scheduler.for(key).call(host) as Scheduler;
}
