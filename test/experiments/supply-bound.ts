/**
 * The least that a periodic server supplies: a server of 4 ms in 10 ms beside one of 5.94 ms in 9.9 ms, both of guests that always compute, without extra
 * time. As the periods drift against one another by 0.1 ms each time, the server meets its worst case within 990 ms.
 */
export const parameters = { scheduler: ["rtds", "sedf"] };

export default ({ scheduler }: { scheduler: string }): unknown => {
  const server = (name: string, period: string, budget: string): unknown => ({
    name,
    workload: { behaviour: "hog" },
    scheduler: { period, [scheduler === "sedf" ? "slice" : "budget"]: budget, extratime: false },
  });
  return {
    duration: "2s",
    scheduler,
    machine: { pcpus: 1 },
    domains: [server("server", "10ms", "4ms"), server("adversary", "9.9ms", "5.94ms")],
  };
};
