/** arch-x86/xen-x86_32.h: selectors, virtual address space and registers of 32-bit PV guests (PAE). */
import { array, defineStruct, struct } from "../struct.ts";
import { table } from "../table.ts";
import { trap_info } from "./xen.ts";

/** Flat segments that Xen's own GDT offers a guest: ring 1 for its kernel, ring 3 for its applications. */
export const FLAT_RING1 = table({ CS: 0xe019, DS: 0xe021, SS: 0xe021 });
export const FLAT_RING3 = table({ CS: 0xe02b, DS: 0xe033, SS: 0xe033 });
export const FLAT_KERNEL = table({ CS: 0xe019, DS: 0xe021, SS: 0xe021 });
export const FLAT_USER = table({ CS: 0xe02b, DS: 0xe033, SS: 0xe033 });

/** The part of the address space that is Xen's under PAE, and in it the machine-to-physical table. */
export const HYPERVISOR_VIRT_START_PAE = 0xf5800000;
export const MACH2PHYS_VIRT_START_PAE = 0xf5800000;
export const MACH2PHYS_VIRT_END_PAE = 0xf6800000;

export const cpu_user_regs = defineStruct("cpu_user_regs", {
  ebx: "u32",
  ecx: "u32",
  edx: "u32",
  esi: "u32",
  edi: "u32",
  ebp: "u32",
  eax: "u32",
  error_code: "u16",
  entry_vector: "u16",
  eip: "u32",
  cs: "u16",
  saved_upcall_mask: "u8",
  _pad0: "u8",
  eflags: "u32",
  esp: "u32",
  ss: "u16",
  _pad1: "u16",
  es: "u16",
  _pad2: "u16",
  ds: "u16",
  _pad3: "u16",
  fs: "u16",
  _pad4: "u16",
  gs: "u16",
  _pad5: "u16",
});

/** Argument of VCPUOP_initialise. */
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
  event_callback_cs: "ulong",
  event_callback_eip: "ulong",
  failsafe_callback_cs: "ulong",
  failsafe_callback_eip: "ulong",
  vm_assist: "ulong",
});

/** Fields of xen_callback_t as an argument of set_callbacks and in callback_register. */
export const xen_callback = defineStruct("xen_callback", { cs: "ulong", eip: "ulong" });

/** A page-table frame as a 32-bit guest's cr3 has it: frame numbers above 20 bits fold into the low bits. */
export function xen_pfn_to_cr3(pfn: number): number {
  return ((pfn << 12) | (pfn >>> 20)) >>> 0;
}
/** The frame of a 32-bit guest's cr3. */
export function xen_cr3_to_pfn(cr3: number): number {
  return ((cr3 >>> 12) | (cr3 << 20)) >>> 0;
}
