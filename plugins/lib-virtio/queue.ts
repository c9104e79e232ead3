/**
 * A split virtqueue as the device sees it (virtio 1.2, section 2.7), with indirect descriptors and event index.
 *
 * Everything in it is the driver's word: each field is read once and checked. Invariants: more chains available and under way than the ring has entries, a
 * descriptor that is not there, a chain longer than QUEUE_SIZE or with a loop, buffers beyond the address space or in the wrong order are a
 * QueueError; the work for one chain is bounded. Used only within bursts (GuestMemory).
 */
import { DESCRIPTOR, DESCRIPTOR_BYTES, NO_INTERRUPT, NO_NOTIFY } from "./abi.ts";
import { ADDRESS_END, type GuestMemory, QueueError, type Segment } from "./memory.ts";

/** Entries of a queue at most, and so descriptors of a chain, in a table of its own or not (2.7.5.3.1). */
export const QUEUE_SIZE = 256;

/** Where a queue's parts are. */
export interface QueueLayout {
  /** Entries: a power of two. */
  readonly size: number;
  readonly descriptors: number;
  /** The available ring. */
  readonly driver: number;
  /** The used ring. */
  readonly device: number;
}

/** What both ends have agreed on. */
export interface QueueFeatures {
  readonly indirect: boolean;
  readonly eventIndex: boolean;
}

/** Buffers that the driver has made available together: first those that the device reads, then those that it writes. */
export interface Chain {
  readonly head: number;
  readonly readable: readonly Segment[];
  readonly writable: readonly Segment[];
  readonly readLength: number;
  readonly writeLength: number;
}

/** Why a layout cannot be; null: it can. */
export function wrongLayout({ size, descriptors, driver, device }: QueueLayout, most: number): string | null {
  if (size < 1 || size > most || (size & (size - 1)) !== 0) return `a queue of ${size} entries`;
  const parts = [
    [descriptors, DESCRIPTOR_BYTES * size, 16],
    [driver, 6 + 2 * size, 2],
    [device, 6 + 8 * size, 4],
  ] as const;
  for (const [address, bytes, align] of parts)
    if (address % align !== 0 || address + bytes > ADDRESS_END) return `a queue at 0x${address.toString(16)}`;
  return null;
}

export class Virtqueue {
  readonly memory: GuestMemory;
  readonly layout: QueueLayout;
  readonly #features: QueueFeatures;
  /** The descriptor that is looked at. */
  readonly #words = new Uint32Array(4);
  /** Index of the next available entry, and of the next used one. */
  #next = 0;
  #used = 0;
  /** The used index that the driver can see, and of its last decision whether to interrupt. */
  #shown = 0;
  /** What was last written where the driver looks whether to notify; -1: nothing. */
  #event = -1;

  constructor(memory: GuestMemory, layout: QueueLayout, features: QueueFeatures) {
    this.memory = memory;
    this.layout = layout;
    this.#features = features;
  }

  /** Chains that wait. Throws QueueError. */
  get waiting(): number {
    const count = (this.memory.u16(this.layout.driver + 2) - this.#next) & 0xffff;
    // Those under way count: each has a descriptor of its own, so that what a driver can make us hold is bounded.
    const all = count + ((this.#next - this.#used) & 0xffff);
    if (all > this.layout.size) throw new QueueError(`${all} buffers in a queue of ${this.layout.size}`);
    return count;
  }

  /** The next chain; null: none waits. Throws QueueError. */
  take(): Chain | null {
    if (this.waiting === 0) return null;
    const { size, driver } = this.layout;
    const head = this.memory.u16(driver + 4 + 2 * (this.#next & (size - 1)));
    this.#next = (this.#next + 1) & 0xffff;
    return this.#chain(head);
  }

  /** The last `count` chains are as if they had not been taken. */
  putBack(count = 1): void {
    this.#next = (this.#next - count) & 0xffff;
  }

  #chain(head: number): Chain {
    const { memory, layout } = this;
    const readable: Segment[] = [];
    const writable: Segment[] = [];
    let readLength = 0;
    let writeLength = 0;
    let table = layout.descriptors;
    let entries = layout.size;
    let indirect = false;
    let left = QUEUE_SIZE;
    for (let index = head; ; ) {
      if (index >= entries) throw new QueueError(`descriptor ${index} of ${entries}`);
      if (left-- === 0) throw new QueueError(`a chain of more than ${QUEUE_SIZE} descriptors`);
      const words = this.#words;
      memory.words(table + DESCRIPTOR_BYTES * index, words);
      const address = words[1]! * 2 ** 32 + words[0]!;
      const length = words[2]!;
      const flags = words[3]! & 0xffff;
      const next = words[3]! >>> 16;
      if (address + length > ADDRESS_END) throw new QueueError(`a buffer at 0x${address.toString(16)}`);
      if ((flags & DESCRIPTOR.indirect) !== 0) {
        if (!this.#features.indirect || indirect || (flags & DESCRIPTOR.next) !== 0)
          throw new QueueError("an indirect descriptor where none may be");
        if (length === 0 || length % DESCRIPTOR_BYTES !== 0 || length > QUEUE_SIZE * DESCRIPTOR_BYTES)
          throw new QueueError(`an indirect table of ${length} bytes`);
        table = address;
        entries = length / DESCRIPTOR_BYTES;
        indirect = true;
        index = 0;
        // The table holds the chain, its own descriptor is none of it.
        left = QUEUE_SIZE;
        continue;
      }
      if ((flags & DESCRIPTOR.write) !== 0) {
        writable.push({ address, length });
        writeLength += length;
      } else if (writable.length > 0) throw new QueueError("a buffer to read after one to write");
      else {
        readable.push({ address, length });
        readLength += length;
      }
      if ((flags & DESCRIPTOR.next) === 0) return { head, readable, writable, readLength, writeLength };
      index = next;
    }
  }

  /** Gives a chain back with so many bytes written; the driver sees it after `publish`. Throws QueueError. */
  put(chain: Chain, written: number): void {
    const { device, size } = this.layout;
    const at = device + 4 + 8 * (this.#used & (size - 1));
    this.memory.setU32(at, chain.head);
    this.memory.setU32(at + 4, written);
    this.#used = (this.#used + 1) & 0xffff;
  }

  /** Shows what was put. True: the driver wants an interrupt. Throws QueueError. */
  publish(): boolean {
    const before = this.#shown;
    const now = this.#used;
    if (now === before) return false;
    this.#shown = now;
    const { memory, layout } = this;
    memory.setU16(layout.device + 2, now);
    if (!this.#features.eventIndex) return (memory.u16(layout.driver) & NO_INTERRUPT) === 0;
    const event = memory.u16(layout.driver + 4 + 2 * layout.size);
    return ((now - event - 1) & 0xffff) < ((now - before) & 0xffff);
  }

  /** Asks the driver to notify of the next chain that it makes available, or not to. Throws QueueError. */
  listen(wanted: boolean): void {
    const { memory, layout } = this;
    if (this.#features.eventIndex) {
      if (!wanted || this.#event === this.#next) return;
      this.#event = this.#next;
      memory.setU16(layout.device + 4 + 8 * layout.size, this.#next);
      return;
    }
    const flags = wanted ? 0 : NO_NOTIFY;
    if (this.#event === flags) return;
    this.#event = flags;
    memory.setU16(layout.device, flags);
  }
}
