/** Debian's own xenalyze reads our traces without a complaint, and its runstate totals are core's. */
import { spawnSync } from "node:child_process";
import { chmodSync, copyFileSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it, type TestContext } from "vitest";
import { XentraceWriter } from "../../../plugins/trace-xentrace/writer.ts";
import { guestFile } from "../../tools/guest-file.ts";
import { type TracedLoad, tracedLoad } from "../lib-trace/traced-load.ts";

const XENALYZE = { suite: "bookworm", package: "xen-utils-common", file: "usr/bin/xenalyze" } as const;
const STATES = ["running", "runnable", "blocked", "offline"];

/** By `dDvV` and state: intervals and their average in ticks, as the summary prints them. */
function summary(text: string): Map<string, { count: number; seconds: string; average: number }> {
  const found = new Map<string, { count: number; seconds: string; average: number }>();
  let domain = "";
  let vcpu = "";
  for (const line of text.split("\n")) {
    domain = /^\|-- Domain (\d+) --\|/.exec(line)?.[1] ?? domain;
    vcpu = /^-- v(\d+) --/.exec(line)?.[1] ?? vcpu;
    const state = /^ {1,4}(running|runnable|blocked|offline): +(\d+) +(\d+\.\d+)s +(\d+)/.exec(line);
    if (state !== null)
      found.set(`d${domain}v${vcpu} ${state[1]}`, {
        count: Number(state[2]),
        seconds: state[3]!,
        average: Number(state[4]),
      });
  }
  return found;
}

let folder = "";
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "hookvisor-xenalyze-"));
});
afterAll(() => rmSync(folder, { recursive: true }));

/** The program, or a skip that says why not: it cannot be fetched, or is not for this host. */
async function xenalyze(context: TestContext): Promise<string> {
  const program = join(folder, "xenalyze");
  copyFileSync(await guestFile(context, XENALYZE), program);
  chmodSync(program, 0o755);
  if (spawnSync(program, ["--help"]).status !== 0)
    context.skip("Debian's xenalyze for amd64 does not run on this host");
  return program;
}

/** What xenalyze makes of a trace. */
function analyse(program: string, { bytes }: TracedLoad, ticks: number): ReturnType<typeof summary> {
  const file = join(folder, `${ticks}.xen`);
  writeFileSync(file, bytes);
  const { status, stdout, stderr } = spawnSync(program, [`--cpu-hz=${ticks}G`, "-s", file], { encoding: "utf8" });
  expect(status).toBe(0);
  expect(stderr.split("\n").filter((line) => /strange|skew|fatal|error|not updating to/i.test(line))).toEqual([]);
  return summary(stdout);
}

describe("xenalyze", () => {
  for (const ticks of [1, 16])
    it(`agrees on every runstate total, with ${ticks} ticks a nanosecond`, async (context) => {
      const program = await xenalyze(context);
      const run = tracedLoad((options) => new XentraceWriter({ ...options, ticksPerNanosecond: ticks }));
      const found = analyse(program, run, ticks);
      for (const { domain, vcpu, times, before } of run.truth)
        STATES.forEach((state, i) => {
          const ours = times[i]! - before[i]!;
          const theirs = found.get(`d${domain}v${vcpu} ${state}`) ?? { count: 0, seconds: "0.00", average: 0 };
          // The average is cut to whole ticks, so that the total is known to `count` ticks; a hand-over between pCPUs takes a tick.
          const total = (theirs.average * theirs.count) / ticks;
          expect(Math.abs(total - ours)).toBeLessThanOrEqual((2 * theirs.count) / ticks);
          expect(Math.abs(Number(theirs.seconds) - ours / 1e9)).toBeLessThanOrEqual(0.005001);
        });
    });
});
