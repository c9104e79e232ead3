/** Four vCPUs on two pCPUs, disk and network in use: two runs, one trace. */
import { describe } from "vitest";
import { itWithImage } from "../tools/guest-image.ts";
import { expectSameRun } from "./same-run.ts";

const TIMEOUT = 200_000;

describe("the same run twice", () => {
  itWithImage(
    "debian",
    "gives the same trace, with 4 vCPUs",
    () => expectSameRun(["--vcpus", "4", "--pcpus", "2"], TIMEOUT),
    2 * TIMEOUT,
  );
});
