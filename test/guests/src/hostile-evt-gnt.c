/*
 * hostile-evt-gnt: bad ports, bad grant references and handles, and everything else that event channels and grant tables
 * must refuse. Each attempt prints what it got (an errno of the call, or the status of the operation); then it powers off.
 */
#include "../lib/guest.h"

static volatile char page[PAGE_SIZE] PAGE_DATA;
static volatile char window[PAGE_SIZE] PAGE_DATA;

#define NOBODY 0x7000
#define FAR_PORT 0x7fffffff

static void event_attempts(void) {
#define TRY(what, operation, type, ...)                        \
  do {                                                         \
    struct type argument = {__VA_ARGS__};                      \
    got(what, event_op(operation, &argument));                 \
  } while (0)
  TRY("send to port 0", EVTCHNOP_send, evtchn_send, .port = 0);
  TRY("send to a port beyond all", EVTCHNOP_send, evtchn_send, .port = FAR_PORT);
  TRY("send to a closed port", EVTCHNOP_send, evtchn_send, .port = 900);
  TRY("close port 0", EVTCHNOP_close, evtchn_close, .port = 0);
  TRY("close a closed port", EVTCHNOP_close, evtchn_close, .port = 900);
  TRY("unmask a port beyond all", EVTCHNOP_unmask, evtchn_unmask, .port = FAR_PORT);
  TRY("status of a port beyond all", EVTCHNOP_status, evtchn_status, .dom = DOMID_SELF, .port = FAR_PORT);
  TRY("status in domain 0", EVTCHNOP_status, evtchn_status, .dom = 0, .port = 1);
  TRY("status in a domain that is not there", EVTCHNOP_status, evtchn_status, .dom = NOBODY, .port = 1);
  TRY("alloc_unbound in domain 0", EVTCHNOP_alloc_unbound, evtchn_alloc_unbound, .dom = 0, .remote_dom = DOMID_SELF);
  TRY("bind_interdomain to a domain that is not there", EVTCHNOP_bind_interdomain, evtchn_bind_interdomain, .remote_dom = NOBODY,
      .remote_port = 1);
  TRY("bind_interdomain to port 0", EVTCHNOP_bind_interdomain, evtchn_bind_interdomain, .remote_dom = 0, .remote_port = 0);
  TRY("bind_interdomain to a port beyond all", EVTCHNOP_bind_interdomain, evtchn_bind_interdomain, .remote_dom = 0,
      .remote_port = FAR_PORT);
  TRY("bind_interdomain to a port of ours that is bound", EVTCHNOP_bind_interdomain, evtchn_bind_interdomain,
      .remote_dom = DOMID_SELF, .remote_port = start_info->store_evtchn);
  TRY("bind_virq that is none", EVTCHNOP_bind_virq, evtchn_bind_virq, .virq = NR_VIRQS, .vcpu = 0);
  TRY("bind_virq on a vCPU that is not there", EVTCHNOP_bind_virq, evtchn_bind_virq, .virq = VIRQ_TIMER, .vcpu = 8000);
  TRY("bind_virq of domain 0's", EVTCHNOP_bind_virq, evtchn_bind_virq, .virq = VIRQ_DOM_EXC, .vcpu = 0);
  TRY("bind_ipi on a vCPU that is not there", EVTCHNOP_bind_ipi, evtchn_bind_ipi, .vcpu = 8000);
  TRY("bind_pirq", EVTCHNOP_bind_pirq, evtchn_bind_pirq, .pirq = 9);
  TRY("bind_vcpu to a vCPU that is not there", EVTCHNOP_bind_vcpu, evtchn_bind_vcpu, .port = start_info->store_evtchn,
      .vcpu = 8000);
  TRY("bind_vcpu of a closed port", EVTCHNOP_bind_vcpu, evtchn_bind_vcpu, .port = 900, .vcpu = 0);
  TRY("reset in domain 0", EVTCHNOP_reset, evtchn_reset, .dom = 0);
  TRY("an operation that is none", 99, evtchn_send, .port = 1);
#undef TRY
  struct evtchn_alloc_unbound alloc = {.dom = DOMID_SELF, .remote_dom = 0};
  long result;
  u32 count = 0;
  while ((result = event_op(EVTCHNOP_alloc_unbound, &alloc)) == 0 && count < 1u << 17) count++;
  got("alloc_unbound until there are no more", result);
  for (evtchn_port_t port = alloc.port; count > 0; port--, count--) {
    struct evtchn_close close = {.port = port};
    event_op(EVTCHNOP_close, &close);
  }
  struct sched_poll poll = {.nr_ports = 1000};
  set_xen_guest_handle(poll.ports, (evtchn_port_t *)page);
  got("poll 1000 ports", hypercall(__HYPERVISOR_sched_op, SCHEDOP_poll, &poll));
  evtchn_port_t far = FAR_PORT;
  poll.nr_ports = 1;
  set_xen_guest_handle(poll.ports, &far);
  got("poll a port beyond all", hypercall(__HYPERVISOR_sched_op, SCHEDOP_poll, &poll));
}

