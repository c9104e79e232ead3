/** `hookvisor list-plugins`: every plugin, where it is from, what it provides; with --hooks the table of the core's hooks. */
import { type Hypervisor, hookTable, providers } from "hookvisor";
import type { ToolstackHooks } from "./hooks.ts";
import { table } from "./units.ts";

/** Keys by plugin, each with the kind of thing. */
function provisions(
  hypervisor: Hypervisor,
  toolstack: ToolstackHooks,
): readonly { plugin: string; what: string; key: string }[] {
  const { scheduler, deviceType, arch, governor } = hypervisor.hooks;
  return [
    ...providers(scheduler).map((p) => ({ ...p, what: "scheduler" })),
    ...providers(deviceType).map((p) => ({ ...p, what: "device" })),
    ...providers(arch).map((p) => ({ ...p, what: "guest type" })),
    ...providers(governor).map((p) => ({ ...p, what: "governor" })),
    ...providers(toolstack.command).map((p) => ({ ...p, what: "command" })),
    ...providers(toolstack.image).map((p) => ({ ...p, what: "image" })),
    ...providers(toolstack.configKey).map((p) => ({ ...p, what: "config key" })),
    ...providers(toolstack.runOption).map((p) => ({ ...p, key: `--${p.key}`, what: "option" })),
  ];
}

/** The text to print. */
export function listPlugins(
  hypervisor: Hypervisor,
  toolstack: ToolstackHooks,
  options: { readonly hooks: boolean; readonly json: boolean; readonly width: number },
): string {
  const all = provisions(hypervisor, toolstack);
  const plugins = hypervisor.plugins.map(({ plugin, source }) => ({
    name: plugin.name,
    source,
    description: plugin.description ?? "",
    provides: all.filter((p) => p.plugin === plugin.name).map(({ what, key }) => `${what} ${key}`),
  }));
  if (options.json) return `${JSON.stringify(options.hooks ? { plugins, hooks: hookTable } : { plugins }, null, 2)}\n`;
  const rows = plugins.map((p) => [p.name, summary(p.provides), origin(p.source) + p.description]);
  let text = table([["PLUGIN", "PROVIDES", "DESCRIPTION"], ...rows], options.width);
  if (options.hooks) {
    const hooks = Object.entries(hookTable).map(([name, f]) => [name, f.kind, f.args, f.when]);
    text += `\n${table([["HOOK", "KIND", "ARGUMENTS", "CALLED WHEN"], ...hooks], options.width)}`;
  }
  return text;
}

/** Where a plugin is from, unless it is the project's own. */
function origin(source: string): string {
  return /^(core|arch|plugins)[/\\]/.test(source) ? "" : `(${source}) `;
}

/** Keys of one kind that are listed by name; more are counted. */
const MOST_KEYS = 6;

/** `scheduler credit, images hello busy`, `20 images`. */
function summary(provides: readonly string[]): string {
  const kinds = new Map<string, string[]>();
  for (const one of provides) {
    const at = one.lastIndexOf(" ");
    const kind = one.slice(0, at);
    kinds.set(kind, [...(kinds.get(kind) ?? []), one.slice(at + 1)]);
  }
  return [...kinds]
    .map(([kind, keys]) =>
      keys.length > MOST_KEYS ? `${keys.length} ${kind}s` : `${kind}${keys.length > 1 ? "s" : ""} ${keys.join(" ")}`,
    )
    .join(", ");
}
