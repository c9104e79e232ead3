/** What rtds claims to the conformance kit. */
import type { SchedulerClaims } from "../../conformance/scheduler.ts";

export const claims: SchedulerClaims = {
  // Default servers: budgets of 4 ms in periods of 10 ms, taken in turns when there are more than fit.
  starvationBound: (units) => Math.ceil(units / 2) * 10e6 + 10e6,
  // Global EDF on one pCPU.
  deadlines: { server: (period, budget, extratime) => ({ period, budget, extratime }), utilisation: 1, grid: true },
  extratime: { param: "extratime", server: (period, budget) => ({ period, budget }), byBudgets: true },
};
