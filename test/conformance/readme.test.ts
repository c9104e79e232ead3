/** The README's example runs as it stands, beside a plugin, where the package is installed. */
import { execFile } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, expect, test } from "vitest";

const PROJECT = join(import.meta.dirname, "..", "..");
const folder = mkdtempSync(join(tmpdir(), "hookvisor-kit-"));
afterAll(() => rmSync(folder, { recursive: true }));

const readme = readFileSync(join(import.meta.dirname, "README.md"), "utf8");

test("its example passes on a plugin of one's own", async () => {
  const example = /<!-- file: my\.test\.ts -->\s*```ts\n([\s\S]*?)```/.exec(readme)![1]!;
  const plugin = readFileSync(join(PROJECT, "plugins", "scheduler-round-robin", "plugin.ts"), "utf8");
  writeFileSync(join(folder, "my.test.ts"), example);
  writeFileSync(join(folder, "plugin.ts"), plugin.replaceAll('"round-robin"', '"mine"'));
  writeFileSync(join(folder, "package.json"), '{ "type": "module" }');
  mkdirSync(join(folder, "node_modules"));
  symlinkSync(PROJECT, join(folder, "node_modules", "hookvisor"));
  const args = ["--conditions=hookvisor-source", "--import", import.meta.resolve("tsx"), "--test", "my.test.ts"];
  const { stdout } = await promisify(execFile)(process.execPath, args, { cwd: folder });
  expect(stdout).toMatch(/pass 10\n.*fail 0\n/);
});

test("the files that it names are there", () => {
  for (const [, path = ""] of readme.matchAll(/`((?:test\/)?[a-z-]+(?:\/[a-z-]+)*\.(?:test\.|long\.)?ts)`/g))
    expect(existsSync(join(import.meta.dirname, path)) || existsSync(join(PROJECT, path)), path).toBe(true);
});
