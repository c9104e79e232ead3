/**
 * Exact software floating point for f32, f64 and x87's f80: the oracle, and the slow path of what WebAssembly's own
 * arithmetic cannot do (flags, rounding modes, fused multiply-add, 80 bits).
 */
export * from "./arithmetic.ts";
export * from "./bcd.ts";
export * from "./compare.ts";
export * from "./convert.ts";
export * from "./elementary.ts";
export * from "./format.ts";
export * from "./round.ts";
