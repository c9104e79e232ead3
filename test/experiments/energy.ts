/**
 * Race to idle, or go slowly: 2 million instructions every 10 ms at 250, 500, 1000 or 2000 MHz on one pCPU, which halts when it idles, or has deeper states too.
 *
 * The power model is lib-energy's with its default figures: 1 W + 4 W * (f / 2000 MHz)^3 busy; idle 0.8, 0.4, 0.1 and 0.02 W by state, and 0, 1, 20 and
 * 100 uJ for each wake-up.
 */
export const parameters = { mhz: [2000, 1000, 500, 250], deep: [false, true] };

const HALT = [{ name: "halt", exitLatency: "0us", targetResidency: "0us" }];
const DEEP = [
  ...HALT,
  { name: "clock-stop", exitLatency: "0us", targetResidency: "20us" },
  { name: "cache-flush", exitLatency: "0us", targetResidency: "200us" },
  { name: "power-off", exitLatency: "0us", targetResidency: "1ms" },
];

export default ({ mhz, deep }: { mhz: number; deep: boolean }): unknown => ({
  duration: "11s",
  // The governor learns how long idling lasts.
  warmUp: "1s",
  scheduler: "credit",
  machine: {
    pcpus: 1,
    mhz,
    // "powersave" keeps the lowest rate and chooses idle states; the model wants to know the highest.
    frequencies: mhz === 2000 ? [mhz] : [mhz, 2000],
    governor: mhz === 2000 ? "performance" : "powersave",
    idleStates: deep ? DEEP : HALT,
  },
  domains: [{ name: "load", workload: { behaviour: "periodic", period: "10ms", budget: "2ms" } }],
});
