/** The credit2 scheduler of Xen as a plugin. */
import { definePlugin } from "hookvisor";
import { Credit2Scheduler } from "./credit2.ts";

export default definePlugin({
  name: "scheduler-credit2",
  api: "^1.0.0",
  description: "Xen's credit2 scheduler: credit by weight, a runqueue a socket, caps, load balancing",
  apply({ hooks }) {
    hooks.scheduler.for("credit2").tap("scheduler-credit2", (host) => new Credit2Scheduler(host));
  },
});
