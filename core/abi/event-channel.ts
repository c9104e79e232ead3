/** event_channel.h: operations on event channels, their arguments, and the FIFO ABI's words. */
import { type Abi, array, defineStruct, struct, union } from "./struct.ts";
import { table } from "./table.ts";
import { domid_t } from "./xen.ts";

export const EVTCHNOP = table({
  bind_interdomain: 0,
  bind_virq: 1,
  bind_pirq: 2,
  close: 3,
  send: 4,
  status: 5,
  alloc_unbound: 6,
  bind_ipi: 7,
  bind_vcpu: 8,
  unmask: 9,
  reset: 10,
  init_control: 11,
  expand_array: 12,
  set_priority: 13,
});
/** Values of evtchn_status.status. */
export const EVTCHNSTAT = table({
  closed: 0,
  unbound: 1,
  interdomain: 2,
  pirq: 3,
  virq: 4,
  ipi: 5,
});
export const BIND_PIRQ__WILL_SHARE = 1;
/** The FIFO ABI: bit numbers in an event word (PENDING, MASKED, LINKED, BUSY), priorities, and limits. */
export const EVTCHN_FIFO = table({
  PRIORITY_MAX: 0,
  PRIORITY_DEFAULT: 7,
  PRIORITY_MIN: 15,
  MAX_QUEUES: 16,
  PENDING: 31,
  MASKED: 30,
  LINKED: 29,
  BUSY: 28,
  LINK_BITS: 17,
  LINK_MASK: 0x1ffff,
  NR_CHANNELS: 0x20000,
});

/** Ports of the 2-level ABI: 1024 with 32-bit words, 4096 with 64-bit ones (EVTCHN_2L_NR_CHANNELS). */
export function evtchn2lNrChannels(abi: Abi): number {
  return abi.wordBytes * abi.wordBytes * 64;
}

export const evtchn_port_t = "u32";

export const evtchn_alloc_unbound = defineStruct("evtchn_alloc_unbound", {
  dom: domid_t,
  remote_dom: domid_t,
  port: evtchn_port_t,
});
export const evtchn_bind_interdomain = defineStruct("evtchn_bind_interdomain", {
  remote_dom: domid_t,
  remote_port: evtchn_port_t,
  local_port: evtchn_port_t,
});
export const evtchn_bind_virq = defineStruct("evtchn_bind_virq", { virq: "u32", vcpu: "u32", port: evtchn_port_t });
export const evtchn_bind_pirq = defineStruct("evtchn_bind_pirq", { pirq: "u32", flags: "u32", port: evtchn_port_t });
export const evtchn_bind_ipi = defineStruct("evtchn_bind_ipi", { vcpu: "u32", port: evtchn_port_t });
export const evtchn_close = defineStruct("evtchn_close", { port: evtchn_port_t });
export const evtchn_send = defineStruct("evtchn_send", { port: evtchn_port_t });
export const evtchn_status = defineStruct("evtchn_status", {
  dom: domid_t,
  port: evtchn_port_t,
  status: "u32",
  vcpu: "u32",
  u: union({
    unbound: struct({ dom: domid_t }),
    interdomain: struct({ dom: domid_t, port: evtchn_port_t }),
    pirq: "u32",
    virq: "u32",
  }),
});
export const evtchn_bind_vcpu = defineStruct("evtchn_bind_vcpu", { port: evtchn_port_t, vcpu: "u32" });
export const evtchn_unmask = defineStruct("evtchn_unmask", { port: evtchn_port_t });
export const evtchn_reset = defineStruct("evtchn_reset", { dom: domid_t });
export const evtchn_init_control = defineStruct("evtchn_init_control", {
  control_gfn: "u64",
  offset: "u32",
  vcpu: "u32",
  link_bits: "u8",
  _pad: array("u8", 7),
});
export const evtchn_expand_array = defineStruct("evtchn_expand_array", { array_gfn: "u64" });
export const evtchn_set_priority = defineStruct("evtchn_set_priority", { port: evtchn_port_t, priority: "u32" });

/** The argument of event_channel_op_compat (16): command and arguments in one structure. */
export const evtchn_op = defineStruct("evtchn_op", {
  cmd: "u32",
  u: union({
    alloc_unbound: evtchn_alloc_unbound,
    bind_interdomain: evtchn_bind_interdomain,
    bind_virq: evtchn_bind_virq,
    bind_pirq: evtchn_bind_pirq,
    bind_ipi: evtchn_bind_ipi,
    close: evtchn_close,
    send: evtchn_send,
    status: evtchn_status,
    bind_vcpu: evtchn_bind_vcpu,
    unmask: evtchn_unmask,
  }),
});

export const evtchn_fifo_control_block = defineStruct("evtchn_fifo_control_block", {
  ready: "u32",
  _rsvd: "u32",
  head: array("u32", EVTCHN_FIFO.MAX_QUEUES),
});
