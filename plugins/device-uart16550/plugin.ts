/** Provides the device type `uart16550`: a serial port on MMIO or I/O ports. */
import { definePlugin } from "hookvisor";
import { uartType } from "./uart.ts";

export default definePlugin({
  name: "device-uart16550",
  api: "^1.0.0",
  description: "a 16550A serial port between a guest and a terminal",
  apply(hypervisor) {
    hypervisor.hooks.deviceType.for("uart16550").tap("device-uart16550", () => uartType);
  },
});
