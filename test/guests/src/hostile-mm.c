/*
 * hostile-mm: tries to reach memory that is not its own and to write its page tables behind Xen's back; hands bad pointers,
 * frame numbers and descriptors to the calls that take them. Each attempt prints what it got; then it powers off.
 */
#include "../lib/guest.h"

#define UNMAPPED ((void *)0x0000700000001000ul)
#define IN_XEN ((void *)0xffff830000000000ul)
#define NOT_CANONICAL ((void *)0x0123456789abcdeful)

static volatile u64 page[512] PAGE_DATA;
static volatile u64 other[512] PAGE_DATA;

static void bad_pointers(void *pointer, const char *name) {
  char line[64];
#define TRY(what, ...) (format_to(line, sizeof(line), "%s, %s pointer", what, name), got(line, hypercall(__VA_ARGS__)))
  TRY("console_io", __HYPERVISOR_console_io, CONSOLEIO_write, 8, pointer);
  TRY("mmu_update", __HYPERVISOR_mmu_update, pointer, 1, 0, DOMID_SELF);
  TRY("mmuext_op", __HYPERVISOR_mmuext_op, pointer, 1, 0, DOMID_SELF);
  TRY("set_gdt", __HYPERVISOR_set_gdt, pointer, 1);
  TRY("set_trap_table", __HYPERVISOR_set_trap_table, pointer);
  TRY("multicall", __HYPERVISOR_multicall, pointer, 1);
  TRY("xen_version", __HYPERVISOR_xen_version, XENVER_extraversion, pointer);
  TRY("decrease_reservation", __HYPERVISOR_memory_op, XENMEM_decrease_reservation, pointer);
  TRY("memory_map", __HYPERVISOR_memory_op, XENMEM_memory_map, pointer);
  TRY("sched_op", __HYPERVISOR_sched_op, SCHEDOP_shutdown, pointer);
  TRY("event_channel_op", __HYPERVISOR_event_channel_op, EVTCHNOP_alloc_unbound, pointer);
  TRY("grant_table_op", __HYPERVISOR_grant_table_op, GNTTABOP_map_grant_ref, pointer, 1);
  TRY("vcpu_op", __HYPERVISOR_vcpu_op, VCPUOP_get_runstate_info, 0, pointer);
  TRY("callback_op", __HYPERVISOR_callback_op, CALLBACKOP_register, pointer);
#undef TRY
}

/* The first frame in [from, to) that the m2p table says another domain has (`theirs`), or that nobody has. */
static u64 find_frame(u64 from, u64 to, int theirs) {
  const u64 *p2m = (const u64 *)start_info->mfn_list;
  for (u64 mfn = from; mfn < to; mfn++) {
    u64 pfn;
    if (try_read(&machine_to_phys_mapping[mfn], &pfn) != 0) return 0;
    int valid = pfn < (1ul << 40);
    if (valid && pfn < start_info->nr_pages && p2m[pfn] == mfn) continue;
    if (valid == theirs) return mfn;
  }
  return 0;
}

static void map_attempts(const char *what, u64 mfn, u64 flags) {
  char line[96];
  u64 table, *entry = entry_of(page, &table);
  format_to(line, sizeof(line), "map %s by update_va_mapping", what);
  got(line, map_frame(page, mfn, flags));
  format_to(line, sizeof(line), "map %s by mmu_update", what);
  got(line, mmu_update_one((table << 12) + ((u64)entry & 4095), (mfn << 12) | flags, DOMID_SELF));
}

static void report_access(const char *what, long result) {
  if (result == 0) print("%s: went through\n", what);
  else print("%s: got #PF, error code %lx\n", what, last_trap.code);
}

