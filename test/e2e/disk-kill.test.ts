import { expect, it } from "vitest";
import { killAndLook } from "./disk-kill.ts";

it.each([
  ["an image", false, 7],
  ["an overlay", true, 11],
])(
  "%s has everything that was flushed after the host process is killed twice (the long form: 20 times)",
  async (_name, overlay, seed) => {
    await expect(killAndLook(2, overlay, seed)).resolves.toBeUndefined();
  },
);
