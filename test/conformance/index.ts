/** The conformance kits, published as hookvisor/conformance. */
export * from "./arch.ts";
export * from "./device.ts";
export * from "./emulated-device.ts";
export * from "./scheduler.ts";
