/** Provides the device type `console`: the PV console of every domain. */
import { definePlugin } from "hookvisor";
import { consoleType } from "./console.ts";

export default definePlugin({
  name: "device-console",
  api: "^1.0.0",
  description: "the primary PV console: a ring between the guest and a terminal",
  apply(hypervisor) {
    hypervisor.hooks.deviceType.for("console").tap("device-console", () => consoleType);
  },
});
