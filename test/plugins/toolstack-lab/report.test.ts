/** The report: what its model says of a recording made by hand, and that the page is whole, safe and the same for the same data. */
import { runInNewContext } from "node:vm";
import { expect, test } from "vitest";
import { compare } from "../../../plugins/toolstack-lab/compare.ts";
import type { Experiment } from "../../../plugins/toolstack-lab/experiment/model.ts";
import { measure } from "../../../plugins/toolstack-lab/metrics/index.ts";
import { EventKind, type Recording } from "../../../plugins/toolstack-lab/recording.ts";
import { pageModel, renderReport } from "../../../plugins/toolstack-lab/report/index.ts";
import type { CompareReportData, RunReportData } from "../../../plugins/toolstack-lab/report-data.ts";
import { scalarsOf } from "../../../plugins/toolstack-lab/scalars.ts";

const MS = 1e6;
const NASTY = "a</script><img src=x onerror=alert(1)>";

/** Two vCPUs that take turns of 10 ms on one pCPU, for 100 ms; the second one is late by `late` each time it wakes. */
function recording(seed: number, late: number): Recording {
  const rows: [time: number, vcpu: number, pcpu: number, from: number, to: number][] = [
    [0, 0, -1, 3, 1],
    [0, 0, 0, 1, 0],
    [0, 1, -1, 3, 2],
  ];
  for (let at = 10 * MS; at < 100 * MS; at += 20 * MS) {
    rows.push([at - late, 1, -1, 2, 1], [at, 0, 0, 0, 1], [at, 1, 0, 1, 0]);
    rows.push([at + 10 * MS, 1, 0, 0, 2], [at + 10 * MS, 0, 0, 1, 0]);
  }
  rows.sort((a, b) => a[0] - b[0]);
  const column = <T>(
    make: (length: number) => T & { [i: number]: number },
    pick: (row: (typeof rows)[number]) => number,
  ): T => {
    const made = make(rows.length);
    rows.forEach((row, i) => {
      made[i] = pick(row);
    });
    return made;
  };
  return {
    name: "by-hand",
    seed,
    warmUp: 0,
    end: 100 * MS,
    pcpus: [{ id: 0, core: 0, socket: 0, node: 0, mhz: 1000, pool: 0 }],
    pools: [{ name: "Pool-0", scheduler: "x", granularity: "cpu" }],
    domains: [
      { name: NASTY, group: NASTY, id: 1, type: "workload", pool: 0, vcpus: [0] },
      { name: "b", group: "b", id: 2, type: "workload", pool: 0, vcpus: [1] },
    ],
    vcpus: [
      { domain: 0, id: 0, hard: null, soft: null },
      { domain: 1, id: 0, hard: null, soft: null },
    ],
    params: [
      { domain: 0, values: {} },
      { domain: 1, values: {} },
    ],
    entitlement: null,
    idleStates: [],
    changes: [],
    faults: [],
    events: {
      time: column(
        (n) => new Float64Array(n),
        (row) => row[0],
      ),
      kind: new Uint8Array(rows.length).fill(EventKind.runstate),
      pcpu: column(
        (n) => new Int16Array(n),
        (row) => row[2],
      ),
      vcpu: column(
        (n) => new Int32Array(n),
        (row) => row[1],
      ),
      extra: column(
        (n) => new Int32Array(n),
        (row) => row[3] * 4 + row[4],
      ),
    },
    jobs: { release: new Float64Array(0), deadline: new Float64Array(0), end: new Float64Array(0) },
  };
}

function runs(late: number, kept = true): RunReportData {
  const made = [1, 2, 3].map((seed) => recording(seed, late * seed));
  const experiment = {
    ...{
      name: "by-hand",
      duration: 100 * MS,
      warmUp: 0,
      seeds: [1, 2, 3],
      entitlement: null,
      changes: [],
      parameters: {},
    },
    machine: {
      pcpus: 1,
      threadsPerCore: 1,
      coresPerSocket: 64,
      socketsPerNode: 1,
      mhz: 1000,
      governor: null,
      frequencies: [],
    },
    pools: [{ name: "Pool-0", scheduler: "x", cpus: [0], granularity: "cpu", params: {}, entry: null }],
    domains: made[0]!.domains.map(({ name, group }) => ({ name, group })),
  } as unknown as Experiment;
  const metrics = made.map((one) => measure(one));
  const figures = metrics.map(scalarsOf);
  return {
    kind: "run",
    title: `by-hand: ${NASTY}`,
    command: "hookvisor lab run by-hand.yaml",
    versions: { hookvisor: "0", node: "24" },
    experiment,
    runs: made.map((one, i) => ({ seed: one.seed, metrics: metrics[i]!, recording: kept ? one : null })),
    scalars: figures[0]!.map(({ name, title, unit, better }, i) => ({
      ...{ name, title, unit, better },
      values: figures.map((all) => all[i]!.value),
    })),
  };
}

