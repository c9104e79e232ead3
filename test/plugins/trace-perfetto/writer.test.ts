/**
 * A Perfetto trace, read back by the protobuf library. Perfetto's own trace_processor is no Debian package and cannot be asked here;
 * the reader checks what it demands: interned names before their use, parents before children, slices that never overlap.
 */
import fc from "fast-check";
import { expect, test } from "vitest";
import { Schedutil } from "../../../plugins/governor-schedutil/schedutil.ts";
import { Packets } from "../../../plugins/trace-perfetto/packets.ts";
import { SummedCounter } from "../../../plugins/trace-perfetto/sum.ts";
import { PerfettoWriter } from "../../../plugins/trace-perfetto/writer.ts";
import { IDLE_STATES } from "../lib-governor/fake-host.ts";
import { tracedLoad } from "../lib-trace/traced-load.ts";
import { decodeTracks } from "./decode.ts";

test("slices of vCPUs and pCPUs add up to core's runstate times", () => {
  const { bytes, truth, load } = tracedLoad((options) => new PerfettoWriter(options));
  const tracks = decodeTracks(bytes);
  const onPcpus = new Map<string, number>();
  for (const pcpu of [0, 1, 2]) {
    let last = 0;
    for (const { name, from, to } of tracks.get(`pCPUs/pCPU ${pcpu}`)!.slices) {
      expect(from).toBeGreaterThanOrEqual(last);
      last = to;
      onPcpus.set(name, (onPcpus.get(name) ?? 0) + to - from);
    }
  }
  for (const { domain, vcpu, times } of truth) {
    const { name } = load.domains[domain - 1]!;
    const { slices } = tracks.get(`d${domain} ${name}/vCPU ${vcpu}`)!;
    ["running", "runnable", "blocked"].forEach((state, i) => {
      const total = slices.filter((s) => s.name === state).reduce((sum, s) => sum + s.to - s.from, 0);
      expect(total).toBe(times[i]);
    });
    expect(onPcpus.get(`${name} v${vcpu}`)).toBe(times[0]);
    expect(slices.every((s) => (s.name === "running") === (s.pcpu !== undefined))).toBe(true);
  }
  const { values } = tracks.get("runnable vCPUs")!;
  expect(Math.max(...values.map((v) => v.value))).toBeLessThanOrEqual(truth.length);
  expect(values.at(-1)!.value).toBe(load.pool.runnable);
});

test("a governed machine, in cores of two threads: rates and idle states fit to what runs", () => {
  const frequencies = [500, 1000];
  const { bytes, end } = tracedLoad((options) => new PerfettoWriter(options), {
    pcpus: 4,
    config: { threadsPerCore: 2, granularity: "core", frequencies, idleStates: IDLE_STATES },
    before: (load) => {
      for (const pcpu of load.machine.pcpus)
        load.scheduling.govern(pcpu, { name: "test", plugin: "test", make: (host) => new Schedutil(host) });
    },
  });
  const tracks = decodeTracks(bytes);
  for (let pcpu = 0; pcpu < 4; pcpu++) {
    const states = tracks.get(`pCPUs/pCPU ${pcpu} idle state`)?.slices ?? [];
    const runs = tracks.get(`pCPUs/pCPU ${pcpu}`)!.slices;
    for (const state of states) {
      expect(state.to).toBeLessThanOrEqual(end);
      expect(runs.every((run) => run.to <= state.from || run.from >= state.to)).toBe(true);
    }
    for (const { value } of tracks.get(`pCPUs/pCPU ${pcpu} rate`)?.values ?? []) expect(frequencies).toContain(value);
  }
  expect(tracks.has("pCPUs/pCPU 0 rate")).toBe(true);
  expect([...tracks.keys()].some((path) => path.endsWith("idle state"))).toBe(true);
});

