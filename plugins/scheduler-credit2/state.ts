/**
 * What credit2 saves: plain JSON, and its reader. Times are relative to the moment of saving.
 */
import type { Nanoseconds, ParamValues, SchedulerState } from "hookvisor";
import type { Credit2Domain } from "./unit.ts";

interface SavedUnit {
  readonly id: number;
  /** pCPU that it runs on, or ran on last; null: none. */
  readonly pcpu: number | null;
  readonly credit: number;
  readonly residual: number;
  readonly load: number;
  readonly budget: Nanoseconds;
}

interface SavedDomain {
  readonly weight: number;
  readonly cap: number;
  readonly budget: Nanoseconds;
  readonly replenishIn: Nanoseconds;
  readonly units: readonly SavedUnit[];
}

interface Saved {
  readonly pool: ParamValues;
  readonly domains: readonly SavedDomain[];
}

/** The state of all domains and units; what has been run is charged first. */
export function saveState(pool: ParamValues, domains: Iterable<Credit2Domain>, now: Nanoseconds): SchedulerState {
  const saved = [...domains].map(({ units, weight, cap, budget, replenishAt }) => ({
    weight,
    cap,
    budget: cap === 0 ? 0 : budget,
    replenishIn: cap === 0 ? 0 : replenishAt - now,
    units: [...units].map((one) => {
      one.burn();
      one.load.update(now, 0);
      return {
        id: one.unit.id,
        pcpu: one.queue.pcpus[one.slot]?.id ?? null,
        credit: one.credit,
        residual: one.residual,
        load: one.load.average,
        budget: cap === 0 ? 0 : one.budget,
      };
    }),
  }));
  return { pool: { ...pool } as Record<string, number | boolean>, domains: saved };
}

/** Reads what saveState wrote. */
export function restoreState(state: SchedulerState): Saved {
  return state as unknown as Saved;
}
