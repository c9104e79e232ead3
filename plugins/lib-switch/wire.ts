/**
 * Frames on their way to a guest: each takes the latency of the wire, then waits until the guest has room for it.
 *
 * Invariants: what waits is bounded (QUEUE_BYTES, QUEUE_FRAMES); what comes on top is dropped; one timer at most is armed, for the first frame.
 */
import type { Nanoseconds, Timer } from "hookvisor";
import type { Frame } from "./frame.ts";

/** Virtual time that a frame takes from one port to another. */
export const WIRE_LATENCY: Nanoseconds = 10_000;
/** What may wait for buffers of the guest. */
export const QUEUE_BYTES = 512 * 1024;
export const QUEUE_FRAMES = 1024;
/** A frame that has waited for buffers for so long is dropped. */
export const DRAIN: Nanoseconds = 10e9;

/** What a wire needs of its device. */
export interface WireHost {
  timer(at: Nanoseconds, fire: (now: Nanoseconds) => void): Timer;
  now(): Nanoseconds;
  /** Something has arrived, or is too old: look. */
  due(): void;
}

interface Waiting {
  readonly frame: Frame;
  readonly due: Nanoseconds;
}

export class Wire {
  readonly #host: WireHost;
  #queue: Waiting[] = [];
  #bytes = 0;
  #timer: Timer | null = null;
  /** Frames that the guest did not get. */
  dropped = 0;

  constructor(host: WireHost) {
    this.#host = host;
  }

  /** Frames that wait. */
  get waiting(): number {
    return this.#queue.length;
  }

  /** Sends frames at `now`; of more than `most` bytes none arrives. */
  put(frames: readonly Frame[], now: Nanoseconds, most: number): void {
    if (frames.length === 0) this.dropped++;
    for (const frame of frames) {
      const { length } = frame.bytes;
      if (this.#bytes + length > QUEUE_BYTES || this.#queue.length >= QUEUE_FRAMES || length > most) {
        this.dropped++;
        continue;
      }
      this.#bytes += length;
      this.#queue.push({ frame, due: now + WIRE_LATENCY });
    }
    if (this.#timer === null && this.#queue.length > 0) this.#arm(this.#queue[0]!.due);
  }

  /** The first frame, if it has arrived. */
  head(): Frame | null {
    const head = this.#queue[0];
    return head !== undefined && head.due <= this.#host.now() ? head.frame : null;
  }

  /** The first frame has waited for too long. */
  get stale(): boolean {
    const head = this.#queue[0];
    return head !== undefined && this.#host.now() - head.due >= DRAIN;
  }

  /** The first frame is with the guest, or dropped. */
  shift(): void {
    this.#bytes -= this.#queue.shift()?.frame.bytes.length ?? 0;
  }

  /** Nothing more can be done now: `due` is called when the next frame arrives; for one that waits for room after `poll`, at the latest when it is stale. */
  rest(poll: Nanoseconds = DRAIN): void {
    const now = this.#host.now();
    const head = this.#queue[0];
    if (head === undefined) {
      this.#timer?.cancel();
      this.#timer = null;
    } else if (head.due > now) this.#arm(head.due);
    else this.#arm(poll === DRAIN ? head.due + DRAIN : now + poll);
  }

  #arm(at: Nanoseconds): void {
    this.#timer?.cancel();
    this.#timer = this.#host.timer(at, () => {
      this.#timer = null;
      this.#host.due();
    });
  }

  /** Nothing is delivered any more. */
  stop(): void {
    this.#timer?.cancel();
    this.#timer = null;
    this.dropped += this.#queue.length;
    this.#queue = [];
    this.#bytes = 0;
  }
}
