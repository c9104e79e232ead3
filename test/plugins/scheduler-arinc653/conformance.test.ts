/** arinc653 passes the kit that a third party runs, but for what it does not claim: outside its window a unit waits, whoever idles. */
import { describe, expect, test } from "vitest";
import { createHooks } from "../../../core/hooks.ts";
import type { HypervisorSetup } from "../../../core/hypervisor.ts";
import type { Scheduler } from "../../../core/scheduling/scheduler.ts";
import arinc653 from "../../../plugins/scheduler-arinc653/plugin.ts";
import { schedulerSuite } from "../../conformance/scheduler.ts";

const hooks = createHooks();
arinc653.apply({ hooks } as HypervisorSetup);

/** What the kit asks of every scheduler, but not of a table in which one window is open in the pool at a time. */
const notClaimed = new Set(["runs a unit that wakes on an idle pCPU at once"]);
const claimed = (name: string, body: () => void): void => void (notClaimed.has(name) ? test.skip : test)(name, body);

schedulerSuite(
  { describe, test: claimed, check: (ok: boolean, message: string) => expect(ok, message).toBe(true) },
  {
    name: "arinc653",
    make: (host) => hooks.scheduler.for("arinc653").call(host) as Scheduler,
    workConserving: false,
  },
);
