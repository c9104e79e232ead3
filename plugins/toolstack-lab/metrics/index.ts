/** Measures a run: puts together what the modules of this folder find in a recording. */
import { EventKind, type Recording } from "../recording.ts";
import { deadlines } from "./deadlines.ts";
import { energy } from "./energy.ts";
import { fairness } from "./fairness.ts";
import { pcpuTime } from "./idle.ts";
import { movement, movementOfAll } from "./movement.ts";
import type { DomainMetrics, RunMetrics } from "./types.ts";
import { together, waits } from "./waits.ts";

/** The metrics of a run. */
export function measure(recording: Recording): RunMetrics {
  const fair = fairness(recording);
  const waited = waits(recording);
  const jobs = deadlines(recording);
  const moves = movement(recording);
  const drawn = energy(recording);
  const all = movementOfAll(moves);
  const { busy, capacity, idleWhileWaiting } = pcpuTime(recording);
  const total = sum(fair.cpu);
  const due = sum(fair.entitled);
  const domains = recording.domains.map(
    ({ name, group }, d): DomainMetrics => ({
      name,
      group,
      cpu: fair.cpu[d]!,
      entitled: fair.entitled[d]!,
      share: total > 0 ? fair.cpu[d]! / total : 0,
      entitledShare: due > 0 ? fair.entitled[d]! / due : 0,
      lagBehind: fair.behind[d]!,
      lagAhead: fair.ahead[d]!,
      wake: waited.wake[d]!.spread(),
      preemption: waited.preemption[d]!.spread(),
      jobs: jobs.domains[d]!,
      switches: moves[d]!.switches,
      migrations: moves[d]!.migrations,
      energy: drawn.domains[d]!,
    }),
  );
  return {
    time: recording.end - recording.warmUp,
    domains,
    shareErrors: fair.shareErrors,
    jain: fair.jain,
    lag: domains.reduce((most, { lagBehind, lagAhead }) => Math.max(most, lagBehind, lagAhead), 0),
    wake: together(waited.wake).spread(),
    preemption: together(waited.preemption).spread(),
    jobs: jobs.all,
    switches: all.switches,
    migrations: all.migrations,
    busy,
    capacity,
    idleWhileWaiting,
    energy: drawn.all,
    faults: recording.events.kind.reduce((count, kind) => count + (kind === EventKind.fault ? 1 : 0), 0),
  };
}

function sum(values: Float64Array): number {
  let all = 0;
  for (const value of values) all += value;
  return all;
}
