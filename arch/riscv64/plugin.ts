/** The plugin: arch backend for domains of type `riscv64`. */
import { definePlugin } from "hookvisor";
import { RiscvBackend } from "./backend.ts";
import { addRiscvHypercalls } from "./xen.ts";

export default definePlugin({
  name: "riscv64",
  api: "^1.0.0",
  description: "64-bit RISC-V guests (RV64GC in S-mode, SBI, device tree) on the software CPU",
  apply({ hooks }) {
    // One backend a machine: made when the first domain of the type is created, before any table of it is filled.
    let backend: RiscvBackend | undefined;
    hooks.arch.for("riscv64").tap("riscv64", (host) => {
      backend ??= new RiscvBackend(host);
      return backend;
    });
    hooks.hypercalls.tap("riscv64", (table) => {
      const riscv = backend;
      if (table.type === "riscv64" && riscv !== undefined) addRiscvHypercalls(table, (call) => riscv.sbi(call));
    });
  },
});
