/**
 * The conformance kit for schedulers: every scheduler plugin, built in or a third party's, runs this suite.
 *
 * It drives the scheduler through the real core under random loads (fast-check, with shrinking) and checks what must hold whatever
 * the policy, and what the scheduler claims besides (README.md beside this file). One test for each property.
 */
import type { SchedulerProperty, SchedulerUnderTest, SuiteFramework } from "./scheduler/contract.ts";
import type { Plan } from "./scheduler/plan.ts";
import { claimedProperties } from "./scheduler/policy.ts";
import { genericProperties } from "./scheduler/properties.ts";

export type {
  Decided,
  SchedulerClaims,
  SchedulerProperty,
  SchedulerUnderTest,
  SuiteFramework,
} from "./scheduler/contract.ts";
export { Failure } from "./scheduler/explore.ts";
export type { Disturbance, EventKind, EventPlan, Plan, VcpuPlan } from "./scheduler/plan.ts";

/** The properties of the kit for a scheduler: those for all, and those that it claims; of `only`, that one. */
export function schedulerProperties(under: SchedulerUnderTest): SchedulerProperty[] {
  const all = [...genericProperties(under), ...claimedProperties(under)];
  if (under.only === undefined) return all;
  const named = all.filter(({ name }) => name === under.only);
  if (named.length === 0)
    throw new Error(
      `No property of ${under.name} is '${under.only}'; there are: ${all.map((p) => p.name).join("; ")}.`,
    );
  return named;
}

/**
 * Carries one load out, as a failure printed it, for a property of random loads (by default the first: nobody is ejected or lost).
 * Answers what happened in words, a line each; throws a Failure, which has the same in `story`, when it does not hold.
 */
export function replayLoad(under: SchedulerUnderTest, plan: Plan, property?: string): readonly string[] {
  const [found] = schedulerProperties(property === undefined ? under : { ...under, only: property });
  if (found?.replay === undefined) throw new Error(`'${found?.name}' is no property of random loads.`);
  return found.replay(plan);
}

/** Defines the suite: a test for each property. */
export function schedulerSuite(framework: SuiteFramework, under: SchedulerUnderTest): void {
  framework.describe(`conformance: scheduler ${under.name}`, () => {
    for (const property of schedulerProperties(under)) framework.test(property.name, () => property.run());
  });
}
