/** The plugin: arch backend for domains of type `pv`, 64-bit paravirtual x86 guests. */
import { definePlugin } from "hookvisor";
import { PvBackend } from "./backend.ts";
import { addPvHypercalls } from "./hypercalls.ts";

export default definePlugin({
  name: "x86-pv",
  api: "^1.0.0",
  description: "64-bit paravirtual x86 guests (Xen PV) on the software CPU",
  apply({ hooks }) {
    // One backend a machine: made when the first domain of the type is created, before any table of it is filled.
    let backend: PvBackend | undefined;
    hooks.arch.for("pv").tap("x86-pv", (host) => {
      backend ??= new PvBackend(host);
      return backend;
    });
    hooks.hypercalls.tap("x86-pv", (table) => {
      if (table.type === "pv" && backend !== undefined) addPvHypercalls(table, backend);
    });
  },
});
