/*
 * clock: wall clock and system time from the shared info page, `ticks=N` lines (5), one each `every=N` ms (100).
 */
#include "../lib/guest.h"

static void print_date(u64 seconds) {
  u64 days = seconds / 86400, year = 1970;
  static const unsigned char lengths[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
  for (;; year++) {
    u64 length = 365 + ((year % 4 == 0 && year % 100 != 0) || year % 400 == 0);
    if (days < length) break;
    days -= length;
  }
  int leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
  unsigned month = 0;
  for (; month < 11; month++) {
    unsigned length = lengths[month] + (month == 1 && leap);
    if (days < length) break;
    days -= length;
  }
  print("%lu-%02u-%02lu %02lu:%02lu:%02lu", year, month + 1, days + 1, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
}

int guest_main(void) {
  volatile struct vcpu_time_info *time = &shared_info->vcpu_info[0].time;
  print("clock: tsc_to_system_mul %u, tsc_shift %d, flags %x\n", time->tsc_to_system_mul, time->tsc_shift, time->flags);
  events_start();
  long ticks = option("ticks", 5), every = option("every", 100);
  u64 start = system_time(), last = start;
  for (long tick = 0; tick < ticks; tick++) {
    u64 now = system_time(), seconds;
    u32 nanoseconds;
    wall_clock(&seconds, &nanoseconds);
    print("clock: ");
    print_date(seconds);
    print(".%03u UTC, system time %lu.%06lu s%s\n", nanoseconds / 1000000, now / 1000000000, now % 1000000000 / 1000,
          now < last ? ", BACKWARDS" : "");
    last = now;
    sleep_until(start + (u64)(tick + 1) * every * 1000000);
  }
  print("clock: %lu ms for %ld ticks\n", (system_time() - start) / 1000000, ticks);
  return SHUTDOWN_poweroff;
}
