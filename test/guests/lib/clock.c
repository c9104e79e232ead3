/*
 * Time from the shared info page. Xen writes a structure between two increments of its version: a reader takes the values
 * only when the version was even and the same before and after.
 */
#include "guest.h"

u64 read_tsc(void) {
  u32 low, high;
  __asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
  return (u64)high << 32 | low;
}

u64 system_time(void) {
  volatile struct vcpu_time_info *time = &shared_info->vcpu_info[this_vcpu()].time;
  u32 version;
  u64 result;
  do {
    version = time->version;
    barrier();
    u64 delta = read_tsc() - time->tsc_timestamp;
    int shift = time->tsc_shift;
    delta = shift < 0 ? delta >> -shift : delta << shift;
    result = time->system_time + (u64)(((unsigned __int128)delta * time->tsc_to_system_mul) >> 32);
    barrier();
  } while ((version & 1) != 0 || version != time->version);
  return result;
}

void wall_clock(u64 *seconds, u32 *nanoseconds) {
  volatile shared_info_t *info = shared_info;
  u32 version;
  u64 base_seconds, total;
  do {
    version = info->wc_version;
    barrier();
    base_seconds = (u64)info->wc_sec_hi << 32 | info->wc_sec;
    total = info->wc_nsec + system_time();
    barrier();
  } while ((version & 1) != 0 || version != info->wc_version);
  *seconds = base_seconds + total / 1000000000;
  *nanoseconds = total % 1000000000;
}
