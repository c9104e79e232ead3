/** Provides the device type `vif`: network devices of guests, on the bridges of the plugin that owns the hooks `network`. */
import { definePlugin } from "hookvisor";
import { createNetworkHooks, type NetworkHooks } from "../lib-switch/index.ts";
import { createVifType } from "./vif.ts";

export default definePlugin({
  name: "device-vif",
  api: "^1.0.0",
  description: "paravirtual network devices on bridges between domains",
  apply(hypervisor) {
    let hooks: NetworkHooks | undefined;
    // Without a network plugin there are bridges all the same, with nothing else on them.
    const type = createVifType(() => {
      hooks ??= hypervisor.hooksOf("network") ?? createNetworkHooks();
      return hooks.network;
    });
    hypervisor.hooks.deviceType.for("vif").tap("device-vif", () => type);
  },
});
