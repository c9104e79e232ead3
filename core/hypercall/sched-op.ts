/** Sched_op (29), sched_op_compat (6) and set_timer_op (15): giving way, waiting, ending (Xen: common/sched/core.c). */
import {
  __HYPERVISOR,
  ERRNO,
  SCHEDOP,
  SCHEDOP_COMPAT,
  SHUTDOWN,
  sched_poll,
  sched_remote_shutdown,
  sched_shutdown,
} from "../abi/index.ts";
import { checkAccess } from "../domain/access.ts";
import { type Domain, ShutdownReason } from "../domain/domain.ts";
import { NEVER, type VcpuTimers } from "../domain/time.ts";
import { PauseFlag, type Vcpu } from "../domain/vcpu.ts";
import { unblock } from "../event/wake.ts";
import type { Machine } from "../machine/machine.ts";
import type { HypercallCall, HypercallTable } from "./table.ts";

/** The most ports of one SCHEDOP_poll. */
const POLL_PORTS = 128;

function block(machine: Machine, vcpu: Vcpu): number {
  vcpu.domain.shared?.setUpcallMask(vcpu, false);
  if (!vcpu.domain.arch!.eventsDeliverable(vcpu)) machine.control.setFlag(vcpu, PauseFlag.blocked);
  return 0;
}

/** A reason out of Xen's range is a crash: no toolstack could act on it. */
function reasonOf(reason: number): ShutdownReason {
  const known = Object.values(ShutdownReason).find((value) => value === reason);
  return known ?? ShutdownReason.crash;
}

/** 0, or 1 for a suspend, which is refused: "cancelled" (sched.h, SHUTDOWN_suspend). */
function shutdown(machine: Machine, domain: Domain, reason: number): number {
  if (reason === SHUTDOWN.suspend) return 1;
  machine.onShutdown(domain, domain.shutdownCode ?? reasonOf(reason & 0xff));
  return 0;
}

function poll(machine: Machine, call: HypercallCall): number {
  const layout = sched_poll.at(call.abi);
  const view = call.readArg(1, layout.size);
  if (view === null) return -ERRNO.EFAULT;
  const count = layout.get(view, 0, "nr_ports");
  const timeout = layout.getNumber(view, 0, "timeout");
  const [lo, hi] = [layout.getLo(view, 0, "ports"), layout.getHi(view, 0, "ports")];
  if (count > POLL_PORTS) return -ERRNO.EINVAL;
  const ports: number[] = [];
  if (count > 0) {
    const list = call.read(lo, hi, 4 * count);
    if (list === null) return -ERRNO.EFAULT;
    for (let i = 0; i < count; i++) ports.push(list.getUint32(4 * i, call.abi.endian === "little"));
  }
  const { vcpu, domain } = call;
  if (domain.arch!.eventsDeliverable(vcpu)) return 0;
  for (const port of ports) {
    if (!domain.events.isValid(port)) return -ERRNO.EINVAL;
    if (domain.events.isPending(port)) return 0;
  }
  vcpu.pollPort = ports.length === 1 ? ports[0]! : -1;
  vcpu.pollTimer?.cancel();
  vcpu.pollTimer =
    timeout === 0 || timeout >= NEVER
      ? null
      : machine.timers.arm(Math.max(timeout, machine.now), () => {
          vcpu.pollTimer = null;
          unblock(machine, vcpu);
        });
  machine.control.setFlag(vcpu, PauseFlag.polling);
  return 0;
}

function shutdownReason(call: HypercallCall): number | null {
  const layout = sched_shutdown.at(call.abi);
  const view = call.readArg(1, layout.size);
  return view === null ? null : layout.get(view, 0, "reason");
}

export function addSchedOp(table: HypercallTable, machine: Machine, timers: VcpuTimers): void {
  const giveWay = (call: HypercallCall): number => {
    machine.control.yieldNow(call.vcpu);
    return 0;
  };
  const group = table.addGroup(__HYPERVISOR.sched_op, "sched_op", (call) => call.lo(0));
  group.add(SCHEDOP.yield, "yield", giveWay);
  group.add(SCHEDOP.block, "block", (call) => block(machine, call.vcpu));
  group.add(SCHEDOP.poll, "poll", (call) => poll(machine, call));
  group.add(SCHEDOP.shutdown, "shutdown", (call) => {
    const reason = shutdownReason(call);
    return reason === null ? -ERRNO.EFAULT : shutdown(machine, call.domain, reason);
  });
  group.add(SCHEDOP.shutdown_code, "shutdown_code", (call) => {
    const reason = shutdownReason(call);
    if (reason === null) return -ERRNO.EFAULT;
    if (call.domain.shutdownCode !== null) return -ERRNO.EINVAL;
    call.domain.shutdownCode = reasonOf(reason & 0xff);
    return 0;
  });
  group.add(SCHEDOP.remote_shutdown, "remote_shutdown", (call) => {
    const layout = sched_remote_shutdown.at(call.abi);
    const view = call.readArg(1, layout.size);
    if (view === null) return -ERRNO.EFAULT;
    const target = machine.domains.get(layout.get(view, 0, "domain_id"));
    if (target === undefined) return -ERRNO.ESRCH;
    const refused = checkAccess(machine, call.domain, "schedop_shutdown", target, "privileged");
    return refused < 0 ? refused : shutdown(machine, target, layout.get(view, 0, "reason"));
  });
  group.add(SCHEDOP.watchdog, "watchdog", () => -ERRNO.ENOSYS);
  group.add(SCHEDOP.pin_override, "pin_override", () => -ERRNO.EPERM);

  const compat = table.addGroup(__HYPERVISOR.sched_op_compat, "sched_op_compat", (call) => call.lo(0));
  compat.add(SCHEDOP_COMPAT.yield, "yield", giveWay);
  compat.add(SCHEDOP_COMPAT.block, "block", (call) => block(machine, call.vcpu));
  compat.add(SCHEDOP_COMPAT.shutdown, "shutdown", (call) => shutdown(machine, call.domain, call.lo(1)));

  const setTimer = (call: HypercallCall): number => {
    const hi = (table.abi.wordBytes === 4 ? call.lo(1) : call.hi(0)) | 0;
    timers.setTimerOp(call.vcpu, hi * 0x1_0000_0000 + call.lo(0));
    return 0;
  };
  table.add(__HYPERVISOR.set_timer_op, "set_timer_op", setTimer);
}
