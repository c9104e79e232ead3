/** A booted hypervisor with the workload plugin, and what its guests did. */

import { WorkloadBackend } from "../../../arch/workload/backend.ts";
import { createWorkloadHooks, type Job } from "../../../arch/workload/hooks.ts";
import workload from "../../../arch/workload/plugin.ts";
import type { Domain } from "../../../core/domain/domain.ts";
import { RunState, type Vcpu } from "../../../core/domain/vcpu.ts";
import { ConfigError } from "../../../core/errors.ts";
import { Hypervisor } from "../../../core/hypervisor.ts";
import type { MachineConfig } from "../../../core/machine/machine.ts";
import { definePlugin, type Plugin } from "../../../core/plugin.ts";
import { runStateTime } from "../../../core/scheduling/unit.ts";
import roundRobin from "../../../plugins/scheduler-round-robin/plugin.ts";

export const US = 1e3;
export const MS = 1e6;
export const FREE = Object.freeze({ contextSwitch: 0, migration: 0, tickle: 0, warmUp: 0, coldAfter: 0 });

export interface RigOptions extends Partial<MachineConfig> {
  /** Runs in quanta, as a port without `horizon` is. */
  readonly quanta?: boolean;
  /** Two threads of a core run vCPUs of one unit. */
  readonly cores?: boolean;
}

/** The same plugin, but core is not told when a vCPU stops by itself. */
const inQuanta: Plugin = definePlugin({
  name: "workload",
  api: "^1.0.0",
  apply(hypervisor) {
    const hooks = createWorkloadHooks();
    hypervisor.ownHooks("workload", hooks);
    hypervisor.hooks.arch.for("workload").tap("workload", (host) => {
      const backend = new WorkloadBackend(host, hooks);
      Object.defineProperty(backend, "horizon", { value: undefined });
      return backend;
    });
  },
});

export class Rig {
  readonly hypervisor: Hypervisor;
  /** Jobs by vCPU: `name.id`. */
  readonly jobs = new Map<string, Job[]>();
  readonly waits = new Map<string, number[]>();
  /** Runstate changes: [time, vcpu, state]. */
  readonly states: [number, string, string][] = [];
  readonly log: string[] = [];

  private constructor(hypervisor: Hypervisor) {
    this.hypervisor = hypervisor;
  }

  static async boot(options: RigOptions = {}): Promise<Rig> {
    const { quanta = false, cores = false, ...config } = options;
    const services = {
      openFile: (path: string) => Promise.reject(new ConfigError(`File ${path}: there are no files here.`)),
      terminal: () => ({ write: () => {}, read: () => new Uint8Array(0), onInput: () => {} }),
    };
    const plugins = [quanta ? inQuanta : workload, roundRobin].map((plugin) => ({ plugin, source: plugin.name }));
    const rig = new Rig(new Hypervisor({ plugins, services }));
    await rig.#boot(config, cores);
    return rig;
  }

  async #boot(config: Partial<MachineConfig>, cores: boolean): Promise<void> {
    const { hypervisor } = this;
    const hooks = hypervisor.hooksOf("workload")!;
    hooks.job.tap("rig", (vcpu, job) => push(this.jobs, nameOf(vcpu), job));
    hooks.lockWait.tap("rig", (vcpu, waited) => push(this.waits, nameOf(vcpu), waited));
    hypervisor.hooks.runstate.tap("rig", (vcpu, _from, to, now) => {
      this.states.push([now, nameOf(vcpu), Object.keys(RunState)[to]!]);
    });
    const machine = { memoryMiB: 4, scheduler: "round-robin", costs: FREE, ...config };
    if (!cores) await hypervisor.boot(machine);
    else {
      const cpus = Array.from({ length: machine.pcpus ?? 1 }, (_, i) => i);
      const pool = { name: "Pool-0", scheduler: "round-robin", cpus, granularity: "core" } as const;
      await hypervisor.boot({ ...machine, threadsPerCore: 2, pools: [pool] });
    }
    hypervisor.machine.onLog = (line) => this.log.push(line);
  }

  /** A domain, running. `image`: an object, or the text of a file. */
  async domain(
    name: string,
    image: unknown,
    options: {
      readonly vcpus?: number;
      readonly extra?: string;
      readonly paused?: boolean;
      readonly cpus?: number[];
    } = {},
  ): Promise<Domain> {
    const text = typeof image === "string" ? image : JSON.stringify(image);
    const domain = await this.hypervisor.createDomain({
      name,
      type: "workload",
      kernel: new TextEncoder().encode(text),
      kernelName: `${name}.json`,
      ramdisk: null,
      extra: options.extra ?? "",
      memoryMiB: 1,
      vcpus: options.vcpus ?? 1,
      devices: [],
      schedulerParams: {},
      ...(options.cpus === undefined ? {} : { cpus: options.cpus }),
    });
    if (options.paused !== true) this.hypervisor.unpause(domain);
    return domain;
  }

  /** Runs until a virtual time. */
  run(until: number): "limit" | "idle" | "hold" {
    for (;;) {
      const step = this.hypervisor.loop.step(until);
      if (step !== "ran") return step;
    }
  }

  /** Nanoseconds of CPU that a vCPU has had. */
  cpu(domain: Domain, id = 0): number {
    const vcpu = domain.vcpus[id]!;
    return runStateTime(vcpu, RunState.running, vcpu.runningOn?.time ?? this.hypervisor.machine.now);
  }

  jobsOf(name: string): readonly Job[] {
    return this.jobs.get(name) ?? [];
  }

  /** Jobs as [released, started, finished], in a unit. */
  times(name: string, unit: number): number[][] {
    return this.jobsOf(name).map((job) => [job.released / unit, job.started / unit, job.finished / unit]);
  }
}

function nameOf(vcpu: Vcpu): string {
  return `${vcpu.domain.name}.${vcpu.id}`;
}

function push<T>(map: Map<string, T[]>, key: string, value: T): void {
  const list = map.get(key);
  if (list === undefined) map.set(key, [value]);
  else list.push(value);
}
