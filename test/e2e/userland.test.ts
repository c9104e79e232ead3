import { itInUserland } from "./userland.ts";

itInUserland(
  "Python's test_struct passes in a guest of Debian's packages, and values are those of a real processor",
  ["test_struct", "values"],
  300_000,
);
