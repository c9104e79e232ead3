/** The built-in schedulers pass the kit that a third party runs. */
import { describe, expect, test } from "vitest";
import { createHooks } from "../../core/hooks.ts";
import type { HypervisorSetup } from "../../core/hypervisor.ts";
import type { Plugin } from "../../core/plugin.ts";
import { FifoScheduler } from "../../core/scheduling/fifo.ts";
import type { Scheduler, SchedulerHost } from "../../core/scheduling/scheduler.ts";
import credit from "../../plugins/scheduler-credit/plugin.ts";
import credit2 from "../../plugins/scheduler-credit2/plugin.ts";
import roundRobin from "../../plugins/scheduler-round-robin/plugin.ts";
import { schedulerSuite } from "./scheduler.ts";

const framework = { describe, test, check: (ok: boolean, message: string) => expect(ok, message).toBe(true) };

/** What a plugin provides under a key, through the real hook. */
function provided(plugin: Plugin, key: string): (host: SchedulerHost) => Scheduler {
  const hooks = createHooks();
  plugin.apply({ hooks } as HypervisorSetup);
  return (host) => hooks.scheduler.for(key).call(host) as Scheduler;
}

schedulerSuite(framework, { name: "fifo (the fallback)", make: (host) => new FifoScheduler(host) });
schedulerSuite(framework, { name: "round-robin", make: provided(roundRobin, "round-robin") });
schedulerSuite(framework, { name: "credit", make: provided(credit, "credit") });
schedulerSuite(framework, { name: "credit2", make: provided(credit2, "credit2") });
