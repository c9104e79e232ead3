/** An experiment with two Debian guests, busy in their shells, gives the shares of the same experiment with hogs, within one per cent. */
import { expect } from "vitest";
import { itWithImage } from "../tools/guest-image.ts";
import { labShares } from "./lab-guests.ts";

itWithImage(
  "debian",
  "two Debian guests get what hogs get",
  async () => {
    // Both have booted when what counts begins.
    const times = { warmUp: "45s", duration: "70s", mhz: 100 };
    const hogs = await labShares("workload: { behaviour: hog }", times, 60_000);
    const busy = 'input: [{ expect: "root@" }, { send: "while :; do :; done\\r" }]';
    const guests = await labShares(`image: debian, memory: 128, ${busy}`, times, 900_000);
    for (const [i, share] of guests.entries()) expect(Math.abs(share - hogs[i]!)).toBeLessThan(0.01);
  },
  1_000_000,
);
