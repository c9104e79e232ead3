/** round-robin passes the kit that a third party runs. */
import { describe, expect, test } from "vitest";
import { createHooks } from "../../../core/hooks.ts";
import type { HypervisorSetup } from "../../../core/hypervisor.ts";
import type { Scheduler } from "../../../core/scheduling/scheduler.ts";
import roundRobin from "../../../plugins/scheduler-round-robin/plugin.ts";
import { schedulerSuite } from "../../conformance/scheduler.ts";

const hooks = createHooks();
roundRobin.apply({ hooks } as HypervisorSetup);

schedulerSuite(
  { describe, test, check: (ok: boolean, message: string) => expect(ok, message).toBe(true) },
  {
    name: "round-robin",
    make: (host) => hooks.scheduler.for("round-robin").call(host) as Scheduler,
    starvationBound: (units) => units * 10e6 + 1e6,
  },
);
