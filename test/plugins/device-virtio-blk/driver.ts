/** The driver of a virtio disk, as a test's script. */
import { FRAME_SIZE } from "../../../core/machine/frames.ts";
import { TYPE } from "../../../plugins/device-virtio-blk/request.ts";
import type { ScriptedGuest } from "../../support/scripted-frontend.ts";
import { type Buffer, type DriverQueue, VirtioDriver } from "../../support/virtio-driver.ts";

/** A request under way. */
export interface BlkRequestUnderWay {
  readonly head: number;
  readonly into: readonly Buffer[];
  readonly status: Buffer;
}

export class BlkDriver extends VirtioDriver {
  readonly queue0: DriverQueue;
  readonly under = new Map<number, BlkRequestUnderWay>();

  constructor(guest: ScriptedGuest, base?: number, features?: readonly number[], size = 64) {
    super(guest, base);
    [this.queue0] = this.up(1, features ?? this.offered(), size) as [DriverQueue];
  }

  /** Makes a request available, and notifies. */
  request(type: number, sector: number, data: Uint8Array | null, length = 0, indirect = false): BlkRequestUnderWay {
    const header = this.buffer(16);
    const view = this.guest.view(Math.floor(header.address / FRAME_SIZE));
    const at = header.address % FRAME_SIZE;
    view.setUint32(at, type, true);
    view.setUint32(at + 4, 0, true);
    view.setUint32(at + 8, sector % 2 ** 32, true);
    view.setUint32(at + 12, Math.floor(sector / 2 ** 32), true);
    const out = data === null ? [] : this.buffers(data.length);
    if (data !== null) this.fill(out, data);
    const into = this.buffers(length);
    const status = this.buffer(1);
    this.fill([status], Uint8Array.of(0xee));
    const head = this.queue0.add([header, ...out], [...into, status], indirect);
    const request = { head, into, status };
    this.under.set(head, request);
    this.queue0.kick();
    return request;
  }
  readSectors(sector: number, length: number, indirect = false): BlkRequestUnderWay {
    return this.request(TYPE.in, sector, null, length, indirect);
  }
  writeSectors(sector: number, data: Uint8Array, indirect = false): BlkRequestUnderWay {
    return this.request(TYPE.out, sector, data, 0, indirect);
  }
  flush(): BlkRequestUnderWay {
    return this.request(TYPE.flush, 0, null);
  }
  /** Segments to give up or to be zero. */
  ranges(
    type: number,
    ...list: readonly (readonly [sector: number, count: number, flags?: number])[]
  ): BlkRequestUnderWay {
    const bytes = new DataView(new ArrayBuffer(16 * list.length));
    for (const [i, [sector, count, flags = 0]] of list.entries()) {
      bytes.setUint32(16 * i, sector, true);
      bytes.setUint32(16 * i + 8, count, true);
      bytes.setUint32(16 * i + 12, flags, true);
    }
    return this.request(type, 0, new Uint8Array(bytes.buffer));
  }

  /** Statuses of the requests that have been answered since the last time, in the order of their answers. */
  answers(): number[] {
    return this.queue0.take().map(({ head }) => this.statusOf(this.under.get(head)!));
  }
  statusOf(request: BlkRequestUnderWay): number {
    return this.data([request.status])[0]!;
  }
}
