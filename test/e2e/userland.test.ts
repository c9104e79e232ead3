import { itInUserland } from "./userland.ts";

itInUserland("Python's test_struct passes in a guest of Debian's packages", ["test_struct"], 300_000);
