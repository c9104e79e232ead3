/**
 * Latency of an I/O domain beside three domains that always compute, on one pCPU: requests arrive at random (Poisson, 100 a second) and take 100 us, so that
 * it wants 1 % of the pCPU, far below its share.
 */
export const parameters = {
  scheduler: ["credit", "credit2", "sedf", "rtds", "round-robin"],
  /** Scheduler's rate limit, us: credit and credit2. */
  ratelimit: [1000],
};

interface Chosen {
  readonly scheduler: string;
  readonly ratelimit: number;
}

/** Of the I/O domain, and of a hog. Slices of 1 ms in 5; hogs live of extra time (in rtds they must have some budget). */
const PARAMS: Readonly<Record<string, readonly [io: unknown, hog: unknown]>> = {
  sedf: [{ period: "5ms", slice: "1ms", extratime: false }, {}],
  rtds: [
    { period: "5ms", budget: "1ms", extratime: false },
    { period: "100ms", budget: "1ms", extratime: true },
  ],
};

export default ({ scheduler, ratelimit }: Chosen): unknown => {
  const [io, hog] = PARAMS[scheduler] ?? [{}, {}];
  return {
    duration: "31s",
    warmUp: "1s",
    scheduler,
    ...(scheduler.startsWith("credit") ? { params: { ratelimit_us: ratelimit } } : {}),
    machine: { pcpus: 1 },
    domains: [
      { name: "io", workload: { behaviour: "io", rate: 100, service: "100us" }, scheduler: io },
      { name: "hog", count: 3, workload: { behaviour: "hog" }, scheduler: hog },
    ],
  };
};
