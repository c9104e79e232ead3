/** Metrics of recordings by hand, against figures worked out by hand. */
import { describe, expect, test } from "vitest";
import { claimOf, FairRates } from "../../../plugins/toolstack-lab/metrics/entitlement.ts";
import { jainIndex } from "../../../plugins/toolstack-lab/metrics/fairness.ts";
import { measure } from "../../../plugins/toolstack-lab/metrics/index.ts";
import { spreadOf } from "../../../plugins/toolstack-lab/metrics/spread.ts";
import { EventKind } from "../../../plugins/toolstack-lab/recording.ts";
import { makeRecording, type Step } from "./make-recording.ts";

const MS = 1e6;

test("percentiles are by the nearest rank", () => {
  expect(spreadOf(new Float64Array(0))).toBeNull();
  expect(spreadOf(Float64Array.from({ length: 1000 }, (_, i) => 1000 - i))).toEqual({
    count: 1000,
    mean: 500.5,
    p50: 500,
    p90: 900,
    p99: 990,
    p999: 999,
    max: 1000,
  });
  expect(spreadOf(Float64Array.of(7))).toMatchObject({ p50: 7, p999: 7, max: 7 });
});

test("Jain's index: 1 where all get what they are due, 1/n where one has it all", () => {
  expect(jainIndex([2, 1], [2, 1])).toBe(1);
  expect(jainIndex([1, 0, 0, 0], [1, 1, 1, 1])).toBe(0.25);
  // (1 + 3)^2 / (2 (1 + 9)) = 0.8
  expect(jainIndex([1, 3], [1, 1])).toBeCloseTo(0.8);
  expect(jainIndex([], [])).toBeNull();
});

describe("entitlement", () => {
  const pool = [{ pool: 0, cpus: [0, 1, 2, 3] }];
  const rates = (
    claims: readonly object[],
    wanting: readonly number[],
    classes: readonly { pool: number; cpus: number[] }[] = pool,
    classOf: readonly number[] = claims.map(() => 0),
  ): number[] => {
    const found = new Float64Array(claims.length);
    const full = claims.map((claim) => ({ ...claimOf({}), ...claim }));
    new FairRates(full, Int32Array.from(classOf), classes).fill(wanting, found);
    return [...found].map((rate) => Number(rate.toFixed(9)));
  };

  test("weights share what is scarce; who wants less leaves the rest to others", () => {
    // 6 vCPUs of weight 2 : 1 on 4 pCPUs: 4 * 2/3 and 4 * 1/3
    expect(rates([{ weight: 2 }, { weight: 1 }], [4, 4])).toEqual([2.666666667, 1.333333333]);
    expect(rates([{}, {}], [1, 1])).toEqual([1, 1]);
    // One vCPU can have one pCPU only, whatever its weight.
    expect(rates([{ weight: 100 }, {}], [1, 8])).toEqual([1, 3]);
    expect(rates([{ cap: 0.5 }, {}], [4, 4])).toEqual([0.5, 3.5]);
    expect(rates([{}, {}], [0, 2])).toEqual([0, 2]);
  });

  test("domains with an affinity get no more than its pCPUs have (Hall's condition)", () => {
    const classes = [
      { pool: 0, cpus: [0] },
      { pool: 0, cpus: [0, 1] },
    ];
    // Two on pCPU 0 only, one on both: a half each, and pCPU 1 for the third.
    expect(rates([{}, {}, {}], [1, 1, 1], classes, [0, 0, 1])).toEqual([0.5, 0.5, 1]);
    // The same with a third that has two vCPUs: the fair level is 2/4 = 0.5 a vCPU, and it may have pCPU 1 whole.
    expect(rates([{}, {}, {}], [1, 1, 2], classes, [0, 0, 1])).toEqual([0.5, 0.5, 1]);
  });

  test("parameters of schedulers as claims", () => {
    expect(claimOf({ weight: 512, cap: 50 })).toEqual({ weight: 512, cap: 0.5, vcpuCap: 1 });
    expect(claimOf({ weight: 256, cap: 0 })).toEqual({ weight: 256, cap: Infinity, vcpuCap: 1 });
    expect(claimOf({ period: 10, budget: 4, extratime: false })).toEqual({ weight: 0.4, cap: Infinity, vcpuCap: 0.4 });
    expect(claimOf({ mcu_advance: 10 }).weight).toBe(0.1);
  });
});

