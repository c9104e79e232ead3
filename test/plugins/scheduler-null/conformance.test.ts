/** null passes the kit that a third party runs. It conserves no work: a pCPU is its unit's own. */
import { describe, expect, test } from "vitest";
import { createHooks } from "../../../core/hooks.ts";
import type { HypervisorSetup } from "../../../core/hypervisor.ts";
import type { Scheduler } from "../../../core/scheduling/scheduler.ts";
import nullScheduler from "../../../plugins/scheduler-null/plugin.ts";
import { schedulerSuite } from "../../conformance/scheduler.ts";

const hooks = createHooks();
nullScheduler.apply({ hooks } as HypervisorSetup);

schedulerSuite(
  { describe, test, check: (ok: boolean, message: string) => expect(ok, message).toBe(true) },
  {
    name: "null",
    make: (host) => hooks.scheduler.for("null").call(host) as Scheduler,
    workConserving: false,
  },
);
