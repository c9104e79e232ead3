/**
 * Scheduling: cpupools, runstates, and everything that changes whether a vCPU can run.
 *
 * It implements VcpuControl: the rest of core says what happened (blocked, paused, woken), this file keeps the
 * runstates with exact times and tells the pool's scheduler. Membership of pools is in pools.ts.
 * Invariants: a vCPU runs on at most one pCPU; its runstate is `running` exactly while it is a pCPU's `current`;
 * runstate times add up to its age; a vCPU never starts before its own last time; a scheduler is told of a unit's wake and sleep in
 * turns; the queue has every pCPU at the time of its next event.
 */
import { ERRNO } from "../abi/errno.ts";
import type { Domain } from "../domain/domain.ts";
import { PauseFlag, RunState, type Vcpu } from "../domain/vcpu.ts";
import { ConfigError } from "../errors.ts";
import type { Machine, VcpuControl } from "../machine/machine.ts";
import type { Pcpu } from "../machine/pcpu.ts";
import type { Nanoseconds } from "../machine/timers.ts";
import { CpuPool, type SchedulerProvider } from "./cpupool.ts";
import { checkParams } from "./params.ts";
import { PcpuQueue } from "./pcpu-queue.ts";
import { type GovernorProvider, PcpuPower } from "./power.ts";
import type { Granularity, Resource } from "./resource.ts";
import type { ParamValues } from "./scheduler.ts";
import { Unit } from "./unit.ts";

export class Scheduling implements VcpuControl {
  readonly machine: Machine;
  /** Every pool there is, by rising number. */
  readonly pools: CpuPool[] = [];
  /** The next event of each pCPU. */
  readonly queue: PcpuQueue;
  /** Called when a vCPU is put on or taken off a pCPU (guest-visible runstate area, periodic timer). */
  onSwitch: (previous: Vcpu | null, next: Vcpu | null) => void = () => {};
  /** Runs what a lazily run pCPU has not run yet, up to now; set by the run loop. */
  bring: (pcpu: Pcpu) => void = () => {};
  /** The pCPU whose vCPU's exit is being handled. */
  inExit: Pcpu | null = null;
  #nextUnit = 0;
  #nextPool = 0;

  constructor(machine: Machine) {
    this.machine = machine;
    this.queue = new PcpuQueue(machine.pcpus.length);
    machine.control = this;
  }

  /** Makes a pool of pCPUs that are in none. ConfigError. */
  createPool(
    name: string,
    pcpus: readonly Pcpu[],
    provider: SchedulerProvider,
    granularity: Granularity = "cpu",
  ): CpuPool {
    for (const pcpu of pcpus) {
      const pool = pcpu.resource?.pool;
      if (pool !== undefined)
        throw new ConfigError(`pCPU ${pcpu.id} is in cpupool '${pool.name}' already; remove it there first.`);
      if (!pcpu.online) throw new ConfigError(`pCPU ${pcpu.id} is offline; bring it online first.`);
    }
    if (this.pools.some((pool) => pool.name === name))
      throw new ConfigError(`There is a cpupool '${name}' already; give this one another name.`);
    const identity = { id: this.#nextPool++, name, granularity };
    const pool = new CpuPool(
      this.machine,
      { request: (resource) => this.request(resource), recover: (of) => this.#recover(of) },
      identity,
      pcpus,
      provider,
    );
    this.pools.push(pool);
    for (const resource of pool.resources) this.#joined(resource);
    return pool;
  }

  #joined(resource: Resource): void {
    const { poolChange } = this.machine.hooks;
    if (poolChange.isUsed()) for (const pcpu of resource.pcpus) poolChange.call(pcpu, resource.pool, this.machine.now);
    this.request(resource);
  }

  /** pCPUs that are in no pool join one; affinities that name them take effect. */
  addPcpus(pool: CpuPool, pcpus: readonly Pcpu[]): void {
    const added = pool.addPcpus(pcpus);
    this.#renewAffinities(pool);
    for (const resource of added) {
      pool.announce(resource);
      this.#joined(resource);
    }
  }

  /** Resources leave a pool that keeps others: what runs there goes elsewhere, affinities that name nothing else are void meanwhile. */
  removeResources(pool: CpuPool, resources: readonly Resource[]): void {
    for (const resource of resources) this.takeOff(resource);
    const renew = !pool.movesQueues;
    const units = renew ? [...pool.units] : [];
    for (const unit of units) {
      this.#suspend(unit);
      pool.remove(unit);
    }
    for (const resource of resources) pool.removeResource(resource);
    for (const unit of units) this.#join(unit, pool);
    if (!renew) {
      this.#renewAffinities(pool);
      for (const resource of resources) pool.farewell(resource);
    }
    const { poolChange } = this.machine.hooks;
    for (const { pcpus } of resources)
      for (const pcpu of pcpus) {
        if (poolChange.isUsed()) poolChange.call(pcpu, null, this.machine.now);
        this.#rekey(pcpu);
      }
  }

  /** Affinities of units that the pool's change makes mean something else. */
  #renewAffinities(pool: CpuPool): void {
    for (const unit of [...pool.units]) {
      const { hardAffinity, softAffinity } = unit;
      unit.updateAffinity();
      if (same(unit.hardAffinity, hardAffinity) && same(unit.softAffinity, softAffinity)) continue;
      unit.hardAffinity = hardAffinity;
      unit.softAffinity = softAffinity;
      this.#asleep(unit, () => pool.affinityChanged(unit));
    }
  }

