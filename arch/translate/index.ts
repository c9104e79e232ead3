/** The translation library: what arch/x86 and the backends import. */
export { MAX_INSTRUCTIONS } from "./builder.ts";
export { Engine, type EngineOptions, type TranslateArch, TranslatedVcpu } from "./engine.ts";
export * from "./ir.ts";
export * from "./layout.ts";
export { put, putOracle, take, takeSigned, type Width } from "./ops/integer.ts";
export type { WalkEmitter } from "./slow.ts";
export type { Code, Expr } from "./wasm/code.ts";
export { F32, F64, I32, I64, V128 } from "./wasm/code.ts";
export * from "./wasm/expr.ts";
