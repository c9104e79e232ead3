/**
 * The credit scheduler with the accounting that it had before 2009: whoever runs when the tick comes is charged a whole tick, nobody else anything. Key:
 * `credit-sampled`. It is the project's credit scheduler, told that time passes in ticks: what it sees of a unit is a shadow whose run time is
 * ten milliseconds for each tick that found it running.
 *
 * Use it without a rate limit (`ratelimit_us: 0`), which is measured in run time and did not exist then.
 */
import {
  type Decision,
  type Domain,
  definePlugin,
  type Nanoseconds,
  type ParamValues,
  type Scheduler,
  type SchedulerHost,
  type SchedulerPcpu,
  type SchedulingUnit,
  type Vcpu,
} from "hookvisor";
import { CreditScheduler } from "../../../plugins/scheduler-credit/credit.ts";

const NAME = "scheduler-credit-sampled";
const TICK: Nanoseconds = 10_000_000;

/** A unit as the sampled scheduler sees it. */
class ShadowUnit implements SchedulingUnit {
  readonly real: SchedulingUnit;
  readonly #pcpus: ReadonlyMap<number, ShadowPcpu>;
  /** Ticks that found it running, times their length. */
  runTime: Nanoseconds = 0;

  constructor(real: SchedulingUnit, pcpus: ReadonlyMap<number, ShadowPcpu>) {
    this.real = real;
    this.#pcpus = pcpus;
  }

  get id(): number {
    return this.real.id;
  }
  get domain(): Domain {
    return this.real.domain;
  }
  get vcpus(): readonly Vcpu[] {
    return this.real.vcpus;
  }
  get runnable(): boolean {
    return this.real.runnable;
  }
  get runningOn(): SchedulerPcpu | null {
    return this.#shadow(this.real.runningOn);
  }
  get lastPcpu(): SchedulerPcpu | null {
    return this.#shadow(this.real.lastPcpu);
  }
  get hardAffinity(): ReadonlySet<number> {
    return this.real.hardAffinity;
  }
  get softAffinity(): ReadonlySet<number> {
    return this.real.softAffinity;
  }

  #shadow(pcpu: SchedulerPcpu | null): SchedulerPcpu | null {
    return pcpu === null ? null : this.#pcpus.get(pcpu.id)!;
  }
}

/** A pCPU whose current unit is a shadow. */
class ShadowPcpu implements SchedulerPcpu {
  readonly real: SchedulerPcpu;
  readonly #units: ReadonlyMap<SchedulingUnit, ShadowUnit>;

  constructor(real: SchedulerPcpu, units: ReadonlyMap<SchedulingUnit, ShadowUnit>) {
    this.real = real;
    this.#units = units;
  }

  get id(): number {
    return this.real.id;
  }
  get cpus(): readonly number[] {
    return this.real.cpus;
  }
  get socket(): number {
    return this.real.socket;
  }
  get core(): number {
    return this.real.core;
  }
  get node(): number {
    return this.real.node;
  }
  get needSchedule(): boolean {
    return this.real.needSchedule;
  }
  get currentUnit(): ShadowUnit | null {
    const { currentUnit } = this.real;
    return currentUnit === null ? null : this.#units.get(currentUnit)!;
  }
}

class SampledCredit implements Scheduler {
  readonly #credit: CreditScheduler;
  readonly #units = new Map<SchedulingUnit, ShadowUnit>();
  readonly #pcpus = new Map<number, ShadowPcpu>();

  constructor(host: SchedulerHost) {
    for (const pcpu of host.pcpus) this.#pcpus.set(pcpu.id, new ShadowPcpu(pcpu, this.#units));
    const pcpus = [...this.#pcpus.values()];
    this.#credit = new CreditScheduler({
      pool: host.pool,
      pcpus,
      now: () => host.now(),
      tickle: (pcpu) => host.tickle((pcpu as ShadowPcpu).real),
      timer: (at, fire) => host.timer(at, fire),
      random: () => host.random(),
      log: (message) => host.log(message),
    });
    const tick = (now: Nanoseconds): void => {
      for (const { currentUnit } of pcpus) if (currentUnit !== null) currentUnit.runTime += TICK;
      host.timer(now + TICK, tick);
    };
    host.timer(host.now() + TICK, tick);
  }

  get params(): CreditScheduler["params"] {
    return this.#credit.params;
  }

  insertUnit(unit: SchedulingUnit): void {
    const shadow = new ShadowUnit(unit, this.#pcpus);
    this.#units.set(unit, shadow);
    this.#credit.insertUnit(shadow);
  }

  removeUnit(unit: SchedulingUnit): void {
    this.#credit.removeUnit(this.#of(unit));
    this.#units.delete(unit);
  }

  wake(unit: SchedulingUnit, now: Nanoseconds): void {
    this.#credit.wake(this.#of(unit), now);
  }

  sleep(unit: SchedulingUnit): void {
    this.#credit.sleep(this.#of(unit));
  }

  yielded(unit: SchedulingUnit): void {
    this.#credit.yielded(this.#of(unit));
  }

  contextSaved(unit: SchedulingUnit, now: Nanoseconds): void {
    this.#credit.contextSaved(this.#of(unit), now);
  }

  doSchedule(pcpu: SchedulerPcpu, now: Nanoseconds): Decision {
    const { unit, slice } = this.#credit.doSchedule(this.#pcpus.get(pcpu.id)!, now);
    return { unit: unit === null ? null : (unit as ShadowUnit).real, slice };
  }

  entitled(unit: SchedulingUnit): boolean {
    return this.#credit.entitled(this.#of(unit));
  }

  adjust(target: Domain | SchedulingUnit | null, values: ParamValues): number {
    return this.#credit.adjust(target, values);
  }

  read(target: Domain | SchedulingUnit | null): ParamValues {
    return this.#credit.read(target);
  }

  #of(unit: SchedulingUnit): ShadowUnit {
    return this.#units.get(unit)!;
  }
}

export default definePlugin({
  name: NAME,
  api: "^1.0.0",
  description: "credit as it was before 2009: whoever runs when the tick comes pays for all of it",
  apply({ hooks }) {
    hooks.scheduler.for("credit-sampled").tap(NAME, (host) => new SampledCredit(host));
  },
});
