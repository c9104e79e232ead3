/** All of the x86's own IR operations, in the order of their ids. Names start with "x.". */
import { type OpSpec, rarely } from "../../translate/ir.ts";
import { arithmeticOps } from "./arithmetic.ts";
import { bitOps } from "./bits.ts";
import { controlOps } from "./control.ts";
import { floatOps } from "./float.ts";
import { shiftOps } from "./shift.ts";
import { simdOps } from "./simd.ts";
import { wideOps } from "./wide.ts";

export const X86_OPS: readonly OpSpec[] = [
  ...rarely(arithmeticOps, /16|\.(add|sub|xor|adc|sbb|inc|dec|neg)8/),
  ...rarely(shiftOps, /16|8|rc[lr]|sh[lr]d/),
  ...rarely(wideOps),
  ...rarely(bitOps, /16/),
  // conditions on flags that nothing is known of: those of a comparison (s) or of a result (r) are the usual ones
  ...rarely(controlOps, /16|^x\.(cmov\d*|set|cond)\.(?![sr](b|ae|n?z|be|a|s|ns|l|le|g|ge)$)/),
  ...rarely(simdOps),
  ...rarely(floatOps),
];
