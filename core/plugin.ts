/**
 * The plugin contract: what a plugin exports, how it is checked, how it is applied.
 *
 * Invariants: a plugin is validated before any of its code beyond the module body runs; plugins apply in an order
 * in which each comes after those that it requires, and otherwise in the order given; every error names the plugin,
 * what was expected and what was got.
 */
import { satisfies, validRange } from "semver";
import { PluginError } from "./errors.ts";
import type { HypervisorSetup } from "./hypervisor.ts";

/** Version of the plugin interface that this core offers (semver). */
export const API_VERSION = "1.0.0";

/** What every plugin exports by default. */
export interface Plugin {
  /** Unique; by convention the folder's name, such as `scheduler-credit`. */
  readonly name: string;
  /** The semver range of API_VERSION that it was written for, such as `^1.0.0`. */
  readonly api: string;
  /** Names of plugins that must be applied before this one. */
  readonly requires?: readonly string[];
  /** One line for `hookvisor list-plugins`. */
  readonly description?: string;
  /** Taps hooks. Called once, before boot. */
  apply(hypervisor: HypervisorSetup): void;
}

/** Gives a plugin its type; returns it unchanged. */
export function definePlugin(plugin: Plugin): Plugin {
  return plugin;
}

function show(value: unknown): string {
  if (value === null) return "null";
  if (value === undefined) return "nothing";
  if (typeof value === "string") return JSON.stringify(value);
  return Array.isArray(value) ? "an array" : `a ${typeof value}`;
}

/** Checks that `value`, which came from `source`, is a plugin for this core; throws PluginError otherwise. */
export function validatePlugin(value: unknown, source: string): Plugin {
  if (typeof value !== "object" || value === null || Array.isArray(value))
    throw new PluginError(
      "HV_PLUGIN_NOT_OBJECT",
      source,
      `Plugin ${source}: expected a default export made by definePlugin({ name, api, apply }), got ${show(value)}.`,
    );
  const plugin = value as Partial<Plugin>;
  if (typeof plugin.name !== "string" || !/^[a-z0-9][a-z0-9@/._-]*$/.test(plugin.name))
    throw new PluginError(
      "HV_PLUGIN_NAME",
      source,
      `Plugin ${source}: expected 'name' to be a lower-case name such as 'scheduler-mine', got ${show(plugin.name)}.`,
    );
  if (typeof plugin.apply !== "function")
    throw new PluginError(
      "HV_PLUGIN_NO_APPLY",
      plugin.name,
      `Plugin '${plugin.name}' (${source}): expected an apply(hypervisor) function, got ${show(plugin.apply)}.`,
    );
  if (typeof plugin.api !== "string" || validRange(plugin.api) === null)
    throw new PluginError(
      "HV_PLUGIN_API_RANGE",
      plugin.name,
      `Plugin '${plugin.name}' (${source}): expected 'api' to be a semver range such as '^${API_VERSION}', got ${show(plugin.api)}.`,
    );
  if (!satisfies(API_VERSION, plugin.api))
    throw new PluginError(
      "HV_PLUGIN_API_VERSION",
      plugin.name,
      `Plugin '${plugin.name}' (${source}) expects plugin API '${plugin.api}', this hookvisor offers ${API_VERSION}; use a version of the plugin that was written for it.`,
    );
  if (
    plugin.requires !== undefined &&
    !(Array.isArray(plugin.requires) && plugin.requires.every((r) => typeof r === "string"))
  )
    throw new PluginError(
      "HV_PLUGIN_REQUIRES",
      plugin.name,
      `Plugin '${plugin.name}' (${source}): expected 'requires' to be a list of plugin names, got ${show(plugin.requires)}.`,
    );
  return value as Plugin;
}

/** A plugin and where it was found. */
export interface LoadedPlugin {
  readonly plugin: Plugin;
  readonly source: string;
}

/** The order of application: requirements first, else as given. Throws on duplicates, missing requirements, cycles. */
export function orderPlugins(loaded: readonly LoadedPlugin[]): readonly LoadedPlugin[] {
  const byName = new Map<string, LoadedPlugin>();
  for (const one of loaded) {
    const other = byName.get(one.plugin.name);
    if (other !== undefined)
      throw new PluginError(
        "HV_PLUGIN_DUPLICATE",
        one.plugin.name,
        `Plugin '${one.plugin.name}' is loaded twice, from ${other.source} and from ${one.source}; load it once.`,
      );
    byName.set(one.plugin.name, one);
  }
  const done = new Set<string>();
  const order: LoadedPlugin[] = [];
  const visit = (one: LoadedPlugin, path: readonly string[]): void => {
    const { name } = one.plugin;
    if (done.has(name)) return;
    if (path.includes(name))
      throw new PluginError(
        "HV_PLUGIN_REQUIRES",
        name,
        `Plugins require one another in a circle: ${[...path.slice(path.indexOf(name)), name].join(" -> ")}; break it.`,
      );
    for (const required of one.plugin.requires ?? []) {
      const other = byName.get(required);
      if (other === undefined)
        throw new PluginError(
          "HV_PLUGIN_REQUIRES",
          name,
          `Plugin '${name}' (${one.source}) requires plugin '${required}', which is not loaded; load it too.`,
        );
      visit(other, [...path, name]);
    }
    done.add(name);
    order.push(one);
  };
  for (const one of loaded) visit(one, []);
  return order;
}
