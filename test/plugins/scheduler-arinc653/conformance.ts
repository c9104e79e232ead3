/** What arinc653 claims to the conformance kit. */
import type { SchedulerClaims } from "../../conformance/scheduler.ts";

export const claims: SchedulerClaims = {
  // A window is its unit's whether it has anything to do or not.
  workConserving: false,
  // Without a table each unit has a window of 10 ms.
  starvationBound: (units) => (units + 1) * 10e6,
  frames: {
    table: (windows, majorFrame) => ({
      schedule: windows.map(({ domain, vcpu, time }) => ({ domain, vcpu, runtime_ns: time })),
      major_frame_ns: majorFrame,
    }),
  },
  // Each vCPU twice, with windows of 1 to 3 ms; every other one; none.
  rows: (_param, domains) => {
    const vcpus = domains.flatMap(({ name, uuid, vcpus }, i) =>
      Array.from({ length: vcpus }, (_, vcpu) => ({
        domain: i % 2 === 0 ? name : uuid,
        vcpu,
        runtime_ns: (1 + (i % 3)) * 1e6,
      })),
    );
    return [[...vcpus, ...vcpus].slice(0, 64), vcpus.filter((_, i) => i % 2 === 0).slice(0, 64), []];
  },
};
