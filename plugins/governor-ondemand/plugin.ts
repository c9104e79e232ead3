/** The governor `ondemand`: the rate follows how busy the pCPU was. */
import { definePlugin } from "hookvisor";
import { Ondemand } from "./ondemand.ts";

const NAME = "governor-ondemand";

export default definePlugin({
  name: NAME,
  api: "^1.0.0",
  description: "rates that follow how busy a pCPU was",
  apply({ hooks }) {
    hooks.governor.for("ondemand").tap(NAME, (host) => new Ondemand(host));
  },
});
