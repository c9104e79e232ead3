/**
 * The packed tarball, installed in an empty folder, runs: the command, a guest, a plugin in TypeScript, the types of `hookvisor`. Needs npm and its
 * registry or cache.
 */
import { execFileSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, dirname, join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { PROJECT } from "../tools/hookvisor-run.ts";

let folder = "";

/** Runs a program on this process's Node, wherever npm's own would be. */
function run(program: string, args: readonly string[], cwd: string): string {
  const env = { ...process.env, PATH: `${dirname(process.execPath)}${delimiter}${process.env["PATH"] ?? ""}` };
  return execFileSync(program, [...args], { cwd, env, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
}

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "hookvisor-pack-"));
  run("npm", ["pack", "--pack-destination", folder], PROJECT);
  const tarball = readdirSync(folder).find((name) => name.endsWith(".tgz"))!;
  writeFileSync(
    join(folder, "package.json"),
    '{ "name": "empty", "version": "1.0.0", "private": true, "type": "module" }\n',
  );
  run("npm", ["install", "--no-audit", "--no-fund", join(folder, tarball)], folder);
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const hookvisor = (...args: string[]): string =>
  run(
    process.execPath,
    [join(folder, "node_modules", "hookvisor", "core", "node", "bin", "hookvisor.js"), ...args],
    folder,
  );

test("it holds built files and no sources", () => {
  const files = readdirSync(join(folder, "node_modules", "hookvisor"), { recursive: true, encoding: "utf8" });
  expect(files).toContain("dist/core/node/main.js");
  expect(files.filter((file) => file.endsWith(".ts") && !file.endsWith(".d.ts"))).toEqual([]);
});

test("it runs a guest", () => {
  expect(hookvisor("run", "hello")).toContain("Hello, Xen!");
  const version = JSON.parse(readFileSync(join(PROJECT, "package.json"), "utf8")).version;
  expect(hookvisor("--version")).toBe(`${version}\n`);
});

test("it demonstrates itself", () => {
  expect(hookvisor("demo")).toMatch(/heavy +1024 +\d/);
});

test("it runs a plugin in TypeScript, which sees its types", () => {
  const readme = readFileSync(join(PROJECT, "README.md"), "utf8");
  const source = /<!-- file: turns.ts -->\n\n```ts\n([\s\S]*?)```/.exec(readme)![1]!;
  writeFileSync(join(folder, "turns.ts"), source);
  const result = JSON.parse(hookvisor("run", "hello", "--plugin", "./turns.ts", "--scheduler", "turns", "--json"));
  expect(result).toMatchObject({ exitCode: 0, scheduler: "turns", faults: [] });
  const tsc = join(PROJECT, "node_modules", "typescript", "bin", "tsc");
  const options = [
    "--noEmit",
    "--strict",
    "--module",
    "nodenext",
    "--target",
    "es2024",
    "--types",
    "",
    "--lib",
    "es2024,dom",
    "turns.ts",
  ];
  expect(run(process.execPath, [tsc, "--ignoreConfig", ...options], folder)).toBe("");
});
