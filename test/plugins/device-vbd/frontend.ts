/** A guest's side of a block device, scripted: one ring, a frame of its own for every part of a request. */
import {
  type Abi,
  BLKIF_OP,
  blkif_request,
  blkif_request_discard,
  blkif_request_indirect,
  blkif_request_segment,
  blkif_response,
  blkif_sring,
} from "../../../core/abi/index.ts";
import { FrontRing } from "../../../core/device/ring.ts";
import type { ScriptedGuest } from "../../support/scripted-frontend.ts";

/** A request as it is on the ring; nothing is checked. */
export interface RawRequest {
  readonly operation: number;
  readonly sector?: number;
  /** nr_segments, if it is not the number of segments. */
  readonly count?: number;
  readonly segments: readonly RawSegment[];
}

export interface RawSegment {
  readonly reference: number;
  readonly first: number;
  readonly last: number;
}

/** An indirect request; the list of segments is in frames of its own unless `references` says otherwise. */
export interface RawIndirect extends RawRequest {
  readonly references?: readonly number[];
}

/** A response. */
export interface BlkResponse {
  readonly id: number;
  readonly operation: number;
  readonly status: number;
}

export class BlkFrontend {
  readonly guest: ScriptedGuest;
  readonly ringReference: number;
  readonly port: number;
  readonly abi: Abi;
  readonly #ring: FrontRing;
  readonly #ringFrame: number;
  readonly #frames = new Map<number, { frame: number; reference: number; from: number; to: number }[]>();
  readonly #spare: { frame: number; reference: number }[] = [];
  #nextId = 1;

