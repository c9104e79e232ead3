/**
 * A cpupool: some pCPUs, the units that run on them, and one instance of a scheduler, behind checks.
 *
 * Every call into the scheduler notes whose code runs (`inCallback`, for the guard against endless loops), catches what it throws, and
 * ejects it. Every decision is checked before it is believed.
 * Invariants: the time handed to the scheduler never decreases; an ejected scheduler's timers never fire; after an
 * ejection every unit of the pool is known to the fallback and no domain is lost.
 */
import { ERRNO } from "../abi/errno.ts";
import type { Domain } from "../domain/domain.ts";
import { ConfigError, messageOf, PluginError, placeOf } from "../errors.ts";
import type { PluginFault } from "../hooks.ts";
import type { Machine } from "../machine/machine.ts";
import type { Pcpu } from "../machine/pcpu.ts";
import type { Nanoseconds, Timer } from "../machine/timers.ts";
import { FifoScheduler } from "./fifo.ts";
import { checkParams } from "./params.ts";
import { type Granularity, groups, Resource } from "./resource.ts";
import type {
  ParamReadings,
  ParamValue,
  ParamValues,
  Scheduler,
  SchedulerHost,
  SchedulerPcpu,
  SchedulerState,
  SchedulingUnit,
} from "./scheduler.ts";
import { Unit } from "./unit.ts";

/** What makes a scheduler for a pool: the provider that the hook found, and the plugin to blame. */
export interface SchedulerProvider {
  readonly name: string;
  readonly plugin: string;
  make(host: SchedulerHost): Scheduler;
}

/** What a pool needs of the scheduling core. */
export interface PoolServices {
  /** doSchedule becomes due on a resource, now or as soon as its pCPUs can rendezvous. */
  request(resource: Resource): void;
  /** A callback was ended by force (CpuPool.eject): nothing that it was called from goes on. */
  recover(pool: CpuPool): void;
}

/** A scheduler that is called more often than this without time going on is ejected. */
const MAX_CALLS_AT_ONCE = 1_000_000;

export class CpuPool {
  readonly id: number;
  readonly name: string;
  readonly machine: Machine;
  readonly granularity: Granularity;
  readonly units = new Set<Unit>();
  /** vCPUs of it that are runnable or run. */
  runnable = 0;
  /** Name of the scheduler in charge: the provider's key, or `fifo` after an ejection. */
  schedulerName: string;
  plugin: string;
  #scheduler: Scheduler;
  readonly #services: PoolServices;
  #resources: Resource[] = [];
  #ids: ReadonlySet<number> = new Set();
  #time: Nanoseconds = 0;
  /** Calls of the scheduler since the pool's time went on. */
  #calls = 0;
  #random: number;
  /** Every ejection so far. */
  readonly faults: PluginFault[] = [];
  /** Longest run of the unit that `decide` answered; null: until something happens. */
  slice: Nanoseconds | null = null;
  /** The method of the scheduler that is being run, or null. */
  inCallback: string | null = null;

