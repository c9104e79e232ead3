/** `hookvisor lab`: from the command line to folders of results; equal bytes whatever the threads; going on after a break; the mistakes. */
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PassThrough, Writable } from "node:stream";
import { ConfigError } from "hookvisor";
import { afterAll, describe, expect, test } from "vitest";
import { main } from "../../../core/node/main.ts";
import { execute } from "../../../plugins/toolstack-lab/engine/execute.ts";
import { Aborted } from "../../../plugins/toolstack-lab/engine/run.ts";
import { writeWhole } from "../../../plugins/toolstack-lab/engine/task.ts";
import type { Experiment } from "../../../plugins/toolstack-lab/experiment/model.ts";
import { modulePlaces } from "../../../plugins/toolstack-lab/experiment/places.ts";
import { scalarsOf } from "../../../plugins/toolstack-lab/scalars.ts";
import { type StudyPlan, type StudyPoint, type StudyRun, studyKey } from "../../../plugins/toolstack-lab/study.ts";
import { sweepText } from "../../../plugins/toolstack-lab/text.ts";

const folder = mkdtempSync(join(tmpdir(), "hookvisor-lab-"));
afterAll(() => rmSync(folder, { recursive: true }));

class Collector extends Writable {
  text = "";
  override _write(chunk: Buffer | string, _encoding: string, done: () => void): void {
    this.text += chunk.toString();
    done();
  }
}

/** Runs the command in this process. */
async function lab(...argv: readonly string[]) {
  const stdout = new Collector();
  const stderr = new Collector();
  const stdin = new PassThrough();
  stdin.end();
  const code = await main(["lab", ...argv], { stdin, stdout, stderr });
  return { code, stdout: stdout.text, stderr: stderr.text };
}

function file(name: string, text: string): string {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
}

/** Every file of a folder with its content; host.json apart. */
function contents(path: string, below = ""): Readonly<Record<string, string>> {
  return Object.assign(
    {},
    ...readdirSync(join(path, below), { withFileTypes: true }).map((entry) => {
      const name = join(below, entry.name);
      if (entry.isDirectory()) return contents(path, name);
      return name === "host.json" ? {} : { [name]: readFileSync(join(path, name)).toString("base64") };
    }),
  );
}

const results = (path: string) => JSON.parse(readFileSync(join(path, "results.json"), "utf8"));

const shares = file(
  "shares.yaml",
  `name: shares
duration: 2s
warmUp: 200ms
seeds: [1, 2, 3]
machine: { pcpus: 2 }
scheduler: credit2
parameters: { weight: [512, 256] }
domains:
  - { name: big, vcpus: 2, scheduler: { weight: "\${weight}" }, workload: { behaviour: hog } }
  - { name: small, vcpus: 2, scheduler: { weight: 256 }, workload: { behaviour: hog } }
  - { name: io, workload: { behaviour: io, rate: 100, service: 100us, deadline: 5ms } }
`,
);

