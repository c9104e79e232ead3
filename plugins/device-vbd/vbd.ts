/**
 * The block device backend (xen/io/blkif.h): a raw image as a guest's disk, or an overlay over one.
 *
 * Requests that were found on the ring together are answered together (lib-block's Disk). A write's data is taken out of the guest's frames with the
 * request, a read's put into them with the response. A barrier flushes before and after its data.
 * Invariants: each request is copied, then checked, then answered exactly once, unless the frontend disconnects first; frames are
 * mapped only while a request needs them, unless both ends want persistent grants; no more than MOST_IN_FLIGHT bytes and one
 * request are held outside the guest; a ring with impossible indices ends the connection with one line in the log.
 * Not supported: several queues, discard-secure (neither is advertised); formats other than raw.
 */
import {
  type Abi,
  BackRing,
  ConfigError,
  type DeviceHost,
  type DeviceType,
  GrantError,
  type HostFile,
  type HostServices,
  type MappedPages,
  RingError,
  type SplitBackend,
  xen,
} from "hookvisor";
import { DISCARD_GRANULARITY, Disk, type DiskSpec, openDisk, parseDiskSpec, SECTOR } from "../lib-block/index.ts";
import { Grants, type Held } from "./grants.ts";
import { BlkifLayout, type DiskLimits, MAX_INDIRECT_SEGMENTS, type Segment, type Transfer } from "./request.ts";

const { BLKIF_RSP, VDISK } = xen;

/** Pages of a ring, log2, at most. */
const MAX_RING_ORDER = 4;
/** Bytes of data under way before requests are left on the ring. */
const MOST_IN_FLIGHT = 8 << 20;
/** Lines in the log about requests that failed, a connection. */
const MOST_COMPLAINTS = 8;
const FRAME_SIZE = 4096;

/** One disk: what the user asked for, and its file once opened. */
export interface VbdConfig {
  readonly disk: DiskSpec;
  file: HostFile | null;
}

/** The device type. */
export const vbdType: DeviceType<VbdConfig> = Object.freeze({
  type: "vbd",
  parse: (spec: string): VbdConfig => ({ disk: parseDiskSpec(spec), file: null }),
  deviceId: (config: VbdConfig) => config.disk.number,
  frontendNodes: ({ disk }: VbdConfig) => ({
    "virtual-device": String(disk.number),
    "device-type": disk.cdrom ? "cdrom" : "disk",
  }),
  async open(config: VbdConfig, services: HostServices): Promise<void> {
    config.file = await openDisk(config.disk, services);
  },
  create: (host: DeviceHost, config: VbdConfig) => new VbdBackend(host, config),
});

/** A frontend's rings, mapped. */
interface Link {
  readonly layout: BlkifLayout;
  readonly ring: BackRing;
  readonly pages: MappedPages;
  readonly channel: { notify(): void; close(): void };
  /** Frames of requests. */
  readonly grants: Grants;
  readonly slot: DataView;
  /** Bytes of data under way; `full`: requests may have been left on the ring for that. */
  inFlight: number;
  full: boolean;
  /** There are responses that do not show yet. */
  answered: boolean;
  complaints: number;
}

class VbdBackend implements SplitBackend {
  readonly kind = "split";
  readonly #host: DeviceHost;
  readonly #spec: DiskSpec;
  readonly #disk: Disk;
  readonly #limits: DiskLimits;
  #link: Link | null = null;

  constructor(host: DeviceHost, config: VbdConfig) {
    if (config.file === null) throw new Error("the disk's file is not open");
    this.#host = host;
    this.#spec = config.disk;
    this.#disk = new Disk(config.disk, config.file, host);
    const { sectors, writable, discards } = this.#disk;
    this.#limits = { sectors, writable, discard: discards };
  }

  probe(): void {
    const { backend } = this.#host;
    const { vdev, target, writable, cdrom } = this.#spec;
    const nodes: Readonly<Record<string, string>> = {
      dev: vdev,
      params: target,
      type: "file",
      mode: writable ? "w" : "r",
      "device-type": cdrom ? "cdrom" : "disk",
      removable: cdrom ? "1" : "0",
      bootable: "1",
      specification: "xen",
      "hotplug-status": "connected",
      "max-ring-page-order": String(MAX_RING_ORDER),
      "multi-queue-max-queues": "1",
      "feature-flush-cache": "1",
      "feature-barrier": "1",
      "feature-persistent": "1",
      "feature-max-indirect-segments": String(MAX_INDIRECT_SEGMENTS),
      ...(this.#limits.discard
        ? {
            "feature-discard": "1",
            "discard-granularity": String(DISCARD_GRANULARITY),
            "discard-alignment": "0",
            "discard-secure": "0",
          }
        : {}),
    };
    for (const [key, value] of Object.entries(nodes)) backend.write(key, value);
  }

