/** What bvt claims to the conformance kit. */
import type { SchedulerClaims } from "../../conformance/scheduler.ts";

export const claims: SchedulerClaims = {
  // Each unit stays on the pCPU where it was placed, so that others may idle.
  workConserving: false,
  // Each of the others runs for twice the context allowance of 5 ms.
  starvationBound: (units) => units * 10e6 + 5e6,
};