test("rates, idle states, jobs and marks", () => {
  const chunks: Uint8Array[] = [];
  const writer = new PerfettoWriter({ pcpus: 2, sink: (bytes) => chunks.push(bytes) });
  writer.vcpu(0, 7, "web", 0, 3, 0);
  writer.frequency(1, 2400, 5);
  writer.idleState(1, 2, 10);
  writer.idleState(1, -1, 30);
  writer.idleState(1, 0, 40);
  writer.job(0, 100, 2 ** 40, 2 ** 39);
  writer.job(0, 2 ** 40, 2 ** 40 + 50, Number.POSITIVE_INFINITY);
  writer.instant("plugin 'x': it threw", -1, 2 ** 41);
  writer.instant("here", 0, 2 ** 41);
  writer.finish(2 ** 42);
  const tracks = decodeTracks(Buffer.concat(chunks));
  expect(tracks.get("pCPUs/pCPU 1 rate")).toMatchObject({ unit: "MHz", values: [{ now: 5, value: 2400 }] });
  expect(tracks.get("pCPUs/pCPU 1 idle state")!.slices).toEqual([
    { name: "idle state 2", from: 10, to: 30, pcpu: undefined },
    { name: "idle state 0", from: 40, to: 2 ** 42, pcpu: undefined },
  ]);
  expect(tracks.get("web v0 response time")!.values.map((v) => v.value)).toEqual([2 ** 40 - 100, 50]);
  expect(tracks.get("d7 web/vCPU 0")!.instants.map((i) => i.name)).toEqual(["deadline missed", "here"]);
  expect(tracks.get("marks")!.instants).toEqual([{ now: 2 ** 41, name: "plugin 'x': it threw" }]);
});

test("a sum of changes that come out of order is right at every instant", () => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.integer({ min: 0, max: 50_000 }), fc.constantFrom(-1, 1)), { minLength: 1, maxLength: 300 }),
      fc.integer({ min: 1, max: 100 }),
      (changes, repeat) => {
        const told: { value: number; now: number }[] = [];
        const sum = new SummedCounter((value, now) => told.push({ value, now }));
        const all: { time: number; delta: number }[] = [];
        for (let r = 0; r < repeat; r++)
          changes.forEach(([jitter, delta], i) => {
            const time = (r * changes.length + i) * 20_000 + jitter;
            all.push({ time, delta });
            sum.add(delta, time);
          });
        sum.finish();
        expect(told.map((t) => t.now)).toEqual([...new Set(told.map((t) => t.now))].sort((a, b) => a - b));
        all.sort((a, b) => a.time - b.time);
        let value = 0;
        let at = 0;
        for (const { value: got, now } of told) {
          while (at < all.length && all[at]!.time <= now) value += all[at++]!.delta;
          expect(got).toBe(value);
        }
      },
    ),
    { numRuns: 60 },
  );
});

test("numbers of every size, and a file of many chunks", () => {
  const chunks: Uint8Array[] = [];
  const packets = new Packets((bytes) => chunks.push(bytes));
  const track = packets.track({ name: "n", unit: "" });
  const values = [0, 1, 127, 128, 16_383, 16_384, 2 ** 31 - 1, 2 ** 31, 2 ** 32, 2 ** 45 + 1, 2 ** 52];
  for (const value of values) packets.counter(track, value, value);
  const more = Array.from({ length: 20_000 }, (_, i) => 2 ** 53 - 30_000 + i);
  for (const now of more) packets.counter(track, 3, now);
  packets.instant(packets.track({ name: "long" }), "x".repeat(300_000), 1);
  packets.flush();
  expect(chunks.length).toBeGreaterThan(2);
  const tracks = decodeTracks(Buffer.concat(chunks));
  expect(tracks.get("n")!.values.slice(0, values.length)).toEqual(values.map((value) => ({ now: value, value })));
  expect(tracks.get("n")!.values.length).toBe(values.length + more.length);
  expect(tracks.get("long")!.instants[0]!.name.length).toBe(300_000);
});