/** Two hogs on one pCPU, turns of 10 and 20 ms: A 1/3, B 2/3. */
function turns(params: { a?: Record<string, number>; b?: Record<string, number> } = {}) {
  const a: [number, "run" | "runnable", number?][] = [[0, "runnable"]];
  const b: [number, "run" | "runnable", number?][] = [[0, "runnable"]];
  for (let t = 0; t < 300 * MS; t += 30 * MS) {
    a.push([t, "run", 0], [t + 10 * MS, "runnable"]);
    b.push([t + 10 * MS, "run", 0], [t + 30 * MS, "runnable"]);
  }
  return makeRecording({
    end: 300 * MS,
    domains: [
      { name: "a", vcpus: [a as never], ...(params.a && { params: params.a }) },
      { name: "b", vcpus: [b as never], ...(params.b && { params: params.b }) },
    ],
  });
}

describe("shares and lag", () => {
  test("equal weights, turns of 10 and 20 ms", () => {
    const metrics = measure(turns());
    const [a, b] = metrics.domains;
    expect([a!.cpu, b!.cpu]).toEqual([100 * MS, 200 * MS]);
    expect([a!.entitled, b!.entitled]).toEqual([150 * MS, 150 * MS]);
    expect(a!.share).toBeCloseTo(1 / 3);
    const error = (window: number | null) => metrics.shareErrors.find((one) => one.window === window);
    // Each window of 10 ms has one domain only: off by a half.
    expect(error(10 * MS)).toEqual({ window: 10 * MS, windows: 30, mean: 0.5, max: 0.5 });
    // Windows of 100 ms begin at 0, 100 and 200: A runs at 0-10, 30-40, 60-70, 90-100 (40 %), then 120, 150, 180 (30 %), then 210, 240, 270 (30 %).
    expect(error(100 * MS)!.mean).toBeCloseTo((0.1 + 0.2 + 0.2) / 3);
    expect(error(null)!.max).toBeCloseTo(1 / 6);
    // A is 5 ms ahead after its first turn; after the last turn of B it is 50 ms behind.
    expect(a!.lagAhead).toBeCloseTo(5 * MS);
    expect(a!.lagBehind).toBeCloseTo(50 * MS);
    expect(metrics.lag).toBeCloseTo(50 * MS);
    expect(metrics.jain).toBeCloseTo((1 + 2) ** 2 / (2 * (1 + 4)));
  });

  test("with weights 1 : 2 the same turns are fair", () => {
    const metrics = measure(turns({ a: { weight: 1 }, b: { weight: 2 } }));
    expect(metrics.shareErrors.at(-1)!.max).toBeCloseTo(0);
    expect(metrics.jain).toBeCloseTo(1);
    // A is ahead by 10 - 10/3 after its turn.
    expect(metrics.lag).toBeCloseTo(10 * MS - (10 / 3) * MS);
  });

  test("who wants less than its share is entitled to all that it wants, and the rest is the others'", () => {
    // 2 ms every 10 ms beside a hog: entitled to 20 %, though it would be due a half.
    const io: [number, "run" | "runnable" | "blocked", number?][] = [];
    const hog: [number, "run" | "runnable", number?][] = [[0, "runnable"]];
    for (let t = 0; t < 100 * MS; t += 10 * MS) {
      io.push([t, "runnable"], [t, "run", 0], [t + 2 * MS, "blocked"]);
      hog.push([t + 2 * MS, "run", 0]);
      if (t < 90 * MS) hog.push([t + 10 * MS, "runnable"]);
    }
    const metrics = measure(
      makeRecording({
        end: 100 * MS,
        domains: [
          { name: "io", vcpus: [io as never] },
          { name: "hog", vcpus: [hog as never] },
        ],
      }),
    );
    expect(metrics.domains[0]!.entitled).toBeCloseTo(20 * MS);
    expect(metrics.domains[1]!.entitled).toBeCloseTo(80 * MS);
    expect(metrics.shareErrors.at(-1)!.max).toBeCloseTo(0);
    // Its 2 ms at once where the fluid machine takes 4 ms: 1 ms ahead.
    expect(metrics.domains[0]!.lagAhead).toBeCloseTo(1 * MS);
    expect(metrics.wake).toMatchObject({ count: 9, max: 0 });
    // Each time the hog waits for 2 ms.
    expect(metrics.preemption).toMatchObject({ count: 9, p50: 2 * MS, max: 2 * MS });
  });

  test("the warm-up is left out", () => {
    const recording = { ...turns(), warmUp: 150 * MS };
    const metrics = measure(recording);
    expect(metrics.time).toBe(150 * MS);
    expect(metrics.domains.map((domain) => domain.cpu)).toEqual([50 * MS, 100 * MS]);
  });

  test("what the experiment says of shares comes before weights", () => {
    const recording = { ...turns(), entitlement: [1, 2] };
    expect(measure(recording).domains.map((one) => Number(one.entitledShare.toFixed(6)))).toEqual([0.333333, 0.666667]);
  });
});

