/**
 * The virtio block device (virtio 1.2, section 5.2) on lib-virtio's MMIO transport: a raw image as a guest's disk, or an overlay over one.
 *
 * Requests that were found on the queue together are answered together (lib-block's Disk). A write's data is taken out of guest memory with the
 * request, a read's put there with the answer. A driver that does not know flushes has each write flushed.
 * Invariants: each request is copied, then checked, then answered exactly once, unless the driver resets the device first; no more than MOST_IN_FLIGHT bytes and one
 * request are held outside the guest.
 * Not supported: several queues, writeback control, secure erase, lifetime (none is offered).
 */
import type { DeviceHost, DeviceType, HostFile, HostServices } from "hookvisor";
import { DISCARD_GRANULARITY, Disk, type DiskSpec, openDisk, parseDiskSpec, SECTOR } from "../lib-block/index.ts";
import {
  type Chain,
  choosePlace,
  type PlaceSpec,
  QUEUE_SIZE,
  splitPlace,
  VIRTIO_ID,
  type VirtioLink,
  VirtioMmio,
  type VirtioModel,
  type Virtqueue,
} from "../lib-virtio/index.ts";
import { BLK_STATUS, ID_BYTES, MOST_DISCARDS, MOST_ZEROES, parseRequest } from "./request.ts";

/** Feature bits. */
export const BLK_F = Object.freeze({
  segmentsMost: 2,
  readOnly: 5,
  blockSize: 6,
  flush: 9,
  topology: 10,
  discard: 13,
  writeZeroes: 14,
});
/** Bytes of data under way before requests are left on the queue. */
const MOST_IN_FLIGHT = 8 << 20;
/** Lines in the log about requests that failed, from one reset to the next. */
const MOST_COMPLAINTS = 8;
/** Bytes of the configuration. */
const CONFIG = 60;

/** One disk: what the user asked for, and its file once opened. */
export interface VirtioBlkConfig {
  readonly disk: DiskSpec;
  readonly place: PlaceSpec;
  file: HostFile | null;
}

/** The device type. */
export const virtioBlkType: DeviceType<VirtioBlkConfig> = Object.freeze({
  type: "virtio-blk",
  kind: "emulated",
  parse(spec: string): VirtioBlkConfig {
    const { place, rest } = splitPlace("Disk", spec);
    return { disk: parseDiskSpec(rest, true), place, file: null };
  },
  deviceId: ({ disk }: VirtioBlkConfig) => disk.number,
  async open(config: VirtioBlkConfig, services: HostServices): Promise<void> {
    config.file = await openDisk(config.disk, services);
  },
  create(host: DeviceHost, config: VirtioBlkConfig) {
    if (config.file === null) throw new Error("the disk's file is not open");
    const disk = new Disk(config.disk, config.file, host);
    try {
      return new VirtioMmio(host, choosePlace(config.place, host), new VirtioBlk(host, config.disk, disk));
    } catch (error) {
      // Nobody else will: there is no device to close. An error of closing says less than this one.
      disk.close().catch(() => {});
      throw error;
    }
  },
});

/** What there is from DRIVER_OK to the reset. */
interface Session {
  readonly link: VirtioLink;
  readonly queue: Virtqueue;
  /** The driver flushes when it wants to. */
  readonly flushes: boolean;
  /** Bytes of data under way; `full`: requests may have been left on the queue for that. */
  inFlight: number;
  full: boolean;
  /** Requests whose host operations have ended, to be answered together. */
  finished: { readonly chain: Chain; readonly status: number; readonly data: Uint8Array | null }[];
  complaints: number;
}

class VirtioBlk implements VirtioModel {
  readonly deviceId = VIRTIO_ID.block;
  readonly features: readonly number[];
  readonly queues = 1;
  readonly config = new Uint8Array(CONFIG);
  readonly #host: DeviceHost;
  readonly #id: Uint8Array;
  readonly #disk: Disk;
  #session: Session | null = null;

  constructor(host: DeviceHost, spec: DiskSpec, disk: Disk) {
    const { sectors, writable, discards } = disk;
    this.#host = host;
    this.#disk = disk;
    this.#id = new TextEncoder().encode(spec.vdev).subarray(0, ID_BYTES);
    this.features = [
      BLK_F.segmentsMost,
      BLK_F.blockSize,
      BLK_F.flush,
      BLK_F.topology,
      ...(writable ? [BLK_F.writeZeroes] : [BLK_F.readOnly]),
      ...(discards ? [BLK_F.discard] : []),
    ];
    const config = new DataView(this.config.buffer);
    config.setUint32(0, sectors % 2 ** 32, true);
    config.setUint32(4, Math.floor(sectors / 2 ** 32), true);
    config.setUint32(12, QUEUE_SIZE - 2, true); // buffers of data in a request
    config.setUint32(20, SECTOR, true);
    config.setUint16(26, 1, true); // blocks of a suggested minimum
    config.setUint16(34, 1, true); // queues
    if (discards) {
      config.setUint32(36, 0xffff_ffff >>> 1, true);
      config.setUint32(40, MOST_DISCARDS, true);
      config.setUint32(44, DISCARD_GRANULARITY / SECTOR, true);
    }
    if (writable) {
      config.setUint32(48, MOST_ZEROES, true);
      config.setUint32(52, 1, true);
    }
  }

