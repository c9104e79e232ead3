/**
 * How long vCPUs that could run waited for a pCPU: after having been blocked (wake-up latency), after having lost their pCPU (preemption wait).
 *
 * Waits that end after the warm-up count, whole. One that is under way at the end counts with what it has lasted, so that starvation shows. The first
 * wait of a vCPU (it was offline before) is neither.
 */
import { forEachState, type Recording } from "../recording.ts";
import { Durations } from "./spread.ts";

/** By domain. */
export interface Waits {
  readonly wake: readonly Durations[];
  readonly preemption: readonly Durations[];
}

export function waits(recording: Recording): Waits {
  const { domains, vcpus, warmUp } = recording;
  const wake = domains.map(() => new Durations());
  const preemption = domains.map(() => new Durations());
  forEachState(recording, (vcpu, state, from, to, _pcpu, before) => {
    if (state !== 1 || to <= warmUp) return;
    const domain = vcpus[vcpu]!.domain;
    if (before === 2) wake[domain]!.add(to - from);
    else if (before === 0) preemption[domain]!.add(to - from);
  });
  return { wake, preemption };
}

/** All domains together. */
export function together(all: readonly Durations[]): Durations {
  const sum = new Durations();
  for (const one of all) sum.addAll(one);
  return sum;
}
