/*
 * Xen's interface as a RISC-V domain uses it (arch/riscv64/README.md): hypercalls by ecall, the shared info page, the upcall as a local
 * interrupt, the console and XenStore rings found by HVM parameters, events, a timer, and with `peer=N role=offer|map` on the command line a page
 * that one domain grants and the other maps.
 *
 * Xen's headers know no RISC-V yet. Where arch-riscv.h is silent the port follows Arm, so they are read as for Arm (build.ts).
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <xen/xen.h>
#include <xen/event_channel.h>
#include <xen/grant_table.h>
#include <xen/hvm/hvm_op.h>
#include <xen/hvm/params.h>
#include <xen/io/console.h>
#include <xen/io/xs_wire.h>
#include <xen/memory.h>
#include <xen/sched.h>
#include <xen/vcpu.h>
#include <xen/version.h>

typedef uint64_t u64;
typedef uint32_t u32;

#define PAGE 4096ul
#define EXTENSION_XEN 0x0A000007ul
#define UPCALL 16
/* Guest-physical addresses outside of RAM where nothing is: the guest's choice. */
#define GRANT_TABLE 0x38000000ul
#define SHARED_INFO 0x3a000000ul
#define MAPPED 0x3b000000ul

#define MEMORY_BARRIER() __asm__ volatile("fence" ::: "memory")

static long hypercall(u64 nr, u64 a, u64 b, u64 c) {
  register u64 a0 __asm__("a0") = a;
  register u64 a1 __asm__("a1") = b;
  register u64 a2 __asm__("a2") = c;
  register u64 a6 __asm__("a6") = nr;
  register u64 a7 __asm__("a7") = EXTENSION_XEN;
  __asm__ volatile("ecall" : "+r"(a0) : "r"(a1), "r"(a2), "r"(a6), "r"(a7) : "memory");
  return (long)a0;
}

/* The C compiler calls these. */
void *memcpy(void *to, const void *from, size_t n) {
  char *t = to;
  for (const char *f = from; n > 0; n--) *t++ = *f++;
  return to;
}
void *memset(void *to, int value, size_t n) {
  for (char *t = to; n > 0; n--) *t++ = (char)value;
  return to;
}
static size_t length(const char *text) {
  size_t n = 0;
  while (text[n] != 0) n++;
  return n;
}
static int starts(const char *text, const char *with) {
  while (*with != 0)
    if (*text++ != *with++) return 0;
  return 1;
}

static volatile struct shared_info *const shared = (volatile struct shared_info *)SHARED_INFO;
static volatile struct xencons_interface *console;
static evtchn_port_t console_port, store_port;

/* Events. */

static volatile u32 arrived[64];
static volatile u32 upcalls;

void on_trap(u64 cause, u64 where);
static void shutdown(u32 reason) {
  struct sched_shutdown argument = {.reason = reason};
  hypercall(__HYPERVISOR_sched_op, SCHEDOP_shutdown, (u64)&argument, 0);
}

static void event_send(evtchn_port_t port) {
  struct evtchn_send argument = {.port = port};
  hypercall(__HYPERVISOR_event_channel_op, EVTCHNOP_send, (u64)&argument, 0);
}

static void print(const char *format, ...);

void on_trap(u64 cause, u64 where) {
  if (cause != (1ul << 63 | UPCALL)) {
    print("a trap: cause %u at %u\n", (u32)cause, (u32)where);
    shutdown(SHUTDOWN_crash);
  }
  volatile struct vcpu_info *info = &shared->vcpu_info[0];
  upcalls++;
  info->evtchn_upcall_pending = 0;
  MEMORY_BARRIER();
  u64 selector = __atomic_exchange_n(&info->evtchn_pending_sel, 0, __ATOMIC_SEQ_CST);
  if ((selector & 1) == 0) return;
  u64 pending = shared->evtchn_pending[0] & ~shared->evtchn_mask[0];
  for (u32 port = 0; port < 64; port++)
    if ((pending >> port & 1) != 0) {
      __atomic_fetch_and(&shared->evtchn_pending[0], ~(1ul << port), __ATOMIC_SEQ_CST);
      arrived[port]++;
    }
}

/* Waits until an event of a port has arrived since `seen` was read. Interrupts are off between the look and the wait, which ends for one that is pending. */
static void wait_for(evtchn_port_t port, u32 seen) {
  while (arrived[port] == seen) {
    __asm__ volatile("csrci sstatus, 2");
    if (arrived[port] == seen) __asm__ volatile("wfi");
    __asm__ volatile("csrsi sstatus, 2" ::: "memory");
  }
}

/* Printing: by the console's ring, before it is known by Xen. */

