/** grant_table.h: grant entries of versions 1 and 2, operations, flags and status codes. */
import { array, defineStruct, defineUnion, struct, union } from "./struct.ts";
import { table } from "./table.ts";
import { domid_t, xen_pfn_t } from "./xen.ts";

/** Type (bits 1:0) and flags of a grant entry. transfer_committed and transfer_completed belong to type accept_transfer. */
export const GTF = table({
  invalid: 0,
  permit_access: 1,
  accept_transfer: 2,
  transitive: 3,
  type_mask: 3,
  readonly: 4,
  reading: 8,
  writing: 16,
  PWT: 32,
  PCD: 64,
  PAT: 128,
  sub_page: 256,
  transfer_committed: 4,
  transfer_completed: 8,
});
export const GNTTABOP = table({
  map_grant_ref: 0,
  unmap_grant_ref: 1,
  setup_table: 2,
  dump_table: 3,
  transfer: 4,
  copy: 5,
  query_size: 6,
  unmap_and_replace: 7,
  set_version: 8,
  get_status_frames: 9,
  get_version: 10,
  swap_grant_ref: 11,
  cache_flush: 12,
});
/** Flags of map_grant_ref. guest_avail_mask: PTE bits for the guest's use, from bit guest_avail0 = 16. */
export const GNTMAP = table({
  device_map: 1,
  host_map: 2,
  readonly: 4,
  application_map: 8,
  contains_pte: 16,
  guest_avail_mask: 0xffff0000,
});
/** Status of one grant operation: 0, or negative. */
export const GNTST = table({
  okay: 0,
  general_error: -1,
  bad_domain: -2,
  bad_gntref: -3,
  bad_handle: -4,
  bad_virt_addr: -5,
  bad_dev_addr: -6,
  no_device_space: -7,
  permission_denied: -8,
  bad_page: -9,
  bad_copy_arg: -10,
  address_too_big: -11,
  eagain: -12,
  no_space: -13,
});
export const GNTCOPY = table({
  source_gref: 1,
  dest_gref: 2,
});
export const GNTTAB_CACHE = table({ CLEAN: 1, INVAL: 2, SOURCE_GREF: 0x80000000 });
export const GNTTAB_NR_RESERVED_ENTRIES = 8;
export const GNTTAB_RESERVED_CONSOLE = 0;
export const GNTTAB_RESERVED_XENSTORE = 1;

export const grant_ref_t = "u32";
export const grant_handle_t = "u32";

export const grant_entry_v1 = defineStruct("grant_entry_v1", { flags: "u16", domid: domid_t, frame: "u32" });
export const grant_entry_header = defineStruct("grant_entry_header", { flags: "u16", domid: domid_t });
export const grant_entry_v2 = defineUnion("grant_entry_v2", {
  hdr: grant_entry_header,
  full_page: struct({ hdr: grant_entry_header, pad0: "u32", frame: "u64" }),
  sub_page: struct({ hdr: grant_entry_header, page_off: "u16", length: "u16", frame: "u64" }),
  transitive: struct({ hdr: grant_entry_header, trans_domid: domid_t, pad0: "u16", gref: grant_ref_t }),
  __spacer: array("u32", 4),
});
/** Bytes of a version 2 status word (grant_status_t, a u16). */
export const GRANT_STATUS_BYTES = 2;

export const gnttab_map_grant_ref = defineStruct("gnttab_map_grant_ref", {
  host_addr: "u64",
  flags: "u32",
  ref: grant_ref_t,
  dom: domid_t,
  status: "i16",
  handle: grant_handle_t,
  dev_bus_addr: "u64",
});
export const gnttab_unmap_grant_ref = defineStruct("gnttab_unmap_grant_ref", {
  host_addr: "u64",
  dev_bus_addr: "u64",
  handle: grant_handle_t,
  status: "i16",
});
export const gnttab_setup_table = defineStruct("gnttab_setup_table", {
  dom: domid_t,
  nr_frames: "u32",
  status: "i16",
  frame_list: "handle",
});
export const gnttab_dump_table = defineStruct("gnttab_dump_table", { dom: domid_t, status: "i16" });
export const gnttab_transfer = defineStruct("gnttab_transfer", {
  mfn: xen_pfn_t,
  domid: domid_t,
  ref: grant_ref_t,
  status: "i16",
});
export const gnttab_copy_ptr = defineStruct("gnttab_copy_ptr", {
  u: union({ ref: grant_ref_t, gmfn: xen_pfn_t }),
  domid: domid_t,
  offset: "u16",
});
export const gnttab_copy = defineStruct("gnttab_copy", {
  source: gnttab_copy_ptr,
  dest: gnttab_copy_ptr,
  len: "u16",
  flags: "u16",
  status: "i16",
});
export const gnttab_query_size = defineStruct("gnttab_query_size", {
  dom: domid_t,
  nr_frames: "u32",
  max_nr_frames: "u32",
  status: "i16",
});
export const gnttab_unmap_and_replace = defineStruct("gnttab_unmap_and_replace", {
  host_addr: "u64",
  new_addr: "u64",
  handle: grant_handle_t,
  status: "i16",
});
export const gnttab_set_version = defineStruct("gnttab_set_version", { version: "u32" });
export const gnttab_get_status_frames = defineStruct("gnttab_get_status_frames", {
  nr_frames: "u32",
  dom: domid_t,
  status: "i16",
  frame_list: "handle",
});
export const gnttab_get_version = defineStruct("gnttab_get_version", { dom: domid_t, pad: "u16", version: "u32" });
export const gnttab_swap_grant_ref = defineStruct("gnttab_swap_grant_ref", {
  ref_a: grant_ref_t,
  ref_b: grant_ref_t,
  status: "i16",
});
export const gnttab_cache_flush = defineStruct("gnttab_cache_flush", {
  a: union({ dev_bus_addr: "u64", ref: grant_ref_t }),
  offset: "u16",
  length: "u16",
  op: "u32",
});
