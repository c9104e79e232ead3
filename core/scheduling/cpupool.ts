/**
 * A cpupool: some pCPUs, the units that run on them, and one instance of a scheduler, behind checks.
 *
 * Every call into the scheduler goes through `#call`, which notes whose code runs (for the guard against endless
 * loops), catches what it throws, and ejects it. Every decision is checked before it is believed.
 * Invariants: the time handed to the scheduler never decreases; an ejected scheduler's timers never fire; after an
 * ejection every unit of the pool is known to the fallback and no domain is lost.
 */
import { ERRNO } from "../abi/errno.ts";
import type { Domain } from "../domain/domain.ts";
import { PluginError } from "../errors.ts";
import type { PluginFault } from "../hooks.ts";
import type { Machine } from "../machine/machine.ts";
import type { Pcpu } from "../machine/pcpu.ts";
import type { Nanoseconds, Timer } from "../machine/timers.ts";
import { FifoScheduler } from "./fifo.ts";
import type { Decision, ParamValues, Scheduler, SchedulerHost, SchedulerPcpu, SchedulingUnit } from "./scheduler.ts";
import { Unit } from "./unit.ts";

/** What makes a scheduler for a pool: the provider that the hook found, and the plugin to blame. */
export interface SchedulerProvider {
  readonly name: string;
  readonly plugin: string;
  make(host: SchedulerHost): Scheduler;
}

/** A scheduler that is called more often than this without time going on is ejected. */
const MAX_CALLS_AT_ONCE = 1_000_000;

const IDLE: Decision = Object.freeze({ unit: null, slice: null });

export class CpuPool {
  readonly id: number;
  readonly name: string;
  readonly machine: Machine;
  readonly units = new Set<Unit>();
  /** Name of the scheduler in charge: the provider's key, or `fifo` after an ejection. */
  schedulerName: string;
  plugin: string;
  #scheduler: Scheduler;
  readonly #pcpus: Pcpu[];
  #time: Nanoseconds = 0;
  /** Calls of the scheduler since the pool's time went on. */
  #calls = 0;
  /** Every ejection so far. */
  readonly faults: PluginFault[] = [];
  /** The method of the scheduler that is being run, or null. */
  inCallback: string | null = null;

