/**
 * Parameters of the ARINC 653 scheduler (public/sysctl.h, xen_sysctl_arinc653_schedule), and the check that spans them.
 */
import { type Nanoseconds, type ParamSpecs, type ParamValue, xen } from "hookvisor";

/** Xen: ARINC653_MAX_DOMAINS_PER_SCHEDULE. */
const MAX_ROWS = 64;
/** A day: sums of 64 of it are exact. */
const LONGEST: Nanoseconds = 86_400_000_000_000;

/** A shorter window is refused: a guest gets nothing done in it, and the machine does little but switch. */
const SHORTEST: Nanoseconds = 10_000;

/** One window of the major frame. */
export interface Row {
  /** The domain's UUID, or its name. */
  readonly domain: string;
  readonly vcpu: number;
  readonly runtime_ns: Nanoseconds;
}

export const poolParams = Object.freeze({
  schedule: {
    description: "windows of the major frame in order; none: a window of 10 ms for each vCPU",
    type: "table",
    min: 0,
    max: MAX_ROWS,
    default: [],
    columns: {
      domain: { description: "the domain's UUID or name", type: "string", min: 1, max: 255 },
      vcpu: { description: "number of the vCPU", type: "integer", min: 0, max: 8191 },
      runtime_ns: {
        description: "length of the window; below 10,000: EINVAL",
        type: "nanoseconds",
        min: 0,
        max: LONGEST,
      },
    },
  },
  major_frame_ns: {
    description: "length of the major frame; 0: as long as its windows",
    type: "nanoseconds",
    min: 0,
    max: LONGEST,
    default: 0,
  },
} as const satisfies ParamSpecs);

/** Rows as the core has checked them. */
export function rowsOf(value: ParamValue): readonly Row[] {
  return (value as readonly Readonly<Record<string, string | number | boolean>>[]).map((row) => ({
    domain: String(row["domain"]),
    vcpu: Number(row["vcpu"]),
    runtime_ns: Number(row["runtime_ns"]),
  }));
}

/** 0, or -EINVAL: a window has no length or next to none, or together they are longer than the major frame. */
export function checkTable(rows: readonly Row[], majorFrame: Nanoseconds): number {
  let sum = 0;
  for (const { runtime_ns } of rows) {
    if (runtime_ns < SHORTEST) return -xen.ERRNO.EINVAL;
    sum += runtime_ns;
  }
  return majorFrame !== 0 && sum > majorFrame ? -xen.ERRNO.EINVAL : 0;
}
