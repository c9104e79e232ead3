/** What cosched claims to the conformance kit. */
import type { SchedulerClaims } from "../../conformance/scheduler.ts";

export const claims: SchedulerClaims = {
  // Who is too far ahead of its siblings waits beside an idle pCPU.
  workConserving: false,
  // Four rounds of turns of 4 ms at most, whatever the affinities.
  starvationBound: (units) => 4 * units * 4e6,
  proportionalShare: { param: "weight", error: 0.02, errorOnSeveral: 0.05 },
};
