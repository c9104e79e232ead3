/**
 * Images of the catalogue for tests: made ready once, in the user's cache, by the command that a user has. Where one cannot be made the test is
 * skipped, counted and says why; with CI set it fails, so that nothing goes untested there unseen.
 */
import { it } from "vitest";
import { hookvisor } from "./hookvisor-run.ts";

/** Making an image may download tens of megabytes. */
const PULL_TIMEOUT = 600_000;

/** A test that boots the image `image` of `hookvisor images`; `timeout` is for the test without making the image. */
export function itWithImage(image: string, name: string, run: () => Promise<void>, timeout: number): void {
  it(
    name,
    async (context) => {
      const pulled = await hookvisor(["images", "pull", image, "-q"], { timeout: PULL_TIMEOUT });
      if (pulled.code !== 0) {
        const why = `image ${image} is not ready: ${pulled.stderr.trim()}`;
        if ((process.env["CI"] ?? "") !== "" && process.env["CI"] !== "false") throw new Error(why);
        context.skip(why);
      }
      await run();
    },
    PULL_TIMEOUT + timeout,
  );
}
