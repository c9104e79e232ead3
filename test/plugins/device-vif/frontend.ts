/** A guest's side of a network device, scripted: two rings, buffers for what it receives, packets of any shape for what it sends. */
import {
  NETRXF,
  NETTXF,
  netif_extra_info,
  netif_rx_request,
  netif_rx_response,
  netif_rx_sring,
  netif_tx_request,
  netif_tx_response,
  netif_tx_sring,
} from "../../../core/abi/index.ts";
import { FrontRing } from "../../../core/device/ring.ts";
import type { ScriptedGuest } from "../../support/scripted-frontend.ts";

/** A slot of the transmit ring as it is; nothing is checked. */
export type RawSlot =
  | { readonly reference: number; readonly offset?: number; readonly flags?: number; readonly size: number }
  | {
      readonly extra: { readonly type: number; readonly more?: boolean; readonly size?: number; readonly gso?: number };
    };

/** A frame that arrived. */
export interface ReceivedFrame {
  readonly bytes: Uint8Array;
  /** Flags of the first response. */
  readonly flags: number;
  readonly gso: { readonly type: number; readonly size: number } | null;
}

/** How the frontend announces itself. */
export interface VifFrontendOptions {
  readonly split?: boolean;
  /** Nodes besides rings and channels; null leaves one of the usual ones out. */
  readonly nodes?: Readonly<Record<string, string | null>>;
}

const USUAL = { "request-rx-copy": "1", "feature-rx-notify": "1", "feature-sg": "1" };

export class VifFrontend {
  readonly guest: ScriptedGuest;
  readonly txReference: number;
  readonly rxReference: number;
  readonly txPort: number;
  readonly rxPort: number;
  readonly #tx: FrontRing;
  readonly #rx: FrontRing;
  readonly #txFrame: number;
  readonly #rxFrame: number;
  /** Frames posted for receiving, by id. */
  readonly #buffers: { readonly frame: number; readonly reference: number }[] = [];
  /** Ids in the order of their ring slots: responses come in the same. */
  readonly #posted: number[] = [];
  /** Frames to send from, taken again when all is answered. */
  readonly #sources: { readonly frame: number; readonly reference: number }[] = [];
  #nextId = 1;

