/** What governors share: idle states by forecast, rates by relation, samples while a pCPU is busy. */
export { FixedRate } from "./fixed.ts";
export { MenuIdle } from "./idle.ts";
export { checkParameter, highestRate, lowestRate, rateAtLeast } from "./rates.ts";
export { Sampler } from "./sampler.ts";
