/**
 * The hypercalls that only x86 PV guests have, added to their table through the `hypercalls` hook.
 *
 * Each is a few lines over the parts that do the work (mm/, traps/, descriptor tables). Facts: public/xen.h, arch-x86/xen.h,
 * physdev.h, callback.h; results as Xen 4.17's.
 */
import { ABI_X86_64, FrameType, type HypercallCall, type HypercallTable, Result, xen } from "hookvisor";
import type { PvContext } from "./context.ts";
import { FS, GS } from "./cpu.ts";
import { getDebug, setDebug } from "./debug-registers.ts";
import { setGdt } from "./descriptor-tables.ts";
import { checkDescriptor } from "./descriptors.ts";
import { foreignDomain, mmuUpdate, refused, updateVaMapping } from "./mm/mmu-update.ts";
import { mmuextOp } from "./mm/mmuext.ts";
import { canonical, pteFrame, TYPE_SEGMENTS } from "./mm/pte.ts";
import type { Callback, PvVcpu } from "./vcpu-state.ts";

const { __HYPERVISOR, CALLBACKOP, CALLBACKTYPE, ERRNO, PHYSDEVOP, XENMEM } = xen;
const TRAP = xen.trap_info.at(ABI_X86_64);
const { SEGBASE } = xen.x86_64;

/** Fills a PV table. */
export function addPvHypercalls(table: HypercallTable, context: PvContext): void {
  const add = (number: number, name: string, handler: (v: PvVcpu, call: HypercallCall) => number, cost?: number) =>
    table.add(number, name, (call) => handler(context.stateOf(call.vcpu), call), cost);

  table.add(__HYPERVISOR.mmu_update, "mmu_update", (call) => mmuUpdate(context, call));
  table.add(__HYPERVISOR.mmuext_op, "mmuext_op", (call) => mmuextOp(context, call));
  table.add(__HYPERVISOR.update_va_mapping, "update_va_mapping", (call) =>
    updateVaMapping(context, call, call.domain.id),
  );
  table.add(__HYPERVISOR.update_va_mapping_otherdomain, "update_va_mapping_otherdomain", (call) => {
    const owner = foreignDomain(context, call.lo(3) & 0xffff, call.domain.id);
    return refused(owner) ? owner : updateVaMapping(context, call, owner);
  });
  add(__HYPERVISOR.set_trap_table, "set_trap_table", setTrapTable);
  add(__HYPERVISOR.set_gdt, "set_gdt", setGdtCall);
  add(__HYPERVISOR.stack_switch, "stack_switch", stackSwitch);
  add(__HYPERVISOR.set_callbacks, "set_callbacks", setCallbacks);
  add(__HYPERVISOR.callback_op, "callback_op", callbackOp);
  add(__HYPERVISOR.fpu_taskswitch, "fpu_taskswitch", (v, call) => {
    v.setTaskSwitched(call.int(0) !== 0);
    return 0;
  });
  add(__HYPERVISOR.set_debugreg, "set_debugreg", (v, call) =>
    setDebug(v, call.int(0), call.lo(1), call.hi(1)) ? 0 : -ERRNO.EINVAL,
  );
  add(__HYPERVISOR.get_debugreg, "get_debugreg", (v, call) => {
    const value = getDebug(v, call.int(0));
    return value === null ? -ERRNO.EINVAL : value.hi * 0x1_0000_0000 + value.lo;
  });
  add(__HYPERVISOR.update_descriptor, "update_descriptor", (v, call) => updateDescriptor(v, call));
  add(__HYPERVISOR.iret, "iret", (v, call) => {
    if (!context.traps.iret(v))
      context.host.crash(call.domain, `${v.crashed}; vcpu ${call.vcpu.id}\n${v.cpu.describe()}`);
    return Result.noReturn;
  });
  add(__HYPERVISOR.set_segment_base, "set_segment_base", (v, call) => setSegmentBase(context, v, call));
  add(__HYPERVISOR.physdev_op, "physdev_op", (v, call) => physdevOp(v, call, call.int(0), call.lo(1), call.hi(1)));
  add(__HYPERVISOR.physdev_op_compat, "physdev_op_compat", physdevCompat);

  const memory = table.group(__HYPERVISOR.memory_op);
  memory.add(XENMEM.machphys_mapping, "machphys_mapping", machphysMapping);
  // A PV domain has no firmware map: Xen answers so until its toolstack sets one, which xl does for passthrough only.
  memory.add(XENMEM.memory_map, "memory_map", (call) =>
    call.readArg(1, xen.xen_memory_map.at(ABI_X86_64).size) === null ? -ERRNO.EFAULT : -ERRNO.ENOSYS,
  );
}

