/**
 * EDF's utilisation bound on one pCPU: periodic jobs, each in a vCPU whose server has the job's own budget and period.
 *
 * `tasks`: period/budget of each task, ms. `scheduler`: rtds or sedf, without extra time.
 */
export const parameters = {
  scheduler: ["rtds", "sedf"],
  // U = 1, U = 1 + 1/120; of fixed priorities (rate-monotonic) three tasks need U <= 0.78 for a promise, and both sets would miss.
  tasks: ["4/1 6/2 12/5", "4/1 6/2 12/5.1"],
  seconds: [12],
};

export default ({ scheduler, tasks, seconds }: { scheduler: string; tasks: string; seconds: number }): unknown => ({
  duration: `${seconds}s`,
  scheduler,
  machine: { pcpus: 1 },
  domains: tasks.split(" ").map((task, i) => {
    const [period, budget] = task.split("/");
    return {
      name: `task-${i + 1}`,
      workload: { behaviour: "periodic", period: `${period}ms`, budget: `${budget}ms` },
      scheduler: {
        period: `${period}ms`,
        [scheduler === "sedf" ? "slice" : "budget"]: `${budget}ms`,
        extratime: false,
      },
    };
  }),
});
