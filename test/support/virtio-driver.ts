/**
 * The driver's half of a virtio device on MMIO, as a test's script: frames of a scripted guest, registers through its bus.
 *
 * It follows virtio 1.2 where it is asked to, and writes anything anywhere where a test wants a hostile driver.
 */
import { FRAME_SIZE } from "../../core/machine/frames.ts";
import { DESCRIPTOR, DESCRIPTOR_BYTES, MMIO, STATUS, VIRTIO_F } from "../../plugins/lib-virtio/abi.ts";
import type { ScriptedGuest } from "./scripted-frontend.ts";

/** Where the first virtio device of a domain is. */
export const FIRST_SLOT = 0x1000_1000;

/** A buffer of the driver. */
export interface Buffer {
  readonly address: number;
  readonly length: number;
}

/** A queue of the driver: one frame each for descriptors, driver area and device area. */
export class DriverQueue {
  readonly driver: VirtioDriver;
  readonly number: number;
  readonly size: number;
  readonly descriptors: number;
  readonly available: number;
  readonly used: number;
  /** Index of the next available entry, and of the next used one that has not been looked at. */
  next = 0;
  seen = 0;
  #free: number[];
  readonly #chains = new Map<number, number[]>();

  constructor(driver: VirtioDriver, number: number, size: number) {
    this.driver = driver;
    this.number = number;
    this.size = size;
    this.descriptors = driver.guest.frame();
    this.available = driver.guest.frame();
    this.used = driver.guest.frame();
    this.#free = Array.from({ length: size }, (_, i) => i);
  }

  get free(): number {
    return this.#free.length;
  }

  /** Writes a descriptor of a table as it is. */
  describe(
    index: number,
    address: number,
    length: number,
    flags: number,
    next = 0,
    table = this.descriptors * FRAME_SIZE,
  ): void {
    const at = table + DESCRIPTOR_BYTES * index;
    const { guest } = this.driver;
    const view = guest.view(Math.floor(at / FRAME_SIZE));
    const offset = at % FRAME_SIZE;
    view.setUint32(offset, address % 2 ** 32, true);
    view.setUint32(offset + 4, Math.floor(address / 2 ** 32), true);
    view.setUint32(offset + 8, length, true);
    view.setUint16(offset + 12, flags, true);
    view.setUint16(offset + 14, next, true);
  }

  /** Makes a chain available; the head's number. The device sees it by `show`. */
  add(readable: readonly Buffer[], writable: readonly Buffer[], indirect = false): number {
    const all = [
      ...readable.map((buffer) => ({ ...buffer, flags: 0 })),
      ...writable.map((buffer) => ({ ...buffer, flags: DESCRIPTOR.write as number })),
    ];
    const indices = this.#free.splice(0, indirect ? 1 : all.length);
    if (indices.length < (indirect ? 1 : all.length)) throw new Error("the driver's queue is full");
    const head = indices[0]!;
    if (indirect) {
      const table = this.driver.guest.frame() * FRAME_SIZE;
      for (const [i, { address, length, flags }] of all.entries())
        this.describe(i, address, length, i < all.length - 1 ? flags | DESCRIPTOR.next : flags, i + 1, table);
      this.describe(head, table, all.length * DESCRIPTOR_BYTES, DESCRIPTOR.indirect);
    } else
      for (const [i, { address, length, flags }] of all.entries())
        this.describe(
          indices[i]!,
          address,
          length,
          i < all.length - 1 ? flags | DESCRIPTOR.next : flags,
          indices[i + 1] ?? 0,
        );
    this.#chains.set(head, indices);
    this.offer(head);
    return head;
  }

  /** Puts a head's number into the available ring. */
  offer(head: number): void {
    this.driver.guest.view(this.available).setUint16(4 + 2 * (this.next % this.size), head, true);
    this.next = (this.next + 1) & 0xffff;
  }

  /** Shows the device what was made available. */
  show(index = this.next): void {
    this.driver.guest.view(this.available).setUint16(2, index, true);
  }

  /** Shows, and notifies. */
  kick(): void {
    this.show();
    this.driver.write(MMIO.queueNotify, this.number);
  }

  /** What the device has given back since the last time. */
  take(): { readonly head: number; readonly written: number }[] {
    const view = this.driver.guest.view(this.used);
    const done: { head: number; written: number }[] = [];
    for (; this.seen !== view.getUint16(2, true); this.seen = (this.seen + 1) & 0xffff) {
      const at = 4 + 8 * (this.seen % this.size);
      const head = view.getUint32(at, true);
      done.push({ head, written: view.getUint32(at + 4, true) });
      this.#free.push(...(this.#chains.get(head) ?? []));
      this.#chains.delete(head);
    }
    return done;
  }

  /** Where the driver says which used index it wants to hear of, and the device which available one. */
  set usedEvent(index: number) {
    this.driver.guest.view(this.available).setUint16(4 + 2 * this.size, index, true);
  }
  get availableEvent(): number {
    return this.driver.guest.view(this.used).getUint16(4 + 8 * this.size, true);
  }
  /** Flags of the rings. */
  set flags(value: number) {
    this.driver.guest.view(this.available).setUint16(0, value, true);
  }
  get deviceFlags(): number {
    return this.driver.guest.view(this.used).getUint16(0, true);
  }
}