test("a wait that has not ended counts with what it has lasted", () => {
  const metrics = measure(
    makeRecording({
      end: 100 * MS,
      domains: [
        {
          name: "hog",
          vcpus: [
            [
              [0, "runnable"],
              [0, "run", 0],
            ],
          ],
        },
        {
          name: "starved",
          vcpus: [
            [
              [0, "blocked"],
              [40 * MS, "runnable"],
            ],
          ],
        },
      ],
    }),
  );
  expect(metrics.domains[1]!.wake).toMatchObject({ count: 1, max: 60 * MS });
  expect(metrics.domains[1]!.share).toBe(0);
});

test("jobs: misses, tardiness, response", () => {
  const jobs = [
    { vcpu: 0, release: 0, deadline: 10 * MS, end: 5 * MS },
    { vcpu: 0, release: 10 * MS, deadline: 20 * MS, end: 20 * MS },
    { vcpu: 0, release: 20 * MS, deadline: 30 * MS, end: 37 * MS },
    { vcpu: 0, release: 30 * MS, deadline: Infinity, end: 50 * MS },
  ];
  const recording = makeRecording({ end: 60 * MS, domains: [{ name: "a", vcpus: [[]] }], jobs });
  expect(measure(recording).jobs).toMatchObject({
    jobs: 4,
    withDeadline: 3,
    misses: 1,
    tardiness: { count: 1, max: 7 * MS },
    response: { count: 4, max: 20 * MS },
  });
});

test("switches and migrations by distance", () => {
  const places = [
    { core: 0, socket: 0, node: 0 },
    { core: 0, socket: 0, node: 0 },
    { core: 1, socket: 0, node: 0 },
    { core: 2, socket: 1, node: 0 },
    { core: 3, socket: 2, node: 1 },
  ];
  const steps = [0, 1, 2, 3, 4, 4].flatMap((cpu, i) => [
    [i * MS, "run", cpu],
    [(i + 1) * MS, "runnable"],
  ]);
  const recording = makeRecording({
    end: 6 * MS,
    pcpus: 5,
    places,
    domains: [{ name: "a", vcpus: [[[0, "runnable"], ...steps] as never] }],
  });
  expect(measure(recording)).toMatchObject({
    switches: 6,
    migrations: { thread: 1, core: 1, socket: 1, node: 1 },
  });
});

