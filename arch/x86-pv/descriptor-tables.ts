/**
 * A PV vCPU's descriptor tables as its selectors reach them: the guest's GDT frames below Xen's own entries, and the LDT.
 *
 * The LDT is at a guest virtual address; a page of it is looked at when first used, becomes a page of descriptors (typed, so no writable
 * mapping can change it), and is let go when the guest unmaps it or sets another LDT (Xen: pv/descriptor-tables.c).
 */
import { xen } from "hookvisor";
import { reservedDescriptor } from "./descriptors.ts";
import type { PageTables } from "./mm/page-tables.ts";
import type { GuestMemory } from "./mm/walk.ts";
import type { PvVcpu } from "./vcpu-state.ts";

/** Descriptors a page. */
const PER_PAGE = 512;

/** The descriptor that a selector names for this vCPU, as its two words; null: beyond its table, or not there. */
export function descriptorOf(v: PvVcpu, memory: GuestMemory, selector: number): readonly [number, number] | null {
  const index = (selector >>> 3) & 0x1fff;
  if ((selector & 4) !== 0) return ldtDescriptor(v, memory, index);
  if (index >= xen.FIRST_RESERVED_GDT_ENTRY) return reservedDescriptor(index);
  const mfn = index < v.gdtEntries ? v.gdtFrames[index >> 9] : undefined;
  return mfn === undefined ? null : words(v.tables, mfn, index & (PER_PAGE - 1));
}

function ldtDescriptor(v: PvVcpu, memory: GuestMemory, index: number): readonly [number, number] | null {
  if (index >= v.ldtEntries) return null;
  const page = index >> 9;
  let mfn = v.ldtFrames[page]!;
  if (mfn < 0) {
    const sum = v.ldtLo + page * 4096;
    mfn = memory.frameAt(v.kernelRoot, sum >>> 0, sum > 0xffff_ffff ? (v.ldtHi + 1) >>> 0 : v.ldtHi, false);
    if (mfn < 0 || !v.shadowLdt(page, mfn)) return null;
  }
  return words(v.tables, mfn, index & (PER_PAGE - 1));
}

function words(tables: PageTables, mfn: number, index: number): readonly [number, number] {
  return [tables.entryLo(mfn, index), tables.entryHi(mfn, index)];
}

/** Makes `mfns` the GDT of a vCPU with `entries` descriptors (pv_set_gdt): 0 or -EINVAL, and then the old one stays. */
export function setGdt(v: PvVcpu, mfns: readonly number[], entries: number, type: number): number {
  const domid = v.vcpu.domain.id;
  for (let i = 0; i < mfns.length; i++)
    if (v.tables.getPageAndType(mfns[i]!, type, domid) !== 0) {
      for (let j = 0; j < i; j++) v.tables.putPageAndType(mfns[j]!);
      return -xen.ERRNO.EINVAL;
    }
  v.releaseGdt();
  v.gdtFrames = [...mfns];
  v.gdtEntries = entries;
  return 0;
}
