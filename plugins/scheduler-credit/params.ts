/**
 * Parameters of the credit scheduler, with Xen's names, bounds and defaults (public/domctl.h, public/sysctl.h, credit.c).
 */
export const domainParams = Object.freeze({
  weight: {
    description: "share of CPU time against other domains, for each active vCPU",
    type: "integer",
    min: 1,
    max: 65535,
    default: 256,
  },
  cap: {
    description: "most CPU time, in per cent of one pCPU; 0: no cap",
    type: "integer",
    min: 0,
    max: 65534,
    default: 0,
  },
} as const);

export const poolParams = Object.freeze({
  tslice_ms: { description: "time slice in milliseconds", type: "integer", min: 1, max: 1000, default: 30 },
  ratelimit_us: {
    description: "shortest run in microseconds before a preemption, at least 100, at most the slice; 0: none",
    type: "integer",
    min: 0,
    max: 500_000,
    default: 1000,
  },
  migration_delay_us: {
    description: "a unit that ran within this time is not taken over by another pCPU",
    type: "integer",
    min: 0,
    max: 100_000,
    default: 0,
  },
  smt_power_savings: {
    description: "prefer threads of cores that are busy already over whole idle cores",
    type: "boolean",
    default: false,
  },
} as const);

/** XEN_SYSCTL_SCHED_RATELIMIT_MIN, microseconds. */
export const RATELIMIT_MIN_US = 100;