describe("lab run", () => {
  const out = join(folder, "run");

  test("writes a folder of results and says what matters", async () => {
    const ran = await lab("run", shares, "--out", out, "--jobs", "1", "--trace", "perfetto");
    expect(ran).toMatchObject({ code: 0 });
    expect(ran.stdout).toContain("shares: credit2 on 2 pCPUs, 1.8s measured, 3 seeds");
    expect(readdirSync(out).sort()).toEqual([
      "host.json",
      "manifest.json",
      "metrics.csv",
      "recordings",
      "report.html",
      "results.json",
      "runs.csv",
      "traces",
    ]);
    const [point] = results(out).points;
    expect(point.parameters).toEqual({ weight: 512 });
    expect(point.runs.map((run: { seed: number }) => run.seed)).toEqual([1, 2, 3]);
    for (const { metrics } of point.runs) {
      // What I/O leaves of two pCPUs goes to the hogs 2 : 1.
      const [big, small] = metrics.domains;
      expect(big.cpu / small.cpu).toBeGreaterThan(1.95);
      expect(big.cpu / small.cpu).toBeLessThan(2.05);
      expect(metrics.jobs.jobs).toBeGreaterThan(100);
      expect(metrics.energy).toBeGreaterThan(0);
      expect(metrics.idleWhileWaiting).toBe(0);
    }
    // Seeds matter: arrivals are random.
    expect(new Set(point.runs.map((run: { events: number }) => run.events)).size).toBeGreaterThan(1);
    expect(readFileSync(join(out, "runs.csv"), "utf8").trim().split("\n")).toHaveLength(4);
    expect(readdirSync(join(out, "traces"))).toHaveLength(3);
  });

  test("equal bytes on one thread and on two", async () => {
    const again = join(folder, "again");
    expect(await lab("run", shares, "--out", again, "--jobs", "2", "--trace", "perfetto", "-q")).toMatchObject({
      code: 0,
    });
    const [first, second] = [contents(out), contents(again)];
    expect(Object.keys(second)).toEqual(Object.keys(first));
    for (const name of Object.keys(first)) expect(second[name] === first[name], `${name} differs`).toBe(true);
  });

  test("a replay under the recorded scheduler is the recorded schedule; under another it is another", async () => {
    const same = join(folder, "replay-same");
    expect(await lab("replay", out, "--out", same, "--jobs", "1")).toMatchObject({ code: 0 });
    const cpu = (path: string) =>
      results(path).points[0].runs.map((run: { metrics: { domains: { cpu: number }[] } }) =>
        run.metrics.domains.map((d) => d.cpu),
      );
    expect(cpu(same)).toEqual(cpu(out));
    const other = join(folder, "replay-other");
    expect(await lab("replay", out, "--scheduler", "round-robin", "--out", other, "--seeds", "2")).toMatchObject({
      code: 0,
    });
    expect(results(other).points[0].schedulers).toEqual(["round-robin"]);
    expect(results(other).points[0].runs[0].metrics.jobs).toBeNull();
    const compared = await lab("compare", out, other, "--out", join(folder, "compared"));
    expect(compared.code).toBe(0);
    expect(compared.stdout).toContain("1 pair of runs with equal seeds");
  });
});

test("workers that help give the same runs; given up, nobody goes on", async () => {
  const { experiments } = JSON.parse(readFileSync(join(folder, "run", "manifest.json"), "utf8"));
  const experiment = experiments[0] as Experiment;
  const tasks = [1, 2, 3].map((seed) => ({ experiment, seed, recording: null, mostEvents: 0 }));
  const options = { sources: { folder, config: null, plugins: [] }, jobs: 3, done: () => {} };
  const alone = await execute(tasks, { ...options, jobs: 1 });
  expect(await execute(tasks, { ...options, patience: 0 })).toEqual(alone);
  const stop = new AbortController();
  const done = (): void => stop.abort();
  await expect(execute(tasks, { ...options, jobs: 1, signal: stop.signal, done })).rejects.toThrow(Aborted);
});

