/**
 * What a trial does, as plain data that fast-check makes and shrinks: a machine, domains with behaviours, events at times, and how
 * the scheduler's host misbehaves meanwhile.
 *
 * Everything in a plan is a small number that is taken modulo what there is, so that each plan is possible and each shrunk one too.
 */
import fc from "fast-check";
import { MS } from "./contract.ts";

/** A vCPU: runs `run` ns, sleeps `sleep` ns (0: never), and again. Affinities are bit masks of pCPUs; 0: all. */
export interface VcpuPlan {
  readonly run: number;
  readonly sleep: number;
  readonly hard: number;
  readonly soft: number;
}

/** What can happen in the middle. */
export const EVENTS = [
  "pause",
  "unpause",
  "yield",
  "pauseDomain",
  "unpauseDomain",
  "affinity",
  "offline",
  "online",
  "move",
  "create",
  "destroy",
  "replace",
  "domainParam",
  "unitParam",
  "poolParam",
] as const;
export type EventKind = (typeof EVENTS)[number];

/** `a`, `b`: whom it concerns; `x`: a value, 0 to 1023. */
export interface EventPlan {
  readonly at: number;
  readonly what: EventKind;
  readonly a: number;
  readonly b: number;
  readonly x: number;
}

/** How the host misbehaves, from `from` for `length` ns. Each is 0 when it does not. */
export interface Disturbance {
  readonly from: number;
  readonly length: number;
  /** doSchedule comes later than the slice ends, by up to this. */
  readonly dispatch: number;
  /** Tickles arrive later, by up to this. */
  readonly tickle: number;
  /** Timers fire later, by up to this. */
  readonly late: number;
  /** Timers fire together, at multiples of this. */
  readonly coalesce: number;
  /** One timer in so many is lost: it fires with the next timer that does, at the end of the disturbance at the latest. */
  readonly lost: number;
  readonly seed: number;
}

export interface Plan {
  readonly cores: number;
  readonly threads: number;
  readonly coresPerSocket: number;
  readonly granularity: "cpu" | "core";
  /** vCPUs are run in one piece, else in quanta. */
  readonly lazy: boolean;
  /** The last core is in a second pool. */
  readonly second: boolean;
  readonly domains: readonly (readonly VcpuPlan[])[];
  readonly events: readonly EventPlan[];
  readonly disturbance: Disturbance | null;
}

/** The time in which things happen. */
export const LENGTH = 200 * MS;

const vcpu: fc.Arbitrary<VcpuPlan> = fc.record({
  run: fc.oneof(fc.integer({ min: 20_000, max: 2 * MS }), fc.integer({ min: 1 * MS, max: 40 * MS })),
  sleep: fc.oneof(fc.constant(0), fc.integer({ min: 20_000, max: 2 * MS }), fc.integer({ min: 1 * MS, max: 40 * MS })),
  hard: fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 255 })),
  soft: fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 255 })),
});

function events(kinds: readonly EventKind[]): fc.Arbitrary<EventPlan[]> {
  return fc.array(
    fc.record({
      at: fc.integer({ min: 0, max: LENGTH }),
      what: fc.constantFrom(...kinds),
      a: fc.nat(63),
      b: fc.nat(255),
      x: fc.nat(1023),
    }),
    { maxLength: 24, size: "max" },
  );
}

const disturbance: fc.Arbitrary<Disturbance> = fc.record({
  from: fc.integer({ min: 0, max: LENGTH / 2 }),
  length: fc.integer({ min: 1 * MS, max: LENGTH / 2 }),
  dispatch: fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 30 * MS })),
  tickle: fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 5 * MS })),
  late: fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 20 * MS })),
  coalesce: fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 20 * MS })),
  lost: fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 5 })),
  seed: fc.nat(1023),
});

/** Plans with these events; `disturbed`: with a host that misbehaves; `lazy`: in one piece only, else as it comes. */
export function plans(
  kinds: readonly EventKind[],
  options: { readonly disturbed?: boolean; readonly lazy?: boolean } = {},
): fc.Arbitrary<Plan> {
  return fc.record({
    cores: fc.integer({ min: 1, max: 4 }),
    threads: fc.integer({ min: 1, max: 2 }),
    coresPerSocket: fc.integer({ min: 1, max: 4 }),
    granularity: fc.constantFrom("cpu" as const, "cpu" as const, "core" as const),
    lazy: options.lazy === true ? fc.constant(true) : fc.boolean(),
    second: kinds.includes("move") ? fc.boolean() : fc.constant(false),
    domains: fc.array(fc.array(vcpu, { minLength: 1, maxLength: 4 }), { minLength: 1, maxLength: 6 }),
    events: events(kinds),
    disturbance: options.disturbed === true ? disturbance : fc.constant(null),
  });
}

/** Events that change no parameter. */
export const PLAIN_EVENTS = EVENTS.filter((kind) => !kind.endsWith("Param"));
