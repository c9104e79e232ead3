/** Equal turns as a plugin. The scheduler is in round-robin.ts. */
import { definePlugin } from "hookvisor";
import { RoundRobin } from "./round-robin.ts";

export default definePlugin({
  name: "scheduler-round-robin",
  api: "^1.0.0",
  description: "equal turns from one queue",
  apply({ hooks }) {
    hooks.scheduler.for("round-robin").tap("scheduler-round-robin", (host) => new RoundRobin(host));
  },
});