describe("a folder that is used again", () => {
  const short = ["--duration", "300ms", "--jobs", "1", "-q"];

  test("has what the last study wrote, and what is the user's own", async () => {
    const out = join(folder, "reused");
    const run = (seeds: string, ...more: string[]) =>
      lab("run", shares, "--out", out, "--seeds", seeds, ...short, ...more);
    expect(await run("1-2", "--trace", "perfetto")).toMatchObject({ code: 0 });
    writeFileSync(join(out, "notes.txt"), "mine");
    expect(await run("3")).toMatchObject({ code: 0 });
    expect(readdirSync(out).sort()).toEqual([
      "host.json",
      "manifest.json",
      "metrics.csv",
      "notes.txt",
      "recordings",
      "report.html",
      "results.json",
      "runs.csv",
    ]);
    expect(readdirSync(join(out, "recordings"))).toEqual(["seed-3.hvrec"]);
    expect(await lab("sweep", shares, "--out", out, "--seeds", "1", ...short)).toMatchObject({ code: 0 });
    expect(readdirSync(out)).not.toContain("report.html");
    expect(readdirSync(out)).not.toContain("recordings");
    expect(readdirSync(join(out, "finished"))).toHaveLength(2);
    const resumed = await lab("sweep", shares, "--out", out, "--seeds", "1,2", ...short.slice(0, -1));
    expect(resumed.stderr).toMatch(/2 of 4 runs are taken over from .*reused/);
    expect(resumed.stderr).toMatch(/2 points with 2 seeds each/);
    expect(await run("3")).toMatchObject({ code: 0 });
    expect(readdirSync(out)).not.toContain("finished");
  });

  test("a run that fails leaves the results before it", async () => {
    const out = join(folder, "kept");
    expect(await lab("run", shares, "--out", out, "--seeds", "1", ...short)).toMatchObject({ code: 0 });
    const before = contents(out);
    const wrong = file(
      "fails.yaml",
      "duration: 1s\nscheduler: rtds\ndomains:\n  - { name: a, scheduler: { period: 5ms, budget: 10ms }, workload: { behaviour: hog } }\n",
    );
    expect(await lab("run", wrong, "--out", out)).toMatchObject({ code: 1 });
    expect(contents(out)).toEqual(before);
  });

  test("what is compared or replayed is never written over", async () => {
    const out = join(folder, "run");
    const before = contents(out);
    for (const argv of [
      ["compare", out, out, "--out", out],
      ["compare", shares, join(out), "--out", out],
      ["replay", out, "--out", out],
    ]) {
      const ran = await lab(...argv, "--jobs", "1");
      expect(ran.code).toBe(1);
      expect(ran.stderr).toMatch(/^hookvisor: Option --out: .* give another folder/);
    }
    expect((await lab("compare", out, join(folder, "kept"), "--out", join(folder, "reused"))).stderr).toContain(
      "is no folder of a comparison",
    );
    const x = join(folder, "x");
    cpSync(out, join(x, "a"), { recursive: true });
    expect((await lab("compare", shares, join(x, "a"), "--out", x)).stderr).toContain("which is to be compared");
    expect(contents(out)).toEqual(before);
  });
});

test("results of other machines, domains and durations are compared with a note", async () => {
  const other = file(
    "other.yaml",
    "duration: 300ms\nmachine: { pcpus: 1 }\nscheduler: credit\ndomains: [{ name: a, workload: { behaviour: hog } }]\n",
  );
  const out = join(folder, "unlike");
  const ran = await lab("compare", join(folder, "run"), other, "--out", out, "--jobs", "1");
  expect(ran.code).toBe(0);
  expect(ran.stderr).toContain("not measured alike: A ran for 2s and B for 300ms\n");
  expect(ran.stderr).toContain("their machines differ in pcpus (2 and 1)");
  expect(ran.stderr).toContain("A's domains are big, small, io and B's a\n");
  expect(readFileSync(join(out, "compare.txt"), "utf8")).toContain(
    "not measured alike: A ran for 2s and B for 300ms\n",
  );
  expect(readFileSync(join(out, "compare.html"), "utf8")).toContain(
    `hookvisor lab compare ${join(folder, "run")} ${other}`,
  );
});

test.skipIf(!existsSync("/dev/full"))("a full disk is one sentence, and leaves no part of a file", async () => {
  const out = join(folder, "full");
  mkdirSync(out);
  symlinkSync("/dev/full", join(out, "report.html.part"));
  expect(() => writeWhole(join(out, "report.html"), "x")).toThrow(
    new ConfigError(`${join(out, "report.html")} cannot be written (ENOSPC: no space is left there).`),
  );
  expect(readdirSync(out)).not.toContain("report.html.part");
});

