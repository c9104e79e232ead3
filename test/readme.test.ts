/**
 * The README does what it says: its files are written into an empty folder outside the project, its commands run there, and print what it shows
 * (`...` stands for any lines), in the order of the page.
 */
import { execFile } from "node:child_process";
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { fatImage } from "./tools/fat-image.ts";
import { GRUB_PV, itWithGuest } from "./tools/guest-file.ts";
import { hookvisor, PROJECT } from "./tools/hookvisor-run.ts";

const readme = readFileSync(join(PROJECT, "README.md"), "utf8");

interface Block {
  readonly language: string;
  readonly body: string;
  /** What the comment before it says, such as `file: turns.ts`. */
  readonly note: string;
}

const blocks: Block[] = [...readme.matchAll(/(?:<!-- (.*?) -->\n\n)?```(\w+)\n([\s\S]*?)```/g)].map((match) => ({
  note: match[1] ?? "",
  language: match[2]!,
  body: match[3]!,
}));

interface Example {
  readonly command: string;
  readonly expected: readonly string[];
  readonly needs: string;
}

const examples: Example[] = blocks
  .filter((block) => block.language === "console")
  .flatMap((block) =>
    block.body
      .split(/^\$ /m)
      .slice(1)
      .map((part) => {
        const [command = "", ...expected] = part.trimEnd().split("\n");
        return { command, expected, needs: block.note };
      }),
  );

/** A command line's words, with quotes taken as a shell would. */
function words(command: string): string[] {
  return [...command.matchAll(/(?:[^\s"']+|"[^"]*"|'[^']*')+/g)].map((match) => match[0].replace(/["']/g, ""));
}

let folder = "";
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "hookvisor-readme-"));
  for (const { note, body } of blocks) {
    const file = /^file: (\S+)$/.exec(note)?.[1];
    // The config would take effect in every example; it has a test of its own.
    if (file !== undefined && !file.startsWith("hookvisor.config")) writeFileSync(join(folder, file), body);
  }
  copyFileSync(join(PROJECT, "test", "guests", "images", "busy.elf"), join(folder, "busy.elf"));
  writeFileSync(join(folder, "disk.img"), fatImage({ "hello.txt": "hello from a FAT disk\n" }));
});
afterAll(() => rmSync(folder, { recursive: true }));

async function check({ command, expected }: Example): Promise<void> {
  const [npx, name, ...args] = words(command);
  expect([npx, name]).toEqual(["npx", "hookvisor"]);
  const ran = await hookvisor(args, { cwd: folder, timeout: 120_000 });
  expect(ran.stderr).not.toContain("hookvisor: unexpected");
  let rest = ran.stdout.split("\n");
  let skip = false;
  for (const line of expected) {
    if (line === "...") {
      skip = true;
      continue;
    }
    const at = skip ? rest.indexOf(line) : rest[0] === line ? 0 : -1;
    expect(at, `${line}\nin what ${command} printed:\n${ran.stdout}\n${ran.stderr}`).toBeGreaterThanOrEqual(0);
    rest = rest.slice(at + 1);
    skip = false;
  }
  const limited = /--max-time/.test(command);
  expect(ran.code, ran.stderr).toBe(limited ? 124 : 0);
}

describe("the README", () => {
  for (const example of examples)
    if (example.needs === "needs: grub")
      itWithGuest(example.command, GRUB_PV, async (kernel) => {
        copyFileSync(kernel, join(folder, "grub-x86_64-xen.bin"));
        await check(example);
        expect(readFileSync(join(folder, "grub.trace"), "utf8")).toContain("shutdown d1 reason=0");
      });
    else test(example.command, () => check(example));

  test("its scheduler is what the command writes", () => {
    const quoted = blocks.find((block) => block.note === "written: turns/plugin.ts")?.body;
    expect(quoted).toBe(readFileSync(join(folder, "turns", "plugin.ts"), "utf8"));
    expect(quoted!.trimEnd().split("\n").length).toBeLessThanOrEqual(40);
  });

  test("its scheduler passes the conformance kit, as the README runs it", async () => {
    mkdirSync(join(folder, "node_modules"));
    symlinkSync(PROJECT, join(folder, "node_modules", "hookvisor"));
    const args = [
      "--conditions=hookvisor-source",
      "--import",
      import.meta.resolve("tsx"),
      "--test",
      join("turns", "turns.test.ts"),
    ];
    const { stdout } = await promisify(execFile)(process.execPath, args, { cwd: folder });
    expect(stdout).toMatch(/pass [1-9]\d*\n.*fail 0\n/);
  });

  test("its config loads its scheduler", async () => {
    const config = blocks.find((block) => block.note === "file: hookvisor.config.yaml")!.body;
    writeFileSync(join(folder, "hookvisor.config.yaml"), config);
    try {
      const ran = await hookvisor(["run", "hello", "--json"], { cwd: folder });
      expect(JSON.parse(ran.stdout)).toMatchObject({ exitCode: 0, scheduler: "turns" });
    } finally {
      rmSync(join(folder, "hookvisor.config.yaml"));
    }
  });

  test("its links lead somewhere", () => {
    for (const [, link = ""] of readme.matchAll(/\]\(([^)#]+)\)/g))
      if (!link.includes("://")) expect(existsSync(join(PROJECT, link)), link).toBe(true);
  });
});
