/**
 * Parameters and constants of bvt, with the names and defaults of Xen 3.0 (common/sched_bvt.c of 2006).
 */
const MS = 1_000_000;

/** Minimum charging unit: a run is charged in whole ones. */
export const MCU = 100_000;
/** A unit that is alone on its pCPU runs for so many context allowances. */
export const ALONE = 10;
/** An hour: no limit of warping is longer. */
const HOUR = 3_600_000 * MS;

/** The same for a vCPU and for a domain, where they set all its vCPUs. */
export const unitParams = Object.freeze({
  mcu_advance: {
    description: "virtual time that each charging unit of 100 us costs; half of it doubles the share",
    type: "integer",
    min: 1,
    max: 65535,
    default: 10,
  },
  warpback: { description: "warps: borrows virtual time to run sooner", type: "boolean", default: false },
  warpvalue: {
    description: "virtual time that it borrows while it warps",
    type: "integer",
    min: 0,
    max: 2 ** 31 - 1,
    default: 0,
  },
  warpl: {
    description: "longest run while it warps, until it sleeps; 0: no limit",
    type: "nanoseconds",
    min: 0,
    max: HOUR,
    default: 2000 * MS,
  },
  warpu: {
    description: "how long it does not warp after that; 0: until its parameters are set again",
    type: "nanoseconds",
    min: 0,
    max: HOUR,
    default: 1000 * MS,
  },
} as const);

export const poolParams = Object.freeze({
  ctx_allow: {
    description: "context allowance: how far a unit may run ahead of the next one",
    type: "nanoseconds",
    min: MCU,
    max: 1000 * MS,
    default: 5 * MS,
  },
} as const);
