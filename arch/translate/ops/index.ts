/** Every core operation, in the order of the interpreter's table. */
import { type OpSpec, rarely } from "../ir.ts";
import { controlOps, engineOps } from "./control.ts";
import { floatOps } from "./float.ts";
import { integerOps } from "./integer.ts";
import { memoryOps } from "./memory.ts";
import { vectorOps } from "./vector.ts";

export const coreOps: readonly OpSpec[] = [
  ...engineOps,
  ...controlOps,
  ...rarely(integerOps, /16|^(add|sub|and|or|xor|shl|shr|sar|rol|ror|mul|not|neg)8|32si?$|div|rem|clz|ctz|popcnt|^set/),
  ...rarely(memoryOps, /^(ld[zsmw]|sti?)16|^lds8x?$/),
  ...rarely(vectorOps),
  ...rarely(floatOps),
];