  connect(): void {
    const { frontend, backend } = this.#host;
    const number = (key: string, most: number): number => nodeNumber(key, frontend.read(key), most);
    const queues = frontend.read("multi-queue-num-queues");
    if (queues !== undefined && queues !== "1") throw new ConfigError(`${queues} queues are not supported, only 1.`);
    const order = frontend.read("ring-page-order") === undefined ? null : number("ring-page-order", MAX_RING_ORDER);
    const references =
      order === null
        ? [number("ring-ref", 0xffff_ffff)]
        : Array.from({ length: 1 << order }, (_, i) => number(`ring-ref${i}`, 0xffff_ffff));
    const port = number("event-channel", 0xffff_ffff);
    const layout = new BlkifLayout(protocolAbi(frontend.read("protocol"), this.#host.domain.abi));
    const pages = this.#host.mapGrants(references, "rw");
    try {
      const ring = new BackRing({
        pages: pages.pages,
        slotBytes: layout.slotBytes,
        littleEndian: layout.littleEndian,
        wrote: (page, from, to) => pages.wrote(page, from, to),
      });
      const channel = this.#host.bindEvent(port, () => this.#poll());
      const slot = new DataView(new ArrayBuffer(layout.slotBytes));
      const grants = new Grants(this.#host, frontend.read("feature-persistent") === "1");
      this.#link = {
        layout,
        ring,
        pages,
        channel,
        grants,
        slot,
        inFlight: 0,
        full: false,
        answered: false,
        complaints: 0,
      };
    } catch (error) {
      pages.unmap();
      throw error;
    }
    const info = (this.#spec.cdrom ? VDISK.CDROM | VDISK.REMOVABLE : 0) | (this.#spec.writable ? 0 : VDISK.READONLY);
    backend.write("sectors", String(this.#limits.sectors));
    backend.write("info", String(info));
    backend.write("sector-size", String(SECTOR));
    backend.write("physical-sector-size", String(SECTOR));
    this.#poll();
  }

  async disconnect(): Promise<void> {
    this.#release();
    await this.#disk.settled();
  }

  async close(): Promise<void> {
    this.#release();
    await this.#disk.close();
  }

  /** Lets go of the frontend's memory at once. Answers of what is in flight are dropped: nobody waits for them any more. */
  #release(): void {
    const link = this.#link;
    this.#link = null;
    if (link === null) return;
    link.channel.close();
    link.grants.close();
    link.pages.unmap();
  }

  /** Takes the requests that there are, until enough data is under way. */
  #poll(): void {
    const link = this.#link;
    if (link === null) return;
    const slot = new Uint8Array(link.slot.buffer);
    try {
      do {
        while (link.inFlight < MOST_IN_FLIGHT && link.ring.takeRequest(slot)) this.#take(link);
        // The answers that make room again go on from here.
        link.full = link.inFlight >= MOST_IN_FLIGHT;
      } while (!link.full && link.ring.finalCheck());
    } catch (error) {
      if (!(error instanceof RingError)) throw error;
      this.#host.log(`connection closed, wild ring: ${error.message}`);
      this.#release();
    }
    this.#push(link);
    this.#submit(link);
  }

  #take(link: Link): void {
    const slot = new DataView(link.slot.buffer.slice(0));
    const answer = (status: number): void => this.#answer(link, slot, status);
    const refuse = (why: string): void => {
      this.#complain(link, `request refused: ${why}`);
      answer(BLKIF_RSP.ERROR);
    };
    const finish = (error: Error | null): void => {
      if (error !== null) this.#complain(link, `host I/O failed: ${error.message}`);
      answer(error === null ? BLKIF_RSP.OKAY : BLKIF_RSP.ERROR);
    };
    let request = link.layout.parse(link.slot, this.#limits);
    try {
      if (request.kind === "indirect")
        request = link.layout.segmentsOf(request, listOf(link.grants, request.references), this.#limits);
      switch (request.kind) {
        case "unsupported":
          answer(BLKIF_RSP.EOPNOTSUPP);
          return;
        case "bad":
          refuse(request.why);
          return;
        case "flush":
          this.#disk.flush(finish);
          return;
        case "discard":
          this.#disk.discard(request.offset, request.length, finish);
          return;
        case "read":
          this.#read(link, request, finish);
          return;
        default:
          this.#write(link, request, finish);
      }
    } catch (error) {
      if (!(error instanceof GrantError)) throw error;
      refuse(error.message);
    }
  }

  #write(link: Link, { segments, offset, length, flush }: Transfer, finish: (error: Error | null) => void): void {
    const frames = link.grants.hold(referencesOf(segments), "ro");
    const data = new Uint8Array(length);
    gather(segments, frames, data);
    frames.release();
    link.inFlight += length;
    this.#disk.write(offset, data, flush, (error) => {
      link.inFlight -= length;
      finish(error);
    });
  }

  #read(link: Link, { segments, offset, length }: Transfer, finish: (error: Error | null) => void): void {
    const frames = link.grants.hold(referencesOf(segments), "rw");
    const data = new Uint8Array(length);
    link.inFlight += length;
    this.#disk.read(offset, data, (error) => {
      link.inFlight -= length;
      if (link.grants.open) {
        if (error === null) scatter(segments, frames, data);
        frames.release();
      }
      finish(error);
    });
  }

  /** What was taken since the last time is answered with one event. */
  #submit(link: Link): void {
    this.#disk.submit(() => {
      this.#push(link);
      if (this.#link?.full === true) this.#poll();
    });
  }

  /** Puts a response, unless the frontend has gone; it shows when pushed. */
  #answer(link: Link, slot: DataView, status: number): void {
    if (this.#link !== link) return;
    const response = new Uint8Array(link.layout.slotBytes);
    link.layout.respond(slot, status, new DataView(response.buffer));
    link.ring.putResponse(response);
    link.answered = true;
  }

  /** Shows the responses that were put. */
  #push(link: Link): void {
    if (this.#link !== link || !link.answered) return;
    link.answered = false;
    if (link.ring.pushResponses()) link.channel.notify();
  }

  #complain(link: Link, what: string): void {
    link.complaints++;
    if (link.complaints <= MOST_COMPLAINTS) this.#host.log(what);
    if (link.complaints === MOST_COMPLAINTS) this.#host.log("further failures of this connection are not logged");
  }
}

