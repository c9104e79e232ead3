/**
 * Page-table entries of x86-64 and the frame types of a PV domain's page tables.
 *
 * An entry is two unsigned 32-bit halves. Bit numbers: SDM volume 3, 4.5. What Xen makes of them for PV guests: every present entry is
 * user-accessible (the guest kernel runs in ring 3), an L1 entry of the guest's kernel carries bit 52 instead, user entries G.
 */
import { FrameType } from "hookvisor";

/** Frame types: page tables by level, and pages of segment descriptors. */
export const TYPE_L1 = FrameType.firstArch;
export const TYPE_L2 = FrameType.firstArch + 1;
export const TYPE_L3 = FrameType.firstArch + 2;
export const TYPE_L4 = FrameType.firstArch + 3;
export const TYPE_SEGMENTS = FrameType.firstArch + 4;

/** Bits of the low half. */
export const PTE_P = 1;
export const PTE_RW = 2;
export const PTE_U = 4;
export const PTE_PWT = 8;
export const PTE_PCD = 0x10;
export const PTE_A = 0x20;
export const PTE_D = 0x40;
/** PAT in an L1 entry, PS above. */
export const PTE_PS = 0x80;
export const PTE_G = 0x100;
/** The three bits for the guest. */
export const PTE_AVAIL = 0xe00;

/** Bits of the high half. */
export const PTE_HI_NX = 0x8000_0000;
/** Bits 52 to 62. */
export const PTE_HI_AVAIL = 0x7ff0_0000;
/** Bit 52: a page of the guest's kernel (U was clear). */
export const PTE_HI_GUEST_KERNEL = 0x0010_0000;
/** Bit 62: installed by a grant operation, whose references the grant's handle holds; a guest may not set it. */
export const PTE_HI_GRANT = 0x4000_0000;

/** What a guest may not set: cache attributes (no domain here has devices); in upper levels also PS and G. */
export const L1_DISALLOWED = PTE_PWT | PTE_PCD | PTE_PS;
export const L1_HI_DISALLOWED = PTE_HI_GRANT;
export const UPPER_DISALLOWED = PTE_PWT | PTE_PCD | PTE_PS | PTE_G;

/** Bits that may change without a new reference: all but P, RW, cache attributes and the address. */
export const SIMILAR_LO = PTE_U | PTE_A | PTE_D | PTE_G | PTE_AVAIL;
export const SIMILAR_HI = (PTE_HI_NX | (PTE_HI_AVAIL & ~PTE_HI_GRANT)) >>> 0;

/** L4 slots that are Xen's: 0xFFFF800000000000 to 0xFFFF87FFFFFFFFFF. */
export const FIRST_XEN_SLOT = 256;
export const LAST_XEN_SLOT = 271;

/** Entries of a table. */
export const ENTRIES = 512;

/** The machine frame that an entry names; may be far beyond memory (40 bits). */
export function pteFrame(lo: number, hi: number): number {
  return (lo >>> 12) + (hi & 0xf_ffff) * 0x10_0000;
}

/** The low half of an entry for a frame below 2^20 (4 GiB of memory). */
export function pteLo(mfn: number, flags: number): number {
  return ((mfn << 12) | flags) >>> 0;
}

/** Index into the table of `level` (1 to 4) for an address. */
export function tableIndex(level: number, lo: number, hi: number): number {
  switch (level) {
    case 1:
      return (lo >>> 12) & 511;
    case 2:
      return (lo >>> 21) & 511;
    case 3:
      return ((lo >>> 30) | (hi << 2)) & 511;
    default:
      return (hi >>> 7) & 511;
  }
}

/** Is the address canonical (bits 63 to 47 equal)? */
export function canonical(hi: number): boolean {
  const top = hi >>> 15;
  return top === 0 || top === 0x1_ffff;
}

/** May a guest hand over this address: canonical and not in the hypervisor's range (Xen: __addr_ok)? */
export function guestAddress(hi: number): boolean {
  return hi < 0x8000 || hi >= 0xffff_8800;
}
