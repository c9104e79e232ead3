/*
 * The grant table, version 1: an array of entries that this domain writes and Xen reads. An entry becomes valid with its
 * flags, which are written last; it can be withdrawn while Xen has not set reading or writing in them.
 */
#include "guest.h"

static char table_page[PAGE_SIZE] PAGE_DATA;
grant_entry_v1_t *grant_table = (grant_entry_v1_t *)table_page;

int grants_start(void) {
  xen_pfn_t frame = 0;
  struct gnttab_setup_table setup = {.dom = DOMID_SELF, .nr_frames = 1};
  set_xen_guest_handle(setup.frame_list, &frame);
  long result = hypercall(__HYPERVISOR_grant_table_op, GNTTABOP_setup_table, &setup, 1);
  if (result != 0 || setup.status != GNTST_okay) return -1;
  return map_frame(table_page, frame, PTE_FLAGS) == 0 ? 0 : -1;
}

void grant_access(grant_ref_t ref, domid_t to, u64 mfn, unsigned flags) {
  volatile grant_entry_v1_t *entry = &grant_table[ref];
  entry->domid = to;
  entry->frame = (u32)mfn;
  memory_fence();
  entry->flags = GTF_permit_access | flags;
}

int grant_withdraw(grant_ref_t ref) {
  volatile uint16_t *flags = &grant_table[ref].flags;
  uint16_t seen = *flags;
  do {
    if (seen & (GTF_reading | GTF_writing)) return 0;
  } while (!__atomic_compare_exchange_n(flags, &seen, 0, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST));
  return 1;
}