  start(link: VirtioLink): void {
    const queue = link.queue(0);
    if (queue === null) return;
    const flushes = link.has(BLK_F.flush);
    this.#session = { link, queue, flushes, inFlight: 0, full: false, finished: [], complaints: 0 };
    this.#poll(this.#session);
  }

  notified(): void {
    if (this.#session !== null && this.#session.link.queue(0) === this.#session.queue) this.#poll(this.#session);
  }

  stop(): void {
    this.#session = null;
  }

  async close(): Promise<void> {
    await this.#disk.close();
  }

  /** Takes the requests that there are, until enough data is under way. Within a burst. */
  #poll(session: Session): void {
    const { link, queue } = session;
    for (;;) {
      session.full = session.inFlight >= MOST_IN_FLIGHT;
      if (session.full) break;
      const chain = queue.take();
      if (chain === null) {
        queue.listen(true);
        break;
      }
      this.#take(session, chain);
    }
    link.publish(queue);
    this.#disk.submit(() => link.burst(() => this.#answer(session)));
  }

  #take(session: Session, chain: Chain): void {
    const { queue } = session;
    const disk = this.#disk;
    const request = parseRequest(chain, queue.memory, disk);
    const finish = (data: Uint8Array | null, length: number) => {
      session.inFlight += length;
      return (error: Error | null): void => {
        session.inFlight -= length;
        if (error !== null) this.#complain(session, `host I/O failed: ${error.message}`);
        const status = error === null ? BLK_STATUS.ok : BLK_STATUS.ioError;
        session.finished.push({ chain, status, data: error === null ? data : null });
      };
    };
    switch (request.kind) {
      case "read": {
        const data = new Uint8Array(request.length);
        disk.read(request.offset, data, finish(data, request.length));
        return;
      }
      case "write":
        disk.write(request.offset, request.data, session.flushes ? "none" : "both", finish(null, request.length));
        return;
      case "flush":
        disk.flush(finish(null, 0));
        return;
      case "discard":
      case "zero": {
        const { kind, ranges } = request;
        const last = finish(null, 0);
        let failed: Error | null = null;
        for (const [i, { offset, length }] of ranges.entries()) {
          const done = (error: Error | null): void => {
            failed ??= error;
            if (i === ranges.length - 1) last(failed);
          };
          if (kind === "discard") disk.discard(offset, length, done);
          else disk.zero(offset, length, done);
        }
        return;
      }
      case "id": {
        const data = new Uint8Array(request.length);
        data.set(this.#id.subarray(0, request.length));
        put(queue, chain, BLK_STATUS.ok, data);
        return;
      }
      case "bad":
        this.#complain(session, `request refused: ${request.why}`);
        put(queue, chain, BLK_STATUS.ioError, null);
        return;
      default:
        put(queue, chain, BLK_STATUS.unsupported, null);
    }
  }

  /** Answers what has ended, and goes on where the queue was left for too much data. Within a burst. */
  #answer(session: Session): void {
    const { link, queue } = session;
    if (link.queue(0) !== queue) return;
    for (const { chain, status, data } of session.finished.splice(0)) put(queue, chain, status, data);
    if (session.full) this.#poll(session);
    else link.publish(queue);
  }

  #complain(session: Session, what: string): void {
    session.complaints++;
    if (session.complaints <= MOST_COMPLAINTS) this.#host.log(what);
    if (session.complaints === MOST_COMPLAINTS) this.#host.log("further failures are not logged until the next reset");
  }
}

/** Answers a request: its data, and the status in the last byte that there is; the driver is told of the bytes that were written without a gap. */
function put(queue: Virtqueue, chain: Chain, status: number, data: Uint8Array | null): void {
  const length = data?.length ?? 0;
  const last = chain.writeLength - 1;
  if (data !== null) queue.memory.write(chain.writable, 0, data);
  queue.memory.write(chain.writable, last, Uint8Array.of(status));
  queue.put(chain, length === last ? length + 1 : length);
}
