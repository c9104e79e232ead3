/**
 * Scheduling: cpupools, runstates, and everything that changes whether a vCPU can run.
 *
 * It implements VcpuControl: the rest of core says what happened (blocked, paused, woken), this file keeps the
 * runstates with exact times and tells the pool's scheduler.
 * Invariants: a vCPU runs on at most one pCPU; its runstate is `running` exactly while it is a pCPU's `current`;
 * runstate times add up to its age; a vCPU never starts before its own last time.
 */
import type { Domain } from "../domain/domain.ts";
import { PauseFlag, RunState, type Vcpu } from "../domain/vcpu.ts";
import { ConfigError } from "../errors.ts";
import type { Machine, VcpuControl } from "../machine/machine.ts";
import type { Pcpu } from "../machine/pcpu.ts";
import type { Nanoseconds } from "../machine/timers.ts";
import { CpuPool, type SchedulerProvider } from "./cpupool.ts";
import type { ParamSpecs, ParamValues } from "./scheduler.ts";
import { Unit } from "./unit.ts";

/** Instructions that a context switch costs. */
const SWITCH_COST = 500;

export class Scheduling implements VcpuControl {
  readonly machine: Machine;
  readonly pools: CpuPool[] = [];
  /** Called when a vCPU is put on or taken off a pCPU (guest-visible runstate area, periodic timer). */
  onSwitch: (previous: Vcpu | null, next: Vcpu | null) => void = () => {};
  readonly #poolOf: (CpuPool | null)[];
  #nextUnit = 0;

  constructor(machine: Machine) {
    this.machine = machine;
    this.#poolOf = machine.pcpus.map(() => null);
    machine.control = this;
  }

