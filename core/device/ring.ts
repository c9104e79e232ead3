/**
 * Shared rings of split devices (xen/io/ring.h): a power of two of slots that hold a request, later its response, and four free-running
 * 32-bit indices at the start of the first page.
 *
 * Slots are copied out and in, never used in place: the other side may write the page at any time. Private indices are kept on this side and
 * only ever compared with what the page claims; a claim that cannot be true is a RingError, upon which a backend closes the device.
 * A ring may span several pages, that need not be neighbours; a slot may cross from one to the next.
 *
 * Invariants of the back side: responses <= requests taken <= requests announced <= responses + size, all modulo 2^32. No method
 * loops on anything that the other side controls, and none allocates.
 */

/** The other side's indices are impossible. */
export class RingError extends Error {
  constructor(message: string) {
    super(message);
    this.name = "RingError";
  }
}

/** Offsets in the shared part, and where the slots start (struct name##_sring). */
export const SRING = Object.freeze({ reqProd: 0, reqEvent: 4, rspProd: 8, rspEvent: 12, pad: 16, ring: 64 });

/** How a ring lies in memory. */
export interface RingMemory {
  /** The ring's pages in order, all of one size. */
  readonly pages: readonly Uint8Array[];
  /** sizeof(union of request and response), the alignment's padding included. */
  readonly slotBytes: number;
  readonly littleEndian: boolean;
  /** Told of each range of a page that has been written. */
  readonly wrote?: ((page: number, from: number, to: number) => void) | undefined;
}

/** How many slots a ring of so many bytes has: as many as fit, rounded down to a power of two (__RING_SIZE); 0 if none does. */
export function ringSize(bytes: number, slotBytes: number): number {
  const fit = Math.floor((bytes - SRING.ring) / slotBytes);
  return fit < 1 ? 0 : 2 ** Math.floor(Math.log2(fit));
}

/** What both sides have in common. */
class SharedRing {
  /** Number of slots. */
  readonly size: number;
  readonly slotBytes: number;
  readonly #pages: readonly Uint8Array[];
  readonly #pageBytes: number;
  readonly #header: DataView;
  readonly #littleEndian: boolean;
  readonly #wrote: ((page: number, from: number, to: number) => void) | undefined;

  constructor(memory: RingMemory) {
    const [first] = memory.pages;
    if (first === undefined) throw new RangeError("a ring needs a page");
    if (memory.pages.some((page) => page.length !== first.length))
      throw new RangeError("a ring's pages are of one size");
    this.slotBytes = memory.slotBytes;
    this.size = ringSize(first.length * memory.pages.length, memory.slotBytes);
    if (this.size === 0) throw new RangeError("a ring has at least one slot");
    this.#pages = memory.pages;
    this.#pageBytes = first.length;
    this.#header = new DataView(first.buffer, first.byteOffset, first.length);
    this.#littleEndian = memory.littleEndian;
    this.#wrote = memory.wrote;
  }

  get(offset: number): number {
    return this.#header.getUint32(offset, this.#littleEndian);
  }

  set(offset: number, value: number): void {
    this.#header.setUint32(offset, value, this.#littleEndian);
    this.#wrote?.(0, offset, offset + 4);
  }

  /** Zeroes the private part of the header (SHARED_RING_INIT). */
  clearPad(): void {
    this.#pages[0]!.fill(0, SRING.pad, SRING.ring);
    this.#wrote?.(0, SRING.pad, SRING.ring);
  }

