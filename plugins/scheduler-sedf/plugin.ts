/** Xen's simple EDF scheduler of 2007 as a plugin. */
import { definePlugin } from "hookvisor";
import { SedfScheduler } from "./sedf.ts";

export default definePlugin({
  name: "scheduler-sedf",
  api: "^1.0.0",
  description: "Xen's SEDF of 2007: earliest deadline first on each pCPU, extra time by weight",
  apply({ hooks }) {
    hooks.scheduler.for("sedf").tap("scheduler-sedf", (host) => new SedfScheduler(host));
  },
});
