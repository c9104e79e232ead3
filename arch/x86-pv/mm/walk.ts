/**
 * Guest virtual addresses as the hypervisor follows them: walks of the page tables, and copies to and from guest memory.
 *
 * Walks go through memory itself, never through a vCPU's TLB, so that what a hypercall changed a moment ago is what counts. As
 * the hardware would, a walk sets A, and D for a write.
 *
 * Invariants: addresses in the hypervisor's range are refused (Xen: access_ok); a write needs RW on every level, so that neither a page table
 * nor the m2p can be reached; nothing past the first bad address is written.
 */
import type { Frames } from "hookvisor";
import { guestAddress, PTE_A, PTE_D, PTE_P, PTE_PS, PTE_RW, pteFrame, tableIndex } from "./pte.ts";

/** Walks guest page tables over one machine's memory. */
export class GuestMemory {
  readonly frames: Frames;
  readonly #words: Uint32Array;

  constructor(frames: Frames) {
    this.frames = frames;
    this.#words = new Uint32Array(frames.memory.buffer);
  }

  /** The frame behind a page of the address space of `root` (an L4 frame, 0: none); -1: not mapped so, or not the guest's to hand over. */
  frameAt(root: number, lo: number, hi: number, write: boolean): number {
    if (root === 0 || !guestAddress(hi)) return -1;
    let table = root;
    for (let level = 4; level >= 1; level--) {
      const at = table * 1024 + tableIndex(level, lo, hi) * 2;
      const entry = this.#words[at]!;
      if ((entry & PTE_P) === 0 || (write && (entry & PTE_RW) === 0) || (level > 1 && (entry & PTE_PS) !== 0))
        return -1;
      const next = pteFrame(entry, this.#words[at + 1]!);
      if (next >= this.frames.count) return -1;
      const marks = level === 1 && write ? PTE_A | PTE_D : PTE_A;
      if ((entry & marks) !== marks) this.#words[at] = entry | marks;
      table = next;
    }
    return table;
  }

  /** The L1 table that maps an address (map_guest_l1e), or -1. */
  l1TableAt(root: number, lo: number, hi: number): number {
    if (root === 0 || !guestAddress(hi)) return -1;
    let table = root;
    for (let level = 4; level >= 2; level--) {
      const at = table * 1024 + tableIndex(level, lo, hi) * 2;
      const entry = this.#words[at]!;
      if ((entry & PTE_P) === 0 || (entry & PTE_PS) !== 0) return -1;
      table = pteFrame(entry, this.#words[at + 1]!);
      if (table >= this.frames.count) return -1;
    }
    return table;
  }

  /** Copies `length` bytes from a guest address; false: -EFAULT. */
  copyFrom(root: number, lo: number, hi: number, into: Uint8Array, length: number): boolean {
    for (let done = 0; done < length; ) {
      const offset = lo & 0xfff;
      const part = Math.min(length - done, 4096 - offset);
      const mfn = this.frameAt(root, lo, hi, false);
      if (mfn < 0) return false;
      const from = mfn * 4096 + offset;
      if (part <= 64) for (let i = 0; i < part; i++) into[done + i] = this.frames.bytes[from + i]!;
      else into.set(this.frames.bytes.subarray(from, from + part), done);
      done += part;
      const sum = lo + part;
      lo = sum >>> 0;
      if (sum > 0xffff_ffff) hi = (hi + 1) >>> 0;
    }
    return true;
  }

  /** Copies `length` bytes to a guest address; false: -EFAULT, and nothing past the bad address was written. */
  copyTo(root: number, lo: number, hi: number, from: Uint8Array, length: number): boolean {
    for (let done = 0; done < length; ) {
      const offset = lo & 0xfff;
      const part = Math.min(length - done, 4096 - offset);
      const mfn = this.frameAt(root, lo, hi, true);
      if (mfn < 0) return false;
      this.frames.bytes.set(from.subarray(done, done + part), mfn * 4096 + offset);
      this.frames.wrote(mfn, offset, offset + part);
      done += part;
      const sum = lo + part;
      lo = sum >>> 0;
      if (sum > 0xffff_ffff) hi = (hi + 1) >>> 0;
    }
    return true;
  }
}
