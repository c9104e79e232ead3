/** Recordings: what the recorder makes of a real machine, the file form, walks, bursts for replays, what a trace writer is told. */
import { describe, expect, test } from "vitest";
import { RunState } from "../../../core/domain/vcpu.ts";
import type { TraceWriter } from "../../../plugins/lib-trace/index.ts";
import { RoundRobin } from "../../../plugins/scheduler-round-robin/plugin.ts";
import { feed } from "../../../plugins/toolstack-lab/feed.ts";
import { Recorder } from "../../../plugins/toolstack-lab/recorder.ts";
import { EventKind, forEachRun, forEachState } from "../../../plugins/toolstack-lab/recording.ts";
import { decodeRecording, encodeRecording } from "../../../plugins/toolstack-lab/recording-file.ts";
import { burstsOf } from "../../../plugins/toolstack-lab/replay.ts";
import { hog, Load, periodic } from "../../support/load.ts";
import { makeRecording } from "./make-recording.ts";

const MS = 1e6;

/** A real machine of two pCPUs with two hogs and an I/O domain, recorded. */
function recorded() {
  const load = new Load((host) => new RoundRobin(host), { pcpus: 2 });
  const recorder = new Recorder();
  recorder.tap(load.machine.hooks);
  const domains = [load.domain("hogs", [hog, hog]), load.domain("io", [periodic(1 * MS, 4 * MS)])];
  for (const domain of domains)
    recorder.addDomain(domain, { group: domain.name, pool: 0, values: {} }, { hard: null, soft: null });
  // Load's domains run as soon as they are made: what came before addDomain is made up for here.
  for (const domain of domains)
    for (const vcpu of domain.vcpus) recorder.add(EventKind.runstate, 0, -1, recorder.indexOf(vcpu), 3 * 4 + 1);
  load.run(100 * MS);
  const pcpus = load.machine.pcpus.map(({ id, core, socket, node }) => ({
    id,
    core,
    socket,
    node,
    mhz: 1000,
    pool: 0,
  }));
  const recording = recorder.finish(
    { name: "load", seed: 1, warmUp: 0, pcpus, pools: [], idleStates: [], changes: [] },
    100 * MS,
    null,
  );
  return { load, domains, recording };
}

describe("the recorder", () => {
  const { load, domains, recording } = recorded();

  test("has the run times of the core, to the nanosecond", () => {
    const times = recording.vcpus.map(() => 0);
    forEachRun(recording, (vcpu, pcpu, from, to) => {
      expect(pcpu === 0 || pcpu === 1).toBe(true);
      times[vcpu] = times[vcpu]! + (to - from);
    });
    const real = domains.flatMap((domain) => domain.vcpus.map((vcpu) => load.cpuTime(vcpu)));
    expect(times).toEqual(real);
  });

  test("runstates follow on one another, times never decrease, a pCPU runs one vCPU at a time", () => {
    const { time, extra, vcpu, pcpu } = recording.events;
    const state = recording.vcpus.map(() => 3);
    const on = [-1, -1];
    let last = 0;
    for (let i = 0; i < time.length; i++) {
      expect(time[i]).toBeGreaterThanOrEqual(last);
      last = time[i]!;
      const [from, to] = [extra[i]! >> 2, extra[i]! & 3];
      expect(from).toBe(state[vcpu[i]!]);
      state[vcpu[i]!] = to;
      if (from === 0) {
        expect(on[pcpu[i]!]).toBe(vcpu[i]);
        on[pcpu[i]!] = -1;
      }
      if (to === 0) {
        expect(on[pcpu[i]!]).toBe(-1);
        on[pcpu[i]!] = vcpu[i]!;
      }
    }
  });

  test("stretches of a vCPU lie one after another from 0 to the end", () => {
    const until = recording.vcpus.map(() => 0);
    forEachState(recording, (vcpu, _state, from, to) => {
      expect(from).toBe(until[vcpu]);
      until[vcpu] = to;
    });
    expect(until).toEqual(recording.vcpus.map(() => 100 * MS));
  });

  test("the file form comes back as it was, and is small", () => {
    const bytes = encodeRecording(recording);
    expect(decodeRecording(bytes, "x")).toEqual(recording);
    expect(bytes.length).toBeLessThan(1500 + recording.events.time.length * 10);
  });
});

