/** Relaxed co-scheduling as a plugin. */
import { definePlugin } from "hookvisor";
import { CoScheduler } from "./cosched.ts";

export default definePlugin({
  name: "scheduler-cosched",
  api: "^1.0.0",
  description: "relaxed co-scheduling: vCPUs of a domain progress together within a limit of skew",
  apply({ hooks }) {
    hooks.scheduler.for("cosched").tap("scheduler-cosched", (host) => new CoScheduler(host));
  },
});
