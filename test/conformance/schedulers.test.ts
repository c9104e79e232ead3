/**
 * Every scheduler plugin passes the kit that a third party runs: those of the repository are found by a scan of plugins/scheduler-*, what each
 * claims is in test/plugins/scheduler-NAME/conformance.ts (nothing there: no claim).
 */
import { describe, expect, test } from "vitest";
import { FifoScheduler } from "../../core/scheduling/fifo.ts";
import { found } from "./found.ts";
import { schedulerSuite } from "./scheduler.ts";

const framework = { describe, test, check: (ok: boolean, message: string) => expect(ok, message).toBe(true) };

const schedulers = await found();

schedulerSuite(framework, { name: "fifo (the fallback)", make: (host) => new FifoScheduler(host) });
for (const under of schedulers) schedulerSuite(framework, under);

test("the scan finds plugins", () => {
  const names = schedulers.map(({ name }) => name);
  expect(names).toContain("round-robin");
  expect(new Set(names).size).toBe(names.length);
});
