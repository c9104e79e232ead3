/**
 * xen.h: hypercall numbers, virtual interrupts, page-table update commands, and what a PV guest shares with the hypervisor.
 * Structures that embed an architecture's part (vcpu_info, shared_info) are made here from that part; arch-x86/xen.ts has x86's.
 */
import { array, defineStruct, type FieldSpecs, isI386, type Struct, struct, union, when } from "./struct.ts";
import { table } from "./table.ts";

/** C types of the headers, on the architectures where xen_pfn_t and xen_ulong_t are `unsigned long`. */
export const domid_t = "u16";
export const xen_pfn_t = "ulong";
export const xen_ulong_t = "ulong";

/** Hypercall numbers. 11 is free; 48 to 55 belong to the architecture. */
export const __HYPERVISOR = table({
  set_trap_table: 0,
  mmu_update: 1,
  set_gdt: 2,
  stack_switch: 3,
  set_callbacks: 4,
  fpu_taskswitch: 5,
  sched_op_compat: 6,
  platform_op: 7,
  set_debugreg: 8,
  get_debugreg: 9,
  update_descriptor: 10,
  memory_op: 12,
  multicall: 13,
  update_va_mapping: 14,
  set_timer_op: 15,
  event_channel_op_compat: 16,
  xen_version: 17,
  console_io: 18,
  physdev_op_compat: 19,
  grant_table_op: 20,
  vm_assist: 21,
  update_va_mapping_otherdomain: 22,
  iret: 23,
  vcpu_op: 24,
  set_segment_base: 25,
  mmuext_op: 26,
  xsm_op: 27,
  nmi_op: 28,
  sched_op: 29,
  callback_op: 30,
  xenoprof_op: 31,
  event_channel_op: 32,
  physdev_op: 33,
  hvm_op: 34,
  sysctl: 35,
  domctl: 36,
  kexec_op: 37,
  tmem_op: 38,
  argo_op: 39,
  xenpmu_op: 40,
  dm_op: 41,
  hypfs_op: 42,
  arch_0: 48,
  arch_1: 49,
  arch_2: 50,
  arch_3: 51,
  arch_4: 52,
  arch_5: 53,
  arch_6: 54,
  arch_7: 55,
});

export const VIRQ = table({
  TIMER: 0,
  DEBUG: 1,
  CONSOLE: 2,
  DOM_EXC: 3,
  TBUF: 4,
  DEBUGGER: 6,
  XENOPROF: 7,
  CON_RING: 8,
  PCPU_STATE: 9,
  MEM_EVENT: 10,
  ARGO: 11,
  ENOMEM: 12,
  XENPMU: 13,
  ARCH_0: 16,
  ARCH_1: 17,
  ARCH_2: 18,
  ARCH_3: 19,
  ARCH_4: 20,
  ARCH_5: 21,
  ARCH_6: 22,
  ARCH_7: 23,
});
export const NR_VIRQS = 24;

/** Command in bits 1:0 of mmu_update.ptr. */
export const MMU = table({
  NORMAL_PT_UPDATE: 0,
  MACHPHYS_UPDATE: 1,
  PT_UPDATE_PRESERVE_AD: 2,
  PT_UPDATE_NO_TRANSLATE: 3,
});
export const MMUEXT = table({
  PIN_L1_TABLE: 0,
  PIN_L2_TABLE: 1,
  PIN_L3_TABLE: 2,
  PIN_L4_TABLE: 3,
  UNPIN_TABLE: 4,
  NEW_BASEPTR: 5,
  TLB_FLUSH_LOCAL: 6,
  INVLPG_LOCAL: 7,
  TLB_FLUSH_MULTI: 8,
  INVLPG_MULTI: 9,
  TLB_FLUSH_ALL: 10,
  INVLPG_ALL: 11,
  FLUSH_CACHE: 12,
  SET_LDT: 13,
  NEW_USER_BASEPTR: 15,
  CLEAR_PAGE: 16,
  COPY_PAGE: 17,
  FLUSH_CACHE_GLOBAL: 18,
  MARK_SUPER: 19,
  UNMARK_SUPER: 20,
});
/** Flags of update_va_mapping. With MULTI a bitmap's guest pointer is ORed in; LOCAL is MULTI without a bitmap. */
export const UVMF = table({
  NONE: 0,
  TLB_FLUSH: 1,
  INVLPG: 2,
  FLUSHTYPE_MASK: 3,
  MULTI: 0,
  LOCAL: 0,
  ALL: 4,
});
export const CONSOLEIO = table({
  write: 0,
  read: 1,
});
export const VMASST_CMD = table({
  enable: 0,
  disable: 1,
});
export const VMASST_TYPE = table({
  "4gb_segments": 0,
  "4gb_segments_notify": 1,
  writable_pagetables: 2,
  pae_extended_cr3: 3,
  architectural_iopl: 4,
  runstate_update_flag: 5,
  m2p_strict: 32,
});
/** Domain ids from FIRST_RESERVED up are no ordinary domains. */
export const DOMID = table({
  FIRST_RESERVED: 0x7ff0,
  SELF: 0x7ff0,
  IO: 0x7ff1,
  XEN: 0x7ff2,
  COW: 0x7ff3,
  INVALID: 0x7ff4,
  IDLE: 0x7fff,
  MASK: 0x7fff,
});
/** Bits of vcpu_time_info.flags. */
export const XEN_PVCLOCK = table({
  TSC_STABLE_BIT: 1,
  GUEST_STOPPED: 2,
});
/** Bits of start_info.flags and hvm_start_info.flags. */
export const SIF = table({
  PRIVILEGED: 1,
  INITDOMAIN: 2,
  MULTIBOOT_MOD: 4,
  MOD_START_PFN: 8,
  VIRT_P2M_4TOOLS: 16,
  PM_MASK: 0xff00,
});
export const MAX_GUEST_CMDLINE = 1024;

