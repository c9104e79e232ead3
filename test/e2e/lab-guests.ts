/**
 * The same experiment with real guests and with hogs in their place: weights 256 and 512 on one pCPU under credit2. Shared by the short form (the
 * project's own busy kernel) and the long one (Debian).
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { hookvisor } from "../tools/hookvisor-run.ts";

/** What a domain of the experiment is, as YAML of its entry. */
export type Guest = string;

/** Shares of the two domains, light first. `times`: of the experiment. */
export async function labShares(
  guest: Guest,
  times: { readonly warmUp: string; readonly duration: string; readonly mhz: number },
  timeout: number,
): Promise<number[]> {
  const folder = mkdtempSync(join(tmpdir(), "hookvisor-lab-"));
  try {
    const domain = (name: string, weight: number): string =>
      `  - { name: ${name}, ${guest}, scheduler: { weight: ${weight} } }`;
    const lines = [
      ...[`duration: ${times.duration}`, `warmUp: ${times.warmUp}`, "scheduler: credit2"],
      `machine: { pcpus: 1, mhz: ${times.mhz} }`,
      ...["domains:", domain("light", 256), domain("heavy", 512), ""],
    ];
    writeFileSync(join(folder, "guests.yaml"), lines.join("\n"));
    const ran = await hookvisor(["lab", "run", "guests.yaml", "--out", "out"], { cwd: folder, timeout });
    if (ran.code !== 0) throw new Error(ran.stderr);
    const results = JSON.parse(readFileSync(join(folder, "out", "results.json"), "utf8"));
    return results.points[0].runs[0].metrics.domains.map(({ share }: { share: number }) => share);
  } finally {
    rmSync(folder, { recursive: true });
  }
}
