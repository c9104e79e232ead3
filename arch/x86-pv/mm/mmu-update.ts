/**
 * HYPERVISOR_mmu_update and update_va_mapping: checked changes of page-table entries (Xen: do_mmu_update, do_update_va_mapping).
 *
 * Invariants: every entry of a batch is read once; a batch is preempted between entries and continued with what is left; `done` counts
 * the entries that succeeded, also of the parts before.
 */
import { ABI_X86_64, FrameType, type HypercallCall, xen } from "hookvisor";
import type { PvContext } from "../context.ts";
import type { PvVcpu } from "../vcpu-state.ts";
import { NOBODY } from "./page-tables.ts";
import { pteFrame, TYPE_L1, tableIndex } from "./pte.ts";

const { DOMID, ERRNO, MMU, UVMF } = xen;

/** Bit of a batch's count: it is the rest of a batch. */
export const PREEMPTED = 0x8000_0000;
/** Instructions for one entry of a batch. */
const ENTRY_COST = 150;

/**
 * The domain that a foreign domain id names for a domain without privilege: its own id number, NOBODY for DOMID_IO, or a negative
 * errno.
 */
export function foreignDomain(context: PvContext, domid: number, self: number): number {
  if (domid === DOMID.SELF) return self;
  if (domid === DOMID.IO) return NOBODY;
  if (domid === self || domid >= DOMID.FIRST_RESERVED || context.host.domain(domid) === undefined) return -ERRNO.ESRCH;
  return -ERRNO.EPERM;
}

/** Is what foreignDomain answered an errno? NOBODY is none of Xen's (-2 is -ENOENT, which it never answers). */
export function refused(owner: number): boolean {
  return owner < 0 && owner !== NOBODY;
}

/** Runs a batch of `size`-byte elements: `element` answers 0 or a negative errno. Arguments: pointer, count, done pointer. */
export function batch(call: HypercallCall, size: number, cost: number, element: (view: DataView) => number): number {
  const preempted = (call.lo(1) & PREEMPTED) !== 0;
  const count = preempted ? call.lo(1) & ~PREEMPTED : call.lo(1);
  const tell = call.lo(2) !== 0 || call.hi(2) !== 0;
  let done = 0;
  if (preempted && tell) done = call.readArg(2, 4)?.getUint32(0, true) ?? 0;
  let result = 0;
  let i = 0;
  for (; i < count; i++) {
    if (i > 0 && call.preempted()) {
      const sum = call.lo(0) + i * size;
      call.setArgument(0, sum >>> 0, (call.hi(0) + Math.floor(sum / 0x1_0000_0000)) >>> 0);
      call.setArgument(1, ((count - i) | PREEMPTED) >>> 0);
      result = call.continued();
      break;
    }
    call.charge(cost);
    const view = call.readArg(0, size, i * size);
    result = view === null ? -ERRNO.EFAULT : element(view);
    if (result !== 0) break;
  }
  if (tell) {
    const bytes = new Uint8Array(4);
    new DataView(bytes.buffer).setUint32(0, (done + i) >>> 0, true);
    call.writeArg(2, bytes, 4);
  }
  return result;
}

const UPDATE = xen.mmu_update.at(ABI_X86_64);

/** HYPERVISOR_mmu_update(requests, count, done, foreign domain). */
export function mmuUpdate(context: PvContext, call: HypercallCall): number {
  const self = call.domain.id;
  const tableDomain = call.lo(3) >>> 16;
  if (tableDomain !== 0 && tableDomain - 1 !== self)
    return context.host.domain(tableDomain - 1) === undefined ? -ERRNO.ESRCH : -ERRNO.EPERM;
  const owner = foreignDomain(context, call.lo(3) & 0xffff, self);
  if (refused(owner)) return owner;
  return batch(call, UPDATE.size, ENTRY_COST, (view) => {
    const { fields } = UPDATE;
    const ptrLo = fields.ptr.getLo(view, 0);
    const ptrHi = fields.ptr.getHi(view, 0);
    const valLo = fields.val.getLo(view, 0);
    const valHi = fields.val.getHi(view, 0);
    const command = ptrLo & 7;
    const mfn = ptrHi > 0xf_ffff ? -1 : pteFrame(ptrLo, ptrHi);
    switch (command) {
      case MMU.NORMAL_PT_UPDATE:
      case MMU.PT_UPDATE_PRESERVE_AD:
      case MMU.PT_UPDATE_NO_TRANSLATE:
        return writeEntry(context, self, owner, mfn, (ptrLo & 0xfff) >>> 3, valLo, valHi, command);
      case MMU.MACHPHYS_UPDATE:
        if (!context.tables.frames.owns(owner, mfn)) return -ERRNO.EINVAL;
        context.tables.frames.setGfn(mfn, valHi === 0 ? valLo : 0xffff_ffff);
        return 0;
      default:
        return -ERRNO.ENOSYS;
    }
  });
}

