/** arch-x86/cpuid.h: the CPUID leaves by which a guest finds Xen. */
import { table } from "../table.ts";

export const XEN_CPUID_FIRST_LEAF = 0x40000000;
/** "XenVMMXenVMM" in EBX, ECX, EDX of the first leaf. */
export const XEN_CPUID_SIGNATURE_EBX = 0x566e6558;
export const XEN_CPUID_SIGNATURE_ECX = 0x65584d4d;
export const XEN_CPUID_SIGNATURE_EDX = 0x4d4d566e;
export const XEN_CPUID_FEAT1_MMU_PT_UPDATE_PRESERVE_AD = 1;
export const XEN_HVM_CPUID = table({
  APIC_ACCESS_VIRT: 1,
  X2APIC_VIRT: 2,
  IOMMU_MAPPINGS: 4,
  VCPU_ID_PRESENT: 8,
  DOMID_PRESENT: 16,
  EXT_DEST_ID: 32,
  UPCALL_VECTOR: 64,
});
export const XEN_CPUID_MACHINE_ADDRESS_WIDTH_MASK = 255;
export const XEN_CPUID_MAX_NUM_LEAVES = 5;
