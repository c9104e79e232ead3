/**
 * The frontend's frames that one connection has mapped: for the time of a request, or for good where both ends have said
 * feature-persistent (xen/io/blkif.h).
 *
 * Invariants: at most MOST_PERSISTENT frames stay mapped; one that a request under way uses is not given up; a grant that cannot be had
 * for writing is mapped for its request only; `close` gives back everything at once, requests under way included.
 */
import { type DeviceHost, GrantError, type MappedPages } from "hookvisor";

/** Frames that stay mapped (Linux' backend: the same number by default). */
export const MOST_PERSISTENT = 1056;

/** Frames of one request, in the order asked for. */
export interface Held {
  readonly pages: readonly Uint8Array[];
  /** After writing bytes [from, to) of a page. */
  wrote(page: number, from: number, to: number): void;
  /** The request needs them no more. */
  release(): void;
}

interface Kept {
  readonly mapped: MappedPages;
  users: number;
}

export class Grants {
  readonly #host: DeviceHost;
  readonly #persistent: boolean;
  readonly #kept = new Map<number, Kept>();
  /** Mappings of requests under way. */
  readonly #passing = new Set<MappedPages>();
  #open = true;

  constructor(host: DeviceHost, persistent: boolean) {
    this.#host = host;
    this.#persistent = persistent;
  }

  /** Frames that stay mapped. */
  get kept(): number {
    return this.#kept.size;
  }

  /** False: everything has been given back, the frontend's memory may not be touched. */
  get open(): boolean {
    return this.#open;
  }

  /** Maps the frames behind these references. Throws GrantError; nothing is held then. */
  hold(references: readonly number[], access: "ro" | "rw"): Held {
    return this.#persistent ? this.#holdKept(references, access) : this.#pass(references, access);
  }

  /** Gives everything back. */
  close(): void {
    this.#open = false;
    for (const mapped of this.#passing) mapped.unmap();
    this.#passing.clear();
    for (const { mapped } of this.#kept.values()) mapped.unmap();
    this.#kept.clear();
  }

  #pass(references: readonly number[], access: "ro" | "rw"): Held {
    const mapped = this.#host.mapGrants(references, access);
    this.#passing.add(mapped);
    const release = (): void => {
      if (this.#passing.delete(mapped)) mapped.unmap();
    };
    return { pages: mapped.pages, wrote: (page, from, to) => mapped.wrote(page, from, to), release };
  }

  #holdKept(references: readonly number[], access: "ro" | "rw"): Held {
    const parts: { readonly mapped: MappedPages; readonly kept: Kept | null }[] = [];
    const release = (): void => {
      for (const { mapped, kept } of parts.splice(0)) {
        if (kept !== null) kept.users--;
        else if (this.#passing.delete(mapped)) mapped.unmap();
      }
    };
    try {
      for (const reference of references) {
        const kept = this.#keep(reference, access);
        if (kept !== null) {
          kept.users++;
          parts.push({ mapped: kept.mapped, kept });
          continue;
        }
        const mapped = this.#host.mapGrants([reference], access);
        this.#passing.add(mapped);
        parts.push({ mapped, kept: null });
      }
    } catch (error) {
      release();
      throw error;
    }
    const all = parts.map((part) => part.mapped);
    return {
      pages: all.map((mapped) => mapped.pages[0]!),
      wrote: (page, from, to) => all[page]!.wrote(0, from, to),
      release,
    };
  }

  /** The frame behind a reference, mapped for good; null: it cannot be, for lack of room or of the right to write. Throws GrantError. */
  #keep(reference: number, access: "ro" | "rw"): Kept | null {
    const known = this.#kept.get(reference);
    if (known !== undefined) return known;
    if (this.#kept.size >= MOST_PERSISTENT && !this.#giveUpOne()) return null;
    let mapped: MappedPages;
    try {
      mapped = this.#host.mapGrants([reference], "rw");
    } catch (error) {
      if (access === "ro" && error instanceof GrantError) return null;
      throw error;
    }
    const kept = { mapped, users: 0 };
    this.#kept.set(reference, kept);
    return kept;
  }

  /** Unmaps the frame that has been mapped for longest and that no request uses. */
  #giveUpOne(): boolean {
    for (const [reference, { mapped, users }] of this.#kept) {
      if (users > 0) continue;
      mapped.unmap();
      this.#kept.delete(reference);
      return true;
    }
    return false;
  }
}
