/**
 * A virtio device on MMIO, version 2 (virtio 1.2, sections 2 to 4.2): registers, status, features, queues, configuration, interrupts. What the device does
 * is its VirtioModel's.
 *
 * Design: a model works in bursts (VirtioLink.burst): guest memory is mapped as it is touched and given back at the end, the interrupt line is set
 * once. A link lives from DRIVER_OK to the reset; what a model has under way when its link dies it finishes for nobody.
 * Invariants: a driver that makes no sense (QueueError, a queue that cannot be, steps out of order) has a device with DEVICE_NEEDS_RESET until it resets it, one
 * line in the log, and nothing else happens; only aligned accesses of 4 bytes reach registers; the configuration is read in any size and is zero beyond
 * its end; the interrupt line is told of changes only.
 */
import type { DeviceDescription, DeviceHost, DeviceRegion, EmulatedDevice } from "hookvisor";
import { INTERRUPT, MMIO, MMIO_MAGIC, MMIO_VERSION, STATUS, VIRTIO_F } from "./abi.ts";
import { GuestMemory, QueueError } from "./memory.ts";
import { type Place, SLOT_SIZE } from "./place.ts";
import { QUEUE_SIZE, type QueueLayout, Virtqueue, wrongLayout } from "./queue.ts";

/** "HKVR". */
const VENDOR = 0x5256_4b48;
/** Lines in the log about drivers that made no sense, a device. */
const MOST_COMPLAINTS = 8;

/** What a device type adds to the transport. */
export interface VirtioModel {
  /** VIRTIO_ID. */
  readonly deviceId: number;
  /** Feature bits of the device type that it offers. */
  readonly features: readonly number[];
  /** Number of its queues. */
  readonly queues: number;
  /** The device configuration, as it is now. */
  readonly config: Uint8Array;
  /** The driver is ready. Within a burst; may throw QueueError. */
  start(link: VirtioLink): void;
  /** The driver says that a queue has something. Within a burst; may throw QueueError. */
  notified(queue: number): void;
  /** The link is dead: forget what is under way. */
  stop(): void;
  /** The device goes away for good. */
  close?(): void | Promise<void>;
}

/** A driver that is ready, and the device's way to it. */
export interface VirtioLink {
  /** Has this feature been agreed on? */
  has(feature: number): boolean;
  /** A queue by number; null: the driver has not made it. */
  queue(number: number): Virtqueue | null;
  /** Does something with the driver's queues from outside `start` and `notified`: after host work, in a timer. Nothing once the link is dead. */
  burst(body: () => void): void;
  /** Shows what was put into a queue, and interrupts the driver if it wants that. Within a burst. */
  publish(queue: Virtqueue): void;
  /** The configuration has changed. */
  configChanged(): void;
}

/** Registers of one queue. */
interface QueueRegisters {
  size: number;
  readonly address: Uint32Array;
  queue: Virtqueue | null;
}

export class VirtioMmio implements EmulatedDevice {
  readonly kind = "emulated";
  readonly regions: readonly DeviceRegion[];
  readonly #host: DeviceHost;
  readonly #place: Place;
  readonly #model: VirtioModel;
  readonly #memory: GuestMemory;
  /** Features: offered, and what the driver accepts; 32 bits each. */
  readonly #offered = new Uint32Array(2);
  readonly #accepted = new Uint32Array(2);
  readonly #queues: readonly QueueRegisters[];
  readonly #registers = { deviceFeatures: 0, driverFeatures: 0, queue: 0 };
  #status = 0;
  #interrupts = 0;
  #level = false;
  #generation = 0;
  #link: Link | null = null;
  #complaints = 0;

  constructor(host: DeviceHost, place: Place, model: VirtioModel) {
    this.#host = host;
    this.#place = place;
    this.#model = model;
    this.#memory = new GuestMemory(host);
    this.regions = [{ space: "mmio", base: place.base, size: SLOT_SIZE }];
    for (const bit of [...model.features, VIRTIO_F.indirect, VIRTIO_F.eventIndex, VIRTIO_F.version1])
      this.#offered[bit >>> 5] = this.#offered[bit >>> 5]! | (1 << (bit & 31));
    this.#queues = Array.from({ length: model.queues }, () => ({ size: 0, address: new Uint32Array(6), queue: null }));
    host.interrupt(place.line, false);
  }

