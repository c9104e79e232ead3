/*
 * hostile-rings: wild indices in the console and XenStore rings, and messages that break XenStore's rules. It prints by
 * console_io where it may, since it spoils its own console ring (and mends it before it prints). After an attack on the
 * store's ring it asks for the connection anew where the store offers that, and shows whether it answers; where it does not,
 * `attack=N` shows one attack each.
 */
#include "../lib/guest.h"

static void settle(void) { sleep_for(5000000); }

static void notify(void) { event_send(start_info->store_evtchn); }

static void show_ring(const char *attack) {
  settle();
  volatile struct xenstore_domain_interface *ring = xs_ring();
  if (ring->server_features & XENSTORE_SERVER_FEATURE_ERROR) print("%s: ring error %u\n", attack, ring->error);
  else print("%s: survived\n", attack);
}

/* A message whose header tells `length` bytes of payload, of which `sent` are there. */
static void raw_message(u32 type, u32 length, u32 sent) {
  volatile struct xenstore_domain_interface *ring = xs_ring();
  struct xsd_sockmsg header = {.type = type, .req_id = 77, .len = length};
  XENSTORE_RING_IDX produced = ring->req_prod;
  for (u32 i = 0; i < sizeof(header) + sent; i++)
    ring->req[MASK_XENSTORE_IDX(produced++)] = i < sizeof(header) ? ((char *)&header)[i] : 'x';
  memory_fence();
  ring->req_prod = produced;
  notify();
}

/* Whether the store answers again. */
static int reconnect(void) {
  volatile struct xenstore_domain_interface *ring = xs_ring();
  if (!(ring->server_features & XENSTORE_SERVER_FEATURE_RECONNECTION)) {
    print("reconnect: the store does not offer it\n");
    return 0;
  }
  ring->connection = XENSTORE_RECONNECT;
  notify();
  for (int tries = 0; ring->connection != XENSTORE_CONNECTED; tries++) {
    if (tries == 20) {
      print("reconnect: no answer\n");
      return 0;
    }
    settle();
  }
  print("reconnect: done, ring error %u\n", ring->error);
  int result = xs_read("domid");
  print("the store answers: %s\n", result == 0 ? "yes" : xs_answer);
  return 1;
}

static void store_attacks(long only) {
  volatile struct xenstore_domain_interface *ring = xs_ring();
  if (only == 0 || only == 7) {
    int result = xs_request_1(99, 0, "x");
    print("request that is none: %s\n", result == 0 ? "accepted" : xs_answer);
    result = xs_request_1(XS_INTRODUCE, 0, "1");
    print("request that only domain 0 may make: %s\n", result == 0 ? "accepted" : xs_answer);
    static char path[4096];
    memset(path, 'a', sizeof(path) - 1);
    path[0] = '/';
    result = xs_read(path);
    print("path of 4095 characters: %s\n", result == 0 ? "accepted" : xs_answer);
    result = xs_request(XS_WRITE, 0, 1, (const char *const[]){"no-zero"}, 7);
    print("write without a value's place: %s\n", result == 0 ? "accepted" : xs_answer);
  }
  if (only == 0 || only == 1) {
    raw_message(XS_READ, 4097, 0);
    show_ring("payload of 4097 bytes");
    if (!reconnect()) return;
  }
  if (only == 0 || only == 2) {
    raw_message(XS_WRITE, 0xffffffffu, 0);
    show_ring("payload of 4294967295 bytes");
    if (!reconnect()) return;
  }
  if (only == 0 || only == 3) {
    ring->req_prod = ring->req_cons + XENSTORE_RING_SIZE + 1;
    notify();
    show_ring("request producer too far");
    if (!reconnect()) return;
  }
  if (only == 0 || only == 4) {
    ring->req_cons += 0x40000000;
    notify();
    show_ring("request consumer moved by us");
    if (!reconnect()) return;
  }
  if (only == 0 || only == 5) {
    ring->rsp_cons = ring->rsp_prod + 5;
    raw_message(XS_READ, 6, 6);
    show_ring("response consumer beyond the producer");
    if (!reconnect()) return;
  }
  if (only == 0 || only == 6) {
    ring->rsp_prod += 0x10000000;
    raw_message(XS_READ, 6, 6);
    show_ring("response producer moved by us");
    if (!reconnect()) return;
  }
}

static void console_attacks(long only) {
  volatile struct xencons_interface *ring = address_of_frame(start_info->console.domU.mfn);
  static const u32 offsets[] = {2049, 0x7fffffff, 0x80000000u, 0xffffffffu};
  for (size_t i = 0; i < ARRAY_LENGTH(offsets); i++) {
    if (only != 0 && only != 10 + (long)i) continue;
    XENCONS_RING_IDX good = ring->out_prod;
    ring->out_prod = ring->out_cons + offsets[i];
    event_send(start_info->console.domU.evtchn);
    settle();
    print("console output producer %u ahead: survived\n", offsets[i]);
    ring->out_prod = ring->out_cons = good;
    ring->in_cons = ring->in_prod + offsets[i];
    event_send(start_info->console.domU.evtchn);
    settle();
    print("console input consumer %u ahead: survived\n", offsets[i]);
    ring->in_cons = ring->in_prod;
  }
}

int guest_main(void) {
  if (hypercall(__HYPERVISOR_console_io, CONSOLEIO_write, 0, "") == 0) console_choose(CONSOLE_IO);
  events_start();
  long only = option("attack", 0);
  if (start_info->console.domU.mfn != 0) console_attacks(only);
  if (start_info->store_mfn != 0) store_attacks(only);
  print("hostile-rings: done\n");
  return SHUTDOWN_poweroff;
}
