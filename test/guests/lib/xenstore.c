/*
 * A client of XenStore over the domain's ring: one request at a time, answers and watch events told apart by their type.
 * Ring: requests at 0, answers at 1024, free-running indices; an event on the store's port tells either side of a change.
 */
#include "guest.h"

char xs_answer[XS_ANSWER + 1];
size_t xs_answer_length;
char xs_event[XS_ANSWER + 1];
size_t xs_event_length;

volatile struct xenstore_domain_interface *xs_ring(void) { return address_of_frame(start_info->store_mfn); }

static void wait(void) { event_wait(start_info->store_evtchn); }

static void send_bytes(const char *from, size_t length) {
  volatile struct xenstore_domain_interface *ring = xs_ring();
  while (length > 0) {
    event_clear(start_info->store_evtchn);
    XENSTORE_RING_IDX produced = ring->req_prod;
    size_t room = XENSTORE_RING_SIZE - (produced - ring->req_cons);
    if (room == 0) {
      wait();
      continue;
    }
    for (; room > 0 && length > 0; room--, length--) ring->req[MASK_XENSTORE_IDX(produced++)] = *from++;
    memory_fence();
    ring->req_prod = produced;
    event_send(start_info->store_evtchn);
  }
}

/* Takes `length` bytes; those beyond `size` are dropped. */
static void receive_bytes(char *into, size_t length, size_t size) {
  volatile struct xenstore_domain_interface *ring = xs_ring();
  for (size_t at = 0; at < length;) {
    event_clear(start_info->store_evtchn);
    XENSTORE_RING_IDX consumed = ring->rsp_cons, produced = ring->rsp_prod;
    memory_fence();
    if (consumed == produced) {
      wait();
      continue;
    }
    for (; consumed != produced && at < length; at++, consumed++)
      if (at < size) into[at] = ring->rsp[MASK_XENSTORE_IDX(consumed)];
    memory_fence();
    ring->rsp_cons = consumed;
    event_send(start_info->store_evtchn);
  }
}

/* Receives one message; its type. */
static u32 receive(struct xsd_sockmsg *header) {
  receive_bytes((char *)header, sizeof(*header), sizeof(*header));
  char *into = header->type == XS_WATCH_EVENT ? xs_event : xs_answer;
  size_t length = header->len < XS_ANSWER ? header->len : XS_ANSWER;
  receive_bytes(into, header->len, XS_ANSWER);
  into[length] = 0;
  if (header->type == XS_WATCH_EVENT) xs_event_length = length;
  else xs_answer_length = length;
  return header->type;
}

int xs_request(u32 type, u32 transaction, unsigned count, const char *const *parts, size_t last_length) {
  static u32 next_request;
  struct xsd_sockmsg header = {.type = type, .req_id = ++next_request, .tx_id = transaction};
  for (unsigned i = 0; i < count; i++)
    header.len += i + 1 < count || last_length == XS_WITH_NUL ? strlen(parts[i]) + 1 : last_length;
  send_bytes((char *)&header, sizeof(header));
  for (unsigned i = 0; i < count; i++)
    send_bytes(parts[i], i + 1 < count || last_length == XS_WITH_NUL ? strlen(parts[i]) + 1 : last_length);
  do receive(&header);
  while (header.type == XS_WATCH_EVENT || header.req_id != next_request);
  return header.type == XS_ERROR ? -1 : 0;
}

int xs_request_1(u32 type, u32 transaction, const char *text) {
  return xs_request(type, transaction, 1, (const char *const[]){text}, XS_WITH_NUL);
}

int xs_read(const char *path) { return xs_request_1(XS_READ, 0, path); }

int xs_directory(const char *path) { return xs_request_1(XS_DIRECTORY, 0, path); }

int xs_write(const char *path, const char *value) {
  return xs_request(XS_WRITE, 0, 2, (const char *const[]){path, value}, strlen(value));
}

int xs_permissions(const char *path, domid_t owner, domid_t reader) {
  char first[16], second[16];
  format_to(first, sizeof(first), "n%u", owner);
  format_to(second, sizeof(second), "r%u", reader);
  return xs_request(XS_SET_PERMS, 0, 3, (const char *const[]){path, first, second}, XS_WITH_NUL);
}

void xs_wait_event(void) {
  struct xsd_sockmsg header;
  while (xs_event_length == 0) receive(&header);
}

domid_t own_domid(void) {
  if (xs_read("domid") != 0) return 0;
  domid_t id = 0;
  for (const char *at = xs_answer; *at >= '0' && *at <= '9'; at++) id = id * 10 + (*at - '0');
  return id;
}
