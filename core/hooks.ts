/**
 * Every hook of the core, in one frozen table.
 *
 * Hooks (tapable) find providers and observe; interfaces do the hot work and are called directly (README.md, section 3).
 * Invariants: one provider a key, enforced when it is tapped, with both plugins named; after boot the table is
 * sealed and a late tap is an error; an untapped tracing hook costs about a nanosecond.
 */
import { AsyncSeriesHook, HookMap, SyncBailHook, SyncHook } from "tapable";
import type { ArchBackend, ArchHost } from "./architecture/arch-backend.ts";
import type { DeviceType } from "./device/device-type.ts";
import type { Domain, ShutdownReason } from "./domain/domain.ts";
import type { RunState, Vcpu } from "./domain/vcpu.ts";
import { PluginError } from "./errors.ts";
import type { HypercallTable } from "./hypercall/table.ts";
import type { Governor, GovernorHost } from "./machine/governor.ts";
import type { Pcpu } from "./machine/pcpu.ts";
import type { Nanoseconds } from "./machine/timers.ts";
import type { CpuPool } from "./scheduling/cpupool.ts";
import type { Scheduler, SchedulerHost } from "./scheduling/scheduler.ts";

/** What `accessCheck` is asked: `actor` wants to do `action` to `target`. An errno (negative) refuses. */
export interface AccessRequest {
  readonly actor: Domain;
  readonly action: string;
  readonly target: Domain;
}

/** A plugin threw, broke its contract or stalled. */
export interface PluginFault {
  readonly plugin: string;
  readonly kind: "scheduler" | "device" | "arch" | "governor";
  /** What happened, in a sentence. */
  readonly reason: string;
  /** State dump of the plugin, when it could give one. */
  readonly dump: string;
  readonly error: unknown;
  /** Where it threw: file and line of the plugin's code, when that is known. */
  readonly place?: string | undefined;
  /** Virtual time of it, in ns. */
  readonly time: Nanoseconds;
}

/** One line of the hook table: what a reader of the list wants to know. */
interface HookFact {
  readonly kind: string;
  readonly args: string;
  readonly when: string;
}

/** The table. `hookvisor list-plugins --hooks` prints it. */
export const hookTable = Object.freeze({
  scheduler: { kind: "HookMap<SyncBailHook>, one provider a key", args: "host", when: "a cpupool is made" },
  deviceType: { kind: "HookMap<SyncBailHook>, one provider a key", args: "", when: "a device is attached" },
  arch: {
    kind: "HookMap<SyncBailHook>, one provider a key",
    args: "host",
    when: "the first domain of that type is created",
  },
  governor: {
    kind: "HookMap<SyncBailHook>, one provider a key",
    args: "host",
    when: "a machine with that governor boots, once a pCPU",
  },
  hypercalls: { kind: "SyncHook", args: "table", when: "once per guest ABI, to fill its table; then sealed" },
  boot: { kind: "AsyncSeriesHook", args: "", when: "the machine comes up" },
  shutdown: { kind: "AsyncSeriesHook", args: "", when: "the machine goes down" },
  domainCreate: {
    kind: "AsyncSeriesHook",
    args: "domain",
    when: "after the arch backend built a domain, before it runs",
  },
  domainDestroy: { kind: "AsyncSeriesHook", args: "domain", when: "before the arch backend tears a domain down" },
  domainShutdown: {
    kind: "SyncHook",
    args: "domain, reason, now",
    when: "a domain shut down or crashed; it is still there",
  },
  accessCheck: { kind: "SyncBailHook", args: "request", when: "a domain acts on another; an errno refuses" },
  contextSwitch: { kind: "SyncHook", args: "pcpu, previous, next, now", when: "another vCPU is put on a pCPU" },
  frequency: { kind: "SyncHook", args: "pcpu, mhz, now", when: "a pCPU's rate changes" },
  idleState: {
    kind: "SyncHook",
    args: "pcpu, state, now",
    when: "a pCPU with a governor enters an idle state (its index) or leaves it (-1)",
  },
  poolChange: { kind: "SyncHook", args: "pcpu, pool, now", when: "a pCPU joins a cpupool, or leaves it (null)" },
  runstate: {
    kind: "SyncHook",
    args: "vcpu, from, to, now",
    when: "a vCPU's runstate changes; from or to running, runningOn is where",
  },
  hypercall: { kind: "SyncHook", args: "vcpu, number, result, now", when: "a hypercall was answered" },
  eventSend: { kind: "SyncHook", args: "domain, port, now", when: "an event channel became pending" },
  grantMap: {
    kind: "SyncHook",
    args: "mapper, granter, reference, status, now",
    when: "a grant was mapped, or refused",
  },
  deviceState: { kind: "SyncHook", args: "domain, device, state, now", when: "a backend's xenbus state changed" },
  trap: { kind: "SyncHook", args: "vcpu, vector, errorCode, now", when: "a trap was delivered to a guest" },
  pluginFault: {
    kind: "SyncBailHook",
    args: "fault",
    when: "a plugin broke its contract: 'crash', or 'eject' and fall back (the default)",
  },
} as const satisfies Record<string, HookFact>);

