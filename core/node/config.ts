/**
 * The user's configuration: `hookvisor.config.{ts,js,mjs,json,yaml,yml}` in the working folder or above it, up to the folder of a
 * package.json.
 *
 * Invariants: an unknown key is an error; each error names the file and the key in one sentence.
 */
import { dirname, relative, resolve } from "node:path";
import { cosmiconfig, defaultLoaders } from "cosmiconfig";
import { z } from "zod";
import { ConfigError } from "../errors.ts";
import { reasonOf } from "./load.ts";
import { defaultExport, importFile, installResolution, installTypeScript } from "./resolve.ts";

const paramValue = z.union([
  z.number(),
  z.boolean(),
  z.string(),
  z.array(z.record(z.string(), z.union([z.number(), z.boolean(), z.string()]))),
]);

const pool = z.strictObject({
  name: z.string().regex(/^[^\s:/\\]{1,64}$/, "1 to 64 characters without blanks, ':' or slashes"),
  scheduler: z.string().min(1),
  /** pCPU numbers. */
  cpus: z.array(z.int().min(0).max(4095)).min(1),
  granularity: z.enum(["cpu", "core", "socket"]).default("cpu"),
  /** Parameters of its scheduler. */
  params: z.record(z.string(), paramValue).default({}),
});

const schema = z.strictObject({
  /** Names of packages or paths, relative to the config. */
  plugins: z.array(z.string().min(1)).default([]),
  /** Defaults of `hookvisor run`'s options of the same names. */
  scheduler: z.string().min(1).optional(),
  pcpus: z.int().min(1).max(4096).optional(),
  cpuMhz: z.number().positive().max(100_000).optional(),
  /** Memory of the machine, in MiB. */
  machineMemory: z.int().min(1).max(4096).optional(),
  seed: z.int().min(0).max(0xffff_ffff).optional(),
  /** Topology: threads of a core, cores of a socket, sockets of a NUMA node. */
  threadsPerCore: z.int().min(1).max(4096).optional(),
  coresPerSocket: z.int().min(1).max(4096).optional(),
  socketsPerNode: z.int().min(1).max(4096).optional(),
  /** Cpupools, instead of one over all pCPUs; a domain names its own by `pool=`. */
  pools: z.array(pool).min(1).optional(),
  /** Who decides rates and idle states of the pCPUs, and what there is of them. */
  governor: z.string().min(1).optional(),
  frequencies: z.array(z.int().min(1).max(1_000_000)).optional(),
  idleStates: z
    .array(z.strictObject({ name: z.string().min(1), exitLatency: z.int().min(0), targetResidency: z.int().min(0) }))
    .optional(),
});

/** What a config file may say. */
export type HookvisorConfigFile = z.input<typeof schema>;

/** The configuration in force. */
export type HookvisorConfig = z.output<typeof schema> & {
  /** The file, or null: there is none. */
  readonly path: string | null;
  /** What its paths are relative to. */
  readonly folder: string;
};

const PLACES = ["ts", "mts", "js", "mjs", "json", "yaml", "yml"].map((ending) => `hookvisor.config.${ending}`);

/** Finds and reads the config; `file` names one explicitly. */
export async function loadConfig(folder: string, file?: string): Promise<HookvisorConfig> {
  const load = async (path: string): Promise<unknown> => {
    installResolution();
    if (/\.m?ts$/.test(path)) await installTypeScript();
    return defaultExport(await importFile(path));
  };
  const explorer = cosmiconfig("hookvisor", {
    searchPlaces: PLACES,
    searchStrategy: "project",
    cache: false,
    loaders: { ...defaultLoaders, ".ts": load, ".mts": load, ".js": load, ".mjs": load },
  });
  let found: Awaited<ReturnType<typeof explorer.search>>;
  try {
    found = file === undefined ? await explorer.search(folder) : await explorer.load(resolve(folder, file));
  } catch (error) {
    throw unreadable(error, folder, file);
  }
  if (found === null) return { ...schema.parse({}), path: null, folder };
  const path = found.filepath;
  const parsed = schema.safeParse(found.isEmpty === true || found.config === undefined ? {} : found.config);
  if (!parsed.success) throw new ConfigError(`Config ${shown(path, folder)}: ${describeIssues(parsed.error)}.`);
  return { ...parsed.data, path, folder: dirname(path) };
}

function unreadable(error: unknown, folder: string, file: string | undefined): ConfigError {
  const { code, filepath } = error as NodeJS.ErrnoException & { filepath?: string };
  const path = filepath ?? (file === undefined ? null : resolve(folder, file));
  const name = path === null ? "hookvisor.config" : shown(path, folder);
  if (code === "ENOENT") return new ConfigError(`Config ${name}: there is no such file.`, { cause: error });
  const message = error instanceof Error ? error.message : String(error);
  const lines = message
    .split("\n")
    .map((line) => line.trim().replace(/[.:]$/, ""))
    .filter((line) => line !== "");
  // The libraries' first line only says that there is an error in that file.
  const line =
    lines[0]?.includes(" Error in ") && lines.length > 1
      ? lines[1]
      : message.startsWith("Transform failed")
        ? reasonOf(error)
        : lines[0];
  return new ConfigError(`Config ${name} cannot be read: ${line ?? "it throws"}.`, { cause: error });
}

function shown(path: string, folder: string): string {
  const short = relative(folder, path);
  return short.startsWith("..") ? path : short;
}

/** The first issue of a schema's error in plain words: the key, what was expected, what was got. */
export function describeIssues(error: z.ZodError): string {
  const issue = error.issues[0]!;
  const key = issue.path
    .map((part) => (typeof part === "number" ? `[${part}]` : String(part)))
    .join(".")
    .replaceAll(".[", "[");
  if (issue.code === "unrecognized_keys")
    return `there is no key '${issue.keys[0]}'; the keys are ${Object.keys(schema.shape).join(", ")}`;
  if (issue.code === "invalid_type")
    return `'${key === "" ? "the config" : key}' must be a${/^[aeiou]/.test(issue.expected) ? "n" : ""} ${issue.expected === "int" ? "whole number" : issue.expected}`;
  const text = issue.message.charAt(0).toLowerCase() + issue.message.slice(1);
  return key === "" ? text : `'${key}': ${text}`;
}
