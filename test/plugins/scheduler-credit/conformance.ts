/** What credit claims to the conformance kit. */
import type { SchedulerClaims } from "../../conformance/scheduler.ts";

interface Saved {
  readonly domains: readonly { readonly units: readonly { readonly home: number }[] }[];
}

export const claims: SchedulerClaims = {
  // Credit is kept within one slice either way, which forgives what a light unit overran (README: what credit does not promise); at 1 : 8 shares
  // are off by up to a third.
  proportionalShare: { param: "weight", spread: 4, error: 0.25, errorOnSeveral: 0.3 },
  cap: { param: "cap", window: 1e9, slack: 100e6 },
  migrationIsNoWake: true,
  // Who slept when its pCPU went finds a home when it wakes, or at a restore.
  lasting: (state) => {
    const saved = state as unknown as Saved;
    const domains = saved.domains.map((domain) => ({
      ...domain,
      units: domain.units.map(({ home: _, ...rest }) => rest),
    }));
    return { ...saved, domains };
  },
};
