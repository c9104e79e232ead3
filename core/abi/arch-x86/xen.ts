/**
 * arch-x86/xen.h: x86's part of what a guest shares with the hypervisor, in both word sizes.
 * Registers and vcpu_guest_context differ between them by more than a rule: see xen-x86_64.ts and xen-x86_32.ts.
 */
import { array, defineStruct, isI386, when } from "../struct.ts";
import { table } from "../table.ts";
import { defineSharedInfo, defineVcpuInfo, xen_pfn_t } from "../xen.ts";

/** Maximum number of virtual CPUs with their vcpu_info in shared_info. */
export const XEN_LEGACY_MAX_VCPUS = 32;
export const FIRST_RESERVED_GDT_PAGE = 14;
export const FIRST_RESERVED_GDT_BYTE = 0xe000;
export const FIRST_RESERVED_GDT_ENTRY = 0x1c00;
/** Bits of vcpu_guest_context.flags, and (in_syscall) of iret_context.flags. */
export const VGCF = table({
  I387_VALID: 1,
  IN_KERNEL: 4,
  i387_valid: 1,
  in_kernel: 4,
  failsafe_disables_events: 8,
  syscall_disables_events: 16,
  online: 32,
});
export const XEN_HVM_DEBUGCONS_IOPORT = 233;

/** One entry of set_trap_table; an address of 0 ends the table. */
export const trap_info = defineStruct("trap_info", { vector: "u8", flags: "u8", cs: "u16", address: "ulong" });
/** trap_info.flags: privilege level that may call the gate, and whether events are masked on entry. */
export const TI_DPL_MASK = 3;
export const TI_IF = 4;

export const arch_vcpu_info = defineStruct("arch_vcpu_info", {
  cr2: "ulong",
  pad: array("ulong", (abi) => (abi.wordBytes === 8 ? 1 : 5)),
});
export const arch_shared_info = defineStruct("arch_shared_info", {
  max_pfn: "ulong",
  pfn_to_mfn_frame_list_list: xen_pfn_t,
  nmi_reason: "ulong",
  p2m_cr3: "ulong",
  p2m_vaddr: "ulong",
  p2m_generation: "ulong",
  wc_sec_hi: when(isI386, "u32"),
});
export const vcpu_info = defineVcpuInfo(arch_vcpu_info);
export const shared_info = defineSharedInfo(vcpu_info, arch_shared_info, XEN_LEGACY_MAX_VCPUS);

export const xen_cpuid_leaf = defineStruct("xen_cpuid_leaf", {
  leaf: "u32",
  subleaf: "u32",
  a: "u32",
  b: "u32",
  c: "u32",
  d: "u32",
});
export const xen_msr_entry = defineStruct("xen_msr_entry", { idx: "u32", flags: "u32", val: "u64" });
