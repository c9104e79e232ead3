/**
 * The bridges of one hypervisor, by name, and the hooks by which plugins take part: a gateway, an uplink, a capture.
 *
 * A bridge comes into being when somebody first names it. Its number decides its addresses (10.0.NUMBER.0/24): the digits at the end of
 * its name where they are free (xenbr0, xenbr1), else the lowest free number from 100 on. Nothing here is global: a network belongs to whoever made it.
 */
import { ConfigError, type HypervisorSetup } from "hookvisor";
import { SyncHook } from "tapable";
import { Bridge, type Port } from "./bridge.ts";
import type { Frame } from "./frame.ts";

/** The bridge of a device that names none. */
export const DEFAULT_BRIDGE = "xenbr0";

const FIRST_UNNAMED = 100;
const NUMBERS = 255;

/** All bridges of one hypervisor. */
export interface Network {
  /** The bridge of a name, made when it is first asked for; ConfigError where there are too many. */
  bridge(name: string): Bridge;
  readonly bridges: readonly Bridge[];
}

/** The hooks that a network plugin owns, as `hypervisor.hooksOf("network")`. */
export interface NetworkHooks {
  readonly network: Network;
  /** A bridge was made; it has no ports yet. */
  readonly bridgeMade: SyncHook<[Bridge]>;
  /** A port sent a frame into its bridge, at a virtual time. */
  readonly frame: SyncHook<[Bridge, Port, Frame, number]>;
}

declare module "hookvisor" {
  interface PluginHooks {
    network: NetworkHooks;
  }
}

/** Makes a network without any bridge. */
export function createNetworkHooks(): NetworkHooks {
  const bridgeMade = new SyncHook<[Bridge]>(["bridge"]);
  const frame = new SyncHook<[Bridge, Port, Frame, number]>(["bridge", "port", "frame", "now"]);
  const bridges = new Map<string, Bridge>();
  const numberFor = (name: string): number => {
    const taken = new Set([...bridges.values()].map((bridge) => bridge.number));
    const wanted = Number(/(?:^|\D)(\d{1,3})$/.exec(name)?.[1] ?? Number.NaN);
    if (wanted < NUMBERS && !taken.has(wanted)) return wanted;
    for (let i = 0; i < NUMBERS; i++) {
      const number = (FIRST_UNNAMED + i) % NUMBERS;
      if (!taken.has(number)) return number;
    }
    throw new ConfigError(`Bridge '${name}': there are ${NUMBERS} bridges already, which is all.`);
  };
  const network: Network = {
    bridge(name) {
      let bridge = bridges.get(name);
      if (bridge === undefined) {
        bridge = new Bridge(name, numberFor(name), (...event) => frame.call(...event));
        bridges.set(name, bridge);
        bridgeMade.call(bridge);
      }
      return bridge;
    },
    get bridges() {
      return [...bridges.values()];
    },
  };
  return Object.freeze({ network, bridgeMade, frame });
}

/**
 * For plugins of network devices: the network of a hypervisor, once it has booted. Where no plugin owns one there are bridges all the same, with nothing
 * else on them, and all device plugins have the same.
 */
export function sharedNetwork(hypervisor: HypervisorSetup, plugin: string): () => Network {
  hypervisor.hooks.boot.tap(plugin, () => {
    if (hypervisor.hooksOf("network") === undefined) hypervisor.ownHooks("network", createNetworkHooks());
  });
  return () => hypervisor.hooksOf("network")!.network;
}