function providerMap<Args extends unknown[], R>(what: string): HookMap<SyncBailHook<Args, R>> {
  return new HookMap<SyncBailHook<Args, R>>((key) => {
    const hook = new SyncBailHook<Args, R>(argNames(what) as never);
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

function argNames(what: string): string[] {
  return what === "device type" ? [] : ["host"];
}

/** Makes a fresh, unsealed set of the core's hooks. */
export function createHooks() {
  return Object.freeze({
    scheduler: providerMap<[SchedulerHost], Scheduler>("scheduler"),
    deviceType: providerMap<[], DeviceType>("device type"),
    arch: providerMap<[ArchHost], ArchBackend>("architecture"),
    governor: providerMap<[GovernorHost], Governor>("governor"),
    hypercalls: new SyncHook<[HypercallTable]>(["table"]),
    boot: new AsyncSeriesHook<[]>([]),
    shutdown: new AsyncSeriesHook<[]>([]),
    domainCreate: new AsyncSeriesHook<[Domain]>(["domain"]),
    domainDestroy: new AsyncSeriesHook<[Domain]>(["domain"]),
    domainShutdown: new SyncHook<[Domain, ShutdownReason, Nanoseconds]>(["domain", "reason", "now"]),
    accessCheck: new SyncBailHook<[AccessRequest], number | undefined>(["request"]),
    contextSwitch: new SyncHook<[Pcpu, Vcpu | null, Vcpu | null, Nanoseconds]>(["pcpu", "previous", "next", "now"]),
    frequency: new SyncHook<[Pcpu, number, Nanoseconds]>(["pcpu", "mhz", "now"]),
    idleState: new SyncHook<[Pcpu, number, Nanoseconds]>(["pcpu", "state", "now"]),
    poolChange: new SyncHook<[Pcpu, CpuPool | null, Nanoseconds]>(["pcpu", "pool", "now"]),
    runstate: new SyncHook<[Vcpu, RunState, RunState, Nanoseconds]>(["vcpu", "from", "to", "now"]),
    hypercall: new SyncHook<[Vcpu, number, number, Nanoseconds]>(["vcpu", "number", "result", "now"]),
    eventSend: new SyncHook<[Domain, number, Nanoseconds]>(["domain", "port", "now"]),
    grantMap: new SyncHook<[Domain, Domain, number, number, Nanoseconds]>([
      "mapper",
      "granter",
      "reference",
      "status",
      "now",
    ]),
    deviceState: new SyncHook<[Domain, string, number, Nanoseconds]>(["domain", "device", "state", "now"]),
    trap: new SyncHook<[Vcpu, number, number, Nanoseconds]>(["vcpu", "vector", "errorCode", "now"]),
    pluginFault: new SyncBailHook<[PluginFault], "crash" | "eject" | undefined>(["fault"]),
  });
}

/** The core's hooks. */
export type Hooks = ReturnType<typeof createHooks>;

/** Makes every later tap an error that names the plugin. */
export function sealHooks(hooks: Hooks): void {
  for (const hook of Object.values(hooks)) {
    if (hook instanceof HookMap) {
      for (const one of (hook as unknown as { _map: Map<string, object> })._map.values()) seal(one);
      hook.intercept({ factory: (_key, made) => seal(made as object) as never });
    } else seal(hook);
  }
}

/** Replaces the methods that tap. An interceptor would refuse too, but with one a hook that nobody taps counts as used (isUsed). */
function seal<T extends object>(hook: T): T {
  const refuse = (tap: string | { readonly name?: string }): never => {
    const name = (typeof tap === "string" ? tap : tap.name) ?? "(no name)";
    throw new PluginError(
      "HV_HOOKS_SEALED",
      name,
      `Plugin '${name}' taps a hook after boot; hooks are sealed then, so tap them in apply().`,
    );
  };
  return Object.assign(hook, { tap: refuse, tapAsync: refuse, tapPromise: refuse, intercept: refuse });
}

/** The plugin that provides `key`; PluginError that lists the keys there are. */
export function providerOf<Args extends unknown[], R>(
  map: HookMap<SyncBailHook<Args, R>>,
  what: string,
  key: string,
): string {
  const tap = map.get(key)?.taps[0];
  if (tap === undefined)
    throw new PluginError(
      "HV_PROVIDER_MISSING",
      key,
      `No plugin provides ${what} '${key}'; ${known(providers(map).map((p) => p.key))}.`,
    );
  return tap.name;
}

/** The provider of `key`, with the plugin that it came from; PluginError when there is none. */
export function provide<Args extends unknown[], R>(
  map: HookMap<SyncBailHook<Args, R>>,
  what: string,
  key: string,
  ...args: Args
): { readonly value: R; readonly plugin: string } {
  const plugin = providerOf(map, what, key);
  const value = (map.for(key).call as (...a: Args) => R | undefined)(...args);
  if (value === undefined)
    throw new PluginError(
      "HV_PLUGIN_CONTRACT",
      plugin,
      `Plugin '${plugin}' was asked for ${what} '${key}' and returned nothing; its tap must return the ${what}.`,
    );
  return { value, plugin };
}

/** All keys of a provider map with the plugin that provides each, sorted by key. */
export function providers<Args extends unknown[], R>(
  map: HookMap<SyncBailHook<Args, R>>,
): { readonly key: string; readonly plugin: string }[] {
  const entries = (map as unknown as { _map: Map<string, SyncBailHook<Args, R>> })._map;
  return [...entries]
    .flatMap(([key, hook]) => hook.taps.slice(0, 1).map((tap) => ({ key, plugin: tap.name })))
    .sort((a, b) => (a.key < b.key ? -1 : 1));
}

function known(keys: readonly string[]): string {
  return keys.length === 0 ? "none is loaded" : `there are: ${keys.join(", ")}`;
}
