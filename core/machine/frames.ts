/**
 * The machine's frames: who owns each, how often it is referenced, as what it is used.
 *
 * Memory 0 is physical memory and nothing else; it never grows, so views of it stay valid, and frames that nobody
 * touched cost the host nothing. A frame is 4 KiB.
 * Invariants (Xen: common/page_alloc.c, arch/x86/mm.c): a frame with an owner has a reference count of at least 1; a
 * frame's type may change only while its type count is 0; a frame is scrubbed and returns to the free list when its last
 * reference goes; before a frame changes type, owner or is freed every TLB forgets it (`onRetype`); a free frame has no translation.
 */

/** Machine frame number, as in Xen. */
export type Mfn = number;
/** Guest frame number (the pfn of a PV guest). */
export type Gfn = number;

/** Bytes of a frame. */
export const FRAME_SIZE = 4096;
/** log2 of FRAME_SIZE. */
export const FRAME_SHIFT = 12;

/** Types that core knows; an arch's own types are small integers from `firstArch` on. */
export const FrameType = Object.freeze({ none: 0, writable: 1, firstArch: 2 });

/** Owner of a frame on the free list. */
export const OWNER_FREE = -1;
/** Owner of frames that belong to the hypervisor itself (DOMID_XEN). */
export const OWNER_XEN = 0x7ff2;
/** `gfnOf` of a frame that is nowhere in a guest's pseudo-physical map (INVALID_M2P_ENTRY, 32 bits of it). */
export const INVALID_GFN = 0xffffffff;

/** Raised by the core when the machine has no free frame left; a guest sees ENOMEM. */
export class OutOfFrames extends Error {}

/** All frames of one machine. */
export class Frames {
  /** Memory 0. */
  readonly memory: WebAssembly.Memory;
  readonly bytes: Uint8Array;
  readonly view: DataView;
  /** Number of frames. */
  readonly count: number;
  /** Owning domain id, OWNER_FREE or OWNER_XEN. */
  readonly owner: Int32Array;
  readonly refs: Uint32Array;
  /** 1 while the allocation itself holds one of the references (Xen: PGC_allocated). */
  readonly allocated: Uint8Array;
  readonly type: Uint8Array;
  readonly typeCount: Uint32Array;
  /** The machine-to-physical table: each frame's gfn in its owner, or INVALID_GFN. */
  readonly gfnOf: Uint32Array;
  readonly #words: Int32Array;
  #next = 0;
  #free: Mfn[] = [];
  readonly #owned = new Map<number, number>();
  readonly #writeListeners: ((mfn: Mfn, from: number, to: number) => void)[] = [];
  readonly #retypeListeners: ((mfn: Mfn) => void)[] = [];
  readonly #m2pListeners: ((mfn: Mfn, gfn: number) => void)[] = [];
  readonly #emptyListeners: ((owner: number) => void)[] = [];

  /** `frames` is at most 2^20 (4 GiB). */
  constructor(frames: number) {
    if (!Number.isInteger(frames) || frames < 16 || frames > 1 << 20)
      throw new RangeError(`A machine has 16 to 1048576 frames of 4 KiB (4 GiB), got ${frames}.`);
    const pages = Math.ceil(frames / 16);
    this.memory = new WebAssembly.Memory({ initial: pages, maximum: pages });
    this.bytes = new Uint8Array(this.memory.buffer);
    this.view = new DataView(this.memory.buffer);
    this.#words = new Int32Array(this.memory.buffer);
    this.count = frames;
    this.owner = new Int32Array(frames).fill(OWNER_FREE);
    this.refs = new Uint32Array(frames);
    this.allocated = new Uint8Array(frames);
    this.type = new Uint8Array(frames);
    this.typeCount = new Uint32Array(frames);
    this.gfnOf = new Uint32Array(frames).fill(INVALID_GFN);
  }

  /** Frames free. */
  get free(): number {
    return this.count - this.#next + this.#free.length;
  }

  /** Frames that `owner` owns; a dying domain's go on counting until their last reference goes. */
  ownedBy(owner: number): number {
    return this.#owned.get(owner) ?? 0;
  }

