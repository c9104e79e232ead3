/** Traces by the command: `run --xentrace --perfetto`. */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { hookvisor } from "../../tools/hookvisor-run.ts";
import { decodeTracks } from "../trace-perfetto/decode.ts";
import { decodeRecords, runstateTotals } from "../trace-xentrace/decode.ts";

let folder = "";
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "hookvisor-trace-"));
});
afterAll(() => rmSync(folder, { recursive: true }));

test("both formats of one run say the same, and equal runs give equal bytes", async () => {
  const run = async (name: string): Promise<readonly [Buffer, Buffer]> => {
    const args = [
      "run",
      "clock",
      "hello",
      "--json",
      "--max-time",
      "1s",
      "--xentrace",
      `${name}.xen`,
      "--perfetto",
      `${name}.pf`,
    ];
    const ran = await hookvisor(args, { cwd: folder });
    expect(ran.stderr).not.toContain("cannot");
    return [readFileSync(join(folder, `${name}.xen`)), readFileSync(join(folder, `${name}.pf`))];
  };
  const [xen, perfetto] = await run("first");
  expect(await run("second")).toEqual([xen, perfetto]);
  const totals = runstateTotals(decodeRecords(xen), 1);
  const tracks = decodeTracks(perfetto);
  for (const [domain, name] of [
    [1, "clock"],
    [2, "hello"],
  ] as const) {
    const spent = (state: string): number =>
      tracks
        .get(`d${domain} ${name}/vCPU 0`)!
        .slices.filter((slice) => slice.name === state)
        .reduce((sum, { from, to }) => sum + to - from, 0);
    expect(totals.get(`d${domain}v0`)!.times.slice(0, 3)).toEqual(["running", "runnable", "blocked"].map(spent));
    expect(spent("running")).toBeGreaterThan(0);
  }
});

test("a file that cannot be written is one sentence", async () => {
  const ran = await hookvisor(["run", "hello", "--perfetto", "no/such/folder"], { cwd: folder });
  expect(ran.code).toBe(1);
  expect(ran.stderr).toBe("hookvisor: Trace no/such/folder cannot be written: there is no such folder.\n");
});
