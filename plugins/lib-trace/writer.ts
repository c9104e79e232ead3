/**
 * What a trace format is: a writer that is told events, and hands bytes to a sink.
 *
 * A writer needs no hypervisor: whoever has events (a machine's hooks through TraceTap, a recording, a test) can write a trace. Everything is
 * numbers, so that an event leaves no garbage: a vCPU is a handle (dense, from 0), a pCPU its number, a time nanoseconds.
 * What the caller keeps: a vCPU is announced before anything else of it; the times of one vCPU never decrease, those of one pCPU neither; times
 * of different ones may be out of order by as much as the pCPUs' clocks differ.
 */
import type { Nanoseconds, RunState } from "hookvisor";

/** Takes bytes of the file, in order; they are the sink's to keep. */
export type TraceSink = (bytes: Uint8Array) => void;

/** What a writer is made from. */
export interface TraceOptions {
  /** pCPUs of the machine: events name 0 to pcpus - 1. */
  readonly pcpus: number;
  /** Virtual time at which the trace begins; default 0. Every pCPU is idle then. */
  readonly start?: Nanoseconds;
  readonly sink: TraceSink;
}

/** Writes one trace. `pcpu` and `vcpu` are -1 where there is none. */
export interface TraceWriter {
  /** A vCPU comes into being, in a runstate. */
  vcpu(handle: number, domain: number, domainName: string, vcpu: number, state: RunState, now: Nanoseconds): void;
  /** A vCPU's runstate changes. `pcpu`: where it begins or ceases to run; -1 for all other changes. */
  runstate(vcpu: number, from: RunState, to: RunState, pcpu: number, now: Nanoseconds): void;
  /** Another vCPU is on a pCPU, or none; told after the runstate changes of which it is made. */
  contextSwitch(pcpu: number, previous: number, next: number, now: Nanoseconds): void;
  /** A pCPU's rate changes. */
  frequency(pcpu: number, mhz: number, now: Nanoseconds): void;
  /** A pCPU enters an idle state (its index), or leaves it (-1). */
  idleState(pcpu: number, state: number, now: Nanoseconds): void;
  /** A job (a request, a frame, a period of a real-time task) of a vCPU is done. `deadline`: Infinity when it has none. */
  job(vcpu: number, released: Nanoseconds, finished: Nanoseconds, deadline: Nanoseconds): void;
  /** Something worth a mark: a plugin was ejected, a domain crashed. */
  instant(text: string, vcpu: number, now: Nanoseconds): void;
  /** Ends the trace at a time that is not before any event, and hands over the rest. Nothing may follow. */
  finish(now: Nanoseconds): void;
}

/** A format, as a plugin provides it. */
export interface TraceFormat {
  /** One line for help. */
  readonly summary: string;
  /** Usual ending of such a file's name, without the dot. */
  readonly extension: string;
  open(options: TraceOptions): TraceWriter;
}

/** Tells several writers the same. */
export function traceTee(writers: readonly TraceWriter[]): TraceWriter {
  const first = writers[0];
  if (writers.length === 1 && first !== undefined) return first;
  return {
    vcpu: (...event) => {
      for (const writer of writers) writer.vcpu(...event);
    },
    runstate: (vcpu, from, to, pcpu, now) => {
      for (let i = 0; i < writers.length; i++) writers[i]!.runstate(vcpu, from, to, pcpu, now);
    },
    contextSwitch: (pcpu, previous, next, now) => {
      for (let i = 0; i < writers.length; i++) writers[i]!.contextSwitch(pcpu, previous, next, now);
    },
    frequency: (pcpu, mhz, now) => {
      for (const writer of writers) writer.frequency(pcpu, mhz, now);
    },
    idleState: (pcpu, state, now) => {
      for (const writer of writers) writer.idleState(pcpu, state, now);
    },
    job: (vcpu, released, finished, deadline) => {
      for (const writer of writers) writer.job(vcpu, released, finished, deadline);
    },
    instant: (text, vcpu, now) => {
      for (const writer of writers) writer.instant(text, vcpu, now);
    },
    finish: (now) => {
      for (const writer of writers) writer.finish(now);
    },
  };
}