  /** Takes `count` zeroed frames, lowest never-used first, then the last freed; all of them or OutOfFrames. */
  allocate(owner: number, count: number): Mfn[] {
    if (count > this.free) throw new OutOfFrames(`${count} frames wanted, ${this.free} free`);
    const got: Mfn[] = new Array(count);
    for (let i = 0; i < count; i++) {
      const mfn = this.#next < this.count ? this.#next++ : this.#free.pop()!;
      this.#fresh(mfn, owner);
      got[i] = mfn;
    }
    this.#owned.set(owner, this.ownedBy(owner) + count);
    return got;
  }

  /** Takes `count` frames with consecutive numbers that start at a multiple of `align` (guest pages above 4 KiB); never-used ones first. */
  allocateContiguous(owner: number, count: number, align: number): Mfn {
    let first = Math.ceil(this.#next / align) * align;
    if (first + count > this.count) {
      first = this.#findFree(count, align);
      if (first < 0) throw new OutOfFrames(`${count} contiguous frames wanted`);
      this.#free = this.#free.filter((mfn) => mfn < first || mfn >= first + count);
    }
    for (; this.#next < first; this.#next++) this.#free.push(this.#next);
    this.#next = Math.max(this.#next, first + count);
    for (let mfn = first; mfn < first + count; mfn++) this.#fresh(mfn, owner);
    this.#owned.set(owner, this.ownedBy(owner) + count);
    return first;
  }

  /** The lowest aligned run of free frames, whether they were used before or not; -1: none. */
  #findFree(count: number, align: number): Mfn {
    for (let first = 0; first + count <= this.count; first += align) {
      let length = 0;
      while (length < count && this.owner[first + length] === OWNER_FREE) length++;
      if (length === count) return first;
    }
    return -1;
  }

  #fresh(mfn: Mfn, owner: number): void {
    this.owner[mfn] = owner;
    this.refs[mfn] = 1;
    this.allocated[mfn] = 1;
    this.type[mfn] = FrameType.none;
    this.typeCount[mfn] = 0;
    this.gfnOf[mfn] = INVALID_GFN;
  }

  /** A frame number that exists (whoever owns it). */
  valid(mfn: number): boolean {
    return Number.isInteger(mfn) && mfn >= 0 && mfn < this.count;
  }

  /** Does `domid` own this frame? False for numbers that are no frame. */
  owns(domid: number, mfn: number): boolean {
    return this.valid(mfn) && this.owner[mfn] === domid;
  }

  /** Takes a reference to a frame that `domid` owns (Xen: get_page). */
  getRef(mfn: Mfn, domid: number): boolean {
    if (!this.owns(domid, mfn)) return false;
    this.refs[mfn] = this.refs[mfn]! + 1;
    return true;
  }

  /** Drops a reference (put_page); the last one frees the frame. */
  putRef(mfn: Mfn): void {
    const refs = this.refs[mfn]!;
    if (refs === 0) throw new Error(`frame ${mfn}: reference count below zero`);
    this.refs[mfn] = refs - 1;
    if (refs === 1) this.#release(mfn);
  }

  /**
   * Takes a type reference (get_page_type). False if the frame is in use as another type. On the change of type
   * `validate` (of the arch) decides, before the count rises; every TLB has then forgotten the frame.
   */
  getType(mfn: Mfn, type: number, validate?: (mfn: Mfn) => boolean): boolean {
    if (this.typeCount[mfn] === 0) {
      if (this.type[mfn] !== type) this.retyped(mfn);
      if (validate !== undefined) {
        const before = this.type[mfn]!;
        this.type[mfn] = type;
        this.typeCount[mfn] = 1;
        if (!validate(mfn)) {
          this.type[mfn] = before;
          this.typeCount[mfn] = 0;
          return false;
        }
        return true;
      }
      this.type[mfn] = type;
      this.typeCount[mfn] = 1;
      return true;
    }
    if (this.type[mfn] !== type) return false;
    this.typeCount[mfn] = this.typeCount[mfn]! + 1;
    return true;
  }

  /** Drops a type reference (put_page_type); true when it was the last: the arch then devalidates. */
  putType(mfn: Mfn): boolean {
    const count = this.typeCount[mfn]!;
    if (count === 0) throw new Error(`frame ${mfn}: type count below zero`);
    this.typeCount[mfn] = count - 1;
    return count === 1;
  }

