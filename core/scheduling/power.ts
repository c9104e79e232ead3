/**
 * Power states of a pCPU: runs its governor, checks what it asks for, changes rates at exact times and charges idle exit latencies.
 *
 * Invariants: a rate changes at the pCPU's present time, never in the middle of a run; an idle state is entered when the pCPU goes idle and left, with
 * its latency, when something is put on it; a governor that throws or asks for nonsense is taken away and the pCPU keeps its rate.
 */
import { messageOf, placeOf } from "../errors.ts";
import type { PluginFault } from "../hooks.ts";
import type { Governor, GovernorHost, IdleState } from "../machine/governor.ts";
import type { Machine } from "../machine/machine.ts";
import type { Pcpu } from "../machine/pcpu.ts";

/** What makes a governor: the provider that the hook found, and the plugin to blame. */
export interface GovernorProvider {
  readonly name: string;
  readonly plugin: string;
  make(host: GovernorHost): Governor;
}

const NO_LATENCY: readonly IdleState[] = Object.freeze([
  Object.freeze({ name: "idle", exitLatency: 0, targetResidency: 0 }),
]);

export class PcpuPower {
  readonly #machine: Machine;
  readonly #pcpu: Pcpu;
  readonly #provider: GovernorProvider;
  readonly #frequencies: readonly number[];
  readonly #idleStates: readonly IdleState[];
  #governor: Governor | null = null;
  /** The idle state that it is in; -1: busy. */
  #state = 0;
  /** The rate asked for while it runs: set once it stands at the present. */
  #wanted: number | null = null;

  /** `onRate` is called when a rate is to change: the pCPU must be brought to the present, then `applyRate` be called. */
  constructor(machine: Machine, pcpu: Pcpu, provider: GovernorProvider, onRate: (pcpu: Pcpu) => void) {
    this.#machine = machine;
    this.#pcpu = pcpu;
    this.#provider = provider;
    const { frequencies, idleStates, cpuMhz } = machine.config;
    this.#frequencies = frequencies.length === 0 ? [cpuMhz] : frequencies;
    this.#idleStates = idleStates.length === 0 ? NO_LATENCY : idleStates;
    pcpu.setRate(this.#frequencies.at(-1)!);
    const power = this;
    const host: GovernorHost = {
      pcpu,
      frequencies: this.#frequencies,
      idleStates: this.#idleStates,
      get frequency() {
        return power.#wanted ?? pcpu.mhz;
      },
      now: () => machine.now,
      setFrequency: (mhz) => {
        if (!power.#frequencies.includes(mhz))
          throw new Error(`setFrequency(${messageOf(mhz)}): the rates are ${power.#frequencies.join(", ")} MHz`);
        if (mhz === (power.#wanted ?? pcpu.mhz)) return;
        power.#wanted = mhz;
        onRate(pcpu);
      },
      timer: (at, fire) =>
        machine.timers.arm(Math.max(at, machine.now), (now) => {
          if (power.#governor !== null) power.#guarded("timer", () => fire(now));
        }),
      busyTime: () => pcpu.busyTime,
      load: () => {
        const pool = pcpu.resource?.pool;
        return pool === undefined ? 0 : pool.runnable / pool.pcpus.length;
      },
    };
    this.#guarded("governor", () => {
      this.#governor = provider.make(host);
    });
    // What it asked for while it was made: nobody is told of the pCPU's power yet.
    this.applyRate();
  }

  /** The present time is here: a rate that was asked for takes effect. */
  applyRate(): void {
    if (this.#wanted === null) return;
    this.#pcpu.setRate(this.#wanted);
    this.#wanted = null;
    const { frequency } = this.#machine.hooks;
    if (frequency.isUsed()) frequency.call(this.#pcpu, this.#pcpu.mhz, this.#pcpu.clock);
  }

  /** Something is put on it: leaves the idle state, which takes its latency. */
  busy(): void {
    const latency = this.#idleStates[this.#state]?.exitLatency ?? 0;
    this.#pcpu.clock += latency;
    this.#enter(-1);
    this.#guarded("busy", () => this.#governor?.busy?.(this.#pcpu.clock));
  }

  /** It goes idle. */
  idle(): void {
    const now = this.#pcpu.clock;
    const expected = this.#machine.timers.next - now;
    this.#guarded("idle", () => {
      const state = this.#governor?.idle?.(now, Math.max(0, expected)) ?? 0;
      if (this.#idleStates[state] === undefined)
        throw new Error(`idle() returned ${messageOf(state)}: there are states 0 to ${this.#idleStates.length - 1}`);
      this.#enter(state);
    });
    if (this.#state < 0) this.#enter(0);
  }

  #enter(state: number): void {
    if (state === this.#state) return;
    this.#state = state;
    const { idleState } = this.#machine.hooks;
    if (idleState.isUsed()) idleState.call(this.#pcpu, state, this.#pcpu.clock);
  }

  #guarded(method: string, body: () => void): void {
    try {
      body();
    } catch (error) {
      const reason = `governor '${this.#provider.name}' of pCPU ${this.#pcpu.id}, ${method}: ${messageOf(error)}`;
      let dump = "";
      try {
        dump = String(this.#governor?.dump?.() ?? "");
      } catch {
        dump = "(dump failed too)";
      }
      this.#governor = null;
      const [place, time] = [placeOf(error), this.#machine.now];
      this.#machine.log(
        `${reason}${place === undefined ? "" : ` at ${place}`} (virtual time ${time} ns); the pCPU keeps its rate`,
      );
      const fault: PluginFault = { plugin: this.#provider.plugin, kind: "governor", reason, dump, error, place, time };
      if (this.#machine.hooks.pluginFault.call(fault) === "crash") throw error;
    }
  }

  dump(): string {
    return this.#governor?.dump?.() ?? "";
  }
}
