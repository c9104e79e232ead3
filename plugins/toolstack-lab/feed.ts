/**
 * Tells a trace writer (lib-trace) what a recording says, as the core's hooks would have told it while it ran: for energy, and for traces of runs that
 * are over.
 *
 * Invariant: events come in the order of the recording; a switch follows the runstate changes of which it is made.
 */
import { RunState } from "hookvisor";
import type { TraceWriter } from "../lib-trace/index.ts";
import { EventKind, type Recording } from "./recording.ts";

/** Feeds a writer, `finish` included. `pause.reached` is called when all before `pause.at` has been told. */
export function feed(
  recording: Recording,
  writer: TraceWriter,
  pause?: { readonly at: number; reached(): void },
): void {
  const { events, jobs, vcpus, domains, end, changes, faults } = recording;
  const { time, kind, pcpu, vcpu, extra } = events;
  vcpus.forEach(({ domain, id }, handle) => {
    writer.vcpu(handle, domains[domain]!.id, domains[domain]!.name, id, RunState.offline, 0);
  });
  // pCPUs that a vCPU has left at this instant, with who left: another may come at the same instant.
  const left = new Map<number, number>();
  const settle = (now: number): void => {
    for (const [cpu, previous] of left) writer.contextSwitch(cpu, previous, -1, now);
    left.clear();
  };
  let last = 0;
  let paused = pause === undefined;
  const pauseBefore = (now: number): void => {
    if (paused || now < pause!.at) return;
    paused = true;
    settle(last);
    pause!.reached();
  };
  for (let i = 0; i < time.length; i++) {
    const now = time[i]!;
    if (now > last && left.size > 0) settle(last);
    pauseBefore(now);
    last = now;
    switch (kind[i]) {
      case EventKind.runstate: {
        const to = (extra[i]! & 3) as RunState;
        const from = (extra[i]! >> 2) as RunState;
        const [cpu, v] = [pcpu[i]!, vcpu[i]!];
        const starts = to === RunState.running;
        writer.runstate(v, from, to, starts || from === RunState.running ? cpu : -1, now);
        if (starts) {
          writer.contextSwitch(cpu, left.get(cpu) ?? -1, v, now);
          left.delete(cpu);
        } else if (from === RunState.running) left.set(cpu, v);
        break;
      }
      case EventKind.job: {
        const row = extra[i]!;
        writer.job(vcpu[i]!, jobs.release[row]!, jobs.end[row]!, jobs.deadline[row]!);
        break;
      }
      case EventKind.frequency:
        writer.frequency(pcpu[i]!, extra[i]! / 1000, now);
        break;
      case EventKind.idleState:
        writer.idleState(pcpu[i]!, extra[i]!, now);
        break;
      case EventKind.change:
        writer.instant(changes[extra[i]!] ?? "change", -1, now);
        break;
      case EventKind.fault: {
        const fault = faults[extra[i]!];
        writer.instant(`plugin '${fault?.plugin ?? ""}': ${fault?.reason ?? "ejected"}`, -1, now);
        break;
      }
    }
  }
  settle(last);
  pauseBefore(end);
  writer.finish(end);
}
