/** Provides the device type `vbd`: disks of guests from raw image files. */
import { definePlugin } from "hookvisor";
import { vbdType } from "./vbd.ts";

export default definePlugin({
  name: "device-vbd",
  api: "^1.0.0",
  description: "paravirtual disks from raw image files and block devices",
  apply(hypervisor) {
    hypervisor.hooks.deviceType.for("vbd").tap("device-vbd", () => vbdType);
  },
});
