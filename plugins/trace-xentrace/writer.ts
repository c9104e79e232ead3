/**
 * Writes Xen's own trace format, as `xentrace` does and `xenalyze` reads it.
 *
 * Runstate changes go to the buffer of the pCPU that the vCPU runs, ran or last ran on; the idle domain's vCPUs run where nothing else does, and
 * run from the beginning on, as in Xen. The file is a row of epochs: a window for every pCPU, opened by a cpu-change record.
 *
 * xenalyze merges the pCPUs by TSC and cannot tell the order of two records of one TSC on two pCPUs. So a record that follows another one of its
 * vCPU on another pCPU is one tick later at least; with 16 ticks a nanosecond that takes less than a nanosecond, with one it takes one.
 * Virtual time 0 is not TSC 0, which xenalyze takes for "none": the TSC starts at one second.
 *
 * At the end the state of each vCPU is written once more (the running ones continue, the others change to what they are), because xenalyze counts
 * only what has ended. It counts nothing of a vCPU before its first run.
 */
import { ConfigError, type Nanoseconds, RunState } from "hookvisor";
import type { TraceOptions, TraceSink, TraceWriter } from "../lib-trace/index.ts";
import { IDLE_DOMAIN, RECORD, RecordBuffer } from "./records.ts";

/** TSC of virtual time 0, in nanoseconds. */
export const TSC_AT_ZERO: Nanoseconds = 1_000_000_000;
/** Highest domain and vCPU numbers that fit in a record beside the idle domain. */
const MAX_DOMAIN = 0x7ff0;
const MAX_VCPU = 0xffff;
/** Records of an epoch, about. */
const EPOCH = 1 << 18;
/** What is younger than this stays when an epoch is written, so that late records find their place. */
const SETTLED: Nanoseconds = 100_000_000;

export interface XentraceOptions extends TraceOptions {
  /** Ticks of the TSC in a nanosecond: a power of two up to 16. `--cpu-hz` of xenalyze is as many GHz. Default 1. */
  readonly ticksPerNanosecond?: number;
}

const { running, runnable } = RunState;

export class XentraceWriter implements TraceWriter {
  readonly #sink: TraceSink;
  readonly #ticks: number;
  readonly #buffers: readonly RecordBuffer[];
  /** By pCPU: the vCPU that is on it, -1: the idle one, -2: none since `#vacant`. */
  readonly #on: Int32Array;
  readonly #vacant: Float64Array;
  readonly #frequency: Float64Array;
  readonly #idleState: Int32Array;
  /** By handle: domain << 16 | vCPU; -1: it cannot be written. */
  #word = new Float64Array(64).fill(-1);
  #lastPcpu = new Int32Array(64);
  #lastTsc = new Float64Array(64);
  #state = new Uint8Array(64);
  #vcpus = 0;
  #records = 0;
  /** Records from which on an epoch is written. */
  #limit = EPOCH;
  #newest = 0;
  /** Everything up to this TSC is handed over. */
  #written = 0;

  constructor(options: XentraceOptions) {
    const { pcpus, sink, start = 0, ticksPerNanosecond = 1 } = options;
    if (![1, 2, 4, 8, 16].includes(ticksPerNanosecond))
      throw new ConfigError(`A nanosecond of a Xen trace has 1, 2, 4, 8 or 16 ticks, not ${ticksPerNanosecond}.`);
    this.#sink = sink;
    this.#ticks = ticksPerNanosecond;
    this.#buffers = Array.from({ length: pcpus }, () => new RecordBuffer());
    this.#on = new Int32Array(pcpus).fill(-1);
    this.#vacant = new Float64Array(pcpus);
    this.#frequency = new Float64Array(pcpus);
    this.#idleState = new Int32Array(pcpus).fill(-1);
    for (let p = 0; p < pcpus; p++) this.#put(p, RECORD.continues, this.#tsc(start), idle(p));
  }

