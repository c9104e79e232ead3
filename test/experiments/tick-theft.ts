/**
 * Tick theft: a domain that computes, but sleeps from 0.4 ms before each scheduler's tick (10 ms) until 0.1 ms after it, beside an honest one of the same
 * weight that always computes, on one pCPU.
 *
 * `start`: what the thief does at first. "computes": computes for 100 ms, over ticks too, as any guest does while it boots; "rests": then sleeps for 200 ms
 * besides; "dodges": neither. `credit-sampled` is test/experiments/sampled-credit:
 *   hookvisor lab run test/experiments/tick-theft.ts --plugin ./test/experiments/sampled-credit --set scheduler=credit-sampled
 */
export const parameters = { scheduler: ["credit", "credit2"], start: ["computes", "rests", "dodges"] };

const BOOT = { do: { behaviour: "hog" }, for: "100ms" };
const REST = { do: { behaviour: "bursts", bursts: [["0us", "200ms"]] } };
const STARTS: Readonly<Record<string, readonly unknown[]>> = { computes: [BOOT], rests: [BOOT, REST], dodges: [] };

export default ({ scheduler, start }: { scheduler: string; start: string }): unknown => {
  const dodge = { do: { behaviour: "tick-dodger", period: "10ms", before: "400us", after: "100us" } };
  return {
    duration: "31s",
    warmUp: "1s",
    scheduler,
    ...(scheduler.startsWith("credit") ? { params: { ratelimit_us: 0 } } : {}),
    machine: { pcpus: 1 },
    domains: [
      { name: "victim", workload: { behaviour: "hog" } },
      { name: "thief", workload: { behaviour: "sequence", of: [...(STARTS[start] ?? []), dodge] } },
    ],
  };
};
