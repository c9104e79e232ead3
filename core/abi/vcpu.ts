/** vcpu.h: operations on a vCPU, runstates, timers, and shared areas registered by address. */
import { array, defineStruct, union } from "./struct.ts";
import { table, u64 } from "./table.ts";

export const VCPUOP = table({
  initialise: 0,
  up: 1,
  down: 2,
  is_up: 3,
  get_runstate_info: 4,
  register_runstate_memory_area: 5,
  set_periodic_timer: 6,
  stop_periodic_timer: 7,
  set_singleshot_timer: 8,
  stop_singleshot_timer: 9,
  register_vcpu_info: 10,
  send_nmi: 11,
  get_physid: 12,
  register_vcpu_time_memory_area: 13,
});
export const RUNSTATE = table({
  running: 0,
  runnable: 1,
  blocked: 2,
  offline: 3,
});
export const VCPU_SSHOTTMR_future = 1;
/** Bit of state_entry_time while a registered runstate area is being updated, with VMASST_TYPE_runstate_update_flag. */
export const XEN_RUNSTATE_UPDATE = u64(0x80000000, 0);

export const vcpu_runstate_info = defineStruct("vcpu_runstate_info", {
  state: "i32",
  state_entry_time: "u64",
  time: array("u64", 4),
});
export const vcpu_register_runstate_memory_area = defineStruct("vcpu_register_runstate_memory_area", {
  addr: union({ h: "handle", v: "handle", p: "u64" }),
});
export const vcpu_set_periodic_timer = defineStruct("vcpu_set_periodic_timer", { period_ns: "u64" });
export const vcpu_set_singleshot_timer = defineStruct("vcpu_set_singleshot_timer", {
  timeout_abs_ns: "u64",
  flags: "u32",
});
export const vcpu_register_vcpu_info = defineStruct("vcpu_register_vcpu_info", {
  mfn: "u64",
  offset: "u32",
  rsvd: "u32",
});
export const vcpu_get_physid = defineStruct("vcpu_get_physid", { phys_id: "u64" });
export const vcpu_register_time_memory_area = defineStruct("vcpu_register_time_memory_area", {
  addr: union({ h: "handle", v: "handle", p: "u64" }),
});
