import { expect, it } from "vitest";
import { killAndLook } from "./disk-kill.ts";

it.each([
  ["an image", false],
  ["an overlay", true],
])(
  "%s has everything that was flushed after the host process is killed 20 times at random moments",
  async (_name, overlay) => {
    await expect(killAndLook(20, overlay, Math.floor(Math.random() * 2 ** 31))).resolves.toBeUndefined();
  },
);
