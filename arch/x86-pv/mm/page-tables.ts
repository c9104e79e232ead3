/**
 * Validated page tables: a PV guest owns its page tables, and this is what makes that safe.
 *
 * Design (Xen: arch/x86/mm.c): a frame becomes a page table of a level only by validation of all its entries, each of which takes a
 * reference, and a type, of the frame that it names; losing its last type reference gives all that back. While it is a
 * page table, no writable mapping of it can exist, and entries change only through `modify`, which checks the new one first.
 *
 * Invariants:
 *  - a frame of type TYPE_Ln with a type count holds references for exactly its present guest entries;
 *  - an entry marked PTE_HI_GRANT holds none: the grant's handle does (grant-map.ts);
 *  - a failed validation or modification leaves every count as it was;
 *  - results are 0 or a negative errno, as Xen's; nothing throws because of guest input.
 */
import { type Frames, FrameType, xen } from "hookvisor";
import { checkDescriptorPage } from "../descriptors.ts";
import {
  ENTRIES,
  FIRST_XEN_SLOT,
  L1_DISALLOWED,
  L1_HI_DISALLOWED,
  LAST_XEN_SLOT,
  PTE_A,
  PTE_D,
  PTE_G,
  PTE_HI_GRANT,
  PTE_HI_GUEST_KERNEL,
  PTE_P,
  PTE_RW,
  PTE_U,
  pteFrame,
  SIMILAR_HI,
  SIMILAR_LO,
  TYPE_L1,
  TYPE_L2,
  TYPE_L3,
  TYPE_L4,
  TYPE_SEGMENTS,
  UPPER_DISALLOWED,
} from "./pte.ts";

/** The level (1 to 4) of a page-table type, 0 for other types. */
function levelOf(type: number): number {
  return type >= TYPE_L1 && type <= TYPE_L4 ? type - TYPE_L1 + 1 : 0;
}

const { ERRNO } = xen;

/** The frame number of an entry whose 40 address bits are all set. */
const NO_FRAME = 2 ** 40 - 1;

/** The owner of no frame: what a domain that may map nothing (DOMID_IO) owns. */
export const NOBODY = -2;

/** What the page tables tell their environment. */
export interface PageTableEvents {
  /** Instructions of work to charge to the present exit. */
  charge(instructions: number): void;
  /** A page of descriptors that `domid` owns lost a mapping: descriptor shadows must let go of it. */
  descriptorsUnmapped(domid: number): void;
}

export class PageTables {
  readonly frames: Frames;
  /** Memory 0 as words: entry i of a table is words[mfn * 1024 + 2 * i] and the word after it. */
  readonly words: Uint32Array;
  readonly #events: PageTableEvents;
  /** Frames that a guest pinned. */
  readonly #pinned: Uint8Array;
  /** Linear mappings: above 0 entries of this table that map tables of its own level, below 0 such uses of it. */
  readonly #linear = new Map<number, number>();
  /** L4 slot 256 of a kernel's address space: the machine-to-physical table. */
  readonly #m2pLo: number;
  readonly #m2pHi: number;

  constructor(frames: Frames, m2pEntry: { readonly lo: number; readonly hi: number }, events: PageTableEvents) {
    this.frames = frames;
    this.words = new Uint32Array(frames.memory.buffer);
    this.#pinned = new Uint8Array(frames.count);
    this.#m2pLo = m2pEntry.lo;
    this.#m2pHi = m2pEntry.hi;
    this.#events = events;
  }

  /** Takes a reference and a type reference of a frame that `domid` owns: 0 or -EINVAL, or what validation says. */
  getPageAndType(mfn: number, type: number, domid: number): number {
    if (!this.frames.getRef(mfn, domid)) return -ERRNO.EINVAL;
    const failed = this.getType(mfn, type, domid);
    if (failed !== 0) this.frames.putRef(mfn);
    return failed;
  }

  /** Gives both back. */
  putPageAndType(mfn: number): void {
    this.putType(mfn);
    this.frames.putRef(mfn);
  }

  /** Takes a type reference; the caller has a reference. Validates on the change to a page-table or descriptor type. */
  getType(mfn: number, type: number, domid: number): number {
    const { frames } = this;
    const before = frames.type[mfn]!;
    if (frames.typeCount[mfn] === 0) {
      // Only a frame that was writable can be in a TLB as writable.
      if (before !== type && before === FrameType.writable) frames.retyped(mfn);
      frames.type[mfn] = type;
      frames.typeCount[mfn] = 1;
      const failed = this.#validate(mfn, type, domid);
      if (failed !== 0) {
        frames.type[mfn] = before;
        frames.typeCount[mfn] = 0;
      }
      return failed;
    }
    if (before !== type) return -ERRNO.EINVAL;
    frames.typeCount[mfn] = frames.typeCount[mfn]! + 1;
    return 0;
  }

