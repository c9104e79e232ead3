/**
 * The hooks `trace` of a hypervisor: trace formats by name. Whoever asks first publishes them, so that a format plugin depends on no other.
 *
 * Invariant: one provider a name, enforced when it is tapped, with both plugins named.
 */
import { type HypervisorSetup, PluginError } from "hookvisor";
import { HookMap, SyncBailHook, SyncHook } from "tapable";
import type { TraceFormat } from "./writer.ts";

/** Found by `hypervisor.hooksOf("trace")`, or by `traceHooks`. */
export interface TraceHooks {
  /** A format by its name: `xentrace`, `perfetto`. */
  readonly format: HookMap<SyncBailHook<[], TraceFormat>>;
  /** A plugin has provided a format of that name. */
  readonly formatAdded: SyncHook<[name: string, plugin: string]>;
  /** All that are provided so far, in order of being added. */
  formats(): readonly { readonly name: string; readonly plugin: string }[];
}

declare module "hookvisor" {
  interface PluginHooks {
    trace: TraceHooks;
  }
}

function createTraceHooks(): TraceHooks {
  const formatAdded = new SyncHook<[string, string]>(["name", "plugin"]);
  const added: { readonly name: string; readonly plugin: string }[] = [];
  const format = new HookMap<SyncBailHook<[], TraceFormat>>((name) => {
    const hook = new SyncBailHook<[], TraceFormat>([]);
    hook.intercept({
      register: (tap) => {
        const first = hook.taps[0];
        if (first !== undefined)
          throw new PluginError(
            "HV_PROVIDER_TAKEN",
            tap.name,
            `Plugin '${tap.name}' provides trace format '${name}', which plugin '${first.name}' already provides; remove one of the two or rename the key.`,
          );
        added.push({ name: String(name), plugin: tap.name });
        formatAdded.call(String(name), tap.name);
        return tap;
      },
    });
    return hook;
  });
  return Object.freeze({ format, formatAdded, formats: () => [...added] });
}

/** The hooks of a hypervisor, published now if nobody has. For a plugin's apply(). */
export function traceHooks(hypervisor: HypervisorSetup): TraceHooks {
  const there = hypervisor.hooksOf("trace");
  if (there !== undefined) return there;
  const hooks = createTraceHooks();
  hypervisor.ownHooks("trace", hooks);
  return hooks;
}

/** A format by name; undefined when no plugin provides it. */
export function traceFormat(hooks: TraceHooks, name: string): TraceFormat | undefined {
  const hook = hooks.format.get(name);
  return hook === undefined || hook.taps.length === 0 ? undefined : hook.call();
}
