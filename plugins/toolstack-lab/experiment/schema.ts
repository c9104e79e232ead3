/**
 * What an experiment file may say (zod), and its complaints in plain words.
 *
 * The schema checks shapes; what depends on other parts of the file (pCPUs that exist, names of pools and domains) is resolve.ts's.
 * Invariant: an unknown key is an error.
 */
import { z } from "zod";
import { WrongAt } from "./places.ts";
import { parseTime, showValue } from "./values.ts";

/** A duration: a text with a unit, or 0. */
const time = z.unknown().transform((value, context) => {
  const ns = parseTime(value);
  if (ns !== null) return ns;
  context.addIssue({ code: "custom", message: "must be a duration such as 10s, 1.5ms or 50us" });
  return z.NEVER;
});

const name = z.string().regex(/^[^\s:/\\]{1,60}$/, "must be 1 to 60 characters without blanks, ':' or slashes");
const count = z.number().min(0);
const cpus = z.union([z.string(), z.int().min(0), z.array(z.union([z.string(), z.int().min(0)]))]);
const scalar = z.union([z.number(), z.boolean(), z.string()]);
const params = z.record(z.string(), z.union([scalar, z.array(z.record(z.string(), scalar))]));
const parameterValue = z.union([z.string(), z.number(), z.boolean()]);

const machine = z.strictObject({
  pcpus: z.int().min(1).max(4096).default(1),
  threadsPerCore: z.int().min(1).max(4096).default(1),
  coresPerSocket: z.int().min(1).max(4096).optional(),
  socketsPerNode: z.int().min(1).max(4096).default(1),
  mhz: z.number().positive().max(100_000).default(1000),
  costs: z
    .strictObject({
      contextSwitch: count.default(0),
      migration: count.default(0),
      tickle: count.default(0),
      warmUp: count.default(0),
      coldAfter: time.default(0),
    })
    .prefault({}),
  frequencies: z.array(z.number().positive().max(100_000)).default([]),
  idleStates: z
    .array(z.strictObject({ name: z.string().min(1), exitLatency: time, targetResidency: time.default(0) }))
    .default([]),
  governor: z.string().min(1).optional(),
  quantum: time.default(50_000),
  memory: z.int().min(1).max(4096).optional(),
});

/** YAML reads the name of the null scheduler as no value. */
const named = (value: unknown): unknown => (value === null ? "null" : value);

const pool = z.strictObject({
  name,
  scheduler: z.preprocess(named, z.string().min(1)),
  cpus,
  granularity: z.enum(["cpu", "core", "socket"]).default("cpu"),
  params: params.default({}),
});

const step = z.union([z.strictObject({ expect: z.string().min(1) }), z.strictObject({ send: z.string().min(1) })]);

const domain = z.strictObject({
  name,
  count: z.int().min(1).max(30_000).default(1),
  vcpus: z.int().min(1).max(64).optional(),
  pool: name.optional(),
  cpus: cpus.optional(),
  softCpus: cpus.optional(),
  scheduler: params.default({}),
  vcpuScheduler: z.array(params).default([]),
  workload: z
    .union([z.string().min(1), z.record(z.string(), z.unknown()), z.array(z.record(z.string(), z.unknown())).min(1)])
    .optional(),
  image: z.string().min(1).optional(),
  kernel: z.string().min(1).optional(),
  ramdisk: z.string().min(1).optional(),
  extra: z.string().optional(),
  type: z.string().min(1).optional(),
  memory: z.int().min(1).max(4096).optional(),
  devices: z.array(z.strictObject({ type: z.string().min(1), spec: z.string() })).default([]),
  input: z.union([z.string().min(1), z.array(step)]).optional(),
});

const change = z.strictObject({
  at: time,
  offline: z.int().min(0).optional(),
  online: z.int().min(0).optional(),
  params: params.optional(),
  move: z.strictObject({ domain: name.optional(), pcpu: z.int().min(0).optional(), pool: name }).optional(),
  pause: name.optional(),
  unpause: name.optional(),
});

const faults = z.strictObject({
  lateDispatch: z.strictObject({ probability: z.number().min(0).max(1), by: time }).optional(),
  loseTimers: z.number().min(0).max(1).default(0),
  coalesceTimers: time.default(0),
});