static void put(const char *text, size_t count) {
  if (console == NULL) {
    hypercall(__HYPERVISOR_console_io, CONSOLEIO_write, count, (u64)text);
    return;
  }
  while (count > 0) {
    u32 seen = arrived[console_port];
    XENCONS_RING_IDX produced = console->out_prod;
    size_t room = sizeof(console->out) - (produced - console->out_cons);
    if (room == 0) {
      wait_for(console_port, seen);
      continue;
    }
    for (; room > 0 && count > 0; room--, count--) console->out[MASK_XENCONS_IDX(produced++, console->out)] = *text++;
    MEMORY_BARRIER();
    console->out_prod = produced;
    event_send(console_port);
  }
}

/* %s text, %u unsigned, %d signed. */
static size_t format_into(char *into, size_t size, const char *format, va_list arguments) {
  size_t at = 0;
  for (; *format != 0; format++) {
    char digits[24];
    const char *piece = digits;
    if (*format != '%') {
      digits[0] = *format;
      digits[1] = 0;
    } else if (*++format == 's') piece = va_arg(arguments, const char *);
    else {
      long value = *format == 'd' ? va_arg(arguments, int) : (long)va_arg(arguments, u32);
      u64 rest = value < 0 ? -(u64)value : (u64)value;
      char *digit = digits + sizeof(digits);
      *--digit = 0;
      do *--digit = '0' + rest % 10;
      while ((rest /= 10) > 0);
      if (value < 0) *--digit = '-';
      piece = digit;
    }
    for (; *piece != 0 && at + 1 < size; piece++) into[at++] = *piece;
  }
  into[at] = 0;
  return at;
}

static void print(const char *format, ...) {
  char text[256];
  va_list arguments;
  va_start(arguments, format);
  put(text, format_into(text, sizeof(text), format, arguments));
  va_end(arguments);
}

static void text_of(char *into, size_t size, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  format_into(into, size, format, arguments);
  va_end(arguments);
}

static void expect(const char *what, long answer) {
  if (answer >= 0) return;
  print("%s: %d\n", what, (int)answer);
  shutdown(SHUTDOWN_crash);
}

/* XenStore. */

static volatile struct xenstore_domain_interface *store;
static char answer[1024];
static char event[256];

static void store_send(const void *from, size_t count) {
  for (const char *text = from; count > 0;) {
    u32 seen = arrived[store_port];
    XENSTORE_RING_IDX produced = store->req_prod;
    size_t room = XENSTORE_RING_SIZE - (produced - store->req_cons);
    if (room == 0) {
      wait_for(store_port, seen);
      continue;
    }
    for (; room > 0 && count > 0; room--, count--) store->req[MASK_XENSTORE_IDX(produced++)] = *text++;
    MEMORY_BARRIER();
    store->req_prod = produced;
    event_send(store_port);
  }
}

static void store_receive(void *into, size_t count, size_t size) {
  for (size_t at = 0; at < count;) {
    u32 seen = arrived[store_port];
    XENSTORE_RING_IDX consumed = store->rsp_cons, produced = store->rsp_prod;
    MEMORY_BARRIER();
    if (consumed == produced) {
      wait_for(store_port, seen);
      continue;
    }
    for (; consumed != produced && at < count; at++, consumed++)
      if (at < size) ((char *)into)[at] = store->rsp[MASK_XENSTORE_IDX(consumed)];
    MEMORY_BARRIER();
    store->rsp_cons = consumed;
    event_send(store_port);
  }
}

static u32 store_message(struct xsd_sockmsg *header) {
  store_receive(header, sizeof(*header), sizeof(*header));
  char *into = header->type == XS_WATCH_EVENT ? event : answer;
  size_t size = header->type == XS_WATCH_EVENT ? sizeof(event) : sizeof(answer);
  store_receive(into, header->len, size - 1);
  into[header->len < size ? header->len : size - 1] = 0;
  return header->type;
}

/* A request of texts, each with its end but the last where `bare`. */
static int store_request(u32 type, const char *one, const char *two, const char *three, int bare) {
  const char *texts[] = {one, two, three};
  struct xsd_sockmsg header = {.type = type, .req_id = 7};
  u32 count = three != NULL ? 3 : two != NULL ? 2 : 1;
  for (u32 i = 0; i < count; i++) header.len += length(texts[i]) + (bare && i + 1 == count ? 0 : 1);
  store_send(&header, sizeof(header));
  for (u32 i = 0; i < count; i++) store_send(texts[i], length(texts[i]) + (bare && i + 1 == count ? 0 : 1));
  while (store_message(&header) == XS_WATCH_EVENT) {}
  return header.type == XS_ERROR ? -1 : 0;
}
static int store_read(const char *path) { return store_request(XS_READ, path, NULL, NULL, 0); }
static int store_write(const char *path, const char *value) { return store_request(XS_WRITE, path, value, NULL, 1); }

