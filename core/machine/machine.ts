/**
 * The machine: what exists once per hypervisor and is shared by everything in core.
 *
 * It holds frames, timers, pCPUs, domains, the present time and the queue of backend work; it decides nothing. The
 * parts of core (events, grants, hypercalls, scheduling) are given the machine and do the work.
 * Invariants: `now` is the time of what is happening at this moment (the running pCPU's clock at its exit, or the time of the timer that
 * fires); domain 0 is always there and has no vCPU; work posted by `post` runs before the next guest entry, in order.
 */
import type { Domain, ShutdownReason } from "../domain/domain.ts";
import type { Vcpu } from "../domain/vcpu.ts";
import { createHooks, type Hooks } from "../hooks.ts";
import { Frames } from "./frames.ts";
import type { IdleState } from "./governor.ts";
import { Pcpu } from "./pcpu.ts";
import { type Nanoseconds, TimerQueue } from "./timers.ts";

/** What scheduling costs a pCPU, in instructions; charged to the vCPU that is put on it. */
export interface SchedulingCosts {
  /** Another vCPU is put on a pCPU. */
  readonly contextSwitch: number;
  /** A vCPU is put on another core than its last. */
  readonly migration: number;
  /** A pCPU is asked by another to schedule. */
  readonly tickle: number;
  /** Warming the caches up, when they are cold: the vCPU comes from another core, or others ran on its core for `coldAfter` or longer; less in proportion. */
  readonly warmUp: number;
  /** Nanoseconds. */
  readonly coldAfter: Nanoseconds;
}

/** What a machine is made of. All of it are inputs of a run: equal inputs give equal runs. */
export interface MachineConfig {
  /** Physical memory; at most 4096. */
  readonly memoryMiB: number;
  readonly pcpus: number;
  /** Instructions a virtual microsecond. */
  readonly cpuMhz: number;
  readonly threadsPerCore: number;
  readonly coresPerSocket: number;
  /** Sockets of a NUMA node. */
  readonly socketsPerNode: number;
  readonly costs: SchedulingCosts;
  /** Rates that a governor can choose, rising; empty: cpuMhz only. */
  readonly frequencies: readonly number[];
  /** Idle states that a governor can choose, from shallow to deep; empty: one without latency. */
  readonly idleStates: readonly IdleState[];
  /** How far pCPU clocks may differ. */
  readonly quantum: Nanoseconds;
  /** Nanoseconds since 1970 at virtual time 0. */
  readonly wallclockAtZero: Nanoseconds;
  /** Seeds UUIDs, MAC addresses and every random source. */
  readonly seed: number;
}

/** The defaults: one pCPU at 1000 MHz with 1 GiB, 2026-01-01T00:00:00Z at virtual zero. */
export const defaultMachine: MachineConfig = Object.freeze({
  memoryMiB: 1024,
  pcpus: 1,
  cpuMhz: 1000,
  threadsPerCore: 1,
  coresPerSocket: 64,
  socketsPerNode: 1,
  costs: Object.freeze({ contextSwitch: 500, migration: 0, tickle: 0, warmUp: 0, coldAfter: 0 }),
  frequencies: Object.freeze([]),
  idleStates: Object.freeze([]),
  quantum: 50_000,
  wallclockAtZero: 1_767_225_600_000_000_000,
  seed: 1,
});

/** What changes whether vCPUs can run; implemented by core/scheduling, used by everything else in core. */
export interface VcpuControl {
  /** Sets or clears bits of PauseFlag; tells the scheduler. */
  setFlag(vcpu: Vcpu, flag: number): void;
  clearFlag(vcpu: Vcpu, flag: number): void;
  pauseVcpu(vcpu: Vcpu): void;
  unpauseVcpu(vcpu: Vcpu): void;
  pauseDomain(domain: Domain): void;
  unpauseDomain(domain: Domain): void;
  /** When a running vCPU will stop by itself has changed (ArchBackend.horizon). */
  reconsider(vcpu: Vcpu): void;
  /** The vCPU, which runs now, gives way. */
  yieldNow(vcpu: Vcpu): void;
}

export class Machine {
  readonly config: MachineConfig;
  readonly hooks: Hooks;
  readonly frames: Frames;
  readonly timers = new TimerQueue();
  readonly pcpus: readonly Pcpu[];
  /** Live and dying domains by id; domain 0 included. */
  readonly domains = new Map<number, Domain>();
  readonly xenVersion = Object.freeze({ major: 4, minor: 17, extra: ".0-hookvisor" });
  now: Nanoseconds = 0;
  /** Set by core/scheduling. */
  control!: VcpuControl;
  /** What a domain's shutdown leads to; set by the hypervisor. */
  onShutdown: (domain: Domain, reason: ShutdownReason) => void = () => {};
  onLog: (message: string) => void = () => {};
  readonly #posted: (() => void)[] = [];
  #charged = 0;
  #random: number;

  constructor(config: MachineConfig, hooks: Hooks = createHooks()) {
    this.config = config;
    this.hooks = hooks;
    this.frames = new Frames(config.memoryMiB * 256);
    this.#random = config.seed >>> 0;
    this.pcpus = Array.from({ length: config.pcpus }, (_, id) => {
      const core = Math.floor(id / config.threadsPerCore);
      const socket = Math.floor(core / config.coresPerSocket);
      const node = Math.floor(socket / config.socketsPerNode);
      return new Pcpu(id, { socket, core, node }, config.cpuMhz, this);
    });
  }

  /** Queues backend work: it runs before the next guest entry, never inside the guest's send. */
  post(task: () => void): void {
    this.#posted.push(task);
  }

  /** Is backend work waiting? */
  get hasPosted(): boolean {
    return this.#posted.length > 0;
  }

  /** Runs what is queued, and what that queues. What throws is done with: the rest stays queued. */
  runPosted(): void {
    if (this.#posted.length === 0) return;
    let done = 0;
    try {
      while (done < this.#posted.length) this.#posted[done++]!();
    } finally {
      this.#posted.splice(0, done);
    }
  }

  /** Adds instructions to what the present exit costs its pCPU. */
  charge(instructions: number): void {
    this.#charged += instructions;
  }

  /** What was charged since the last call. */
  takeCharge(): number {
    const charged = this.#charged;
    this.#charged = 0;
    return charged;
  }

  /** What has been charged to the present exit so far. */
  get charged(): number {
    return this.#charged;
  }

  /** Next 32 bits of the machine's seeded random stream (SplitMix32). */
  random(): number {
    this.#random = (this.#random + 0x9e3779b9) >>> 0;
    let z = this.#random;
    z = Math.imul(z ^ (z >>> 16), 0x85ebca6b);
    z = Math.imul(z ^ (z >>> 13), 0xc2b2ae35);
    return (z ^ (z >>> 16)) >>> 0;
  }

  /** One line for dmesg. */
  log(message: string): void {
    this.onLog(message);
  }
}
