/** arinc653 passes the kit that a third party runs. It conserves no work: outside its window a unit waits, whoever idles. */
import { describe, expect, test } from "vitest";
import { createHooks } from "../../../core/hooks.ts";
import type { HypervisorSetup } from "../../../core/hypervisor.ts";
import type { Scheduler } from "../../../core/scheduling/scheduler.ts";
import arinc653 from "../../../plugins/scheduler-arinc653/plugin.ts";
import { schedulerSuite } from "../../conformance/scheduler.ts";

const hooks = createHooks();
arinc653.apply({ hooks } as HypervisorSetup);

schedulerSuite(
  { describe, test, check: (ok: boolean, message: string) => expect(ok, message).toBe(true) },
  {
    name: "arinc653",
    make: (host) => hooks.scheduler.for("arinc653").call(host) as Scheduler,
    workConserving: false,
    starvationBound: (units) => units * 10e6,
    frames: {
      table: (windows, majorFrame) => ({
        schedule: windows.map(({ domain, vcpu, time }) => ({ domain, vcpu, runtime_ns: time })),
        major_frame_ns: majorFrame,
      }),
    },
    rows: (_param, domains) => {
      const row = ({ name, uuid }: { name: string; uuid: string }, i: number) => ({
        domain: i % 2 === 0 ? name : uuid,
        vcpu: 0,
        runtime_ns: (i + 1) * 1_234_567,
      });
      return [[], domains.map(row), domains.slice(1).map(row), [{ domain: "nobody", vcpu: 3, runtime_ns: 5e6 }]];
    },
  },
);