describe("pCPU time", () => {
  test("idle while work waited counts only where the work might run", () => {
    // Two pCPUs; a runs on 0 for 10 ms; b may run on 0 only and waits; c waits from 5 ms on and may run anywhere, while pCPU 1 idles.
    const metrics = measure(
      makeRecording({
        end: 10 * MS,
        pcpus: 2,
        domains: [
          {
            name: "a",
            vcpus: [
              [
                [0, "runnable"],
                [0, "run", 0],
              ],
            ],
          },
          { name: "b", hard: [0], vcpus: [[[0, "runnable"]]] },
          {
            name: "c",
            vcpus: [
              [
                [5 * MS, "runnable"],
                [8 * MS, "run", 1],
              ],
            ],
          },
        ],
      }),
    );
    expect(metrics).toMatchObject({ busy: 12 * MS, capacity: 20 * MS, idleWhileWaiting: 3 * MS });
  });

  test("who has used up its cap does not wait in vain; who is short of it does, for as long as it is short", () => {
    // A cap of 50 %, paid out in periods of 30 ms: 15 ms on the pCPU, 15 ms aside.
    const steps = (run: number): Step[] => [
      [0, "runnable"],
      ...Array.from({ length: 10 }, (_, i): Step[] => [
        [i * 30 * MS, "run", 0],
        [(i * 30 + run) * MS, "runnable"],
      ]).flat(),
    ];
    const idle = (run: number, params: Readonly<Record<string, number | boolean>>): number =>
      measure(makeRecording({ end: 300 * MS, domains: [{ name: "a", params, vcpus: [steps(run)] }] })).idleWhileWaiting;
    expect(idle(15, { cap: 50 })).toBe(0);
    expect(idle(15, {})).toBe(150 * MS);
    // 12 ms in each period are 3 ms short, which its cap would have given it in 6 ms.
    expect(idle(12, { cap: 50 })).toBeCloseTo(60 * MS, -3);
    expect(idle(15, { period: 30, budget: 15, extratime: false })).toBe(0);
    expect(idle(15, { period: 30, budget: 15, extratime: true })).toBe(150 * MS);
  });

  test("a cap that is set in the middle holds back from then on", () => {
    const metrics = measure(
      makeRecording({
        end: 200 * MS,
        domains: [
          {
            name: "a",
            vcpus: [
              [
                [0, "runnable"],
                [50 * MS, "run", 0],
                [130 * MS, "runnable"],
              ],
            ],
          },
        ],
        more: [{ time: 60 * MS, kind: EventKind.params, extra: 1 }],
        tables: {
          params: [
            { domain: 0, values: {} },
            { domain: 0, values: { cap: 50 } },
          ],
        },
      }),
    );
    // 50 ms before it ran, without a cap. Then it ran 70 ms, which its cap gives it in 140: it is held back to the end.
    expect(metrics.idleWhileWaiting).toBe(50 * MS);
  });

  test("a pCPU that is offline has no time to give", () => {
    const metrics = measure(
      makeRecording({
        end: 10 * MS,
        pcpus: 2,
        domains: [
          {
            name: "a",
            vcpus: [
              [
                [0, "runnable"],
                [0, "run", 0],
              ],
              [[0, "runnable"]],
            ],
          },
        ],
        more: [
          { time: 4 * MS, kind: EventKind.pcpuPool, pcpu: 1, extra: -1 },
          { time: 9 * MS, kind: EventKind.pcpuPool, pcpu: 1, extra: 0 },
        ],
      }),
    );
    expect(metrics).toMatchObject({ busy: 10 * MS, capacity: 15 * MS, idleWhileWaiting: 5 * MS });
    // Two pCPUs for 5 ms, one for 5 ms.
    expect(metrics.domains[0]!.entitled).toBeCloseTo(15 * MS);
  });
});

test("energy: a busy pCPU at its highest rate draws 5 W, an idle one 0.8 W, by the model's figures", () => {
  const metrics = measure(
    makeRecording({
      end: 1e9,
      pcpus: 2,
      domains: [
        {
          name: "a",
          vcpus: [
            [
              [0, "runnable"],
              [0, "run", 0],
            ],
          ],
        },
      ],
    }),
  );
  expect(metrics.energy).toBeCloseTo(5.8);
  expect(metrics.domains[0]!.energy).toBeCloseTo(5);
});
