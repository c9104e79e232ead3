/** The x86 engine's operations: the core's and this library's, resolved to opcodes once. Constants only. */
import { OpSet } from "../translate/ir.ts";
import { coreOps } from "../translate/ops/index.ts";
import { X86_OPS } from "./ops/index.ts";

/** Ids are positions, so they are those of every engine built from the same two lists. */
export const X86_OPSET = new OpSet([...coreOps, ...X86_OPS]);

/** Whether there is an operation of this name. */
export const exists = (name: string): boolean => X86_OPS.some((op) => op.name === name);

/** Opcode of an operation. */
export const id = (name: string): number => X86_OPSET.id(name);

/** Opcodes of a family by log2 of the operand's bytes (0 where a width is missing): name8, name16, name32, name64. */
export function family(name: string, suffix = "", widths: readonly number[] = [8, 16, 32, 64]): readonly number[] {
  return [8, 16, 32, 64].map((w) => (widths.includes(w) ? id(`${name}${w}${suffix}`) : 0));
}

/** log2 of 1, 2, 4, 8. */
export const LOG2 = [0, 0, 1, 0, 2, 0, 0, 0, 3] as const;
