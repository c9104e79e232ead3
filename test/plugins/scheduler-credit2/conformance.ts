/** What credit2 claims to the conformance kit. */
import type { SchedulerClaims } from "../../conformance/scheduler.ts";

interface Saved {
  readonly pool: unknown;
  readonly domains: readonly {
    readonly budget: number;
    readonly units: readonly { readonly id: number; readonly credit: number; readonly budget: number }[];
  }[];
}

export const claims: SchedulerClaims = {
  // Within a runqueue at once; between runqueues (sockets) only a reset balances.
  workConserving: { within: 50e6 },
  // On several pCPUs a reset clips what a heavy unit that runs elsewhere still has (README).
  proportionalShare: { param: "weight", error: 0.05, errorOnSeveral: 0.2 },
  cap: { param: "cap", window: 1e9, slack: 40e6 },
  /** Units give what is left of their budgets back to their domain when they leave their pCPU: only the sum lasts. */
  lasting: (state) => {
    const { pool, domains } = state as unknown as Saved;
    return {
      pool,
      domains: domains.map((domain) => ({
        ...domain,
        budget: domain.units.reduce((sum, { budget }) => sum + Math.max(0, budget), domain.budget),
        units: domain.units.map((one) => ({ ...one, budget: Math.min(0, one.budget) })),
      })),
    };
  },
  /** When neither who runs nor who waits has credit all get some, so much that who runs has: else nothing but resets would follow. */
  invariant: (state, { unit, waiting }) => {
    const units = (state as unknown as Saved).domains.flatMap((domain) => domain.units);
    const runs = units.find((one) => one.id === unit);
    if (runs === undefined || runs.credit > 0 || units.some((one) => waiting.includes(one.id) && one.credit > 0))
      return null;
    return `unit ${unit} is chosen with a credit of ${runs.credit}, and nobody who waits has any: too little was given at the reset`;
  },
};
