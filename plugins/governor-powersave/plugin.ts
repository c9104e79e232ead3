/** The governor `powersave`: always the lowest rate; idle states by forecast. */
import { definePlugin } from "hookvisor";
import { FixedRate, lowestRate } from "../lib-governor/index.ts";

const NAME = "governor-powersave";

export default definePlugin({
  name: NAME,
  api: "^1.0.0",
  description: "pCPUs at their lowest rate",
  apply({ hooks }) {
    hooks.governor.for("powersave").tap(NAME, (host) => new FixedRate(host, lowestRate));
  },
});
