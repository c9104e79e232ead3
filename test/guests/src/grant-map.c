/*
 * grant-map: waits for the grant that domain `peer=N` (1) publishes, maps it, reads it, writes an answer, tries what a
 * grant does not allow, and unmaps it. Its partner is grant-offer.
 */
#include "../lib/guest.h"

/* Mappings replace those of these two pages. */
static volatile char window[PAGE_SIZE] PAGE_DATA;
static volatile char second[PAGE_SIZE] PAGE_DATA;

static struct gnttab_map_grant_ref map(volatile char *at, domid_t peer, grant_ref_t ref, u32 flags) {
  struct gnttab_map_grant_ref operation = {.host_addr = (u64)at, .flags = GNTMAP_host_map | flags, .ref = ref, .dom = peer};
  hypercall(__HYPERVISOR_grant_table_op, GNTTABOP_map_grant_ref, &operation, 1);
  return operation;
}

static int unmap(volatile char *at, grant_handle_t handle) {
  struct gnttab_unmap_grant_ref operation = {.host_addr = (u64)at, .handle = handle};
  hypercall(__HYPERVISOR_grant_table_op, GNTTABOP_unmap_grant_ref, &operation, 1);
  return operation.status;
}

int guest_main(void) {
  events_start();
  domid_t peer = option("peer", 1);
  char path[64];
  format_to(path, sizeof(path), "/local/domain/%u/data/grant-ref", peer);
  while (xs_read(path) != 0) sleep_for(1000000);
  grant_ref_t ref = 0;
  for (const char *at = xs_answer; *at >= '0' && *at <= '9'; at++) ref = ref * 10 + (*at - '0');

  struct gnttab_map_grant_ref first = map(window, peer, ref, 0);
  print("grant-map: map reference %u of domain %u: status %d\n", ref, peer, first.status);
  if (first.status != GNTST_okay) return SHUTDOWN_crash;
  print("grant-map: the page says \"%s\"\n", (const char *)window);
  struct gnttab_map_grant_ref reader = map(second, peer, ref, GNTMAP_readonly);
  print("grant-map: map it again, read-only: status %d, the same content: %s\n", reader.status,
        reader.status == GNTST_okay && second[0] == window[0] ? "yes" : "no");
  if (reader.status == GNTST_okay) {
    long wrote = try_write((volatile u64 *)(second + 8), 0);
    print("grant-map: write through the read-only mapping: %s\n", wrote == 0 ? "went through" : "fault");
    print("grant-map: unmap it: status %d\n", unmap(second, reader.handle));
  }
  format_to((char *)window + 2049, 64, "nswer of domain %u", own_domid());
  memory_fence();
  window[2048] = 'a';
  while (window[4095] == 0) sleep_for(1000000);
  print("grant-map: unmap: status %d\n", unmap(window, first.handle));
  print("grant-map: unmap again: status %d\n", unmap(window, first.handle));
  print("grant-map: touch it after that: %s\n", try_write((volatile u64 *)window, 0) == 0 ? "went through" : "fault");
  return SHUTDOWN_poweroff;
}
