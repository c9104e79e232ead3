/** What emulated devices have in common; a library, no plugin. */
export * from "./settings.ts";