  /**
   * Drops the reference that the allocation itself holds (Xen: clearing PGC_allocated), once: the frame is freed when
   * nobody else holds one. This is how decrease_reservation and a domain's end give frames back. False: dropped before.
   */
  dropAllocation(mfn: Mfn): boolean {
    if (this.allocated[mfn] === 0) return false;
    this.allocated[mfn] = 0;
    this.putRef(mfn);
    return true;
  }

  /** A domain goes: drops the allocation's own reference of every frame that it owns (Xen: relinquish_memory). */
  disown(owner: number): void {
    for (let mfn = 0; mfn < this.#next; mfn++) if (this.owner[mfn] === owner) this.dropAllocation(mfn);
  }

  /** Hands a frame to another owner (grant transfer, exchange); its counts must be those of an unused frame. */
  setOwner(mfn: Mfn, owner: number): void {
    this.retyped(mfn);
    const before = this.owner[mfn]!;
    this.#owned.set(before, this.ownedBy(before) - 1);
    this.#owned.set(owner, this.ownedBy(owner) + 1);
    this.owner[mfn] = owner;
    this.type[mfn] = FrameType.none;
    this.setGfn(mfn, INVALID_GFN);
  }

  /** Sets the machine-to-physical entry. */
  setGfn(mfn: Mfn, gfn: number): void {
    this.gfnOf[mfn] = gfn;
    for (const listener of this.#m2pListeners) listener(mfn, gfn);
  }

  /** The bytes of a frame; valid for ever, not owned: check first, and report writes by `wrote`. */
  page(mfn: Mfn): Uint8Array {
    return this.bytes.subarray(mfn * FRAME_SIZE, (mfn + 1) * FRAME_SIZE);
  }

  /** Somebody else than the guest's own CPU wrote bytes [from, to) of a frame: translations are invalidated. */
  wrote(mfn: Mfn, from: number, to: number): void {
    for (const listener of this.#writeListeners) listener(mfn, from, to);
  }

  /** Every TLB must forget this frame before the next guest instruction. */
  retyped(mfn: Mfn): void {
    for (const listener of this.#retypeListeners) listener(mfn);
  }

  /** Observes writes from outside guests' CPUs. */
  onWrite(listener: (mfn: Mfn, from: number, to: number) => void): void {
    this.#writeListeners.push(listener);
  }
  /** Observes frames that change type or owner or are freed. */
  onRetype(listener: (mfn: Mfn) => void): void {
    this.#retypeListeners.push(listener);
  }
  /** Observes the machine-to-physical table (an arch mirrors it into guest-readable frames). */
  onM2p(listener: (mfn: Mfn, gfn: number) => void): void {
    this.#m2pListeners.push(listener);
  }
  /** Observes owners that lose their last frame (a dying domain is dead then). */
  onEmpty(listener: (owner: number) => void): void {
    this.#emptyListeners.push(listener);
  }

  /** Zeroes a frame. One that is zero already is only read: a frame that nobody touched goes on costing the host nothing. */
  #scrub(mfn: Mfn): void {
    const words = FRAME_SIZE / 4;
    const first = mfn * words;
    for (let i = first; i < first + words; i++)
      if (this.#words[i] !== 0) {
        this.#words.fill(0, first, first + words);
        return;
      }
  }

  #release(mfn: Mfn): void {
    this.retyped(mfn);
    const owner = this.owner[mfn]!;
    this.owner[mfn] = OWNER_FREE;
    this.allocated[mfn] = 0;
    this.type[mfn] = FrameType.none;
    this.typeCount[mfn] = 0;
    this.#scrub(mfn);
    // Also where it was zero already: who gets the frame next fills it without a word, and zeros too may have been translated.
    this.wrote(mfn, 0, FRAME_SIZE);
    this.setGfn(mfn, INVALID_GFN);
    this.#free.push(mfn);
    const left = this.ownedBy(owner) - 1;
    this.#owned.set(owner, left);
    if (left === 0) for (const listener of this.#emptyListeners) listener(owner);
  }
}
