/**
 * The guard against a plugin callback that never returns: a slice of the run loop runs under the host's watchdog, which ends it
 * after a wall-clock limit that no healthy slice (10 ms) comes near.
 *
 * V8 ends a script that runs too long without running its `finally` blocks: therefore CpuPool.inCallback still names the scheduler whose
 * code ran, and that scheduler is ejected. When no scheduler's code ran, the defect is elsewhere and the run ends with an error.
 */
import { createContext, Script } from "node:vm";
import { HookvisorError } from "../errors.ts";
import type { Hypervisor } from "../hypervisor.ts";

/** Host milliseconds that a slice may take. */
export const GUARD_MS = 10_000;

/** Makes a guard for RunOptions.guard. */
export function createGuard(
  hypervisor: Hypervisor,
  limit: number = GUARD_MS,
): (slice: () => void, what?: string) => void {
  const script = new Script("slice()", { filename: "run-loop-slice" });
  let current: () => void = () => {};
  const context = createContext({ slice: () => current() });
  return (slice, what = "A step of the machine") => {
    current = slice;
    try {
      script.runInContext(context, { timeout: limit });
    } catch (error) {
      if ((error as NodeJS.ErrnoException | null)?.code !== "ERR_SCRIPT_EXECUTION_TIMEOUT") throw error;
      eject(hypervisor, limit, error, what);
    }
  };
}

function eject(hypervisor: Hypervisor, limit: number, error: unknown, what: string): void {
  for (const pool of hypervisor.scheduling.pools) {
    const method = pool.inCallback;
    if (method === null) continue;
    pool.inCallback = null;
    pool.eject(`${method} did not return within ${limit / 1000} s`, error);
    return;
  }
  throw new HookvisorError("HV_STALLED", `${what} did not return within ${limit / 1000} s, in no scheduler's code.`, {
    cause: error,
  });
}
