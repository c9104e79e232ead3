/** hvm/params.h: indices of HVMOP_set_param and HVMOP_get_param. */
import { table, u64 } from "../table.ts";

export const HVM_PARAM = table({
  CALLBACK_IRQ: 0,
  STORE_PFN: 1,
  STORE_EVTCHN: 2,
  IOREQ_PFN: 5,
  BUFIOREQ_PFN: 6,
  VIRIDIAN: 9,
  TIMER_MODE: 10,
  HPET_ENABLED: 11,
  IDENT_PT: 12,
  ACPI_S_STATE: 14,
  VM86_TSS: 15,
  VPT_ALIGN: 16,
  CONSOLE_PFN: 17,
  CONSOLE_EVTCHN: 18,
  ACPI_IOPORTS_LOCATION: 19,
  PAGING_RING_PFN: 27,
  MONITOR_RING_PFN: 28,
  SHARING_RING_PFN: 29,
  TRIPLE_FAULT_REASON: 31,
  IOREQ_SERVER_PFN: 32,
  NR_IOREQ_SERVER_PAGES: 33,
  VM_GENERATION_ID_ADDR: 34,
  ALTP2M: 35,
  X87_FIP_WIDTH: 36,
  VM86_TSS_SIZED: 37,
  MCA_CAP: 38,
});
export const HVM_NR_PARAMS = 39;
/** How HVM_PARAM_CALLBACK_IRQ delivers event upcalls: its bits 63:56. */
export const HVM_PARAM_CALLBACK_TYPE = table({ GSI: 0, PCI_INTX: 1, VECTOR: 2 });
export const HVM_PARAM_CALLBACK_IRQ_TYPE_MASK = u64(0xff000000, 0);
export const HVMPTM = table({
  delay_for_missed_ticks: 0,
  no_delay_for_missed_ticks: 1,
  no_missed_ticks_pending: 2,
  one_missed_tick_pending: 3,
});
