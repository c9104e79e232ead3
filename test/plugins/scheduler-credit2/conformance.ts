/** What credit2 claims to the conformance kit. */
import type { SchedulerClaims } from "../../conformance/scheduler.ts";

interface Saved {
  readonly domains: readonly { readonly units: readonly { readonly id: number; readonly credit: number }[] }[];
}

export const claims: SchedulerClaims = {
  // Within a runqueue at once; between runqueues (sockets) only a reset balances.
  workConserving: { within: 50e6 },
  // On several pCPUs a reset clips what a heavy unit that runs elsewhere still has (README).
  proportionalShare: { param: "weight", error: 0.05, errorOnSeveral: 0.2 },
  cap: { param: "cap", window: 1e9, slack: 40e6 },
  /** When nobody has credit all get some, so much that who runs has: else nothing but resets would follow. */
  invariant: (state, { unit }) => {
    const units = (state as unknown as Saved).domains.flatMap((domain) => domain.units);
    const runs = units.find((one) => one.id === unit);
    if (runs === undefined || runs.credit > 0 || units.some((one) => one.credit > 0)) return null;
    return `unit ${unit} is chosen with a credit of ${runs.credit}, and nobody has any: too little was given at the reset`;
  },
};
