/**
 * Guest memory by guest-physical address, for the time of a burst: what a device does in one go, while no vCPU runs.
 *
 * A frame is mapped when it is first touched and stays so until `release`, so that rings and small buffers cost one mapping a burst; between bursts nothing is
 * held: a guest may give any frame away, and nobody needs to be told. Invariants: every address is checked; what is not the guest's own
 * memory is a QueueError, which nobody but the device that asked sees; each write is reported (MappedPages.wrote).
 */
import { type DeviceHost, FRAME_SIZE, GrantError, type MappedPages } from "hookvisor";

/** The driver made a virtqueue that makes no sense; the device needs a reset. */
export class QueueError extends Error {}

/** Guest-physical addresses end here. */
export const ADDRESS_END = 2 ** 44;
/** Frames mapped at a time; beyond that the burst begins its mappings anew. */
const MOST_FRAMES = 1024;

/** Bytes of guest memory. */
export interface Segment {
  readonly address: number;
  readonly length: number;
}

interface Frame {
  readonly mapped: MappedPages;
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly writable: boolean;
}

export class GuestMemory {
  readonly #host: Pick<DeviceHost, "mapForeign">;
  readonly #frames = new Map<number, Frame>();
  readonly #bytes = new Uint8Array(16);
  readonly #view = new DataView(this.#bytes.buffer);

  constructor(host: Pick<DeviceHost, "mapForeign">) {
    this.#host = host;
  }

  /** Frames mapped now. */
  get mapped(): number {
    return this.#frames.size;
  }

  /** Gives all frames back. */
  release(): void {
    for (const frame of this.#frames.values()) frame.mapped.unmap();
    this.#frames.clear();
  }

  #frame(address: number, write: boolean): Frame {
    const gfn = Math.floor(address / FRAME_SIZE);
    let frame = this.#frames.get(gfn);
    if (frame !== undefined && (frame.writable || !write)) return frame;
    if (!(address >= 0 && address < ADDRESS_END))
      throw new QueueError(`address 0x${address.toString(16)} is no memory`);
    if (frame === undefined && this.#frames.size >= MOST_FRAMES) this.release();
    let mapped: MappedPages;
    try {
      mapped = this.#host.mapForeign([gfn], write ? "rw" : "ro");
    } catch (error) {
      if (error instanceof GrantError) throw new QueueError(`address 0x${address.toString(16)}: ${error.message}`);
      throw error;
    }
    frame?.mapped.unmap();
    const bytes = mapped.pages[0]!;
    frame = { mapped, bytes, view: new DataView(bytes.buffer, bytes.byteOffset, FRAME_SIZE), writable: write };
    this.#frames.set(gfn, frame);
    return frame;
  }

  /** Little-endian values at addresses that are multiples of their size. Throw QueueError. */
  u16(address: number): number {
    return this.#frame(address, false).view.getUint16(address % FRAME_SIZE, true);
  }
  u32(address: number): number {
    return this.#frame(address, false).view.getUint32(address % FRAME_SIZE, true);
  }
  /** Four little-endian words at any address. */
  words(address: number, into: Uint32Array): void {
    const at = address % FRAME_SIZE;
    if (at > FRAME_SIZE - 16) {
      this.read([{ address, length: 16 }], 0, this.#bytes);
      for (let i = 0; i < 4; i++) into[i] = this.#view.getUint32(4 * i, true);
      return;
    }
    const { view } = this.#frame(address, false);
    for (let i = 0; i < 4; i++) into[i] = view.getUint32(at + 4 * i, true);
  }
  setU16(address: number, value: number): void {
    const frame = this.#frame(address, true);
    const at = address % FRAME_SIZE;
    frame.view.setUint16(at, value, true);
    frame.mapped.wrote(0, at, at + 2);
  }
  setU32(address: number, value: number): void {
    const frame = this.#frame(address, true);
    const at = address % FRAME_SIZE;
    frame.view.setUint32(at, value, true);
    frame.mapped.wrote(0, at, at + 4);
  }

  /** Fills `into` from the bytes of the segments, from the one at `skip` on. Throws QueueError where they are too few or no memory. */
  read(segments: readonly Segment[], skip: number, into: Uint8Array): void {
    let done = 0;
    this.#walk(segments, skip, into.length, false, (frame, at, length) => {
      into.set(frame.bytes.subarray(at, at + length), done);
      done += length;
    });
  }

  /** Writes `from` over the bytes of the segments, from the one at `skip` on. Throws QueueError as `read` does; part may be written then. */
  write(segments: readonly Segment[], skip: number, from: Uint8Array): void {
    let done = 0;
    this.#walk(segments, skip, from.length, true, (frame, at, length) => {
      frame.bytes.set(from.subarray(done, done + length), at);
      frame.mapped.wrote(0, at, at + length);
      done += length;
    });
  }

  #walk(
    segments: readonly Segment[],
    skip: number,
    length: number,
    write: boolean,
    each: (frame: Frame, at: number, length: number) => void,
  ): void {
    let before = skip;
    let left = length;
    for (const segment of segments) {
      if (left === 0) return;
      if (before >= segment.length) {
        before -= segment.length;
        continue;
      }
      let address = segment.address + before;
      const end = address + Math.min(left, segment.length - before);
      before = 0;
      left -= end - address;
      while (address < end) {
        const at = address & (FRAME_SIZE - 1);
        const part = Math.min(FRAME_SIZE - at, end - address);
        each(this.#frame(address, write), at, part);
        address += part;
      }
    }
    if (left > 0) throw new QueueError(`a buffer is ${left} bytes too short`);
  }
}
