/**
 * Devices of domains: finds the type, writes the XenStore nodes, makes the backend, drives its handshake, takes it away.
 *
 * Invariants: a device's callbacks run from the machine's queue of posted work or from a timer, never inside a guest's send; a callback
 * that throws closes that device and no other, and is reported through `pluginFault`; a detached device holds no mapping,
 * no port and no watch: what it forgot to release is released for it.
 */
import type { Exit, PlacedDevice } from "../architecture/arch-backend.ts";
import type { Domain } from "../domain/domain.ts";
import { guestOwned, guestReadable } from "../domain/publish.ts";
import { PauseFlag } from "../domain/vcpu.ts";
import { ConfigError, PluginError, placeOf } from "../errors.ts";
import { provide } from "../hooks.ts";
import type { Machine } from "../machine/machine.ts";
import type { RunLoop } from "../scheduling/run-loop.ts";
import type { XenStoreClient } from "../xenstore/client.ts";
import type { GuestStore } from "../xenstore/guest-store.ts";
import { Bus } from "./bus.ts";
import type {
  DeviceHost,
  DeviceType,
  EmulatedDevice,
  HostServices,
  InterruptController,
  MappedPages,
  SplitBackend,
} from "./device-type.ts";
import { mapForeign } from "./foreign.ts";
import { SharedTerminal } from "./shared-terminal.ts";
import { XenbusHandshake } from "./xenbus.ts";

/** One device of one domain. */
export interface AttachedDevice {
  readonly domain: Domain;
  readonly type: string;
  readonly id: number;
  /** The plugin that provides the type. */
  readonly plugin: string;
  readonly handshake: XenbusHandshake | null;
}

interface Attached extends AttachedDevice {
  handshake: XenbusHandshake | null;
  /** Null until the plugin has made it. */
  device: SplitBackend | EmulatedDevice | null;
  readonly frontend: string;
  readonly backend: string;
  readonly client: XenStoreClient;
  /** Mappings, ports and timers that the device has now. */
  readonly resources: Set<() => void>;
  /** Interrupt lines that it holds high. */
  readonly lines: Set<number>;
  gone: boolean;
}

export class DeviceManager {
  readonly machine: Machine;
  readonly #store: GuestStore;
  readonly #services: HostServices;
  readonly #attached: Attached[] = [];
  readonly #buses = new Map<number, Bus>();
  readonly #terminals = new WeakMap<Domain, Map<number, SharedTerminal>>();
  readonly #controllers = new Map<number, InterruptController>();
  /** Set by the hypervisor: where host work waits. */
  loop!: RunLoop;

  constructor(machine: Machine, store: GuestStore, services: HostServices) {
    this.machine = machine;
    this.#store = store;
    this.#services = services;
  }

  /** The devices of a domain. */
  list(domain: Domain): readonly AttachedDevice[] {
    return this.#attached.filter((a) => a.domain === domain);
  }

  /** Wraps what a device type does while a device is attached (the guard against callbacks that never return); `what` is for its message. */
  guard: (body: () => void, what: string) => void = (body) => body();

