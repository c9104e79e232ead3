/**
 * The hypervisor: composition root. It applies plugins, boots a machine, creates and destroys domains, runs them.
 *
 * It reads as a list; the work is in the folders. Two hypervisors can run in one process: nothing here is global.
 * Invariants: hooks are sealed at the end of boot; domain 0 (this process) exists from boot on; a domain is created
 * paused and is known to XenStore, events and grants before its image is built.
 */
import { errnoName } from "./abi/errno.ts";
import { DOMID } from "./abi/xen.ts";
import type { ArchBackend, DomainImage } from "./architecture/arch-backend.ts";
import { createArchHost } from "./architecture/arch-host.ts";
import type { GuestAbi } from "./architecture/guest-abi.ts";
import type { HostServices } from "./device/device-type.ts";
import { DeviceManager } from "./device/manager.ts";
import { Domain, type ShutdownAction, ShutdownReason } from "./domain/domain.ts";
import { publishDomain } from "./domain/publish.ts";
import { SharedInfo } from "./domain/shared-info.ts";
import { VcpuTimers } from "./domain/time.ts";
import { PauseFlag, Vcpu } from "./domain/vcpu.ts";
import { ConfigError, PluginError, placeOf } from "./errors.ts";
import { EventChannels } from "./event/event-channels.ts";
import { GrantTable } from "./grant/grant-table.ts";
import { createHooks, type Hooks, provide, providerOf, sealHooks } from "./hooks.ts";
import { Hypercalls } from "./hypercall/dispatcher.ts";
import { OutOfFrames } from "./machine/frames.ts";
import { defaultMachine, Machine, type MachineConfig } from "./machine/machine.ts";
import { API_VERSION, type LoadedPlugin, orderPlugins } from "./plugin.ts";
import { type RunEnd, Runner, type RunOptions } from "./runner.ts";
import type { CpuPool, SchedulerProvider } from "./scheduling/cpupool.ts";
import { type PoolConfig, Pools } from "./scheduling/pools.ts";
import type { GovernorProvider } from "./scheduling/power.ts";
import { RunLoop } from "./scheduling/run-loop.ts";
import type { ParamValues } from "./scheduling/scheduler.ts";
import { Scheduling } from "./scheduling/scheduling.ts";
import { GuestStore } from "./xenstore/guest-store.ts";

/** Hooks that plugins own, by owner; plugins add theirs by declaration merging (`declare module "hookvisor"`). */
// biome-ignore lint/suspicious/noEmptyInterface: declaration merging fills it
export interface PluginHooks {}

/** What a plugin's apply() is handed. */
export interface HypervisorSetup {
  readonly apiVersion: string;
  readonly hooks: Hooks;
  /** Publishes hooks of a plugin's own under a name; once a name. */
  ownHooks<K extends keyof PluginHooks & string>(owner: K, hooks: PluginHooks[K]): void;
  /** Hooks that another plugin owns; undefined when that plugin is not loaded (use `requires` to be applied after it). */
  hooksOf<K extends keyof PluginHooks & string>(owner: K): PluginHooks[K] | undefined;
}

/** What a domain is made from. */
export interface DomainConfig {
  readonly name: string;
  /** Key of the arch: pv, pvh, hvm, ... */
  readonly type: string;
  readonly kernel: Uint8Array;
  /** Where the kernel came from, for messages. */
  readonly kernelName: string;
  readonly ramdisk: Uint8Array | null;
  readonly extra: string;
  readonly memoryMiB: number;
  readonly vcpus: number;
  /** XenStore uuid; made from the machine's seed when absent. */
  readonly uuid?: string;
  readonly devices: readonly { readonly type: string; readonly spec: string }[];
  readonly schedulerParams: ParamValues;
  /** Parameters of single vCPUs, by their number. */
  readonly vcpuSchedulerParams?: readonly ParamValues[];
  /** Name of its cpupool; default: the first. */
  readonly pool?: string;
  /** pCPUs where its vCPUs may run (hard affinity); default: all of the pool. */
  readonly cpus?: readonly number[];
  /** pCPUs where they should run (soft affinity); default: as `cpus`. */
  readonly softCpus?: readonly number[];
  readonly onPoweroff?: ShutdownAction;
  readonly onReboot?: ShutdownAction;
  readonly onCrash?: ShutdownAction;
}