/* Does one grant operation and prints its status, or the call's error. */
#define GRANT(what, operation, type, ...)                                                                      \
  do {                                                                                                         \
    struct type argument = {__VA_ARGS__};                                                                      \
    argument.status = 99;                                                                                      \
    long result = hypercall(__HYPERVISOR_grant_table_op, operation, &argument, 1);                             \
    if (result != 0) got(what, result);                                                                        \
    else print("%s: status %d\n", what, argument.status);                                                      \
  } while (0)
#define MAP(what, ...) GRANT(what, GNTTABOP_map_grant_ref, gnttab_map_grant_ref, __VA_ARGS__)
#define UNMAP(what, ...) GRANT(what, GNTTABOP_unmap_grant_ref, gnttab_unmap_grant_ref, __VA_ARGS__)
#define COPY(what, ...) GRANT(what, GNTTABOP_copy, gnttab_copy, __VA_ARGS__)

static void grant_attempts(void) {
  if (grants_start() != 0) {
    print("no grant table\n");
    return;
  }
  domid_t self = own_domid();
  u64 at = (u64)window, own = frame_of(page), root = frame_of((void *)start_info->pt_base);
  grant_access(10, self, own, 0);
  grant_access(11, self, own, GTF_readonly);
  grant_access(12, NOBODY, own, 0);
  grant_access(13, self, root, 0);
  grant_access(14, self, 0xfffffffful, 0);

  MAP("map for a domain that is not there", .host_addr = at, .flags = GNTMAP_host_map, .ref = 10, .dom = NOBODY);
  MAP("map reference 4000000000", .host_addr = at, .flags = GNTMAP_host_map, .ref = 4000000000u, .dom = self);
  MAP("map a reference that grants nothing", .host_addr = at, .flags = GNTMAP_host_map, .ref = 20, .dom = self);
  MAP("map a reference of domain 0", .host_addr = at, .flags = GNTMAP_host_map, .ref = 10, .dom = 0);
  MAP("map what is granted to another", .host_addr = at, .flags = GNTMAP_host_map, .ref = 12, .dom = self);
  MAP("map a read-only grant writable", .host_addr = at, .flags = GNTMAP_host_map, .ref = 11, .dom = self);
  MAP("map a grant of a page table writable", .host_addr = at, .flags = GNTMAP_host_map, .ref = 13, .dom = self);
  MAP("map a grant of a frame beyond memory", .host_addr = at, .flags = GNTMAP_host_map, .ref = 14, .dom = self);
  MAP("map with no flags", .host_addr = at, .flags = 0, .ref = 10, .dom = self);
  MAP("map where there is no page table", .host_addr = 0x700000001000ul, .flags = GNTMAP_host_map, .ref = 10, .dom = self);
  MAP("map in Xen's part", .host_addr = 0xffff830000000000ul, .flags = GNTMAP_host_map, .ref = 10, .dom = self);
  MAP("map by an entry beyond memory", .host_addr = 0xffffffffful << 12, .flags = GNTMAP_host_map | GNTMAP_contains_pte,
      .ref = 10, .dom = self);
  UNMAP("unmap a handle that is none", .host_addr = at, .handle = 12345);
  UNMAP("unmap handle -1", .host_addr = at, .handle = ~0u);

  struct gnttab_map_grant_ref mapped = {.host_addr = at, .flags = GNTMAP_host_map, .ref = 10, .dom = self};
  hypercall(__HYPERVISOR_grant_table_op, GNTTABOP_map_grant_ref, &mapped, 1);
  print("map a good one: status %d\n", mapped.status);
  print("withdraw it while mapped: %s\n", grant_withdraw(10) ? "done" : "refused");
  UNMAP("unmap it at another address", .host_addr = (u64)grant_table, .handle = mapped.handle);
  u64 table, *entry = entry_of(window, &table);
  got("map the granted frame once more by hand", map_frame(page, own, PTE_FLAGS));
  got("pin the granted frame", mmuext_one(MMUEXT_PIN_L1_TABLE, own));
  GRANT("swap a reference in use", GNTTABOP_swap_grant_ref, gnttab_swap_grant_ref, .ref_a = 10, .ref_b = 20);
  GRANT("unmap and replace by an unmapped address", GNTTABOP_unmap_and_replace, gnttab_unmap_and_replace, .host_addr = at,
        .new_addr = 0x700000001000ul, .handle = mapped.handle);
  UNMAP("unmap it", .host_addr = at, .handle = mapped.handle);
  UNMAP("unmap it again", .host_addr = at, .handle = mapped.handle);
  print("its address maps: %lx\n", *entry & 1);

  COPY("copy beyond the page", .source = {.u.ref = 10, .domid = self, .offset = 4000},
       .dest = {.u.gmfn = frame_of(window), .domid = DOMID_SELF}, .len = 200, .flags = GNTCOPY_source_gref);
  COPY("copy from a bad reference", .source = {.u.ref = 30, .domid = self},
       .dest = {.u.gmfn = own, .domid = DOMID_SELF}, .len = 8, .flags = GNTCOPY_source_gref);
  COPY("copy to a page table", .source = {.u.ref = 10, .domid = self},
       .dest = {.u.gmfn = root, .domid = DOMID_SELF}, .len = 8, .flags = GNTCOPY_source_gref);
  COPY("copy to a read-only grant", .source = {.u.gmfn = own, .domid = DOMID_SELF},
       .dest = {.u.ref = 11, .domid = self}, .len = 8, .flags = GNTCOPY_dest_gref);
  COPY("copy from a frame of domain 0", .source = {.u.gmfn = 1, .domid = 0},
       .dest = {.u.gmfn = own, .domid = DOMID_SELF}, .len = 8, .flags = 0);
  COPY("copy from a frame beyond memory", .source = {.u.gmfn = 0xffffffffful, .domid = DOMID_SELF},
       .dest = {.u.gmfn = own, .domid = DOMID_SELF}, .len = 8, .flags = 0);

  GRANT("transfer a frame beyond memory", GNTTABOP_transfer, gnttab_transfer, .mfn = 0xffffffffful, .domid = self, .ref = 10);
  GRANT("transfer to a domain that is not there", GNTTABOP_transfer, gnttab_transfer, .mfn = own, .domid = NOBODY, .ref = 10);
  xen_pfn_t frames[4];
  struct gnttab_setup_table setup = {.dom = DOMID_SELF, .nr_frames = 100000};
  set_xen_guest_handle(setup.frame_list, frames);
  long result = hypercall(__HYPERVISOR_grant_table_op, GNTTABOP_setup_table, &setup, 1);
  print("setup_table with 100000 frames: %ld, status %d\n", result, setup.status);
  setup = (struct gnttab_setup_table){.dom = 0, .nr_frames = 1};
  set_xen_guest_handle(setup.frame_list, frames);
  result = hypercall(__HYPERVISOR_grant_table_op, GNTTABOP_setup_table, &setup, 1);
  print("setup_table of domain 0: %ld, status %d\n", result, setup.status);
  GRANT("query_size of a domain that is not there", GNTTABOP_query_size, gnttab_query_size, .dom = NOBODY);
  struct gnttab_set_version version = {.version = 7};
  got("set_version 7", hypercall(__HYPERVISOR_grant_table_op, GNTTABOP_set_version, &version, 1));
  GRANT("dump_table", GNTTABOP_dump_table, gnttab_dump_table, .dom = DOMID_SELF);
  got("an operation that is none", hypercall(__HYPERVISOR_grant_table_op, 99, &version, 1));
  got("4294967295 operations", hypercall(__HYPERVISOR_grant_table_op, GNTTABOP_map_grant_ref, &mapped, 0xffffffffu));
}

int guest_main(void) {
  events_start();
  event_attempts();
  grant_attempts();
  print("hostile-evt-gnt: done\n");
  return SHUTDOWN_poweroff;
}
