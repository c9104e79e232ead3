/** memory.h: memory_op commands and their arguments, without paging, access and sharing (tools only). */
import { defineStruct, struct, union } from "./struct.ts";
import { table } from "./table.ts";
import { domid_t, xen_pfn_t, xen_ulong_t } from "./xen.ts";

/** Commands of memory_op. */
export const XENMEM = table({
  increase_reservation: 0,
  decrease_reservation: 1,
  populate_physmap: 6,
  exchange: 11,
  maximum_ram_page: 2,
  current_reservation: 3,
  maximum_reservation: 4,
  maximum_gpfn: 14,
  machphys_mfn_list: 5,
  machphys_compat_mfn_list: 25,
  machphys_mapping: 12,
  add_to_physmap: 7,
  add_to_physmap_batch: 23,
  remove_from_physmap: 15,
  memory_map: 9,
  machine_memory_map: 10,
  set_memory_map: 13,
  set_pod_target: 16,
  get_pod_target: 17,
  get_sharing_freed_pages: 18,
  get_sharing_shared_pages: 19,
  paging_op: 20,
  access_op: 21,
  sharing_op: 22,
  claim_pages: 24,
  reserved_device_memory_map: 27,
  acquire_resource: 28,
  get_vnumainfo: 26,
});
export const XENMEM_resource = table({ ioreq_server: 0, grant_table: 1, vmtrace_buf: 2 });
export const XENMEM_resource_grant_table_id = table({ shared: 0, status: 1 });
/** Flags of xen_memory_reservation.mem_flags; bits 7:0 are address bits, bits 15:8 a node plus one. */
export const XENMEMF = table({
  populate_on_demand: 0x10000,
  exact_node_request: 0x20000,
  vnode: 0x40000,
});
export const XENMAPSPACE = table({
  shared_info: 0,
  grant_table: 1,
  gmfn: 2,
  gmfn_range: 3,
  gmfn_foreign: 4,
  dev_mmio: 5,
});
export const XENMAPIDX_grant_table_status = 0x80000000;

/** The widest machine address asked for by mem_flags, in bits; 0: any. */
export function XENMEMF_get_address_bits(flags: number): number {
  return flags & 0xff;
}
/** The NUMA node asked for by mem_flags; 255: any. */
export function XENMEMF_get_node(flags: number): number {
  return ((flags >> 8) - 1) & 0xff;
}

export const xen_memory_reservation = defineStruct("xen_memory_reservation", {
  extent_start: "handle",
  nr_extents: xen_ulong_t,
  extent_order: "u32",
  mem_flags: "u32",
  domid: domid_t,
});
export const xen_memory_exchange = defineStruct("xen_memory_exchange", {
  in: xen_memory_reservation,
  out: xen_memory_reservation,
  nr_exchanged: xen_ulong_t,
});
export const xen_memory_domain = defineStruct("xen_memory_domain", { domid: domid_t });
export const xen_machphys_mfn_list = defineStruct("xen_machphys_mfn_list", {
  max_extents: "u32",
  extent_start: "handle",
  nr_extents: "u32",
});
export const xen_machphys_mapping = defineStruct("xen_machphys_mapping", {
  v_start: xen_ulong_t,
  v_end: xen_ulong_t,
  max_mfn: xen_ulong_t,
});
export const xen_add_to_physmap = defineStruct("xen_add_to_physmap", {
  domid: domid_t,
  size: "u16",
  space: "u32",
  idx: xen_ulong_t,
  gpfn: xen_pfn_t,
});
export const xen_add_to_physmap_batch = defineStruct("xen_add_to_physmap_batch", {
  domid: domid_t,
  space: "u16",
  size: "u16",
  u: union({ foreign_domid: domid_t, res0: "u16" }),
  idxs: "handle",
  gpfns: "handle",
  errs: "handle",
});
export const xen_remove_from_physmap = defineStruct("xen_remove_from_physmap", { domid: domid_t, gpfn: xen_pfn_t });
export const xen_memory_map = defineStruct("xen_memory_map", { nr_entries: "u32", buffer: "handle" });
export const xen_foreign_memory_map = defineStruct("xen_foreign_memory_map", { domid: domid_t, map: xen_memory_map });
export const xen_pod_target = defineStruct("xen_pod_target", {
  target_pages: "u64",
  tot_pages: "u64",
  pod_cache_pages: "u64",
  pod_entries: "u64",
  domid: domid_t,
});
export const xen_reserved_device_memory = defineStruct("xen_reserved_device_memory", {
  start_pfn: xen_pfn_t,
  nr_pages: xen_ulong_t,
});
export const xen_reserved_device_memory_map = defineStruct("xen_reserved_device_memory_map", {
  flags: "u32",
  nr_entries: "u32",
  buffer: "handle",
  dev: union({ pci: struct({ seg: "u16", bus: "u8", devfn: "u8" }) }),
});
export const xen_mem_acquire_resource = defineStruct("xen_mem_acquire_resource", {
  domid: domid_t,
  type: "u16",
  id: "u32",
  nr_frames: "u32",
  pad: "u32",
  frame: "u64",
  frame_list: "handle",
});
export const xen_vmemrange = defineStruct("xen_vmemrange", { start: "u64", end: "u64", flags: "u32", nid: "u32" });
export const xen_vnuma_topology_info = defineStruct("xen_vnuma_topology_info", {
  domid: domid_t,
  pad: "u16",
  nr_vnodes: "u32",
  nr_vcpus: "u32",
  nr_vmemranges: "u32",
  vdistance: union({ h: "handle", pad: "u64" }),
  vcpu_to_vnode: union({ h: "handle", pad: "u64" }),
  vmemrange: union({ h: "handle", pad: "u64" }),
});

/** One entry of the buffer of memory_map, in the BIOS's packed format (ACPI, "INT 15H, E820H"); no structure of the headers. */
export const e820entry = defineStruct("e820entry", { addr: "u64", size: "u64", type: "u32" }, { packed: true });
/** Types of an e820entry (ACPI, "Address Range Types"). */
export const E820 = table({ RAM: 1, RESERVED: 2, ACPI: 3, NVS: 4, UNUSABLE: 5 });
