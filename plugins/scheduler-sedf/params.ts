/**
 * Parameters and constants of sedf, with the bounds and defaults of Xen 3.x (common/sched_sedf.c of 2007).
 */
const US = 1000;
const MS = 1_000_000;

/** Extra time is given in turns of this. */
export const EXTRA_QUANTUM = 500 * US;
/** The period of units with a weight, and of those without a slice. */
export const WEIGHT_PERIOD = 100 * MS;
/** What weights leave free of each WEIGHT_PERIOD. */
export const WEIGHT_SAFETY = 5 * MS;
/** The shortest slice. */
export const SLICE_MIN = 5 * US;
/** What domain 0 gets. */
export const DOMAIN_0 = Object.freeze({ period: 20 * MS, slice: 15 * MS });

/** The same for a vCPU and for a domain, where they set all its vCPUs. */
export const serverParams = Object.freeze({
  period: {
    description: "period of the slice, at least the slice",
    type: "nanoseconds",
    min: 10 * US,
    max: 10_000 * MS,
    default: WEIGHT_PERIOD,
  },
  slice: {
    description: "guaranteed run time in each period, at least 5 us, at most the period; 0: none",
    type: "nanoseconds",
    min: 0,
    default: 0,
  },
  weight: {
    description:
      "share of the time of its pCPU that others' slices leave, as a slice of each 100 ms; 0: period and slice count",
    type: "integer",
    min: 0,
    max: 65535,
    default: 0,
  },
  extratime: {
    description: "takes part in the time that slices leave",
    type: "boolean",
    default: true,
  },
  extraweight: {
    description:
      "share of extra time; 0: as its slice is of its period, where all of it counts 128, and 1 without a slice",
    type: "integer",
    min: 0,
    max: 65535,
    default: 0,
  },
} as const);
