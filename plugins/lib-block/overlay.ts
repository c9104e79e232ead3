/**
 * A copy-on-write overlay: a disk whose writes go to a file of their own, and whose base is never written.
 *
 * Format of the file, all numbers little-endian: a header of 4 KiB (magic, bytes of a cluster, bytes of the base); a bitmap
 * with one bit a cluster of 4 KiB, least significant first: the overlay has it; then the clusters, each at its own place, so that the
 * file is sparse. Both parts start at a multiple of 4 KiB. A file of zeros of the right size is an overlay that has nothing.
 *
 * Invariants: the bits in the file are written in `flush` only, between two of the host's: whatever moment the process or the host
 * dies at, a bit in the file says that the whole cluster is there, and what was flushed is. The owner does one operation at a time.
 */
import { ConfigError, type HostFile } from "hookvisor";

/** Bytes of a cluster, of the header, and what both parts are aligned to. */
const CLUSTER = 4096;
const MAGIC = "HVCOW1\r\n";
const AT = { magic: 0, cluster: 8, baseLo: 16, baseHi: 20 };
const TWO32 = 0x1_0000_0000;

function align(bytes: number): number {
  return Math.ceil(bytes / CLUSTER) * CLUSTER;
}

/** Bytes of the overlay of a base of `size` bytes, holes included. */
export function overlaySize(size: number): number {
  const clusters = Math.ceil(size / CLUSTER);
  return CLUSTER + align(Math.ceil(clusters / 8)) + clusters * CLUSTER;
}

export class OverlayFile implements HostFile {
  readonly path: string;
  readonly size: number;
  readonly writable = true;
  /** Absent: the host cannot give parts of the overlay's file up. */
  readonly discard?: (offset: number, length: number) => Promise<void>;
  readonly #base: HostFile;
  readonly #file: HostFile;
  readonly #bitmap: Uint8Array;
  readonly #data: number;
  /** Parts of the bitmap, of 4 KiB each, that differ from the file's. */
  readonly #changed = new Set<number>();

  /** Opens an overlay over `base`, both files the caller's to close if this throws: ConfigError for a file that is no overlay of this base. */
  static async open(base: HostFile, file: HostFile): Promise<OverlayFile> {
    const refuse = (why: string): ConfigError => new ConfigError(`Overlay ${file.path}: ${why}.`);
    const header = new Uint8Array(CLUSTER);
    const view = new DataView(header.buffer);
    if (file.size < CLUSTER) throw refuse("it is no overlay; name a file that does not exist yet, and it is made");
    await file.read(0, header);
    const magic = String.fromCharCode(...header.subarray(AT.magic, MAGIC.length));
    if (header.every((byte) => byte === 0) && file.size === overlaySize(base.size)) {
      for (let i = 0; i < MAGIC.length; i++) header[AT.magic + i] = MAGIC.charCodeAt(i);
      view.setUint32(AT.cluster, CLUSTER, true);
      view.setUint32(AT.baseLo, base.size % TWO32, true);
      view.setUint32(AT.baseHi, Math.floor(base.size / TWO32), true);
      await file.write(0, header);
      await file.flush();
    } else if (magic !== MAGIC || view.getUint32(AT.cluster, true) !== CLUSTER) {
      throw refuse("it is no overlay; name a file that does not exist yet, and it is made");
    }
    const size = view.getUint32(AT.baseHi, true) * TWO32 + view.getUint32(AT.baseLo, true);
    if (size !== base.size)
      throw refuse(`it was made for an image of ${size} bytes, and ${base.path} has ${base.size}; use the right image`);
    if (file.size !== overlaySize(size))
      throw refuse(`it has ${file.size} bytes, and should have ${overlaySize(size)}`);
    const bitmap = new Uint8Array(align(Math.ceil(Math.ceil(size / CLUSTER) / 8)));
    await file.read(CLUSTER, bitmap);
    return new OverlayFile(base, file, bitmap);
  }

  private constructor(base: HostFile, file: HostFile, bitmap: Uint8Array) {
    this.path = base.path;
    this.size = base.size;
    this.#base = base;
    this.#file = file;
    this.#bitmap = bitmap;
    this.#data = CLUSTER + bitmap.length;
    if (file.discard !== undefined) this.discard = (offset, length) => this.#discard(offset, length);
  }

  async read(offset: number, into: Uint8Array): Promise<void> {
    const end = offset + into.length;
    for (let at = offset; at < end; ) {
      const own = this.#has(Math.floor(at / CLUSTER));
      let to = at;
      while (to < end && this.#has(Math.floor(to / CLUSTER)) === own) to = Math.min(end, align(to + 1));
      const part = into.subarray(at - offset, to - offset);
      await (own ? this.#file.read(this.#data + at, part) : this.#base.read(at, part));
      at = to;
    }
  }

  async write(offset: number, from: Uint8Array): Promise<void> {
    if (from.length === 0) return;
    const end = offset + from.length;
    const first = Math.floor(offset / CLUSTER);
    const last = Math.floor((end - 1) / CLUSTER);
    // Clusters that are written in part, and that the overlay does not have, are completed from the base.
    const head = offset % CLUSTER !== 0 && !this.#has(first);
    const tail = end % CLUSTER !== 0 && !this.#has(last);
    if (!head && !tail) await this.#file.write(this.#data + offset, from);
    else {
      const start = head ? first * CLUSTER : offset;
      const stop = tail ? (last + 1) * CLUSTER : end;
      const data = new Uint8Array(stop - start);
      if (head) await this.#fromBase(first, data.subarray(0, CLUSTER));
      if (tail && !(head && first === last)) await this.#fromBase(last, data.subarray(data.length - CLUSTER));
      data.set(from, offset - start);
      await this.#file.write(this.#data + start, data);
    }
    this.#mark(first, last);
  }

  async flush(): Promise<void> {
    await this.#file.flush();
    if (this.#changed.size === 0) return;
    const parts = [...this.#changed];
    for (const part of parts)
      await this.#file.write(CLUSTER + part * CLUSTER, this.#bitmap.subarray(part * CLUSTER, (part + 1) * CLUSTER));
    await this.#file.flush();
    for (const part of parts) this.#changed.delete(part);
  }

  async close(): Promise<void> {
    try {
      await this.flush();
    } finally {
      try {
        await this.#file.close();
      } finally {
        await this.#base.close();
      }
    }
  }

  /** Whole clusters read as zeros afterwards, and take no room. */
  async #discard(offset: number, length: number): Promise<void> {
    const first = Math.ceil(offset / CLUSTER);
    const end =
      offset + length === this.size ? Math.ceil(this.size / CLUSTER) : Math.floor((offset + length) / CLUSTER);
    if (end <= first) return;
    await this.#file.discard!(this.#data + first * CLUSTER, (end - first) * CLUSTER);
    this.#mark(first, end - 1);
  }

  /** A cluster of the base; beyond the end of the base there are zeros. */
  async #fromBase(cluster: number, into: Uint8Array): Promise<void> {
    const at = cluster * CLUSTER;
    await this.#base.read(at, into.subarray(0, Math.min(CLUSTER, this.size - at)));
  }

  #has(cluster: number): boolean {
    return (this.#bitmap[cluster >>> 3]! & (1 << (cluster & 7))) !== 0;
  }

  #mark(first: number, last: number): void {
    for (let cluster = first; cluster <= last; cluster++) {
      if (this.#has(cluster)) continue;
      this.#bitmap[cluster >>> 3]! |= 1 << (cluster & 7);
      this.#changed.add(Math.floor((cluster >>> 3) / CLUSTER));
    }
  }
}