  /** Makes a pool of pCPUs that are in none. */
  createPool(name: string, pcpus: readonly Pcpu[], provider: SchedulerProvider): CpuPool {
    for (const pcpu of pcpus)
      if (this.#poolOf[pcpu.id] !== null)
        throw new ConfigError(
          `pCPU ${pcpu.id} is in cpupool '${this.#poolOf[pcpu.id]?.name}' already; remove it there first.`,
        );
    const pool = new CpuPool(this.machine, this.pools.length, name, pcpus, provider);
    this.pools.push(pool);
    for (const pcpu of pcpus) {
      this.#poolOf[pcpu.id] = pool;
      pcpu.needSchedule = true;
    }
    return pool;
  }

  poolOf(pcpu: Pcpu): CpuPool | null {
    return this.#poolOf[pcpu.id] ?? null;
  }

  /** A vCPU joins a pool; it is still down. */
  addVcpu(vcpu: Vcpu, pool: CpuPool): Unit {
    const unit = new Unit(this.#nextUnit++, vcpu, pool);
    vcpu.unit = unit;
    pool.insert(unit);
    return unit;
  }

  /** A vCPU leaves for good: it is taken off its pCPU first. */
  removeVcpu(vcpu: Vcpu): void {
    const unit = vcpu.unit as Unit | null;
    if (unit === null) return;
    this.setFlag(vcpu, PauseFlag.down);
    this.#forceOff(vcpu);
    unit.pool.remove(unit);
    vcpu.unit = null;
  }

  setFlag(vcpu: Vcpu, flag: number): void {
    const before = vcpu.runnable;
    vcpu.pauseFlags |= flag;
    this.#changed(vcpu, before);
  }

  clearFlag(vcpu: Vcpu, flag: number): void {
    const before = vcpu.runnable;
    vcpu.pauseFlags &= ~flag;
    this.#changed(vcpu, before);
  }

  pauseVcpu(vcpu: Vcpu): void {
    const before = vcpu.runnable;
    vcpu.pauseCount++;
    this.#changed(vcpu, before);
  }

  unpauseVcpu(vcpu: Vcpu): void {
    if (vcpu.pauseCount === 0) throw new Error(`${vcpu} is not paused`);
    const before = vcpu.runnable;
    vcpu.pauseCount--;
    this.#changed(vcpu, before);
  }

  pauseDomain(domain: Domain): void {
    const before = domain.vcpus.map((v) => v.runnable);
    domain.pauseCount++;
    domain.vcpus.forEach((v, i) => {
      this.#changed(v, before[i]!);
    });
  }

  unpauseDomain(domain: Domain): void {
    if (domain.pauseCount === 0) throw new Error(`${domain} is not paused`);
    const before = domain.vcpus.map((v) => v.runnable);
    domain.pauseCount--;
    domain.vcpus.forEach((v, i) => {
      this.#changed(v, before[i]!);
    });
  }

  yieldNow(vcpu: Vcpu): void {
    const unit = vcpu.unit as Unit | null;
    if (unit === null || vcpu.runningOn === null) return;
    unit.pool.yielded(unit);
    vcpu.runningOn.needSchedule = true;
  }

  /** Sets where a vCPU may and should run; an affinity without a pCPU of its pool is refused. */
  setAffinity(vcpu: Vcpu, hard: ReadonlySet<number>, soft: ReadonlySet<number>): void {
    const unit = vcpu.unit as Unit | null;
    const pool = unit?.pool;
    if (unit === null || pool === undefined) return;
    if (!pool.pcpus.some((p) => hard.has(p.id)))
      throw new ConfigError(
        `The hard affinity ${[...hard].join(",") || "(empty)"} of ${vcpu} has no pCPU of pool '${pool.name}' (${pool.pcpus.map((p) => p.id).join(",")}); name at least one of them.`,
      );
    // The unit is asleep meanwhile, so that the scheduler sees it leave and come back like any other.
    this.pauseVcpu(vcpu);
    this.#forceOff(vcpu);
    if (pool.scheduler.affinityChanged !== undefined) {
      this.#setAffinity(vcpu, hard, soft);
      pool.affinityChanged(unit);
    } else {
      pool.remove(unit);
      this.#setAffinity(vcpu, hard, soft);
      pool.insert(unit);
    }
    this.unpauseVcpu(vcpu);
  }

  #setAffinity(vcpu: Vcpu, hard: ReadonlySet<number>, soft: ReadonlySet<number>): void {
    vcpu.hardAffinity = new Set(hard);
    vcpu.softAffinity = new Set(soft);
  }

  /**
   * Sets scheduler parameters after checking them against the scheduler's own table; ConfigError in plain words. Where the fallback
   * is in charge they are ignored: an ejected scheduler must not keep domains from being made.
   */
  adjust(pool: CpuPool, target: Domain | Vcpu | null, values: ParamValues): number {
    if (pool.fallen) {
      this.machine.log(`pool ${pool.name}: scheduler parameters are ignored, fifo has none`);
      return 0;
    }
    const { scheduler } = pool;
    const kind = target === null ? "pool" : "vcpus" in target ? "domain" : "unit";
    const specs: ParamSpecs = scheduler.params?.[kind] ?? {};
    for (const [name, value] of Object.entries(values)) {
      const spec = specs[name];
      const where = `Scheduler '${pool.schedulerName}'`;
      if (spec === undefined)
        throw new ConfigError(
          `${where} has no ${kind} parameter '${name}'; ${Object.keys(specs).length === 0 ? "it has none" : `it has ${Object.keys(specs).join(", ")}`}.`,
        );
      const ok =
        spec.type === "boolean"
          ? typeof value === "boolean"
          : typeof value === "number" &&
            Number.isInteger(value) &&
            value >= (spec.min ?? -Infinity) &&
            value <= (spec.max ?? Infinity);
      if (!ok)
        throw new ConfigError(
          `${where}: ${kind} parameter '${name}' must be ${spec.type === "boolean" ? "true or false" : `a whole number from ${spec.min ?? "-inf"} to ${spec.max ?? "inf"}`}, got ${String(value)}.`,
        );
    }
    const subject = target === null || "vcpus" in target ? target : target.unit;
    return pool.adjust(subject, values);
  }

  #changed(vcpu: Vcpu, before: boolean): void {
    const after = vcpu.runnable;
    const unit = vcpu.unit as Unit | null;
    if (unit === null) return;
    if (before === after) {
      if (!after && vcpu.runningOn === null) this.#setRunState(vcpu, stoppedState(vcpu), this.machine.now);
      return;
    }
    if (after) {
      if (vcpu.runningOn === null) this.#setRunState(vcpu, RunState.runnable, this.machine.now);
      if (this.machine.now > vcpu.clock) vcpu.clock = this.machine.now;
      unit.pool.wake(unit);
    } else {
      unit.pool.sleep(unit);
      if (vcpu.runningOn !== null) vcpu.runningOn.needSchedule = true;
      else this.#setRunState(vcpu, stoppedState(vcpu), this.machine.now);
    }
  }

