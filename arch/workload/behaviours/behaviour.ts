/**
 * What a behaviour is: three parts, from the image to the running vCPU.
 *
 * A `BehaviourKind` reads its keys from the image and gives a `Plan`; for each vCPU that has the plan, the plan makes a `Behaviour`, which decides
 * step by step. A new behaviour is one module with a kind, and its line in index.ts.
 */
import type { Nanoseconds } from "hookvisor";
import type { Guest } from "../guest.ts";
import type { Fields, Value } from "../value.ts";

/** One vCPU's state; decides, never waits. */
export interface Behaviour {
  /** From the beginning, at `now`: resets the state; decides nothing. Called again where a sequence repeats it. */
  start(guest: Guest, now: Nanoseconds): void;
  /**
   * The last step is over (or `start` was just called): decides the next by exactly one call of guest.run, runUntil, sleepUntil, block, spin,
   * giveWay, sync or end. `now` is the vCPU's own time; what others share must be left alone. Allocates nothing.
   */
  next(guest: Guest, now: Nanoseconds): void;
  /** After guest.sync(), at that instant: may look at and change what is shared; decides the next step like `next`. */
  sync?(guest: Guest, now: Nanoseconds): void;
}

/** A behaviour as an image describes it; the same object for all vCPUs that have it. */
export interface Plan {
  /** It ends by itself. */
  readonly finite: boolean;
  /** It waits for other vCPUs: it can't be cut short. */
  readonly shared: boolean;
  /** Called for each vCPU that has it, before any runs: who meets at which barrier. It will be begun so many times. */
  enlist?(guest: Guest, times: number): void;
  make(guest: Guest): Behaviour;
}

/** Reads a behaviour that is inside another. */
export type ReadPlan = (value: Value) => Plan;

export interface BehaviourKind {
  /** The value of the key `behaviour`. */
  readonly name: string;
  /** What it does, in a few words. */
  readonly summary: string;
  /** Reads its keys; every key that it has is asked for. Throws ImageError by Value.fail. */
  read(fields: Fields, readPlan: ReadPlan): Plan;
}
