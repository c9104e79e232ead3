/**
 * XenStore's messages as bytes: a header of four 32-bit words (struct xsd_sockmsg) in the byte order of the peer, then the payload.
 *
 * Strings that the protocol handles (paths, tokens, names of errors) are JavaScript strings of one character a byte, so that any
 * bytes survive the way in and out. Values stay bytes.
 */
import { XENSTORE, XSD_SOCKMSG } from "../abi/xs-wire.ts";

/** One message. `payload` is the receiver's own copy. */
export interface Message {
  readonly type: number;
  readonly reqId: number;
  readonly txId: number;
  readonly payload: Uint8Array;
}

/** Encodes a message; the payload must not exceed PAYLOAD_MAX. */
export function encodeMessage(message: Message, littleEndian: boolean): Uint8Array {
  const { type, reqId, txId, payload } = message;
  if (payload.length > XENSTORE.PAYLOAD_MAX) throw new RangeError(`XenStore payload of ${payload.length} bytes`);
  const bytes = new Uint8Array(XSD_SOCKMSG.size + payload.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(XSD_SOCKMSG.type, type, littleEndian);
  view.setUint32(XSD_SOCKMSG.reqId, reqId, littleEndian);
  view.setUint32(XSD_SOCKMSG.txId, txId, littleEndian);
  view.setUint32(XSD_SOCKMSG.len, payload.length, littleEndian);
  bytes.set(payload, XSD_SOCKMSG.size);
  return bytes;
}

/**
 * Assembles messages from pieces of a byte stream, one at a time. It holds at most one message: after `push` returned, take
 * `message`, if there is one, before pushing on.
 */
export class MessageReader {
  readonly #littleEndian: boolean;
  readonly #header = new Uint8Array(XSD_SOCKMSG.size);
  readonly #view = new DataView(this.#header.buffer);
  #payload: Uint8Array | undefined;
  #filled = 0;
  #oversized = false;

  constructor(littleEndian: boolean) {
    this.#littleEndian = littleEndian;
  }

  /** The peer announced a payload above PAYLOAD_MAX: nothing is read any more. */
  get oversized(): boolean {
    return this.#oversized;
  }

  /** Takes bytes from `from` up to `to`, at most to the end of the current message. Returns how many it took. */
  push(bytes: Uint8Array, from: number, to: number): number {
    let at = from;
    if (this.#payload === undefined && !this.#oversized) {
      at += this.#fill(this.#header, bytes, at, to);
      if (this.#filled === XSD_SOCKMSG.size) {
        const length = this.#view.getUint32(XSD_SOCKMSG.len, this.#littleEndian);
        this.#oversized = length > XENSTORE.PAYLOAD_MAX;
        if (!this.#oversized) {
          this.#payload = new Uint8Array(length);
          this.#filled = 0;
        }
      }
    }
    if (this.#payload !== undefined) at += this.#fill(this.#payload, bytes, at, to);
    return at - from;
  }

  /** The complete message, taken out; undefined while it is incomplete. */
  take(): Message | undefined {
    const payload = this.#payload;
    if (payload === undefined || this.#filled < payload.length) return undefined;
    const type = this.#view.getUint32(XSD_SOCKMSG.type, this.#littleEndian);
    const reqId = this.#view.getUint32(XSD_SOCKMSG.reqId, this.#littleEndian);
    const txId = this.#view.getUint32(XSD_SOCKMSG.txId, this.#littleEndian);
    this.reset();
    return { type, reqId, txId, payload };
  }

  /** Forgets a partial message. */
  reset(): void {
    this.#payload = undefined;
    this.#filled = 0;
    this.#oversized = false;
  }

  #fill(target: Uint8Array, bytes: Uint8Array, from: number, to: number): number {
    const take = Math.min(to - from, target.length - this.#filled);
    if (take <= 0) return 0;
    target.set(bytes.subarray(from, from + take), this.#filled);
    this.#filled += take;
    return take;
  }
}

/** Bytes as a string of one character each. */
export function textOf(bytes: Uint8Array, from = 0, to = bytes.length): string {
  let text = "";
  for (let at = from; at < to; at++) text += String.fromCharCode(bytes[at]!);
  return text;
}

/** A string of one character a byte as bytes. */
export function bytesOf(text: string): Uint8Array {
  const bytes = new Uint8Array(text.length);
  for (let at = 0; at < text.length; at++) bytes[at] = text.charCodeAt(at);
  return bytes;
}

/** Strings as they travel: each with its NUL. */
export function joinStrings(strings: Iterable<string>): Uint8Array {
  let text = "";
  for (const string of strings) text += `${string}\0`;
  return bytesOf(text);
}

/** The NUL-terminated strings of a payload, and what follows the last NUL. */
export function splitStrings(payload: Uint8Array): { readonly strings: string[]; readonly rest: number } {
  const strings: string[] = [];
  let from = 0;
  for (let end = payload.indexOf(0); end >= 0; end = payload.indexOf(0, from)) {
    strings.push(textOf(payload, from, end));
    from = end + 1;
  }
  return { strings, rest: from };
}
