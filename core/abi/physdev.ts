/** physdev.h: operations on physical interrupts and PCI devices. */
import { array, defineStruct, struct, union } from "./struct.ts";
import { table } from "./table.ts";
import { domid_t, xen_pfn_t } from "./xen.ts";

export const PHYSDEVOP = table({
  eoi: 12,
  pirq_eoi_gmfn_v1: 17,
  pirq_eoi_gmfn_v2: 28,
  irq_status_query: 5,
  set_iopl: 6,
  set_iobitmap: 7,
  apic_read: 8,
  apic_write: 9,
  alloc_irq_vector: 10,
  free_irq_vector: 11,
  map_pirq: 13,
  unmap_pirq: 14,
  manage_pci_add: 15,
  manage_pci_remove: 16,
  restore_msi: 19,
  manage_pci_add_ext: 20,
  setup_gsi: 21,
  get_free_pirq: 23,
  pci_mmcfg_reserved: 24,
  pci_device_add: 25,
  pci_device_remove: 26,
  restore_msi_ext: 27,
  prepare_msix: 30,
  release_msix: 31,
  dbgp_op: 29,
});
export const XENIRQSTAT = table({ needs_eoi: 1, shared: 2 });
export const MAP_PIRQ_TYPE = table({
  MSI: 0,
  GSI: 1,
  UNKNOWN: 2,
  MSI_SEG: 3,
  MULTI_MSI: 4,
});

export const physdev_eoi = defineStruct("physdev_eoi", { irq: "u32" });
export const physdev_pirq_eoi_gmfn = defineStruct("physdev_pirq_eoi_gmfn", { gmfn: xen_pfn_t });
export const physdev_irq_status_query = defineStruct("physdev_irq_status_query", { irq: "u32", flags: "u32" });
export const physdev_set_iopl = defineStruct("physdev_set_iopl", { iopl: "u32" });
export const physdev_set_iobitmap = defineStruct("physdev_set_iobitmap", { bitmap: "handle", nr_ports: "u32" });
export const physdev_apic = defineStruct("physdev_apic", { apic_physbase: "ulong", reg: "u32", value: "u32" });
export const physdev_irq = defineStruct("physdev_irq", { irq: "u32", vector: "u32" });
export const physdev_map_pirq = defineStruct("physdev_map_pirq", {
  domid: domid_t,
  type: "i32",
  index: "i32",
  pirq: "i32",
  bus: "i32",
  devfn: "i32",
  entry_nr: "i32",
  table_base: "u64",
});
export const physdev_unmap_pirq = defineStruct("physdev_unmap_pirq", { domid: domid_t, pirq: "i32" });
export const physdev_manage_pci = defineStruct("physdev_manage_pci", { bus: "u8", devfn: "u8" });
export const physdev_restore_msi = defineStruct("physdev_restore_msi", { bus: "u8", devfn: "u8" });
export const physdev_manage_pci_ext = defineStruct("physdev_manage_pci_ext", {
  bus: "u8",
  devfn: "u8",
  is_extfn: "u32",
  is_virtfn: "u32",
  physfn: struct({ bus: "u8", devfn: "u8" }),
});
/** The argument of physdev_op_compat (19): command and arguments in one structure. */
export const physdev_op = defineStruct("physdev_op", {
  cmd: "u32",
  u: union({
    irq_status_query: physdev_irq_status_query,
    set_iopl: physdev_set_iopl,
    set_iobitmap: physdev_set_iobitmap,
    apic_op: physdev_apic,
    irq_op: physdev_irq,
  }),
});
export const physdev_setup_gsi = defineStruct("physdev_setup_gsi", { gsi: "i32", triggering: "u8", polarity: "u8" });
export const physdev_get_free_pirq = defineStruct("physdev_get_free_pirq", { type: "i32", pirq: "u32" });
export const physdev_pci_mmcfg_reserved = defineStruct("physdev_pci_mmcfg_reserved", {
  address: "u64",
  segment: "u16",
  start_bus: "u8",
  end_bus: "u8",
  flags: "u32",
});
export const physdev_pci_device = defineStruct("physdev_pci_device", { seg: "u16", bus: "u8", devfn: "u8" });
export const physdev_pci_device_add = defineStruct("physdev_pci_device_add", {
  seg: "u16",
  bus: "u8",
  devfn: "u8",
  flags: "u32",
  physfn: struct({ bus: "u8", devfn: "u8" }),
  optarr: array("u32", 0),
});
export const physdev_dbgp_op = defineStruct("physdev_dbgp_op", {
  op: "u8",
  bus: "u8",
  u: union({ pci: physdev_pci_device }),
});
