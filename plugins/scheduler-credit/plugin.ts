/** The credit scheduler of Xen as a plugin. */
import { definePlugin } from "hookvisor";
import { CreditScheduler } from "./credit.ts";

export default definePlugin({
  name: "scheduler-credit",
  api: "^1.0.0",
  description: "Xen's credit scheduler: weights, caps, boost, work stealing",
  apply({ hooks }) {
    hooks.scheduler.for("credit").tap("scheduler-credit", (host) => new CreditScheduler(host));
  },
});
