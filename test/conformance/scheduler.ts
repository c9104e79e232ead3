/**
 * The conformance kit for schedulers: every scheduler plugin, built in or a third party's, runs this suite.
 *
 * It drives the scheduler through the real core under random loads (fast-check, with shrinking) and checks what must hold whatever
 * the policy, and what the scheduler claims besides (README.md beside this file). One test for each property.
 */
import type { SchedulerProperty, SchedulerUnderTest, SuiteFramework } from "./scheduler/contract.ts";
import { claimedProperties } from "./scheduler/policy.ts";
import { genericProperties } from "./scheduler/properties.ts";

export type {
  Decided,
  SchedulerClaims,
  SchedulerProperty,
  SchedulerUnderTest,
  SuiteFramework,
} from "./scheduler/contract.ts";

/** The properties of the kit for a scheduler: those for all, and those that it claims. */
export function schedulerProperties(under: SchedulerUnderTest): SchedulerProperty[] {
  return [...genericProperties(under), ...claimedProperties(under)];
}

/** Defines the suite: a test for each property. */
export function schedulerSuite(framework: SuiteFramework, under: SchedulerUnderTest): void {
  framework.describe(`conformance: scheduler ${under.name}`, () => {
    for (const property of schedulerProperties(under)) framework.test(property.name, () => property.run());
  });
}
