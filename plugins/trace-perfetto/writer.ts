/**
 * Writes a trace that Perfetto's UI opens: a track for each pCPU (which vCPU runs), one for each vCPU under its domain (its runstate), counters
 * (runnable vCPUs, each pCPU's rate, response times of jobs), idle states, and marks for what went wrong.
 *
 * Times of the trace are virtual nanoseconds. Slices of a track follow one another and never overlap; Perfetto sorts packets by time and keeps
 * the order of equal ones, so that an end is always before the beginning that follows it.
 */
import { type Nanoseconds, RunState } from "hookvisor";
import type { TraceOptions, TraceWriter } from "../lib-trace/index.ts";
import { Packets } from "./packets.ts";
import { SummedCounter } from "./sum.ts";

const { running, runnable, offline } = RunState;

/** Order of the groups in the UI. */
const RANK = Object.freeze({ marks: 0, load: 1, pcpus: 2, domains: 3 });

/** What is known of a vCPU. */
interface VcpuTrack {
  readonly track: number;
  /** Name of its slices on the pCPUs' tracks. */
  readonly name: number;
  readonly text: string;
  /** Its counter of response times, made when it has a job; 0: none yet. */
  response: number;
}

export class PerfettoWriter implements TraceWriter {
  readonly #packets: Packets;
  readonly #pcpus: readonly number[];
  /** Counters of rates and tracks of idle states by pCPU, made when there is something to write; 0: none yet. */
  readonly #rates: Float64Array;
  readonly #idle: Float64Array;
  readonly #idleOpen: Uint8Array;
  /** The vCPU whose slice is open on a pCPU's track; -1: none. */
  readonly #on: Int32Array;
  readonly #domains = new Map<number, number>();
  readonly #vcpus: VcpuTrack[] = [];
  #state = new Uint8Array(64);
  readonly #names: readonly number[];
  readonly #onPcpu: number;
  readonly #load: SummedCounter;
  readonly #group: number;
  #marks = 0;

  constructor({ pcpus, start = 0, sink }: TraceOptions) {
    const packets = new Packets(sink);
    this.#packets = packets;
    this.#names = ["running", "runnable", "blocked"].map((name) => packets.name(name));
    this.#onPcpu = packets.annotation("pcpu");
    const load = packets.track({ name: "runnable vCPUs", unit: "", rank: RANK.load });
    this.#load = new SummedCounter((value, now) => packets.counter(load, value, now));
    this.#group = packets.track({ name: "pCPUs", rank: RANK.pcpus });
    this.#pcpus = Array.from({ length: pcpus }, (_, p) =>
      packets.track({ name: `pCPU ${p}`, parent: this.#group, rank: 3 * p }),
    );
    this.#rates = new Float64Array(pcpus);
    this.#idle = new Float64Array(pcpus);
    this.#idleOpen = new Uint8Array(pcpus);
    this.#on = new Int32Array(pcpus).fill(-1);
    packets.counter(load, 0, start);
  }

  vcpu(handle: number, domain: number, domainName: string, vcpu: number, state: RunState, now: Nanoseconds): void {
    const packets = this.#packets;
    let parent = this.#domains.get(domain);
    if (parent === undefined) {
      parent = packets.track({ name: `d${domain} ${domainName}`, rank: RANK.domains + domain });
      this.#domains.set(domain, parent);
    }
    if (handle >= this.#state.length) {
      const wider = new Uint8Array(Math.max(handle + 1, this.#state.length * 2));
      wider.set(this.#state);
      this.#state = wider;
    }
    const text = `${domainName} v${vcpu}`;
    const track = packets.track({ name: `vCPU ${vcpu}`, parent, rank: 2 * vcpu });
    this.#vcpus[handle] = { track, name: packets.name(text), text, response: 0 };
    this.#state[handle] = offline;
    if (state !== offline) this.#change(handle, offline, state, -1, now);
  }

  runstate(vcpu: number, from: RunState, to: RunState, pcpu: number, now: Nanoseconds): void {
    if (from === running && pcpu >= 0 && this.#on[pcpu] === vcpu) {
      this.#packets.end(this.#pcpus[pcpu]!, now);
      this.#on[pcpu] = -1;
    }
    this.#change(vcpu, this.#state[vcpu] as RunState, to, pcpu, now);
    if (to === running && pcpu >= 0) {
      this.#packets.begin(this.#pcpus[pcpu]!, this.#vcpus[vcpu]!.name, now);
      this.#on[pcpu] = vcpu;
    }
  }

  /** A vCPU's own track, and the load. */
  #change(vcpu: number, from: RunState, to: RunState, pcpu: number, now: Nanoseconds): void {
    const packets = this.#packets;
    const { track } = this.#vcpus[vcpu]!;
    if (from !== offline) packets.end(track, now);
    if (to === running) packets.begin(track, this.#names[to]!, now, this.#onPcpu, pcpu);
    else if (to !== offline) packets.begin(track, this.#names[to]!, now);
    this.#state[vcpu] = to;
    const waits = from === running || from === runnable;
    if (waits !== (to === running || to === runnable)) this.#load.add(waits ? -1 : 1, now);
  }

  /** The runstates say it all. */
  contextSwitch(): void {}

  frequency(pcpu: number, mhz: number, now: Nanoseconds): void {
    if (this.#rates[pcpu] === 0)
      this.#rates[pcpu] = this.#packets.track({
        name: `pCPU ${pcpu} rate`,
        parent: this.#group,
        rank: 3 * pcpu + 1,
        unit: "MHz",
      });
    this.#packets.counter(this.#rates[pcpu]!, mhz, now);
  }

  idleState(pcpu: number, state: number, now: Nanoseconds): void {
    const packets = this.#packets;
    if (this.#idle[pcpu] === 0)
      this.#idle[pcpu] = packets.track({ name: `pCPU ${pcpu} idle state`, parent: this.#group, rank: 3 * pcpu + 2 });
    if (this.#idleOpen[pcpu] === 1) packets.end(this.#idle[pcpu]!, now);
    if (state >= 0) packets.begin(this.#idle[pcpu]!, packets.name(`idle state ${state}`), now);
    this.#idleOpen[pcpu] = state >= 0 ? 1 : 0;
  }

  job(vcpu: number, released: Nanoseconds, finished: Nanoseconds, deadline: Nanoseconds): void {
    const one = this.#vcpus[vcpu]!;
    if (one.response === 0)
      one.response = this.#packets.track({ name: `${one.text} response time`, unit: "ns", rank: RANK.load });
    this.#packets.counter(one.response, finished - released, finished);
    if (finished > deadline) this.#packets.instant(one.track, "deadline missed", finished);
  }

  instant(text: string, vcpu: number, now: Nanoseconds): void {
    let track = this.#vcpus[vcpu]?.track;
    if (track === undefined) {
      if (this.#marks === 0) this.#marks = this.#packets.track({ name: "marks", rank: RANK.marks });
      track = this.#marks;
    }
    this.#packets.instant(track, text, now);
  }

  finish(now: Nanoseconds): void {
    const packets = this.#packets;
    this.#on.forEach((vcpu, pcpu) => {
      if (vcpu >= 0) packets.end(this.#pcpus[pcpu]!, now);
      if (this.#idleOpen[pcpu] === 1) packets.end(this.#idle[pcpu]!, now);
    });
    this.#vcpus.forEach(({ track }, vcpu) => {
      if (this.#state[vcpu] !== offline) packets.end(track, now);
    });
    this.#load.finish();
    packets.flush();
  }
}
