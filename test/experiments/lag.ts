/**
 * Lag of proportional-share schedulers: domains of one vCPU that always compute, on one pCPU, with weights in the proportions of `shares`
 * (round-robin knows no weights: all are equal there). bvt's `mcu_advance` is the inverse of a weight.
 */
export const parameters = {
  scheduler: ["credit2", "bvt", "cosched", "round-robin"],
  shares: ["1 2 4", "1 1 1 1"],
  // bvt's context allowance, ms.
  allowance: [6],
};

interface Chosen {
  readonly scheduler: string;
  readonly shares: string;
  readonly allowance: number;
}

export default ({ scheduler, shares, allowance }: Chosen): unknown => {
  const parts = shares.split(" ").map(Number);
  const params = (part: number): Record<string, number> =>
    scheduler === "bvt" ? { mcu_advance: 120 / part } : scheduler === "round-robin" ? {} : { weight: 256 * part };
  return {
    duration: "20s",
    scheduler,
    ...(scheduler === "bvt" ? { params: { ctx_allow: `${allowance}ms` } } : {}),
    machine: { pcpus: 1 },
    domains: parts.map((part, i) => ({
      name: `hog-${i + 1}`,
      workload: { behaviour: "hog" },
      scheduler: params(part),
    })),
  };
};
