/** sedf passes the kit that a third party runs. */
import { describe, expect, test } from "vitest";
import { createHooks } from "../../../core/hooks.ts";
import type { HypervisorSetup } from "../../../core/hypervisor.ts";
import type { Scheduler } from "../../../core/scheduling/scheduler.ts";
import sedf from "../../../plugins/scheduler-sedf/plugin.ts";
import { schedulerSuite } from "../../conformance/scheduler.ts";

const hooks = createHooks();
sedf.apply({ hooks } as HypervisorSetup);

schedulerSuite(
  { describe, test, check: (ok: boolean, message: string) => expect(ok, message).toBe(true) },
  {
    name: "sedf",
    make: (host) => hooks.scheduler.for("sedf").call(host) as Scheduler,
    // Each unit stays on the first pCPU of its affinity, so that others idle.
    workConserving: false,
    // Extra time in turns of 500 us.
    starvationBound: (units) => units * 500e3 + 1e6,
  },
);
