/**
 * sched.h: scheduler operations. The legacy sched_op_compat (6) of 2005 takes `(cmd, unsigned long arg)` instead of a pointer and
 * knows yield, block and shutdown only, whose arg is the reason itself.
 */
import { defineStruct } from "./struct.ts";
import { table } from "./table.ts";
import { domid_t } from "./xen.ts";

export const SCHEDOP = table({
  yield: 0,
  block: 1,
  shutdown: 2,
  poll: 3,
  remote_shutdown: 4,
  shutdown_code: 5,
  watchdog: 6,
  pin_override: 7,
});
/** What sched_op_compat knows, by the same numbers. */
export const SCHEDOP_COMPAT = table({ yield: 0, block: 1, shutdown: 2 });
export const SHUTDOWN = table({
  poweroff: 0,
  reboot: 1,
  suspend: 2,
  crash: 3,
  watchdog: 4,
  soft_reset: 5,
  MAX: 5,
});

export const sched_shutdown = defineStruct("sched_shutdown", { reason: "u32" });
/** timeout: absolute system time in ns; 0: none. */
export const sched_poll = defineStruct("sched_poll", { ports: "handle", nr_ports: "u32", timeout: "u64" });
export const sched_remote_shutdown = defineStruct("sched_remote_shutdown", { domain_id: domid_t, reason: "u32" });
export const sched_watchdog = defineStruct("sched_watchdog", { id: "u32", timeout: "u32" });
export const sched_pin_override = defineStruct("sched_pin_override", { pcpu: "i32" });
