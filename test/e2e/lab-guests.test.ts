/** An experiment with the project's own busy kernel gives the shares of the same experiment with hogs, within one per cent. */
import { join } from "node:path";
import { expect, test } from "vitest";
import { PROJECT } from "../tools/hookvisor-run.ts";
import { labShares } from "./lab-guests.ts";

test("busy kernels get what hogs get", { timeout: 120_000 }, async () => {
  const kernel = join(PROJECT, "test", "guests", "images", "busy.elf");
  const times = { warmUp: "1s", duration: "6s", mhz: 50 };
  const hogs = await labShares("workload: { behaviour: hog }", times, 60_000);
  const guests = await labShares(
    `kernel: ${JSON.stringify(kernel)}, memory: 16, extra: "seconds=0 every=0"`,
    times,
    90_000,
  );
  expect(hogs[0]).toBeCloseTo(1 / 3, 2);
  for (const [i, share] of guests.entries()) expect(Math.abs(share - hogs[i]!)).toBeLessThan(0.01);
});
