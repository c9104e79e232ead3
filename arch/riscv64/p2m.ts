/**
 * Guest-physical to machine: the G-stage, a radix table in machine frames of its own, which the emitted page walk (mmu.ts) reads.
 *
 * Three levels of 1024 entries of 32 bits reach gfns below 2^30 (guest-physical addresses below 2^42). A leaf is the frame's byte address with
 * P2M_RAM and perhaps P2M_WRITABLE, or P2M_MMIO alone, or 0: an access fault. Table frames belong to whoever gives them (`P2mFrames`): no guest
 * may own or map one.
 *
 * Invariants: a leaf only names a frame below `frames`. Whoever takes a mapping away or makes it read-only flushes: engine.flushFrame(mfn) for RAM,
 * RiscvGuest.flush for the rest.
 */

/** Leaf bits. */
export const P2M_RAM = 1;
export const P2M_WRITABLE = 2;
export const P2M_DEVICE = 4;
/** What `get` answers where there is no RAM. */
export const P2M_NONE = -1;
export const P2M_MMIO = -2;
/** gfns from here on are never mapped. */
export const P2M_GFNS = 2 ** 30;

/** Where table frames come from; each answer is zeroed by the P2m. */
export interface P2mFrames {
  /** A frame that no guest can reach, or -1: there is none left. */
  allocate(): number;
  free(frame: number): void;
}

export class P2m {
  /** Machine frame of the top table, for the walk. */
  readonly root: number;
  readonly #u32: Uint32Array;
  readonly #frames: number;
  readonly #source: P2mFrames;
  #tables: number[] = [];

  /** Throws where not even one frame is left. */
  constructor(memory: WebAssembly.Memory, frames: number, source: P2mFrames) {
    this.#u32 = new Uint32Array(memory.buffer, 0, frames * 1024);
    this.#frames = frames;
    this.#source = source;
    const root = this.#table();
    if (root < 0) throw new Error("no frame for a p2m");
    this.root = root;
  }

  #table(): number {
    const frame = this.#source.allocate();
    if (frame < 0 || frame >= this.#frames) return -1;
    this.#u32.fill(0, frame * 1024, (frame + 1) * 1024);
    this.#tables.push(frame);
    return frame;
  }

  /** Index of a gfn's leaf, or -1; `make` puts tables in. */
  #leaf(gfn: number, make: boolean): number {
    if (!(gfn >= 0 && gfn < P2M_GFNS)) return -1;
    let at = this.root * 1024 + (gfn >>> 20);
    for (const shift of [10, 0]) {
      const entry = this.#u32[at] ?? 0;
      let table = entry >>> 12;
      if (entry === 0) {
        table = make ? this.#table() : -1;
        if (table < 0) return -1;
        this.#u32[at] = ((table << 12) | P2M_RAM) >>> 0;
      }
      at = table * 1024 + ((gfn >>> shift) & 1023);
    }
    return at;
  }

  #put(gfn: number, entry: number): boolean {
    const at = this.#leaf(gfn, entry !== 0);
    if (at < 0) return entry === 0;
    this.#u32[at] = entry;
    return true;
  }

  /** gfn becomes machine frame `mfn`. False: out of range, or no frame is left for a table. */
  set(gfn: number, mfn: number, writable = true): boolean {
    if (!(mfn >= 0 && mfn < this.#frames)) return false;
    return this.#put(gfn, ((mfn << 12) | P2M_RAM | (writable ? P2M_WRITABLE : 0)) >>> 0);
  }

  /** Accesses to gfn leave the run (HART_MMIO). */
  setMmio(gfn: number): boolean {
    return this.#put(gfn, P2M_DEVICE);
  }

  /** Nothing is there any more. */
  clear(gfn: number): void {
    this.#put(gfn, 0);
  }

  /** The machine frame, P2M_MMIO or P2M_NONE. */
  get(gfn: number): number {
    const at = this.#leaf(gfn, false);
    const entry = at < 0 ? 0 : (this.#u32[at] ?? 0);
    if ((entry & P2M_RAM) !== 0) return entry >>> 12;
    return entry === 0 ? P2M_NONE : P2M_MMIO;
  }

  /** The mapping permits stores. */
  writable(gfn: number): boolean {
    const at = this.#leaf(gfn, false);
    return at >= 0 && ((this.#u32[at] ?? 0) & P2M_WRITABLE) !== 0;
  }

  /** Gives all tables back; nothing may run with it any more. */
  destroy(): void {
    for (const frame of this.#tables) this.#source.free(frame);
    this.#tables = [];
  }
}
