/** cosched passes the kit that a third party runs. It conserves no work: who is too far ahead of its siblings waits beside an idle pCPU. */
import { describe, expect, test } from "vitest";
import { createHooks } from "../../../core/hooks.ts";
import type { HypervisorSetup } from "../../../core/hypervisor.ts";
import type { Scheduler } from "../../../core/scheduling/scheduler.ts";
import cosched from "../../../plugins/scheduler-cosched/plugin.ts";
import { schedulerSuite } from "../../conformance/scheduler.ts";

const hooks = createHooks();
cosched.apply({ hooks } as HypervisorSetup);

schedulerSuite(
  { describe, test, check: (ok: boolean, message: string) => expect(ok, message).toBe(true) },
  {
    name: "cosched",
    make: (host) => hooks.scheduler.for("cosched").call(host) as Scheduler,
    workConserving: false,
    starvationBound: (units) => units * 4e6 + 1e6,
    proportionalShare: { param: "weight", error: 0.02, errorOnSeveral: 0.05 },
  },
);
