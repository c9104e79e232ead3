/** null passes the kit that a third party runs, but for what it does not claim: who waits for a pCPU may starve. */
import { describe, expect, test } from "vitest";
import { createHooks } from "../../../core/hooks.ts";
import type { HypervisorSetup } from "../../../core/hypervisor.ts";
import type { Scheduler } from "../../../core/scheduling/scheduler.ts";
import nullScheduler from "../../../plugins/scheduler-null/plugin.ts";
import { schedulerSuite } from "../../conformance/scheduler.ts";

const hooks = createHooks();
nullScheduler.apply({ hooks } as HypervisorSetup);

/** What the kit asks of every scheduler, but not of one that gives a unit a pCPU for good. */
const notClaimed = new Set(["starves no hog"]);
const claimed = (name: string, body: () => void): void => void (notClaimed.has(name) ? test.skip : test)(name, body);

schedulerSuite(
  { describe, test: claimed, check: (ok: boolean, message: string) => expect(ok, message).toBe(true) },
  {
    name: "null",
    make: (host) => hooks.scheduler.for("null").call(host) as Scheduler,
    workConserving: false,
  },
);
