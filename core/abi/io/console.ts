/** io/console.h: the PV console's shared page. */
import { array, defineStruct } from "../struct.ts";

/** `in` goes to the guest, `out` comes from it; indices run freely and are masked by the ring's size. */
export const xencons_interface = defineStruct("xencons_interface", {
  in: array("u8", 1024),
  out: array("u8", 2048),
  in_cons: "u32",
  in_prod: "u32",
  out_cons: "u32",
  out_prod: "u32",
});
