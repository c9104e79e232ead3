/** Debian's U-Boot for RISC-V in S-mode, unmodified, by `hookvisor run u-boot-riscv64`: its prompt, what a person types there, a poweroff by SBI. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect } from "vitest";
import { itWithImage } from "../tools/guest-image.ts";
import { hookvisor, type Ran } from "../tools/hookvisor-run.ts";

const PROMPT = "=> ";
const TIMEOUT = 180_000;

let folder = "";
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "hookvisor-u-boot-"));
});
afterAll(() => rmSync(folder, { recursive: true }));

/** Types lines, one a prompt. */
function typed(lines: readonly string[], ...options: readonly string[]): Promise<Ran> {
  const script = join(folder, "script");
  // A key stops the countdown, after a reset again.
  const key = ["expect autoboot", "send x"];
  const type = (line: string) => [`expect ${PROMPT}`, `send ${line}\\r`, ...(line === "reset" ? key : [])];
  const steps = [...key, ...lines.flatMap(type)];
  writeFileSync(script, steps.map((step) => `${step}\n`).join(""));
  return hookvisor(["run", "u-boot-riscv64", "--input", script, ...options], { timeout: TIMEOUT });
}

itWithImage(
  "u-boot-riscv64",
  "U-Boot reaches its prompt; version, printenv, bdinfo and sbi tell of the machine; poweroff ends it",
  async () => {
    const ran = await typed(["version", "printenv", "bdinfo", "sbi", "poweroff"], "memory=64");
    expect(ran.stderr).toBe("");
    expect(ran.stdout).toMatch(/^DRAM: {2}64 MiB$/m);
    expect(ran.stdout).toMatch(/=> version\nU-Boot 20\d\d\.\d\d\S* \(/);
    expect(ran.stdout).toMatch(/^board_name=qemu-riscv$/m);
    expect(ran.stdout).toMatch(/^fdtcontroladdr=[0-9a-f]+$/m);
    expect(ran.stdout).toMatch(/^-> start {4}= 0x0000000080000000\n-> size {5}= 0x0000000004000000$/m);
    expect(ran.stdout).toMatch(/^serial addr = 0x0000000010000000$/m);
    expect(ran.stdout).toMatch(/^SBI 2\.0\nXen Project 0x40011$/m);
    expect(ran.stdout).toMatch(/^ {2}Hart State Management Extension$/m);
    expect(ran.stdout).toContain("poweroff ...");
    expect(ran.code).toBe(0);
  },
  TIMEOUT,
);

itWithImage(
  "u-boot-riscv64",
  "U-Boot's reset starts the domain again, and two runs are the same to the byte",
  async () => {
    const runs = [];
    for (let i = 0; i < 2; i++) runs.push(await typed(["reset", "poweroff"], "memory=64"));
    const [first, second] = runs;
    expect(first!.stdout.match(/^U-Boot 20/gm)).toHaveLength(2);
    expect(first!.code).toBe(0);
    expect(second).toEqual(first);
  },
  TIMEOUT,
);