/** What a machine boots with. */
export interface BootConfig extends Partial<MachineConfig> {
  /** Scheduler of the one pool that has every pCPU; with `pools` it may be left out. */
  readonly scheduler?: string;
  /** The cpupools; the first one is pool 0. pCPUs that none names are free. */
  readonly pools?: readonly (PoolConfig & { readonly params?: ParamValues })[];
  /** Name of the governor of every pCPU; default: none, the rate is fixed. */
  readonly governor?: string;
}

/** What exists from boot on. */
interface Parts {
  readonly scheduling: Scheduling;
  readonly pools: Pools;
  readonly store: GuestStore;
  readonly devices: DeviceManager;
  readonly timers: VcpuTimers;
  readonly hypercalls: Hypercalls;
  readonly loop: RunLoop;
}

/** Most pCPUs of a machine. */
const MAX_PCPUS = 4096;
/** Most vCPUs of a domain. */
const MAX_VCPUS = 64;

const HOST_IDENTITY = { id: 0, uuid: "00000000-0000-0000-0000-000000000000", type: "host" };

/** ABI of domain 0, which has no guest memory. */
const HOST_ABI: GuestAbi = Object.freeze({
  name: "host",
  pageShift: 12,
  wordBytes: 8,
  endian: "little",
  align64: 8,
  legacyVcpus: 1,
});

export class Hypervisor implements HypervisorSetup {
  readonly apiVersion = API_VERSION;
  readonly hooks: Hooks = createHooks();
  readonly services: HostServices;
  readonly plugins: readonly LoadedPlugin[];
  readonly #owned = new Map<string, unknown>();
  readonly #arches = new Map<string, { readonly value: ArchBackend; readonly plugin: string }>();
  readonly #configs = new Map<number, DomainConfig>();
  /** Domains that are being destroyed, or were. */
  readonly #ends = new WeakMap<Domain, Promise<void>>();
  #nextDomain = 1;
  /** The affinity of who asked for none; one set for all. */
  #everyPcpu: ReadonlySet<number> = new Set();
  #machine: Machine | null = null;
  #parts: Parts | null = null;
  #down = false;

  /** Applies the plugins, in an order that honours `requires`. */
  constructor(options: { readonly plugins: readonly LoadedPlugin[]; readonly services: HostServices }) {
    this.services = options.services;
    this.plugins = orderPlugins(options.plugins);
    for (const { plugin, source } of this.plugins) this.#apply(plugin.name, source, () => plugin.apply(this));
  }

