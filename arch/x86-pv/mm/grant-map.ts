/**
 * Grant mappings of PV guests: page-table entries that grant operations install and remove (Xen: arch/x86/pv/grant_table.c).
 *
 * Such an entry carries PTE_HI_GRANT and holds no reference: the grant's handle does, from map to unmap or to the end of the domain that
 * mapped it, whatever the guest does to the entry. A guest that overwrites the entry can no longer unmap the grant (as on Xen) and
 * cannot reach the frame any more.
 *
 * Invariants: the entry is in an L1 table of the guest; removal finds exactly the frame that was mapped; TLBs forget the page before
 * the caller gives the references back.
 */
import { xen } from "hookvisor";
import type { PvVcpu } from "../vcpu-state.ts";
import {
  PTE_A,
  PTE_D,
  PTE_G,
  PTE_HI_GRANT,
  PTE_HI_GUEST_KERNEL,
  PTE_P,
  PTE_RW,
  PTE_U,
  pteFrame,
  pteLo,
  TYPE_L1,
  tableIndex,
} from "./pte.ts";
import type { GuestMemory } from "./walk.ts";

const { GNTMAP, GNTST } = xen;

/** Where a grant operation's address leads: an L1 table and an index, packed as table * 512 + index; -1: nowhere. */
function locate(v: PvVcpu, memory: GuestMemory, lo: number, hi: number, flags: number): number {
  let table: number;
  let index: number;
  if ((flags & GNTMAP.contains_pte) !== 0) {
    if ((lo & 7) !== 0) return -1;
    table = pteFrame(lo, hi);
    if (hi > 0xf_ffff) return -1;
    index = (lo >>> 3) & 511;
  } else {
    table = memory.l1TableAt(v.kernelRoot, lo, hi);
    index = tableIndex(1, lo, hi);
  }
  if (!v.tables.isTable(table, TYPE_L1) || !v.tables.frames.owns(v.vcpu.domain.id, table)) return -1;
  return table * 512 + index;
}

/** GNTTABOP_map_grant_ref's entry. GNTST_*. */
export function mapGrant(v: PvVcpu, memory: GuestMemory, lo: number, hi: number, mfn: number, flags: number): number {
  const place = locate(v, memory, lo, hi, flags);
  if (place < 0) return GNTST.general_error;
  const user = (flags & GNTMAP.application_map) !== 0;
  const entryLo =
    PTE_P |
    PTE_A |
    PTE_D |
    PTE_U |
    (user ? PTE_G : 0) |
    ((flags & GNTMAP.readonly) !== 0 ? 0 : PTE_RW) |
    (((flags >>> 16) & 7) << 9);
  const entryHi = (PTE_HI_GRANT | (user ? 0 : PTE_HI_GUEST_KERNEL)) >>> 0;
  v.tables.replace(Math.floor(place / 512), place % 512, pteLo(mfn, entryLo), entryHi, v.vcpu.domain.id);
  return GNTST.okay;
}

/** The removal, or with a new address the move of that address's entry here (unmap_and_replace). GNTST_*. */
export function unmapGrant(
  v: PvVcpu,
  memory: GuestMemory,
  lo: number,
  hi: number,
  mfn: number,
  flags: number,
  newLo: number,
  newHi: number,
): number {
  const move = newLo !== 0 || newHi !== 0;
  if (move && (flags & GNTMAP.contains_pte) !== 0) return GNTST.general_error;
  const place = locate(v, memory, lo, hi, flags);
  if (place < 0) return GNTST.general_error;
  const table = Math.floor(place / 512);
  const index = place % 512;
  const oldLo = v.tables.entryLo(table, index);
  const oldHi = v.tables.entryHi(table, index);
  const writable = (flags & GNTMAP.readonly) === 0;
  const ours = (oldLo & PTE_P) !== 0 && (oldHi & PTE_HI_GRANT) !== 0 && pteFrame(oldLo, oldHi) === mfn;
  if (!ours || ((oldLo & PTE_RW) !== 0) !== writable) return GNTST.general_error;
  let entryLo = 0;
  let entryHi = 0;
  if (move) {
    const source = locate(v, memory, newLo, newHi, 0);
    if (source < 0 || source === place) return GNTST.general_error;
    const from = Math.floor(source / 512);
    entryLo = v.tables.entryLo(from, source % 512);
    entryHi = v.tables.entryHi(from, source % 512);
    v.tables.writeRaw(from, source % 512, 0, 0);
  }
  v.tables.writeRaw(table, index, entryLo, entryHi);
  return GNTST.okay;
}
