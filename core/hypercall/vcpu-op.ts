/** Vcpu_op (24): starting, stopping and asking about vCPUs, their timers and shared areas (Xen: common/domain.c, do_vcpu_op). */
import {
  __HYPERVISOR,
  ERRNO,
  VCPU_SSHOTTMR_future,
  VCPUOP,
  vcpu_register_runstate_memory_area,
  vcpu_register_time_memory_area,
  vcpu_register_vcpu_info,
  vcpu_set_periodic_timer,
  vcpu_set_singleshot_timer,
} from "../abi/index.ts";
import { ShutdownReason } from "../domain/domain.ts";
import type { VcpuTimers } from "../domain/time.ts";
import { PauseFlag, type Vcpu } from "../domain/vcpu.ts";
import { FRAME_SIZE, FrameType } from "../machine/frames.ts";
import type { Machine } from "../machine/machine.ts";
import type { HypercallCall, HypercallTable } from "./table.ts";

/** Shortest and longest period of the periodic timer (Xen: 1 ms, STIME_DELTA_MAX). */
const PERIOD_MIN = 1e6;
const PERIOD_MAX = 2 ** 52;

/** An operation on the vCPU named by argument 1; -ENOENT if the domain has no such vCPU. */
type VcpuOperation = (call: HypercallCall, vcpu: Vcpu) => number;

function initialise(call: HypercallCall, vcpu: Vcpu): number {
  if (vcpu.infoAddress < 0) return -ERRNO.EINVAL;
  if (vcpu.initialised) return -ERRNO.EEXIST;
  const result = call.domain.arch!.initialiseVcpu(vcpu, call.vcpu, call.lo(2), call.hi(2));
  if (result === 0) vcpu.initialised = true;
  return result;
}

function up(machine: Machine, vcpu: Vcpu): number {
  if (!vcpu.initialised) return -ERRNO.EINVAL;
  machine.control.clearFlag(vcpu, PauseFlag.down);
  return 0;
}

/** The last vCPU that goes down powers the domain off. */
function down(machine: Machine, vcpu: Vcpu): number {
  const others = vcpu.domain.vcpus.some((other) => other !== vcpu && (other.pauseFlags & PauseFlag.down) === 0);
  if (others) machine.control.setFlag(vcpu, PauseFlag.down);
  else machine.onShutdown(vcpu.domain, vcpu.domain.shutdownCode ?? ShutdownReason.poweroff);
  return 0;
}

function registerInfo(machine: Machine, timers: VcpuTimers, call: HypercallCall, vcpu: Vcpu): number {
  const layout = vcpu_register_vcpu_info.at(call.abi);
  const view = call.readArg(2, layout.size);
  if (view === null) return -ERRNO.EFAULT;
  const { domain } = call;
  const { shared } = domain;
  const gfn = layout.getNumber(view, 0, "mfn");
  const offset = layout.get(view, 0, "offset");
  if (shared === null || offset > FRAME_SIZE - shared.vcpuInfoSize) return -ERRNO.ENXIO;
  if (offset % call.abi.wordBytes !== 0) return -ERRNO.ENXIO;
  if (vcpu.infoMfn >= 0) return -ERRNO.EINVAL;
  if (vcpu !== call.vcpu && (vcpu.pauseFlags & PauseFlag.down) === 0) return -ERRNO.EINVAL;
  const mfn = gfn <= 0xffffffff ? domain.arch!.gfnToMfn(domain, gfn) : -1;
  const { frames } = machine;
  if (mfn < 0 || !frames.getRef(mfn, domain.id)) return -ERRNO.EINVAL;
  if (!frames.getType(mfn, FrameType.writable)) {
    frames.putRef(mfn);
    return -ERRNO.EINVAL;
  }
  shared.relocate(vcpu, mfn, offset);
  timers.writeTime(vcpu, call.vcpu);
  return 0;
}

