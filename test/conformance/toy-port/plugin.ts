/** The big-endian toy port with 8 KiB pages as a plugin. */
import { definePlugin } from "hookvisor";
import { ToyArch } from "./backend.ts";

export default definePlugin({
  name: "arch-toy",
  api: "^1.0.0",
  description: "a tiny big-endian register machine with 8 KiB pages, to test the core",
  apply({ hooks }) {
    hooks.arch.for("toy").tap("arch-toy", (host) => new ToyArch(host));
  },
});
