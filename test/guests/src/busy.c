/*
 * busy: always runnable. It counts, and tells count and running time each `every=N` seconds of virtual time (8), and at its
 * end after `seconds=N` (64; 0: never). It uses no events, so that nothing but the scheduler and the clock decide what it gets.
 */
#include "../lib/guest.h"

static u64 running_time(void) {
  vcpu_runstate_info_t runstate;
  memset(&runstate, 0, sizeof(runstate));
  hypercall(__HYPERVISOR_vcpu_op, VCPUOP_get_runstate_info, 0, &runstate);
  return runstate.time[RUNSTATE_running];
}

int guest_main(void) {
  u64 seconds = option("seconds", 64), every = option("every", 8);
  u64 start = system_time(), next = start + every * 1000000000, count = 0;
  u64 end = start + seconds * 1000000000;
  print("busy: counting for %lu s\n", seconds);
  for (;;) {
    for (u32 i = 0; i < 5000; i++) {
      count++;
      __asm__ volatile("" : "+r"(count));
    }
    u64 now = system_time();
    if (seconds != 0 && now >= end) break;
    if (every != 0 && now >= next) {
      print("busy: %lu s: count %lu, ran %lu ms\n", (now - start) / 1000000000, count, running_time() / 1000000);
      do next += every * 1000000000;
      while (next <= now);
    }
  }
  print("busy: done: count %lu, ran %lu ms of %lu ms\n", count, running_time() / 1000000, (system_time() - start) / 1000000);
  return SHUTDOWN_poweroff;
}
