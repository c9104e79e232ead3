/**
 * What Xen's interface has of the architecture: the ABI of its structures, parameters of the domain (hvm_op), where SBI's calls go.
 *
 * Xen's public/arch-riscv.h leaves most of it open; README.md has what is chosen here. As on Arm, hvm_op gives a translated domain the pages and
 * ports of its console and XenStore (Xen: arch/arm/hvm.c).
 */
import { type Domain, type GuestAbi, type HypercallCall, type HypercallTable, xen } from "hookvisor";
import { IRQ_LOCAL } from "./cpu.ts";

const { __HYPERVISOR, DOMID, ERRNO, HVM_PARAM, HVMOP, XENFEAT, xen_hvm_param } = xen;

/** Structures of a RISC-V guest. */
export const RISCV_ABI: GuestAbi = Object.freeze({
  name: "riscv64",
  pageShift: 12,
  wordBytes: 8,
  endian: "little",
  align64: 8,
  legacyVcpus: 1,
  bareInfo: true,
});

/** The hypercall that stands for an SBI call in the dispatcher: arch_0, which no guest can make by that number. */
export const SBI_HYPERCALL = __HYPERVISOR.arch_0;

/** XENFEAT_* bits (Xen on Arm: do_xen_version of a translated domain). */
export const FEATURES = [
  XENFEAT.writable_page_tables,
  XENFEAT.auto_translated_physmap,
  XENFEAT.memory_op_vnode_supported,
].reduce<number>((bits, bit) => bits | (1 << bit), 0);

/** Bits 63:56 of HVM_PARAM_CALLBACK_IRQ: the upcall is a per-CPU interrupt (Arm: HVM_PARAM_CALLBACK_TYPE_PPI). */
const CALLBACK_TYPE_LOCAL = 2;

/** A parameter that a guest may read, as halves; null: there is none such. */
function parameter(domain: Domain, index: number): { readonly lo: number; readonly hi: number } | null {
  const { store, console } = domain;
  switch (index) {
    case HVM_PARAM.CALLBACK_IRQ:
      return { lo: IRQ_LOCAL, hi: CALLBACK_TYPE_LOCAL << 24 };
    case HVM_PARAM.STORE_PFN:
      return { lo: store.mfn, hi: 0 };
    case HVM_PARAM.STORE_EVTCHN:
      return { lo: store.port, hi: 0 };
    case HVM_PARAM.CONSOLE_PFN:
      return { lo: console.mfn, hi: 0 };
    case HVM_PARAM.CONSOLE_EVTCHN:
      return { lo: console.port, hi: 0 };
    default:
      return null;
  }
}

/** HVMOP_get_param and set_param: a guest names itself, reads what it finds, and sets nothing. */
function parameters(call: HypercallCall, write: boolean): number {
  const layout = xen_hvm_param.at(call.abi);
  const view = call.readArg(1, layout.size);
  if (view === null) return -ERRNO.EFAULT;
  const domid = layout.get(view, 0, "domid");
  if (domid !== DOMID.SELF && domid !== call.domain.id) return -ERRNO.EPERM;
  const found = parameter(call.domain, layout.get(view, 0, "index"));
  if (found === null) return -ERRNO.EINVAL;
  if (write) return -ERRNO.EPERM;
  const { value } = layout.fields;
  value.setLoHi(view, 0, found.lo, found.hi);
  return call.writeArg(1, view, layout.size) ? 0 : -ERRNO.EFAULT;
}

/** Fills a table. `sbi` serves the SBI call that the vCPU is making. */
export function addRiscvHypercalls(table: HypercallTable, sbi: (call: HypercallCall) => number): void {
  table.add(SBI_HYPERCALL, "sbi", sbi, 100);
  const hvm = table.addGroup(__HYPERVISOR.hvm_op, "hvm_op", (call) => call.lo(0));
  hvm.add(HVMOP.get_param, "get_param", (call) => parameters(call, false));
  hvm.add(HVMOP.set_param, "set_param", (call) => parameters(call, true));
}
