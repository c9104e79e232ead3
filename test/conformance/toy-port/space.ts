/**
 * The guest-physical address space of a toy domain: which frame is behind each 4 KiB of it.
 *
 * The guest's pages have 8 KiB: its memory is built of pairs of frames that follow one another. The map behind them is in frames, since
 * that is what grants and reservations hand out: a granted frame fills half a page.
 * Invariants: every address is looked up anew, so that there is no TLB to flush; a frame is taken out of the map before it leaves the
 * domain; an access reaches no byte beyond the first that is not mapped.
 */
import { FRAME_SHIFT, FRAME_SIZE, type Frames, type Mfn } from "hookvisor";

/** One frame of the address space. */
export interface Slot {
  readonly mfn: Mfn;
  readonly writable: boolean;
  /** Mapped by a grant: it is another domain's. */
  readonly granted: boolean;
}

/** Copies for hot code: an import may be looked up at every use. */
const SHIFT = FRAME_SHIFT;
const SIZE = FRAME_SIZE;
/** First address behind the address space, 4 GiB. */
const END = 0x1_0000_0000;

export class Space {
  readonly slots = new Map<number, Slot>();
  readonly #frames: Frames;

  constructor(frames: Frames) {
    this.#frames = frames;
  }

  /** Machine address behind a guest address, or -1. */
  translate(address: number, write: boolean): number {
    const slot = this.slots.get(address >>> SHIFT);
    if (slot === undefined || (write && !slot.writable)) return -1;
    return slot.mfn * SIZE + (address & (SIZE - 1));
  }

  /** Copies out of guest memory; false: some of it is not mapped. */
  read(address: number, into: Uint8Array, length: number): boolean {
    return this.#each(address, length, false, (at, done, part) => {
      into.set(this.#frames.bytes.subarray(at, at + part), done);
    });
  }

  /** Copies into guest memory; false: some of it is not mapped or not writable, and nothing behind that was written. */
  write(address: number, from: Uint8Array, length: number): boolean {
    return this.#each(address, length, true, (at, done, part) => {
      this.#frames.bytes.set(from.subarray(done, done + part), at);
      const offset = at % FRAME_SIZE;
      this.#frames.wrote((at - offset) / FRAME_SIZE, offset, offset + part);
    });
  }

  #each(
    address: number,
    length: number,
    write: boolean,
    part: (at: number, done: number, part: number) => void,
  ): boolean {
    if (address + length > END) return false;
    for (let done = 0; done < length; ) {
      const at = this.translate(address + done, write);
      if (at < 0) return false;
      const size = Math.min(length - done, FRAME_SIZE - (at % FRAME_SIZE));
      part(at, done, size);
      done += size;
    }
    return true;
  }
}