  constructor(guest: ScriptedGuest, directory: string, options: VifFrontendOptions = {}) {
    const { abi } = guest.domain;
    this.guest = guest;
    this.#txFrame = guest.frame();
    this.#rxFrame = guest.frame();
    this.txReference = guest.grant(this.#txFrame);
    this.rxReference = guest.grant(this.#rxFrame);
    this.txPort = guest.port();
    const split = options.split ?? true;
    this.rxPort = split ? guest.port() : this.txPort;
    const littleEndian = abi.endian === "little";
    const ring = (frame: number, slotBytes: number): FrontRing =>
      new FrontRing({ pages: [guest.page(frame)], slotBytes, littleEndian });
    this.#tx = ring(this.#txFrame, netif_tx_sring.at(abi).fields["ring.req.gref"].stride);
    this.#rx = ring(this.#rxFrame, netif_rx_sring.at(abi).fields["ring.req.gref"].stride);
    const nodes: Record<string, string | null> = {
      "tx-ring-ref": String(this.txReference),
      "rx-ring-ref": String(this.rxReference),
      ...(split
        ? { "event-channel-tx": String(this.txPort), "event-channel-rx": String(this.rxPort) }
        : { "event-channel": String(this.txPort) }),
      ...USUAL,
      ...options.nodes,
    };
    for (const [key, value] of Object.entries(nodes)) if (value !== null) guest.write(`${directory}/${key}`, value);
  }

  /** Puts slots; returns the ids of the requests among them. */
  raw(slots: readonly RawSlot[]): readonly number[] {
    const { abi } = this.guest.domain;
    const ids: number[] = [];
    for (const slot of slots) {
      const bytes = new Uint8Array(12);
      const view = new DataView(bytes.buffer);
      if ("extra" in slot) {
        const { fields } = netif_extra_info.at(abi);
        fields.type.set(view, 0, slot.extra.type);
        fields.flags.set(view, 0, slot.extra.more === true ? 1 : 0);
        fields["u.gso.size"].set(view, 0, slot.extra.size ?? 0);
        fields["u.gso.type"].set(view, 0, slot.extra.gso ?? 0);
      } else {
        const id = this.#nextId++;
        const { fields } = netif_tx_request.at(abi);
        fields.gref.set(view, 0, slot.reference);
        fields.offset.set(view, 0, slot.offset ?? 0);
        fields.flags.set(view, 0, slot.flags ?? 0);
        fields.id.set(view, 0, id);
        fields.size.set(view, 0, slot.size);
        ids.push(id);
      }
      if (!this.#tx.putRequest(bytes)) throw new Error("the transmit ring is full");
    }
    if (this.#tx.pushRequests()) this.guest.send(this.txPort);
    return ids;
  }

  #source(i: number): { readonly frame: number; readonly reference: number } {
    let source = this.#sources[i];
    if (source === undefined) {
      const frame = this.guest.frame();
      source = { frame, reference: this.guest.grant(frame, true) };
      this.#sources[i] = source;
    }
    return source;
  }

  /** A frame to send from, and its grant. */
  buffer(): { readonly frame: number; readonly reference: number } {
    return this.#source(0);
  }

  /** Sends a frame in parts of at most `part` bytes, each at `offset` in its frame. Sending again before the machine ran overwrites it. */
  send(
    bytes: Uint8Array,
    options: {
      readonly flags?: number;
      readonly gso?: { readonly type: number; readonly size: number };
      readonly part?: number;
      readonly offset?: number;
    } = {},
  ): readonly number[] {
    const { part = 4096, offset = 0, gso } = options;
    const slots: RawSlot[] = [];
    const count = Math.max(1, Math.ceil(bytes.length / part));
    for (let i = 0; i < count; i++) {
      const data = bytes.subarray(i * part, (i + 1) * part);
      const { frame, reference } = this.#source(i);
      this.guest.page(frame).set(data, offset);
      const flags =
        (i === 0 ? (options.flags ?? 0) | (gso === undefined ? 0 : NETTXF.extra_info) : 0) |
        (i < count - 1 ? NETTXF.more_data : 0);
      slots.push({ reference, offset, flags, size: i === 0 ? bytes.length : data.length });
      if (i === 0 && gso !== undefined) slots.push({ extra: { type: 1, size: gso.size, gso: gso.type } });
    }
    return this.raw(slots);
  }

  /** Responses to what was sent: id and status of each. */
  answers(): readonly { readonly id: number; readonly status: number }[] {
    const layout = netif_tx_response.at(this.guest.domain.abi);
    const bytes = new Uint8Array(12);
    const view = new DataView(bytes.buffer);
    const all = [];
    while (this.#tx.takeResponse(bytes))
      all.push({ id: layout.get(view, 0, "id"), status: layout.get(view, 0, "status") });
    this.#tx.finalCheck();
    return all;
  }

  /** Posts buffers for receiving. */
  post(count: number): void {
    const { abi } = this.guest.domain;
    const { fields } = netif_rx_request.at(abi);
    for (let n = 0; n < count; n++) {
      const id = this.#buffers.length;
      const frame = this.guest.frame();
      const buffer = { frame, reference: this.guest.grant(frame) };
      this.#buffers.push(buffer);
      this.#repost(id, buffer.reference, fields);
    }
    this.#pushRx();
  }

  /** Posts a buffer with any reference. */
  postRaw(reference: number): void {
    this.#buffers.push({ frame: -1, reference });
    this.#repost(this.#buffers.length - 1, reference, netif_rx_request.at(this.guest.domain.abi).fields);
    this.#pushRx();
  }

  #repost(id: number, reference: number, fields: ReturnType<typeof netif_rx_request.at>["fields"]): void {
    const bytes = new Uint8Array(8);
    const view = new DataView(bytes.buffer);
    fields.id.set(view, 0, id);
    fields.gref.set(view, 0, reference);
    if (!this.#rx.putRequest(bytes)) throw new Error("the receive ring is full");
    this.#posted.push(id);
  }

  #pushRx(): void {
    if (this.#rx.pushRequests()) this.guest.send(this.rxPort);
  }

  /** Statuses of receive responses that were errors. */
  readonly errors: number[] = [];

  /** Takes what arrived; with `again` the buffers are posted anew. */
  received(again = true): readonly ReceivedFrame[] {
    const { abi } = this.guest.domain;
    const layout = netif_rx_response.at(abi);
    const extras = netif_extra_info.at(abi);
    const bytes = new Uint8Array(8);
    const view = new DataView(bytes.buffer);
    const frames: ReceivedFrame[] = [];
    let parts: Uint8Array[] = [];
    let first: number | null = null;
    let gso: ReceivedFrame["gso"] = null;
    let extraNext = false;
    while (this.#rx.takeResponse(bytes)) {
      const id = this.#posted.shift()!;
      const { reference, frame } = this.#buffers[id]!;
      if (extraNext) {
        gso = { type: extras.get(view, 0, "u.gso.type"), size: extras.get(view, 0, "u.gso.size") };
        extraNext = (extras.get(view, 0, "flags") & 1) !== 0;
      } else {
        const status = layout.get(view, 0, "status");
        const flags = layout.get(view, 0, "flags");
        if (layout.get(view, 0, "id") !== id) throw new Error("a response is not in the slot of its request");
        if (status < 0) this.errors.push(status);
        else {
          const offset = layout.get(view, 0, "offset");
          parts.push(this.guest.page(frame).slice(offset, offset + status));
          first ??= flags;
          extraNext = (flags & NETRXF.extra_info) !== 0;
          if ((flags & NETRXF.more_data) === 0) {
            const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
            let at = 0;
            for (const part of parts) {
              whole.set(part, at);
              at += part.length;
            }
            const done = { bytes: whole, flags: first, gso };
            if (!extraNext) frames.push(done);
            else throw new Error("a GSO frame of one buffer is not expected here");
            parts = [];
            first = null;
            gso = null;
          }
        }
      }
      if (again && frame >= 0) this.#repost(id, reference, netif_rx_request.at(abi).fields);
    }
    this.#rx.finalCheck();
    this.#pushRx();
    return frames;
  }

  /** Makes sure that the backend looks. */
  kick(): void {
    this.guest.send(this.txPort);
    if (this.rxPort !== this.txPort) this.guest.send(this.rxPort);
  }

  /** Claims more requests than a ring holds. */
  wildProducer(ring: "tx" | "rx", value = 0x7fff_0000): void {
    const frame = ring === "tx" ? this.#txFrame : this.#rxFrame;
    this.guest.view(frame).setUint32(0, value, this.guest.domain.abi.endian === "little");
    this.kick();
  }
}

/** An Ethernet frame with made-up contents. */
export function ethernet(target: string, source: string, length = 60, type = 0x88b5): Uint8Array {
  const bytes = Uint8Array.from({ length }, (_, i) => i & 255);
  const mac = (text: string): number[] => text.split(":").map((part) => Number.parseInt(part, 16));
  bytes.set([...mac(target), ...mac(source), type >> 8, type & 255]);
  return bytes;
}

/** ff:ff:ff:ff:ff:ff. */
export const EVERYBODY = "ff:ff:ff:ff:ff:ff";
