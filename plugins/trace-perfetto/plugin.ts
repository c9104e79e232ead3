/** The trace format `perfetto`: TrackEvent protobuf, for ui.perfetto.dev. */
import { definePlugin } from "hookvisor";
import { traceHooks } from "../lib-trace/index.ts";
import { PerfettoWriter } from "./writer.ts";

const NAME = "trace-perfetto";

export default definePlugin({
  name: NAME,
  api: "^1.0.0",
  description: "traces for the Perfetto UI",
  apply(hypervisor) {
    traceHooks(hypervisor)
      .format.for("perfetto")
      .tap(NAME, () => ({
        summary: "write a trace that the Perfetto UI opens",
        extension: "perfetto-trace",
        open: (options) => new PerfettoWriter(options),
      }));
  },
});