test("large times, negative numbers and deadlines that never come survive the file form", () => {
  const recording = makeRecording({
    end: 2 ** 52,
    domains: [
      {
        name: "a",
        vcpus: [
          [
            [2 ** 51 + 1, "runnable"],
            [2 ** 52 - 1, "run", 0],
          ],
        ],
      },
    ],
    jobs: [
      { vcpu: 0, release: 2 ** 51, deadline: Infinity, end: 2 ** 52 - 3 },
      { vcpu: 0, release: 5, deadline: 2 ** 40 + 7, end: 2 ** 52 - 1 },
    ],
    more: [{ time: 3, kind: EventKind.pcpuPool, pcpu: 0, extra: -1 }],
  });
  expect(decodeRecording(encodeRecording(recording), "x")).toEqual(recording);
});

test.each([
  ["nothing", (bytes: Uint8Array) => bytes.slice(0, 0)],
  ["the first half", (bytes: Uint8Array) => bytes.slice(0, bytes.length / 2)],
  ["another magic", (bytes: Uint8Array) => Uint8Array.from(bytes, (byte, i) => (i === 0 ? 0 : byte))],
  ["a section too long", (bytes: Uint8Array) => Uint8Array.from(bytes, (byte, i) => (i === 10 ? 255 : byte))],
])("%s of a recording is refused in one sentence", (_what, broken) => {
  const bytes = encodeRecording(makeRecording({ end: 10, domains: [{ name: "a", vcpus: [[[0, "runnable"]]] }] }));
  expect(() => decodeRecording(broken(bytes), "seed-1.hvrec")).toThrow(
    /^Recording seed-1.hvrec cannot be read \(.*\); make it anew/,
  );
});

test("bursts: CPU time between blocks, however often preempted; a hog goes on for ever", () => {
  const recording = makeRecording({
    end: 100,
    domains: [
      {
        name: "a",
        vcpus: [
          [
            [0, "runnable"],
            [10, "run", 0],
            [15, "runnable"],
            [20, "run", 0],
            [30, "blocked"],
            [60, "runnable"],
            [60, "run", 0],
            [70, "blocked"],
            [95, "runnable"],
            [96, "run", 0],
          ],
          [
            [0, "runnable"],
            [15, "run", 0],
            [20, "runnable"],
          ],
          [
            [40, "runnable"],
            [40, "run", 0],
            [45, "blocked"],
          ],
        ],
      },
    ],
  });
  expect(burstsOf(recording)).toEqual([
    // It ran for 5 + 10, was blocked for 30; 10 and 25; 4 of a burst that was under way.
    [
      [15, 30],
      [10, 25],
      [4, 0],
    ],
    [[105, 0]],
    [
      [0, 40],
      [5, 55],
    ],
  ]);
});

test("a trace writer is told what the hooks would have told", () => {
  const recording = makeRecording({
    end: 50,
    domains: [
      {
        name: "a",
        vcpus: [
          [
            [0, "runnable"],
            [0, "run", 0],
            [10, "runnable"],
            [30, "run", 0],
            [40, "blocked"],
          ],
        ],
      },
      {
        name: "b",
        vcpus: [
          [
            [5, "runnable"],
            [10, "run", 0],
            [20, "blocked"],
          ],
        ],
      },
    ],
    jobs: [{ vcpu: 1, release: 5, deadline: 25, end: 20 }],
    more: [{ time: 45, kind: EventKind.frequency, pcpu: 0, extra: 800_000 }],
  });
  const told: string[] = [];
  const tell =
    (what: string) =>
    (...rest: unknown[]): void => {
      told.push([what, ...rest].join(" "));
    };
  const writer = Object.fromEntries(
    ["vcpu", "runstate", "contextSwitch", "frequency", "idleState", "job", "instant", "finish"].map((name) => [
      name,
      tell(name),
    ]),
  ) as unknown as TraceWriter;
  feed(recording, writer);
  expect(told.filter((line) => /contextSwitch|frequency|job|finish/.test(line))).toEqual([
    "contextSwitch 0 -1 0 0",
    "contextSwitch 0 0 1 10",
    "job 1 5 20 25",
    "contextSwitch 0 1 -1 20",
    "contextSwitch 0 -1 0 30",
    "contextSwitch 0 0 -1 40",
    "frequency 0 800 45",
    "finish 50",
  ]);
  expect(told).toContain(`runstate 0 ${RunState.running} ${RunState.blocked} 0 40`);
});
