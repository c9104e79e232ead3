/** What governors share: idle states by forecast, rates by relation, samples while a pCPU is busy. */
export { MenuIdle } from "./idle.ts";
export { checkParameter, highestRate, lowestRate, rateAtLeast } from "./rates.ts";
export { Sampler } from "./sampler.ts";
