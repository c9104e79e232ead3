/**
 * The bugs that Xen's schedulers had and fixed, planted again: the kit finds each, in the property that is meant for it, and has nothing to say
 * against the same copy without the bug.
 */
import { describe, expect, test } from "vitest";
import { claims as arinc653 } from "../../plugins/scheduler-arinc653/conformance.ts";
import { claims as credit } from "../../plugins/scheduler-credit/conformance.ts";
import { claims as credit2 } from "../../plugins/scheduler-credit2/conformance.ts";
import { claims as rtds } from "../../plugins/scheduler-rtds/conformance.ts";
import { type SchedulerClaims, schedulerProperties } from "../scheduler.ts";
import { type Change, changed, mutant } from "./mutate.ts";

interface Bug {
  /** What Xen's was. */
  readonly bug: string;
  readonly scheduler: string;
  readonly claims: SchedulerClaims;
  readonly changes: readonly Change[];
  /** The property that is meant to find it. */
  readonly property: RegExp;
  /** What it says then. */
  readonly says: RegExp;
}

const bugs: readonly Bug[] = [
  {
    bug: "credit below that of the idle vCPU stalls a vCPU",
    scheduler: "credit2",
    claims: credit2,
    changes: [
      {
        file: "unit.ts",
        from: "this.credit = credit < CREDIT_MIN ? CREDIT_MIN : credit;",
        to: "this.credit = credit;",
      },
    ],
    property: /^the same while parameters change/,
    says: /it never will|time did not go on/,
  },
  {
    bug: "too few credit resets: who runs is still without credit after one",
    scheduler: "credit2",
    claims: credit2,
    changes: [
      {
        file: "credit2.ts",
        from: "queue.epoch += next.credit === CREDIT_MIN ? 2 * CREDIT_INIT : CREDIT_INIT;",
        to: "queue.epoch += CREDIT_INIT;",
      },
    ],
    property: /^the state keeps its invariant/,
    says: /too little was given at the reset/,
  },
  {
    bug: "a vCPU that is only migrated is boosted as if it had woken",
    scheduler: "credit",
    claims: credit,
    changes: [
      {
        file: "credit.ts",
        from: "if (one.priority === Priority.under && one.movedAt !== now)",
        to: "if (one.priority === Priority.under)",
      },
    ],
    property: /^a unit that moves gets no turn/,
    says: /runs within 3 ms when it is moved/,
  },
  {
    bug: "a replenishment charges what was run in the previous period",
    scheduler: "rtds",
    claims: rtds,
    changes: [
      {
        file: "unit.ts",
        from: "this.level = 0;\n    this.depleted = false;\n    this.charged = this.unit.runTime;",
        to: "this.level = 0;\n    this.depleted = false;",
      },
    ],
    property: /^budgets that fit are given/,
    says: /period \d+: \d+ ns for/,
  },
  {
    bug: "priority levels wrap",
    scheduler: "rtds",
    claims: rtds,
    changes: [{ file: "unit.ts", from: "this.level++;", to: "this.level = (this.level + 1) & 0xffff;" }],
    property: /^extra time goes to who has had least/,
    says: /before that has caught up/,
  },
  {
    bug: "a depleted vCPU whose extratime is toggled never runs again",
    scheduler: "rtds",
    claims: rtds,
    changes: [
      {
        file: "rtds.ts",
        from: "if (!one.extratime || !one.depleted) continue;",
        to: "if (one.depleted && extratime !== undefined) this.#forget(one);\n      continue;",
      },
    ],
    property: /^extra time can be switched/,
    says: /switched on at/,
  },
  {
    bug: "frames drift by the delay of dispatch",
    scheduler: "arinc653",
    claims: arinc653,
    changes: [
      {
        file: "frame.ts",
        from: "if (now >= this.#from && now < this.until) return;",
        to: "if (now >= this.#from && now < this.until) return;\n    if (this.#length > 0 && now - this.#origin >= this.#length) this.#origin = now;",
      },
    ],
    property: /^frames do not drift/,
    says: /late in frame/,
  },
];

describe.each(bugs)("$scheduler: $bug", ({ scheduler, claims, changes, property, says }) => {
  const named = (under: Parameters<typeof schedulerProperties>[0]) =>
    schedulerProperties(under).find(({ name }) => property.test(name))!;

  test("the kit finds it", async () => {
    const one = await mutant(`scheduler-${scheduler}`, scheduler, changes);
    try {
      const under = { name: "mutant", make: one.make, shrink: false, ...claims };
      let error: unknown = null;
      try {
        named(under).run();
      } catch (thrown) {
        error = thrown;
      }
      expect(error, "the property holds").not.toBeNull();
      expect(String((error as Error).cause ?? error)).toMatch(says);
    } finally {
      one.remove();
    }
  });

  test("a copy without it passes", async () => {
    const one = await mutant(`scheduler-${scheduler}`, scheduler, []);
    try {
      named({ name: "copy", make: one.make, ...claims }).run();
    } finally {
      one.remove();
    }
  });
});

test("a mutant whose text is gone, or there twice, is an error", () => {
  const change = { file: "a.ts", from: "a + b", to: "a - b" };
  expect(changed("c = a + b;", change, "a.ts")).toBe("c = a - b;");
  expect(() => changed("c = a * b;", change, "a.ts")).toThrow("a.ts has no place(s) with the text");
  expect(() => changed("a + b; a + b;", change, "a.ts")).toThrow("a.ts has 2 place(s)");
});
