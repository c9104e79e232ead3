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
    // The lower bound is not in the table: what a period may be depends on the budget, and adjust answers EINVAL for both.
    description: "period in which the budget is replenished, at least 10 us and at least the budget",
    type: "nanoseconds",
    max: LONGEST,
    default: 10_000_000,
  },
  budget: {
    description: "run time in each period, at least 10 us, at most the period",
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
