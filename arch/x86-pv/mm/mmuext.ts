/**
 * HYPERVISOR_mmuext_op: pins, roots, flushes, LDT, page clearing and copying (Xen: do_mmuext_op).
 */
import { ABI_X86_64, FrameType, type HypercallCall, xen } from "hookvisor";
import type { PvContext } from "../context.ts";
import type { PvVcpu } from "../vcpu-state.ts";
import { batch, foreignDomain, PREEMPTED, refused, vcpusOf } from "./mmu-update.ts";
import { guestAddress, TYPE_L1 } from "./pte.ts";
import { setKernelRoot, setUserRoot } from "./roots.ts";

const { ERRNO, MMUEXT } = xen;
const OP = xen.mmuext_op.at(ABI_X86_64);
/** Instructions for one operation, and for a whole flush. */
const OP_COST = 200;

/** HYPERVISOR_mmuext_op(operations, count, done, foreign domain). */
export function mmuextOp(context: PvContext, call: HypercallCall): number {
  if (call.lo(1) === PREEMPTED && call.lo(0) === 0 && call.hi(0) === 0) return call.int(3);
  const owner = foreignDomain(context, call.lo(3) & 0xffff, call.domain.id);
  if (refused(owner)) return owner;
  const v = context.stateOf(call.vcpu);
  return batch(call, OP.size, OP_COST, (view) => {
    const { fields } = OP;
    const arg1Lo = fields["arg1.mfn"].getLo(view, 0);
    const arg1Hi = fields["arg1.mfn"].getHi(view, 0);
    const arg2Lo = fields["arg2.src_mfn"].getLo(view, 0);
    const arg2Hi = fields["arg2.src_mfn"].getHi(view, 0);
    return operation(context, call, v, owner, fields.cmd.get(view, 0), arg1Lo, arg1Hi, arg2Lo, arg2Hi);
  });
}

function operation(
  context: PvContext,
  call: HypercallCall,
  v: PvVcpu,
  owner: number,
  command: number,
  lo: number,
  hi: number,
  lo2: number,
  hi2: number,
): number {
  const { tables } = context;
  const self = call.domain.id;
  const mfn = hi === 0 ? lo : -1;
  switch (command) {
    case MMUEXT.PIN_L1_TABLE:
    case MMUEXT.PIN_L2_TABLE:
    case MMUEXT.PIN_L3_TABLE:
    case MMUEXT.PIN_L4_TABLE:
      return tables.pin(mfn, TYPE_L1 + command - MMUEXT.PIN_L1_TABLE, owner);
    case MMUEXT.UNPIN_TABLE:
      return tables.unpin(mfn, owner);
    case MMUEXT.CLEAR_PAGE:
      return clearPage(context, owner, mfn);
    case MMUEXT.COPY_PAGE:
      return copyPage(context, owner, mfn, hi2 === 0 ? lo2 : -1);
    case MMUEXT.MARK_SUPER:
    case MMUEXT.UNMARK_SUPER:
      return -ERRNO.EOPNOTSUPP;
    default:
  }
  // What is left acts on the caller itself.
  if (command > MMUEXT.UNMARK_SUPER || command === 14) return -ERRNO.ENOSYS;
  if (owner !== self) return -ERRNO.EPERM;
  switch (command) {
    case MMUEXT.NEW_BASEPTR:
      return setKernelRoot(v, mfn, context.strict(v));
    case MMUEXT.NEW_USER_BASEPTR:
      return setUserRoot(v, mfn, context.strict(v));
    case MMUEXT.TLB_FLUSH_LOCAL:
      v.cpu.flushAll();
      return 0;
    case MMUEXT.INVLPG_LOCAL:
      if (guestAddress(hi)) v.cpu.flushPage(lo, hi);
      return 0;
    case MMUEXT.TLB_FLUSH_MULTI:
    case MMUEXT.INVLPG_MULTI: {
      const targets = vcpusOf(context, call, lo2, hi2);
      if (targets === null) return -ERRNO.EINVAL;
      for (const target of targets) flush(target, command === MMUEXT.INVLPG_MULTI, lo, hi);
      return 0;
    }
    case MMUEXT.TLB_FLUSH_ALL:
    case MMUEXT.INVLPG_ALL:
      for (const target of context.statesOf(call.domain)) flush(target, command === MMUEXT.INVLPG_ALL, lo, hi);
      return 0;
    case MMUEXT.FLUSH_CACHE:
    case MMUEXT.FLUSH_CACHE_GLOBAL:
      return -ERRNO.EACCES;
    case MMUEXT.SET_LDT:
      return setLdt(v, lo, hi, lo2);
    default:
      return -ERRNO.ENOSYS;
  }
}

function flush(v: PvVcpu, page: boolean, lo: number, hi: number): void {
  if (!page) v.cpu.flushAll();
  else if (guestAddress(hi)) v.cpu.flushPage(lo, hi);
}

function setLdt(v: PvVcpu, lo: number, hi: number, entries: number): number {
  if (entries === 0) {
    lo = 0;
    hi = 0;
  }
  if ((lo & 0xfff) !== 0 || !guestAddress(hi) || entries > 8192) return -ERRNO.EINVAL;
  if (v.releaseLdt()) v.cpu.flushAll();
  v.ldtLo = lo;
  v.ldtHi = hi;
  v.ldtEntries = entries;
  return 0;
}

/** Does `action` to a page that can be had as writable memory. */
function withPage({ tables }: PvContext, owner: number, mfn: number, action: () => void): number {
  if (!tables.frames.getRef(mfn, owner)) return -ERRNO.EINVAL;
  if (tables.getType(mfn, FrameType.writable, owner) !== 0) {
    tables.frames.putRef(mfn);
    return -ERRNO.EINVAL;
  }
  action();
  tables.frames.wrote(mfn, 0, 4096);
  tables.putPageAndType(mfn);
  return 0;
}

function clearPage(context: PvContext, owner: number, mfn: number): number {
  context.host.charge(512);
  return withPage(context, owner, mfn, () => context.tables.frames.page(mfn).fill(0));
}

function copyPage(context: PvContext, owner: number, mfn: number, source: number): number {
  const { frames } = context.tables;
  context.host.charge(1024);
  if (!frames.getRef(source, owner)) return -ERRNO.EINVAL;
  const result = withPage(context, owner, mfn, () => frames.page(mfn).set(frames.page(source)));
  frames.putRef(source);
  return result;
}
