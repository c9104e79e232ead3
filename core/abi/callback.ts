/** callback.h: registration of a PV guest's entry points. */
import { array, defineStruct } from "./struct.ts";
import { table } from "./table.ts";

export const CALLBACKOP = table({
  register: 0,
  unregister: 1,
});
export const CALLBACKTYPE = table({
  event: 0,
  failsafe: 1,
  syscall: 2,
  sysenter_deprecated: 3,
  nmi: 4,
  sysenter: 5,
  syscall32: 7,
});
export const CALLBACKF_mask_events = 1;

/** address (xen_callback_t): [address] in a 64-bit guest, [cs, eip] in a 32-bit one. */
export const callback_register = defineStruct("callback_register", {
  type: "u16",
  flags: "u16",
  address: array("ulong", (abi) => (abi.wordBytes === 8 ? 1 : 2)),
});
export const callback_unregister = defineStruct("callback_unregister", { type: "u16", _unused: "u16" });
