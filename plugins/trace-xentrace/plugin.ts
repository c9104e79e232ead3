/** The trace format `xentrace`: Xen's own, for xenalyze. */
import { definePlugin } from "hookvisor";
import { traceHooks } from "../lib-trace/index.ts";
import { XentraceWriter } from "./writer.ts";

const NAME = "trace-xentrace";

export default definePlugin({
  name: NAME,
  api: "^1.0.0",
  description: "traces in Xen's own format",
  apply(hypervisor) {
    traceHooks(hypervisor)
      .format.for("xentrace")
      .tap(NAME, () => ({
        summary: "write Xen's binary trace, which xenalyze --cpu-hz=1G reads",
        extension: "xen",
        open: (options) => new XentraceWriter(options),
      }));
  },
});
