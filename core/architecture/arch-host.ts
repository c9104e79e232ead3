/**
 * What core gives an arch backend, over one machine.
 */
import type { Domain } from "../domain/domain.ts";
import { PauseFlag, type Vcpu } from "../domain/vcpu.ts";
import type { Machine } from "../machine/machine.ts";
import type { ArchHost } from "./arch-backend.ts";

/** What the hypervisor does for the arch that the machine alone cannot. */
export interface ArchHostActions {
  crash(domain: Domain, message: string): void;
}

/** Makes the ArchHost of a machine. */
export function createArchHost(machine: Machine, actions: ArchHostActions): ArchHost {
  return {
    frames: machine.frames,
    hooks: machine.hooks,
    xenVersion: machine.xenVersion,
    seed: machine.config.seed,
    wallclockAtZero: machine.config.wallclockAtZero,
    now: () => machine.now,
    timeOf: (vcpu: Vcpu, retired: number) => {
      const pcpu = vcpu.runningOn;
      const time = pcpu === null ? machine.now : pcpu.after(retired);
      const { domain } = vcpu;
      if (time > domain.timeFloor) domain.timeFloor = time;
      return domain.timeFloor;
    },
    timer: (at, fire) => machine.timers.arm(Math.max(at, machine.now), fire),
    charge: (instructions) => machine.charge(instructions),
    reconsider: (vcpu) => machine.control.reconsider(vcpu),
    wake: (vcpu) => machine.control.clearFlag(vcpu, PauseFlag.blocked),
    vcpuUp: (vcpu) => machine.control.clearFlag(vcpu, PauseFlag.down),
    vcpuDown: (vcpu) => machine.control.setFlag(vcpu, PauseFlag.down),
    shutdown: (domain, reason) => machine.onShutdown(domain, reason),
    crash: (domain, message) => actions.crash(domain, message),
    domain: (id) => machine.domains.get(id),
    log: (message) => machine.log(message),
  };
}
