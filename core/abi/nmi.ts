/** nmi.h: NMI callbacks and reasons. */
import { defineStruct } from "./struct.ts";
import { table } from "./table.ts";

export const XENNMI = table({
  register_callback: 0,
  unregister_callback: 1,
});
export const XEN_NMIREASON = table({ io_error: 1, pci_serr: 2, unknown: 4 });

export const xennmi_callback = defineStruct("xennmi_callback", { handler_address: "ulong", pad: "ulong" });