  /** Attaches a device, or what stands in for its type in such a domain; ConfigError or PluginError say what is wrong with it, and nothing is left behind then. */
  async attach(domain: Domain, wanted: string, spec: string): Promise<AttachedDevice> {
    const type = substitute(domain, wanted);
    const { value, plugin } = provide(this.machine.hooks.deviceType, "device type", type);
    checkMethods(value, ["parse", "deviceId", "create"], `device type '${type}'`, plugin);
    const config = value.parse(spec);
    const taken = new Set(this.list(domain).flatMap((a) => (a.type === value.type ? [a.id] : [])));
    const id = value.deviceId(config, taken);
    if (!Number.isSafeInteger(id) || id < 0)
      throw new PluginError(
        "HV_PLUGIN_CONTRACT",
        plugin,
        `Plugin '${plugin}': deviceId of device type '${type}' must answer a whole number from 0, and answered ${String(id)}.`,
      );
    if (taken.has(id))
      throw new ConfigError(
        `Domain '${domain.name}' has two devices '${type}' with the number ${id} (${spec}); give one of them another name.`,
      );
    await value.open?.(config, this.#services);
    if (domain.dying) throw new ConfigError(`Domain '${domain.name}' is being destroyed; it takes no device.`);
    const home = `/local/domain/${domain.id}`;
    const attached: Attached = {
      domain,
      type: value.type,
      id,
      plugin,
      handshake: null,
      device: null,
      frontend: `${home}/${value.frontendPath?.(config) ?? `device/${value.type}/${id}`}`,
      backend: `/local/domain/0/backend/${value.type}/${domain.id}/${id}`,
      client: this.#store.client.child(),
      resources: new Set(),
      lines: new Set(),
      gone: false,
    };
    this.#attached.push(attached);
    try {
      const what = `Attaching ${nameOf(attached)} (plugin '${plugin}')`;
      this.guard(() => this.#start(attached, value, config), what);
    } catch (error) {
      await this.#detach(attached);
      this.#forgetFrontend(attached);
      throw error;
    }
    return attached;
  }

  #start(attached: Attached, type: DeviceType, config: unknown): void {
    const { domain, client, frontend, backend } = attached;
    const { kind = "split" } = type;
    if (kind === "split") this.#publish(domain, type, config, frontend, backend);
    const device = type.create(this.#host(attached), config);
    const methods = kind === "emulated" ? ["reset", "read", "write"] : ["probe", "connect", "disconnect"];
    checkMethods(device, methods, `what create of device type '${attached.type}' returns`, attached.plugin);
    if (device.kind !== kind)
      throw new PluginError(
        "HV_PLUGIN_CONTRACT",
        attached.plugin,
        `Plugin '${attached.plugin}': device type '${attached.type}' is of kind '${kind}', and create returns one of kind '${device.kind}'.`,
      );
    attached.device = device;
    if (device.kind === "emulated") this.#addEmulated(attached, device);
    else if (type.handshake !== "none") {
      attached.handshake = new XenbusHandshake(device, {
        client,
        frontend,
        backend,
        hold: (work) => this.loop.hold(work, () => {}),
        stateChanged: (_from, to) =>
          this.machine.hooks.deviceState.call(domain, `${type.type}/${attached.id}`, to, this.machine.now),
        failed: (error) => this.machine.log(`${nameOf(attached)}: ${messageOf(error)}`),
        ended: () => this.#remove(attached),
      });
      attached.handshake.start();
    } else {
      device.probe();
      const connecting = device.connect();
      if (connecting instanceof Promise)
        this.loop.hold(connecting, (result) => result instanceof Error && this.#fault(attached, result));
    }
  }

  #addEmulated(attached: Attached, device: EmulatedDevice): void {
    const { domain } = attached;
    this.#bus(domain).add(`${attached.type} ${attached.id}`, device);
    if (device.controller === undefined) return;
    if (this.#controllers.has(domain.id))
      throw new ConfigError(`Domain '${domain.name}' has two interrupt controllers; leave ${nameOf(attached)} out.`);
    this.#controllers.set(domain.id, device.controller);
  }

  /** Sets what a device says of an interrupt line; the line itself is high while any device holds it so. */
  #interrupt(attached: Attached, line: number, level: boolean): void {
    const { domain, lines } = attached;
    const controller = this.#controllers.get(domain.id);
    if (controller === undefined)
      throw new Error(`${nameOf(attached)} has interrupt line ${line}, but ${domain} has no interrupt controller`);
    const shared = this.#attached.some((one) => one !== attached && one.domain === domain && one.lines.has(line));
    controller.line(line, level || shared);
    if (level) lines.add(line);
    else lines.delete(line);
  }

  /** Sets a pin of a vCPU, which wakes if it waits; false: there is no such vCPU or pin. */
  #pin(domain: Domain, id: number, pin: number, level: boolean): boolean {
    const vcpu = domain.vcpus[id];
    if (vcpu === undefined || domain.arch?.setPin?.(vcpu, pin, level) !== true) return false;
    if (level && domain.arch.eventsDeliverable(vcpu)) this.machine.control.clearFlag(vcpu, PauseFlag.blocked);
    return true;
  }

  /** The emulated devices of a domain, in the order in which they were attached. */
  emulated(domain: Domain): readonly PlacedDevice[] {
    return this.#attached.flatMap(({ domain: owner, type, id, device }) =>
      owner === domain && device?.kind === "emulated"
        ? [{ type, id, regions: device.regions, description: device.describe?.() ?? null }]
        : [],
    );
  }

