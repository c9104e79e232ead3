/** What null claims to the conformance kit. */
import type { SchedulerClaims } from "../../conformance/scheduler.ts";

export const claims: SchedulerClaims = {
  // A pCPU belongs to one unit and idles while that sleeps.
  workConserving: false,
};