static u32 number(const char *text) {
  u32 value = 0;
  for (; *text >= '0' && *text <= '9'; text++) value = value * 10 + (u32)(*text - '0');
  return value;
}

/* The command line, out of the device tree: the value of the property bootargs. */

static u32 big(const u32 *at) {
  const unsigned char *byte = (const unsigned char *)at;
  return (u32)byte[0] << 24 | (u32)byte[1] << 16 | (u32)byte[2] << 8 | byte[3];
}

static const char *command_line(const u32 *tree) {
  const char *strings = (const char *)tree + big(tree + 3);
  for (const u32 *at = tree + big(tree + 2) / 4;;) switch (big(at++)) {
      case 1:
        at += length((const char *)at) / 4 + 1;
        break;
      case 3: {
        if (starts(strings + big(at + 1), "bootargs")) return (const char *)(at + 2);
        at += 2 + (big(at) + 3) / 4;
        break;
      }
      case 2:
      case 4:
        break;
      default:
        return "";
    }
}

static const char *option(const char *line, const char *name) {
  for (; *line != 0; line++)
    if (starts(line, name)) return line + length(name);
  return NULL;
}

/* Pages. */

static u64 parameter(u32 index) {
  struct xen_hvm_param argument = {.domid = DOMID_SELF, .index = index};
  expect("get_param", hypercall(__HYPERVISOR_hvm_op, HVMOP_get_param, (u64)&argument, 0));
  return argument.value;
}

static void add_to_physmap(u32 space, u64 index, u64 address) {
  struct xen_add_to_physmap argument = {.domid = DOMID_SELF, .space = space, .idx = index, .gpfn = address / PAGE};
  expect("add_to_physmap", hypercall(__HYPERVISOR_memory_op, XENMEM_add_to_physmap, (u64)&argument, 0));
}

static char offered[PAGE] __attribute__((aligned(4096)));

static void offer(domid_t self, domid_t peer) {
  char path[64], value[16], reader[16], owner[16];
  volatile struct grant_entry_v1 *table = (volatile struct grant_entry_v1 *)GRANT_TABLE;
  struct evtchn_alloc_unbound channel = {.dom = DOMID_SELF, .remote_dom = peer};
  text_of(offered, sizeof(offered), "a page of domain %u", self);
  add_to_physmap(XENMAPSPACE_grant_table, 0, GRANT_TABLE);
  table[8].domid = peer;
  table[8].frame = (u32)((u64)offered / PAGE);
  MEMORY_BARRIER();
  table[8].flags = GTF_permit_access;
  expect("alloc_unbound", hypercall(__HYPERVISOR_event_channel_op, EVTCHNOP_alloc_unbound, (u64)&channel, 0));
  u32 seen = arrived[channel.port];
  text_of(path, sizeof(path), "/local/domain/%u/data/offer", self);
  text_of(value, sizeof(value), "8 %u", channel.port);
  text_of(owner, sizeof(owner), "n%u", self);
  text_of(reader, sizeof(reader), "r%u", peer);
  expect("write", store_write(path, ""));
  expect("set_perms", store_request(XS_SET_PERMS, path, owner, reader, 0));
  expect("write", store_write(path, value));
  print("grants: offered, the peer wrote ");
  wait_for(channel.port, seen);
  print("\"%s\", flags %u\n", offered + 64, table[8].flags);
  /* Until it has let go. */
  while ((table[8].flags & (GTF_reading | GTF_writing)) != 0) hypercall(__HYPERVISOR_sched_op, SCHEDOP_yield, 0, 0);
  table[8].flags = 0;
  print("grants: taken back\n");
}

static void map(domid_t self, domid_t peer) {
  char path[64];
  text_of(path, sizeof(path), "/local/domain/%u/data/offer", peer);
  while (store_read(path) != 0 || answer[0] != '8') hypercall(__HYPERVISOR_sched_op, SCHEDOP_yield, 0, 0);
  struct evtchn_bind_interdomain channel = {.remote_dom = peer, .remote_port = number(answer + 2)};
  expect("bind_interdomain", hypercall(__HYPERVISOR_event_channel_op, EVTCHNOP_bind_interdomain, (u64)&channel, 0));
  struct gnttab_map_grant_ref grant = {.host_addr = MAPPED, .flags = GNTMAP_host_map, .ref = 8, .dom = peer};
  expect("map_grant_ref", hypercall(__HYPERVISOR_grant_table_op, GNTTABOP_map_grant_ref, (u64)&grant, 1));
  expect("map_grant_ref's status", grant.status);
  char *page = (char *)MAPPED;
  print("grants: mapped, it says \"%s\"\n", page);
  text_of(page + 64, 64, "domain %u was here", self);
  struct gnttab_unmap_grant_ref end = {.host_addr = MAPPED, .handle = grant.handle};
  expect("unmap_grant_ref", hypercall(__HYPERVISOR_grant_table_op, GNTTABOP_unmap_grant_ref, (u64)&end, 1));
  expect("unmap_grant_ref's status", end.status);
  expect("unmapped again", hypercall(__HYPERVISOR_grant_table_op, GNTTABOP_unmap_grant_ref, (u64)&end, 1));
  print("grants: unmapped, and once more: %d\n", end.status);
  event_send(channel.local_port);
}