  constructor(machine: Machine, id: number, name: string, pcpus: readonly Pcpu[], provider: SchedulerProvider) {
    this.machine = machine;
    this.id = id;
    this.name = name;
    this.#pcpus = [...pcpus];
    this.schedulerName = provider.name;
    this.plugin = provider.plugin;
    this.#scheduler = new FifoScheduler(this.#host(() => this.#scheduler));
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

  /** The fallback is in charge: the scheduler that was asked for has been ejected. */
  get fallen(): boolean {
    return this.faults.length > 0;
  }

  get scheduler(): Scheduler {
    return this.#scheduler;
  }

  get pcpus(): readonly Pcpu[] {
    return this.#pcpus;
  }

  #host(self: () => Scheduler | null): SchedulerHost {
    const pool = this;
    return {
      pool: { id: pool.id, name: pool.name },
      get pcpus() {
        return pool.#pcpus;
      },
      now: () => pool.time(pool.machine.now),
      tickle: (pcpu) => pool.tickle(pcpu),
      timer: (at, fire): Timer =>
        pool.machine.timers.arm(Math.max(at, pool.machine.now), (now) => {
          const owner = self();
          if (owner === null || owner !== pool.#scheduler) return;
          pool.#call("timer", () => fire(pool.time(now)), undefined);
        }),
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
    const real = this.machine.pcpus[pcpu.id];
    if (real === undefined || !this.#pcpus.includes(real)) return;
    real.needSchedule = true;
    if (real.current === null && this.machine.now > real.clock) real.clock = this.machine.now;
  }

  insert(unit: Unit): void {
    unit.pool = this;
    this.units.add(unit);
    const now = this.time(this.machine.now);
    this.#call("insertUnit", () => this.#scheduler.insertUnit(unit, now), undefined);
    if (unit.runnable) this.wake(unit);
  }

  remove(unit: Unit): void {
    this.units.delete(unit);
    const now = this.time(this.machine.now);
    this.#call("removeUnit", () => this.#scheduler.removeUnit(unit, now), undefined);
  }

  wake(unit: Unit): void {
    const now = this.time(this.machine.now);
    this.#call("wake", () => this.#scheduler.wake(unit, now), undefined);
  }

  sleep(unit: Unit): void {
    const now = this.time(this.machine.now);
    this.#call("sleep", () => this.#scheduler.sleep(unit, now), undefined);
  }

  yielded(unit: Unit): void {
    const now = this.time(this.machine.now);
    if (this.#scheduler.yielded !== undefined)
      this.#call("yielded", () => this.#scheduler.yielded?.(unit, now), undefined);
  }

  contextSaved(unit: SchedulingUnit): void {
    const now = this.time(this.machine.now);
    if (this.#scheduler.contextSaved !== undefined)
      this.#call("contextSaved", () => this.#scheduler.contextSaved?.(unit, now), undefined);
  }

  /** The unit's affinity has changed while it is asleep; false: the scheduler has no method for it. */
  affinityChanged(unit: Unit): boolean {
    const scheduler = this.#scheduler;
    if (scheduler.affinityChanged === undefined) return false;
    const now = this.time(this.machine.now);
    this.#call("affinityChanged", () => scheduler.affinityChanged?.(unit, now), undefined);
    return true;
  }

  /** Sets parameters that have been checked against the scheduler's table: 0 or a negative errno. */
  adjust(target: Domain | SchedulingUnit | null, values: ParamValues): number {
    const result = this.#call("adjust", () => this.#scheduler.adjust?.(target, values) ?? 0, -ERRNO.EIO);
    return typeof result === "number" && result <= 0 ? result : 0;
  }

  /** Reads parameters back; none from a scheduler without. */
  read(target: Domain | SchedulingUnit | null): ParamValues {
    return this.#call("read", () => this.#scheduler.read?.(target) ?? {}, {});
  }

  /** Asks the scheduler and checks the answer; a wrong one ejects it, and the fallback answers. */
  decide(pcpu: Pcpu): Decision {
    for (;;) {
      const asked = this.#scheduler;
      const now = this.time(pcpu.clock);
      const decision = this.#call("doSchedule", () => asked.doSchedule(pcpu, now), IDLE);
      if (asked !== this.#scheduler) continue;
      const problem = this.#problemOf(decision, pcpu);
      if (problem === null) return decision;
      if (asked instanceof FifoScheduler) return IDLE;
      this.#eject(`doSchedule on pCPU ${pcpu.id} ${problem}`, null);
    }
  }

  #problemOf(decision: Decision, pcpu: Pcpu): string | null {
    if (typeof decision !== "object" || decision === null) return `returned ${String(decision)} instead of a decision`;
    const { unit, slice } = decision;
    if (slice !== null && !(typeof slice === "number" && slice >= 1 && slice < Infinity))
      return `returned the slice ${String(slice)}; it must be a number of nanoseconds, at least 1, or null`;
    if (unit === null) return null;
    if (!(unit instanceof Unit)) return "returned something that is no unit";
    if (!this.units.has(unit)) return `returned ${unit}, which is not in pool ${this.name}`;
    if (!unit.runnable) return `returned ${unit}, which is not runnable`;
    if (unit.runningOn !== null && unit.runningOn !== pcpu)
      return `returned ${unit}, which runs on pCPU ${unit.runningOn.id} already`;
    if (!unit.hardAffinity.has(pcpu.id)) return `returned ${unit}, whose hard affinity forbids this pCPU`;
    return null;
  }

  /** A unit that has waited for longer than the bound ejects the scheduler. */
  checkStall(now: Nanoseconds, bound: Nanoseconds): boolean {
    if (this.#scheduler instanceof FifoScheduler) return false;
    for (const unit of this.units)
      if (unit.runnable && unit.runningOn === null && now - unit.vcpu.runStateSince > bound) {
        const since = unit.vcpu.runStateSince;
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
  }

  #call<T>(method: string, body: () => T, fallback: T): T {
    const outer = this.inCallback;
    this.inCallback = method;
    try {
      if (++this.#calls > MAX_CALLS_AT_ONCE && !(this.#scheduler instanceof FifoScheduler))
        throw new Error(`called ${MAX_CALLS_AT_ONCE} times at ${this.#time} ns, and time did not go on`);
      return body();
    } catch (error) {
      this.#eject(`${method} threw: ${messageOf(error)}`, error);
      return fallback;
    } finally {
      this.inCallback = outer;
    }
  }

  #eject(reason: string, error: unknown): void {
    const old = this.#scheduler;
    let dump = "";
    try {
      dump = old?.dump?.() ?? "";
    } catch (failed) {
      dump = `(dump failed too: ${String(failed)})`;
    }
    const fault: PluginFault = { plugin: this.plugin, kind: "scheduler", reason, dump, error };
    this.faults.push(fault);
    this.machine.log(
      `pool ${this.name}: scheduler '${this.schedulerName}' of plugin '${this.plugin}' is ejected: ${reason}; fifo takes over`,
    );
    let fallback: FifoScheduler | null = null;
    fallback = new FifoScheduler(this.#host(() => fallback));
    this.#scheduler = fallback;
    this.schedulerName = "fifo";
    for (const unit of this.units) {
      fallback.insertUnit();
      if (unit.runnable) fallback.wake(unit);
    }
    for (const pcpu of this.#pcpus) this.tickle(pcpu);
    if (this.machine.hooks.pluginFault.call(fault) === "crash")
      throw error instanceof Error ? error : new Error(reason);
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
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
  return missing.length === 0 ? null : `lacks ${missing.join(", ")}`;
}
