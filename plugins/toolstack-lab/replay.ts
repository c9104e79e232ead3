/**
 * Replaying a recording: what each vCPU did of its own accord (how long it ran between two blocks, how long it was blocked) becomes a workload of
 * bursts, which another scheduler can be given.
 *
 * A burst's run is the CPU time between a wake-up and the next block, however often the vCPU was preempted meanwhile; a block lasts as long as it did. A
 * vCPU that never blocked wants to run for as long as the experiment lasts; of another's burst that was under way at the end, what it had run is known. Waits are the scheduler's and are left out, so that a
 * replay asks what another scheduler would have made of the same demand. Guests that wait for one another (locks, barriers) replay their recorded
 * waits. Time offline or paused counts as blocked.
 */
import type { Experiment, ExperimentDomain } from "./experiment/model.ts";
import { forEachState, type Recording } from "./recording.ts";

/** One vCPU's bursts: [run, sleep] in ns. */
export type Bursts = readonly (readonly [number, number])[];

/** The bursts of every vCPU of a recording, by its index. */
export function burstsOf(recording: Recording): readonly Bursts[] {
  const { vcpus, end } = recording;
  const found = vcpus.map((): [number, number][] => []);
  const run = new Float64Array(vcpus.length);
  const wanting = new Uint8Array(vcpus.length);
  forEachState(recording, (vcpu, state, from, to) => {
    const bursts = found[vcpu]!;
    if (state === 0 || state === 1) {
      if (state === 0) run[vcpu] = run[vcpu]! + (to - from);
      wanting[vcpu] = 1;
      return;
    }
    if (wanting[vcpu] === 1) {
      bursts.push([run[vcpu]!, 0]);
      run[vcpu] = 0;
      wanting[vcpu] = 0;
    } else if (bursts.length === 0) bursts.push([0, 0]);
    bursts[bursts.length - 1]![1] += to - from;
  });
  for (const [vcpu, bursts] of found.entries()) {
    if (wanting[vcpu] !== 1) continue;
    const blocked = bursts.some(([ran]) => ran > 0);
    bursts.push([run[vcpu]! + (blocked ? 0 : end), 0]);
  }
  return found;
}

/** The experiment with each domain's guest replaced by what it did in the recording. `mhz`: instructions a microsecond, then and now. */
export function replayExperiment(experiment: Experiment, recording: Recording): Experiment {
  const bursts = burstsOf(recording);
  const { mhz } = experiment.machine;
  const domains = experiment.domains.map((domain, d): ExperimentDomain => {
    const vcpus = recording.domains[d]!.vcpus.map((vcpu) => ({
      behaviour: "bursts",
      bursts: bursts[vcpu]!.filter(([run, sleep]) => run + sleep > 0).map(([run, sleep]) => [work(run, mhz), sleep]),
      repeat: 1,
    }));
    const whole = vcpus.map((one) => (one.bursts.length > 0 ? one : { ...one, bursts: [[0, recording.end]] }));
    return {
      ...domain,
      type: "workload",
      image: {
        kind: "workload",
        text: JSON.stringify(whole),
        name: `replay of ${domain.name}`,
        inline: false,
        seeded: false,
      },
      extra: "",
      memoryMiB: 1,
      vcpus: whole.length,
      devices: [],
      script: [],
    };
  });
  return { ...experiment, domains };
}

/** Workloads count instructions as ns at 1000 MHz. */
function work(ns: number, mhz: number): number {
  return Math.round((ns * mhz) / 1000);
}
