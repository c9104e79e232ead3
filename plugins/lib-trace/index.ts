/** Traces: what a format is, how it is found, and how the core's hooks feed it. */
export { type TraceHooks, traceFormat, traceHooks } from "./hooks.ts";
export { TraceTap } from "./tap.ts";
export { type TraceFormat, type TraceOptions, type TraceSink, type TraceWriter, traceTee } from "./writer.ts";