export function addVcpuOp(table: HypercallTable, machine: Machine, timers: VcpuTimers): void {
  const { abi } = table;
  const group = table.addGroup(__HYPERVISOR.vcpu_op, "vcpu_op", (call) => call.lo(0));
  const add = (name: keyof typeof VCPUOP, operation: VcpuOperation): void =>
    group.add(VCPUOP[name], name, (call) => {
      const vcpu = call.domain.vcpus[call.lo(1)];
      return vcpu === undefined ? -ERRNO.ENOENT : operation(call, vcpu);
    });

  add("initialise", initialise);
  add("up", (_call, vcpu) => up(machine, vcpu));
  add("down", (_call, vcpu) => down(machine, vcpu));
  add("is_up", (_call, vcpu) => ((vcpu.pauseFlags & PauseFlag.down) === 0 ? 1 : 0));

  const area = new DataView(new ArrayBuffer(64));
  add("get_runstate_info", (call, vcpu) => {
    const size = timers.readRunstate(vcpu, area, true);
    return call.writeArg(2, area, size) ? 0 : -ERRNO.EFAULT;
  });
  const runstateArea = vcpu_register_runstate_memory_area.at(abi);
  add("register_runstate_memory_area", (call, vcpu) => {
    const view = call.readArg(2, runstateArea.size);
    if (view === null) return -ERRNO.EFAULT;
    vcpu.runstateArea = { lo: runstateArea.getLo(view, 0, "addr.h"), hi: runstateArea.getHi(view, 0, "addr.h") };
    // The first write goes through the caller's address space: the vCPU may have none yet. One that fails is made later.
    timers.writeRunstate(vcpu, call.vcpu);
    return 0;
  });
  const timeArea = vcpu_register_time_memory_area.at(abi);
  add("register_vcpu_time_memory_area", (call, vcpu) => {
    const view = call.readArg(2, timeArea.size);
    if (view === null) return -ERRNO.EFAULT;
    vcpu.timeArea = { lo: timeArea.getLo(view, 0, "addr.h"), hi: timeArea.getHi(view, 0, "addr.h") };
    timers.writeTime(vcpu, call.vcpu);
    return 0;
  });

  const periodic = vcpu_set_periodic_timer.at(abi);
  add("set_periodic_timer", (call, vcpu) => {
    const view = call.readArg(2, periodic.size);
    if (view === null) return -ERRNO.EFAULT;
    const period = periodic.getNumber(view, 0, "period_ns");
    if (period < PERIOD_MIN || period > PERIOD_MAX) return -ERRNO.EINVAL;
    timers.setPeriodic(vcpu, period);
    return 0;
  });
  add("stop_periodic_timer", (_call, vcpu) => {
    timers.setPeriodic(vcpu, 0);
    return 0;
  });
  const singleshot = vcpu_set_singleshot_timer.at(abi);
  add("set_singleshot_timer", (call, vcpu) => {
    if (vcpu !== call.vcpu) return -ERRNO.EINVAL;
    const view = call.readArg(2, singleshot.size);
    if (view === null) return -ERRNO.EFAULT;
    const { timeout_abs_ns } = singleshot.fields;
    const at = (timeout_abs_ns.getHi(view, 0) | 0) * 0x1_0000_0000 + timeout_abs_ns.getLo(view, 0);
    const future = (singleshot.get(view, 0, "flags") & VCPU_SSHOTTMR_future) !== 0;
    if (future && at < call.now) return -ERRNO.ETIME;
    timers.setSingleshot(vcpu, at);
    return 0;
  });
  add("stop_singleshot_timer", (call, vcpu) => {
    if (vcpu !== call.vcpu) return -ERRNO.EINVAL;
    timers.stopSingleshot(vcpu);
    return 0;
  });
  add("register_vcpu_info", (call, vcpu) => registerInfo(machine, timers, call, vcpu));
  add("send_nmi", () => -ERRNO.ENOSYS);
  add("get_physid", () => -ERRNO.EINVAL);
}
