/** hvm/hvm_op.h: operations of and on HVM domains, without alternate p2m. */
import { array, defineStruct } from "../struct.ts";
import { table } from "../table.ts";
import { domid_t } from "../xen.ts";

export const HVMOP = table({
  set_param: 0,
  get_param: 1,
  set_pci_intx_level: 2,
  set_isa_irq_level: 3,
  set_pci_link_route: 4,
  flush_tlbs: 5,
  pagetable_dying: 9,
  get_time: 10,
  xentrace: 11,
  set_mem_access: 12,
  get_mem_access: 13,
  get_mem_type: 15,
  set_evtchn_upcall_vector: 23,
  guest_request_vm_event: 24,
  altp2m: 25,
});
/** Types of get_mem_type. */
export const HVMMEM = table({ ram_rw: 0, ram_ro: 1, mmio_dm: 2, unused: 3, ioreq_server: 4 });

export const xen_hvm_param = defineStruct("xen_hvm_param", { domid: domid_t, pad: "u16", index: "u32", value: "u64" });
export const xen_hvm_pagetable_dying = defineStruct("xen_hvm_pagetable_dying", {
  domid: domid_t,
  pad: array("u16", 3),
  gpa: "u64",
});
export const xen_hvm_get_time = defineStruct("xen_hvm_get_time", { now: "u64" });
export const xen_hvm_xentrace = defineStruct("xen_hvm_xentrace", {
  event: "u16",
  extra_bytes: "u16",
  extra: array("u8", 28),
});
export const xen_hvm_get_mem_type = defineStruct("xen_hvm_get_mem_type", {
  domid: domid_t,
  mem_type: "u16",
  pad: array("u16", 2),
  pfn: "u64",
});
export const xen_hvm_evtchn_upcall_vector = defineStruct("xen_hvm_evtchn_upcall_vector", { vcpu: "u32", vector: "u8" });