  describe(): DeviceDescription {
    return { compatible: ["virtio,mmio"], interrupts: [this.#place.line] };
  }

  close(): void | Promise<void> {
    this.#kill();
    return this.#model.close?.();
  }

  /** As a write of 0 to the status register. */
  reset(): void {
    this.#kill();
    this.#accepted.fill(0);
    Object.assign(this.#registers, { deviceFeatures: 0, driverFeatures: 0, queue: 0 });
    for (const one of this.#queues) {
      one.size = 0;
      one.address.fill(0);
      one.queue = null;
    }
    this.#status = 0;
    this.#interrupts = 0;
    this.#drive();
  }

  read(_region: number, offset: number, size: number): number {
    if (offset >= MMIO.config) {
      const { config } = this.#model;
      let value = 0;
      for (let i = 0; i < size; i++) value |= (config[offset - MMIO.config + i] ?? 0) << (8 * i);
      return value >>> 0;
    }
    return size === 4 && offset % 4 === 0 ? this.#get(offset) : 0;
  }

  #get(register: number): number {
    const queue = this.#queues[this.#registers.queue];
    switch (register) {
      case MMIO.magic:
        return MMIO_MAGIC;
      case MMIO.version:
        return MMIO_VERSION;
      case MMIO.deviceId:
        return this.#model.deviceId;
      case MMIO.vendorId:
        return VENDOR;
      case MMIO.deviceFeatures:
        return this.#offered[this.#registers.deviceFeatures] ?? 0;
      case MMIO.queueSizeMost:
        return queue === undefined ? 0 : QUEUE_SIZE;
      case MMIO.queueReady:
        return queue === undefined || queue.queue === null ? 0 : 1;
      case MMIO.interruptStatus:
        return this.#interrupts;
      case MMIO.status:
        return this.#status;
      case MMIO.sharedMemoryLengthLow:
      case MMIO.sharedMemoryLengthHigh:
      case MMIO.sharedMemoryBaseLow:
      case MMIO.sharedMemoryBaseHigh:
        return 0xffff_ffff; // there is no shared memory
      case MMIO.configGeneration:
        return this.#generation;
      default:
        return 0;
    }
  }

  write(_region: number, offset: number, size: number, value: number): void {
    if (size !== 4 || offset % 4 !== 0) return;
    const queue = this.#queues[this.#registers.queue];
    switch (offset) {
      case MMIO.deviceFeaturesSelect:
        this.#registers.deviceFeatures = value;
        return;
      case MMIO.driverFeaturesSelect:
        this.#registers.driverFeatures = value;
        return;
      case MMIO.driverFeatures:
        if ((this.#status & STATUS.featuresOk) === 0 && this.#registers.driverFeatures < 2)
          this.#accepted[this.#registers.driverFeatures] = value;
        return;
      case MMIO.queueSelect:
        this.#registers.queue = value;
        return;
      case MMIO.queueSize:
        if (queue?.queue === null) queue.size = value;
        return;
      case MMIO.queueReady:
        if (queue !== undefined) this.#makeQueue(queue, (value & 1) !== 0);
        return;
      case MMIO.queueDescriptorsLow:
      case MMIO.queueDescriptorsHigh:
      case MMIO.queueDriverLow:
      case MMIO.queueDriverHigh:
      case MMIO.queueDeviceLow:
      case MMIO.queueDeviceHigh:
        if (queue?.queue === null) queue.address[addressWord(offset)] = value;
        return;
      case MMIO.queueNotify:
        if (value < this.#queues.length && this.#queues[value]!.queue !== null)
          this.#link?.burst(() => this.#model.notified(value));
        return;
      case MMIO.interruptAcknowledge:
        this.#interrupts &= ~value;
        this.#drive();
        return;
      case MMIO.status:
        this.#setStatus(value);
        return;
      default:
        return;
    }
  }

  #setStatus(value: number): void {
    if (value === 0) {
      this.reset();
      return;
    }
    const added = value & ~this.#status;
    this.#status |= added & (STATUS.acknowledge | STATUS.driver | STATUS.failed);
    if ((added & STATUS.featuresOk) !== 0 && this.#agreed()) this.#status |= STATUS.featuresOk;
    if ((added & STATUS.driverOk) === 0 || (this.#status & STATUS.needsReset) !== 0) return;
    if ((this.#status & STATUS.featuresOk) === 0) {
      this.#needReset("the driver is ready, and features have not been agreed on");
      return;
    }
    this.#status |= STATUS.driverOk;
    const link = new Link(this.#accepted, this.#queues, {
      burst: (body) => this.#burst(link, body),
      interrupt: () => this.#interrupt(INTERRUPT.used),
      configChanged: () => {
        if (link !== this.#link) return;
        this.#generation = (this.#generation + 1) >>> 0;
        this.#interrupt(INTERRUPT.config);
      },
    });
    this.#link = link;
    link.burst(() => this.#model.start(link));
  }

  /** Are the features that the driver accepts a possible choice? */
  #agreed(): boolean {
    for (let word = 0; word < 2; word++) if ((this.#accepted[word]! & ~this.#offered[word]!) !== 0) return false;
    return hasBit(this.#accepted, VIRTIO_F.version1);
  }

  #makeQueue(registers: QueueRegisters, ready: boolean): void {
    if (!ready) {
      registers.queue = null;
      return;
    }
    if (registers.queue !== null || (this.#status & STATUS.needsReset) !== 0) return;
    const at = (word: number): number => registers.address[word + 1]! * 2 ** 32 + registers.address[word]!;
    const layout: QueueLayout = { size: registers.size, descriptors: at(0), driver: at(2), device: at(4) };
    const wrong =
      (this.#status & STATUS.featuresOk) === 0
        ? "a queue before features have been agreed on"
        : wrongLayout(layout, QUEUE_SIZE);
    if (wrong !== null) {
      this.#needReset(wrong);
      return;
    }
    registers.queue = new Virtqueue(this.#memory, layout, {
      indirect: hasBit(this.#accepted, VIRTIO_F.indirect),
      eventIndex: hasBit(this.#accepted, VIRTIO_F.eventIndex),
    });
  }

  #burst(link: Link, body: () => void): void {
    if (link !== this.#link) return;
    try {
      body();
    } catch (error) {
      if (!(error instanceof QueueError)) throw error;
      this.#needReset(error.message);
    } finally {
      this.#memory.release();
    }
  }

  /** The driver makes no sense: nothing works any more until it resets the device. */
  #needReset(why: string): void {
    this.#complaints++;
    if (this.#complaints <= MOST_COMPLAINTS)
      this.#host.log(`the device needs a reset, its driver makes no sense: ${why}`);
    if (this.#complaints === MOST_COMPLAINTS) this.#host.log("further such failures of this device are not logged");
    this.#kill();
    this.#status |= STATUS.needsReset;
    if ((this.#status & STATUS.driverOk) !== 0) this.#interrupt(INTERRUPT.config);
  }

  #kill(): void {
    if (this.#link === null) return;
    this.#link = null;
    this.#model.stop();
  }

  #interrupt(bit: number): void {
    this.#interrupts |= bit;
    this.#drive();
  }

  #drive(): void {
    const level = this.#interrupts !== 0;
    if (level === this.#level) return;
    this.#level = level;
    this.#host.interrupt(this.#place.line, level);
  }
}

/** What a link needs of its device. */
interface LinkHost {
  burst(body: () => void): void;
  interrupt(): void;
  configChanged(): void;
}

class Link implements VirtioLink {
  readonly #accepted: Uint32Array;
  readonly #queues: readonly QueueRegisters[];
  readonly #host: LinkHost;

  constructor(accepted: Uint32Array, queues: readonly QueueRegisters[], host: LinkHost) {
    this.#accepted = accepted.slice();
    this.#queues = queues;
    this.#host = host;
  }

  has(feature: number): boolean {
    return hasBit(this.#accepted, feature);
  }
  queue(number: number): Virtqueue | null {
    return this.#queues[number]?.queue ?? null;
  }
  burst(body: () => void): void {
    this.#host.burst(body);
  }
  publish(queue: Virtqueue): void {
    if (queue.publish()) this.#host.interrupt();
  }
  configChanged(): void {
    this.#host.configChanged();
  }
}

function hasBit(words: Uint32Array, bit: number): boolean {
  return ((words[bit >>> 5]! >>> (bit & 31)) & 1) === 1;
}

/** Which word of a queue's addresses a register is: low and high halves of descriptors, driver area, device area. */
function addressWord(register: number): number {
  return ((register - MMIO.queueDescriptorsLow) >>> 4) * 2 + ((register & 4) >>> 2);
}