  /** Lets the pool's scheduler choose what runs on a pCPU, and switches to it. */
  schedule(pcpu: Pcpu): void {
    const pool = this.#poolOf[pcpu.id];
    pcpu.needSchedule = false;
    pcpu.sliceEnd = Infinity;
    if (pool === null || pool === undefined) return;
    const decision = pool.decide(pcpu);
    const next = decision.unit as Unit | null;
    const slice = decision.slice === null ? Infinity : Math.ceil(decision.slice);
    pcpu.sliceEnd = pcpu.clock + slice;
    if (next === pcpu.currentUnit) return;
    const previous = pcpu.current;
    if (previous !== null) this.#takeOff(pcpu, pool);
    pcpu.needSchedule = false;
    if (next !== null) {
      const vcpu = next.vcpu;
      if (vcpu.clock > pcpu.clock) {
        pcpu.sliceEnd = vcpu.clock + slice;
        pcpu.clock = vcpu.clock;
      }
      pcpu.idleTime += pcpu.clock - pcpu.idleSince;
      this.#setRunState(vcpu, RunState.running, pcpu.clock);
      vcpu.runningOn = pcpu;
      vcpu.lastPcpu = pcpu;
      pcpu.current = vcpu;
      pcpu.currentUnit = next;
      pcpu.retire(SWITCH_COST);
    }
    this.#switched(pcpu, previous);
  }

  /** Says who was on a pCPU until now. */
  #switched(pcpu: Pcpu, previous: Vcpu | null): void {
    this.onSwitch(previous, pcpu.current);
    if (this.machine.hooks.contextSwitch.isUsed())
      this.machine.hooks.contextSwitch.call(pcpu, previous, pcpu.current, pcpu.clock);
  }

  /** Takes a vCPU off the pCPU that it is on, which is idle then until its scheduler is asked. */
  #forceOff(vcpu: Vcpu): void {
    const pcpu = vcpu.runningOn;
    if (pcpu === null) return;
    this.#takeOff(pcpu, (vcpu.unit as Unit).pool);
    this.#switched(pcpu, vcpu);
  }

  #takeOff(pcpu: Pcpu, pool: CpuPool): void {
    const vcpu = pcpu.current!;
    const unit = pcpu.currentUnit!;
    vcpu.clock = pcpu.clock;
    this.#setRunState(vcpu, vcpu.runnable ? RunState.runnable : stoppedState(vcpu), pcpu.clock);
    vcpu.runningOn = null;
    pcpu.current = null;
    pcpu.currentUnit = null;
    pcpu.idleSince = pcpu.clock;
    pcpu.needSchedule = true;
    pool.contextSaved(unit);
  }

  #setRunState(vcpu: Vcpu, state: RunState, at: Nanoseconds): void {
    const from = vcpu.runState;
    if (from === state) return;
    const now = Math.max(at, vcpu.runStateSince);
    vcpu.runStateTimes[from] += now - vcpu.runStateSince;
    vcpu.runStateSince = now;
    vcpu.runState = state;
    if (this.machine.hooks.runstate.isUsed()) this.machine.hooks.runstate.call(vcpu, from, state, now);
  }
}

function stoppedState(vcpu: Vcpu): RunState {
  return (vcpu.pauseFlags & (PauseFlag.blocked | PauseFlag.polling)) !== 0 &&
    vcpu.pauseCount === 0 &&
    vcpu.domain.pauseCount === 0 &&
    (vcpu.pauseFlags & PauseFlag.down) === 0
    ? RunState.blocked
    : RunState.offline;
}