  #publish(domain: Domain, type: DeviceType, config: unknown, frontend: string, backend: string): void {
    const { client } = this.#store;
    const nodes = (base: string, own: boolean, values: Record<string, string>): void => {
      const permissions = own ? [...guestOwned(domain.id), ...guestReadable(0).slice(1)] : guestReadable(domain.id);
      for (const [key, value] of Object.entries({ "": "", ...values })) {
        const path = key === "" ? base : `${base}/${key}`;
        if (key === "" && client.exists(path)) continue;
        client.write(path, value);
        client.setPermissions(path, permissions);
      }
    };
    const xenbus = type.handshake !== "none";
    nodes(backend, false, {
      frontend,
      "frontend-id": String(domain.id),
      online: "1",
      state: "1",
    });
    nodes(frontend, xenbus, {
      backend,
      "backend-id": "0",
      ...(xenbus ? { state: "1" } : {}),
      ...type.frontendNodes?.(config),
    });
    if (!xenbus && domain.console.mfn >= 0)
      nodes(frontend, false, { port: String(domain.console.port), "ring-ref": String(domain.console.mfn) });
  }

  /** What the device is handed: whatever calls it back is guarded, and silent once the device has gone. */
  #host(attached: Attached): DeviceHost {
    const { machine } = this;
    const { domain, client, frontend, backend, resources } = attached;
    const name = nameOf(attached);
    const guarded =
      <A extends unknown[]>(body: (...args: A) => void) =>
      (...args: A): void => {
        if (attached.gone) return;
        try {
          body(...args);
        } catch (error) {
          this.#fault(attached, error);
        }
      };
    const area = (path: string) => {
      const inner = client.area(path);
      return { ...inner, watch: (key: string, changed: () => void) => inner.watch(key, guarded(changed)) };
    };
    /** Keeps track of what the device holds, so that it can be taken back. */
    const keep = <T extends object>(thing: T, release: keyof T & string): T => {
      const original = (thing[release] as unknown as () => void).bind(thing);
      const once = (): void => {
        if (resources.delete(once)) original();
      };
      resources.add(once);
      return Object.assign(thing, { [release]: once });
    };
    const mapped = (pages: MappedPages): MappedPages => keep({ ...pages }, "unmap");
    return {
      domain,
      frontend: area(frontend),
      backend: area(backend),
      services: {
        openFile: (path, mode, create) => this.#services.openFile(path, mode, create),
        terminal: (owner, index) => {
          const { terminal, leave } = this.#terminal(owner, index);
          resources.add(leave);
          return { ...terminal, onInput: (waiting) => terminal.onInput(guarded(waiting)) };
        },
      },
      neighbours: () => this.emulated(domain),
      mapGrants: (references, access) => mapped(domain.grants.mapForBackend(references, access)),
      mapForeign: (gfns, access) => mapped(mapForeign(machine, domain, gfns, access)),
      bindEvent: (port, onEvent) => {
        const channel = machine.domains.get(0)!.events.bindBackend(domain, port, guarded(onEvent));
        return keep({ notify: () => channel.notify(), close: () => channel.close() }, "close");
      },
      interrupt: (line, level) => this.#interrupt(attached, line, level),
      pin: (vcpu, pin, level) => this.#pin(domain, vcpu, pin, level),
      timer: (at, fire) => {
        const timer = machine.timers.arm(Math.max(at, machine.now), (now) => {
          resources.delete(cancel);
          guarded(fire)(now);
        });
        const cancel = (): void => {
          resources.delete(cancel);
          timer.cancel();
        };
        resources.add(cancel);
        return { at: timer.at, cancel };
      },
      io: (work, latency, done) => this.loop.io(work, latency, guarded(done)),
      now: () => machine.now,
      log: (message) => machine.log(`${name}: ${message}`),
    };
  }

  /** A new user of a domain's terminal. */
  #terminal(domain: Domain, index: number): ReturnType<SharedTerminal["join"]> {
    const terminals = this.#terminals.get(domain) ?? new Map<number, SharedTerminal>();
    this.#terminals.set(domain, terminals);
    const shared = terminals.get(index) ?? new SharedTerminal(this.#services.terminal(domain, index));
    terminals.set(index, shared);
    return shared.join();
  }

  #fault(attached: Attached, error: unknown): void {
    if (attached.gone) return;
    const reason = `${nameOf(attached)}: ${messageOf(error)}`;
    const place = placeOf(error);
    this.machine.log(
      `plugin '${attached.plugin}' failed, its device is closed: ${reason}${place === undefined ? "" : ` at ${place}`}`,
    );
    const verdict = this.machine.hooks.pluginFault.call({
      plugin: attached.plugin,
      kind: "device",
      reason,
      dump: "",
      error,
      place,
      time: this.machine.now,
    });
    if (verdict === "crash") throw error;
    this.loop.hold(this.#detach(attached), () => {});
  }

  /** Takes a device away in good order: the frontend is asked first, where there is a handshake to ask it by. */
  detach(device: AttachedDevice): void {
    const attached = this.#attached.find((a) => a === device);
    if (attached === undefined) return;
    if (attached.handshake !== null) attached.handshake.detach();
    else this.#remove(attached);
  }

  /** Nothing more is to come from the frontend: the device goes, with its nodes at both ends. */
  #remove(attached: Attached): void {
    if (!attached.gone) this.loop.hold(this.#detach(attached), () => this.#forgetFrontend(attached));
  }

  #forgetFrontend({ frontend, domain }: Attached): void {
    const { client } = this.#store;
    if (!domain.dying && client.exists(frontend)) client.rm(frontend);
  }

  /** The domain goes: all its devices go at once. */
  async detachAll(domain: Domain): Promise<void> {
    for (const attached of this.#attached.filter((a) => a.domain === domain)) await this.#detach(attached);
    this.#buses.delete(domain.id);
  }

  async #detach(attached: Attached): Promise<void> {
    if (attached.gone) return;
    attached.gone = true;
    const { device, handshake, client, backend, resources } = attached;
    try {
      if (handshake !== null) await handshake.destroy();
      else if (device?.kind === "split") await device.disconnect();
    } catch (error) {
      this.machine.log(`${nameOf(attached)}: ${messageOf(error)}`);
    }
    try {
      await device?.close?.();
    } catch (error) {
      this.machine.log(`${nameOf(attached)}: ${messageOf(error)}`);
    }
    if (device?.kind === "emulated") {
      this.#buses.get(attached.domain.id)?.remove(device);
      if (this.#controllers.get(attached.domain.id) === device.controller) this.#controllers.delete(attached.domain.id);
    }
    for (const release of [...resources]) release();
    try {
      if (this.#controllers.has(attached.domain.id))
        for (const line of attached.lines) this.#interrupt(attached, line, false);
    } catch (error) {
      this.machine.log(`${nameOf(attached)}: ${messageOf(error)}`);
    }
    client.close();
    if (client.exists(backend)) client.rm(backend);
    const at = this.#attached.indexOf(attached);
    if (at >= 0) this.#attached.splice(at, 1);
  }

  /** Answers an access to a port or MMIO address. A device that throws is closed; the access then reads all ones. */
  io(domain: Domain, exit: Exit): void {
    this.#bus(domain).access(exit);
  }

  #deviceFault(device: EmulatedDevice, error: unknown): void {
    const attached = this.#attached.find((a) => a.device === device);
    if (attached === undefined) throw error;
    this.#buses.get(attached.domain.id)?.remove(device);
    this.#fault(attached, error);
  }

  #bus(domain: Domain): Bus {
    let bus = this.#buses.get(domain.id);
    if (bus === undefined) {
      bus = new Bus((device, error) => this.#deviceFault(device, error));
      this.#buses.set(domain.id, bus);
    }
    return bus;
  }
}

/** The type that stands in for another one in such a domain, else the type itself. */
function substitute({ arch }: Domain, type: string): string {
  const substitutes = arch?.substitutes;
  return substitutes !== undefined && Object.hasOwn(substitutes, type) ? substitutes[type]! : type;
}

/** PluginError, naming the first method that is missing. */
function checkMethods(thing: unknown, methods: readonly string[], what: string, plugin: string): void {
  const given = typeof thing === "object" && thing !== null ? (thing as Readonly<Record<string, unknown>>) : {};
  const missing = methods.find((method) => typeof given[method] !== "function");
  if (missing !== undefined)
    throw new PluginError("HV_PLUGIN_CONTRACT", plugin, `Plugin '${plugin}': ${what} must have the method ${missing}.`);
}

function nameOf(device: AttachedDevice): string {
  return `${device.type} ${device.id} of ${device.domain}`;
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
