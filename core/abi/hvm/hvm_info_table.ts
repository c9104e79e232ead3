/** hvm/hvm_info_table.h and hvm/e820.h: what an HVM domain's firmware finds in memory. */
import { array, defineStruct } from "../struct.ts";

export const HVM_INFO_PFN = 159;
export const HVM_INFO_OFFSET = 2048;
export const HVM_INFO_PADDR = 0x9f800;
export const HVM_MAX_VCPUS = 128;
export const HVM_E820_PAGE = 0x90000;
export const HVM_E820_NR_OFFSET = 488;
export const HVM_E820_OFFSET = 720;
export const HVM_BELOW_4G_RAM_END = 0xf0000000;
export const HVM_BELOW_4G_MMIO_START = 0xf0000000;
export const HVM_BELOW_4G_MMIO_LENGTH = 0x10000000;

export const hvm_info_table = defineStruct("hvm_info_table", {
  signature: array("u8", 8),
  length: "u32",
  checksum: "u8",
  apic_mode: "u8",
  nr_vcpus: "u32",
  low_mem_pgend: "u32",
  reserved_mem_pgstart: "u32",
  high_mem_pgend: "u32",
  vcpu_online: array("u8", (HVM_MAX_VCPUS + 7) >> 3),
});