static u64 system_time(void) {
  u64 ticks;
  __asm__ volatile("rdtime %0" : "=r"(ticks));
  return ticks * 100;
}

int guest_main(u64 hart, const u32 *tree);
int guest_main(u64 hart, const u32 *tree) {
  const char *line = command_line(tree);
  long version = hypercall(__HYPERVISOR_xen_version, XENVER_version, 0, 0);
  struct xen_feature_info features = {.submap_idx = 0};
  char capabilities[1024];
  hypercall(__HYPERVISOR_xen_version, XENVER_get_features, (u64)&features, 0);
  hypercall(__HYPERVISOR_xen_version, XENVER_capabilities, (u64)capabilities, 0);
  print("xen: %u.%u, %s, features %u, hart %u\n", (u32)(version >> 16), (u32)(version & 0xffff), capabilities,
        features.submap, (u32)hart);
  print("xen: command line \"%s\"\n", line);
  print("xen: number 63 answers %d\n", (int)hypercall(63, 0, 0, 0));

  add_to_physmap(XENMAPSPACE_shared_info, 0, SHARED_INFO);
  console_port = (evtchn_port_t)parameter(HVM_PARAM_CONSOLE_EVTCHN);
  store_port = (evtchn_port_t)parameter(HVM_PARAM_STORE_EVTCHN);
  store = (volatile struct xenstore_domain_interface *)(parameter(HVM_PARAM_STORE_PFN) * PAGE);
  __asm__ volatile("csrs sie, %0" ::"r"(1ul << UPCALL));
  __asm__ volatile("csrsi sstatus, 2" ::: "memory");
  console = (volatile struct xencons_interface *)(parameter(HVM_PARAM_CONSOLE_PFN) * PAGE);
  print("console: this came through the ring\n");

  struct evtchn_bind_ipi ipi = {.vcpu = 0};
  expect("bind_ipi", hypercall(__HYPERVISOR_event_channel_op, EVTCHNOP_bind_ipi, (u64)&ipi, 0));
  u32 before = arrived[ipi.port];
  for (u32 i = 0; i < 3; i++) event_send(ipi.port);
  print("events: %u of 3 arrived\n", arrived[ipi.port] - before);
  shared->vcpu_info[0].evtchn_upcall_mask = 1;
  event_send(ipi.port);
  u32 masked = arrived[ipi.port] - before;
  shared->vcpu_info[0].evtchn_upcall_mask = 0;
  hypercall(__HYPERVISOR_sched_op, SCHEDOP_yield, 0, 0);
  print("events: %u while masked, %u after it\n", masked, arrived[ipi.port] - before);

  struct evtchn_bind_virq virq = {.virq = VIRQ_TIMER, .vcpu = 0};
  expect("bind_virq", hypercall(__HYPERVISOR_event_channel_op, EVTCHNOP_bind_virq, (u64)&virq, 0));
  u32 ticks = arrived[virq.port];
  u64 now = system_time();
  expect("set_timer_op", hypercall(__HYPERVISOR_set_timer_op, now + 5000000, 0, 0));
  wait_for(virq.port, ticks);
  print("events: the timer after %u us\n", (u32)((system_time() - now) / 1000));

  expect("read", store_read("domid"));
  domid_t self = (domid_t)number(answer);
  print("xenstore: this is domain %u\n", self);
  expect("write", store_write("data/greeting", "hello from RISC-V"));
  expect("read", store_read("data/greeting"));
  print("xenstore: data/greeting = \"%s\"\n", answer);
  expect("watch", store_request(XS_WATCH, "data/greeting", "token", NULL, 0));
  event[0] = 0;
  expect("write", store_write("data/greeting", "changed"));
  struct xsd_sockmsg header;
  while (event[0] == 0) store_message(&header);
  print("xenstore: the watch says %s\n", event);

  const char *peer = option(line, "peer="), *role = option(line, "role=");
  if (peer != NULL && role != NULL) {
    if (starts(role, "offer")) offer(self, (domid_t)number(peer));
    else map(self, (domid_t)number(peer));
  }
  print("xen: done, %s upcalls\n", upcalls > 0 ? "with" : "without");
  shutdown(SHUTDOWN_poweroff);
  return 0;
}