/** An array of trap_info that ends with address 0; a null pointer clears the table. */
function setTrapTable(v: PvVcpu, call: HypercallCall): number {
  if (call.lo(0) === 0 && call.hi(0) === 0) {
    for (const part of [v.trapLo, v.trapHi, v.trapFlags, v.trapSelector]) part.fill(0);
    return 0;
  }
  for (let i = 0; ; i++) {
    if (i > 0 && call.preempted()) {
      const sum = call.lo(0) + i * TRAP.size;
      call.setArgument(0, sum >>> 0, (call.hi(0) + (sum > 0xffff_ffff ? 1 : 0)) >>> 0);
      return call.continued();
    }
    call.charge(50);
    const view = call.readArg(0, TRAP.size, i * TRAP.size);
    if (view === null) return -ERRNO.EFAULT;
    const { fields } = TRAP;
    const lo = fields.address.getLo(view, 0);
    const hi = fields.address.getHi(view, 0);
    if (lo === 0 && hi === 0) return 0;
    if (!canonical(hi)) return -ERRNO.EINVAL;
    setTrap(v, fields.vector.get(view, 0), fields.flags.get(view, 0), fields.cs.get(view, 0), lo, hi);
  }
}

/** One entry of the trap table. */
export function setTrap(v: PvVcpu, vector: number, flags: number, cs: number, lo: number, hi: number): void {
  v.trapFlags[vector] = flags;
  v.trapSelector[vector] = cs | 3;
  v.trapLo[vector] = lo;
  v.trapHi[vector] = hi;
}

function setGdtCall(v: PvVcpu, call: HypercallCall): number {
  const entries = call.lo(1);
  if (entries > xen.FIRST_RESERVED_GDT_ENTRY) return -ERRNO.EINVAL;
  const mfns: number[] = [];
  const count = Math.ceil(entries / 512);
  if (count > 0) {
    const view = call.readArg(0, 8 * count);
    if (view === null) return -ERRNO.EFAULT;
    for (let i = 0; i < count; i++) {
      const hi = view.getUint32(8 * i + 4, true);
      mfns.push(hi === 0 ? view.getUint32(8 * i, true) : -1);
    }
  }
  return setGdt(v, mfns, entries, TYPE_SEGMENTS);
}

function stackSwitch(v: PvVcpu, call: HypercallCall): number {
  v.kernelSs = (call.lo(0) & 0xffff) | 3;
  v.kernelSpLo = call.lo(1);
  v.kernelSpHi = call.hi(1);
  return 0;
}

/** Sets a callback; false: the address is none. */
function register(callback: Callback, lo: number, hi: number, mask: boolean): boolean {
  if (!canonical(hi)) return false;
  callback.lo = lo;
  callback.hi = hi;
  callback.mask = mask;
  return true;
}

/** set_callbacks(event, failsafe, syscall), the interface of 2007. */
function setCallbacks(v: PvVcpu, call: HypercallCall): number {
  register(v.event, call.lo(0), call.hi(0), true);
  register(v.failsafe, call.lo(1), call.hi(1), false);
  register(v.syscall, call.lo(2), call.hi(2), false);
  return 0;
}

const REGISTER = xen.callback_register.at(ABI_X86_64);

function callbackOp(v: PvVcpu, call: HypercallCall): number {
  const command = call.int(0);
  if (command === CALLBACKOP.unregister) {
    const view = call.readArg(1, 4);
    if (view === null) return -ERRNO.EFAULT;
    switch (view.getUint16(0, true)) {
      case CALLBACKTYPE.event:
      case CALLBACKTYPE.failsafe:
      case CALLBACKTYPE.syscall:
      case CALLBACKTYPE.sysenter_deprecated:
      case CALLBACKTYPE.sysenter:
        return -ERRNO.EINVAL;
      default:
        return -ERRNO.ENOSYS;
    }
  }
  if (command !== CALLBACKOP.register) return -ERRNO.ENOSYS;
  const view = call.readArg(1, REGISTER.size);
  if (view === null) return -ERRNO.EFAULT;
  const { fields } = REGISTER;
  const lo = fields.address.getLo(view, 0);
  const hi = fields.address.getHi(view, 0);
  const mask = (fields.flags.get(view, 0) & xen.CALLBACKF_mask_events) !== 0;
  if (!canonical(hi)) return -ERRNO.EINVAL;
  switch (fields.type.get(view, 0)) {
    case CALLBACKTYPE.event:
      register(v.event, lo, hi, true);
      return 0;
    case CALLBACKTYPE.failsafe:
      register(v.failsafe, lo, hi, mask);
      return 0;
    case CALLBACKTYPE.syscall:
      register(v.syscall, lo, hi, mask);
      return 0;
    case CALLBACKTYPE.syscall32:
      register(v.syscall32, lo, hi, mask);
      return 0;
    case CALLBACKTYPE.sysenter:
      register(v.sysenter, lo, hi, mask);
      return 0;
    // NMI callbacks are not supported: nothing sends one.
    default:
      return -ERRNO.ENOSYS;
  }
}

