/** Telling a vCPU of events, and waking it from SCHEDOP_block or SCHEDOP_poll (Xen: vcpu_mark_events_pending, vcpu_unblock, evtchn_check_pollers). */
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

/** Sets evtchn_upcall_pending of a vCPU, which ends a block or a poll if it was not set. The arch looks at the flag at the vCPU's next entry. */
export function markEventsPending(machine: Machine, vcpu: Vcpu): void {
  if (vcpu.domain.shared?.setUpcallPending(vcpu) === false) unblock(machine, vcpu);
}