  /** Sets up a ring and writes the nodes; `protocol` decides the layout. */
  constructor(
    guest: ScriptedGuest,
    directory: string,
    protocol: { readonly name: string; readonly abi: Abi } | null = null,
  ) {
    this.guest = guest;
    this.abi = protocol?.abi ?? guest.domain.abi;
    this.#ringFrame = guest.frame();
    this.ringReference = guest.grant(this.#ringFrame);
    this.port = guest.port();
    this.#ring = new FrontRing({
      pages: [guest.page(this.#ringFrame)],
      slotBytes: blkif_sring.at(this.abi).fields["ring.req.operation"].stride,
      littleEndian: this.abi.endian === "little",
    });
    guest.write(`${directory}/ring-ref`, this.ringReference);
    guest.write(`${directory}/event-channel`, this.port);
    if (protocol !== null) guest.write(`${directory}/protocol`, protocol.name);
  }

  /** Puts a request; its id. */
  raw(request: RawRequest): number {
    const id = this.#nextId++;
    const layout = blkif_request.at(this.abi);
    const slot = new DataView(new ArrayBuffer(layout.size));
    const { fields } = layout;
    fields.operation.set(slot, 0, request.operation);
    fields.nr_segments.set(slot, 0, request.count ?? request.segments.length);
    fields.handle.set(slot, 0, 51712);
    fields.id.setNumber(slot, 0, id);
    fields.sector_number.setNumber(slot, 0, request.sector ?? 0);
    for (const [i, segment] of request.segments.entries()) {
      fields["seg.gref"].set(slot, 0, segment.reference, i);
      fields["seg.first_sect"].set(slot, 0, segment.first, i);
      fields["seg.last_sect"].set(slot, 0, segment.last, i);
    }
    this.slot(new Uint8Array(slot.buffer));
    return id;
  }

  /** Puts the bytes of a slot as they are. */
  slot(bytes: Uint8Array): void {
    if (!this.#ring.putRequest(bytes)) throw new Error("the ring is full");
    if (this.#ring.pushRequests()) this.guest.send(this.port);
  }

  /** Requests that can still be put. */
  get free(): number {
    return this.#ring.free;
  }

  /** Puts an indirect request; its id, and the frame of its list. */
  indirect(request: RawIndirect): { readonly id: number; readonly list: number } {
    const id = this.#nextId++;
    const { fields, size } = blkif_request_indirect.at(this.abi);
    const listed = blkif_request_segment.at(this.abi);
    const list = this.guest.frame();
    const view = this.guest.view(list);
    for (const [i, segment] of request.segments.entries()) {
      if ((i + 1) * listed.size > 4096) break;
      listed.fields["gref"].set(view, i * listed.size, segment.reference);
      listed.fields["first_sect"].set(view, i * listed.size, segment.first);
      listed.fields["last_sect"].set(view, i * listed.size, segment.last);
    }
    const slot = new DataView(new ArrayBuffer(size));
    fields.operation.set(slot, 0, BLKIF_OP.INDIRECT);
    fields.indirect_op.set(slot, 0, request.operation);
    fields.nr_segments.set(slot, 0, request.count ?? request.segments.length);
    fields.id.setNumber(slot, 0, id);
    fields.sector_number.setNumber(slot, 0, request.sector ?? 0);
    const references = request.references ?? [this.guest.grant(list)];
    for (const [i, reference] of references.entries()) fields.indirect_grefs.set(slot, 0, reference, i);
    this.slot(new Uint8Array(slot.buffer));
    return { id, list };
  }

  discard(sector: number, sectors: number, flag = 0): number {
    const id = this.#nextId++;
    const { fields, size } = blkif_request_discard.at(this.abi);
    const slot = new DataView(new ArrayBuffer(size));
    fields.operation.set(slot, 0, BLKIF_OP.DISCARD);
    fields.flag.set(slot, 0, flag);
    fields.id.setNumber(slot, 0, id);
    fields.sector_number.setNumber(slot, 0, sector);
    fields.nr_sectors.setNumber(slot, 0, sectors);
    this.slot(new Uint8Array(slot.buffer));
    return id;
  }

  #parts(bytes: number, readonly: boolean): { frame: number; reference: number; from: number; to: number }[] {
    const parts = [];
    for (let done = 0; done < bytes; done += 4096) {
      const spare = readonly ? undefined : this.#spare.pop();
      const frame = spare?.frame ?? this.guest.frame();
      const reference = spare?.reference ?? this.guest.grant(frame, readonly);
      parts.push({ frame, reference, from: 0, to: Math.min(4096, bytes - done) });
    }
    return parts;
  }

  #transfer(
    operation: number,
    sector: number,
    parts: { frame: number; reference: number; from: number; to: number }[],
  ): number {
    const segments = parts.map((p) => ({ reference: p.reference, first: p.from / 512, last: p.to / 512 - 1 }));
    const id = this.raw({ operation, sector, segments });
    this.#frames.set(id, parts);
    return id;
  }

  read(sector: number, bytes: number): number {
    return this.#transfer(BLKIF_OP.READ, sector, this.#parts(bytes, false));
  }

  write(sector: number, data: Uint8Array, operation: number = BLKIF_OP.WRITE): number {
    const parts = this.#parts(data.length, true);
    for (const [i, part] of parts.entries())
      this.guest.page(part.frame).set(data.subarray(i * 4096, i * 4096 + part.to));
    return this.#transfer(operation, sector, parts);
  }

  flush(): number {
    return this.raw({ operation: BLKIF_OP.FLUSH_DISKCACHE, segments: [] });
  }

  /** Makes sure that the backend looks. */
  push(): void {
    this.guest.send(this.port);
  }

  /** What a read brought. */
  data(id: number, bytes: number): Uint8Array {
    const data = new Uint8Array(bytes);
    for (const [i, part] of (this.#frames.get(id) ?? []).entries())
      data.set(this.guest.page(part.frame).subarray(0, part.to), i * 4096);
    return data;
  }

  /** Frame and reference of a request's first part. */
  part(id: number): { readonly frame: number; readonly reference: number } {
    return this.#frames.get(id)![0]!;
  }

  /** Takes all responses. */
  responses(): readonly BlkResponse[] {
    const layout = blkif_response.at(this.abi);
    const slot = new DataView(new ArrayBuffer(layout.size));
    const all: BlkResponse[] = [];
    while (this.#ring.takeResponse(new Uint8Array(slot.buffer)))
      all.push({
        id: layout.getNumber(slot, 0, "id"),
        operation: layout.get(slot, 0, "operation"),
        status: layout.get(slot, 0, "status"),
      });
    this.#ring.finalCheck();
    return all;
  }

  /** Claims more requests than the ring holds. */
  wildProducer(): void {
    this.guest.view(this.#ringFrame).setUint32(0, 0x7fff_0000, this.abi.endian === "little");
    this.guest.send(this.port);
  }
}
