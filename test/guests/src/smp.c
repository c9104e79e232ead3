/*
 * smp: starts its second vCPU and plays ping-pong with it by IPIs, `rounds=N` (8). Needs vcpus=2.
 */
#include "../lib/guest.h"

static volatile u32 pings, pongs, second_up, leave;
static volatile u64 second_time;
static volatile evtchn_port_t ping_port, pong_port;

static void on_ping(evtchn_port_t port) {
  (void)port;
  pings++;
}

static void on_pong(evtchn_port_t port) {
  (void)port;
  pongs++;
}

static void second_main(void) {
  second_up = 1;
  struct evtchn_bind_ipi bind = {.vcpu = 1};
  event_op(EVTCHNOP_bind_ipi, &bind);
  upcalls_off();
  event_bind(bind.port, on_ping);
  ping_port = bind.port;
  for (u32 answered = 0; !leave;) {
    while (pings == answered && !leave) block();
    answered++;
    second_time = system_time();
    event_send(pong_port);
  }
  second_up = 0;
  hypercall(__HYPERVISOR_vcpu_op, VCPUOP_down, 1, 0);
  for (;;) block();
}

int guest_main(void) {
  events_start();
  print("smp: vCPU 1 is up before: %ld\n", hypercall(__HYPERVISOR_vcpu_op, VCPUOP_is_up, 1, 0));
  got("smp: up before initialise", hypercall(__HYPERVISOR_vcpu_op, VCPUOP_up, 1, 0));
  struct evtchn_bind_ipi bind = {.vcpu = 0};
  event_op(EVTCHNOP_bind_ipi, &bind);
  pong_port = bind.port;
  event_bind(pong_port, on_pong);
  long result = second_vcpu_start(second_main);
  if (result != 0) {
    got("smp: start vCPU 1", result);
    return SHUTDOWN_poweroff;
  }
  while (!second_up || ping_port == 0) yield_cpu();
  print("smp: vCPU 1 runs\n");
  long rounds = option("rounds", 8);
  u64 last = system_time();
  int backwards = 0;
  for (long round = 1; round <= rounds; round++) {
    event_send(ping_port);
    upcalls_off();
    while (pongs < round) block();
    upcalls_on();
    backwards += second_time < last || system_time() < second_time;
    last = system_time();
  }
  print("smp: %u pings, %u pongs, time went backwards %d times\n", pings, pongs, backwards);
  leave = 1;
  event_send(ping_port);
  while (hypercall(__HYPERVISOR_vcpu_op, VCPUOP_is_up, 1, 0) == 1) yield_cpu();
  print("smp: vCPU 1 is down\n");
  return SHUTDOWN_poweroff;
}