  vcpu(handle: number, domain: number, _name: string, vcpu: number, state: RunState, now: Nanoseconds): void {
    while (handle >= this.#word.length) this.#grow();
    this.#word[handle] = domain <= MAX_DOMAIN && vcpu <= MAX_VCPU ? domain * 65536 + vcpu : -1;
    this.#state[handle] = state;
    this.#lastTsc[handle] = this.#tsc(now);
    this.#vcpus = Math.max(this.#vcpus, handle + 1);
  }

  runstate(vcpu: number, from: RunState, to: RunState, pcpu: number, now: Nanoseconds): void {
    const word = this.#word[vcpu]!;
    this.#state[vcpu] = to;
    if (word < 0) return;
    const where = pcpu >= 0 ? pcpu : this.#lastPcpu[vcpu]!;
    let tsc = this.#tsc(now);
    const last = this.#lastTsc[vcpu]! + (where === this.#lastPcpu[vcpu]! ? 0 : 1);
    if (tsc < last) tsc = last;
    if (to === running) {
      if (tsc < this.#vacant[where]!) tsc = this.#vacant[where]!;
      const on = this.#on[where]!;
      if (on === -2 && tsc > this.#vacant[where]!) this.#idles(where);
      if (this.#on[where]! === -1) this.#put(where, runstateOf(running, runnable), tsc, idle(where));
      this.#on[where] = vcpu;
    } else if (from === running) {
      this.#on[where] = -2;
      this.#vacant[where] = tsc;
    }
    this.#put(where, runstateOf(from, to), tsc, word);
    this.#lastPcpu[vcpu] = where;
    this.#lastTsc[vcpu] = tsc;
  }

  contextSwitch(pcpu: number, _previous: number, next: number, _now: Nanoseconds): void {
    if (next < 0 && this.#on[pcpu]! === -2) this.#idles(pcpu);
    if (this.#records > this.#limit) this.#epoch(this.#newest - SETTLED * this.#ticks);
  }

  frequency(pcpu: number, mhz: number, now: Nanoseconds): void {
    this.#put(pcpu, RECORD.frequency, this.#tsc(now), this.#frequency[pcpu]!, mhz);
    this.#frequency[pcpu] = mhz;
  }

  idleState(pcpu: number, state: number, now: Nanoseconds): void {
    const before = this.#idleState[pcpu]!;
    if (state >= 0) this.#put(pcpu, RECORD.idleEntry, this.#tsc(now), state);
    else if (before >= 0) this.#put(pcpu, RECORD.idleExit, this.#tsc(now), before);
    this.#idleState[pcpu] = state;
  }

  /** Xen's traces have no jobs. */
  job(): void {}

  /** Nor has xenalyze a record for free text. */
  instant(): void {}

  finish(now: Nanoseconds): void {
    const end = Math.max(this.#tsc(now), this.#newest);
    for (let p = 0; p < this.#on.length; p++) {
      const vcpu = this.#on[p]!;
      if (vcpu === -2) this.#idles(p);
      this.#put(p, RECORD.continues, end, vcpu >= 0 ? this.#word[vcpu]! : idle(p));
      if (vcpu >= 0) this.#put(p, runstateOf(runnable, runnable), end, idle(p));
    }
    for (let v = 0; v < this.#vcpus; v++) {
      const state = this.#state[v] as RunState;
      if (state === running || this.#word[v]! < 0) continue;
      this.#put(this.#lastPcpu[v]!, runstateOf(state, state), end, this.#word[v]!);
    }
    this.#epoch(Infinity);
  }

  /** The idle vCPU begins to run where nothing has run since `#vacant`. */
  #idles(pcpu: number): void {
    this.#put(pcpu, runstateOf(runnable, running), this.#vacant[pcpu]!, idle(pcpu));
    this.#on[pcpu] = -1;
  }

  #tsc(now: Nanoseconds): number {
    return (now + TSC_AT_ZERO) * this.#ticks;
  }

  #put(pcpu: number, header: number, tsc: number, first: number, second?: number): void {
    if (tsc > this.#newest) this.#newest = tsc;
    this.#buffers[pcpu]!.add(header, tsc < this.#written ? this.#written : tsc, first, second);
    this.#records++;
  }

  #epoch(until: number): void {
    this.#records = 0;
    for (let p = 0; p < this.#buffers.length; p++) {
      this.#sink(this.#buffers[p]!.take(p, until));
      this.#records += this.#buffers[p]!.records;
    }
    this.#written = Math.max(this.#written, until);
    this.#limit = this.#records + EPOCH;
  }

  #grow(): void {
    const length = this.#word.length * 2;
    const word = new Float64Array(length).fill(-1);
    word.set(this.#word);
    this.#word = word;
    const pcpu = new Int32Array(length);
    pcpu.set(this.#lastPcpu);
    this.#lastPcpu = pcpu;
    const tsc = new Float64Array(length);
    tsc.set(this.#lastTsc);
    this.#lastTsc = tsc;
    const state = new Uint8Array(length);
    state.set(this.#state);
    this.#state = state;
  }
}

function idle(pcpu: number): number {
  return IDLE_DOMAIN * 65536 + pcpu;
}

function runstateOf(from: RunState, to: RunState): number {
  return (RECORD.runstate | (from << 8) | (to << 4)) >>> 0;
}
