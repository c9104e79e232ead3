/**
 * A scheduler's host under a test's control: pCPUs of any topology, units without guests, time that passes when the test says so. It
 * keeps what core promises (contextSaved after a unit has left, timers of one instant in the order of arming) and checks decisions.
 */
import type { Domain } from "../../../core/domain/domain.ts";
import type { Nanoseconds, Timer } from "../../../core/machine/timers.ts";
import { TimerQueue } from "../../../core/machine/timers.ts";
import type {
  Decision,
  Scheduler,
  SchedulerHost,
  SchedulerPcpu,
  SchedulingUnit,
} from "../../../core/scheduling/scheduler.ts";

/** Shape of the machine. */
export interface Topology {
  readonly pcpus: number;
  readonly threadsPerCore?: number;
  readonly coresPerSocket?: number;
  readonly socketsPerNode?: number;
}

export class ScriptedPcpu implements SchedulerPcpu {
  readonly id: number;
  readonly cpus: readonly number[];
  readonly socket: number;
  readonly core: number;
  readonly node: number;
  currentUnit: ScriptedUnit | null = null;
  /** The last decision. */
  decision: Decision = { unit: null, slice: null };
  decidedAt: Nanoseconds = 0;
  needSchedule = true;
  constructor(id: number, topology: Topology) {
    this.id = id;
    this.cpus = [id];
    this.core = Math.floor(id / (topology.threadsPerCore ?? 1));
    this.socket = Math.floor(this.core / (topology.coresPerSocket ?? 64));
    this.node = Math.floor(this.socket / (topology.socketsPerNode ?? 1));
  }
  toString(): string {
    return `pCPU ${this.id}`;
  }
}

export class ScriptedUnit implements SchedulingUnit {
  readonly id: number;
  readonly domain: Domain;
  readonly vcpus = [];
  runnable = false;
  runningOn: ScriptedPcpu | null = null;
  lastPcpu: ScriptedPcpu | null = null;
  hardAffinity: ReadonlySet<number>;
  softAffinity: ReadonlySet<number>;
  runTime: Nanoseconds = 0;
  constructor(id: number, domain: Domain, all: ReadonlySet<number>) {
    this.id = id;
    this.domain = domain;
    this.hardAffinity = all;
    this.softAffinity = all;
  }
  toString(): string {
    return `unit ${this.id}`;
  }
}

export class ScriptedHost<S extends Scheduler> implements SchedulerHost {
  readonly pool = { id: 0, name: "test" };
  pcpus: ScriptedPcpu[];
  readonly scheduler: S;
  readonly units: ScriptedUnit[] = [];
  #all: ReadonlySet<number>;
  readonly #timers = new TimerQueue();
  readonly #topology: Topology;
  #now: Nanoseconds = 0;
  /** Moves the clock without letting anything happen. */
  advance(time: Nanoseconds): void {
    this.#now += time;
  }
  /** Tickles so far, by pCPU. */
  readonly tickles: number[] = [];

  constructor(topology: Topology, make: (host: SchedulerHost) => S) {
    this.#topology = topology;
    this.pcpus = Array.from({ length: topology.pcpus }, (_, id) => new ScriptedPcpu(id, topology));
    this.#all = new Set(this.pcpus.map((pcpu) => pcpu.id));
    this.scheduler = make(this);
  }

  now(): Nanoseconds {
    return this.#now;
  }
  tickle(pcpu: SchedulerPcpu): void {
    this.tickles.push(pcpu.id);
    (pcpu as ScriptedPcpu).needSchedule = true;
  }
  timer(at: Nanoseconds, fire: (now: Nanoseconds) => void): Timer {
    return this.#timers.arm(at, fire);
  }
  random(): number {
    return 4;
  }
  log(): void {}