function referencesOf(segments: readonly Segment[]): readonly number[] {
  return segments.map((segment) => segment.reference);
}

/** A copy of the frames that hold an indirect request's segments: the guest may write them at any time. Throws GrantError. */
function listOf(grants: Grants, references: readonly number[]): DataView {
  const frames = grants.hold(references, "ro");
  const list = new Uint8Array(references.length * FRAME_SIZE);
  for (const [i, page] of frames.pages.entries()) list.set(page, i * FRAME_SIZE);
  frames.release();
  return new DataView(list.buffer);
}

function gather(segments: readonly Segment[], frames: Held, into: Uint8Array): void {
  let at = 0;
  for (const [i, { from, to }] of segments.entries()) {
    into.set(frames.pages[i]!.subarray(from, to), at);
    at += to - from;
  }
}

function scatter(segments: readonly Segment[], frames: Held, data: Uint8Array): void {
  let at = 0;
  for (const [i, { from, to }] of segments.entries()) {
    frames.pages[i]!.set(data.subarray(at, at + to - from), from);
    frames.wrote(i, from, to);
    at += to - from;
  }
}

const X86_64: Abi = Object.freeze({ wordBytes: 8, endian: "little", align64: 8 });
const X86_32: Abi = Object.freeze({ wordBytes: 4, endian: "little", align64: 4 });

/** The layout that a frontend's `protocol` node names (xen/io/protocols.h); without one the guest's own. */
function protocolAbi(protocol: string | undefined, native: Abi): Abi {
  switch (protocol) {
    case undefined:
      return native;
    case "x86_64-abi":
      return X86_64;
    case "x86_32-abi":
      return X86_32;
    default:
      throw new ConfigError(`Protocol '${protocol}' is not supported; there are x86_64-abi and x86_32-abi.`);
  }
}

function nodeNumber(key: string, text: string | undefined, most: number): number {
  const value = text !== undefined && /^\d{1,10}$/.test(text) ? Number(text) : Number.NaN;
  if (!(value <= most))
    throw new ConfigError(
      `The frontend's node ${key} is ${text === undefined ? "missing" : `'${text.slice(0, 20)}'`}.`,
    );
  return value;
}
