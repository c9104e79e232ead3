/** The bytes of a Xen trace: a reader of our own finds exactly the runstate times that core accounts. */
import { expect, test } from "vitest";
import type { TraceOptions } from "../../../plugins/lib-trace/index.ts";
import { XentraceWriter } from "../../../plugins/trace-xentrace/writer.ts";
import { tracedLoad } from "../lib-trace/traced-load.ts";
import { decodeRecords, runstateTotals } from "./decode.ts";

const NO_COSTS = { contextSwitch: 0, migration: 0, tickle: 0, warmUp: 0, coldAfter: 0 };

for (const [what, pcpus, config] of [
  ["in quanta", 3, {}],
  ["lazily", 3, { lazy: true }],
  ["in cores of two threads", 4, { threadsPerCore: 2, granularity: "core" }],
  ["in cores, lazily, at no cost", 4, { threadsPerCore: 2, granularity: "core", lazy: true, costs: NO_COSTS }],
] as const)
  test(`with 16 ticks a nanosecond every total is exact, in every state, of every vCPU; run ${what}`, () => {
    const open = (options: TraceOptions): XentraceWriter => new XentraceWriter({ ...options, ticksPerNanosecond: 16 });
    const { bytes, truth, end } = tracedLoad(open, { pcpus, config });
    const totals = runstateTotals(decodeRecords(bytes), 16);
    for (const { domain, vcpu, times, before } of truth) {
      const got = totals.get(`d${domain}v${vcpu}`)!;
      expect(got.times).toEqual(times);
      expect(got.sinceFirstRun).toEqual(times.map((time, i) => time - before[i]!));
    }
    const busy = truth.reduce((sum, { times }) => sum + times[0]!, 0);
    let idle = 0;
    for (let pcpu = 0; pcpu < pcpus; pcpu++) {
      const { times } = totals.get(`d32767v${pcpu}`)!;
      expect(times.reduce((a, b) => a + b)).toBe(end);
      idle += times[0];
    }
    expect(busy + idle).toBe(pcpus * end);
  });

test("with one tick a nanosecond a hand-over between pCPUs at one instant takes one", () => {
  const { bytes, truth } = tracedLoad((options) => new XentraceWriter(options));
  const totals = runstateTotals(decodeRecords(bytes), 1);
  for (const { domain, vcpu, times } of truth) {
    const got = totals.get(`d${domain}v${vcpu}`)!;
    const switches = got.counts[0] + got.counts[1] + got.counts[2];
    times.forEach((time, i) => {
      expect(Math.abs(got.times[i]! - time)).toBeLessThanOrEqual(switches);
    });
  }
});

test("a long trace is handed over in epochs, of the same content", () => {
  const chunks: Uint8Array[] = [];
  const writer = new XentraceWriter({ pcpus: 2, sink: (bytes) => chunks.push(bytes) });
  writer.vcpu(0, 1, "one", 0, 2, 0);
  let now = 0;
  for (let i = 0; i < 80_000; i++) {
    const pcpu = (i >> 3) & 1;
    writer.runstate(0, 2, 1, -1, now);
    writer.runstate(0, 1, 0, pcpu, now + 1000);
    writer.contextSwitch(pcpu, -1, 0, now + 1000);
    now += 3000;
    writer.runstate(0, 0, 2, pcpu, now);
    writer.contextSwitch(pcpu, 0, -1, now);
  }
  writer.finish(now);
  expect(chunks.length).toBeGreaterThan(2);
  const totals = runstateTotals(decodeRecords(Buffer.concat(chunks)), 1).get("d1v0")!;
  expect(totals.counts[0]).toBe(80_000);
  expect(totals.times[0]).toBe(160_000_000);
});

test("rates, idle states and what does not fit", () => {
  const chunks: Uint8Array[] = [];
  const writer = new XentraceWriter({ pcpus: 1, sink: (bytes) => chunks.push(bytes) });
  writer.frequency(0, 800, 10);
  writer.frequency(0, 1600, 20);
  writer.idleState(0, 2, 30);
  writer.idleState(0, -1, 40);
  writer.vcpu(0, 0x7ff1, "too high", 0, 3, 0);
  writer.runstate(0, 3, 1, -1, 50);
  writer.finish(60);
  const records = decodeRecords(Buffer.concat(chunks)).map(({ event, tsc, data }) => [
    event,
    Number(tsc) - 1e9,
    ...data,
  ]);
  expect(records).toEqual([
    [0x21002, 0, 0x7fff0000],
    [0x801001, 10, 0, 800],
    [0x801001, 20, 800, 1600],
    [0x801002, 30, 2],
    [0x801003, 40, 2],
    [0x21002, 60, 0x7fff0000],
  ]);
  expect(() => new XentraceWriter({ pcpus: 1, sink: () => {}, ticksPerNanosecond: 3 })).toThrow(/1, 2, 4, 8 or 16/);
});
