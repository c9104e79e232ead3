/**
 * The machine-to-physical table as PV guests read it: 8 bytes a frame from 0xFFFF800000000000 on, read-only.
 *
 * The table lies in frames of the hypervisor, with page tables of their own, and every L4 table of a guest's kernel has them in slot 256,
 * as on real Xen (public/arch-x86/xen-x86_64.h, MACH2PHYS_VIRT_START). It mirrors Frames.gfnOf.
 *
 * Invariants: the frames and tables are OWNER_XEN's, so no guest entry can name them; no mapping of them is writable.
 */
import { type Frames, INVALID_GFN, OWNER_XEN } from "hookvisor";
import { ENTRIES, PTE_A, PTE_HI_NX, PTE_P, PTE_U, pteLo } from "./mm/pte.ts";

/** Table entries a frame. */
const PER_FRAME = 512;
const LINK = PTE_P | PTE_U | PTE_A;

export class MachineToPhysical {
  /** The L4 entry of slot 256. */
  readonly entry: { readonly lo: number; readonly hi: number };
  readonly #frames: readonly number[];
  readonly #words: Uint32Array;

  /** Builds the table and keeps it up to date. Throws OutOfFrames if the machine has no room for it. */
  constructor(frames: Frames) {
    const words = new Uint32Array(frames.memory.buffer);
    this.#words = words;
    const data = frames.allocate(OWNER_XEN, Math.ceil(frames.count / PER_FRAME));
    const l1 = frames.allocate(OWNER_XEN, Math.ceil(data.length / ENTRIES));
    const [l2, l3] = frames.allocate(OWNER_XEN, 2);
    this.#frames = data;
    for (const mfn of data) frames.page(mfn).fill(0xff);
    data.forEach((mfn, i) => {
      words[l1[i >> 9]! * 1024 + (i & 511) * 2] = pteLo(mfn, LINK);
    });
    l1.forEach((mfn, i) => {
      words[l2! * 1024 + i * 2] = pteLo(mfn, LINK);
    });
    words[l3! * 1024] = pteLo(l2!, LINK);
    this.entry = { lo: pteLo(l3!, LINK), hi: PTE_HI_NX };
    for (let mfn = 0; mfn < frames.count; mfn++)
      if (frames.gfnOf[mfn] !== INVALID_GFN) this.#set(mfn, frames.gfnOf[mfn]!);
    frames.onM2p((mfn, gfn) => this.#set(mfn, gfn));
  }

  #set(mfn: number, gfn: number): void {
    const at = this.#frames[mfn >> 9]! * 1024 + (mfn & 511) * 2;
    this.#words[at] = gfn;
    this.#words[at + 1] = gfn === INVALID_GFN ? 0xffff_ffff : 0;
  }
}
