/**
 * A Perfetto trace, read back by the protobuf library. Perfetto's own trace_processor is neither in Debian nor in npm, so that it cannot be asked here;
 * the reader checks what it demands: interned names before their use, parents before children, slices that never overlap.
 */
import { expect, test } from "vitest";
import { Packets } from "../../../plugins/trace-perfetto/packets.ts";
import { PerfettoWriter } from "../../../plugins/trace-perfetto/writer.ts";
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
