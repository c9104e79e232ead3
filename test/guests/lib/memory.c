/*
 * Frames and page tables of a PV kernel: everything that the initial mapping covers is VIRT_BASE plus its frame number
 * (pfn) in the domain; the p2m list and the m2p table translate. Page tables are read where they lie: they are mapped read-only.
 */
#include "guest.h"

static u64 pfn_of(const volatile void *address) { return ((u64)address - VIRT_BASE) >> 12; }

static void *address_of_pfn(u64 pfn) { return (void *)(VIRT_BASE + (pfn << 12)); }

u64 frame_of(const volatile void *address) { return ((u64 *)start_info->mfn_list)[pfn_of(address)]; }

void *address_of_frame(u64 mfn) { return address_of_pfn(machine_to_phys_mapping[mfn]); }

u64 *entry_of(const volatile void *address, u64 *table_frame) {
  u64 *table = (u64 *)start_info->pt_base;
  for (int shift = 39; shift > 12; shift -= 9) table = address_of_frame(PTE_FRAME(table[((u64)address >> shift) & 511]));
  if (table_frame != NULL) *table_frame = frame_of(table);
  return &table[((u64)address >> 12) & 511];
}

long map_frame(volatile void *at, u64 mfn, u64 flags) {
  return hypercall(__HYPERVISOR_update_va_mapping, at, (mfn << 12) | flags, UVMF_INVLPG);
}

long mmu_update_one(u64 pointer, u64 value, u32 owner) {
  mmu_update_t update = {.ptr = pointer, .val = value};
  return hypercall(__HYPERVISOR_mmu_update, &update, 1l, 0l, (u64)owner);
}

long mmuext_one(u32 command, u64 mfn) {
  mmuext_op_t operation = {.cmd = command, .arg1.mfn = mfn};
  return hypercall(__HYPERVISOR_mmuext_op, &operation, 1l, 0l, (u64)DOMID_SELF);
}
