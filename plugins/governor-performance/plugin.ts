/** The governor `performance`: always the highest rate; idle states by forecast. */
import { definePlugin } from "hookvisor";
import { FixedRate, highestRate } from "../lib-governor/index.ts";

const NAME = "governor-performance";

export default definePlugin({
  name: NAME,
  api: "^1.0.0",
  description: "pCPUs at their highest rate",
  apply({ hooks }) {
    hooks.governor.for("performance").tap(NAME, (host) => new FixedRate(host, highestRate));
  },
});
