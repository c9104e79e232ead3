/** credit2 on the real core: who is taken off its pCPU without being asked. */
import { expect, test } from "vitest";
import { Credit2Scheduler } from "../../../plugins/scheduler-credit2/credit2.ts";
import { hog, Load } from "../../support/load.ts";

test("a unit whose affinity changes while it runs has burned what it ran when the next is chosen", () => {
  const load = new Load((host) => new Credit2Scheduler(host), { pcpus: 2, lazy: true });
  const domain = load.domain("a", [hog]);
  load.run(3e6);
  const to = 1 - domain.vcpus[0]!.runningOn!.id;
  load.scheduling.setAffinity(domain.vcpus[0]!, new Set([to]), new Set([to]));
  expect(load.pool.scheduler.dump?.()).toMatch(/a vcpu 0 credit 7\d{6}\b/);
});