  constructor(
    machine: Machine,
    services: PoolServices,
    made: { readonly id: number; readonly name: string; readonly granularity: Granularity },
    pcpus: readonly Pcpu[],
    provider: SchedulerProvider,
  ) {
    this.machine = machine;
    this.#services = services;
    this.id = made.id;
    this.name = made.name;
    this.granularity = made.granularity;
    this.#random = (machine.config.seed ^ Math.imul(made.id + 1, 0x9e3779b9)) >>> 0;
    this.#time = machine.now;
    this.#setResources(this.#grouped(pcpus).map((group) => new Resource(this, group)));
    for (const resource of this.#resources) for (const pcpu of resource.pcpus) pcpu.resource = resource;
    this.schedulerName = provider.name;
    this.plugin = provider.plugin;
    this.#scheduler = new FifoScheduler(this.#host(() => this.#scheduler));
    this.#install(provider);
  }

  /** Puts a new instance of a scheduler in charge; a provider that fails leaves the fallback there. */
  #install(provider: SchedulerProvider): void {
    this.schedulerName = provider.name;
    this.plugin = provider.plugin;
    let made: Scheduler | null = null;
    try {
      made = provider.make(this.#host(() => made));
    } catch (error) {
      if (error instanceof PluginError) throw error;
      this.#eject(`could not be made: ${messageOf(error)}`, error);
      return;
    }
    const problem = missingMethods(made);
    if (problem !== null) this.#eject(problem, null);
    else this.#scheduler = made;
  }

  /** Cores, or sockets, come whole: what shares one is never scheduled apart. */
  #grouped(pcpus: readonly Pcpu[]): Pcpu[][] {
    const { name, granularity } = this;
    const found = groups(pcpus, granularity);
    if (granularity === "cpu") return found;
    const whole = groups(this.machine.pcpus, granularity);
    for (const group of found) {
      const all = whole.find((one) => one.includes(group[0]!))!;
      const missing = all.filter((pcpu) => !group.includes(pcpu)).map((pcpu) => pcpu.id);
      if (missing.length > 0)
        throw new ConfigError(
          `Pool '${name}' schedules by ${granularity}: the ${granularity} of pCPU ${group[0]!.id} comes whole, and ${missing.join(",")} ${missing.length === 1 ? "is" : "are"} not given; name all of its pCPUs, or use granularity 'cpu'.`,
        );
    }
    const size = this.#resources[0]?.pcpus.length ?? found[0]?.length ?? 1;
    const odd = found.find((group) => group.length !== size);
    if (odd !== undefined)
      throw new ConfigError(
        `Pool '${name}' schedules by ${granularity}: each ${granularity} needs ${size} pCPUs, but that of pCPU ${odd[0]!.id} has ${odd.length}; leave it out, or use granularity 'cpu'.`,
      );
    return found;
  }

