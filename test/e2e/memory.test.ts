/**
 * What a guest that waits costs the host: GRUB at its prompt in a domain of 128 MiB, everything counted that the command started.
 */
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect } from "vitest";
import { GRUB_PV, itWithGuest } from "../tools/guest-file.ts";
import { PROJECT } from "../tools/hookvisor-run.ts";

const LIMIT_MB = 300;

/** Resident memory of a process and all its children, in units of 10^6 bytes. Linux only. */
function resident(pid: number): number {
  const rss = /VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, "utf8"));
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").split(" ").filter(Boolean);
  return (Number(rss?.[1] ?? 0) * 1024) / 1e6 + children.reduce((sum, child) => sum + resident(Number(child)), 0);
}

describe("memory", () => {
  itWithGuest(`an idle guest of 128 MiB costs the host under ${LIMIT_MB} MB resident`, GRUB_PV, async (kernel) => {
    const bin = join(PROJECT, "core", "node", "bin", "hookvisor.js");
    const child = spawn(process.execPath, [bin, "run", "--kernel", kernel, "--memory", "128"], {
      cwd: PROJECT,
      stdio: ["pipe", "pipe", "ignore"],
    });
    try {
      let printed = "";
      child.stdout.setEncoding("utf8");
      for await (const text of child.stdout) {
        printed += text;
        if (printed.includes("grub>")) break;
      }
      expect(printed).toContain("grub>");
      // The first seconds also hold the compiler's memory, which the host gets back.
      let least = Infinity;
      for (let second = 0; second < 10 && least >= LIMIT_MB; second++) {
        await new Promise((resolve) => setTimeout(resolve, 1000));
        least = Math.min(least, resident(child.pid!));
      }
      expect(least).toBeLessThan(LIMIT_MB);
    } finally {
      child.kill("SIGKILL");
    }
  });
});
