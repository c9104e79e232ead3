/** credit on the real core: an affinity to a pCPU that went and came back. */
import { expect, test } from "vitest";
import { Pools } from "../../../core/scheduling/pools.ts";
import type { SchedulerHost } from "../../../core/scheduling/scheduler.ts";
import { CreditScheduler } from "../../../plugins/scheduler-credit/credit.ts";
import { hog, Load } from "../../support/load.ts";

test("a unit that waited elsewhere for want of its pCPU goes there as soon as it is back", () => {
  const provider = { name: "credit", plugin: "test", make: (host: SchedulerHost) => new CreditScheduler(host) };
  const load = new Load(provider.make, { pcpus: 2, lazy: true });
  const pools = new Pools(load.machine, load.scheduling, () => provider);
  const domains = ["a", "b"].map((name) => load.domain(name, [hog]));
  load.scheduling.setAffinity(domains[0]!.vcpus[0]!, new Set([1]), new Set([1]));
  load.run(10e6);
  for (const at of [10e6, 30e6]) {
    pools.offline([1]);
    load.run(at + 5e6);
    pools.online([1]);
    load.run(at + 20e6);
    expect(domains[0]!.vcpus[0]!.runningOn?.id).toBe(1);
  }
  expect(load.pool.faults).toEqual([]);
});
