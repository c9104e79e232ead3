/** Finds the scheduler plugins of the repository, and what each claims to the kit. */
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { createHooks } from "../../core/hooks.ts";
import type { HypervisorSetup } from "../../core/hypervisor.ts";
import type { Plugin } from "../../core/plugin.ts";
import type { Scheduler } from "../../core/scheduling/scheduler.ts";
import type { SchedulerClaims, SchedulerUnderTest } from "./scheduler.ts";

const PROJECT = join(import.meta.dirname, "..", "..");

/** Every key that a plugin of plugins/scheduler-* provides, with the claims of test/plugins/scheduler-NAME/conformance.ts. */
export async function found(): Promise<SchedulerUnderTest[]> {
  const all: SchedulerUnderTest[] = [];
  for (const folder of readdirSync(join(PROJECT, "plugins")).sort()) {
    const file = join(PROJECT, "plugins", folder, "plugin.ts");
    if (!folder.startsWith("scheduler-") || !existsSync(file)) continue;
    const { default: plugin } = (await import(/* @vite-ignore */ file)) as { default: Plugin };
    const own = join(PROJECT, "test", "plugins", folder, "conformance.ts");
    const { claims } = existsSync(own)
      ? ((await import(/* @vite-ignore */ own)) as { claims: SchedulerClaims })
      : { claims: {} };
    const hooks = createHooks();
    const keys: string[] = [];
    const noting = {
      for: (key: string) => {
        keys.push(key);
        return hooks.scheduler.for(key);
      },
    };
    plugin.apply({ hooks: { ...hooks, scheduler: noting } } as unknown as HypervisorSetup);
    for (const key of keys)
      all.push({ name: key, make: (host) => hooks.scheduler.for(key).call(host) as Scheduler, ...claims });
  }
  return all;
}
