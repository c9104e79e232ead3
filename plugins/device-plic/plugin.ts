/** Provides the device type `plic`: the platform-level interrupt controller of RISC-V domains. */
import { definePlugin } from "hookvisor";
import { plicType } from "./plic.ts";

export default definePlugin({
  name: "device-plic",
  api: "^1.0.0",
  description: "the RISC-V platform-level interrupt controller",
  apply(hypervisor) {
    hypervisor.hooks.deviceType.for("plic").tap("device-plic", () => plicType);
  },
});