  /** Drops a type reference; the last one gives back what the table's entries hold. */
  putType(mfn: number): void {
    if (this.frames.putType(mfn)) this.#devalidate(mfn);
  }

  /** Is the frame pinned? */
  isPinned(mfn: number): boolean {
    return this.#pinned[mfn] === 1;
  }

  /** MMUEXT_PIN_Ln_TABLE. */
  pin(mfn: number, type: number, domid: number): number {
    const failed = this.getPageAndType(mfn, type, domid);
    if (failed !== 0) return failed;
    if (this.#pinned[mfn] === 1) {
      this.putPageAndType(mfn);
      return -ERRNO.EINVAL;
    }
    this.#pinned[mfn] = 1;
    return 0;
  }

  /** MMUEXT_UNPIN_TABLE. */
  unpin(mfn: number, domid: number): number {
    if (!this.frames.owns(domid, mfn) || this.#pinned[mfn] !== 1) return -ERRNO.EINVAL;
    this.#pinned[mfn] = 0;
    this.putPageAndType(mfn);
    return 0;
  }

  /** Unpins everything that a domain has pinned (its destruction). */
  unpinAll(domid: number): void {
    for (let mfn = 0; mfn < this.frames.count; mfn++)
      if (this.#pinned[mfn] === 1 && this.frames.owner[mfn] === domid) this.unpin(mfn, domid);
  }

  /** Is a frame in use as a page table of this type? */
  isTable(mfn: number, type: number): boolean {
    return this.frames.valid(mfn) && this.frames.type[mfn] === type && this.frames.typeCount[mfn]! > 0;
  }

  /** Low and high half of an entry. */
  entryLo(mfn: number, index: number): number {
    return this.words[mfn * 1024 + index * 2]!;
  }
  entryHi(mfn: number, index: number): number {
    return this.words[mfn * 1024 + index * 2 + 1]!;
  }

  /** Writes an entry that is known to be right, without touching a reference. */
  writeRaw(mfn: number, index: number, lo: number, hi: number): void {
    const at = mfn * 1024 + index * 2;
    this.words[at] = lo;
    this.words[at + 1] = hi;
    this.frames.wrote(mfn, index * 8, index * 8 + 8);
  }

  /** Puts an entry that holds nothing into an L1 table (a grant's), and gives back what the entry there held. */
  replace(mfn: number, index: number, lo: number, hi: number, domid: number): void {
    const oldLo = this.entryLo(mfn, index);
    const oldHi = this.entryHi(mfn, index);
    this.writeRaw(mfn, index, lo, hi);
    this.#putL1(oldLo, oldHi, domid);
  }

  /** Makes the m2p readable through an L4 table (a kernel's root without m2p_strict), or hides it (a user's root with it). */
  setM2pSlot(l4: number, present: boolean): void {
    this.writeRaw(l4, FIRST_XEN_SLOT, present ? this.#m2pLo : 0, present ? this.#m2pHi : 0);
  }

  /**
   * Changes an entry of a frame that is a page table (Xen: mod_l1_entry to mod_l4_entry). `preserve` keeps the A and D bits that are
   * there; `mapped` owns the frames that a new L1 entry may name (DOMID_SELF: the owner of the table).
   */
  modify(mfn: number, index: number, lo: number, hi: number, preserve: boolean, domid: number, mapped: number): number {
    switch (this.frames.type[mfn]) {
      case TYPE_L1:
        return this.#modifyL1(mfn, index, lo, hi, preserve, domid, mapped);
      case TYPE_L2:
      case TYPE_L3:
      case TYPE_L4:
        return mapped === domid ? this.#modifyUpper(mfn, index, lo, hi, preserve, domid) : -ERRNO.EINVAL;
      default:
        return -ERRNO.EINVAL;
    }
  }

  #modifyL1(
    mfn: number,
    index: number,
    lo: number,
    hi: number,
    preserve: boolean,
    domid: number,
    mapped: number,
  ): number {
    const oldLo = this.entryLo(mfn, index);
    const oldHi = this.entryHi(mfn, index);
    if ((lo & PTE_P) !== 0) {
      if ((lo & L1_DISALLOWED) !== 0 || (hi & L1_HI_DISALLOWED) !== 0) return -ERRNO.EINVAL;
      const similar = ((oldLo ^ lo) & ~SIMILAR_LO) === 0 && ((oldHi ^ hi) & ~SIMILAR_HI) === 0;
      if (!similar) {
        const failed = this.#getL1(lo, hi, mapped);
        if (failed !== 0) return failed;
      }
      this.#write(mfn, index, lo | adjustL1Lo(lo, hi), hi | adjustL1Hi(lo), preserve);
      if (similar) return 0;
    } else this.#write(mfn, index, lo, hi, preserve);
    this.#putL1(oldLo, oldHi, domid);
    return 0;
  }

  #modifyUpper(mfn: number, index: number, lo: number, hi: number, preserve: boolean, domid: number): number {
    const level = levelOf(this.frames.type[mfn]!);
    if (level === 4 && index >= FIRST_XEN_SLOT && index <= LAST_XEN_SLOT) return -ERRNO.EINVAL;
    const oldLo = this.entryLo(mfn, index);
    const oldHi = this.entryHi(mfn, index);
    if ((lo & PTE_P) !== 0) {
      if ((lo & UPPER_DISALLOWED) !== 0) return -ERRNO.EINVAL;
      const similar = ((oldLo ^ lo) & ~SIMILAR_LO) === 0 && ((oldHi ^ hi) & ~(SIMILAR_HI | PTE_HI_GRANT)) === 0;
      if (!similar) {
        const failed = this.#getUpper(level, lo, hi, mfn, domid);
        if (failed !== 0) return failed;
      }
      this.#write(mfn, index, lo | PTE_U | (level === 4 ? PTE_A : 0), hi, preserve);
      if (similar) return 0;
    } else this.#write(mfn, index, lo, hi, preserve);
    this.#putUpper(level, oldLo, oldHi, mfn);
    return 0;
  }

  #write(mfn: number, index: number, lo: number, hi: number, preserve: boolean): void {
    const kept = preserve ? this.entryLo(mfn, index) & (PTE_A | PTE_D) : 0;
    this.writeRaw(mfn, index, (lo | kept) >>> 0, hi >>> 0);
  }