test("code that is edited goes to another folder; a sweep shows energy where there are rates to choose from", () => {
  const { experiments } = JSON.parse(readFileSync(join(folder, "run", "manifest.json"), "utf8"));
  const experiment = experiments[0] as Experiment;
  const plan: StudyPlan = {
    kind: "run",
    command: "",
    file: "x",
    text: "",
    places: modulePlaces("x"),
    points: [experiment],
  };
  expect(studyKey(plan, "before")).not.toBe(studyKey(plan, "after"));
  expect(studyKey(plan, "before")).toBe(studyKey({ ...plan, command: "other" }, "before"));
  const runs: StudyPoint["runs"] = results(join(folder, "run")).points[0].runs.map((run: StudyRun) => ({
    ...run,
    scalars: scalarsOf(run.metrics),
  }));
  expect(sweepText([{ experiment, runs }])).not.toContain("ENERGY");
  const machine = { ...experiment.machine, frequencies: [500, 1000] };
  expect(sweepText([{ experiment: { ...experiment, machine }, runs }])).toMatch(/ENERGY\n.* J\n$/);
});

test("an ejection is told with its time, seed and line", async () => {
  const plugin = file(
    "bad.ts",
    `import { definePlugin, type Scheduler, type SchedulerHost } from "hookvisor";
const make = (host: SchedulerHost): Scheduler => ({
  insertUnit() {},
  removeUnit() {},
  wake() {},
  sleep() {},
  doSchedule(pcpu) {
    if (host.now() >= 100_000_000) throw new Error("no luck");
    return { unit: pcpu.currentUnit, slice: 100_000_000 };
  },
});
export default definePlugin({
  name: "scheduler-bad",
  api: "^1.0.0",
  apply: ({ hooks }) => hooks.scheduler.for("bad").tap("scheduler-bad", make),
});
`,
  );
  const argv = ["run", shares, "--plugin", plugin, "--scheduler", "bad", "--duration", "300ms", "--jobs", "1"];
  const ran = await lab(...argv, "--out", join(folder, "bad"), "-q");
  expect(ran.code).toBe(0);
  expect(ran.stderr).toMatch(
    /^hookvisor: in 3 of 3 runs, first with seed 1, plugin 'scheduler-bad' was ejected after 100ms \(doSchedule threw: no luck, at .*bad.ts:8\); from then on fifo decided\n$/,
  );
});

test("what can be, and hardly is meant, is noted; what rt-app files have that is ignored, too", async () => {
  file(
    "app2.json",
    '{ "tasks": { "x": { "loop": -1, "priority": 3, "run": 2000, "sleep": 3000 } }, "global": { "duration": 1 } }',
  );
  const path = file(
    "notes.yaml",
    `duration: 300ms
machine: { pcpus: 2, mhz: 1000, frequencies: [800, 1600], idleStates: [{ name: C1, exitLatency: 2us }] }
domains: [{ name: a, count: 2, workload: app2.json }]
changes: [{ at: 100ms, online: 1 }, { at: 1s, offline: 1 }]
`,
  );
  const argv = ["run", path, "--out", join(folder, "notes"), "--seeds", "1,2", "--jobs", "1"];
  const ran = await lab(...argv);
  expect(ran.code).toBe(0);
  const lines = ran.stderr.split("\n").map((line) => line.replaceAll(folder, ""));
  for (const part of [
    "notes.yaml:2:71: idle state 'C1' has no targetResidency",
    "notes.yaml:2:27: 1000 MHz is none of the frequencies, which rule: pCPUs start at 1600 MHz",
    "notes.yaml:4:11: pCPU 1 is online already at 100ms, so nothing changes",
    "notes.yaml:4:37: the change at 1s never happens, since the run ends at 300ms",
    "app2.json: tasks.x.priority: ignored, ",
  ])
    expect(lines.filter((line) => line.includes(part))).toHaveLength(1);
  expect((await lab(...argv, "-q")).stderr).toBe("");
});