static void page_tables(void) {
  u64 table, *entry = entry_of(page, &table), before = *entry;
  u64 root = frame_of((void *)start_info->pt_base), own = frame_of(other);
  u64 *root_table = (u64 *)start_info->pt_base;
  u64 unreachable = 0xffffffffful;

  u64 foreign = option("foreign", find_frame(1, 1ul << 20, 1));
  if (foreign != 0) map_attempts("a frame of another domain", foreign, PTE_FLAGS);
  else print("map a frame of another domain: there is none\n");
  u64 nobody = find_frame(0x1000, 1ul << 20, 0);
  if (nobody == 0) print("map a frame that is nobody's: there is none\n");
  else map_attempts("a frame that is nobody's", nobody, PTE_FLAGS);
  map_attempts("a frame beyond memory", unreachable, PTE_FLAGS);
  map_attempts("a page table, writable", table, PTE_FLAGS);
  map_attempts("the root page table, writable", root, PTE_FLAGS);
  map_attempts("a page table, read-only", table, PTE_FLAGS & ~PTE_RW);
  map_attempts("an own frame", own, PTE_FLAGS);
  mmu_update_one((table << 12) + ((u64)entry & 4095), before, DOMID_SELF);

  got("mmu_update of a frame beyond memory", mmu_update_one(unreachable << 12, 0, DOMID_SELF));
  if (foreign != 0) got("mmu_update of a foreign frame", mmu_update_one(foreign << 12, 0, DOMID_SELF));
  got("mmu_update for a domain that is not there", mmu_update_one((table << 12) + ((u64)entry & 4095), before, 0x7000));
  got("machine-to-physical entry beyond memory", mmu_update_one((unreachable << 12) | MMU_MACHPHYS_UPDATE, 0, DOMID_SELF));
  if (foreign != 0)
    got("machine-to-physical entry of a foreign frame", mmu_update_one((foreign << 12) | MMU_MACHPHYS_UPDATE, 0, DOMID_SELF));
  got("root entry in Xen's part", mmu_update_one((root << 12) + 256 * 8, 0, DOMID_SELF));
  got("root entry to an ordinary page", mmu_update_one((root << 12) + 8 * 8, (own << 12) | PTE_FLAGS, DOMID_SELF));
  got("root entry to the root, writable", mmu_update_one((root << 12) + 8 * 8, (root << 12) | PTE_FLAGS, DOMID_SELF));
  got("root entry with bad bits", mmu_update_one((root << 12) + 8 * 8, root_table[511] | 0x80, DOMID_SELF));
  got("update_va_mapping in Xen's part", hypercall(__HYPERVISOR_update_va_mapping, IN_XEN, (own << 12) | PTE_FLAGS, 0));
  got("update_va_mapping without a page table", hypercall(__HYPERVISOR_update_va_mapping, UNMAPPED, (own << 12) | PTE_FLAGS, 0));

  got("NEW_BASEPTR beyond memory", mmuext_one(MMUEXT_NEW_BASEPTR, unreachable));
  got("NEW_BASEPTR to an ordinary page", mmuext_one(MMUEXT_NEW_BASEPTR, own));
  got("NEW_BASEPTR to a lowest-level table", mmuext_one(MMUEXT_NEW_BASEPTR, table));
  if (foreign != 0) got("NEW_BASEPTR to a foreign frame", mmuext_one(MMUEXT_NEW_BASEPTR, foreign));
  got("NEW_USER_BASEPTR to an ordinary page", mmuext_one(MMUEXT_NEW_USER_BASEPTR, own));
  got("pin an ordinary writable page as L1", mmuext_one(MMUEXT_PIN_L1_TABLE, own));
  got("pin the root as L1", mmuext_one(MMUEXT_PIN_L1_TABLE, root));
  got("pin beyond memory", mmuext_one(MMUEXT_PIN_L4_TABLE, unreachable));
  got("unpin what is not pinned", mmuext_one(MMUEXT_UNPIN_TABLE, own));
  got("clear a page table", mmuext_one(MMUEXT_CLEAR_PAGE, table));
  got("mmuext_op that is none", mmuext_one(999, own));

  report_access("write into a page table", try_write(entry, before));
  got("enable writable page tables", hypercall(__HYPERVISOR_vm_assist, VMASST_CMD_enable, VMASST_TYPE_writable_pagetables));
  report_access("write the same entry again", try_write(entry, before));
  report_access("write an entry that maps the root writable", try_write(entry, (root << 12) | PTE_FLAGS));
  report_access("write into the root", try_write(&root_table[8], 0));
  u64 value;
  report_access("read the machine-to-physical table", try_read(machine_to_phys_mapping, &value));
  report_access("write the machine-to-physical table", try_write((u64 *)machine_to_phys_mapping, 0));
  report_access("read Xen's memory", try_read(IN_XEN, &value));
}

static void reservations(void) {
  xen_pfn_t frame = frame_of((void *)start_info->pt_base);
  struct xen_memory_reservation reservation = {.nr_extents = 1, .extent_order = 0, .domid = DOMID_SELF};
  set_xen_guest_handle(reservation.extent_start, &frame);
  frame = 0xffffffffful;
  got("give back a frame beyond memory", hypercall(__HYPERVISOR_memory_op, XENMEM_decrease_reservation, &reservation));
  reservation.domid = 0x7000;
  got("give back for a domain that is not there", hypercall(__HYPERVISOR_memory_op, XENMEM_decrease_reservation, &reservation));
  reservation.domid = DOMID_SELF;
  reservation.extent_order = 60;
  got("increase by an extent of order 60", hypercall(__HYPERVISOR_memory_op, XENMEM_increase_reservation, &reservation));
  got("memory_op that is none", hypercall(__HYPERVISOR_memory_op, 60, &reservation));
}

static void descriptors(void) {
  xen_pfn_t frame = 0xffffffffful;
  got("set_gdt to a frame beyond memory", hypercall(__HYPERVISOR_set_gdt, &frame, 512));
  frame = frame_of((void *)start_info->pt_base);
  got("set_gdt to a page table", hypercall(__HYPERVISOR_set_gdt, &frame, 512));
  frame = frame_of(other);
  got("set_gdt to a page mapped writable", hypercall(__HYPERVISOR_set_gdt, &frame, 512));
  got("set_gdt with too many entries", hypercall(__HYPERVISOR_set_gdt, &frame, 8192));
  got("update_descriptor of a frame beyond memory", hypercall(__HYPERVISOR_update_descriptor, 0xffffffffful << 12, 0));
  got("update_descriptor with a call gate",
      hypercall(__HYPERVISOR_update_descriptor, frame_of(other) << 12, 0x0000ec0000000000ul));
  got("set_segment_base that is not canonical", hypercall(__HYPERVISOR_set_segment_base, SEGBASE_FS, NOT_CANONICAL));
  got("set_segment_base of no segment", hypercall(__HYPERVISOR_set_segment_base, 99, 0));
  got("vcpu_op of a vCPU that is not there", hypercall(__HYPERVISOR_vcpu_op, VCPUOP_is_up, 8000, 0));
  got("sched_op that is none", hypercall(__HYPERVISOR_sched_op, 99, 0));
  got("a hypercall that is none", hypercall(__HYPERVISOR_arch_7 + 4, 0));
  got("domctl", hypercall(__HYPERVISOR_domctl, (void *)page));
  got("sysctl", hypercall(__HYPERVISOR_sysctl, (void *)page));
}

int guest_main(void) {
  events_start();
  bad_pointers(UNMAPPED, "unmapped");
  bad_pointers(IN_XEN, "Xen's");
  bad_pointers(NOT_CANONICAL, "non-canonical");
  page_tables();
  reservations();
  descriptors();
  print("hostile-mm: done\n");
  return SHUTDOWN_poweroff;
}