/** update_descriptor(machine address, descriptor). */
function updateDescriptor(v: PvVcpu, call: HypercallCall): number {
  const { tables } = v;
  const domid = call.domain.id;
  const mfn = call.hi(0) > 0xf_ffff ? -1 : pteFrame(call.lo(0), call.hi(0));
  if ((call.lo(0) & 7) !== 0 || !tables.frames.owns(domid, mfn)) return -ERRNO.EINVAL;
  const high = checkDescriptor(call.lo(1), call.hi(1));
  if (high < 0) return -ERRNO.EINVAL;
  const type = tables.isTable(mfn, TYPE_SEGMENTS) ? TYPE_SEGMENTS : FrameType.writable;
  if (tables.getType(mfn, type, domid) !== 0) return -ERRNO.EINVAL;
  tables.writeRaw(mfn, (call.lo(0) & 0xfff) >>> 3, call.lo(1), high);
  tables.putType(mfn);
  return 0;
}

function setSegmentBase(context: PvContext, v: PvVcpu, call: HypercallCall): number {
  const lo = call.lo(1);
  const hi = call.hi(1);
  const which = call.lo(0);
  if (which !== SEGBASE.GS_USER_SEL && !canonical(hi)) return -ERRNO.EINVAL;
  switch (which) {
    case SEGBASE.FS:
      v.cpu.setBase(FS, lo, hi);
      return 0;
    case SEGBASE.GS_USER:
      v.otherGsLo = lo;
      v.otherGsHi = hi;
      return 0;
    case SEGBASE.GS_KERNEL:
      v.cpu.setBase(GS, lo, hi);
      return 0;
    case SEGBASE.GS_USER_SEL: {
      // The selector is loaded with the user's base behind it; one that cannot be loaded becomes null.
      const kernelLo = v.cpu.baseLo(GS);
      const kernelHi = v.cpu.baseHi(GS);
      if (context.traps.loadSegment(v, GS, lo & 0xffff) !== 0) context.traps.loadSegment(v, GS, 0);
      v.otherGsLo = v.cpu.baseLo(GS);
      v.otherGsHi = v.cpu.baseHi(GS);
      v.cpu.setBase(GS, kernelLo, kernelHi);
      return 0;
    }
    default:
      return -ERRNO.EINVAL;
  }
}

/** The virtual IOPL and I/O bitmap; everything about physical interrupts and PCI is -ENOSYS. */
function physdevOp(v: PvVcpu, call: HypercallCall, command: number, lo: number, hi: number): number {
  switch (command) {
    case PHYSDEVOP.set_iopl: {
      const view = call.read(lo, hi, 4);
      if (view === null) return -ERRNO.EFAULT;
      const iopl = view.getUint32(0, true);
      if (iopl > 3) return -ERRNO.EINVAL;
      v.iopl = iopl;
      return 0;
    }
    case PHYSDEVOP.set_iobitmap: {
      // Kept in no form: every port reads ones for whoever the IOPL lets through.
      const layout = xen.physdev_set_iobitmap.at(ABI_X86_64);
      const view = call.read(lo, hi, layout.size);
      if (view === null) return -ERRNO.EFAULT;
      return layout.fields.nr_ports.get(view, 0) > 65536 ? -ERRNO.EINVAL : 0;
    }
    case PHYSDEVOP.apic_read:
    case PHYSDEVOP.apic_write:
      return -ERRNO.EPERM;
    default:
      return -ERRNO.ENOSYS;
  }
}

/** The interface before 3.2: command and argument in one structure. */
function physdevCompat(v: PvVcpu, call: HypercallCall): number {
  const layout = xen.physdev_op.at(ABI_X86_64);
  const view = call.readArg(0, layout.size);
  if (view === null) return -ERRNO.EFAULT;
  const command = layout.fields.cmd.get(view, 0);
  const sum = call.lo(0) + layout.fields["u.set_iopl.iopl"].offset;
  return physdevOp(v, call, command, sum >>> 0, (call.hi(0) + (sum > 0xffff_ffff ? 1 : 0)) >>> 0);
}

const MAPPING = xen.xen_machphys_mapping.at(ABI_X86_64);

/** Where the m2p is and how far it reaches. */
function machphysMapping(call: HypercallCall): number {
  const bytes = new Uint8Array(MAPPING.size);
  const view = new DataView(bytes.buffer);
  const { MACH2PHYS_VIRT_START: start, MACH2PHYS_VIRT_END: end } = xen.x86_64;
  MAPPING.write(view, 0, { v_start: start, v_end: end, max_mfn: (end.hi - start.hi) * 2 ** 29 - 1 });
  return call.writeArg(1, bytes, bytes.length) ? 0 : -ERRNO.EFAULT;
}
