/** What credit claims to the conformance kit. */
import type { SchedulerClaims } from "../../conformance/scheduler.ts";

export const claims: SchedulerClaims = {
  // Credit is kept within one slice either way, which forgives what a light unit overran (README: what credit does not promise).
  proportionalShare: { param: "weight", error: 0.3, errorOnSeveral: 0.45 },
  cap: { param: "cap", window: 1e9, slack: 100e6 },
  migrationIsNoWake: true,
};
