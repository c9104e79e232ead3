/**
 * `hookvisor images`: what can be run by its name, what of it is on this machine; fetch one, remove one.
 */
import { ConfigError, type PluginHooks, providers } from "hookvisor";
import {
  cachedPackage,
  type DebianFetchOptions,
  type DebianPackageRequest,
  forgetPackage,
} from "../lib-debian/index.ts";
import { readyImage } from "./build.ts";
import { type ImageRecipe, kernelPackage } from "./catalogue.ts";
import { columns, formatSize } from "./format.ts";
import { Progress, type ProgressOutput } from "./progress.ts";
import type { ImageStore } from "./store.ts";

/** What the command works on. */
export interface ImagesContext {
  readonly toolstack: PluginHooks["toolstack"];
  readonly recipes: ReadonlyMap<string, ImageRecipe>;
  readonly store: ImageStore;
  readonly fetch: DebianFetchOptions;
  readonly stdout: { write(text: string): unknown };
  readonly stderr: ProgressOutput;
}

/** Options of the command, as they come. */
export interface ImagesOptions {
  readonly format: "table" | "json";
  readonly deb: readonly string[];
  readonly refresh: boolean;
  readonly quiet: boolean;
}

const ACTIONS = ["list", "pull", "rm"];

/** Runs the command; answers the exit code. */
export async function imagesCommand(
  context: ImagesContext,
  args: readonly string[],
  options: ImagesOptions,
): Promise<number> {
  const [action = "list", ...names] = args;
  switch (action) {
    case "list":
      context.stdout.write(await listText(context, options.format));
      return 0;
    case "pull":
      for (const recipe of recipesOf(context, names, "pull")) await pull(context, recipe, options);
      return 0;
    case "rm":
      for (const recipe of recipesOf(context, names, "rm")) await remove(context, recipe, options);
      return 0;
    default:
      throw new ConfigError(`There is no 'images ${action}'; there are ${ACTIONS.join(", ")}.`);
  }
}

function recipesOf(context: ImagesContext, names: readonly string[], action: string): readonly ImageRecipe[] {
  const known = [...context.recipes.keys()].join(", ");
  if (names.length === 0)
    throw new ConfigError(`Say which image: hookvisor images ${action} NAME; there are ${known}.`);
  return names.map((name) => {
    const recipe = context.recipes.get(name);
    if (recipe !== undefined) return recipe;
    throw new ConfigError(
      providers(context.toolstack.image).some((one) => one.key === name)
        ? `The image '${name}' comes with hookvisor or a plugin: there is nothing to ${action === "rm" ? "remove" : "fetch"}.`
        : `There is no image '${name}' to ${action === "rm" ? "remove" : "fetch"}; there are ${known}.`,
    );
  });
}

/** What is known of an image. */
interface Listed {
  readonly name: string;
  readonly summary: string;
  readonly origin: string;
  /** Of what is here; null: nothing. */
  readonly version: string | null;
  readonly ready: boolean;
  /** Bytes on this machine, packages included. */
  readonly size: number;
}

/** The packages that may be in the cache because of an image. */
function packagesOf(recipe: ImageRecipe): readonly DebianPackageRequest[] {
  const { suite, arch } = recipe;
  return [kernelPackage(recipe), ...(recipe.ramdisk?.packages ?? []).map((name) => ({ suite, arch, package: name }))];
}

async function listed(context: ImagesContext, name: string, plugin: string): Promise<Listed> {
  const recipe = context.recipes.get(name);
  const summary = context.toolstack.image.get(name)?.call()?.summary ?? "";
  if (recipe === undefined) return { name, summary, origin: `plugin ${plugin}`, version: null, ready: true, size: 0 };
  const record = await context.store.record(name);
  let size = record === null ? 0 : record.kernel.size + (record.ramdisk?.size ?? 0);
  for (const request of packagesOf(recipe)) size += (await cachedPackage(request, context.fetch))?.size ?? 0;
  const from = [recipe.kernel.package, ...(recipe.ramdisk?.packages ?? [])].join(", ");
  return {
    name,
    summary,
    origin: `Debian ${recipe.suite}: ${from}${record?.origin === "files" ? " (given as files)" : ""}`,
    version: record?.version ?? null,
    ready: record !== null,
    size,
  };
}

async function listText(context: ImagesContext, format: "table" | "json"): Promise<string> {
  const all: Listed[] = [];
  for (const { key, plugin } of providers(context.toolstack.image)) all.push(await listed(context, key, plugin));
  if (format === "json") return `${JSON.stringify(all, null, 2)}\n`;
  const rows = all.map((one) => [
    one.name,
    one.version ?? (one.ready ? "built in" : "not fetched"),
    one.size === 0 ? "-" : formatSize(one.size),
    one.origin,
    one.summary,
  ]);
  return columns([["IMAGE", "HERE", "SIZE", "FROM", "WHAT IT IS"], ...rows]);
}

async function pull(context: ImagesContext, recipe: ImageRecipe, options: ImagesOptions): Promise<void> {
  const progress = new Progress(context.stderr, options.quiet);
  const { store, fetch } = context;
  const ready = await readyImage(recipe, { store, fetch, progress, debs: options.deb, refresh: options.refresh });
  const { kernel, ramdisk, version } = ready.record;
  progress.note(
    `image ${recipe.name} is ready: ${kernel.name} (${version}), ${formatSize(kernel.size + (ramdisk?.size ?? 0))}; hookvisor run ${recipe.name}`,
  );
}

async function remove(context: ImagesContext, recipe: ImageRecipe, options: ImagesOptions): Promise<void> {
  const progress = new Progress(context.stderr, options.quiet);
  const there = await context.store.locked(() => context.store.remove(recipe.name));
  // A package that another image of the machine was made of stays.
  const kept = new Set<string>();
  for (const other of context.recipes.values())
    if (other !== recipe && (await context.store.record(other.name)) !== null)
      for (const request of packagesOf(other)) kept.add(JSON.stringify(request));
  let freed = 0;
  for (const request of packagesOf(recipe)) {
    const cached = await cachedPackage(request, context.fetch);
    if (cached === null || kept.has(JSON.stringify(request))) continue;
    await forgetPackage(request, context.fetch);
    freed += cached.size;
  }
  progress.note(
    there || freed > 0 ? `image ${recipe.name} is removed` : `image ${recipe.name} was not there: nothing is removed`,
  );
}
