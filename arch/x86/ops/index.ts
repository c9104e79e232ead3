/** All of the x86's own IR operations, in the order of their ids. Names start with "x.". */
import type { OpSpec } from "../../translate/ir.ts";
import { arithmeticOps } from "./arithmetic.ts";
import { bitOps } from "./bits.ts";
import { controlOps } from "./control.ts";
import { floatOps } from "./float.ts";
import { shiftOps } from "./shift.ts";
import { simdOps } from "./simd.ts";
import { wideOps } from "./wide.ts";

export const X86_OPS: readonly OpSpec[] = [
  ...arithmeticOps,
  ...shiftOps,
  ...wideOps,
  ...bitOps,
  ...controlOps,
  ...simdOps,
  ...floatOps,
];
