/**
 * The arrows of imports (core/README.md, section 2): core/abi <- core <- arch, plugins <- test; no Node outside core/node and the plugins that may have
 * it; no plugin inside another; plugins take core as "hookvisor" only.
 */
import { readdirSync, readFileSync } from "node:fs";
import { isBuiltin } from "node:module";
import { dirname, join, relative, resolve } from "node:path";
import { expect, test } from "vitest";

const ROOT = join(import.meta.dirname, "..");

/** Folders below arch/ and plugins/ that are libraries: others may import them by path. */
function isLibrary(folder: string): boolean {
  return folder === "arch/translate" || folder === "arch/x86" || folder.startsWith("plugins/lib-");
}

/** Libraries of toolstacks: packages fetched, images unpacked, on the host. */
const HOST_LIBRARIES = ["plugins/lib-debian", "plugins/lib-image"];

/** What runs on the host process and may import Node and core/node. */
function isHostPlugin(folder: string): boolean {
  return folder.startsWith("plugins/toolstack-") || HOST_LIBRARIES.includes(folder);
}

interface Import {
  readonly file: string;
  readonly specifier: string;
  /** What a relative import points at, from the project's folder. */
  readonly target: string | null;
}

function sources(folder: string): string[] {
  return readdirSync(join(ROOT, folder), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith(".ts"))
    .map((entry) => relative(ROOT, join(entry.parentPath, entry.name)))
    .sort();
}

const PATTERN =
  /(?:^|[;\n])\s*(?:import|export)\s[^;'"`]*?from\s*["']([^"']+)["']|(?:^|[;\n])\s*import\s*["']([^"']+)["']|\bimport\(\s*["']([^"']+)["']\s*\)/g;

function importsOf(file: string): Import[] {
  const text = readFileSync(join(ROOT, file), "utf8").replace(/\/\*[\s\S]*?\*\//g, "");
  return [...text.matchAll(PATTERN)].map((match) => {
    const specifier = match[1] ?? match[2] ?? match[3] ?? "";
    const target = specifier.startsWith(".") ? relative(ROOT, resolve(ROOT, dirname(file), specifier)) : null;
    return { file, specifier, target };
  });
}

/** arch/x86 of arch/x86/decode.ts. */
function unitOf(path: string): string {
  return path.split("/").slice(0, 2).join("/");
}

/** Why an import may not be; null: it may. */
function problem({ file, specifier, target }: Import): string | null {
  const node = specifier.startsWith("node:") || isBuiltin(specifier);
  const unit = unitOf(file);
  if (file.startsWith("core/abi/")) {
    if (target === null || !target.startsWith("core/abi/")) return "core/abi imports only itself";
    return null;
  }
  if (file.startsWith("core/")) {
    const host = file.startsWith("core/node/");
    if (node && !host) return "Node is for core/node only";
    if (target === null) {
      if (specifier === "hookvisor") return "core imports itself by path";
      return host || ["tapable", "semver"].includes(specifier) || node
        ? null
        : "core imports no library but tapable and semver";
    }
    if (!target.startsWith("core/")) return "core imports nothing of arch, plugins or test";
    return !host && target.startsWith("core/node/") ? "core does not import core/node" : null;
  }
  if (node) return isHostPlugin(unit) ? null : "Node is for core/node and toolstacks";
  if (target === null) return null;
  if (target.startsWith("core/node/") && isHostPlugin(unit)) return null;
  if (target.startsWith("core/")) return "core is imported as 'hookvisor'";
  if (target.startsWith("test/")) return "tests import, nothing imports tests";
  if (unitOf(target) === unit) return null;
  return isLibrary(unitOf(target)) ? null : "no plugin imports another plugin's inside";
}

test("imports run one way", () => {
  const all = ["core", "arch", "plugins"].flatMap(sources).flatMap(importsOf);
  expect(all.length).toBeGreaterThan(300);
  const wrong = all
    .map((one) => ({ one, why: problem(one) }))
    .filter(({ why }) => why !== null)
    .map(({ one, why }) => `${one.file} imports '${one.specifier}': ${why}`);
  expect(wrong).toEqual([]);
});

test("every plugin folder has a plugin.ts, or is a library", () => {
  for (const group of ["arch", "plugins"])
    for (const entry of readdirSync(join(ROOT, group), { withFileTypes: true })) {
      if (!entry.isDirectory() || isLibrary(`${group}/${entry.name}`)) continue;
      expect(readdirSync(join(ROOT, group, entry.name)), `${group}/${entry.name}`).toContain("plugin.ts");
    }
});

test("the arrows that must not be are noticed", () => {
  const at = (file: string, specifier: string): string | null =>
    problem({
      file,
      specifier,
      target: specifier.startsWith(".") ? relative(ROOT, resolve(ROOT, dirname(file), specifier)) : null,
    });
  expect(at("core/abi/xen.ts", "../errors.ts")).not.toBeNull();
  expect(at("core/machine/frames.ts", "node:fs")).not.toBeNull();
  expect(at("core/machine/frames.ts", "../node/main.ts")).not.toBeNull();
  expect(at("core/hypervisor.ts", "../plugins/scheduler-credit/plugin.ts")).not.toBeNull();
  expect(at("plugins/scheduler-credit/plugin.ts", "../../core/hooks.ts")).not.toBeNull();
  expect(at("plugins/scheduler-credit/plugin.ts", "../scheduler-round-robin/plugin.ts")).not.toBeNull();
  expect(at("plugins/device-vbd/plugin.ts", "node:fs")).not.toBeNull();
  expect(at("arch/x86-pv/plugin.ts", "../../test/support/load.ts")).not.toBeNull();
  expect(at("plugins/scheduler-credit/plugin.ts", "hookvisor")).toBeNull();
  expect(at("arch/x86-pv/plugin.ts", "../x86/index.ts")).toBeNull();
  expect(at("plugins/toolstack-cli/run.ts", "../../core/node/guard.ts")).toBeNull();
});
