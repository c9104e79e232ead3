/**
 * Three always-busy kernels with weights 256:512:1024 on one pCPU: what share of the time each ran, as --json tells.
 * Shared by the short and the long form of the test.
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { hookvisor, PROJECT } from "../tools/hookvisor-run.ts";

const WEIGHTS = { light: 256, middle: 512, heavy: 1024 };

/** The shares after `seconds` of virtual time at 50 MHz, in the order of the weights. */
export async function shares(seconds: number, timeout: number): Promise<number[]> {
  const folder = mkdtempSync(join(tmpdir(), "hookvisor-shares-"));
  try {
    const kernel = join(PROJECT, "test", "guests", "images", "busy.elf");
    const files = Object.entries(WEIGHTS).map(([name, weight]) => {
      const path = join(folder, `${name}.cfg`);
      const lines = [`name="${name}"`, 'type="pv"', `kernel="${kernel}"`, "memory=16", `cpu_weight=${weight}`];
      writeFileSync(path, [...lines, 'extra="seconds=0 every=0"', ""].join("\n"));
      return path;
    });
    const limits = ["--cpu-mhz", "50", "--pcpus", "1", "--max-time", `${seconds}s`];
    const ran = await hookvisor(["run", ...files, ...limits, "--json"], { timeout });
    const { domains } = JSON.parse(ran.stdout) as { domains: { name: string; cpuNs: number }[] };
    const times = Object.keys(WEIGHTS).map((name) => domains.find((domain) => domain.name === name)?.cpuNs ?? 0);
    const total = times.reduce((sum, time) => sum + time, 0);
    return times.map((time) => time / total);
  } finally {
    rmSync(folder, { recursive: true });
  }
}
