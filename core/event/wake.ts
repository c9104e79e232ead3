/** Waking a vCPU that waits in SCHEDOP_block or SCHEDOP_poll (Xen: vcpu_unblock, evtchn_check_pollers). */
import type { Domain } from "../domain/domain.ts";
import { PauseFlag, type Vcpu } from "../domain/vcpu.ts";
import type { Machine } from "../machine/machine.ts";

/** Ends a block or a poll; nothing if the vCPU does neither. */
export function unblock(machine: Machine, vcpu: Vcpu): void {
  const waits = PauseFlag.blocked | PauseFlag.polling;
  if ((vcpu.pauseFlags & waits) === 0) return;
  vcpu.pollPort = 0;
  vcpu.pollTimer?.cancel();
  vcpu.pollTimer = null;
  machine.control.clearFlag(vcpu, waits);
}

/** A port became pending: ends the polls for it, masked or not. */
export function wakePollers(machine: Machine, domain: Domain, port: number): void {
  for (const vcpu of domain.vcpus)
    if ((vcpu.pauseFlags & PauseFlag.polling) !== 0 && (vcpu.pollPort <= 0 || vcpu.pollPort === port))
      unblock(machine, vcpu);
}
