/** arch-x86/xen-x86_64.h: selectors, virtual address space and registers of 64-bit PV guests. */
import { array, defineStruct, struct } from "../struct.ts";
import { table, u64 } from "../table.ts";
import { trap_info } from "./xen.ts";

/** Flat segments that Xen's own GDT offers a guest. */
export const FLAT_RING3 = table({
  CS32: 0xe023,
  CS64: 0xe033,
  DS32: 0xe02b,
  DS64: 0,
  SS32: 0xe02b,
  SS64: 0xe02b,
});
export const FLAT_KERNEL_CS = FLAT_RING3.CS64;
export const FLAT_KERNEL_DS = FLAT_RING3.DS64;
export const FLAT_KERNEL_SS = FLAT_RING3.SS64;
export const FLAT_USER_CS = FLAT_RING3.CS64;
export const FLAT_USER_DS = FLAT_RING3.DS64;
export const FLAT_USER_SS = FLAT_RING3.SS64;

/** The part of the address space that is Xen's, and in it the machine-to-physical table (read-only to the guest). */
export const HYPERVISOR_VIRT_START = u64(0xffff8000, 0);
export const HYPERVISOR_VIRT_END = u64(0xffff8800, 0);
export const MACH2PHYS_VIRT_START = u64(0xffff8000, 0);
export const MACH2PHYS_VIRT_END = u64(0xffff8040, 0);

/** `which` of set_segment_base; GS_USER_SEL takes a selector. */
export const SEGBASE = table({
  FS: 0,
  GS_USER: 1,
  GS_KERNEL: 2,
  GS_USER_SEL: 3,
});
/** Bit of iret_context.flags: return by SYSRET. */
export const VGCF_in_syscall = 0x100;

/** What hypercall iret finds on the guest kernel's stack, lowest address first. */
export const iret_context = defineStruct("iret_context", {
  rax: "u64",
  r11: "u64",
  rcx: "u64",
  flags: "u64",
  rip: "u64",
  cs: "u64",
  rflags: "u64",
  rsp: "u64",
  ss: "u64",
});

export const cpu_user_regs = defineStruct("cpu_user_regs", {
  r15: "u64",
  r14: "u64",
  r13: "u64",
  r12: "u64",
  rbp: "u64",
  rbx: "u64",
  r11: "u64",
  r10: "u64",
  r9: "u64",
  r8: "u64",
  rax: "u64",
  rcx: "u64",
  rdx: "u64",
  rsi: "u64",
  rdi: "u64",
  error_code: "u32",
  entry_vector: "u32",
  rip: "u64",
  cs: "u16",
  _pad0: array("u16", 1),
  saved_upcall_mask: "u8",
  _pad1: array("u8", 3),
  rflags: "u64",
  rsp: "u64",
  ss: "u16",
  _pad2: array("u16", 3),
  es: "u16",
  _pad3: array("u16", 3),
  ds: "u16",
  _pad4: array("u16", 3),
  fs: "u16",
  _pad5: array("u16", 3),
  gs: "u16",
  _pad6: array("u16", 3),
});

/** Argument of VCPUOP_initialise. ctrlreg[3] is the kernel page table, ctrlreg[1] the user one. */
export const vcpu_guest_context = defineStruct("vcpu_guest_context", {
  fpu_ctxt: struct({ x: array("u8", 512) }),
  flags: "ulong",
  user_regs: cpu_user_regs,
  trap_ctxt: array(trap_info, 256),
  ldt_base: "ulong",
  ldt_ents: "ulong",
  gdt_frames: array("ulong", 16),
  gdt_ents: "ulong",
  kernel_ss: "ulong",
  kernel_sp: "ulong",
  ctrlreg: array("ulong", 8),
  debugreg: array("ulong", 8),
  event_callback_eip: "ulong",
  failsafe_callback_eip: "ulong",
  syscall_callback_eip: "ulong",
  vm_assist: "ulong",
  fs_base: "u64",
  gs_base_kernel: "u64",
  gs_base_user: "u64",
});
