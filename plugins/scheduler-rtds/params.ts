/**
 * Parameters of rtds, with Xen's names and defaults (public/domctl.h xen_domctl_sched_rtds, rt.c): there in microseconds, here in
 * nanoseconds.
 */

/** Xen's RTDS_MIN_PERIOD and RTDS_MIN_BUDGET. */
export const MINIMUM = 10_000;

/** The longest time that Xen's domctl can name: 2^32 - 1 microseconds. */
const LONGEST = 4_294_967_295_000;

/** The same for a vCPU and for a domain, where they set all its vCPUs. */
export const serverParams = Object.freeze({
  period: {
    description: "period in which the budget is replenished, at least the budget",
    type: "nanoseconds",
    min: MINIMUM,
    max: LONGEST,
    default: 10_000_000,
  },
  budget: {
    description: "run time in each period, at most the period",
    type: "nanoseconds",
    min: MINIMUM,
    default: 4_000_000,
  },
  extratime: {
    description: "runs on at a lower priority level when its budget is used up",
    type: "boolean",
    default: true,
  },
} as const);
