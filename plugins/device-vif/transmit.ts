/**
 * From the guest's transmit ring to frames: collects the slots of a packet (xen/io/netif.h: first slot with the whole size, extra segments,
 * further slots), checks them, copies the data out of the granted frames, answers each slot in its place.
 *
 * Invariants: every slot that was taken is answered exactly once, extra segments by NETIF_RSP_NULL; frames are mapped only while they
 * are copied; a packet whose contents are wrong is answered by NETIF_RSP_ERROR and hurts no other; a ring that cannot be followed any more
 * (a slot that is announced and not there, an extra segment of a type that does not exist, more than MOST_SLOTS slots) is a WildRing.
 */
import { type BackRing, GrantError, type MappedPages, xen } from "hookvisor";
import { ETHERNET_HEADER, type Frame, offloaded, type Segmentation } from "../lib-switch/index.ts";
import type { ExtraInfo, NetifLayout, TxRequest } from "./layout.ts";

const { NETIF_RSP, NETTXF, XEN_NETIF_EXTRA_FLAG_MORE, XEN_NETIF_EXTRA_TYPE, XEN_NETIF_GSO_TYPE } = xen;

/** Data slots that a packet may have (XEN_NETIF_NR_SLOTS_MIN); one more is an error of that packet. */
export const DATA_SLOTS: number = xen.XEN_NETIF_NR_SLOTS_MIN;
/** Data slots beyond which the guest is not taken seriously any more. */
export const MOST_SLOTS = 20;
const FRAME_BYTES = 4096;

/** The guest's ring makes no sense; the interface is to be disabled. */
export class WildRing extends Error {}

/** What the transmit side needs of the device. */
export interface TransmitHost {
  mapGrants(references: readonly number[], access: "ro"): MappedPages;
  /** A packet that was refused, in words. */
  complain(what: string): void;
  /** A frame of the guest. */
  send(frame: Frame): void;
}

interface Packet {
  readonly slots: readonly TxRequest[];
  readonly extras: readonly ExtraInfo[];
}

/** The transmit side of one connection. */
export class Transmit {
  readonly #ring: BackRing;
  readonly #layout: NetifLayout;
  readonly #host: TransmitHost;
  readonly #slot: DataView;
  readonly #bytes: Uint8Array;

  constructor(ring: BackRing, layout: NetifLayout, host: TransmitHost) {
    this.#ring = ring;
    this.#layout = layout;
    this.#host = host;
    this.#slot = new DataView(new ArrayBuffer(layout.txSlotBytes));
    this.#bytes = new Uint8Array(this.#slot.buffer);
  }

  /** Takes all packets that there are. True: the guest wants to be notified. Throws RingError and WildRing. */
  poll(): boolean {
    let any = false;
    do
      while (this.#ring.takeRequest(this.#bytes)) {
        this.#packet(this.#collect(this.#layout.txRequest(this.#slot)));
        any = true;
      }
    while (this.#ring.finalCheck());
    return any && this.#ring.pushResponses();
  }

  /** The rest of a packet's slots. */
  #collect(first: TxRequest): Packet {
    const slots = [first];
    const extras: ExtraInfo[] = [];
    for (let more = (first.flags & NETTXF.extra_info) !== 0; more; ) {
      this.#next("extra segment");
      const extra = this.#layout.extra(this.#slot);
      if (extra.type === XEN_NETIF_EXTRA_TYPE.NONE || extra.type >= XEN_NETIF_EXTRA_TYPE.MAX)
        throw new WildRing(`an extra segment of type ${extra.type}`);
      extras.push(extra);
      more = (extra.flags & XEN_NETIF_EXTRA_FLAG_MORE) !== 0;
    }
    for (let last = first; (last.flags & NETTXF.more_data) !== 0; ) {
      if (slots.length === MOST_SLOTS) throw new WildRing(`a packet of more than ${MOST_SLOTS} slots`);
      this.#next("further slot");
      last = this.#layout.txRequest(this.#slot);
      slots.push(last);
    }
    return { slots, extras };
  }

  #next(what: string): void {
    if (!this.#ring.takeRequest(this.#bytes))
      throw new WildRing(`an ${what} is announced and is not there`.replace("an f", "a f"));
  }

  #packet(packet: Packet): void {
    const frame = this.#read(packet);
    if (typeof frame === "string") this.#host.complain(frame);
    else this.#host.send(frame);
    const status = typeof frame === "string" ? NETIF_RSP.ERROR : NETIF_RSP.OKAY;
    for (const [i, { id }] of packet.slots.entries()) {
      this.#respond(id, status);
      if (i === 0) for (const _ of packet.extras) this.#respond(0, NETIF_RSP.NULL);
    }
  }

  #respond(id: number, status: number): void {
    this.#bytes.fill(0);
    this.#layout.putTxResponse(this.#slot, id, status);
    this.#ring.putResponse(this.#bytes);
  }

  /** The frame of a packet, or why there is none. */
  #read({ slots, extras }: Packet): Frame | string {
    const [first, ...rest] = slots as [TxRequest, ...TxRequest[]];
    if (slots.length > DATA_SLOTS) return `a packet of ${slots.length} slots, ${DATA_SLOTS} are allowed`;
    if (first.size < ETHERNET_HEADER) return `a packet of ${first.size} bytes`;
    const head = first.size - rest.reduce((sum, slot) => sum + slot.size, 0);
    if (head < 0) return "the parts of a packet are more than its size";
    const sizes = [head, ...rest.map((slot) => slot.size)];
    for (const [i, { offset }] of slots.entries())
      if (offset + sizes[i]! > FRAME_BYTES)
        return `bytes ${offset} to ${offset + sizes[i]!} of a frame of ${FRAME_BYTES}`;
    const segmentation = segmentationOf(extras);
    if (typeof segmentation === "string") return segmentation;
    const bytes = new Uint8Array(first.size);
    try {
      const pages = this.#host.mapGrants(
        slots.map((slot) => slot.reference),
        "ro",
      );
      let at = 0;
      for (const [i, { offset }] of slots.entries()) {
        bytes.set(pages.pages[i]!.subarray(offset, offset + sizes[i]!), at);
        at += sizes[i]!;
      }
      pages.unmap();
    } catch (error) {
      if (error instanceof GrantError) return error.message;
      throw error;
    }
    const { csum_blank, data_validated } = NETTXF;
    const checksum =
      (first.flags & csum_blank) !== 0 ? "partial" : (first.flags & data_validated) !== 0 ? "valid" : "full";
    return offloaded(bytes, checksum, segmentation);
  }
}

function segmentationOf(extras: readonly ExtraInfo[]): Segmentation | null | string {
  let segmentation: Segmentation | null = null;
  for (const { type, gsoType, gsoSize } of extras) {
    if (type === XEN_NETIF_EXTRA_TYPE.MCAST_ADD || type === XEN_NETIF_EXTRA_TYPE.MCAST_DEL)
      return "multicast control, which is not offered";
    if (type !== XEN_NETIF_EXTRA_TYPE.GSO) continue;
    const version = gsoType === XEN_NETIF_GSO_TYPE.TCPV4 ? 4 : gsoType === XEN_NETIF_GSO_TYPE.TCPV6 ? 6 : 0;
    if (version === 0) return `segmentation of type ${gsoType}`;
    if (gsoSize === 0) return "segmentation into nothing";
    segmentation = { version, size: gsoSize };
  }
  return segmentation;
}
