/** Lifters of MMX, SSE and SSE2. */
import type { TableBuilder } from "../table.ts";

export function addSimd(_t: TableBuilder): void {}