  /** Copies a slot's first bytes into `target`, as many as it holds, at most a slot. */
  load(index: number, target: Uint8Array): void {
    const length = Math.min(target.length, this.slotBytes);
    let at = SRING.ring + ((index & (this.size - 1)) >>> 0) * this.slotBytes;
    for (let done = 0; done < length; ) {
      const page = Math.floor(at / this.#pageBytes);
      const bytes = this.#pages[page]!;
      const from = at - page * this.#pageBytes;
      const part = Math.min(length - done, this.#pageBytes - from);
      for (let n = 0; n < part; n++) target[done + n] = bytes[from + n]!;
      done += part;
      at += part;
    }
  }

  /** Copies `source` into a slot, at most a slot's bytes. */
  store(index: number, source: Uint8Array): void {
    const length = Math.min(source.length, this.slotBytes);
    let at = SRING.ring + ((index & (this.size - 1)) >>> 0) * this.slotBytes;
    for (let done = 0; done < length; ) {
      const page = Math.floor(at / this.#pageBytes);
      const bytes = this.#pages[page]!;
      const from = at - page * this.#pageBytes;
      const part = Math.min(length - done, this.#pageBytes - from);
      for (let n = 0; n < part; n++) bytes[from + n] = source[done + n]!;
      this.#wrote?.(page, from, from + part);
      done += part;
      at += part;
    }
  }
}

/** The backend's side: takes requests, puts responses. */
export class BackRing {
  readonly #shared: SharedRing;
  /** Requests taken. */
  #reqCons: number;
  /** Responses put, published or not. */
  #rspProdPrivate: number;

  /** Attaches to a ring that the frontend has set up, at the responses published there, so that a backend can take over (BACK_RING_ATTACH). */
  constructor(memory: RingMemory) {
    this.#shared = new SharedRing(memory);
    this.#rspProdPrivate = this.#shared.get(SRING.rspProd);
    this.#reqCons = this.#rspProdPrivate;
    this.unconsumed();
  }

  /** Number of slots. */
  get size(): number {
    return this.#shared.size;
  }

  /** Requests taken and not yet answered. */
  get inFlight(): number {
    return (this.#reqCons - this.#rspProdPrivate) >>> 0;
  }

  /** How many requests can be taken now. Throws RingError if the frontend announces more than the ring can hold. */
  unconsumed(): number {
    const produced = this.#shared.get(SRING.reqProd);
    const available = (produced - this.#reqCons) >>> 0;
    if ((produced - this.#rspProdPrivate) >>> 0 > this.size || available > this.size) {
      throw new RingError(
        `request producer ${produced} is beyond a ring of ${this.size} with ${this.#rspProdPrivate} responses`,
      );
    }
    return available;
  }

  /** Takes the next request into `target`. False if there is none. Throws RingError as `unconsumed`. */
  takeRequest(target: Uint8Array): boolean {
    if (this.unconsumed() === 0) return false;
    this.#shared.load(this.#reqCons, target);
    this.#reqCons = (this.#reqCons + 1) >>> 0;
    return true;
  }

  /** Puts a response; it shows when pushed. Throws RangeError if no request is unanswered: the backend's own mistake. */
  putResponse(source: Uint8Array): void {
    if (this.inFlight === 0) throw new RangeError("a response without a request");
    this.#shared.store(this.#rspProdPrivate, source);
    this.#rspProdPrivate = (this.#rspProdPrivate + 1) >>> 0;
  }

  /** Publishes the responses put; returns whether the frontend asked to be notified of one of them. */
  pushResponses(): boolean {
    const old = this.#shared.get(SRING.rspProd);
    const next = this.#rspProdPrivate;
    this.#shared.set(SRING.rspProd, next);
    return (next - this.#shared.get(SRING.rspEvent)) >>> 0 < (next - old) >>> 0;
  }

  /**
   * Before going idle: asks to be notified when there are `wanted` requests, and tells whether there are so many already. Throws RingError as
   * `unconsumed`.
   */
  finalCheck(wanted = 1): boolean {
    if (this.unconsumed() >= wanted) return true;
    this.#shared.set(SRING.reqEvent, (this.#reqCons + wanted) >>> 0);
    return this.unconsumed() >= wanted;
  }
}

/** The frontend's side: puts requests, takes responses. Used by scripted frontends. */
export class FrontRing {
  readonly #shared: SharedRing;
  #reqProdPrivate = 0;
  #rspCons = 0;

  /** Sets up an empty ring in its pages (XEN_FRONT_RING_INIT). */
  constructor(memory: RingMemory) {
    this.#shared = new SharedRing(memory);
    this.#shared.set(SRING.reqProd, 0);
    this.#shared.set(SRING.rspProd, 0);
    this.#shared.set(SRING.reqEvent, 1);
    this.#shared.set(SRING.rspEvent, 1);
    this.#shared.clearPad();
  }

  /** Number of slots. */
  get size(): number {
    return this.#shared.size;
  }

  /** Requests that can still be put. */
  get free(): number {
    return this.size - ((this.#reqProdPrivate - this.#rspCons) >>> 0);
  }

  /** Puts a request; it shows when pushed. False if the ring is full. */
  putRequest(source: Uint8Array): boolean {
    if (this.free === 0) return false;
    this.#shared.store(this.#reqProdPrivate, source);
    this.#reqProdPrivate = (this.#reqProdPrivate + 1) >>> 0;
    return true;
  }

  /** Publishes the requests put; returns whether the backend asked to be notified of one of them. */
  pushRequests(): boolean {
    const old = this.#shared.get(SRING.reqProd);
    const next = this.#reqProdPrivate;
    this.#shared.set(SRING.reqProd, next);
    return (next - this.#shared.get(SRING.reqEvent)) >>> 0 < (next - old) >>> 0;
  }

  /** Responses that can be taken. Throws RingError if the backend has published more than there were requests. */
  unconsumed(): number {
    const available = (this.#shared.get(SRING.rspProd) - this.#rspCons) >>> 0;
    if (available > (this.#reqProdPrivate - this.#rspCons) >>> 0) throw new RingError("more responses than requests");
    return available;
  }

  /** Takes the next response into `target`. False if there is none. */
  takeResponse(target: Uint8Array): boolean {
    if (this.unconsumed() === 0) return false;
    this.#shared.load(this.#rspCons, target);
    this.#rspCons = (this.#rspCons + 1) >>> 0;
    return true;
  }

  /** Before going idle: asks to be notified of the next response, and tells whether there is one already. */
  finalCheck(): boolean {
    if (this.unconsumed() > 0) return true;
    this.#shared.set(SRING.rspEvent, (this.#rspCons + 1) >>> 0);
    return this.unconsumed() > 0;
  }
}