  #setResources(resources: Resource[]): void {
    this.#resources = resources.sort((a, b) => a.id - b.id);
    this.#ids = new Set(this.#resources.map((r) => r.id));
  }

  /** The fallback is in charge: the scheduler that was asked for has been ejected. */
  get fallen(): boolean {
    return this.faults.length > 0;
  }

  get scheduler(): Scheduler {
    return this.#scheduler;
  }

  get resources(): readonly Resource[] {
    return this.#resources;
  }

  get pcpus(): readonly Pcpu[] {
    return this.#resources.flatMap((r) => r.pcpus);
  }

  /** Ids of its resources: what affinities name. */
  get ids(): ReadonlySet<number> {
    return this.#ids;
  }

  /** pCPUs of each resource, vCPUs of each unit at most. */
  get unitSize(): number {
    return this.#resources[0]?.pcpus.length ?? groups(this.machine.pcpus, this.granularity)[0]!.length;
  }

  /** Those of `allowed` that an affinity (pCPU numbers) names, by any pCPU of theirs; all of them when it names none. */
  within(affinity: ReadonlySet<number>, allowed: ReadonlySet<number>): ReadonlySet<number> {
    const found = this.#resources.filter((r) => allowed.has(r.id) && r.cpus.some((id) => affinity.has(id)));
    return found.length === 0 || found.length === allowed.size ? allowed : new Set(found.map((r) => r.id));
  }

  #host(self: () => Scheduler | null): SchedulerHost {
    const pool = this;
    return {
      pool: { id: pool.id, name: pool.name },
      get pcpus() {
        return pool.#resources;
      },
      now: () => pool.time(pool.machine.now),
      tickle: (pcpu) => pool.tickle(pcpu),
      timer: (at, fire): Timer =>
        pool.machine.timers.arm(Math.max(at, pool.machine.now), (now) => {
          const owner = self();
          if (owner === null || owner !== pool.#scheduler) return;
          pool.#call("timer", () => fire(pool.time(now)), undefined);
        }),
      random: () => {
        pool.#random = (pool.#random + 0x9e3779b9) >>> 0;
        let z = pool.#random;
        z = Math.imul(z ^ (z >>> 16), 0x85ebca6b);
        z = Math.imul(z ^ (z >>> 13), 0xc2b2ae35);
        return (z ^ (z >>> 16)) >>> 0;
      },
      log: (message) => pool.machine.log(`pool ${pool.name}: ${message}`),
    };
  }

  /** The pool's time for an event at `at`. */
  time(at: Nanoseconds): Nanoseconds {
    if (at > this.#time) {
      this.#time = at;
      this.#calls = 0;
    }
    return this.#time;
  }

  /** doSchedule becomes due on a pCPU of the pool. */
  tickle(pcpu: SchedulerPcpu): void {
    if (!(pcpu instanceof Resource) || pcpu.pool !== this || pcpu.pcpus[0]!.resource !== pcpu) return;
    if (!pcpu.needSchedule) {
      pcpu.tickled = true;
      this.#services.request(pcpu);
    }
  }

  // ---- units -----------------------------------------------------------------------------------

  /** A unit joins: on no pCPU, and the scheduler has not been told that it is runnable. */
  insert(unit: Unit): void {
    unit.pool = this;
    unit.updateAffinity();
    this.units.add(unit);
    const now = this.time(this.machine.now);
    this.#call("insertUnit", () => this.#scheduler.insertUnit(unit, now), undefined);
  }

  /** A unit leaves: it is asleep and on no pCPU. */
  remove(unit: Unit): void {
    this.units.delete(unit);
    const now = this.time(this.machine.now);
    this.#call("removeUnit", () => this.#scheduler.removeUnit(unit, now), undefined);
  }

  wake(unit: Unit): void {
    const now = this.time(this.machine.now);
    const outer = this.#enter("wake");
    try {
      this.#scheduler.wake(unit, now);
    } catch (error) {
      this.#eject(`wake threw: ${messageOf(error)}`, error);
    }
    this.inCallback = outer;
  }

  sleep(unit: Unit): void {
    const now = this.time(this.machine.now);
    const outer = this.#enter("sleep");
    try {
      this.#scheduler.sleep(unit, now);
    } catch (error) {
      this.#eject(`sleep threw: ${messageOf(error)}`, error);
    }
    this.inCallback = outer;
  }

  yielded(unit: Unit): void {
    const now = this.time(this.machine.now);
    if (this.#scheduler.yielded !== undefined)
      this.#call("yielded", () => this.#scheduler.yielded?.(unit, now), undefined);
  }

  contextSaved(unit: SchedulingUnit): void {
    const scheduler = this.#scheduler;
    if (scheduler.contextSaved === undefined) return;
    const now = this.time(this.machine.now);
    const outer = this.#enter("contextSaved");
    try {
      scheduler.contextSaved(unit, now);
    } catch (error) {
      this.#eject(`contextSaved threw: ${messageOf(error)}`, error);
    }
    this.inCallback = outer;
  }

  /** The unit's affinity may have changed while it is asleep: takes it over and tells the scheduler. */
  affinityChanged(unit: Unit): void {
    const scheduler = this.#scheduler;
    if (scheduler.affinityChanged === undefined) {
      this.remove(unit);
      this.insert(unit);
      return;
    }
    unit.updateAffinity();
    const now = this.time(this.machine.now);
    this.#call("affinityChanged", () => scheduler.affinityChanged?.(unit, now), undefined);
  }

  // ---- pCPUs -----------------------------------------------------------------------------------

  /** pCPUs join; they are idle and in no pool. Affinities that name them are to be taken over afterwards (affinityChanged). */
  addPcpus(pcpus: readonly Pcpu[]): Resource[] {
    const added = this.#grouped(pcpus).map((group) => new Resource(this, group));
    this.#setResources([...this.#resources, ...added]);
    for (const resource of added) for (const pcpu of resource.pcpus) pcpu.resource = resource;
    return added;
  }

  /** Tells the scheduler about a new pCPU, once affinities name it. */
  announce(resource: Resource): void {
    const now = this.time(this.machine.now);
    const scheduler = this.#scheduler;
    if (scheduler.pcpuAdded !== undefined)
      this.#call("pcpuAdded", () => scheduler.pcpuAdded?.(resource, now), undefined);
  }

  /** An idle pCPU leaves: not in host.pcpus any more; the caller takes affinities over, then calls `farewell`. */
  removeResource(resource: Resource): void {
    this.#setResources(this.#resources.filter((r) => r !== resource));
    for (const pcpu of resource.pcpus) pcpu.resource = null;
  }

  /** Does the scheduler move what it queued on a pCPU that goes by itself? */
  get movesQueues(): boolean {
    return this.#scheduler.pcpuRemoved !== undefined;
  }

  /** Tells the scheduler that a pCPU is gone. */
  farewell(resource: Resource): void {
    const now = this.time(this.machine.now);
    this.#call("pcpuRemoved", () => this.#scheduler.pcpuRemoved?.(resource, now), undefined);
  }

  // ---- parameters and state --------------------------------------------------------------------

  /** Sets parameters that have been checked against the scheduler's table: 0 or a negative errno. */
  adjust(target: Domain | SchedulingUnit | null, values: ParamValues): number {
    const result = this.#call("adjust", () => this.#scheduler.adjust?.(target, values) ?? 0, -ERRNO.EIO);
    return typeof result === "number" && result <= 0 ? result : 0;
  }

  /** Reads parameters back; none from a scheduler without. */
  read(target: Domain | SchedulingUnit | null): ParamValues {
    const known = (values: ParamReadings): ParamValues =>
      Object.fromEntries(Object.entries(values).filter((one): one is [string, ParamValue] => one[1] !== undefined));
    return this.#call("read", () => known(this.#scheduler.read?.(target) ?? {}), {});
  }

  /** The scheduler's state as plain JSON; null: it keeps none. */
  save(): SchedulerState {
    return this.#call("save", () => this.#scheduler.save?.() ?? null, null);
  }

  /** The pool ends: no timer of its scheduler fires any more. */
  close(): void {
    this.#scheduler = new FifoScheduler(this.#host(() => this.#scheduler));
  }

  /** Puts a new scheduler in charge, with a state that the same scheduler saved, or afresh (null). Every unit is asleep and on no pCPU. */
  replace(provider: SchedulerProvider, state: SchedulerState): void {
    this.faults.length = 0;
    this.#scheduler = new FifoScheduler(this.#host(() => this.#scheduler));
    this.#install(provider);
    for (const unit of this.units) {
      const now = this.time(this.machine.now);
      this.#call("insertUnit", () => this.#scheduler.insertUnit(unit, now), undefined);
    }
    if (state === null) return;
    const byId = new Map([...this.units].map((unit) => [unit.id, unit]));
    const now = this.time(this.machine.now);
    this.#call("restore", () => this.#scheduler.restore?.(state, (id) => byId.get(id), now), undefined);
    this.#checkRestored();
  }

  /** A state may be old or damaged: what it makes parameters must be what they may be set to. */
  #checkRestored(): void {
    const { params } = this.#scheduler;
    if (params === undefined) return;
    const check = (kind: "domain" | "unit" | "pool", target: Domain | SchedulingUnit | null): boolean => {
      const specs = params[kind];
      if (specs === undefined || this.fallen) return !this.fallen;
      const values = this.read(target);
      try {
        checkParams("the state that was restored", kind, specs, values);
      } catch (error) {
        if (!this.fallen) this.#eject(`restore: ${messageOf(error)}`, error);
      }
      return !this.fallen;
    };
    if (!check("pool", null)) return;
    for (const domain of new Set([...this.units].map((unit) => unit.domain))) if (!check("domain", domain)) return;
    for (const unit of this.units) if (!check("unit", unit)) return;
  }

  // ---- decisions -------------------------------------------------------------------------------

  /** Asks the scheduler and checks the answer; a wrong one ejects it, and the fallback answers. How long it may run is in `slice`. */
  decide(resource: Resource, at: Nanoseconds): Unit | null {
    for (;;) {
      const asked = this.#scheduler;
      const now = this.time(at);
      this.slice = null;
      let unit: unknown = null;
      let problem: string | null = null;
      const outer = this.#enter("doSchedule");
      try {
        const decision = asked.doSchedule(resource, now);
        if (typeof decision !== "object" || decision === null)
          problem = `returned ${messageOf(decision)} instead of a decision`;
        else {
          // Read once, and here: what looks like a value may be code of the scheduler's.
          unit = decision.unit;
          this.slice = decision.slice;
        }
      } catch (error) {
        this.#eject(`doSchedule threw: ${messageOf(error)}`, error);
      }
      this.inCallback = outer;
      if (asked !== this.#scheduler) continue;
      problem ??= this.#problemOf(unit, this.slice, resource);
      if (problem === null) return unit as Unit | null;
      this.slice = null;
      if (asked instanceof FifoScheduler) return null;
      this.#eject(`doSchedule on ${resource} ${problem}`, null);
    }
  }

  #problemOf(unit: unknown, slice: unknown, resource: Resource): string | null {
    if (slice !== null && !(typeof slice === "number" && slice >= 1 && slice < Infinity))
      return `returned the slice ${messageOf(slice)}; it must be a number of nanoseconds, at least 1, or null`;
    if (unit === null) return null;
    if (!(unit instanceof Unit)) return "returned something that is no unit";
    if (unit.pool !== this || !this.units.has(unit)) return `returned ${unit}, which is not in pool ${this.name}`;
    if (!unit.runnable) return `returned ${unit}, which is not runnable`;
    if (unit.runningOn !== null && unit.runningOn !== resource)
      return `returned ${unit}, which runs on ${unit.runningOn} already`;
    if (!unit.hardAffinity.has(resource.id)) return `returned ${unit}, whose hard affinity forbids this pCPU`;
    return null;
  }

  /** A unit that has waited for longer than the bound, though its policy entitles it to run, ejects the scheduler. */
  checkStall(now: Nanoseconds, bound: Nanoseconds): boolean {
    if (this.#scheduler instanceof FifoScheduler || this.#resources.length === 0) return false;
    for (const unit of this.units) {
      if (!(now - unit.waitsSince > bound)) continue;
      if (this.#call("entitled", () => this.#scheduler.entitled?.(unit) ?? true, true) === false) continue;
      const since = unit.waitsSince;
      this.#eject(
        now < Infinity
          ? `${unit} has been runnable for ${now - since} ns without being run`
          : `${unit} has been runnable since ${since} ns, and nothing will ever happen that makes it run`,
        null,
      );
      return true;
    }
    return false;
  }

  /** Ejects the scheduler for what the guard or a test found. */
  eject(reason: string, error: unknown = null): void {
    this.#eject(reason, error);
    this.#services.recover(this);
  }

  /** Notes whose code runs now; what is returned goes back into inCallback afterwards. */
  #enter(method: string): string | null {
    if (++this.#calls > MAX_CALLS_AT_ONCE && !(this.#scheduler instanceof FifoScheduler))
      this.#eject(`${method}: called ${MAX_CALLS_AT_ONCE} times at ${this.#time} ns, and time did not go on`, null);
    const outer = this.inCallback;
    this.inCallback = method;
    return outer;
  }

  #call<T>(method: string, body: () => T, fallback: T): T {
    const outer = this.#enter(method);
    let result = fallback;
    try {
      result = body();
    } catch (error) {
      this.#eject(`${method} threw: ${messageOf(error)}`, error);
    }
    this.inCallback = outer;
    return result;
  }

  #eject(reason: string, error: unknown): void {
    const old = this.#scheduler;
    let dump = "";
    try {
      dump = String(old?.dump?.() ?? "");
    } catch (failed) {
      dump = `(dump failed too: ${messageOf(failed)})`;
    }
    const [place, time] = [placeOf(error), this.time(this.machine.now)];
    const fault: PluginFault = { plugin: this.plugin, kind: "scheduler", reason, dump, error, place, time };
    this.faults.push(fault);
    this.machine.log(
      `pool ${this.name}: scheduler '${this.schedulerName}' of plugin '${this.plugin}' is ejected: ${reason}${place === undefined ? "" : ` at ${place}`} (virtual time ${time} ns); fifo takes over`,
    );
    let fallback: FifoScheduler | null = null;
    fallback = new FifoScheduler(this.#host(() => fallback));
    this.#scheduler = fallback;
    this.schedulerName = "fifo";
    for (const unit of this.units) {
      fallback.insertUnit();
      if (unit.awake) fallback.wake(unit);
    }
    for (const resource of this.#resources) this.#services.request(resource);
    if (this.machine.hooks.pluginFault.call(fault) === "crash")
      throw error instanceof Error ? error : new Error(reason);
  }
}

/** Which mandatory methods are missing, as a sentence; null: none. */
export function missingMethods(scheduler: unknown): string | null {
  if (typeof scheduler !== "object" || scheduler === null) return "is no object with scheduler methods";
  const missing = ["insertUnit", "removeUnit", "wake", "sleep", "doSchedule"].filter(
    (name) => typeof (scheduler as Record<string, unknown>)[name] !== "function",
  );
  const { params, adjust, read } = scheduler as Scheduler;
  if (params !== undefined && (adjust === undefined || read === undefined))
    missing.push("adjust and read (params are declared)");
  const { save, restore } = scheduler as Scheduler;
  if ((save === undefined) !== (restore === undefined)) missing.push("one of save and restore (it has the other)");
  return missing.length === 0 ? null : `lacks ${missing.join(", ")}`;
}
