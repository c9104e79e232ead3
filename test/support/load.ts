/**
 * A machine under synthetic load: the real Machine, Scheduling and RunLoop, with domains whose "guest" is a behaviour.
 * It is what schedulers are tested on without any guest code.
 */
import type { ArchBackend, Exit } from "../../core/architecture/arch-backend.ts";
import { ExitCode } from "../../core/architecture/arch-backend.ts";
import { Domain } from "../../core/domain/domain.ts";
import { PauseFlag, RunState, Vcpu } from "../../core/domain/vcpu.ts";
import type { Hypercalls } from "../../core/hypercall/dispatcher.ts";
import { defaultMachine, Machine, type MachineConfig } from "../../core/machine/machine.ts";
import type { Granularity } from "../../core/scheduling/resource.ts";
import { RunLoop } from "../../core/scheduling/run-loop.ts";
import type { ParamValues, Scheduler, SchedulerHost } from "../../core/scheduling/scheduler.ts";
import { Scheduling } from "../../core/scheduling/scheduling.ts";
import { runStateTime } from "../../core/scheduling/unit.ts";

/** What a vCPU does: instructions to run, then nanoseconds to sleep (0: only yield; Infinity: for ever). */
export type Behaviour = () => { readonly run: number; readonly sleep: number };

/** Never stops. */
export const hog: Behaviour = () => ({ run: 1e9, sleep: 0 });

/** Runs `run` instructions, sleeps `sleep` nanoseconds, and again. */
export function periodic(run: number, sleep: number): Behaviour {
  return () => ({ run, sleep });
}

/** One machine with a scheduler under test. */
export class Load {
  readonly machine: Machine;
  readonly scheduling: Scheduling;
  readonly loop: RunLoop;
  readonly domains: Domain[] = [];
  readonly #lazy: boolean;
  readonly #state = new Map<Vcpu, { behaviour: Behaviour; left: number; sleep: number }>();

  /** `lazy`: vCPUs are run in one piece (ArchBackend.horizon), else in quanta. `granularity`: how many pCPUs switch together. */
  constructor(
    make: (host: SchedulerHost) => Scheduler,
    options: Partial<MachineConfig> & { readonly lazy?: boolean; readonly granularity?: Granularity } = {},
  ) {
    const { lazy = false, granularity = "cpu", ...config } = options;
    this.#lazy = lazy;
    this.machine = new Machine({ ...defaultMachine, memoryMiB: 1, ...config });
    this.scheduling = new Scheduling(this.machine);
    const provider = { name: "under-test", plugin: "under-test", make };
    this.scheduling.createPool("Pool-0", this.machine.pcpus, provider, granularity);
    this.loop = new RunLoop(this.machine, this.scheduling, {
      hypercalls: {} as Hypercalls,
      pump: () => {},
      io: () => {},
      crash: (_vcpu, reason, fault) => {
        throw fault?.error ?? new Error(reason);
      },
    });
  }

  get pool() {
    return this.scheduling.pools[0]!;
  }

  /** A domain with one vCPU a behaviour, running at once. */
  domain(name: string, behaviours: readonly Behaviour[], params: ParamValues = {}): Domain {
    const id = this.domains.length + 1;
    const arch = {
      run: this.#run.bind(this),
      eventsDeliverable: () => false,
      ...(this.#lazy ? { horizon: (vcpu: Vcpu) => this.#left(vcpu) } : {}),
    } as unknown as ArchBackend;
    const abi = {
      name: "load",
      pageShift: 12,
      wordBytes: 8,
      endian: "little",
      align64: 8,
      legacyVcpus: 1,
    } as const;
    const domain = new Domain({ id, uuid: `load-${id}`, type: "load" }, name, arch, abi);
    this.domains.push(domain);
    behaviours.forEach((behaviour, v) => {
      const vcpu = new Vcpu(
        domain,
        v,
        this.machine.now,
        this.machine.pcpus.map((p) => p.id),
      );
      domain.vcpus.push(vcpu);
      this.#state.set(vcpu, { behaviour, left: 0, sleep: 0 });
      this.scheduling.addVcpu(vcpu, this.pool);
    });
    if (Object.keys(params).length > 0) this.scheduling.adjust(this.pool, domain, params);
    for (const vcpu of domain.vcpus) this.scheduling.clearFlag(vcpu, PauseFlag.down);
    return domain;
  }

  /** Instructions until it stops by itself. */
  #left(vcpu: Vcpu): number {
    const state = this.#state.get(vcpu)!;
    if (state.left <= 0) {
      const next = state.behaviour();
      state.left = next.run;
      state.sleep = next.sleep;
    }
    return state.left;
  }

  #run(vcpu: Vcpu, budget: number, exit: Exit): number {
    this.#left(vcpu);
    const state = this.#state.get(vcpu)!;
    const retired = Math.min(budget, state.left);
    state.left -= retired;
    if (state.left > 0) return retired;
    if (state.sleep === 0) exit.code = ExitCode.yield;
    else {
      exit.code = ExitCode.halt;
      if (state.sleep < Infinity) {
        const { pcpu } = { pcpu: vcpu.runningOn! };
        this.machine.timers.arm(pcpu.after(retired) + state.sleep, () =>
          this.scheduling.clearFlag(vcpu, PauseFlag.blocked),
        );
      }
    }
    return retired;
  }

  /** Runs until a virtual time; says how it ended. */
  run(until: number): "limit" | "idle" | "hold" {
    for (;;) {
      const step = this.loop.step(until);
      if (step !== "ran") return step;
    }
  }

  /** Exact CPU time of a vCPU so far, nanoseconds. */
  cpuTime(vcpu: Vcpu): number {
    return runStateTime(vcpu, RunState.running, vcpu.runningOn?.time ?? 0);
  }

  /** CPU time of all vCPUs of a domain. */
  domainTime(domain: Domain): number {
    return domain.vcpus.reduce((sum, vcpu) => sum + this.cpuTime(vcpu), 0);
  }
}
