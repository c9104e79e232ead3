/**
 * From the core's tracing hooks to a trace writer.
 *
 * Taps are made before boot, the writer comes when the machine's size is known: what happens without one is not recorded. The hook `runstate`
 * says when a vCPU begins to run and `contextSwitch` where, so the beginning is told to the writer at the switch, with its own time.
 * Invariant: handles are given out in order of appearance, densely from 0; nothing is allocated per event.
 */
import { type Domain, type Hooks, type Nanoseconds, RunState, ShutdownReason, type Vcpu } from "hookvisor";
import type { TraceWriter } from "./writer.ts";

const { running } = RunState;

/** Feeds one writer from the hooks of one hypervisor. */
export class TraceTap {
  /** Set it once the machine is there; null: nothing is recorded. */
  writer: TraceWriter | null = null;
  /** The present, for what is told without a time. */
  now: () => Nanoseconds = () => 0;
  /** Handles by domain and vCPU number. Domain numbers are never used twice. */
  readonly #handles: (number[] | undefined)[] = [];
  /** By handle: the pCPU that it runs on, -1: none. */
  readonly #pcpu: number[] = [];
  /** By handle: since when it runs, where the switch has not been told yet; -1: it has. */
  readonly #begun: number[] = [];
  readonly #before: RunState[] = [];

  /** Taps the hooks under a plugin's name; before boot. */
  tap(name: string, hooks: Hooks): void {
    hooks.runstate.tap(name, (vcpu, from, to, now) => this.#runstate(vcpu, from, to, now));
    hooks.contextSwitch.tap(name, (pcpu, previous, next, now) => {
      const { writer } = this;
      if (writer === null) return;
      const after = next === null ? -1 : this.#handle(next, now);
      if (after >= 0) this.#begins(after, pcpu.id);
      writer.contextSwitch(pcpu.id, previous === null ? -1 : this.#handle(previous, now), after, now);
    });
    hooks.frequency.tap(name, (pcpu, mhz, now) => this.writer?.frequency(pcpu.id, mhz, now));
    hooks.idleState.tap(name, (pcpu, state, now) => this.writer?.idleState(pcpu.id, state, now));
    hooks.domainShutdown.tap(name, (domain: Domain, reason, now) => {
      if (reason === ShutdownReason.crash)
        this.writer?.instant(`domain ${domain.id} '${domain.name}' crashed`, -1, now);
    });
    hooks.pluginFault.intercept({
      name,
      call: ({ plugin, reason }) => this.writer?.instant(`plugin '${plugin}': ${reason}`, -1, this.now()),
    });
  }

  /** The handle of a vCPU; one that is new is announced, in its present runstate. */
  #handle(vcpu: Vcpu, now: Nanoseconds, state: RunState = vcpu.runState): number {
    const { domain } = vcpu;
    let vcpus = this.#handles[domain.id];
    if (vcpus === undefined) {
      vcpus = [];
      this.#handles[domain.id] = vcpus;
    }
    const known = vcpus[vcpu.id];
    if (known !== undefined) return known;
    const handle = this.#pcpu.length;
    vcpus[vcpu.id] = handle;
    const seen = state === running ? RunState.runnable : state;
    this.#pcpu.push(-1);
    this.#begun.push(state === running ? now : -1);
    this.#before.push(seen);
    this.writer!.vcpu(handle, domain.id, domain.name, vcpu.id, seen, now);
    return handle;
  }

  #runstate(vcpu: Vcpu, from: RunState, to: RunState, now: Nanoseconds): void {
    const { writer } = this;
    if (writer === null) return;
    const handle = this.#handle(vcpu, now, from);
    if (to === running) {
      this.#begun[handle] = now;
      this.#before[handle] = from;
      return;
    }
    if (from !== running) {
      writer.runstate(handle, from, to, -1, now);
      return;
    }
    this.#begins(handle, (vcpu.runningOn ?? vcpu.lastPcpu)?.id ?? 0);
    writer.runstate(handle, from, to, this.#pcpu[handle]!, now);
    this.#pcpu[handle] = -1;
  }

  /** Tells that a vCPU has begun to run, if that is still to be told. */
  #begins(handle: number, pcpu: number): void {
    const since = this.#begun[handle]!;
    if (since < 0) return;
    this.#begun[handle] = -1;
    this.#pcpu[handle] = pcpu;
    this.writer!.runstate(handle, this.#before[handle]!, running, pcpu, since);
  }
}
