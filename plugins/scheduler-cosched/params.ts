/** Parameters of relaxed co-scheduling. */
import type { ParamSpecs } from "hookvisor";
import { NORMAL_WEIGHT } from "./member.ts";

const US = 1_000;
const MS = 1_000_000;
const SECOND = 1_000_000_000;

export const domainParams = Object.freeze({
  weight: {
    description: "share of CPU time of each of its vCPUs against others': a turn is weight/256 slices",
    type: "integer",
    min: 16,
    max: 4096,
    default: NORMAL_WEIGHT,
  },
} as const satisfies ParamSpecs);

export const poolParams = Object.freeze({
  slice_ns: {
    description: "a turn of a vCPU of weight 256",
    type: "nanoseconds",
    min: 1 * MS,
    max: 100 * MS,
    default: 4 * MS,
  },
  costop_skew_ns: {
    description: "a vCPU that is so far ahead of its domain's slowest stops",
    type: "nanoseconds",
    min: 100 * US,
    max: 1000 * SECOND,
    default: 3 * MS,
  },
  costart_skew_ns: {
    description: "a stopped vCPU goes on when it is no further ahead than this; below costop_skew_ns",
    type: "nanoseconds",
    min: 0,
    max: 1000 * SECOND,
    default: 2 * MS,
  },
} as const satisfies ParamSpecs);