  /** A domain of so many sleeping units. */
  domain(name: string, units: number): ScriptedUnit[] {
    const domain = { name, toString: () => name } as unknown as Domain;
    return Array.from({ length: units }, () => {
      const unit = new ScriptedUnit(this.units.length, domain, this.#all);
      this.units.push(unit);
      this.scheduler.insertUnit(unit, this.#now);
      return unit;
    });
  }

  /** Pins a sleeping unit. */
  pin(unit: ScriptedUnit, hard: readonly number[], soft: readonly number[] = hard): void {
    unit.hardAffinity = new Set(hard);
    unit.softAffinity =
      hard.length === soft.length && hard.every((id) => soft.includes(id)) ? unit.hardAffinity : new Set(soft);
    if (this.scheduler.affinityChanged !== undefined) this.scheduler.affinityChanged(unit, this.#now);
    else {
      this.scheduler.removeUnit(unit, this.#now);
      this.scheduler.insertUnit(unit, this.#now);
    }
  }

  /** Wakes units without yet letting any pCPU decide. */
  wake(...units: ScriptedUnit[]): void {
    for (const unit of units) {
      unit.runnable = true;
      this.scheduler.wake(unit, this.#now);
    }
  }

  /** A unit goes to sleep. */
  sleep(unit: ScriptedUnit): void {
    unit.runnable = false;
    this.scheduler.sleep(unit, this.#now);
    if (unit.runningOn !== null) unit.runningOn.needSchedule = true;
  }

  /** The running unit yields. */
  yieldNow(unit: ScriptedUnit): void {
    this.scheduler.yielded?.(unit, this.#now);
    unit.runningOn!.needSchedule = true;
  }

  /** Asks for a decision and acts on it. */
  schedule(pcpu: ScriptedPcpu): Decision {
    pcpu.needSchedule = false;
    const decision = this.scheduler.doSchedule(pcpu, this.#now);
    const unit = decision.unit as ScriptedUnit | null;
    if (decision.slice !== null && !(decision.slice >= 1)) throw new Error(`slice ${decision.slice}`);
    if (unit !== null) {
      if (!unit.runnable) throw new Error(`${unit} is not runnable`);
      if (unit.runningOn !== null && unit.runningOn !== pcpu) throw new Error(`${unit} runs on ${unit.runningOn}`);
      if (!unit.hardAffinity.has(pcpu.id)) throw new Error(`${unit} may not run on ${pcpu}`);
    }
    const previous = pcpu.currentUnit;
    if (previous !== unit) {
      if (previous !== null) {
        previous.runningOn = null;
        pcpu.currentUnit = null;
        this.scheduler.contextSaved?.(previous, this.#now);
        pcpu.needSchedule = false;
      }
      if (unit !== null) {
        pcpu.currentUnit = unit;
        unit.runningOn = pcpu;
        unit.lastPcpu = pcpu;
      }
    }
    pcpu.decision = decision;
    pcpu.decidedAt = this.#now;
    return decision;
  }

  /** Lets every pCPU that was asked to, or whose slice is over, decide until none wants to. */
  settle(): void {
    for (let again = true, rounds = 0; again; rounds++) {
      if (rounds > 1000) throw new Error("pCPUs are tickled without end");
      again = false;
      for (const pcpu of this.pcpus) {
        const { slice } = pcpu.decision;
        if (!pcpu.needSchedule && (slice === null || pcpu.decidedAt + slice > this.#now)) continue;
        this.schedule(pcpu);
        again = true;
      }
    }
  }

  /** Time passes: what runs runs, timers fire, slices end. */
  pass(time: Nanoseconds): void {
    const until = this.#now + time;
    this.settle();
    for (;;) {
      let next = Math.min(until, this.#timers.next);
      for (const { decision, decidedAt } of this.pcpus)
        if (decision.slice !== null) next = Math.min(next, decidedAt + decision.slice);
      for (const { currentUnit } of this.pcpus) if (currentUnit !== null) currentUnit.runTime += next - this.#now;
      this.#now = next;
      while (this.#timers.fireOne(next));
      this.settle();
      if (next >= until) return;
    }
  }

  /** A pCPU joins or leaves. */
  add(id: number): void {
    const pcpu = new ScriptedPcpu(id, this.#topology);
    this.pcpus = [...this.pcpus, pcpu].sort((a, b) => a.id - b.id);
    this.#renew();
    this.scheduler.pcpuAdded?.(pcpu, this.#now);
  }
  remove(id: number): void {
    const pcpu = this.pcpus.find((one) => one.id === id)!;
    const unit = pcpu.currentUnit;
    if (unit !== null) {
      const { runnable } = unit;
      if (runnable) this.sleep(unit);
      unit.runningOn = null;
      pcpu.currentUnit = null;
      this.scheduler.contextSaved?.(unit, this.#now);
      this.pcpus = this.pcpus.filter((one) => one !== pcpu);
      this.#renew();
      this.scheduler.pcpuRemoved?.(pcpu, this.#now);
      if (runnable) this.wake(unit);
      return;
    }
    this.pcpus = this.pcpus.filter((one) => one !== pcpu);
    this.#renew();
    this.scheduler.pcpuRemoved?.(pcpu, this.#now);
  }
  /** Units without an affinity of their own may use the pool as it is now. */
  #renew(): void {
    const before = this.#all;
    this.#all = new Set(this.pcpus.map((pcpu) => pcpu.id));
    for (const unit of this.units) {
      if (unit.hardAffinity !== before) continue;
      unit.hardAffinity = this.#all;
      unit.softAffinity = this.#all;
    }
  }
}
