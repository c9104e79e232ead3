/** The driver of a virtio network device, as a test's script. */
import { HEADER } from "../../../plugins/device-virtio-net/header.ts";
import type { ScriptedGuest } from "../../support/scripted-frontend.ts";
import { type Buffer, type DriverQueue, VirtioDriver } from "../../support/virtio-driver.ts";

/** Fields of a packet's header. */
export interface NetHeader {
  readonly flags?: number;
  readonly gsoType?: number;
  readonly headerLength?: number;
  readonly gsoSize?: number;
  readonly checksumStart?: number;
  readonly checksumOffset?: number;
}

/** A packet that has arrived. */
export interface Arrived extends Required<NetHeader> {
  readonly buffers: number;
  readonly bytes: Uint8Array;
}

export class NetDriver extends VirtioDriver {
  readonly receive: DriverQueue;
  readonly transmit: DriverQueue;
  readonly #posted = new Map<number, readonly Buffer[]>();

  constructor(guest: ScriptedGuest, base?: number, features?: readonly number[]) {
    super(guest, base);
    [this.receive, this.transmit] = this.up(2, features ?? this.offered()) as [DriverQueue, DriverQueue];
  }

  /** Posts buffers of `size` bytes for packets. */
  post(count: number, size = 2048): void {
    for (let i = 0; i < count; i++) {
      const into = this.buffers(size);
      this.#posted.set(this.receive.add([], into), into);
    }
    this.receive.kick();
  }

  /** Sends a packet: header and frame in buffers of `part` bytes. */
  send(frame: Uint8Array, header: NetHeader = {}, part = 4096): void {
    const bytes = new Uint8Array(HEADER + frame.length);
    const view = new DataView(bytes.buffer);
    view.setUint8(0, header.flags ?? 0);
    view.setUint8(1, header.gsoType ?? 0);
    view.setUint16(2, header.headerLength ?? 0, true);
    view.setUint16(4, header.gsoSize ?? 0, true);
    view.setUint16(6, header.checksumStart ?? 0, true);
    view.setUint16(8, header.checksumOffset ?? 0, true);
    bytes.set(frame, HEADER);
    const out = this.buffers(bytes.length, part);
    this.fill(out, bytes);
    this.transmit.add(out, []);
    this.transmit.kick();
  }

  /** Packets sent that the device has done with. */
  sent(): number {
    return this.transmit.take().length;
  }

  /** Packets that have arrived since the last time. */
  arrived(): Arrived[] {
    const all: Arrived[] = [];
    const done = this.receive.take();
    for (let i = 0; i < done.length; ) {
      const { head, written } = done[i++]!;
      const first = this.data(this.#posted.get(head)!).subarray(0, written);
      const view = new DataView(first.buffer, first.byteOffset);
      const buffers = view.getUint16(10, true);
      const bytes = [...first.subarray(HEADER)];
      for (let more = 1; more < buffers; more++, i++)
        bytes.push(...this.data(this.#posted.get(done[i]!.head)!).subarray(0, done[i]!.written));
      all.push({
        flags: view.getUint8(0),
        gsoType: view.getUint8(1),
        headerLength: view.getUint16(2, true),
        gsoSize: view.getUint16(4, true),
        checksumStart: view.getUint16(6, true),
        checksumOffset: view.getUint16(8, true),
        buffers,
        bytes: Uint8Array.from(bytes),
      });
    }
    return all;
  }
}
