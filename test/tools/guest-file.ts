/**
 * Guests that tests take from Debian: fetched once into the user's cache. Where one cannot be fetched the test is skipped,
 * counted and says why; with CI set it fails, so that nothing goes untested there unseen.
 */
import { it, type TestContext } from "vitest";
import { DebianError, type DebianFileRequest, fetchDebianFile } from "../../plugins/lib-debian/index.ts";

/** What a failed fetch becomes: a failure where CI is set, else a skip of the test in `context`. */
function unavailable(context: TestContext, error: unknown): never {
  const inCi = (process.env["CI"] ?? "") !== "" && process.env["CI"] !== "false";
  if (inCi || !(error instanceof DebianError)) throw error;
  return context.skip(`guest not fetched: ${error.message}`);
}

/** Fetches a file of a Debian package for the test in `context`; see above for what happens when it cannot be. */
export async function guestFile(context: TestContext, request: DebianFileRequest): Promise<string> {
  try {
    return await fetchDebianFile(request);
  } catch (error) {
    return unavailable(context, error);
  }
}

/**
 * A test that needs files of Debian packages.
 * @param run gets their paths in the order of the requests
 */
export function itWithGuest(
  name: string,
  requests: DebianFileRequest | readonly DebianFileRequest[],
  run: (...paths: string[]) => Promise<void> | void,
  timeout?: number,
): void {
  it(
    name,
    async (context) => {
      const paths: string[] = [];
      for (const request of Array.isArray(requests) ? requests : [requests]) {
        paths.push(await guestFile(context, request));
      }
      await run(...paths);
    },
    timeout,
  );
}

/** GRUB as a 64-bit PV kernel: the project's first unmodified guest. */
export const GRUB_PV: DebianFileRequest = {
  suite: "bookworm",
  package: "grub-xen-host",
  file: "usr/lib/grub-xen/grub-x86_64-xen.bin",
};