test("lab sweep: every combination; finished runs are not run again, and the bytes are the same", async () => {
  const out = join(folder, "sweep");
  const ran = await lab("sweep", shares, "--out", out, "--duration", "500ms", "--jobs", "1");
  expect(ran).toMatchObject({ code: 0 });
  expect(results(out).points.map((point: { parameters: unknown }) => point.parameters)).toEqual([
    { weight: 512 },
    { weight: 256 },
  ]);
  const first = contents(out);
  const finished = join(out, "finished");
  rmSync(join(finished, readdirSync(finished)[0]!));
  rmSync(join(out, "results.json"));
  expect(await lab("sweep", shares, "--out", out, "--duration", "500ms", "--jobs", "1")).toMatchObject({ code: 0 });
  expect(contents(out)).toEqual(first);
  expect(JSON.parse(readFileSync(join(out, "host.json"), "utf8"))).toMatchObject({ ran: 1 });
});

test("lab compare: two schedulers over one experiment, thresholds make the exit code", async () => {
  const out = join(folder, "compare");
  const argv = ["compare", shares, "--scheduler", "credit2", "--scheduler", "round-robin", "--out", out, "--jobs", "1"];
  const ran = await lab(...argv, "--json", "--threshold", "share-error-all=1%");
  expect(ran.code).toBe(2);
  const comparison = JSON.parse(ran.stdout);
  const error = comparison.metrics.find((one: { name: string }) => one.name === "share-error-all");
  expect(error.verdict).toBe("worse");
  expect(comparison.exceeded).toHaveLength(1);
  expect(readdirSync(out).sort()).toEqual(["a", "b", "compare.html", "compare.json", "compare.txt"]);
});

test("faults and changes in the middle: late dispatches are felt, hotplug halves what there is, weights turn", async () => {
  const path = file(
    "faults.yaml",
    `duration: 1s
machine: { pcpus: 2 }
scheduler: credit2
domains:
  - { name: a, vcpus: 2, workload: { behaviour: hog } }
  - { name: b, vcpus: 2, workload: { behaviour: hog } }
changes: [{ at: 250ms, offline: 1 }, { at: 750ms, online: 1 }, { at: 500ms, params: { domain: b, weight: 768 } }]
faults: { lateDispatch: { probability: 0.5, by: 200us }, loseTimers: 0.1, coalesceTimers: 1ms }
`,
  );
  const out = join(folder, "faults");
  expect(await lab("run", path, "--out", out)).toMatchObject({
    code: 0,
    stderr: expect.not.stringContaining("ejected"),
  });
  const { metrics } = results(out).points[0].runs[0];
  expect(metrics.capacity).toBe(1.5e9);
  // 375 ms each before; then 250 ms of one pCPU and 500 ms of two at 1 : 3.
  const [a, b] = metrics.domains;
  expect(a.entitled).toBeCloseTo(375e6 + 62.5e6 + 125e6, -3);
  expect(Math.abs(a.cpu - a.entitled)).toBeLessThan(30e6);
  expect(Math.abs(b.cpu - b.entitled)).toBeLessThan(30e6);
});

test("a real guest takes the place of a workload", async () => {
  const path = file(
    "real.yaml",
    `duration: 300ms
scheduler: credit2
domains:
  - { name: a, image: busy, scheduler: { weight: 512 } }
  - { name: b, image: busy }
`,
  );
  const out = join(folder, "real");
  expect(await lab("run", path, "--out", out)).toMatchObject({ code: 0 });
  const [a, b] = results(out).points[0].runs[0].metrics.domains;
  expect(a.cpu / b.cpu).toBeGreaterThan(1.8);
  expect(a.cpu / b.cpu).toBeLessThan(2.2);
});

