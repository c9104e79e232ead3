/** arch-x86/hvm/start_info.h: what a PVH kernel finds at %ebx. */
import { defineStruct } from "../../struct.ts";
import { table } from "../../table.ts";

export const XEN_HVM_START_MAGIC_VALUE = 0x336ec578;
export const XEN_HVM_MEMMAP_TYPE = table({
  RAM: 1,
  RESERVED: 2,
  ACPI: 3,
  NVS: 4,
  UNUSABLE: 5,
  DISABLED: 6,
  PMEM: 7,
});

/** Version 1: memmap_paddr and what follows are there. */
export const hvm_start_info = defineStruct("hvm_start_info", {
  magic: "u32",
  version: "u32",
  flags: "u32",
  nr_modules: "u32",
  modlist_paddr: "u64",
  cmdline_paddr: "u64",
  rsdp_paddr: "u64",
  memmap_paddr: "u64",
  memmap_entries: "u32",
  reserved: "u32",
});
export const hvm_modlist_entry = defineStruct("hvm_modlist_entry", {
  paddr: "u64",
  size: "u64",
  cmdline_paddr: "u64",
  reserved: "u64",
});
export const hvm_memmap_table_entry = defineStruct("hvm_memmap_table_entry", {
  addr: "u64",
  size: "u64",
  type: "u32",
  reserved: "u32",
});
