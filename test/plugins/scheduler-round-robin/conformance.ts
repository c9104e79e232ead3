/** What round-robin claims to the conformance kit. */
import type { SchedulerClaims } from "../../conformance/scheduler.ts";

export const claims: SchedulerClaims = {
  // Turns of 10 ms.
  starvationBound: (units) => units * 10e6 + 1e6,
};
