/** Every scheduler of this repository on a machine where anything happens at any moment (fuzz.ts). HOOKVISOR_TRIALS: how many trials each, from a seed on. */
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { createHooks } from "../../../core/hooks.ts";
import type { HypervisorSetup } from "../../../core/hypervisor.ts";
import type { Plugin } from "../../../core/plugin.ts";
import { Trial } from "./fuzz.ts";

const [trials = 12, from = 0] = (process.env["HOOKVISOR_TRIALS"] ?? "").split(",").filter(Boolean).map(Number);
const PLUGINS = join(import.meta.dirname, "..", "..", "..", "plugins");
const names = readdirSync(PLUGINS)
  .filter((name) => name.startsWith("scheduler-"))
  .map((name) => name.slice("scheduler-".length));

describe("whatever happens, and whenever, core keeps its promises", () => {
  test.each(names)("under %s", async (name) => {
    const { default: plugin } = (await import(join(PLUGINS, `scheduler-${name}`, "plugin.ts"))) as { default: Plugin };
    const hooks = createHooks();
    plugin.apply({ hooks } as HypervisorSetup);
    const provider = { name, plugin: name, make: (host: never) => hooks.scheduler.for(name).call(host)! };
    for (let seed = from; seed < from + trials; seed++) {
      const problem = new Trial(provider, seed).run();
      expect(problem === null ? null : `seed ${seed}, ${problem}`).toBe(null);
    }
  });
});
