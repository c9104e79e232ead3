/**
 * What the kit for schedulers is told: the test framework that it runs in, the scheduler under test, and what that scheduler claims.
 *
 * A claim is a promise of the policy that not every scheduler makes; each switches properties on. Without any the kit asks only
 * for what holds whatever the policy. Times are nanoseconds.
 */
import type {
  ParamRow,
  ParamValues,
  Scheduler,
  SchedulerHost,
  SchedulerState,
} from "../../../core/scheduling/scheduler.ts";
import type { Plan } from "./plan.ts";

/** What the suite needs of a test framework. */
export interface SuiteFramework {
  describe(name: string, body: () => void): void;
  test(name: string, body: () => void): void;
  /** Throws when the condition is false. */
  check(condition: boolean, message: string): void;
}

/** What a scheduler promises beyond what the core enforces. */
export interface SchedulerClaims {
  /**
   * No pCPU idles while a unit that could run there waits, for longer than `within` (default 1 ms). Default true; false: the
   * policy lets pCPUs idle (tables, partitions).
   */
  readonly workConserving?: boolean | { readonly within: number };
  /** Longest wait of a runnable unit among `units` hogs on one pCPU, with default parameters. Default: 200 ms a unit. */
  starvationBound?(units: number): number;
  /** CPU time of hogs is in proportion to a parameter of their domains. */
  readonly proportionalShare?: {
    readonly param: string;
    /** How far the values that are tried lie apart, from its default. Default 8: 1 to 8 times. */
    readonly spread?: number;
    /** Largest |share / fair share - 1| after ten seconds, on one pCPU and on several. */
    readonly error: number;
    readonly errorOnSeveral: number;
  };
  /** A parameter of a domain caps its CPU time, in per cent of one pCPU. */
  readonly cap?: {
    readonly param: string;
    /** In each window of this length a domain gets at most the cap and `slack` more. */
    readonly window: number;
    readonly slack: number;
    /** Share of its cap that a domain of hogs gets at least over ten seconds. Default 0.8. */
    readonly atLeast?: number;
  };
  /** Units with a budget in each period get it when the utilisation fits, one pCPU. */
  readonly deadlines?: {
    /** Parameters of a unit with so much budget in each period; `extra`: it may have more when there is more. */
    server(period: number, budget: number, extra: boolean): ParamValues;
    /** The utilisation that fits. */
    readonly utilisation: number;
    /**
     * The same parameters can be set for a domain before it first wakes; its periods count from there, and in each it has its budget,
     * whatever it ran in the one before and whenever it slept.
     */
    readonly grid?: boolean;
    /** What of a period's budget may come late, at most. Default 0. */
    readonly late?: number;
  };
  /** A parameter of a unit with a budget says whether it may have extra time; it may be changed at any time. */
  readonly extratime?: {
    readonly param: string;
    server(period: number, budget: number): ParamValues;
    /** Extra time goes to who has had the fewest budgets of it in its period. */
    readonly byBudgets?: boolean;
  };
  /** Windows in a major frame that repeat without drift. */
  readonly frames?: {
    /** Parameters of the pool: domains by name, with what each gets in the major frame in this order. */
    table(
      windows: readonly { readonly domain: string; readonly vcpu: number; readonly time: number }[],
      majorFrame: number,
    ): ParamValues;
  };
  /** A waking unit is preferred; a unit that only moves is not: that gives it no turn before others. */
  readonly migrationIsNoWake?: boolean;
  /** Values of a table parameter that are worth trying, for domains with these names and UUIDs. Default: random rows within the columns' bounds. */
  rows?(
    param: string,
    domains: readonly { readonly name: string; readonly uuid: string; readonly vcpus: number }[],
  ): readonly (readonly ParamRow[])[];
  /**
   * What of the state that `save` returns is the same before a restore and right after it, when every unit is still asleep: all but who runs,
   * who waits and in which order. Default: the whole state is.
   */
  lasting?(state: SchedulerState): unknown;
  /** What must hold of the state that `save` returns after each decision: an error text, or null. */
  invariant?(state: SchedulerState, decided: Decided): string | null;
}

/** A decision that has just been taken; units by their ids. */
export interface Decided {
  readonly pcpu: number;
  /** Who runs next; null: nobody. */
  readonly unit: number | null;
  /** Units that can run and run nowhere, but for the one that was chosen. */
  readonly waiting: readonly number[];
}

/** A scheduler under test, with what it claims. */
export interface SchedulerUnderTest extends SchedulerClaims {
  readonly name: string;
  make(host: SchedulerHost): Scheduler;
  /** Runs of random loads of each property, times this. Default 1. */
  readonly effort?: number;
  /** A load that fails is made as small as possible, which may take a while. Default true. */
  readonly shrink?: boolean;
  /** Seed of the random loads. Default 1; null: another at each run. */
  readonly seed?: number | null;
  /** With the seed: the one input that a failure printed ("17:0:2": the 17th, as it was made smaller), instead of all. Give `only` too. */
  readonly path?: string;
  /** The one property of this name. */
  readonly only?: string;
}

/** One property of the kit: `run` throws when it does not hold. */
export interface SchedulerProperty {
  readonly name: string;
  run(): void;
  /** Carries one load out, of a property of loads: what happened in words, a line each. Throws as `run` does. */
  replay?(plan: Plan): readonly string[];
}

/** The invariants: what a failure names first. */
export type Invariant =
  | "never ejected"
  | "decisions are lawful"
  | "time goes forward"
  | "nobody is lost"
  | "parameters are kept"
  | "the state lasts"
  | "runstate times add up"
  | "no pCPU idles beside who waits"
  | "the claimed invariant"
  | "equal runs";

export const MS = 1e6;
export const SECOND = 1e9;

/** Longest wait of a runnable unit among so many on one pCPU. */
export function starvationBound(under: SchedulerUnderTest, units: number): number {
  return under.starvationBound?.(units) ?? units * 200 * MS;
}

/** Throws when it does not hold. */
export function check(condition: boolean, message: string): void {
  if (!condition) throw new Error(message);
}