function writeEntry(
  { tables }: PvContext,
  self: number,
  owner: number,
  mfn: number,
  index: number,
  lo: number,
  hi: number,
  command: number,
): number {
  const { frames } = tables;
  if (!frames.owns(self, mfn)) return -ERRNO.EINVAL;
  if (tables.isTable(mfn, frames.type[mfn]!) && frames.type[mfn]! >= TYPE_L1)
    return tables.modify(mfn, index, lo, hi, command === MMU.PT_UPDATE_PRESERVE_AD, self, owner);
  // A frame that is no page table: plain memory, if it may be written.
  if (tables.getType(mfn, FrameType.writable, self) !== 0) return -ERRNO.EINVAL;
  tables.writeRaw(mfn, index, lo, hi);
  tables.putType(mfn);
  return 0;
}

/** HYPERVISOR_update_va_mapping(va, value, flags); `owner` owns what is mapped. */
export function updateVaMapping(context: PvContext, call: HypercallCall, owner: number): number {
  const v = context.stateOf(call.vcpu);
  const lo = call.lo(0);
  const hi = call.hi(0);
  const self = call.domain.id;
  call.charge(ENTRY_COST);
  const table = context.memory.l1TableAt(v.kernelRoot, lo, hi);
  let result: number = -ERRNO.EINVAL;
  if (context.tables.isTable(table, TYPE_L1) && context.tables.frames.owns(self, table))
    result = context.tables.modify(table, tableIndex(1, lo, hi), call.lo(1), call.hi(1), false, self, owner);
  const flush = flushByFlags(context, call, v, lo, hi);
  return result !== 0 ? result : flush;
}

/** The flush that UVMF_* flags ask for. */
function flushByFlags(context: PvContext, call: HypercallCall, v: PvVcpu, lo: number, hi: number): number {
  const kind = call.lo(2) & UVMF.FLUSHTYPE_MASK;
  if (kind !== UVMF.TLB_FLUSH && kind !== UVMF.INVLPG) return 0;
  const pointerLo = call.lo(2) & ~UVMF.FLUSHTYPE_MASK;
  let targets: readonly PvVcpu[];
  if (pointerLo === 0 && call.hi(2) === 0) targets = [v];
  else if (pointerLo === UVMF.ALL && call.hi(2) === 0) targets = context.statesOf(call.domain);
  else {
    const some = vcpusOf(context, call, pointerLo >>> 0, call.hi(2));
    if (some === null) return -ERRNO.EFAULT;
    targets = some;
  }
  for (const target of targets) {
    if (kind === UVMF.TLB_FLUSH) target.cpu.flushAll();
    else target.cpu.flushPage(lo, hi);
  }
  return 0;
}

/** The vCPUs of a bitmap in guest memory; null: -EFAULT. */
export function vcpusOf(context: PvContext, call: HypercallCall, lo: number, hi: number): readonly PvVcpu[] | null {
  const all = context.statesOf(call.domain);
  const bytes = Math.ceil(all.length / 8);
  const view = call.read(lo, hi, bytes);
  if (view === null) return null;
  const bits = Array.from({ length: bytes }, (_, i) => view.getUint8(i));
  return all.filter((_, i) => (bits[i >> 3]! & (1 << (i & 7))) !== 0);
}
