/** Provides the device type `vif`: network devices of guests, on the bridges of the plugin that owns the hooks `network`. */
import { definePlugin } from "hookvisor";
import { sharedNetwork } from "../lib-switch/index.ts";
import { createVifType } from "./vif.ts";

export default definePlugin({
  name: "device-vif",
  api: "^1.0.0",
  description: "paravirtual network devices on bridges between domains",
  apply(hypervisor) {
    const type = createVifType(sharedNetwork(hypervisor, "device-vif"));
    hypervisor.hooks.deviceType.for("vif").tap("device-vif", () => type);
  },
});
