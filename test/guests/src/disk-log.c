/*
 * disk-log: writes numbered records to the domain's first block device for ever, some at a time, and says which of them are
 * safe: after "flushed N" every record up to N is on the disk, whatever happens to the host process. A record is one sector;
 * record n lies in sector n % sectors. At its start it reads the whole disk and says which record is the last one there.
 *
 * Requests are of 1, 3, 8 and 5 sectors, so that they cross whatever units the backend has; every third time a write barrier
 * takes the place of write and flush. rounds=N ends it after N times; so does an error.
 */
#include "../lib/guest.h"

#define xen_mb() memory_fence()
#define xen_rmb() memory_fence()
#define xen_wmb() memory_fence()
#include <xen/io/blkif.h>
#include <xen/io/xenbus.h>

#define RING_REF 9
#define DATA_REF 10
#define REQUESTS 4
#define SECTOR 512
#define WORDS (SECTOR / sizeof(u64))
#define MAGIC 0x64726f6365526b64ul

static char ring_page[PAGE_SIZE] PAGE_DATA;
static u64 data[REQUESTS][PAGE_SIZE / sizeof(u64)] PAGE_DATA;

static blkif_front_ring_t ring;
static evtchn_port_t port;
static char front[96], back[96];
static long sectors;
static unsigned under_way;

static long number(const char *text) {
  long value = 0;
  for (; *text >= '0' && *text <= '9'; text++) value = value * 10 + (*text - '0');
  return value;
}

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
  for (unsigned i = 0; i < REQUESTS; i++) grant_access(DATA_REF + i, peer, frame_of(data[i]), 0);
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

/* Puts a request of `count` sectors from or to data page `page`. */
static void submit(int operation, u64 sector, unsigned count, unsigned page) {
  blkif_request_t *request = RING_GET_REQUEST(&ring, ring.req_prod_pvt);
  memset(request, 0, sizeof(*request));
  request->operation = operation;
  request->nr_segments = count > 0;
  request->id = page;
  request->sector_number = sector;
  request->seg[0] = (struct blkif_request_segment){.gref = DATA_REF + page, .first_sect = 0, .last_sect = count - 1};
  ring.req_prod_pvt++;
  under_way++;
}

/* Sends what was put, and waits for all answers: 0, or the status of one that failed. */
static int collect(void) {
  int notify, more, status = 0;
  RING_PUSH_REQUESTS_AND_CHECK_NOTIFY(&ring, notify);
  if (notify) event_send(port);
  while (under_way > 0) {
    upcalls_off();
    RING_FINAL_CHECK_FOR_RESPONSES(&ring, more);
    if (!more) {
      block();
      continue;
    }
    upcalls_on();
    blkif_response_t *response = RING_GET_RESPONSE(&ring, ring.rsp_cons);
    if (response->status != 0) status = response->status;
    ring.rsp_cons++;
    under_way--;
  }
  upcalls_on();
  return status;
}

static void fill(u64 *record, u64 n) {
  record[0] = MAGIC;
  record[1] = n;
  for (unsigned i = 2; i < WORDS; i++) record[i] = n * 0x9e3779b97f4a7c15ul + i;
}

/* The record's number, 0 for an empty sector, -1 for anything else. */
static long check(const u64 *record, u64 sector) {
  u64 n = record[1];
  if (record[0] == 0 && n == 0) return 0;
  if (record[0] != MAGIC || n % sectors != sector) return -1;
  for (unsigned i = 2; i < WORDS; i++)
    if (record[i] != n * 0x9e3779b97f4a7c15ul + i) return -1;
  return n;
}

/* Reads the whole disk. */
static long find_last(void) {
  long last = 0, torn = 0;
  for (long sector = 0; sector < sectors;) {
    unsigned counts[REQUESTS] = {0};
    long first = sector;
    for (unsigned i = 0; i < REQUESTS && sector < sectors; i++) {
      counts[i] = sectors - sector < 8 ? sectors - sector : 8;
      submit(BLKIF_OP_READ, sector, counts[i], i);
      sector += counts[i];
    }
    int status = collect();
    if (status != 0) print("disk-log: read: status %d\n", status);
    for (unsigned i = 0; i < REQUESTS; i++)
      for (unsigned k = 0; k < counts[i]; k++) {
        long found = check(&data[i][k * WORDS], first++);
        if (found < 0) torn++;
        if (found > last) last = found;
      }
  }
  print("disk-log: %ld sectors, last record %ld, torn %ld\n", sectors, last, torn);
  return last;
}

int guest_main(void) {
  static const unsigned lengths[REQUESTS] = {1, 3, 8, 5};
  events_start();
  if (grants_start() != 0 || connect() != 0) {
    print("disk-log: no block device\n");
    return SHUTDOWN_poweroff;
  }
  sectors = node(back, "sectors", 0);
  u64 n = find_last();
  long rounds = option("rounds", 0);
  for (long round = 1; rounds == 0 || round <= rounds; round++) {
    int barrier = round % 3 == 0, status;
    for (unsigned i = 0; i < REQUESTS; i++) {
      u64 sector = (n + 1) % sectors;
      unsigned count = lengths[i];
      if (sector + count > (u64)sectors) count = sectors - sector;
      for (unsigned k = 0; k < count; k++) fill(&data[i][k * WORDS], ++n);
      submit(barrier && i == REQUESTS - 1 ? BLKIF_OP_WRITE_BARRIER : BLKIF_OP_WRITE, sector, count, i);
    }
    status = collect();
    if (status == 0 && !barrier) {
      submit(BLKIF_OP_FLUSH_DISKCACHE, 0, 0, 0);
      status = collect();
    }
    if (status != 0) {
      print("disk-log: status %d, nothing more is promised\n", status);
      break;
    }
    print("disk-log: flushed %lu\n", n);
  }
  return SHUTDOWN_poweroff;
}
