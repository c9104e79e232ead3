/** version.h: xen_version commands, and the sizes of the strings they fill. */
import { array, defineStruct } from "./struct.ts";
import { table } from "./table.ts";
import { xen_ulong_t } from "./xen.ts";

export const XENVER = table({
  version: 0,
  extraversion: 1,
  compile_info: 2,
  capabilities: 3,
  changeset: 4,
  platform_parameters: 5,
  get_features: 6,
  pagesize: 7,
  guest_handle: 8,
  commandline: 9,
  build_id: 10,
});
/** Bytes of xen_extraversion_t, xen_capabilities_info_t, xen_changeset_info_t, xen_commandline_t, xen_domain_handle_t. */
export const XEN_EXTRAVERSION_LEN = 16;
export const XEN_CAPABILITIES_INFO_LEN = 1024;
export const XEN_CHANGESET_INFO_LEN = 64;
export const XEN_COMMANDLINE_LEN = 1024;
export const XEN_DOMAIN_HANDLE_LEN = 16;

export const xen_compile_info = defineStruct("xen_compile_info", {
  compiler: array("u8", 64),
  compile_by: array("u8", 16),
  compile_domain: array("u8", 32),
  compile_date: array("u8", 32),
});
export const xen_platform_parameters = defineStruct("xen_platform_parameters", { virt_start: xen_ulong_t });
export const xen_feature_info = defineStruct("xen_feature_info", { submap_idx: "u32", submap: "u32" });
export const xen_build_id = defineStruct("xen_build_id", { len: "u32", buf: array("u8", 0) });