  /** Does something while the unit is on no pCPU and asleep; wakes it again. */
  #asleep(unit: Unit, body: () => void): void {
    this.#suspend(unit);
    body();
    this.#resume(unit);
  }

  #suspend(unit: Unit): void {
    unit.suspended = true;
    if (unit.awake) this.#tellSleep(unit);
    if (unit.runningOn !== null) this.takeOff(unit.runningOn);
  }

  #resume(unit: Unit): void {
    unit.suspended = false;
    this.#consider(unit);
  }

  /** A vCPU joins a pool; it is still down. With a coarser granularity it joins its neighbours' unit. */
  addVcpu(vcpu: Vcpu, pool: CpuPool): Unit {
    const first = vcpu.domain.vcpus[vcpu.id - (vcpu.id % pool.unitSize)];
    const neighbours = first === vcpu ? null : ((first?.unit ?? null) as Unit | null);
    if (neighbours !== null && neighbours.pool === pool) {
      neighbours.vcpus.push(vcpu);
      neighbours.left++;
      vcpu.unit = neighbours;
      return neighbours;
    }
    const unit = new Unit(this.#nextUnit++, vcpu, pool);
    vcpu.unit = unit;
    pool.insert(unit);
    return unit;
  }

  /** A unit comes (back) into a pool and wakes if it can run. */
  #join(unit: Unit, pool: CpuPool): void {
    pool.insert(unit);
    this.#resume(unit);
  }

  /** A vCPU leaves for good: it is taken off its pCPU first. */
  removeVcpu(vcpu: Vcpu): void {
    const unit = vcpu.unit as Unit | null;
    if (unit === null) return;
    this.setFlag(vcpu, PauseFlag.down);
    if (unit.runningOn !== null && (vcpu.runningOn !== null || unit.left === 1)) this.takeOff(unit.runningOn);
    vcpu.unit = null;
    if (--unit.left === 0) unit.pool.remove(unit);
  }

  /** Moves a domain's vCPUs into another pool. Its scheduler parameters are that scheduler's defaults there, as in Xen. */
  moveDomain(domain: Domain, pool: CpuPool): void {
    this.pauseDomain(domain);
    const units = new Set(domain.vcpus.map((vcpu) => vcpu.unit as Unit | null));
    for (const unit of units) {
      if (unit === null) continue;
      if (unit.runningOn !== null) this.takeOff(unit.runningOn);
      unit.pool.remove(unit);
      unit.lastPcpu = null;
    }
    for (const vcpu of domain.vcpus) {
      if (vcpu.unit === null) continue;
      vcpu.unit = null;
      this.addVcpu(vcpu, pool);
    }
    this.unpauseDomain(domain);
  }

  /** Puts another scheduler in charge of a pool, with the state that one of its kind saved, or afresh. */
  replaceScheduler(pool: CpuPool, provider: SchedulerProvider, state: Parameters<CpuPool["replace"]>[1] = null): void {
    for (const unit of pool.units) this.#suspend(unit);
    pool.replace(provider, state);
    for (const unit of pool.units) this.#resume(unit);
    for (const resource of pool.resources) this.request(resource);
  }

  /** Gives a pCPU a governor. */
  govern(pcpu: Pcpu, provider: GovernorProvider): void {
    pcpu.power = new PcpuPower(this.machine, pcpu, provider, (changed) => this.#rateChange(changed));
  }

  #rateChange(pcpu: Pcpu): void {
    if (pcpu !== this.inExit) this.bring(pcpu);
    pcpu.power?.applyRate();
    this.#rekey(pcpu);
  }

  /**
   * A callback of the pool's scheduler was ended by force, and with it what core was doing just then: no unit stays suspended, and the
   * queue knows every pCPU as it is.
   */
  #recover(pool: CpuPool): void {
    for (const unit of pool.units) if (unit.suspended) this.#resume(unit);
    for (const pcpu of this.machine.pcpus) this.#rekey(pcpu);
  }

  // ---- what the rest of core says --------------------------------------------------------------

  setFlag(vcpu: Vcpu, flag: number): void {
    this.#bring(vcpu);
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
    this.#bring(vcpu);
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
    this.#domainPause(domain, 1);
  }

  unpauseDomain(domain: Domain): void {
    if (domain.pauseCount === 0) throw new Error(`${domain} is not paused`);
    this.#domainPause(domain, -1);
  }

  #domainPause(domain: Domain, by: number): void {
    for (const vcpu of domain.vcpus) this.#bring(vcpu);
    const before = domain.vcpus.map((v) => v.runnable);
    domain.pauseCount += by;
    domain.vcpus.forEach((v, i) => {
      this.#changed(v, before[i]!);
    });
  }

  yieldNow(vcpu: Vcpu): void {
    const unit = vcpu.unit as Unit | null;
    if (unit === null || unit.runningOn === null || vcpu.runningOn === null) return;
    unit.pool.yielded(unit);
    this.request(unit.runningOn);
  }

  reconsider(vcpu: Vcpu): void {
    const pcpu = vcpu.runningOn;
    if (pcpu === null || !pcpu.lazy || pcpu === this.inExit) return;
    this.bring(pcpu);
    this.#rekey(pcpu);
  }

  /** What a lazily run vCPU has done up to now is its own, whatever is about to stop it. */
  #bring(vcpu: Vcpu): void {
    const pcpu = vcpu.runningOn;
    if (pcpu?.lazy && pcpu !== this.inExit && vcpu.runnable) this.bring(pcpu);
  }

  /** Sets where a vCPU may and should run; an affinity without a pCPU of its pool is refused. */
  setAffinity(vcpu: Vcpu, hard: ReadonlySet<number>, soft: ReadonlySet<number>): void {
    const unit = vcpu.unit as Unit | null;
    if (unit === null) return;
    const { pool } = unit;
    if (!pool.pcpus.some((p) => hard.has(p.id)))
      throw new ConfigError(
        `The hard affinity ${[...hard].join(",") || "(empty)"} of ${vcpu} has no pCPU of pool '${pool.name}' (${pool.pcpus.map((p) => p.id).join(",")}); name at least one of them.`,
      );
    for (const one of unit.vcpus) {
      one.hardAffinity = new Set(hard);
      one.softAffinity = new Set(soft);
    }
    this.#asleep(unit, () => pool.affinityChanged(unit));
  }

  /**
   * Sets scheduler parameters after checking them against the scheduler's own table; ConfigError in plain words. Where the fallback
   * is in charge they are ignored: an ejected scheduler must not keep domains from being made. Answers 0 or a negative errno.
   */
  adjust(pool: CpuPool, target: Domain | Vcpu | null, values: ParamValues): number {
    if (pool.fallen) {
      this.machine.log(`pool ${pool.name}: scheduler parameters are ignored, fifo has none`);
      return 0;
    }
    const kind = target === null ? "pool" : "vcpus" in target ? "domain" : "unit";
    checkParams(`Scheduler '${pool.schedulerName}'`, kind, pool.scheduler.params?.[kind] ?? {}, values);
    const subject = target === null || "vcpus" in target ? target : target.unit;
    // A vCPU that has left must not be taken for the pool.
    if (target !== null && subject === null) return -ERRNO.ESRCH;
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
    unit.pool.runnable += after ? 1 : -1;
    if (after) {
      if (vcpu.runningOn === null) this.#setRunState(vcpu, RunState.runnable, this.machine.now);
      if (this.machine.now > vcpu.clock) vcpu.clock = this.machine.now;
    } else if (vcpu.runningOn === null) this.#setRunState(vcpu, stoppedState(vcpu), this.machine.now);
    this.#consider(unit);
    const resource = unit.runningOn;
    if (resource !== null && unit.vcpus.length > 1) this.fill(resource);
  }

  /** Tells the scheduler if the unit has become runnable or ceased to be. */
  #consider(unit: Unit): void {
    const { runnable } = unit;
    if (runnable === unit.awake) return;
    if (!runnable) {
      this.#tellSleep(unit);
      const resource = unit.runningOn;
      if (resource === null) return;
      if (resource.pcpus.length > 1) this.fill(resource);
      this.request(resource);
      return;
    }
    unit.awake = true;
    if (unit.runningOn === null) unit.waitsSince = this.machine.now;
    unit.pool.wake(unit);
  }

  #tellSleep(unit: Unit): void {
    unit.awake = false;
    unit.waitsSince = Infinity;
    unit.pool.sleep(unit);
  }

  // ---- pCPUs -----------------------------------------------------------------------------------

  /** doSchedule becomes due on a resource: now, or when its pCPUs can meet. */
  request(resource: Resource): void {
    const { pcpus } = resource;
    const first = pcpus[0]!;
    // Who has been stopped runs no further, though its pCPU's clock may be behind.
    const stopped = pcpus.length === 1 && first.current !== null && !first.current.runnable;
    if (resource.needSchedule && !(stopped && first.clock < resource.dueAt)) return;
    resource.needSchedule = true;
    let due = stopped ? first.clock : this.machine.now;
    for (const pcpu of pcpus) if (pcpu.clock > due && (pcpu.current !== null || pcpus.length === 1)) due = pcpu.clock;
    resource.dueAt = due;
    this.rekey(resource);
  }

  /** Puts the pCPUs of a resource where their next events are. */
  rekey(resource: Resource): void {
    const { pcpus } = resource;
    if (pcpus.length === 1) this.#rekey(pcpus[0]!);
    else for (const pcpu of pcpus) this.#rekey(pcpu);
  }

  #rekey(pcpu: Pcpu): void {
    this.queue.set(pcpu.id, this.#next(pcpu));
  }

  /** When something happens on a pCPU by itself. */
  #next(pcpu: Pcpu): Nanoseconds {
    const { resource, current, clock } = pcpu;
    if (resource === null) return Infinity;
    const { due } = resource;
    const alone = resource.pcpus.length === 1;
    if (current === null) {
      if (alone) return due > clock ? due : clock;
      return resource.pcpus[0] === pcpu && !running(resource) ? due : Infinity;
    }
    if (clock >= due) return alone || !behind(resource, due) ? clock : Infinity;
    if (!pcpu.lazy) return clock;
    const stop = pcpu.after(current.domain.arch!.horizon!(current));
    return stop < due ? stop : due;
  }

  /** Must it wait for the other pCPUs of its resource before doSchedule can be called? */
  waits(resource: Resource): boolean {
    return resource.pcpus.length > 1 && behind(resource, resource.due);
  }

  /** Lets the pool's scheduler choose what runs on a resource, and switches to it. Its pCPUs have met. */
  schedule(resource: Resource): void {
    const { pool, pcpus } = resource;
    const first = pcpus[0]!;
    const due = resource.due;
    if (due > first.clock && due < Infinity) first.clock = due;
    if (pcpus.length > 1) {
      for (const pcpu of pcpus) if (pcpu.clock > first.clock && pcpu.current !== null) first.clock = pcpu.clock;
      for (const pcpu of pcpus) pcpu.clock = Math.max(pcpu.clock, first.clock);
    }
    resource.needSchedule = false;
    resource.sliceEnd = Infinity;
    this.machine.now = first.clock;
    const next = pool.decide(resource, first.clock);
    const slice = pool.slice === null ? Infinity : Math.ceil(pool.slice);
    resource.sliceEnd = first.clock + slice;
    const previous = resource.currentUnit;
    if (next !== previous) {
      // A tickle of this pCPU by contextSaved stays: it will be asked again.
      if (previous !== null) this.#leave(resource);
      if (next !== null) {
        this.#enter(resource, next);
        resource.sliceEnd = resource.unitSince + slice;
      }
    } else if (next !== null && next.vcpus.length > 1) this.#fill(resource);
    resource.tickled = false;
    this.#settle(resource);
  }

  /** Takes the unit off a resource, which is idle then until its scheduler is asked. */
  takeOff(resource: Resource): void {
    if (resource.currentUnit === null) return;
    for (const pcpu of resource.pcpus) if (pcpu !== this.inExit) this.bring(pcpu);
    if (resource.currentUnit === null) return;
    this.#leave(resource);
    this.#settle(resource);
    resource.needSchedule = false;
    this.request(resource);
  }

  /** What changed on the pCPUs of a resource is told, and when something happens on them next is known. */
  #settle(resource: Resource): void {
    const { pcpus } = resource;
    for (let i = 0; i < pcpus.length; i++) this.#announce(pcpus[i]!);
    this.rekey(resource);
  }

  /** The unit leaves; its pCPUs are idle. */
  #leave(resource: Resource): void {
    const unit = resource.currentUnit!;
    unit.past += Math.max(0, resource.time - resource.unitSince);
    // First, for a hook may pause some of its vCPUs: that puts no other back, and the scheduler, which has decided already, is told of one that sleeps.
    unit.runningOn = null;
    resource.currentUnit = null;
    for (const pcpu of resource.pcpus) if (pcpu.current !== null) this.#stop(pcpu);
    if (unit.awake) unit.waitsSince = this.machine.now;
    unit.pool.contextSaved(unit);
  }

  /** A unit comes to a resource that is idle. */
  #enter(resource: Resource, unit: Unit): void {
    const { pcpus } = resource;
    const first = pcpus[0]!;
    for (const vcpu of unit.vcpus) if (vcpu.clock > first.clock && vcpu.runnable) first.clock = vcpu.clock;
    if (pcpus.length > 1) for (const pcpu of pcpus) pcpu.clock = Math.max(pcpu.clock, first.clock);
    resource.currentUnit = unit;
    resource.unitSince = first.clock;
    unit.runningOn = resource;
    unit.lastPcpu = resource;
    unit.waitsSince = Infinity;
    if (unit.vcpus.length > 1) {
      this.#fill(resource);
      return;
    }
    this.#start(first, unit.vcpus[0]!, resource.tickled);
    // Leaving an idle state takes time that is not the unit's.
    resource.unitSince = unit.vcpus[0]!.runStateSince;
  }

  /** Each pCPU of a resource with several runs its vCPU of the present unit if that can run, else it idles. */
  fill(resource: Resource): void {
    if (resource.currentUnit === null) {
      this.rekey(resource);
      return;
    }
    this.#fill(resource);
    this.#settle(resource);
  }

  #fill(resource: Resource): void {
    const unit = resource.currentUnit;
    if (unit === null) return;
    resource.pcpus.forEach((pcpu, i) => {
      const vcpu = unit.vcpus[i];
      if (pcpu.current !== null && !pcpu.current.runnable && pcpu !== this.inExit) {
        this.bring(pcpu);
        if (pcpu.current !== null) this.#stop(pcpu);
      }
      if (pcpu.current === null && vcpu?.runnable && vcpu.unit === unit) {
        pcpu.clock = Math.max(pcpu.clock, vcpu.clock, this.machine.now);
        this.#start(pcpu, vcpu, resource.tickled);
      }
    });
  }

  /** Puts a vCPU on an idle pCPU, with what that costs. */
  #start(pcpu: Pcpu, vcpu: Vcpu, tickled: boolean): void {
    const { clock } = pcpu;
    if (pcpu.announced === null) pcpu.power?.busy();
    pcpu.idleTime += pcpu.clock - pcpu.idleSince;
    if (pcpu.clock > clock && vcpu.clock < pcpu.clock) vcpu.clock = pcpu.clock;
    const cost = this.#cost(pcpu, vcpu, tickled);
    vcpu.runningOn = pcpu;
    vcpu.lastPcpu = pcpu;
    pcpu.current = vcpu;
    pcpu.lazy = vcpu.domain.arch?.horizon !== undefined;
    // Last of all: the hook may pause it.
    this.#setRunState(vcpu, RunState.running, pcpu.clock);
    if (cost > 0) pcpu.retire(cost);
  }

  /** Instructions that it takes to put a vCPU on a pCPU (SchedulingCosts). */
  #cost(pcpu: Pcpu, vcpu: Vcpu, tickled: boolean): number {
    const { costs } = this.machine.config;
    let cost = costs.contextSwitch + (tickled ? costs.tickle : 0);
    const last = vcpu.lastPcpu;
    const moved = last !== null && last.core !== pcpu.core;
    if (moved) cost += costs.migration;
    if (costs.warmUp > 0) {
      const foreign = last === pcpu ? pcpu.busyTime - vcpu.leftAt : 0;
      const cold =
        last === null || moved || (foreign > 0 && foreign >= costs.coldAfter) ? 1 : foreign / (costs.coldAfter || 1);
      cost += Math.floor(costs.warmUp * cold);
    }
    return cost;
  }

  /** Takes the vCPU off a pCPU, which idles. */
  #stop(pcpu: Pcpu): void {
    const vcpu = pcpu.current!;
    vcpu.clock = pcpu.clock;
    this.#setRunState(vcpu, vcpu.runnable ? RunState.runnable : stoppedState(vcpu), pcpu.clock);
    vcpu.runningOn = null;
    pcpu.current = null;
    pcpu.lazy = false;
    pcpu.idleSince = pcpu.clock;
    vcpu.leftAt = pcpu.busyTime;
    // The hook, which saw where it ran, may have paused it.
    this.#setRunState(vcpu, vcpu.runnable ? RunState.runnable : stoppedState(vcpu), pcpu.clock);
  }

  /** Says who came and who went, if anybody did. */
  #announce(pcpu: Pcpu): void {
    const { announced: previous, current: next } = pcpu;
    if (previous === next) return;
    pcpu.announced = next;
    if (next === null) pcpu.power?.idle();
    this.onSwitch(previous, next);
    const { contextSwitch } = this.machine.hooks;
    if (contextSwitch.isUsed()) contextSwitch.call(pcpu, previous, next, pcpu.clock);
  }

  #setRunState(vcpu: Vcpu, state: RunState, at: Nanoseconds): void {
    const from = vcpu.runState;
    if (from === state) return;
    const now = at > vcpu.runStateSince ? at : vcpu.runStateSince;
    vcpu.runStateTimes[from] += now - vcpu.runStateSince;
    vcpu.runStateSince = now;
    vcpu.runState = state;
    const { runstate } = this.machine.hooks;
    if (runstate.isUsed()) runstate.call(vcpu, from, state, now);
  }
}

/** Does any pCPU of a resource run something? */
function running(resource: Resource): boolean {
  for (const pcpu of resource.pcpus) if (pcpu.current !== null) return true;
  return false;
}

/** Does any pCPU of a resource still have to run up to `due`? */
function behind(resource: Resource, due: Nanoseconds): boolean {
  for (const pcpu of resource.pcpus) if (pcpu.current !== null && pcpu.clock < due) return true;
  return false;
}

function same(a: ReadonlySet<number>, b: ReadonlySet<number>): boolean {
  if (a === b) return true;
  if (a.size !== b.size) return false;
  for (const id of a) if (!b.has(id)) return false;
  return true;
}

function stoppedState(vcpu: Vcpu): RunState {
  return (vcpu.pauseFlags & (PauseFlag.blocked | PauseFlag.polling)) !== 0 &&
    vcpu.pauseCount === 0 &&
    vcpu.domain.pauseCount === 0 &&
    (vcpu.pauseFlags & PauseFlag.down) === 0
    ? RunState.blocked
    : RunState.offline;
}
