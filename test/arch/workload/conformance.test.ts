/** The workload arch passes what of the conformance kit for ports applies to guests without code, memory and hypercalls. */
import { describe, expect, test } from "vitest";
import plugin from "../../../arch/workload/plugin.ts";
import { archSuite } from "../../conformance/arch.ts";

archSuite(
  { describe, test, check: (condition, message) => expect(condition, message).toBe(true) },
  {
    name: "workload",
    type: "workload",
    makePlugin: () => plugin,
    compute: new TextEncoder().encode('{ "behaviour": "hog" }'),
  },
);
