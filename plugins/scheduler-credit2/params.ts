/**
 * Parameters of the credit2 scheduler, with Xen's names, bounds and defaults (public/domctl.h, public/sysctl.h, credit2.c).
 */

/** Of a domain. The upper bound of `cap` is 100 times the domain's vCPUs, which `adjust` checks (EINVAL). */
export const domainParams = Object.freeze({
  weight: {
    description: "share of CPU time against other domains, for each vCPU",
    type: "integer",
    min: 1,
    max: 65535,
    default: 256,
  },
  cap: {
    description: "most CPU time, in per cent of one pCPU, at most 100 times the vCPUs; 0: no cap",
    type: "integer",
    min: 0,
    default: 0,
  },
} as const);

/** Of the pool. */
export const poolParams = Object.freeze({
  ratelimit_us: {
    description: "shortest run in microseconds before a preemption, at least 100; 0: none",
    type: "integer",
    min: 0,
    max: 500_000,
    default: 1000,
  },
  smt_power_savings: {
    description: "prefer threads of cores that are busy already over whole idle cores",
    type: "boolean",
    default: false,
  },
} as const);

/** XEN_SYSCTL_SCHED_RATELIMIT_MIN, microseconds. */
export const RATELIMIT_MIN_US = 100;
