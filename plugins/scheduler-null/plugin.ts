/** Xen's null scheduler as a plugin. */
import { definePlugin } from "hookvisor";
import { NullScheduler } from "./null.ts";

export default definePlugin({
  name: "scheduler-null",
  api: "^1.0.0",
  description: "Xen's null scheduler: a pCPU for each vCPU, the rest waits",
  apply({ hooks }) {
    hooks.scheduler.for("null").tap("scheduler-null", (host) => new NullScheduler(host));
  },
});
