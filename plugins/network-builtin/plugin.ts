/** Owns the hooks `network` (the bridges of a hypervisor) and puts a gateway on each bridge, so that a guest has an address without any setup. */
import { definePlugin } from "hookvisor";
import { createNetworkHooks } from "../lib-switch/index.ts";
import { Gateway } from "./gateway.ts";

const NAME = "network-builtin";

export default definePlugin({
  name: NAME,
  api: "^1.0.0",
  description: "bridges between domains, each with a gateway: ARP, ping, DHCP, DNS",
  apply(hypervisor) {
    const hooks = createNetworkHooks();
    hooks.bridgeMade.tap(NAME, (bridge) => {
      new Gateway(bridge);
    });
    hypervisor.ownHooks("network", hooks);
  },
});
