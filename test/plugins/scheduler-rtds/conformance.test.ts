/** rtds passes the kit that a third party runs. */
import { describe, expect, test } from "vitest";
import { createHooks } from "../../../core/hooks.ts";
import type { HypervisorSetup } from "../../../core/hypervisor.ts";
import type { Scheduler } from "../../../core/scheduling/scheduler.ts";
import rtds from "../../../plugins/scheduler-rtds/plugin.ts";
import { schedulerSuite } from "../../conformance/scheduler.ts";

const hooks = createHooks();
rtds.apply({ hooks } as HypervisorSetup);

schedulerSuite(
  { describe, test, check: (ok: boolean, message: string) => expect(ok, message).toBe(true) },
  {
    name: "rtds",
    make: (host) => hooks.scheduler.for("rtds").call(host) as Scheduler,
    // Default servers: budgets of 4 ms in periods of 10 ms, taken in turns when there are more than fit.
    starvationBound: (units) => Math.ceil(units / 2) * 10e6 + 10e6,
  },
);
