/**
 * What the host process lends to toolstacks: a plugin that is always there, named `host`, whose hooks a toolstack taps.
 *
 * Invariants: at most one plugin is the toolstack; what it is handed lives as long as the run of the command.
 */
import type { Readable, Writable } from "node:stream";
import { AsyncSeriesBailHook } from "tapable";
import { PluginError } from "../errors.ts";
import type { Hypervisor } from "../hypervisor.ts";
import { API_VERSION, type LoadedPlugin } from "../plugin.ts";
import type { HookvisorConfig } from "./config.ts";
import type { NodeHost } from "./host-services.ts";

/** One run of the command `hookvisor`. */
export interface HostRun {
  /** Arguments after the program's name. */
  readonly argv: readonly string[];
  /** Not booted yet. */
  readonly hypervisor: Hypervisor;
  readonly host: NodeHost;
  readonly config: HookvisorConfig;
  /** Folder of the project: it holds arch/, plugins/ and test/guests/images. */
  readonly root: string;
  readonly streams: HostStreams;
  /** Aborted when nobody takes the output any more: what runs should end, in order. */
  readonly outputLost: AbortSignal;
}

/** The process's streams, or those of a test. */
export interface HostStreams {
  readonly stdin: Readable & { readonly isTTY?: boolean; readonly fd?: number; setRawMode?(raw: boolean): unknown };
  /** `columns`: the width of a terminal. */
  readonly stdout: Writable & { readonly isTTY?: boolean; readonly columns?: number };
  readonly stderr: Writable & { readonly isTTY?: boolean };
}

/** Hooks of the host process. */
export interface HostHooks {
  /** The toolstack: runs the command, answers the exit code. One plugin taps it. */
  readonly main: AsyncSeriesBailHook<[HostRun], number>;
}

declare module "../hypervisor.ts" {
  interface PluginHooks {
    host: HostHooks;
  }
}

/** Makes the plugin, first in the list of those that are applied. */
export function hostPlugin(): LoadedPlugin & { readonly hooks: HostHooks } {
  const main = new AsyncSeriesBailHook<[HostRun], number>(["run"]);
  main.intercept({
    register: (tap) => {
      const first = main.taps[0];
      if (first !== undefined)
        throw new PluginError(
          "HV_PROVIDER_TAKEN",
          tap.name,
          `Plugin '${tap.name}' provides the toolstack, which plugin '${first.name}' already provides; load one of the two.`,
        );
      return tap;
    },
  });
  const hooks: HostHooks = Object.freeze({ main });
  return {
    hooks,
    source: "core/node",
    plugin: {
      name: "host",
      api: `^${API_VERSION}`,
      description: "what the host process lends to toolstacks",
      apply: (hypervisor) => hypervisor.ownHooks("host", hooks),
    },
  };
}
