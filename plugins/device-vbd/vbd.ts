/**
 * The block device backend (xen/io/blkif.h): a raw image as a guest's disk, or an overlay over one.
 *
 * Host operations of one disk run one after the other in the order of their requests. Requests that were found on the ring together
 * are answered together, a fixed virtual latency after they were taken: what a guest reads never depends on the host's speed. A
 * write's data is taken out of the guest's frames with the request, a read's put into them with the response. A flush is answered
 * after the host's fsync; a barrier flushes before and after its data.
 * Invariants: each request is copied, then checked, then answered exactly once, unless the frontend disconnects first; frames are
 * mapped only while a request needs them, unless both ends want persistent grants; no more than MOST_IN_FLIGHT bytes and one
 * request are held outside the guest; a ring with impossible indices ends the connection with one line in the log; after a flush
 * that failed no flush succeeds: the host may have dropped what it could not write.
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
  type Nanoseconds,
  RingError,
  type SplitBackend,
  xen,
} from "hookvisor";
import { Grants, type Held } from "./grants.ts";
import { OverlayFile, overlaySize } from "./overlay.ts";
import { BlkifLayout, type DiskLimits, MAX_INDIRECT_SEGMENTS, SECTOR, type Segment, type Transfer } from "./request.ts";
import { type DiskSpec, parseDiskSpec } from "./spec.ts";

const { BLKIF_RSP, VDISK } = xen;

/** Virtual time between a request and its response. */
export const LATENCY: Nanoseconds = 100_000;
/** Pages of a ring, log2, at most. */
const MAX_RING_ORDER = 4;
/** Bytes of data under way before requests are left on the ring. */
const MOST_IN_FLIGHT = 8 << 20;
/** Lines in the log about requests that failed, a connection. */
const MOST_COMPLAINTS = 8;
/** Bytes that are given up as one: what files have holes of. */
const DISCARD_GRANULARITY = 4096;
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
    const { disk } = config;
    const image = await services.openFile(disk.target, disk.writable && disk.overlay === null ? "rw" : "r");
    try {
      if (image.size < SECTOR)
        throw new ConfigError(
          `Disk ${disk.target} has ${image.size} bytes; an image holds at least one sector of ${SECTOR}.`,
        );
      config.file = disk.overlay === null ? image : await openOverlay(image, disk.overlay, services);
    } catch (error) {
      await image.close();
      throw error;
    }
  },
  create: (host: DeviceHost, config: VbdConfig) => new VbdBackend(host, config),
});

async function openOverlay(
  image: HostFile,
  overlay: { readonly file: string } | "temporary",
  services: HostServices,
): Promise<HostFile> {
  const temporary = overlay === "temporary";
  const path = temporary ? `temporary overlay of ${image.path}` : overlay.file;
  const file = await services.openFile(path, "rw", { size: overlaySize(image.size), temporary });
  try {
    return await OverlayFile.open(image, file);
  } catch (error) {
    await file.close();
    throw error;
  }
}

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

/** A host operation: its error once it has ended, and what follows. */
interface Task {
  readonly done: (error: Error | null) => void;
  error: Error | null;
}

class VbdBackend implements SplitBackend {
  readonly kind = "split";
  readonly #host: DeviceHost;
  readonly #disk: DiskSpec;
  readonly #file: HostFile;
  readonly #limits: DiskLimits;
  #link: Link | null = null;
  /** What the first flush that failed died of. */
  #flushFailed: Error | null = null;
  /** Host operations of the requests that are being taken. */
  #batch: Task[] = [];
  /** Ends when every host operation asked for so far has. Never rejects. */
  #work: Promise<unknown> = Promise.resolve();

  constructor(host: DeviceHost, config: VbdConfig) {
    if (config.file === null) throw new Error("the disk's file is not open");
    this.#host = host;
    this.#disk = config.disk;
    this.#file = config.file;
    const { writable, discard } = config.disk;
    this.#limits = {
      sectors: Math.floor(config.file.size / SECTOR),
      writable,
      discard: writable && discard && config.file.discard !== undefined,
    };
    if (config.file.size % SECTOR !== 0)
      host.log(
        `${config.file.path}: its last ${config.file.size % SECTOR} bytes are no whole sector; the guest does not see them`,
      );
  }

  probe(): void {
    const { backend } = this.#host;
    const { vdev, target, writable, cdrom } = this.#disk;
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
    const info = (this.#disk.cdrom ? VDISK.CDROM | VDISK.REMOVABLE : 0) | (this.#disk.writable ? 0 : VDISK.READONLY);
    backend.write("sectors", String(this.#limits.sectors));
    backend.write("info", String(info));
    backend.write("sector-size", String(SECTOR));
    backend.write("physical-sector-size", String(SECTOR));
    this.#poll();
  }

  async disconnect(): Promise<void> {
    this.#release();
    await this.#work;
  }

  async close(): Promise<void> {
    this.#release();
    await this.#work;
    await this.#file.close();
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
    const finish = (error: Error | null): void => answer(error === null ? BLKIF_RSP.OKAY : BLKIF_RSP.ERROR);
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
          this.#start(() => this.#flush(), finish);
          return;
        case "discard": {
          const { offset, length } = request;
          this.#start(async () => (length > 0 ? this.#file.discard!(offset, length) : undefined), finish);
          return;
        }
        case "read":
          this.#read(link, request, answer);
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
    this.#start(
      async () => {
        if (flush !== "none") await this.#flush();
        await this.#file.write(offset, data);
        if (flush === "both") await this.#flush();
      },
      (error) => {
        link.inFlight -= length;
        finish(error);
      },
    );
  }

  #read(link: Link, { segments, offset, length }: Transfer, answer: (status: number) => void): void {
    const frames = link.grants.hold(referencesOf(segments), "rw");
    const data = new Uint8Array(length);
    link.inFlight += length;
    this.#start(
      () => this.#file.read(offset, data),
      (error) => {
        link.inFlight -= length;
        if (!link.grants.open) return;
        if (error === null) scatter(segments, frames, data);
        frames.release();
        answer(error === null ? BLKIF_RSP.OKAY : BLKIF_RSP.ERROR);
      },
    );
  }

  async #flush(): Promise<void> {
    if (this.#flushFailed !== null) throw this.#flushFailed;
    try {
      await this.#file.flush();
    } catch (error) {
      this.#flushFailed = error instanceof Error ? error : new Error(String(error));
      throw error;
    }
  }

  /** Host work after all that was asked for before; `done` runs in virtual time, with the error if there was one. */
  #start(work: () => Promise<void>, done: (error: Error | null) => void): void {
    const task: Task = { done, error: null };
    this.#work = this.#work.then(work).catch((error: unknown) => {
      task.error = error instanceof Error ? error : new Error(String(error));
    });
    this.#batch.push(task);
  }

  /** What was started since the last time is answered at one moment, with one event: it was asked for at one moment, too. */
  #submit(link: Link): void {
    const batch = this.#batch;
    if (batch.length === 0) return;
    this.#batch = [];
    this.#host.io(this.#work, LATENCY, () => {
      for (const { done, error } of batch) {
        if (error !== null) this.#complain(link, `host I/O failed: ${error.message}`);
        done(error);
      }
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
