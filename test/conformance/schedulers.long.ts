/** The kit for schedulers on every scheduler plugin, with twenty times as many random loads, other ones at each run (a failure says its seed). */
import { describe, expect, test } from "vitest";
import { FifoScheduler } from "../../core/scheduling/fifo.ts";
import { found } from "./found.ts";
import { schedulerSuite } from "./scheduler.ts";

const framework = { describe, test, check: (ok: boolean, message: string) => expect(ok, message).toBe(true) };
const more = { effort: 20, seed: null } as const;

schedulerSuite(framework, { name: "fifo (the fallback)", make: (host) => new FifoScheduler(host), ...more });
for (const under of await found()) schedulerSuite(framework, { ...under, ...more });
