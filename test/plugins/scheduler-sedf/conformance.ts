/** What sedf claims to the conformance kit. */
import type { SchedulerClaims } from "../../conformance/scheduler.ts";

export const claims: SchedulerClaims = {
  // Each unit stays on the first pCPU of its affinity, so that others idle.
  workConserving: false,
  // Extra time in turns of 500 us.
  starvationBound: (units) => units * 500e3 + 1e6,
  // EDF on one pCPU.
  deadlines: { server: (period, slice, extratime) => ({ period, slice, extratime }), utilisation: 1 },
  extratime: { param: "extratime", server: (period, slice) => ({ period, slice }) },
};
