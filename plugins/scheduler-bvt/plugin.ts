/** Xen's borrowed virtual time scheduler of 2006 as a plugin. */
import { definePlugin } from "hookvisor";
import { BvtScheduler } from "./bvt.ts";

export default definePlugin({
  name: "scheduler-bvt",
  api: "^1.0.0",
  description: "borrowed virtual time as in Xen 3.0: shares by virtual time, warp for latency",
  apply({ hooks }) {
    hooks.scheduler.for("bvt").tap("scheduler-bvt", (host) => new BvtScheduler(host));
  },
});
