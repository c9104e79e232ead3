/** The conformance kits, published as hookvisor/conformance. */
export * from "./scheduler.ts";