  #apply(name: string, source: string, apply: () => void): void {
    try {
      apply();
    } catch (error) {
      if (error instanceof PluginError) throw error;
      throw new PluginError(
        "HV_PLUGIN_APPLY",
        name,
        `Plugin '${name}' (${source}) failed in apply(): ${error instanceof Error ? error.message : String(error)}.`,
        { cause: error },
      );
    }
  }

  ownHooks<K extends keyof PluginHooks & string>(owner: K, hooks: PluginHooks[K]): void {
    if (this.#owned.has(owner))
      throw new PluginError(
        "HV_HOOKS_OWNER",
        owner,
        `The hooks of '${owner}' are published twice; one plugin owns them.`,
      );
    this.#owned.set(owner, hooks);
  }

  hooksOf<K extends keyof PluginHooks & string>(owner: K): PluginHooks[K] | undefined {
    return this.#owned.get(owner) as PluginHooks[K] | undefined;
  }

  get machine(): Machine {
    if (this.#machine === null) throw new Error("the machine is not booted");
    return this.#machine;
  }
  get #part(): Parts {
    if (this.#parts === null) throw new Error("the machine is not booted");
    return this.#parts;
  }
  get scheduling(): Scheduling {
    return this.#part.scheduling;
  }
  /** Cpupools: making, changing and ending them, pCPU hotplug. */
  get pools(): Pools {
    return this.#part.pools;
  }
  get loop(): RunLoop {
    return this.#part.loop;
  }
  get store(): GuestStore {
    return this.#part.store;
  }
  get devices(): DeviceManager {
    return this.#part.devices;
  }
  /** Domains that exist, dying ones included, domain 0 first. */
  get domains(): readonly Domain[] {
    return [...this.machine.domains.values()].sort((a, b) => a.id - b.id);
  }
  configOf(domain: Domain): DomainConfig | undefined {
    return this.#configs.get(domain.id);
  }

  /** Brings the machine up: frames, pCPUs, domain 0, XenStore, the pools with their schedulers, governors; then seals the hooks. */
  async boot(options: BootConfig): Promise<void> {
    if (this.#machine !== null) throw new Error("a hypervisor boots once");
    const { scheduler, pools: wanted, governor, ...given } = options;
    const config = { ...defaultMachine, ...given };
    checkMachineConfig(config);
    const all = Array.from({ length: config.pcpus }, (_, id) => id);
    if (wanted === undefined && scheduler === undefined)
      throw new ConfigError("The machine has no scheduler; name one, or its cpupools with theirs.");
    const poolConfigs: NonNullable<BootConfig["pools"]> = wanted ?? [
      { name: "Pool-0", scheduler: scheduler!, cpus: all },
    ];
    for (const one of poolConfigs) this.schedulerProvider(one.scheduler);
    const governorProvider = governor === undefined ? null : this.#governorProvider(governor);
    const machine = new Machine(config, this.hooks);
    this.#machine = machine;
    this.#everyPcpu = new Set(all);
    machine.frames.onEmpty((owner) => this.#reap(owner));
    const scheduling = new Scheduling(machine);
    const dom0 = new Domain(HOST_IDENTITY, "Domain-0", null, HOST_ABI);
    dom0.events = new EventChannels(machine, dom0);
    dom0.grants = new GrantTable(machine, dom0);
    machine.domains.set(0, dom0);
    const store = new GuestStore(machine);
    const hypercalls = new Hypercalls(machine);
    const timers = new VcpuTimers(machine);
    const devices = new DeviceManager(machine, store, this.services);
    const loop = new RunLoop(machine, scheduling, {
      hypercalls,
      pump: () => store.pump(),
      io: (vcpu, exit) => devices.io(vcpu.domain, exit),
      crash: (vcpu, reason, fault) => this.#crashed(vcpu.domain, reason, fault),
    });
    devices.loop = loop;
    scheduling.onSwitch = (previous, next) => timers.switched(previous, next);
    machine.onShutdown = (domain, reason) => this.#onShutdown(domain, reason);
    const pools = new Pools(machine, scheduling, (name) => this.schedulerProvider(name));
    this.#parts = { scheduling, pools, store, devices, timers, hypercalls, loop };
    for (const one of poolConfigs) this.#createPool(one);
    if (governorProvider !== null) for (const pcpu of machine.pcpus) scheduling.govern(pcpu, governorProvider);
    store.client.write("/local/domain/0/name", "Domain-0");
    store.client.write("/local/domain/0/domid", "0");
    for (const pool of scheduling.pools) store.client.write(`/local/pool/${pool.id}/name`, pool.name);
    await this.hooks.boot.promise();
    sealHooks(this.hooks);
  }

  /** The provider of a scheduler by name; PluginError with the names there are. */
  schedulerProvider(name: string): SchedulerProvider {
    return {
      name,
      plugin: providerOf(this.hooks.scheduler, "scheduler", name),
      make: (host) => provide(this.hooks.scheduler, "scheduler", name, host).value,
    };
  }

  #createPool(config: NonNullable<BootConfig["pools"]>[number]): void {
    const pool = this.pools.create(config);
    const { params = {} } = config;
    if (Object.keys(params).length === 0) return;
    const errno = this.scheduling.adjust(pool, null, params);
    if (errno !== 0)
      throw new ConfigError(
        `Scheduler '${pool.schedulerName}' refuses the parameters of cpupool '${pool.name}' (${errnoName(errno)}).`,
      );
  }

  #governorProvider(name: string): GovernorProvider {
    return {
      name,
      plugin: providerOf(this.hooks.governor, "governor", name),
      make: (host) => provide(this.hooks.governor, "governor", name, host).value,
    };
  }

  /** Creates a domain, paused. ConfigError, ImageError or PluginError say what is wrong; nothing is left behind then. */
  async createDomain(config: DomainConfig): Promise<Domain> {
    const { machine } = this;
    checkDomainConfig(config, machine);
    for (const [id, other] of this.#configs)
      if (config.uuid !== undefined && machine.domains.get(id)?.uuid === config.uuid)
        throw new ConfigError(
          `Domain '${config.name}' has the uuid of domain '${other.name}' (${config.uuid}); give it another, or none.`,
        );
    const arch = this.#archFor(config.type);
    const abi = arch.identify(config.kernel, config.kernelName);
    const id = this.#nextDomain++;
    if (id >= DOMID.FIRST_RESERVED) throw new ConfigError("All domain numbers are used up; start a new machine.");
    const domain = new Domain({ id, uuid: config.uuid ?? this.#uuid(), type: config.type }, config.name, arch, abi);
    domain.pauseCount = 1;
    machine.domains.set(id, domain);
    this.#configs.set(id, config);
    try {
      domain.events = new EventChannels(machine, domain);
      domain.grants = new GrantTable(machine, domain);
      SharedInfo.allocate(machine.frames, domain);
      const pool = config.pool === undefined ? this.scheduling.pools[0]! : this.pools.named(config.pool);
      if (pool.resources.length === 0)
        throw new ConfigError(`Domain '${config.name}': its cpupool '${pool.name}' has no pCPU; add one first.`);
      for (let v = 0; v < config.vcpus; v++) this.#createVcpu(domain, v, config, pool);
      if (Object.keys(config.schedulerParams).length > 0) {
        const errno = this.scheduling.adjust(pool, domain, config.schedulerParams);
        if (errno !== 0)
          throw new ConfigError(
            `Scheduler '${pool.schedulerName}' refuses the parameters of domain '${config.name}' (${errnoName(errno)}).`,
          );
      }
      for (const [v, params] of (config.vcpuSchedulerParams ?? []).entries()) this.#adjustVcpu(domain, v, params, pool);
      this.#build(domain, arch, config);
      this.#publish(domain, config);
      for (const device of [...(arch.machineDevices?.(config.vcpus) ?? []), ...config.devices])
        await this.#part.devices.attach(domain, device.type, device.spec);
      arch.devicesReady?.(domain, this.#part.devices.emulated(domain));
      await this.hooks.domainCreate.promise(domain);
    } catch (error) {
      await this.destroyDomain(domain);
      if (error instanceof OutOfFrames)
        throw new ConfigError(
          `Domain '${config.name}' wants ${config.memoryMiB} MiB and the machine has ${Math.floor(machine.frames.free / 256)} MiB free; give the machine more memory or the domain less.`,
        );
      throw error;
    }
    machine.log(
      `domain ${id} '${config.name}' created: ${config.type}, ${config.vcpus} vCPUs, ${config.memoryMiB} MiB`,
    );
    return domain;
  }

  #archFor(type: string): ArchBackend {
    let arch = this.#arches.get(type);
    if (arch === undefined) {
      arch = provide(this.hooks.arch, "architecture", type, createArchHost(this.machine, this));
      this.#arches.set(type, arch);
    }
    return arch.value;
  }

  #createVcpu(domain: Domain, id: number, config: DomainConfig, pool: CpuPool): void {
    const vcpu = new Vcpu(domain, id, this.machine.now, this.#everyPcpu);
    domain.vcpus.push(vcpu);
    domain.shared?.attach(vcpu);
    this.#part.timers.attach(vcpu);
    domain.arch!.createVcpu(vcpu);
    this.scheduling.addVcpu(vcpu, pool);
    if (config.cpus === undefined && config.softCpus === undefined) return;
    const hard = config.cpus === undefined ? this.#everyPcpu : new Set(config.cpus);
    this.scheduling.setAffinity(vcpu, hard, config.softCpus === undefined ? hard : new Set(config.softCpus));
  }

  #adjustVcpu(domain: Domain, id: number, params: ParamValues, pool: CpuPool): void {
    const vcpu = domain.vcpus[id];
    if (vcpu === undefined)
      throw new ConfigError(
        `Domain '${domain.name}' has scheduler parameters for vCPU ${id} and ${domain.vcpus.length} vCPUs; they are numbered from 0.`,
      );
    const errno = Object.keys(params).length === 0 ? 0 : this.scheduling.adjust(pool, vcpu, params);
    if (errno !== 0)
      throw new ConfigError(
        `Scheduler '${pool.schedulerName}' refuses the parameters of vCPU ${id} of domain '${domain.name}' (${errnoName(errno)}).`,
      );
  }

  #build(domain: Domain, arch: ArchBackend, config: DomainConfig): void {
    const image: DomainImage = {
      kernel: config.kernel,
      kernelName: config.kernelName,
      ramdisk: config.ramdisk,
      commandLine: config.extra,
      memoryFrames: config.memoryMiB * 256,
      vcpus: config.vcpus,
      storePort: domain.events.allocUnbound(0),
      consolePort: domain.events.allocUnbound(0),
    };
    domain.maxFrames = image.memoryFrames;
    this.#part.timers.writeWallclock(domain.vcpus[0]!);
    const built = arch.buildDomain(domain, image);
    const boot = domain.vcpus[0]!;
    boot.initialised = true;
    Object.assign(domain.store, { mfn: built.storeMfn, port: image.storePort });
    Object.assign(domain.console, { mfn: built.consoleMfn, port: image.consolePort });
    this.scheduling.clearFlag(boot, PauseFlag.down);
  }

  /** The nodes that a domain finds (as Xen's toolstack writes them), and its XenStore connection. */
  #publish(domain: Domain, config: DomainConfig): void {
    publishDomain(this.store.client, domain, config);
    if (domain.store.mfn >= 0) this.store.introduce(domain);
  }

  #uuid(): string {
    const hex = Array.from({ length: 4 }, () => this.machine.random().toString(16).padStart(8, "0")).join("");
    const variant = ((Number.parseInt(hex[16]!, 16) & 3) | 8).toString(16);
    return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-4${hex.slice(13, 16)}-${variant}${hex.slice(17, 20)}-${hex.slice(20)}`;
  }

  /** Lets a created or paused domain run. */
  unpause(domain: Domain): void {
    this.scheduling.unpauseDomain(domain);
  }

  pause(domain: Domain): void {
    this.scheduling.pauseDomain(domain);
  }

  /** A domain cannot go on: what the guest did goes to the log, its shutdown reason becomes `crash`. */
  crash(domain: Domain, message: string): void {
    if (domain.shutdownReason !== null || domain.dying) return;
    this.machine.log(`${domain} crashed: ${message}`);
    domain.crashMessage = message;
    this.#onShutdown(domain, ShutdownReason.crash);
  }

  /** A vCPU cannot go on, by its guest's doing or by a fault of its arch plugin. */
  #crashed(domain: Domain, message: string, fault?: { readonly error: unknown }): void {
    if (fault === undefined) {
      this.crash(domain, message);
      return;
    }
    const plugin = this.#arches.get(domain.type)?.plugin ?? domain.type;
    const { error } = fault;
    this.crash(domain, `plugin '${plugin}' failed: ${message}`);
    const dump = error instanceof Error ? (error.stack ?? "") : "";
    if (dump !== "") this.machine.log(dump);
    const [place, time] = [placeOf(error), this.machine.now];
    if (this.hooks.pluginFault.call({ plugin, kind: "arch", reason: message, dump, error, place, time }) === "crash")
      throw error;
  }

  #onShutdown(domain: Domain, reason: ShutdownReason): void {
    if (domain.shutdownReason !== null || domain.dying) return;
    domain.shutdownReason = reason;
    for (const vcpu of domain.vcpus) this.scheduling.pauseVcpu(vcpu);
    this.machine.post(() => {
      this.store.service.domainShutdown(domain.id);
      this.hooks.domainShutdown.call(domain, reason, this.machine.now);
    });
  }

  /**
   * Destroys a domain: it stops, its devices and ports go, then its mappings and frames; it is dead when the last reference to its
   * frames goes. What a plugin throws on the way is logged and keeps nothing from being released. Called again, it waits for the same end.
   */
  destroyDomain(domain: Domain): Promise<void> {
    if (domain.id === 0) return Promise.resolve();
    let end = this.#ends.get(domain);
    if (end === undefined) {
      end = this.#destroy(domain);
      this.#ends.set(domain, end);
    }
    return end;
  }

  async #destroy(domain: Domain): Promise<void> {
    const { machine, store, scheduling, devices } = this;
    const steps: readonly (() => unknown)[] = [
      () => scheduling.pauseDomain(domain),
      () => this.hooks.domainDestroy.promise(domain),
      () => {
        domain.dying = true;
      },
      () => this.#removeVcpus(domain),
      () => devices.detachAll(domain),
      () => store.remove(domain),
      () => domain.events.destroy(),
      () => this.#detachInfo(domain),
      () => domain.arch?.destroyDomain(domain),
      () => domain.grants.releaseMappings(),
      () => domain.grants.destroy(),
      () => domain.shared?.release(domain),
      () => machine.frames.disown(domain.id),
      () => this.#configs.delete(domain.id),
      () => this.#reap(domain.id),
    ];
    for (const step of steps)
      try {
        await step();
      } catch (error) {
        machine.log(`destroying ${domain}: ${messageOf(error)}`);
      }
    machine.log(`domain ${domain.id} '${domain.name}' destroyed`);
  }

  #removeVcpus(domain: Domain): void {
    for (const vcpu of domain.vcpus) {
      this.#part.timers.detach(vcpu);
      this.scheduling.removeVcpu(vcpu);
    }
  }

  #detachInfo(domain: Domain): void {
    for (const vcpu of domain.vcpus) domain.shared?.detach(vcpu);
  }

  /** A dying domain leaves the table when nothing refers to its frames any more. */
  #reap(id: number): void {
    const { domains, frames } = this.machine;
    if (domains.get(id)?.dying && frames.ownedBy(id) === 0) domains.delete(id);
  }

  /** Runs the machine until `done`, a limit, or until nothing can ever happen again. Returns to the host's event loop every 10 ms (50 when free running). */
  async run(options: RunOptions = {}): Promise<RunEnd> {
    return new Runner(this.loop, this.machine, options).run();
  }

  /** Something from outside (a key typed live) happens at the present virtual time. */
  inject(task: () => void): void {
    this.loop.inject(task);
  }

  /** Destroys all domains and runs the shutdown hooks. */
  async shutdown(): Promise<void> {
    if (this.#parts === null || this.#down) return;
    this.#down = true;
    for (const domain of this.domains) await this.destroyDomain(domain);
    await this.hooks.shutdown.promise();
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** Refuses a machine that cannot be. */
function checkMachineConfig(config: MachineConfig): void {
  const { memoryMiB, pcpus, cpuMhz, threadsPerCore, coresPerSocket, socketsPerNode, quantum } = config;
  const whole = (what: string, value: number, min: number, max: number): void => {
    if (!Number.isInteger(value) || value < min || value > max)
      throw new ConfigError(`The machine's ${what} must be a whole number from ${min} to ${max}, got ${value}.`);
  };
  whole("memory in MiB", memoryMiB, 1, 4096);
  whole("number of pCPUs", pcpus, 1, MAX_PCPUS);
  whole("rate in MHz", cpuMhz, 1, 1_000_000);
  whole("threads per core", threadsPerCore, 1, MAX_PCPUS);
  whole("cores per socket", coresPerSocket, 1, MAX_PCPUS);
  whole("sockets per node", socketsPerNode, 1, MAX_PCPUS);
  for (const [name, cost] of Object.entries(config.costs)) whole(`cost '${name}'`, cost, 0, 1e12);
  for (const [i, mhz] of config.frequencies.entries()) {
    whole(`frequency number ${i + 1} in MHz`, mhz, 1, 1_000_000);
    if (i > 0 && mhz <= config.frequencies[i - 1]!)
      throw new ConfigError(
        `The machine's frequencies must rise, and ${mhz} MHz follows ${config.frequencies[i - 1]} MHz.`,
      );
  }
  for (const { name, exitLatency, targetResidency } of config.idleStates) {
    whole(`exit latency of idle state '${name}' in nanoseconds`, exitLatency, 0, 1e12);
    whole(`target residency of idle state '${name}' in nanoseconds`, targetResidency, 0, 1e12);
  }
  whole("quantum in nanoseconds", quantum, 1, 1e9);
}

/** Refuses what no arch could build; the rest is the arch's to judge. */
function checkDomainConfig(config: DomainConfig, machine: Machine): void {
  const name = `Domain '${config.name}'`;
  if (!Number.isInteger(config.memoryMiB) || config.memoryMiB < 1)
    throw new ConfigError(`${name}: memory must be a whole number of MiB, at least 1, got ${config.memoryMiB}.`);
  if (!Number.isInteger(config.vcpus) || config.vcpus < 1 || config.vcpus > MAX_VCPUS)
    throw new ConfigError(`${name}: vcpus must be a whole number from 1 to ${MAX_VCPUS}, got ${config.vcpus}.`);
  if (config.uuid !== undefined && !/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(config.uuid))
    throw new ConfigError(`${name}: uuid must be 8-4-4-4-12 lower-case hexadecimal digits, got '${config.uuid}'.`);
  for (const cpu of [...(config.cpus ?? []), ...(config.softCpus ?? [])])
    if (machine.pcpus[cpu] === undefined)
      throw new ConfigError(`${name}: cpus names pCPU ${cpu}, the machine has 0 to ${machine.pcpus.length - 1}.`);
}
