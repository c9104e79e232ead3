/** The plugin: arch backend for domains of type `workload`, whose guest is a behaviour instead of code; owns the hooks `workload`. */
import { definePlugin } from "hookvisor";
import { WorkloadBackend } from "./backend.ts";
import { createWorkloadHooks } from "./hooks.ts";

export default definePlugin({
  name: "workload",
  api: "^1.0.0",
  description: "synthetic guests: hogs, periodic jobs, I/O, barriers, locks, traces, rt-app files",
  apply(hypervisor) {
    const hooks = createWorkloadHooks();
    hypervisor.ownHooks("workload", hooks);
    hypervisor.hooks.arch.for("workload").tap("workload", (host) => new WorkloadBackend(host, hooks));
  },
});
