/** Jobs of workloads: how long they took from release to end, how many were late, and how late. Jobs that end after the warm-up count. */
import { EventKind, type Recording } from "../recording.ts";
import { Durations } from "./spread.ts";
import type { JobMetrics } from "./types.ts";

class Jobs {
  jobs = 0;
  withDeadline = 0;
  misses = 0;
  readonly tardiness = new Durations();
  readonly response = new Durations();

  add(release: number, deadline: number, end: number): void {
    this.jobs++;
    this.response.add(end - release);
    if (deadline === Infinity) return;
    this.withDeadline++;
    if (end <= deadline) return;
    this.misses++;
    this.tardiness.add(end - deadline);
  }

  /** null: there were none. */
  get metrics(): JobMetrics | null {
    if (this.jobs === 0) return null;
    const { jobs, withDeadline, misses } = this;
    return { jobs, withDeadline, misses, tardiness: this.tardiness.spread(), response: this.response.spread() };
  }
}

/** Job metrics of each domain, and of all together. */
export function deadlines(recording: Recording): {
  readonly domains: readonly (JobMetrics | null)[];
  readonly all: JobMetrics | null;
} {
  const { events, jobs, vcpus, warmUp } = recording;
  const domains = recording.domains.map(() => new Jobs());
  const all = new Jobs();
  for (let i = 0; i < events.time.length; i++) {
    if (events.kind[i] !== EventKind.job || events.time[i]! <= warmUp) continue;
    const row = events.extra[i]!;
    const domain = vcpus[events.vcpu[i]!]!.domain;
    for (const one of [domains[domain]!, all]) one.add(jobs.release[row]!, jobs.deadline[row]!, jobs.end[row]!);
  }
  return { domains: domains.map((one) => one.metrics), all: all.metrics };
}
