/*
 * events: the timer's VIRQ, an event to ourselves by a pair of interdomain ports, an IPI, masking; then the console ring's
 * event: what is typed is echoed line by line, until a line "quit" (or `echo=0` on the command line).
 */
#include "../lib/guest.h"

static volatile unsigned seen[64];

static void count_event(evtchn_port_t port) { seen[port]++; }

static void wait_for_count(evtchn_port_t port, unsigned count) {
  upcalls_off();
  while (seen[port] < count) block();
  upcalls_on();
}

static void timer(void) {
  struct evtchn_bind_virq bind = {.virq = VIRQ_TIMER, .vcpu = 0};
  long result = event_op(EVTCHNOP_bind_virq, &bind);
  print("events: bind VIRQ_TIMER: %s, port %u\n", errno_name(result), bind.port);
  struct evtchn_bind_virq again = {.virq = VIRQ_TIMER, .vcpu = 0};
  got("events: bind VIRQ_TIMER again", event_op(EVTCHNOP_bind_virq, &again));
  event_bind(bind.port, count_event);
  u64 start = system_time();
  hypercall(__HYPERVISOR_set_timer_op, start + 20000000);
  upcalls_off();
  while (system_time() < start + 20000000) block();
  upcalls_on();
  print("events: the timer woke us after 20 ms%s\n", seen[bind.port] > 0 ? "" : ", but without its event");
  struct evtchn_close close = {.port = bind.port};
  got("events: close it", event_op(EVTCHNOP_close, &close));
  got("events: close it again", event_op(EVTCHNOP_close, &close));
}

static void loopback(void) {
  struct evtchn_alloc_unbound unbound = {.dom = DOMID_SELF, .remote_dom = DOMID_SELF};
  event_op(EVTCHNOP_alloc_unbound, &unbound);
  struct evtchn_bind_interdomain bind = {.remote_dom = DOMID_SELF, .remote_port = unbound.port};
  long result = event_op(EVTCHNOP_bind_interdomain, &bind);
  print("events: ports %u and %u connected: %s\n", unbound.port, bind.local_port, errno_name(result));
  event_bind(unbound.port, count_event);
  event_bind(bind.local_port, count_event);
  seen[unbound.port] = seen[bind.local_port] = 0;
  event_send(bind.local_port);
  wait_for_count(unbound.port, 1);
  event_send(unbound.port);
  wait_for_count(bind.local_port, 1);
  print("events: sent one each way: %u and %u arrived\n", seen[unbound.port], seen[bind.local_port]);
  event_mask(unbound.port);
  event_send(bind.local_port);
  event_send(bind.local_port);
  print("events: masked: pending %d, still %u arrived\n", event_pending(unbound.port), seen[unbound.port]);
  event_unmask(unbound.port);
  print("events: unmasked: pending %d, %u arrived\n", event_pending(unbound.port), seen[unbound.port]);
  struct evtchn_status status = {.dom = DOMID_SELF, .port = bind.local_port};
  event_op(EVTCHNOP_status, &status);
  print("events: status %u (interdomain), remote port %u\n", status.status, status.u.interdomain.port);
}

static void ipi(void) {
  struct evtchn_bind_ipi bind = {.vcpu = 0};
  long result = event_op(EVTCHNOP_bind_ipi, &bind);
  print("events: bind an IPI to vCPU 0: %s\n", errno_name(result));
  event_bind(bind.port, count_event);
  seen[bind.port] = 0;
  event_send(bind.port);
  wait_for_count(bind.port, 1);
  print("events: the IPI arrived\n");
}

static void echo(void) {
  char line[128], chunk[64];
  size_t length = 0;
  evtchn_port_t port = start_info->console.domU.evtchn;
  event_bind(port, count_event);
  print("events: type lines; \"quit\" ends\n");
  for (;;) {
    upcalls_off();
    size_t count;
    while ((count = console_read(chunk, sizeof(chunk))) == 0) block();
    upcalls_on();
    for (size_t i = 0; i < count; i++) {
      if (chunk[i] != '\r' && chunk[i] != '\n') {
        if (length + 1 < sizeof(line)) line[length++] = chunk[i];
        continue;
      }
      line[length] = 0;
      length = 0;
      print("echo: %s\n", line);
      if (text_equal(line, "quit")) return;
    }
  }
}

int guest_main(void) {
  events_start();
  timer();
  loopback();
  ipi();
  if (option("echo", 1) != 0 && start_info->console.domU.mfn != 0) echo();
  print("events: done\n");
  return SHUTDOWN_poweroff;
}
