/**
 * Faults of the machine, for schedulers: dispatches that come late, timers that are lost or come together.
 *
 * The scheduler is handed a host of ours in place of the core's, and its slices are prolonged. Invariant: the stream of faults is seeded
 * and apart from every other, so that the same faults come in the same run, whatever the scheduler draws.
 */
import type { Decision, Hooks, Nanoseconds, Scheduler, SchedulerHost, SchedulerPcpu, Timer } from "hookvisor";
import type { ExperimentFaults } from "../experiment/model.ts";

const NAME = "toolstack-lab";

/** Is there any fault to inject? */
export function anyFaults(faults: ExperimentFaults): boolean {
  return faults.lateDispatch !== null || faults.loseTimers > 0 || faults.coalesceTimers > 0;
}

/** Puts faults between the core and the schedulers of these names; before boot. */
export function injectFaults(hooks: Hooks, names: Iterable<string>, faults: ExperimentFaults, seed: number): void {
  let state = (seed ^ 0x5bd1_e995) >>> 0;
  const chance = (probability: number): boolean => {
    if (probability <= 0) return false;
    state = (state + 0x9e3779b9) >>> 0;
    let z = state;
    z = Math.imul(z ^ (z >>> 16), 0x85ebca6b);
    z = Math.imul(z ^ (z >>> 13), 0xc2b2ae35);
    return ((z ^ (z >>> 16)) >>> 0) / 0x1_0000_0000 < probability;
  };
  for (const name of new Set(names))
    hooks.scheduler.for(name).intercept({
      name: NAME,
      register: (tap) => {
        const make = tap.fn as (host: SchedulerHost) => Scheduler | undefined;
        return {
          ...tap,
          fn: (host: SchedulerHost) => faultyScheduler(make(faultyHost(host, faults, chance)), faults, chance),
        };
      },
    });
}

type Chance = (probability: number) => boolean;

function faultyHost(host: SchedulerHost, faults: ExperimentFaults, chance: Chance): SchedulerHost {
  const { lateDispatch, loseTimers, coalesceTimers } = faults;
  return {
    pool: host.pool,
    get pcpus() {
      return host.pcpus;
    },
    now: () => host.now(),
    random: () => host.random(),
    log: (message) => host.log(message),
    tickle(pcpu) {
      if (lateDispatch === null || !chance(lateDispatch.probability)) {
        host.tickle(pcpu);
        return;
      }
      host.timer(host.now() + lateDispatch.by, () => {
        if (host.pcpus.includes(pcpu)) host.tickle(pcpu);
      });
    },
    timer(at, fire): Timer {
      const due = coalesceTimers > 0 ? Math.ceil(at / coalesceTimers) * coalesceTimers : at;
      if (chance(loseTimers)) return { at: due, cancel: () => {} };
      return host.timer(due, fire);
    },
  };
}

function faultyScheduler(
  scheduler: Scheduler | undefined,
  { lateDispatch }: ExperimentFaults,
  chance: Chance,
): Scheduler | undefined {
  if (scheduler === undefined || lateDispatch === null || typeof scheduler.doSchedule !== "function") return scheduler;
  const decide = scheduler.doSchedule.bind(scheduler);
  scheduler.doSchedule = (pcpu: SchedulerPcpu, now: Nanoseconds): Decision => {
    const decision = decide(pcpu, now);
    const slice = (decision as Decision | null | undefined)?.slice;
    if (typeof slice !== "number" || !chance(lateDispatch.probability)) return decision;
    return { unit: decision.unit, slice: slice + lateDispatch.by };
  };
  return scheduler;
}
