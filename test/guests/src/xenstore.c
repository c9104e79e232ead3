/*
 * xenstore: browses this domain's part of XenStore over the ring: a tree, a write and its watch, a transaction, errors.
 */
#include "../lib/guest.h"

static void show_answer(const char *what, int result) {
  print("xenstore: %s: %s\n", what, result == 0 ? (xs_answer_length == 0 ? "(empty)" : xs_answer) : xs_answer);
}

/* Prints the nodes below `path` with their values, parents first. */
static void tree(char *path, size_t length, size_t size, int depth) {
  if (xs_directory(path) != 0) return;
  static char names[5][1024];
  char *mine = names[depth];
  size_t total = xs_answer_length < sizeof(names[0]) ? xs_answer_length : sizeof(names[0]);
  memcpy(mine, xs_answer, total);
  for (size_t at = 0; at < total; at += strlen(mine + at) + 1) {
    if (length + strlen(mine + at) + 2 > size) continue;
    size_t longer = length + format_to(path + length, size - length, "/%s", mine + at);
    if (xs_read(path) == 0) print("xenstore:   %s = \"%s\"\n", path, xs_answer);
    if (depth < 4) tree(path, longer, size, depth + 1);
    path[length] = 0;
  }
}

int guest_main(void) {
  char path[256];
  size_t length = format_to(path, sizeof(path), "/local/domain/%u", own_domid());
  print("xenstore: this is %s\n", path);
  tree(path, length, sizeof(path), 0);

  show_answer("read name", xs_read("name"));
  xs_request(XS_WATCH, 0, 2, (const char *const[]){"data", "our-token"}, XS_WITH_NUL);
  xs_wait_event();
  print("xenstore: watch event: %s, token %s\n", xs_event, xs_event + strlen(xs_event) + 1);
  xs_event_length = 0;
  show_answer("write data/greeting", xs_write("data/greeting", "hello"));
  xs_wait_event();
  print("xenstore: watch event: %s, token %s\n", xs_event, xs_event + strlen(xs_event) + 1);
  xs_event_length = 0;
  show_answer("read data/greeting", xs_read("data/greeting"));

  xs_request_1(XS_TRANSACTION_START, 0, "");
  u32 transaction = 0;
  for (const char *at = xs_answer; *at >= '0' && *at <= '9'; at++) transaction = transaction * 10 + (*at - '0');
  xs_request(XS_WRITE, transaction, 2, (const char *const[]){"data/greeting", "changed"}, 7);
  show_answer("read outside the transaction", xs_read("data/greeting"));
  show_answer("end the transaction", xs_request_1(XS_TRANSACTION_END, transaction, "T"));
  show_answer("read after it", xs_read("data/greeting"));

  show_answer("read what is not there", xs_read("data/nothing"));
  show_answer("read a path that is none", xs_read("data//x"));
  show_answer("write where we may not", xs_write("/local/domain/0/name", "me"));
  show_answer("remove data/greeting", xs_request_1(XS_RM, 0, "data/greeting"));
  show_answer("unwatch", xs_request(XS_UNWATCH, 0, 2, (const char *const[]){"data", "our-token"}, XS_WITH_NUL));
  print("xenstore: done\n");
  return SHUTDOWN_poweroff;
}
