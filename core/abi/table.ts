/**
 * Frozen tables of constants, named as Xen's public headers name them: the table's name and the key, joined by an underscore,
 * are the header's macro. `EVTCHNOP.bind_virq` is `EVTCHNOP_bind_virq`. A test compares every entry with the headers.
 */
import type { U64 } from "./struct.ts";

/** Numeric constants by name. */
export type ConstantTable = Readonly<Record<string, number>>;

/** Freezes a table and keeps its literal types, so that a switch over its entries narrows. */
export function table<const T extends ConstantTable>(entries: T): Readonly<T> {
  return Object.freeze(entries);
}

/** The first key that has this value, for traces and messages; undefined if there is none. */
export function nameOf(constants: ConstantTable, value: number): string | undefined {
  for (const [name, entry] of Object.entries(constants)) if (entry === value) return name;
  return undefined;
}

/** A frozen 64-bit constant from its two unsigned 32-bit halves, high half first, as it is read in print. */
export function u64(hi: number, lo: number): U64 {
  return Object.freeze({ lo: lo >>> 0, hi: hi >>> 0 });
}
