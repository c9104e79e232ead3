/**
 * Dhall's effect under global EDF: 4 pCPUs, 4 light tasks (`light` ms of 10), and a heavy one (10 ms of 10.1), all released together.
 *
 * `partitioned`: the heavy task has a pCPU of its own (by affinity), the light ones the three others.
 */
export const parameters = { light: [0.2, 0.1], partitioned: [false, true] };

export default ({ light, partitioned }: { light: number; partitioned: boolean }): unknown => {
  // The heavy task's server has all of each period, so that a late job does not wait for the budget of the next one besides.
  const task = (name: string, period: string, budget: string, server: string, cpus: string): unknown => ({
    name,
    workload: { behaviour: "periodic", period, budget },
    scheduler: { period, budget: server, extratime: false },
    ...(partitioned ? { cpus } : {}),
  });
  return {
    duration: "2010ms",
    scheduler: "rtds",
    machine: { pcpus: 4 },
    domains: [
      task("heavy", "10.1ms", "10ms", "10.1ms", "0"),
      ...[1, 2, 3, 4].map((i) => task(`light-${i}`, "10ms", `${light}ms`, `${light}ms`, "1-3")),
    ],
  };
};
