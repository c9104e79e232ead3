import { describe } from "vitest";
import { itInUserland } from "./userland.ts";

const TIMEOUT = 900_000;

describe("Python's own tests in a guest", () => {
  for (const module of ["test_math", "test_struct", "test_hashlib", "test_zlib", "test_json"])
    itInUserland(`${module} passes`, [module], TIMEOUT);
  itInUserland(
    "those of floats, signals and threads pass on two vCPUs",
    ["test_float", "test_cmath", "test_strtod", "test_signal", "test_threading"],
    TIMEOUT,
    { vcpus: 2 },
  );
});

describe("Debian's userland in a guest", () => {
  itInUserland(
    "values, single instructions, contexts and programs are as on a real processor",
    ["values", "machine", "contexts", "programs"],
    TIMEOUT,
  );
  itInUserland("contexts survive on two vCPUs too", ["contexts", "machine", "contexts"], TIMEOUT, { vcpus: 2 });
});
