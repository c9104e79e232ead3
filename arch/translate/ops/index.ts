/** Every core operation, in the order of the interpreter's table. */
import type { OpSpec } from "../ir.ts";
import { controlOps, engineOps } from "./control.ts";
import { floatOps } from "./float.ts";
import { integerOps } from "./integer.ts";
import { memoryOps } from "./memory.ts";
import { vectorOps } from "./vector.ts";

export const coreOps: readonly OpSpec[] = [
  ...engineOps,
  ...controlOps,
  ...integerOps,
  ...memoryOps,
  ...vectorOps,
  ...floatOps,
];
