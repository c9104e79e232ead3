/**
 * Debian's own GRUB for Xen, a 64-bit PV kernel that nobody here built: its prompt, a disk listed, a file printed, halt.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect } from "vitest";
import { fatImage } from "../tools/fat-image.ts";
import { GRUB_PV, itWithGuest } from "../tools/guest-file.ts";
import { hookvisor } from "../tools/hookvisor-run.ts";

const LONG_LINE = "the last line of a file that is longer than one cluster";

let folder = "";
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "hookvisor-grub-"));
  writeFileSync(
    join(folder, "disk.img"),
    fatImage({ "hello.txt": "hello from a FAT disk\n", "long.txt": `${"filler ".repeat(200)}\n${LONG_LINE}\n` }),
  );
  writeFileSync(
    join(folder, "session.script"),
    [
      "expect grub>",
      "send ls\\r",
      "expect (xen/xvda)",
      "expect grub>",
      "send ls (xen/xvda)/\\r",
      "expect hello.txt",
      "expect grub>",
      "send cat (xen/xvda)/hello.txt\\r",
      "expect hello from a FAT disk",
      "expect grub>",
      "send cat (xen/xvda)/long.txt\\r",
      `expect ${LONG_LINE}`,
      "expect grub>",
      "send halt\\r",
      "",
    ].join("\n"),
  );
});
afterAll(() => rmSync(folder, { recursive: true }));

describe("GRUB for Xen", () => {
  itWithGuest(
    "reaches its prompt, lists a disk, prints files and halts; the same trace every time",
    GRUB_PV,
    async (kernel) => {
      const run = (trace: string) =>
        hookvisor(
          ["run", "--kernel", kernel, "--memory", "128", "--disk", "disk.img,raw,xvda,r"].concat([
            "--input",
            "session.script",
            "--trace",
            trace,
          ]),
          { cwd: folder, timeout: 150_000 },
        );
      const first = await run("first.trace");
      expect(first.stderr).not.toContain("never printed");
      expect(first.stdout).toContain(LONG_LINE);
      expect(first.code).toBe(0);
      const second = await run("second.trace");
      expect(second.stdout).toBe(first.stdout);
      const traces = ["first.trace", "second.trace"].map((name) => readFileSync(join(folder, name)));
      expect(traces[0]?.length).toBeGreaterThan(1000);
      expect(traces[1]?.equals(traces[0] ?? new Uint8Array())).toBe(true);
    },
    300_000,
  );
});
