/**
 * The grants that one domain has mapped, by handle (Xen: struct grant_mapping, the maptrack table).
 *
 * Invariant: an entry exists exactly while at least one of its mappings (host, device) exists, and holds that many pins of the
 * granting domain's active entry. Handles are small and reused, last freed first.
 */

/** Mappings that a frame of maptrack entries holds (4096 bytes by 16). */
const ENTRIES_PER_FRAME = 256;

/** One mapping. */
export interface MaptrackEntry {
  readonly granter: number;
  readonly ref: number;
  /** GNTMAP_* of the mappings that exist still, and GNTMAP_readonly. */
  flags: number;
}

export class Maptrack {
  readonly #limit: number;
  readonly #entries: (MaptrackEntry | null)[] = [];
  readonly #free: number[] = [];

  /** `frames`: what Xen calls max_maptrack_frames. */
  constructor(frames: number) {
    this.#limit = frames * ENTRIES_PER_FRAME;
  }

  /** Is there room for one more? */
  get full(): boolean {
    return this.#free.length === 0 && this.#entries.length >= this.#limit;
  }

  /** Adds a mapping; there must be room. Returns its handle. */
  add(entry: MaptrackEntry): number {
    const handle = this.#free.pop() ?? this.#entries.length;
    this.#entries[handle] = entry;
    return handle;
  }

  get(handle: number): MaptrackEntry | null {
    return this.#entries[handle] ?? null;
  }

  remove(handle: number): void {
    if (this.get(handle) === null) return;
    this.#entries[handle] = null;
    this.#free.push(handle);
  }

  /** Handles in use, rising. */
  handles(): number[] {
    return [...this.#entries.keys()].filter((handle) => this.#entries[handle] !== null);
  }
}
