/** Xen's real-time deferrable server scheduler as a plugin. */
import { definePlugin } from "hookvisor";
import { RtdsScheduler } from "./rtds.ts";

export default definePlugin({
  name: "scheduler-rtds",
  api: "^1.0.0",
  description: "Xen's RTDS: global earliest deadline first with deferrable servers",
  apply({ hooks }) {
    hooks.scheduler.for("rtds").tap("scheduler-rtds", (host) => new RtdsScheduler(host));
  },
});