  /** Takes what a present L1 entry needs. */
  #getL1(lo: number, hi: number, domid: number): number {
    if ((lo & L1_DISALLOWED) !== 0 || (hi & L1_HI_DISALLOWED) !== 0) return -ERRNO.EINVAL;
    const mfn = pteFrame(lo, hi);
    // No frame: an address of I/O memory, which no domain here may map; all ones are no address at all.
    if (!this.frames.valid(mfn)) return mfn === NO_FRAME ? -ERRNO.EINVAL : -ERRNO.EPERM;
    if (!this.frames.getRef(mfn, domid)) return -ERRNO.EBUSY;
    if ((lo & PTE_RW) !== 0 && this.getType(mfn, FrameType.writable, domid) !== 0) {
      this.frames.putRef(mfn);
      return -ERRNO.EBUSY;
    }
    return 0;
  }

  /** Gives back what an L1 entry of `domid` holds. */
  #putL1(lo: number, hi: number, domid: number): void {
    if ((lo & PTE_P) === 0 || (hi & PTE_HI_GRANT) !== 0) return;
    const mfn = pteFrame(lo, hi);
    if ((lo & PTE_RW) !== 0) this.putType(mfn);
    else if (
      this.frames.type[mfn] === TYPE_SEGMENTS &&
      this.frames.typeCount[mfn] !== 0 &&
      this.frames.owner[mfn] === domid
    )
      this.#events.descriptorsUnmapped(domid);
    this.frames.putRef(mfn);
  }

  /** Takes what a present entry of a table `own` of `level` needs: the table below, or a linear mapping. */
  #getUpper(level: number, lo: number, hi: number, own: number, domid: number): number {
    if ((lo & UPPER_DISALLOWED) !== 0) return -ERRNO.EINVAL;
    const mfn = pteFrame(lo, hi);
    if (this.frames.valid(mfn)) {
      const failed = this.getPageAndType(mfn, TYPE_L1 + level - 2, domid);
      if (failed !== -ERRNO.EINVAL) return failed;
      if (level >= 2 && this.#getLinear(level, lo, mfn, own, domid)) return 0;
    }
    return -ERRNO.EINVAL;
  }

  /** A read-only entry that maps a table of its own level: itself (which holds nothing), or another that is valid. */
  #getLinear(level: number, lo: number, mfn: number, own: number, domid: number): boolean {
    if ((lo & PTE_RW) !== 0) return false;
    if (mfn === own) return true;
    const type = TYPE_L1 + level - 1;
    const entries = this.#linear.get(own) ?? 0;
    const uses = this.#linear.get(mfn) ?? 0;
    // No chains: a table that maps others cannot be mapped so, else teardown would recurse without bound.
    if (entries < 0 || uses > 0 || !this.isTable(mfn, type) || !this.frames.getRef(mfn, domid)) return false;
    this.frames.typeCount[mfn] = this.frames.typeCount[mfn]! + 1;
    this.#linear.set(own, entries + 1);
    this.#linear.set(mfn, uses - 1);
    return true;
  }

  /** Gives back what an entry of a table `own` of `level` holds. */
  #putUpper(level: number, lo: number, hi: number, own: number): void {
    if ((lo & PTE_P) === 0) return;
    const mfn = pteFrame(lo, hi);
    if (mfn === own) return;
    if (this.frames.type[mfn] === TYPE_L1 + level - 1) {
      this.#count(own, -1);
      this.#count(mfn, 1);
    }
    this.putPageAndType(mfn);
  }

  #count(mfn: number, change: number): void {
    const value = (this.#linear.get(mfn) ?? 0) + change;
    if (value === 0) this.#linear.delete(mfn);
    else this.#linear.set(mfn, value);
  }

  #validate(mfn: number, type: number, domid: number): number {
    if (type === FrameType.writable) return 0;
    this.#events.charge(ENTRIES);
    if (type === TYPE_SEGMENTS) {
      if (!checkDescriptorPage(this.words, mfn * 1024)) return -ERRNO.EINVAL;
      this.frames.wrote(mfn, 0, 4096);
      return 0;
    }
    const level = levelOf(type);
    const base = mfn * 1024;
    for (let i = 0; i < ENTRIES; i++) {
      if (level === 4 && i >= FIRST_XEN_SLOT && i <= LAST_XEN_SLOT) continue;
      const lo = this.words[base + 2 * i]!;
      if ((lo & PTE_P) === 0) continue;
      const hi = this.words[base + 2 * i + 1]!;
      const failed = level === 1 ? this.#getL1(lo, hi, domid) : this.#getUpper(level, lo, hi, mfn, domid);
      if (failed !== 0) {
        this.#undo(level, mfn, i, domid);
        return failed;
      }
      this.words[base + 2 * i] = level === 1 ? lo | adjustL1Lo(lo, hi) : lo | PTE_U | (level === 4 ? PTE_A : 0);
      if (level === 1) this.words[base + 2 * i + 1] = hi | adjustL1Hi(lo);
    }
    if (level === 4) {
      this.words.fill(0, base + 2 * FIRST_XEN_SLOT, base + 2 * LAST_XEN_SLOT + 2);
      this.words[base + 2 * FIRST_XEN_SLOT] = this.#m2pLo;
      this.words[base + 2 * FIRST_XEN_SLOT + 1] = this.#m2pHi;
    }
    this.frames.wrote(mfn, 0, 4096);
    return 0;
  }

  #undo(level: number, mfn: number, end: number, domid: number): void {
    const base = mfn * 1024;
    for (let i = end - 1; i >= 0; i--) {
      if (level === 4 && i >= FIRST_XEN_SLOT && i <= LAST_XEN_SLOT) continue;
      if (level === 1) this.#putL1(this.words[base + 2 * i]!, this.words[base + 2 * i + 1]!, domid);
      else this.#putUpper(level, this.words[base + 2 * i]!, this.words[base + 2 * i + 1]!, mfn);
    }
  }

  #devalidate(mfn: number): void {
    const level = levelOf(this.frames.type[mfn]!);
    if (level === 0) return;
    this.#events.charge(ENTRIES / 2);
    this.#undo(level, mfn, ENTRIES, this.frames.owner[mfn]!);
  }
}

/** What Xen ORs into the low half of a present L1 entry: U always, G for pages of the guest's user mode. */
function adjustL1Lo(lo: number, hi: number): number {
  const kernel = (lo & PTE_U) === 0 || (hi & PTE_HI_GUEST_KERNEL) !== 0;
  return kernel ? PTE_U : PTE_U | PTE_G;
}

/** What Xen ORs into the high half: bit 52 where U was clear. */
function adjustL1Hi(lo: number): number {
  return (lo & PTE_U) === 0 ? PTE_HI_GUEST_KERNEL : 0;
}
