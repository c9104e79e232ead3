/**
 * The hooks that the toolstack owns: what other plugins add to the command line, to the images and to the keys of a domain's config.
 *
 * Found by `hypervisor.hooksOf("toolstack")` from a plugin that `requires: ["toolstack-cli"]`. One provider a key.
 */
import type { Command } from "commander";
import { type Hypervisor, PluginError } from "hookvisor";
import { HookMap, SyncBailHook } from "tapable";
import type { HostRun, HostStreams } from "../../core/node/host-plugin.ts";
import type { DomainDraft } from "./domain-draft.ts";
import type { XlValue } from "./xl-cfg.ts";

/** A command that a plugin adds. */
export interface CommandProvider {
  readonly summary: string;
  /** Declares arguments and options on a commander command of that name. */
  declare?(command: Command): void;
  /** Runs it; answers the exit code. A HookvisorError is printed as its sentence. */
  run(context: CommandContext): Promise<number>;
}

/** What a command is handed. */
export interface CommandContext extends HostRun {
  readonly hypervisor: Hypervisor;
  readonly args: readonly string[];
  readonly options: Readonly<Record<string, unknown>>;
}

/** What an image is handed while it gets its files ready. */
export interface ImageContext {
  readonly streams: HostStreams;
  /** Nothing is to be told but errors. */
  readonly quiet: boolean;
}

/** A guest that can be named on the command line. */
export interface ImageProvider {
  readonly summary: string;
  /** Gets its files ready and says what to boot; keys as in xl.cfg. What a user gives as `extra` is appended to the image's. */
  settings(context: ImageContext): Promise<Readonly<Record<string, XlValue>>>;
}

/** A key of a domain's config. */
export interface ConfigKeyProvider {
  readonly summary: string;
  /** Applies the value to the draft; throws ConfigError. `place` is where the value was written. */
  apply(value: XlValue, draft: DomainDraft, place: string): void;
}

/** An option of `hookvisor run` with a value; the key is its long name, `vif` for --vif. */
export interface RunOptionProvider {
  readonly summary: string;
  /** What help calls its value: `spec`, `file`. */
  readonly value: string;
  /** It may be given several times. */
  readonly repeated: boolean;
  /** What it says about every domain; keys as in xl.cfg. */
  settings?(values: readonly string[]): Readonly<Record<string, XlValue>>;
  /** It was given, and the machine is not booted yet: the core's hooks may still be tapped. Throws ConfigError. */
  begin?(values: readonly string[], run: HostRun): void;
}

/** The toolstack's hooks. */
export interface ToolstackHooks {
  readonly command: HookMap<SyncBailHook<[], CommandProvider>>;
  readonly image: HookMap<SyncBailHook<[], ImageProvider>>;
  readonly configKey: HookMap<SyncBailHook<[], ConfigKeyProvider>>;
  readonly runOption: HookMap<SyncBailHook<[], RunOptionProvider>>;
}

declare module "hookvisor" {
  interface PluginHooks {
    toolstack: ToolstackHooks;
  }
}

function oneProvider<R>(what: string): HookMap<SyncBailHook<[], R>> {
  return new HookMap<SyncBailHook<[], R>>((key) => {
    const hook = new SyncBailHook<[], R>([]);
    hook.intercept({
      register: (tap) => {
        const first = hook.taps[0];
        if (first !== undefined)
          throw new PluginError(
            "HV_PROVIDER_TAKEN",
            tap.name,
            `Plugin '${tap.name}' provides ${what} '${key}', which plugin '${first.name}' already provides; remove one of the two or rename the key.`,
          );
        return tap;
      },
    });
    return hook;
  });
}

/** Makes the hooks. */
export function createToolstackHooks(): ToolstackHooks {
  return Object.freeze({
    command: oneProvider<CommandProvider>("command"),
    image: oneProvider<ImageProvider>("image"),
    configKey: oneProvider<ConfigKeyProvider>("config key"),
    runOption: oneProvider<RunOptionProvider>("option of run"),
  });
}

/** The provider of a key, or undefined. */
export function provided<R>(map: HookMap<SyncBailHook<[], R>>, key: string): R | undefined {
  const hook = map.get(key);
  return hook === undefined || hook.taps.length === 0 ? undefined : hook.call();
}
