/** Experiment files: what they say, resolved; and each mistake in one sentence with its place. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import {
  chooseParameters,
  combinations,
  loadExperiment,
  readYaml,
} from "../../../plugins/toolstack-lab/experiment/load.ts";
import type { Experiment } from "../../../plugins/toolstack-lab/experiment/model.ts";
import { type ResolveContext, resolveExperiment } from "../../../plugins/toolstack-lab/experiment/resolve.ts";
import { formatCpuSet, formatTime, parseCpuSet, parseTime } from "../../../plugins/toolstack-lab/experiment/values.ts";

const context: ResolveContext = {
  schedulers: ["credit", "credit2"],
  governors: ["performance"],
  types: ["workload", "pv"],
  images: ["hello"],
  image: async () => ({}),
};

const folder = mkdtempSync(join(tmpdir(), "hookvisor-lab-"));
afterAll(() => rmSync(folder, { recursive: true }));

function resolveText(text: string, set: readonly string[] = []): Promise<Experiment> {
  const source = readYaml(text, "e.yaml");
  return resolveExperiment(source, chooseParameters(source, set), context);
}

const DOMAINS = "domains: [{ name: a, workload: { behaviour: hog } }]";

test("durations and sets of pCPUs", () => {
  expect(["10s", "1.5ms", "50us", "3 ns", 0, "2min"].map(parseTime)).toEqual([10e9, 1.5e6, 50e3, 3, 0, 120e9]);
  expect(["10", 10, "x", "-1s", "1e300s", null].map(parseTime)).toEqual([null, null, null, null, null, null]);
  expect([1, 999, 1500, 2e6, 3.25e9].map(formatTime)).toEqual(["1ns", "999ns", "1.5us", "2ms", "3.25s"]);
  expect(parseCpuSet("0-3,^2,7", 8)).toEqual([0, 1, 3, 7]);
  expect(parseCpuSet([1, "4-5"], 8)).toEqual([1, 4, 5]);
  expect(parseCpuSet("all", 3)).toEqual([0, 1, 2]);
  expect(parseCpuSet("0-", 3)).toBeNull();
  expect(parseCpuSet("1-0", 3)).toBeNull();
  expect(formatCpuSet([0, 1, 2, 5, 7, 8])).toBe("0-2,5,7-8");
});

test("the null scheduler needs no quotes", async () => {
  const schedulers = async (text: string): Promise<readonly string[]> => {
    const source = readYaml(`duration: 1s\nmachine: { pcpus: 2 }\n${text}\n${DOMAINS}`, "e.yaml");
    const known = { ...context, schedulers: ["credit", "null"] };
    return (await resolveExperiment(source, chooseParameters(source, []), known)).pools.map((pool) => pool.scheduler);
  };
  expect(await schedulers("scheduler: null")).toEqual(["null"]);
  expect(await schedulers("scheduler: ~")).toEqual(["null"]);
  expect(await schedulers("")).toEqual(["credit"]);
  expect(
    await schedulers("pools: [{ name: p, scheduler: null, cpus: 0 }, { name: q, scheduler: credit, cpus: 1 }]"),
  ).toEqual(["null", "credit"]);
});

test("defaults: one pCPU, no costs, one pool, seed 1", async () => {
  expect(await resolveText(`duration: 1s\n${DOMAINS}`)).toEqual({
    name: "e",
    duration: 1e9,
    warmUp: 0,
    seeds: [1],
    machine: {
      pcpus: 1,
      threadsPerCore: 1,
      coresPerSocket: 1,
      socketsPerNode: 1,
      mhz: 1000,
      costs: { contextSwitch: 0, migration: 0, tickle: 0, warmUp: 0, coldAfter: 0 },
      frequencies: [],
      idleStates: [],
      governor: null,
      quantum: 50_000,
      memoryMiB: 65,
    },
    pools: [
      { name: "Pool-0", scheduler: "credit", cpus: [0], granularity: "cpu", params: {}, replaced: false, entry: null },
    ],
    domains: [
      {
        name: "a",
        group: "a",
        entry: 0,
        type: "workload",
        image: { kind: "workload", text: '{"behaviour":"hog"}', name: "e.yaml:2:32", inline: true, seeded: false },
        extra: "",
        memoryMiB: 1,
        vcpus: 1,
        pool: "Pool-0",
        cpus: null,
        softCpus: null,
        scheduler: {},
        vcpuScheduler: [],
        devices: [],
        script: [],
      },
    ],
    entitlement: null,
    changes: [],
    faults: { lateDispatch: null, loseTimers: 0, coalesceTimers: 0 },
    parameters: {},
  });
});

test("parameters: the first value, --set, combinations with the last varying fastest; a whole text becomes the value itself", async () => {
  const text = `duration: "\${time}"
parameters: { weight: [128, 256], time: [1s, 2s] }
domains: [{ name: "d-\${weight}", scheduler: { weight: "\${weight}" }, workload: { type: hog } }]`;
  const first = await resolveText(text);
  expect([first.duration, first.domains[0]!.name, first.domains[0]!.scheduler]).toEqual([
    1e9,
    "d-128",
    { weight: 128 },
  ]);
  expect((await resolveText(text, ["weight=7"])).domains[0]!.name).toBe("d-7");
  expect(combinations(readYaml(text, "e.yaml").parameters)).toEqual([
    { weight: 128, time: "1s" },
    { weight: 128, time: "2s" },
    { weight: 256, time: "1s" },
    { weight: 256, time: "2s" },
  ]);
});

test("count makes domains of one group; pools, changes in the order of time", async () => {
  const experiment = await resolveText(`duration: 1s
machine: { pcpus: 4, coresPerSocket: 2 }
pools:
  - { name: left, scheduler: credit, cpus: 0-1 }
  - { name: right, scheduler: credit2, cpus: "2,3", granularity: socket }
domains:
  - { name: d, count: 2, vcpus: 2, pool: right, cpus: 3, workload: [{ type: hog }, { type: hog }] }
changes:
  - { at: 20ms, move: { domain: d, pool: left } }
  - { at: 10ms, params: { domain: d-1, weight: 7 } }`);
  expect(experiment.domains.map(({ name, group, pool, cpus }) => [name, group, pool, cpus])).toEqual([
    ["d-1", "d", "right", [3]],
    ["d-2", "d", "right", [3]],
  ]);
  expect(experiment.changes).toEqual([
    { at: 10e6, entry: 1, kind: "domainParams", domain: "d-1", values: { weight: 7 } },
    { at: 20e6, entry: 0, kind: "moveDomain", domain: "d", pool: "left" },
  ]);
});

test("a module: an object, or a function of parameters", async () => {
  const file = join(folder, "e.ts");
  writeFileSync(
    file,
    `export const parameters = { n: [2, 3] };
export default ({ n }: { n: number }) => ({ duration: "1s", domains: [{ name: "a", count: n, workload: { behaviour: "hog" } }] });`,
  );
  const source = await loadExperiment(file);
  const experiment = await resolveExperiment(source, chooseParameters(source, ["n=3"]), context);
  expect(experiment.domains).toHaveLength(3);
  expect(experiment.name).toBe("e");
});

describe("mistakes are one sentence with the place", () => {
  test.each([
    ["duration: 1s\n  x: y", "e.yaml:1:11: this is no YAML"],
    [`duration: 1s\nduration: 2s\n${DOMAINS}`, "e.yaml:2:1: this is no YAML (Map keys must be unique)."],
    [DOMAINS, "e.yaml:1:1: 'duration' is missing; it must be a duration such as 10s, 1.5ms or 50us."],
    [`duration: 5\n${DOMAINS}`, "e.yaml:1:11: 'duration' must be a duration such as 10s, 1.5ms or 50us, got 5."],
    [`duration: 0\n${DOMAINS}`, "e.yaml:1:11: 'duration' must be above 0."],
    [`duration: 1s\nwarmUp: 1s\n${DOMAINS}`, "e.yaml:2:9: 'warmUp' must be shorter than 'duration'."],
    [`duration: 1s\nseeds: [1, 2, 1]\n${DOMAINS}`, "e.yaml:2:15: seed 1 is given twice."],
    [
      `duration: 1s\nscheduler: credit3\n${DOMAINS}`,
      "e.yaml:2:12: no plugin provides scheduler 'credit3'; there are credit, credit2.",
    ],
    [
      `duration: 1s\nmachine: { pcpus: 6, threadsPerCore: 4 }\n${DOMAINS}`,
      "e.yaml:2:38: 6 pCPUs cannot be put into cores of 4 threads without a rest.",
    ],
    [
      `duration: 1s\nmachine: { pcpus: 6, coresPerSocket: 4 }\n${DOMAINS}`,
      "e.yaml:2:38: 6 pCPUs with 1 a core are 6 cores, and these do not fill sockets of 4.",
    ],
    [
      `duration: 1s\nmachine: { governor: fast }\n${DOMAINS}`,
      "e.yaml:2:22: no plugin provides governor 'fast'; there are performance.",
    ],
    [
      `duration: 1s\nmachine: { pcpu: 6 }\n${DOMAINS}`,
      "e.yaml:2:12: there is no key 'pcpu' here; the keys are pcpus, threadsPerCore,",
    ],
    ["duration: 1s\ndomains: []", "e.yaml:2:10: 'domains' must have at least 1 item, got []."],
    [
      "duration: 1s\ndomains: [{ name: a }]",
      "e.yaml:2:11: a domain needs something to run: give 'workload', 'image' or 'kernel'.",
    ],
    ["duration: 1s\ndomains: [{ name: a, workload: x.json }]", "e.yaml:2:32: there is no file x.json."],
    ["duration: 1s\ndomains: [{ name: a, image: nix }]", "e.yaml:2:29: there is no image 'nix'; there is hello."],
    [
      "duration: 1s\ndomains: [{ name: a, workload: { type: hog }, image: hello }]",
      "e.yaml:2:54: 'workload' and 'image' are both given; give one.",
    ],
    [
      "duration: 1s\ndomains: [{ name: a, workload: { type: hog }, pool: b }]",
      "e.yaml:2:53: there is no pool 'b'; there is Pool-0.",
    ],
    [
      "duration: 1s\ndomains: [{ name: a, workload: { type: hog }, cpus: 0-3 }]",
      "e.yaml:2:53: there is no pCPU 3; the machine has pCPU 0 only.",
    ],
    [
      "duration: 1s\ndomains: [{ name: a, workload: { type: hog }, cpus: 1-0 }]",
      "e.yaml:2:53: the range 1-0 is backwards; perhaps 0-1 is meant.",
    ],
    [
      `duration: 1s\nmachine: { idleStates: [{ name: C1, exitLatency: 1us }, { name: C1, exitLatency: 2us }] }\n${DOMAINS}`,
      "e.yaml:2:65: there are two idle states 'C1'.",
    ],
    [
      "duration: 1s\ndomains: [{ name: a, workload: { type: hog }, vcpus: 65 }]",
      "e.yaml:2:54: 'vcpus' must be at most 64, got 65.",
    ],
    [
      `duration: 1s\ndomains:\n  - { name: a, workload: { type: hog } }\n  - { name: a, workload: { type: hog } }`,
      "e.yaml:4:13: there are two domains 'a'",
    ],
    [
      `duration: 1s\npools: [{ name: p, scheduler: credit, cpus: 0 }, { name: q, scheduler: credit, cpus: 0 }]\n${DOMAINS}`,
      "e.yaml:2:86: pCPU 0 is in pool 'p' already.",
    ],
    [`duration: 1s\nchanges: [{ at: 1ms, offline: 1 }]\n${DOMAINS}`, "e.yaml:2:31: there is no pCPU 1"],
    [`duration: 1s\nchanges: [{ at: 1ms }]\n${DOMAINS}`, "e.yaml:2:11: a change is one of offline, online,"],
    [`duration: 1s\nentitlement: { b: 1 }\n${DOMAINS}`, "e.yaml:2:19: there is no domain 'b'; there is a."],
    [`duration: "\${x}"\n${DOMAINS}`, "e.yaml:1:11: there is no parameter 'x'; declare it in 'parameters'."],
    [`duration: 1s\nparameters: { x: 5 }\n${DOMAINS}`, "e.yaml:2:18: 'x' must be a list of values, got 5."],
  ])("%j", async (text, message) => {
    const error: unknown = await (async () => resolveText(text))().catch((e: unknown) => e);
    expect((error as Error).name).toBe("ConfigError");
    expect((error as Error).message).toContain(message);
    expect((error as Error).message).not.toContain("\n");
  });

  test.each([
    ["throws.ts", "throw new Error('no luck');", "cannot be loaded: no luck."],
    ["nothing.ts", "export const x = 1;", "its default export must be an experiment or a function that returns one"],
    [
      "function.ts",
      "export default { duration: '1s', domains: [{ name: 'a', workload: { run() {} } }] };",
      "function.ts: domains[0].workload.run: it must be plain data, and this is a function.",
    ],
    ["made.ts", "export default () => { throw new Error('not today'); };", "its function failed: not today."],
    [
      "wrong.ts",
      "export default { duration: '1s', domains: [{ name: 'a', vcpus: 'two', workload: {} }] };",
      "wrong.ts: domains[0].vcpus: 'vcpus' must be a number, got \"two\".",
    ],
  ])("%s", async (name, text, message) => {
    const file = join(folder, name);
    writeFileSync(file, text);
    await expect(
      (async () => {
        const source = await loadExperiment(file);
        return resolveExperiment(source, chooseParameters(source, []), context);
      })(),
    ).rejects.toThrow(message);
  });

  test("files that are none", async () => {
    await expect(loadExperiment(join(folder, "none.yaml"))).rejects.toThrow("none.yaml: there is no such file.");
    await expect(loadExperiment(folder)).rejects.toThrow("is a folder; give a file that ends in .yaml or .ts.");
    writeFileSync(join(folder, "x.txt"), "");
    await expect(loadExperiment(join(folder, "x.txt"))).rejects.toThrow("its name must end in .yaml");
  });
});
