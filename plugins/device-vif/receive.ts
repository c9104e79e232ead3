/**
 * From the bridge to the guest's receive ring: a frame waits for the latency of the wire, then for as many posted buffers as it needs, is copied
 * into them, and each buffer is answered in its own slot (xen/io/netif.h: first slot, GSO segment, further slots).
 *
 * Invariants: what waits is bounded (Wire); what comes on top is dropped, and so is what has waited for DRAIN; a buffer that
 * cannot be mapped costs that frame and no other; requests and responses keep step, so that a response is in the slot of its request.
 */
import { type BackRing, GrantError, type MappedPages, type Nanoseconds, xen } from "hookvisor";
import { type Accepts, adapt, DRAIN, type Frame, Wire, type WireHost } from "../lib-switch/index.ts";
import type { NetifLayout } from "./layout.ts";

const { NETIF_RSP, NETRXF, XEN_NETIF_GSO_TYPE } = xen;

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
export interface ReceiveHost extends WireHost {
  mapGrants(references: readonly number[], access: "rw"): MappedPages;
  complain(what: string): void;
}

/** The receive side of one connection. */
export class Receive {
  readonly #ring: BackRing;
  readonly #layout: NetifLayout;
  readonly #features: ReceiveFeatures;
  readonly #host: ReceiveHost;
  readonly #slot: DataView;
  readonly #bytes: Uint8Array;
  readonly #wire: Wire;
  /** Frames that were lost with a buffer that could not be mapped. */
  #lost = 0;

  constructor(ring: BackRing, layout: NetifLayout, features: ReceiveFeatures, host: ReceiveHost) {
    this.#ring = ring;
    this.#layout = layout;
    this.#features = features;
    this.#host = host;
    this.#slot = new DataView(new ArrayBuffer(layout.rxSlotBytes));
    this.#bytes = new Uint8Array(this.#slot.buffer);
    this.#wire = new Wire(host);
  }

  /** Frames that wait. */
  get waiting(): number {
    return this.#wire.waiting;
  }

  /** Frames that the guest did not get. */
  get dropped(): number {
    return this.#wire.dropped + this.#lost;
  }

  /** A frame from the bridge, sent at `now`. */
  deliver(frame: Frame, now: Nanoseconds): void {
    const most = this.#features.scatterGather ? Infinity : FRAME_BYTES;
    this.#wire.put(adapt(frame, this.#features), now, most);
  }

  /** Gives the guest what is due and has room. True: the guest wants to be notified. Throws RingError. */
  poll(): boolean {
    let any = false;
    for (let frame = this.#wire.head(); frame !== null; frame = this.#wire.head()) {
      if (!this.#ring.finalCheck(slotsOf(frame))) {
        if (!this.#wire.stale) break;
        this.#lost++;
      } else {
        this.#give(frame);
        any = true;
      }
      this.#wire.shift();
    }
    this.#wire.rest(this.#features.notifies ? DRAIN : POLL);
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
      this.#lost++;
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
    this.#wire.stop();
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
