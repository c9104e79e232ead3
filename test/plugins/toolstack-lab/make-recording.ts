/** Recordings by hand: what each vCPU did, as a list of runstates. */
import { EventKind, type Recording, type RecordingTables } from "../../../plugins/toolstack-lab/recording.ts";

/** `[time, runstate]` or `[time, "run", pcpu]`, in order of time. */
export type Step = readonly [number, "runnable" | "blocked" | "offline"] | readonly [number, "run", number];

const STATES = { run: 0, runnable: 1, blocked: 2, offline: 3 } as const;

export interface Plan {
  readonly end: number;
  readonly warmUp?: number;
  readonly pcpus?: number;
  /** Numbers of core, socket and node of each pCPU; default: a core each of one socket. */
  readonly places?: readonly { readonly core: number; readonly socket: number; readonly node: number }[];
  readonly domains: readonly {
    readonly name: string;
    readonly params?: Readonly<Record<string, number | boolean>>;
    readonly hard?: readonly number[];
    readonly vcpus: readonly (readonly Step[])[];
  }[];
  readonly jobs?: readonly {
    readonly vcpu: number;
    readonly release: number;
    readonly deadline: number;
    readonly end: number;
  }[];
  /** Other events. */
  readonly more?: readonly {
    readonly time: number;
    readonly kind: EventKind;
    readonly pcpu?: number;
    readonly vcpu?: number;
    readonly extra?: number;
  }[];
  readonly tables?: Partial<RecordingTables>;
}

export function makeRecording(plan: Plan): Recording {
  const rows: { time: number; kind: number; pcpu: number; vcpu: number; extra: number }[] = [];
  const vcpus: { domain: number; id: number; hard: readonly number[] | null; soft: null }[] = [];
  const domains = plan.domains.map(({ name, hard = null, vcpus: all }, domain) => ({
    name,
    group: name,
    id: domain + 1,
    type: "workload",
    pool: 0,
    vcpus: all.map((steps, id) => {
      const index = vcpus.push({ domain, id, hard, soft: null }) - 1;
      let from = 3;
      let where = -1;
      for (const [time, state, cpu = -1] of steps) {
        const to = STATES[state];
        const pcpu = to === 0 ? cpu : from === 0 ? where : -1;
        rows.push({ time, kind: EventKind.runstate, pcpu, vcpu: index, extra: from * 4 + to });
        from = to;
        where = cpu;
      }
      return index;
    }),
  }));
  const jobs = plan.jobs ?? [];
  for (const [i, job] of jobs.entries())
    rows.push({ time: job.end, kind: EventKind.job, pcpu: -1, vcpu: job.vcpu, extra: i });
  for (const { time, kind, pcpu = -1, vcpu = -1, extra = -1 } of plan.more ?? [])
    rows.push({ time, kind, pcpu, vcpu, extra });
  // Who leaves a pCPU leaves before another comes.
  const order = rows.map((row, i) => ({ row, i }));
  const leaves = (row: (typeof rows)[number]): number => (row.kind === 0 && (row.extra & 3) !== 0 ? 0 : 1);
  order.sort((a, b) => a.row.time - b.row.time || leaves(a.row) - leaves(b.row) || a.i - b.i);
  const sorted = order.map(({ row }) => row);
  return {
    name: "by hand",
    seed: 1,
    warmUp: plan.warmUp ?? 0,
    end: plan.end,
    pcpus: Array.from({ length: plan.pcpus ?? 1 }, (_, id) => ({
      id,
      ...(plan.places?.[id] ?? { core: id, socket: 0, node: 0 }),
      mhz: 1000,
      pool: 0,
    })),
    pools: [{ name: "Pool-0", scheduler: "credit", granularity: "cpu" }],
    domains,
    vcpus,
    params: plan.domains.map(({ params = {} }, domain) => ({ domain, values: params })),
    entitlement: null,
    idleStates: [],
    changes: [],
    faults: [],
    ...plan.tables,
    events: {
      time: Float64Array.from(sorted, (row) => row.time),
      kind: Uint8Array.from(sorted, (row) => row.kind),
      pcpu: Int16Array.from(sorted, (row) => row.pcpu),
      vcpu: Int32Array.from(sorted, (row) => row.vcpu),
      extra: Int32Array.from(sorted, (row) => row.extra),
    },
    jobs: {
      release: Float64Array.from(jobs, (job) => job.release),
      deadline: Float64Array.from(jobs, (job) => job.deadline),
      end: Float64Array.from(jobs, (job) => job.end),
    },
  };
}
