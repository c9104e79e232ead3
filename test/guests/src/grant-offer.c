/*
 * grant-offer: writes a page, grants it to the domain `peer=N` (2) and publishes the reference in XenStore under
 * data/grant-ref; waits for the peer's answer in the page, then withdraws the grant. Its partner is grant-map.
 */
#include "../lib/guest.h"

#define REF 8
static volatile char page[PAGE_SIZE] PAGE_DATA;

int guest_main(void) {
  events_start();
  domid_t peer = option("peer", 2), self = own_domid();
  if (grants_start() != 0) {
    print("grant-offer: no grant table\n");
    return SHUTDOWN_crash;
  }
  format_to((char *)page, 64, "a page of domain %u", self);
  grant_access(REF, peer, frame_of(page), 0);
  char value[16];
  format_to(value, sizeof(value), "%u", REF);
  xs_write("data/grant-ref", value);
  print("grant-offer: granted a page to domain %u as reference %s\n", peer, value);
  /* Repeated, because the store forgets permissions of a domain that is not there yet. */
  while (page[2048] == 0) {
    xs_permissions("data/grant-ref", self, peer);
    sleep_for(5000000);
  }
  print("grant-offer: withdraw while it is mapped: %s\n", grant_withdraw(REF) ? "done" : "refused");
  memory_fence();
  page[4095] = 1;
  print("grant-offer: the peer wrote \"%s\"\n", (const char *)page + 2048);
  while (!grant_withdraw(REF)) sleep_for(1000000);
  print("grant-offer: withdrawn\n");
  xs_request_1(XS_RM, 0, "data/grant-ref");
  return SHUTDOWN_poweroff;
}
