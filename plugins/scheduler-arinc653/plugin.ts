/** Xen's ARINC 653 scheduler as a plugin. */
import { definePlugin } from "hookvisor";
import { Arinc653Scheduler } from "./arinc653.ts";

export default definePlugin({
  name: "scheduler-arinc653",
  api: "^1.0.0",
  description: "Xen's ARINC 653 scheduler: a table of windows in a major frame",
  apply({ hooks }) {
    hooks.scheduler.for("arinc653").tap("scheduler-arinc653", (host) => new Arinc653Scheduler(host));
  },
});
