/**
 * Requests and responses of a network device on its rings (xen/io/netif.h), in one ABI; copied out of and into slots.
 */
import { type Abi, type Field, xen } from "hookvisor";

const { netif_extra_info, netif_rx_request, netif_rx_response, netif_rx_sring } = xen;
const { netif_tx_request, netif_tx_response, netif_tx_sring } = xen;

/** A transmit request. The first of a packet has the packet's size. */
export interface TxRequest {
  readonly reference: number;
  readonly offset: number;
  readonly flags: number;
  readonly id: number;
  readonly size: number;
}

/** An extra segment: its type, whether another follows, and of a GSO one its contents. */
export interface ExtraInfo {
  readonly type: number;
  readonly flags: number;
  readonly gsoType: number;
  readonly gsoSize: number;
}

/** The layout of both rings. */
export class NetifLayout {
  readonly littleEndian: boolean;
  readonly txSlotBytes: number;
  readonly rxSlotBytes: number;
  readonly #tx: Readonly<Record<"gref" | "offset" | "flags" | "id" | "size", Field>>;
  readonly #txResponse: Readonly<Record<"id" | "status", Field>>;
  readonly #rx: Readonly<Record<"id" | "gref", Field>>;
  readonly #rxResponse: Readonly<Record<"id" | "offset" | "flags" | "status", Field>>;
  readonly #extra: Readonly<Record<"type" | "flags" | "gsoSize" | "gsoType", Field>>;

  constructor(abi: Abi) {
    const tx = netif_tx_request.at(abi).fields;
    const txResponse = netif_tx_response.at(abi).fields;
    const rx = netif_rx_request.at(abi).fields;
    const rxResponse = netif_rx_response.at(abi).fields;
    const extra = netif_extra_info.at(abi).fields;
    this.littleEndian = abi.endian === "little";
    this.txSlotBytes = netif_tx_sring.at(abi).fields["ring.req.gref"].stride;
    this.rxSlotBytes = netif_rx_sring.at(abi).fields["ring.req.gref"].stride;
    this.#tx = { gref: tx.gref, offset: tx.offset, flags: tx.flags, id: tx.id, size: tx.size };
    this.#txResponse = { id: txResponse.id, status: txResponse.status };
    this.#rx = { id: rx.id, gref: rx.gref };
    this.#rxResponse = {
      id: rxResponse.id,
      offset: rxResponse.offset,
      flags: rxResponse.flags,
      status: rxResponse.status,
    };
    this.#extra = { type: extra.type, flags: extra.flags, gsoSize: extra["u.gso.size"], gsoType: extra["u.gso.type"] };
  }

  txRequest(slot: DataView): TxRequest {
    const { gref, offset, flags, id, size } = this.#tx;
    return {
      reference: gref.get(slot, 0),
      offset: offset.get(slot, 0),
      flags: flags.get(slot, 0),
      id: id.get(slot, 0),
      size: size.get(slot, 0),
    };
  }

  extra(slot: DataView): ExtraInfo {
    const { type, flags, gsoSize, gsoType } = this.#extra;
    return {
      type: type.get(slot, 0),
      flags: flags.get(slot, 0),
      gsoType: gsoType.get(slot, 0),
      gsoSize: gsoSize.get(slot, 0),
    };
  }

  putTxResponse(slot: DataView, id: number, status: number): void {
    this.#txResponse.id.set(slot, 0, id);
    this.#txResponse.status.set(slot, 0, status);
  }

  rxRequest(slot: DataView): { readonly id: number; readonly reference: number } {
    return { id: this.#rx.id.get(slot, 0), reference: this.#rx.gref.get(slot, 0) };
  }

  putRxResponse(slot: DataView, id: number, flags: number, status: number): void {
    this.#rxResponse.id.set(slot, 0, id);
    this.#rxResponse.offset.set(slot, 0, 0);
    this.#rxResponse.flags.set(slot, 0, flags);
    this.#rxResponse.status.set(slot, 0, status);
  }

  putGsoExtra(slot: DataView, gsoType: number, size: number): void {
    for (let at = 0; at < slot.byteLength; at++) slot.setUint8(at, 0);
    this.#extra.type.set(slot, 0, xen.XEN_NETIF_EXTRA_TYPE.GSO);
    this.#extra.gsoSize.set(slot, 0, size);
    this.#extra.gsoType.set(slot, 0, gsoType);
  }
}
