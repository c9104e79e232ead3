/** The governor `schedutil`: the rate follows the scheduler's load. */
import { definePlugin } from "hookvisor";
import { Schedutil } from "./schedutil.ts";

const NAME = "governor-schedutil";

export default definePlugin({
  name: NAME,
  api: "^1.0.0",
  description: "rates that follow the scheduler's load",
  apply({ hooks }) {
    hooks.governor.for("schedutil").tap(NAME, (host) => new Schedutil(host));
  },
});
