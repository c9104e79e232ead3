/** Provides the device type `virtio-net`: network devices of guests whose drivers know virtio, on the bridges of the plugin that owns the hooks `network`. */
import { definePlugin } from "hookvisor";
import { sharedNetwork } from "../lib-switch/index.ts";
import { createVirtioNetType } from "./net.ts";

export default definePlugin({
  name: "device-virtio-net",
  api: "^1.0.0",
  description: "virtio network devices on bridges between domains",
  apply(hypervisor) {
    const type = createVirtioNetType(sharedNetwork(hypervisor, "device-virtio-net"));
    hypervisor.hooks.deviceType.for("virtio-net").tap("device-virtio-net", () => type);
  },
});