describe("mistakes are one sentence", () => {
  const broken = (name: string, text: string): string => file(`${name}.yaml`, text);
  test.each([
    [["run"], "hookvisor lab run needs an experiment file."],
    [[], "Say what to do: hookvisor lab run|compare|sweep|replay"],
    [["walk"], "There is no 'lab walk'; there are run, compare, sweep, replay."],
    [["run", "none.yaml"], "Experiment none.yaml: there is no such file."],
    [["run", shares, "--seeds", "3-1"], "Option --seeds: it must be seeds such as 1-10,20, got '3-1'."],
    [["run", shares, "--jobs", "0"], "Option --jobs: it must be a whole number from 1 to 1024, got '0'."],
    [["run", shares, "--set", "x=1"], "has no parameter 'x'; it has weight."],
    [["run", shares, "--threshold", "lag=5%"], "Option --threshold is for lab compare, not lab run."],
    [["run", shares, "--scheduler", "nix"], "Option --scheduler: no plugin provides scheduler 'nix'; there are "],
    [
      ["run", shares, "--scheduler", "credti"],
      "Option --scheduler: no plugin provides scheduler 'credti'; perhaps credit is meant; there are ",
    ],
    [
      ["compare", shares, shares, "--trace", "perfetto"],
      "Option --trace is for lab run and lab replay, not lab compare.",
    ],
    [["run", shares, "--trace", "x"], "Option --trace: no plugin provides the format 'x'; there are "],
    [
      [
        "run",
        broken(
          "list",
          "duration: 1s\ndomains: [{ name: a, vcpus: 2, workload: [{ behaviour: hog }, { behaviour: hog }, { behaviour: hog }] }]\n",
        ),
      ],
      /list.yaml:2:42: .*; give it 'vcpus: 3'\./,
    ],
    [["compare", shares], "needs a second folder or file, or --scheduler twice (A, then B)."],
    [["replay", "none"], "none has no manifest.json"],
    [["run", shares, "--out", "package.json"], "The folder package.json cannot be made"],
    [["run", shares, "--out", "test"], "test is no folder of results"],
    [
      [
        "run",
        broken(
          "budget",
          "duration: 1s\nscheduler: rtds\ndomains:\n  - { name: a, scheduler: { period: 5ms, budget: 10ms }, workload: { behaviour: hog } }\n",
        ),
      ],
      /budget.yaml:4:27: Scheduler 'rtds' refuses the parameters of .*domain 'a' \(EINVAL\): period=5000000, budget=10000000/,
    ],
    [
      ["run", broken("kind", "duration: 1s\ndomains:\n  - { name: a, workload: { behaviour: nonsense } }\n")],
      /kind.yaml:3:26: the workload: behaviour is "nonsense"/,
    ],
    [
      [
        "run",
        broken(
          "unit",
          "duration: 1s\nscheduler: credit\ndomains:\n  - { name: a, scheduler: { wait: 5 }, workload: { behaviour: hog } }\n",
        ),
      ],
      /unit.yaml:4:27: Scheduler 'credit' has no domain parameter 'wait'; it has weight, cap/,
    ],
  ] as const)("%j", async (argv, message) => {
    const ran = await lab(...argv);
    expect(ran.code).toBe(1);
    expect(ran.stderr.trim().split("\n")).toHaveLength(1);
    if (typeof message === "string") expect(ran.stderr).toContain(message);
    else expect(ran.stderr).toMatch(message);
    expect(existsSync("lab-results")).toBe(false);
  });

  test("a malformed rt-app file is named with its place", async () => {
    writeFileSync(join(folder, "app.json"), '{ "tasks": { "x": { "loop": } } }');
    const ran = await lab(
      "run",
      broken("app", "duration: 1s\ndomains: [{ name: a, workload: app.json }]\n"),
      "--out",
      join(folder, "app"),
    );
    expect(ran.code).toBe(1);
    expect(ran.stderr).toMatch(/app.yaml:2:32: Workload app.json: line 1, column 29: /);
  });
});
