/** The same run twice, under both schedulers, with 1 and 4 vCPUs. */
import { describe } from "vitest";
import { itWithImage } from "../tools/guest-image.ts";
import { expectSameRun } from "./same-run.ts";

const TIMEOUT = 400_000;

describe("the same run twice", () => {
  for (const scheduler of ["credit", "round-robin"])
    for (const vcpus of ["1", "4"])
      itWithImage(
        "debian",
        `gives the same trace under ${scheduler} with ${vcpus} vCPUs`,
        () => expectSameRun(["--scheduler", scheduler, "--vcpus", vcpus, "--pcpus", "2"], TIMEOUT),
        2 * TIMEOUT,
      );
});
