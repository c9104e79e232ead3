/**
 * From the bridge to the guest's receive ring: a frame waits for the latency of the wire, then for as many posted buffers as it needs, is copied
 * into them, and each buffer is answered in its own slot (xen/io/netif.h: first slot, GSO segment, further slots).
 *
 * Invariants: what waits is bounded (QUEUE_BYTES, QUEUE_FRAMES); what comes on top is dropped, and so is what has waited for DRAIN; a buffer that
 * cannot be mapped costs that frame and no other; requests and responses keep step, so that a response is in the slot of its request.
 */
import { type BackRing, GrantError, type MappedPages, type Nanoseconds, type Timer, xen } from "hookvisor";
import { type Accepts, adapt, type Frame } from "../lib-switch/index.ts";
import type { NetifLayout } from "./layout.ts";

const { NETIF_RSP, NETRXF, XEN_NETIF_GSO_TYPE } = xen;

/** Virtual time that a frame takes from one port to another. */
export const WIRE_LATENCY: Nanoseconds = 10_000;
/** What may wait for buffers of the guest. */
export const QUEUE_BYTES = 512 * 1024;
export const QUEUE_FRAMES = 1024;
/** A frame that has waited for buffers for so long is dropped. */
export const DRAIN: Nanoseconds = 10e9;
/** How often to look for buffers of a guest that does not tell of them (no feature-rx-notify). */
export const POLL: Nanoseconds = 30e6;
const FRAME_BYTES = 4096;

/** What the guest's frontend said that it takes. */
export interface ReceiveFeatures extends Accepts {
  /** Frames of more than one buffer. */
  readonly scatterGather: boolean;
  /** It notifies of posted buffers when asked. */
  readonly notifies: boolean;
}

/** What the receive side needs of the device. */
export interface ReceiveHost {
  mapGrants(references: readonly number[], access: "rw"): MappedPages;
  timer(at: Nanoseconds, fire: (now: Nanoseconds) => void): Timer;
  now(): Nanoseconds;
  complain(what: string): void;
  /** The timer found work: poll, as after an event. */
  due(): void;
}

interface Waiting {
  readonly frame: Frame;
  readonly due: Nanoseconds;
}

/** The receive side of one connection. */
export class Receive {
  readonly #ring: BackRing;
  readonly #layout: NetifLayout;
  readonly #features: ReceiveFeatures;
  readonly #host: ReceiveHost;
  readonly #slot: DataView;
  readonly #bytes: Uint8Array;
  #queue: Waiting[] = [];
  #queuedBytes = 0;
  #timer: Timer | null = null;
  /** Frames that the guest did not get. */
  dropped = 0;

  constructor(ring: BackRing, layout: NetifLayout, features: ReceiveFeatures, host: ReceiveHost) {
    this.#ring = ring;
    this.#layout = layout;
    this.#features = features;
    this.#host = host;
    this.#slot = new DataView(new ArrayBuffer(layout.rxSlotBytes));
    this.#bytes = new Uint8Array(this.#slot.buffer);
  }

  /** Frames that wait. */
  get waiting(): number {
    return this.#queue.length;
  }

  /** A frame from the bridge, sent at `now`. */
  deliver(frame: Frame, now: Nanoseconds): void {
    const frames = adapt(frame, this.#features);
    if (frames.length === 0) this.dropped++;
    for (const one of frames) {
      const { length } = one.bytes;
      if (
        this.#queuedBytes + length > QUEUE_BYTES ||
        this.#queue.length >= QUEUE_FRAMES ||
        (length > FRAME_BYTES && !this.#features.scatterGather)
      ) {
        this.dropped++;
        continue;
      }
      this.#queuedBytes += length;
      this.#queue.push({ frame: one, due: now + WIRE_LATENCY });
    }
    if (this.#timer === null && this.#queue.length > 0) this.#arm(this.#queue[0]!.due);
  }

  #arm(at: Nanoseconds): void {
    this.#timer?.cancel();
    this.#timer = this.#host.timer(at, () => {
      this.#timer = null;
      this.#host.due();
    });
  }

  /** Gives the guest what is due and has room. True: the guest wants to be notified. Throws RingError. */
  poll(): boolean {
    const now = this.#host.now();
    let any = false;
    let wanted = 0;
    while (this.#queue.length > 0 && this.#queue[0]!.due <= now) {
      const { frame, due } = this.#queue[0]!;
      wanted = slotsOf(frame);
      if (!this.#ring.finalCheck(wanted)) {
        if (now - due < DRAIN) break;
        this.dropped++;
      } else {
        this.#give(frame);
        any = true;
      }
      this.#queue.shift();
      this.#queuedBytes -= frame.bytes.length;
    }
    const head = this.#queue[0];
    if (head === undefined) {
      this.#timer?.cancel();
      this.#timer = null;
    } else if (head.due > now) this.#arm(head.due);
    else this.#arm(this.#features.notifies ? head.due + DRAIN : now + POLL);
    return any && this.#ring.pushResponses();
  }

  /** Copies a frame into as many buffers as it needs; they are there. */
  #give(frame: Frame): void {
    const { bytes, segmentation } = frame;
    const requests: { readonly id: number; readonly reference: number }[] = [];
    for (let n = slotsOf(frame); n > 0; n--) {
      this.#ring.takeRequest(this.#bytes);
      requests.push(this.#layout.rxRequest(this.#slot));
    }
    // The slot of the GSO segment is the second: its buffer is not used.
    const buffers = segmentation === null ? requests : requests.filter((_, i) => i !== 1);
    let pages: MappedPages;
    try {
      pages = this.#host.mapGrants(
        buffers.map((buffer) => buffer.reference),
        "rw",
      );
    } catch (error) {
      if (!(error instanceof GrantError)) throw error;
      this.#host.complain(error.message);
      this.dropped++;
      for (const { id } of requests) this.#respond(id, 0, NETIF_RSP.ERROR);
      return;
    }
    for (const [i, { id }] of buffers.entries()) {
      const part = bytes.subarray(i * FRAME_BYTES, (i + 1) * FRAME_BYTES);
      pages.pages[i]!.set(part);
      pages.wrote(i, 0, part.length);
      const flags = (i === 0 ? flagsOf(frame) : 0) | (i < buffers.length - 1 ? NETRXF.more_data : 0);
      this.#respond(id, flags, part.length);
      if (i === 0 && segmentation !== null) {
        this.#layout.putGsoExtra(
          this.#slot,
          segmentation.version === 4 ? XEN_NETIF_GSO_TYPE.TCPV4 : XEN_NETIF_GSO_TYPE.TCPV6,
          segmentation.size,
        );
        this.#ring.putResponse(this.#bytes);
      }
    }
    pages.unmap();
  }

  #respond(id: number, flags: number, status: number): void {
    this.#layout.putRxResponse(this.#slot, id, flags, status);
    this.#ring.putResponse(this.#bytes);
  }

  /** Nothing is delivered any more. */
  stop(): void {
    this.#timer?.cancel();
    this.#timer = null;
    this.dropped += this.#queue.length;
    this.#queue = [];
    this.#queuedBytes = 0;
  }
}

/** Ring slots that a frame takes. */
export function slotsOf(frame: Frame): number {
  return Math.max(1, Math.ceil(frame.bytes.length / FRAME_BYTES)) + (frame.segmentation === null ? 0 : 1);
}

function flagsOf({ checksum, segmentation }: Frame): number {
  return (
    (checksum === "partial" ? NETRXF.csum_blank : 0) |
    (checksum === "full" ? 0 : NETRXF.data_validated) |
    (segmentation === null ? 0 : NETRXF.extra_info)
  );
}