const experiment = z.strictObject({
  name: name.optional(),
  duration: time,
  warmUp: time.default(0),
  seeds: z.array(z.int().min(0).max(0xffff_ffff)).min(1).default([1]),
  machine: machine.prefault({}),
  scheduler: z.preprocess(named, z.string().min(1)).optional(),
  params: params.optional(),
  pools: z.array(pool).min(1).optional(),
  domains: z.array(domain).min(1),
  entitlement: z.record(name, z.number().min(0)).optional(),
  changes: z.array(change).default([]),
  faults: faults.prefault({}),
  parameters: z.record(z.string().regex(/^[A-Za-z_]\w*$/), z.array(parameterValue).min(1)).default({}),
});

/** What a file says, checked. */
export type ExperimentFile = z.output<typeof experiment>;
export type DomainFile = z.output<typeof domain>;
/** What a person writes. */
export type ExperimentInput = z.input<typeof experiment>;

/** Checks; throws WrongAt with the first complaint. */
export function checkShape(value: unknown): ExperimentFile {
  const result = experiment.safeParse(value);
  if (result.success) return result.data;
  throw wrong(result.error.issues[0]!, value, []);
}

/** Keys of the object that a path names. */
const SHAPES: Readonly<Record<string, readonly string[]>> = {
  "": Object.keys(experiment.shape),
  machine: Object.keys(machine.shape),
  "machine.costs": ["contextSwitch", "migration", "tickle", "warmUp", "coldAfter"],
  "machine.idleStates": ["name", "exitLatency", "targetResidency"],
  pools: Object.keys(pool.shape),
  domains: Object.keys(domain.shape),
  changes: Object.keys(change.shape),
  "changes.move": ["domain", "pcpu", "pool"],
  faults: Object.keys(faults.shape),
  "faults.lateDispatch": ["probability", "by"],
};

function wrong(issue: z.core.$ZodIssue, input: unknown, outer: readonly (string | number)[]): WrongAt {
  const path = [...outer, ...issue.path.map((part) => (typeof part === "number" ? part : String(part)))];
  const got = path.reduce<unknown>(
    (value, part) => (value as Readonly<Record<string | number, unknown>> | null | undefined)?.[part],
    input,
  );
  const key = path.at(-1);
  const what =
    key === undefined
      ? "an experiment"
      : typeof key === "number"
        ? `item ${key + 1} of '${String(path.at(-2))}'`
        : `'${key}'`;
  if (issue.code === "unrecognized_keys") {
    const keys = SHAPES[path.filter((part) => typeof part === "string").join(".")];
    return new WrongAt(
      [...path, issue.keys[0]!],
      `there is no key '${issue.keys[0]}' here${keys === undefined ? "" : `; the keys are ${keys.join(", ")}`}`,
    );
  }
  if (got === undefined && key !== undefined)
    return new WrongAt(path.slice(0, -1), `${what} is missing; it ${expected(issue)}`);
  return new WrongAt(path, `${what} ${expected(issue)}, got ${showValue(got)}`);
}

function expected(issue: z.core.$ZodIssue): string {
  switch (issue.code) {
    case "invalid_type":
      return `must be ${article(issue.expected)}`;
    case "too_small":
      return issue.origin === "array"
        ? `must have at least ${issue.minimum} item${issue.minimum === 1 ? "" : "s"}`
        : issue.origin === "string"
          ? "must not be empty"
          : `must be ${issue.inclusive === false ? "above" : "at least"} ${issue.minimum}`;
    case "too_big":
      return `must be at most ${issue.maximum}`;
    case "invalid_value":
      return `must be one of ${issue.values.join(", ")}`;
    case "invalid_union": {
      const kinds = issue.errors.flatMap((issues) => issues.slice(0, 1).map(expected));
      return `must be ${[...new Set(kinds.map((kind) => kind.replace(/^must be /, "")))].join(" or ")}`;
    }
    default:
      return issue.message.startsWith("must") ? issue.message : `is wrong (${issue.message})`;
  }
}

function article(kind: string): string {
  const names: Readonly<Record<string, string>> = {
    int: "a whole number",
    string: "a text",
    record: "an object",
    array: "a list",
    boolean: "true or false",
  };
  return names[kind] ?? `a${/^[aeiou]/.test(kind) ? "n" : ""} ${kind}`;
}