export class VirtioDriver {
  readonly guest: ScriptedGuest;
  readonly base: number;
  #spare: { frame: number; at: number } | null = null;

  constructor(guest: ScriptedGuest, base = FIRST_SLOT) {
    this.guest = guest;
    this.base = base;
  }

  read(register: number): number {
    return this.guest.ioRead(this.base + register);
  }
  write(register: number, value: number): void {
    this.guest.ioWrite(this.base + register, value);
  }
  get status(): number {
    return this.read(MMIO.status);
  }
  get needsReset(): boolean {
    return (this.status & STATUS.needsReset) !== 0;
  }
  get interrupts(): number {
    return this.read(MMIO.interruptStatus);
  }
  acknowledge(): number {
    const bits = this.interrupts;
    this.write(MMIO.interruptAcknowledge, bits);
    return bits;
  }

  /** Feature bits that the device offers. */
  offered(): number[] {
    const bits: number[] = [];
    for (const word of [0, 1]) {
      this.write(MMIO.deviceFeaturesSelect, word);
      const value = this.read(MMIO.deviceFeatures);
      for (let bit = 0; bit < 32; bit++) if (((value >>> bit) & 1) === 1) bits.push(32 * word + bit);
    }
    return bits;
  }

  /** Resets, and goes as far as FEATURES_OK; true: the device agrees. */
  negotiate(features: readonly number[]): boolean {
    this.write(MMIO.status, 0);
    this.write(MMIO.status, STATUS.acknowledge);
    this.write(MMIO.status, STATUS.acknowledge | STATUS.driver);
    for (const word of [0, 1]) {
      this.write(MMIO.driverFeaturesSelect, word);
      let value = 0;
      for (const bit of features) if (bit >>> 5 === word) value |= 1 << (bit & 31);
      this.write(MMIO.driverFeatures, value >>> 0);
    }
    this.write(MMIO.status, STATUS.acknowledge | STATUS.driver | STATUS.featuresOk);
    return (this.status & STATUS.featuresOk) !== 0;
  }

  /** Tells the device of a queue; its parts may be anywhere. */
  place(number: number, size: number, descriptors: number, available: number, used: number): void {
    this.write(MMIO.queueSelect, number);
    this.write(MMIO.queueSize, size);
    for (const [register, address] of [
      [MMIO.queueDescriptorsLow, descriptors],
      [MMIO.queueDriverLow, available],
      [MMIO.queueDeviceLow, used],
    ] as const) {
      this.write(register, address % 2 ** 32);
      this.write(register + 4, Math.floor(address / 2 ** 32));
    }
    this.write(MMIO.queueReady, 1);
  }

  queue(number: number, size = 64): DriverQueue {
    const queue = new DriverQueue(this, number, size);
    this.place(number, size, queue.descriptors * FRAME_SIZE, queue.available * FRAME_SIZE, queue.used * FRAME_SIZE);
    return queue;
  }

  ready(): void {
    this.write(MMIO.status, STATUS.acknowledge | STATUS.driver | STATUS.featuresOk | STATUS.driverOk);
  }

  /** From reset to DRIVER_OK with queues 0 to `queues`-1, all of the device's features or those given, and version 1. */
  up(queues: number, features: readonly number[] = this.offered(), size = 64): DriverQueue[] {
    if (!this.negotiate([...features, VIRTIO_F.version1])) throw new Error("the device does not agree");
    const all = Array.from({ length: queues }, (_, number) => this.queue(number, size));
    this.ready();
    return all;
  }

  /** Room in guest memory, within one frame. */
  buffer(length: number): Buffer {
    if (length > FRAME_SIZE) throw new Error("a buffer of more than a frame");
    if (this.#spare === null || this.#spare.at + length > FRAME_SIZE)
      this.#spare = { frame: this.guest.frame(), at: 0 };
    const { frame, at } = this.#spare;
    this.#spare.at += length;
    return { address: frame * FRAME_SIZE + at, length };
  }
  /** Room of any length, in several buffers. */
  buffers(length: number, part = FRAME_SIZE): Buffer[] {
    const all: Buffer[] = [];
    for (let left = length; left > 0; left -= part) all.push(this.buffer(Math.min(left, part)));
    return all;
  }
  fill(buffers: readonly Buffer[], bytes: Uint8Array): void {
    let done = 0;
    for (const { address, length } of buffers) {
      const page = this.guest.page(Math.floor(address / FRAME_SIZE));
      page.set(bytes.subarray(done, done + length), address % FRAME_SIZE);
      done += length;
    }
  }
  data(buffers: readonly Buffer[]): Uint8Array {
    const bytes: number[] = [];
    for (const { address, length } of buffers) {
      const at = address % FRAME_SIZE;
      bytes.push(...this.guest.page(Math.floor(address / FRAME_SIZE)).subarray(at, at + length));
    }
    return Uint8Array.from(bytes);
  }
}