export const mmuext_op = defineStruct("mmuext_op", {
  cmd: "u32",
  arg1: union({ mfn: xen_pfn_t, linear_addr: "ulong" }),
  arg2: union({ nr_ents: "u32", vcpumask: "handle", src_mfn: xen_pfn_t }),
});

export const mmu_update = defineStruct("mmu_update", { ptr: "u64", val: "u64" });

export const multicall_entry = defineStruct("multicall_entry", {
  op: xen_ulong_t,
  result: xen_ulong_t,
  args: array(xen_ulong_t, 6),
});

/** The clock a guest reads: odd `version` while an update is in progress. */
export const vcpu_time_info = defineStruct("vcpu_time_info", {
  version: "u32",
  pad0: "u32",
  tsc_timestamp: "u64",
  system_time: "u64",
  tsc_to_system_mul: "u32",
  tsc_shift: "i8",
  flags: "u8",
  pad1: array("u8", 2),
});

/** vcpu_info around an architecture's arch_vcpu_info. */
export function defineVcpuInfo<const A extends FieldSpecs>(arch: Struct<A>) {
  return defineStruct("vcpu_info", {
    evtchn_upcall_pending: "u8",
    evtchn_upcall_mask: "u8",
    evtchn_pending_sel: xen_ulong_t,
    arch,
    time: vcpu_time_info,
  });
}

/** shared_info around an architecture's vcpu_info, arch_shared_info and XEN_LEGACY_MAX_VCPUS. i386 has wc_sec_hi in its arch part. */
export function defineSharedInfo<const V extends FieldSpecs, const A extends FieldSpecs>(
  vcpuInfo: Struct<V>,
  arch: Struct<A>,
  legacyMaxVcpus: number,
) {
  return defineStruct("shared_info", {
    vcpu_info: array(vcpuInfo, legacyMaxVcpus),
    evtchn_pending: array(xen_ulong_t, (abi) => abi.wordBytes * 8),
    evtchn_mask: array(xen_ulong_t, (abi) => abi.wordBytes * 8),
    wc_version: "u32",
    wc_sec: "u32",
    wc_nsec: "u32",
    wc_sec_hi: when((abi) => !isI386(abi), "u32"),
    arch,
  });
}

/** What a PV guest's first vCPU finds at its start-info register. */
export const start_info = defineStruct("start_info", {
  magic: array("u8", 32),
  nr_pages: "ulong",
  shared_info: "ulong",
  flags: "u32",
  store_mfn: xen_pfn_t,
  store_evtchn: "u32",
  console: union({
    domU: struct({ mfn: xen_pfn_t, evtchn: "u32" }),
    dom0: struct({ info_off: "u32", info_size: "u32" }),
  }),
  pt_base: "ulong",
  nr_pt_frames: "ulong",
  mfn_list: "ulong",
  mod_start: "ulong",
  mod_len: "ulong",
  cmd_line: array("u8", MAX_GUEST_CMDLINE),
  first_p2m_pfn: "ulong",
  nr_p2m_frames: "ulong",
});

export const xen_multiboot_mod_list = defineStruct("xen_multiboot_mod_list", {
  mod_start: "u32",
  mod_end: "u32",
  cmdline: "u32",
  pad: "u32",
});
