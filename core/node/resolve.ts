/**
 * How modules of plugins are found: `hookvisor` means this very core, whoever imports it, and .ts files run.
 *
 * A plugin outside the project, with no node_modules of its own or with another copy of hookvisor in it, must share
 * this core's classes. Invariant: the hooks are installed once a process, and change nothing for modules that do not name
 * hookvisor.
 */
import { findPackageJSON, registerHooks } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

/** `.ts` where the sources run, `.js` where the built files do. */
export const MODULE_ENDING: ".ts" | ".js" = import.meta.url.endsWith(".ts") ? ".ts" : ".js";

/** The folder that holds core/, arch/ and plugins/: the project's, or its dist/. */
export const codeRoot = fileURLToPath(new URL("../../", import.meta.url));

/** The project's own folder, with package.json and test/guests/images. */
export const projectRoot = dirname(findPackageJSON(import.meta.url) ?? join(codeRoot, "package.json"));

const SELF: Readonly<Record<string, string>> = Object.freeze({
  hookvisor: new URL(`../index${MODULE_ENDING}`, import.meta.url).href,
  "hookvisor/conformance": new URL(`../../test/conformance/index${MODULE_ENDING}`, import.meta.url).href,
});

const FROM = "hookvisor-from:";

let installed = false;
let typescript: Promise<void> | null = null;

/** Makes `hookvisor` mean this core; idempotent. */
export function installResolution(): void {
  if (installed) return;
  installed = true;
  registerHooks({
    resolve(specifier, context, next) {
      const self = SELF[specifier];
      if (self !== undefined) return { url: self, shortCircuit: true };
      if (!specifier.startsWith(FROM)) return next(specifier, context);
      const [parentURL, wanted] = JSON.parse(decodeURIComponent(specifier.slice(FROM.length))) as [string, string];
      return next(wanted, { ...context, parentURL });
    },
  });
}

/** Makes any TypeScript of a user's run, also what Node does not run by itself (enums, imports without an ending); idempotent. */
export function installTypeScript(): Promise<void> {
  typescript ??= import("tsx/esm/api").then((tsx) => void tsx.register());
  return typescript;
}

/** Imports a package by name as a module in `folder` would. */
export function importFrom(folder: string, specifier: string): Promise<Record<string, unknown>> {
  const parent = pathToFileURL(join(folder, "hookvisor.config.js")).href;
  return import(`${FROM}${encodeURIComponent(JSON.stringify([parent, specifier]))}`) as Promise<
    Record<string, unknown>
  >;
}

/** Imports a file. */
export function importFile(path: string): Promise<Record<string, unknown>> {
  return import(pathToFileURL(path).href) as Promise<Record<string, unknown>>;
}

/** The default export of a module, also of one that was compiled to CommonJS (a .ts file below a package.json of type commonjs). */
export function defaultExport(module: Record<string, unknown>): unknown {
  const { default: value } = module as { default?: unknown };
  const compiled = value as { __esModule?: unknown; default?: unknown } | null | undefined;
  return typeof compiled === "object" && compiled !== null && compiled.__esModule === true ? compiled.default : value;
}