function compared(): CompareReportData {
  const sides = [runs(1 * MS), runs(2 * MS)] as const;
  const [a, b] = sides.map((data, i) => ({
    name: "ab"[i]!,
    runs: new Map(data.runs.map(({ seed, metrics }) => [seed, scalarsOf(metrics)] as const)),
  }));
  const comparison = compare(a!, b!, []);
  const { title, command, versions } = sides[0];
  return { kind: "compare", title, command, versions, comparison, sides };
}

test("the model: shares, latencies and the timeline are those of the recording", () => {
  const [run] = pageModel(runs(1 * MS)).runs;
  expect(run!.shares.map(({ got, least, most }) => [got, least, most])).toEqual([
    [50, 50, 50],
    [50, 50, 50],
  ]);
  // Waits of 1, 2 and 3 ms, five each.
  const wake = run!.wake.find((curve) => curve.name.startsWith("b "))!;
  expect(wake.name).toBe("b (15)");
  expect(wake.points.map(([at]) => at)).toEqual([1, 2, 3].flatMap((ms) => Array(5).fill(ms * MS)));
  expect(wake.points.at(-1)![1]).toBe(100);
  const timeline = run!.timeline!;
  expect([timeline.whole, timeline.to]).toEqual([true, 100 * MS]);
  expect(timeline.vcpu).toEqual([0, 1, 0, 1, 0, 1, 0, 1, 0, 1]);
  expect(new Set(timeline.length)).toEqual(new Set([10 * MS]));
});

test("a run whose events were not kept says so and shows the rest", () => {
  const [run] = pageModel(runs(1 * MS, false)).runs;
  expect([run!.timeline, run!.wake, run!.shareOverTime]).toEqual([null, [], []]);
  expect(run!.notes[0]).toContain("--keep-events");
  expect(run!.figures.rows.length).toBeGreaterThan(5);
});

test("the page holds all that it needs, names nothing elsewhere, and lets no name of an experiment become markup", async () => {
  for (const data of [runs(1 * MS), compared()]) {
    const page = await renderReport(data);
    expect(page === (await renderReport(data))).toBe(true);
    const markup = page.replaceAll(
      /<script( id="model" type="application\/json")?>.*?<\/script>/gs,
      "<script></script>",
    );
    expect(markup).not.toMatch(/<[^>]*\s(?:src|href)=|@import|url\(/);
    expect(markup.match(/<script>/g)!.length).toBe(3);
    expect(markup.length).toBeLessThan(6000);
  }
});

test("the page's script runs: it draws every chart into an element of its own, and text stays text", async () => {
  for (const data of [runs(1 * MS), compared()]) {
    const page = await renderReport(data);
    const drawn: unknown[] = [];
    const texts: string[] = [];
    const element = (): object => ({
      style: {},
      className: "",
      set textContent(text: string) {
        texts.push(text);
      },
      append: (...children: unknown[]) => texts.push(...children.filter((child) => typeof child === "string")),
    });
    const chart = { setOption: (option: unknown) => drawn.push(option), on: () => {}, resize: () => {} };
    const model = /<script id="model" type="application\/json">(.*?)<\/script>/s.exec(page)![1]!;
    const script = /<script>\n(\/\/ Names.*?)<\/script>/s.exec(page)![1]!;
    const root = element();
    const document = {
      createElement: element,
      getElementById: (id: string) => (id === "model" ? { textContent: model } : root),
    };
    const window = { document, echarts: { init: () => chart }, addEventListener: () => {} };
    runInNewContext(script, { window, document, JSON });
    expect(drawn.length).toBeGreaterThanOrEqual(6);
    expect(texts.includes(NASTY)).toBe(true);
  }
});
