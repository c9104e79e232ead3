/*
 * blk: a frontend for the domain's first block device. It finds the device in XenStore, grants a ring, and reads; where the
 * disk may be written, it writes the second 4096 bytes, flushes, and reads them back; then it asks for what a backend
 * must refuse, and closes the device.
 */
#include "../lib/guest.h"

#define xen_mb() memory_fence()
#define xen_rmb() memory_fence()
#define xen_wmb() memory_fence()
#include <xen/io/blkif.h>
#include <xen/io/xenbus.h>

#define RING_REF 9
#define DATA_REF 10

static char ring_page[PAGE_SIZE] PAGE_DATA;
static char data[PAGE_SIZE] PAGE_DATA;

static blkif_front_ring_t ring;
static evtchn_port_t port;
static char front[96], back[96];

static long number(const char *text) {
  long value = 0;
  for (; *text >= '0' && *text <= '9'; text++) value = value * 10 + (*text - '0');
  return value;
}

/* The value of a node in `folder` as a number, or `otherwise`. */
static long node(const char *folder, const char *name, long otherwise) {
  char path[160];
  format_to(path, sizeof(path), "%s/%s", folder, name);
  return xs_read(path) == 0 && xs_answer_length > 0 ? number(xs_answer) : otherwise;
}

static void set_node(const char *name, const char *format, u32 value) {
  char path[160], text[32];
  format_to(path, sizeof(path), "%s/%s", front, name);
  if (format_to(text, sizeof(text), format, value) > 0) xs_write(path, text);
}

static void await_backend(int state) {
  while (node(back, "state", 0) < state) sleep_for(1000000);
}

static void on_event(evtchn_port_t which) { (void)which; }

/* One request of up to 8 sectors to or from the data page; the response's status. */
static int transfer(int operation, u64 sector, unsigned first, unsigned last, grant_ref_t ref) {
  static u64 id;
  blkif_request_t *request = RING_GET_REQUEST(&ring, ring.req_prod_pvt);
  memset(request, 0, sizeof(*request));
  request->operation = operation;
  request->nr_segments = operation == BLKIF_OP_FLUSH_DISKCACHE ? 0 : 1;
  request->id = ++id;
  request->sector_number = sector;
  request->seg[0] = (struct blkif_request_segment){.gref = ref, .first_sect = first, .last_sect = last};
  ring.req_prod_pvt++;
  int notify, more;
  RING_PUSH_REQUESTS_AND_CHECK_NOTIFY(&ring, notify);
  if (notify) event_send(port);
  upcalls_off();
  for (;;) {
    RING_FINAL_CHECK_FOR_RESPONSES(&ring, more);
    if (more) break;
    block();
    upcalls_off();
  }
  upcalls_on();
  blkif_response_t *response = RING_GET_RESPONSE(&ring, ring.rsp_cons);
  int status = response->id == id ? response->status : 99;
  ring.rsp_cons++;
  return status;
}

static int connect(void) {
  if (xs_directory("device/vbd") != 0 || xs_answer_length == 0) return -1;
  format_to(front, sizeof(front), "device/vbd/%s", xs_answer);
  char path[160];
  format_to(path, sizeof(path), "%s/backend", front);
  if (xs_read(path) != 0) return -1;
  format_to(back, sizeof(back), "%s", xs_answer);
  domid_t peer = node(front, "backend-id", 0);
  await_backend(XenbusStateInitWait);

  SHARED_RING_INIT((blkif_sring_t *)ring_page);
  FRONT_RING_INIT(&ring, (blkif_sring_t *)ring_page, PAGE_SIZE);
  grant_access(RING_REF, peer, frame_of(ring_page), 0);
  grant_access(DATA_REF, peer, frame_of(data), 0);
  struct evtchn_alloc_unbound unbound = {.dom = DOMID_SELF, .remote_dom = peer};
  if (event_op(EVTCHNOP_alloc_unbound, &unbound) != 0) return -1;
  port = unbound.port;
  event_bind(port, on_event);
  set_node("ring-ref", "%u", RING_REF);
  set_node("event-channel", "%u", port);
  set_node("protocol", "x86_64-abi", 0);
  set_node("state", "%u", XenbusStateInitialised);
  await_backend(XenbusStateConnected);
  set_node("state", "%u", XenbusStateConnected);
  return 0;
}

static u32 checksum(void) {
  u32 sum = 1;
  for (size_t i = 0; i < PAGE_SIZE; i++) sum = sum * 31 + (unsigned char)data[i];
  return sum;
}

int guest_main(void) {
  events_start();
  if (grants_start() != 0 || connect() != 0) {
    print("blk: no block device\n");
    return SHUTDOWN_poweroff;
  }
  long sectors = node(back, "sectors", 0), info = node(back, "info", 0);
  print("blk: %s: %ld sectors of %ld bytes, info %lx\n", front, sectors, node(back, "sector-size", 512), info);

  print("blk: read 8 sectors: status %d", transfer(BLKIF_OP_READ, 0, 0, 7, DATA_REF));
  print(", checksum %08x\n", checksum());
  memset(data, 0, sizeof(data));
  print("blk: read sector 1 into the page's last place: status %d", transfer(BLKIF_OP_READ, 1, 7, 7, DATA_REF));
  int clean = 1;
  for (size_t i = 0; i < 7 * 512; i++) clean &= data[i] == 0;
  print(", the rest of the page is %s\n", clean ? "untouched" : "SPOILT");

  for (size_t i = 0; i < sizeof(data); i++) data[i] = (char)(i * 7);
  u32 written = checksum();
  print("blk: write 8 sectors: status %d\n", transfer(BLKIF_OP_WRITE, 8, 0, 7, DATA_REF));
  if (!(info & VDISK_READONLY)) {
    if (node(back, "feature-flush-cache", 0)) print("blk: flush: status %d\n", transfer(BLKIF_OP_FLUSH_DISKCACHE, 0, 0, 0, 0));
    memset(data, 0, sizeof(data));
    print("blk: read them back: status %d", transfer(BLKIF_OP_READ, 8, 0, 7, DATA_REF));
    print(", %s\n", checksum() == written ? "the same" : "DIFFERENT");
  }

  print("blk: read beyond the end: status %d\n", transfer(BLKIF_OP_READ, sectors, 0, 7, DATA_REF));
  print("blk: read at sector 2^63: status %d\n", transfer(BLKIF_OP_READ, 1ul << 63, 0, 7, DATA_REF));
  print("blk: read into a page that is not granted: status %d\n", transfer(BLKIF_OP_READ, 0, 0, 7, 100));
  print("blk: read sectors 7 to 3 of a page: status %d\n", transfer(BLKIF_OP_READ, 0, 7, 3, DATA_REF));
  print("blk: read to the page's ninth sector: status %d\n", transfer(BLKIF_OP_READ, 0, 0, 8, DATA_REF));
  print("blk: an operation that is none: status %d\n", transfer(99, 0, 0, 7, DATA_REF));

  set_node("state", "%u", XenbusStateClosing);
  await_backend(XenbusStateClosing);
  set_node("state", "%u", XenbusStateClosed);
  await_backend(XenbusStateClosed);
  print("blk: closed, ring withdrawn: %s\n", grant_withdraw(RING_REF) ? "yes" : "no");
  return SHUTDOWN_poweroff;
}
