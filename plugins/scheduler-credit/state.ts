/**
 * What the credit scheduler saves: plain JSON, and its reader.
 */
import type { Nanoseconds, ParamValues, SchedulerState } from "hookvisor";
import type { CreditDomain, Earning } from "./accounting.ts";

interface SavedUnit {
  readonly id: number;
  /** pCPU where it waits when it wakes. */
  readonly home: number;
  readonly priority: number;
  readonly credit: number;
  readonly residual: Nanoseconds;
  readonly active: boolean;
  readonly parked: boolean;
}

interface Saved {
  readonly pool: ParamValues;
  readonly balance: number;
  /** Those that earn first, in their order. */
  readonly domains: readonly { readonly weight: number; readonly cap: number; readonly units: readonly SavedUnit[] }[];
}

/** The state of all domains and units; what has been run is charged first. */
export function saveState(
  pool: ParamValues,
  balance: number,
  earning: Earning,
  all: Iterable<CreditDomain>,
): SchedulerState {
  const domains = new Set<CreditDomain>();
  for (let domain = earning.domains.first; domain !== null; domain = domain.next) domains.add(domain);
  for (const domain of all) domains.add(domain);
  return {
    pool: { ...pool } as Record<string, number | boolean>,
    balance,
    domains: [...domains].map(({ weight, cap, units }) => ({
      weight,
      cap,
      units: [...units].map((one) => {
        one.burn();
        const { home, priority, credit, residual, active, parked } = one;
        return { id: one.unit.id, home: home.pcpu.id, priority, credit, residual, active, parked };
      }),
    })),
  };
}

/** Reads what saveState wrote. */
export function readState(state: SchedulerState): Saved {
  return state as unknown as Saved;
}
