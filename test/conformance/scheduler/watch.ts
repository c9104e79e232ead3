/**
 * A scheduler under observation: everything that the core says passes through, and what is wrong is noted.
 *
 * What it checks is checked by the core too, on its own: a decision that the core would eject, the kit sees as well, and a core that
 * believed it would be found out. It has exactly the optional methods that the scheduler has.
 * Invariant: it never throws, as the core would blame the scheduler.
 */
import type {
  Decision,
  Scheduler,
  SchedulerHost,
  SchedulerPcpu,
  SchedulerState,
  SchedulingUnit,
} from "../../../core/scheduling/scheduler.ts";
import type { Invariant, SchedulerUnderTest } from "./contract.ts";
import { DisturbedHost } from "./disturbed-host.ts";
import type { Disturbance } from "./plan.ts";

export class Watch {
  readonly problems: string[] = [];
  onProblem: (line: string) => void = () => {};
  /** Decisions taken. */
  decisions = 0;
  readonly #under: SchedulerUnderTest;
  readonly #disturbance: Disturbance | null;
  /** Check what the scheduler claims of its state, after each decision. */
  readonly #inspect: boolean;

  constructor(under: SchedulerUnderTest, disturbance: Disturbance | null = null, inspect = false) {
    this.#under = under;
    this.#disturbance = disturbance;
    this.#inspect = inspect;
  }

  /** Something does not hold: which invariant, and what was seen. */
  problem(invariant: Invariant, text: string): void {
    const line = `${invariant}: ${text}`;
    this.onProblem(line);
    if (this.problems.length < 20) this.problems.push(line);
  }

  /** Makes an instance; for the core. */
  readonly make = (host: SchedulerHost): Scheduler => {
    let last = -1;
    const time = (what: string, now: number): void => {
      if (!(now >= last)) this.problem("time goes forward", `${what} was told the time ${now} after ${last}`);
      last = now;
    };
    const timed: SchedulerHost = {
      pool: host.pool,
      get pcpus() {
        return host.pcpus;
      },
      now: () => host.now(),
      tickle: (pcpu) => host.tickle(pcpu),
      random: () => host.random(),
      log: (message) => host.log(message),
      timer: (at, fire) =>
        host.timer(at, (now) => {
          time("timer", now);
          if (now < at) this.problem("time goes forward", `a timer for ${at} fired at ${now}`);
          fire(now);
        }),
    };
    const disturbed = this.#disturbance === null ? null : new DisturbedHost(timed, this.#disturbance);
    return this.#wrap(this.#under.make(disturbed ?? timed), disturbed, host, time);
  };

  #wrap(
    inner: Scheduler,
    disturbed: DisturbedHost | null,
    host: SchedulerHost,
    time: (what: string, now: number) => void,
  ): Scheduler {
    const units = new Set<SchedulingUnit>();
    const told = <T>(what: string, call: (subject: T, now: number) => void) => {
      return (subject: T, now: number): void => {
        time(what, now);
        call(subject, now);
      };
    };
    const outer: { -readonly [K in keyof Scheduler]: Scheduler[K] } = {
      insertUnit: told("insertUnit", (unit: SchedulingUnit, now) => {
        units.add(unit);
        inner.insertUnit(unit, now);
      }),
      removeUnit: told("removeUnit", (unit: SchedulingUnit, now) => {
        units.delete(unit);
        inner.removeUnit(unit, now);
      }),
      wake: told("wake", (unit: SchedulingUnit, now) => inner.wake(unit, now)),
      sleep: told("sleep", (unit: SchedulingUnit, now) => inner.sleep(unit, now)),
      doSchedule: (pcpu, now) => {
        time("doSchedule", now);
        const decision = inner.doSchedule(pcpu, now);
        this.#decided(decision, pcpu, host, inner, units);
        const late = decision?.slice == null ? 0 : (disturbed?.lateDispatch(now) ?? 0);
        return late === 0 ? decision : { unit: decision.unit, slice: decision.slice! + late };
      },
    };
    if (inner.yielded) outer.yielded = told("yielded", (unit, now) => inner.yielded!(unit, now));
    if (inner.contextSaved) outer.contextSaved = told("contextSaved", (unit, now) => inner.contextSaved!(unit, now));
    if (inner.pcpuAdded) outer.pcpuAdded = told("pcpuAdded", (pcpu, now) => inner.pcpuAdded!(pcpu, now));
    if (inner.pcpuRemoved) outer.pcpuRemoved = told("pcpuRemoved", (pcpu, now) => inner.pcpuRemoved!(pcpu, now));
    if (inner.affinityChanged)
      outer.affinityChanged = told("affinityChanged", (unit, now) => inner.affinityChanged!(unit, now));
    if (inner.params) outer.params = inner.params;
    if (inner.adjust) outer.adjust = (target, values) => inner.adjust!(target, values);
    if (inner.read) outer.read = (target) => inner.read!(target);
    if (inner.entitled) outer.entitled = (unit) => inner.entitled!(unit);
    if (inner.dump) outer.dump = () => inner.dump!();
    if (inner.save) outer.save = () => inner.save!();
    if (inner.restore)
      outer.restore = (state, unit, now) => {
        time("restore", now);
        inner.restore!(state, unit, now);
        const { lasting = (one: SchedulerState): unknown => one } = this.#under;
        const [was, is] = [canonical(lasting(state)), canonical(lasting(inner.save!()))];
        if (was !== is) this.problem("the state lasts", `the state restored is not the state saved:\n${was}\n${is}`);
      };
    return outer;
  }

  #decided(
    decision: Decision,
    pcpu: SchedulerPcpu,
    host: SchedulerHost,
    inner: Scheduler,
    units: ReadonlySet<SchedulingUnit>,
  ): void {
    this.decisions++;
    const unit = decision?.unit ?? null;
    if (unit !== null) {
      if (!unit.runnable) this.problem("decisions are lawful", `decided for ${unit}, which cannot run`);
      if (unit.runningOn !== null && unit.runningOn !== pcpu)
        this.problem(
          "decisions are lawful",
          `decided for ${unit} on pCPU ${pcpu.id}, which runs on pCPU ${unit.runningOn.id}`,
        );
      if (!unit.hardAffinity.has(pcpu.id))
        this.problem(
          "decisions are lawful",
          `decided for ${unit} on pCPU ${pcpu.id}, outside its hard affinity ${[...unit.hardAffinity]}`,
        );
      if (!host.pcpus.includes(pcpu))
        this.problem("decisions are lawful", `pCPU ${pcpu.id} is not in pool ${host.pool.name}`);
    }
    if (!this.#inspect) return;
    const waiting = [...units].filter((one) => one !== unit && one.runnable && one.runningOn === null);
    const decided = { pcpu: pcpu.id, unit: unit?.id ?? null, waiting: waiting.map((one) => one.id) };
    const text = this.#under.invariant!(inner.save?.() ?? null, decided);
    if (text !== null) this.problem("the claimed invariant", `${text}\n${inner.dump?.() ?? ""}`);
  }
}

/** JSON with keys in order. */
export function canonical(state: unknown): string {
  return JSON.stringify(state, (_key, value: unknown) =>
    typeof value === "object" && value !== null && !Array.isArray(value)
      ? Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)))
      : value,
  );
}
