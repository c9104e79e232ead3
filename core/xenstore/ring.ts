/**
 * The XenStore ring of a domain: struct xenstore_domain_interface of xs_wire.h in one page that the guest writes as it likes.
 *
 * Two byte streams in circular buffers with free-running 32-bit indices. `poll` moves what there is; it does a bounded amount of work
 * whatever the page says: at most one ring of requests and one of answers. An index that claims more than the ring holds, or a
 * payload that is too long, ends the connection and says why in the page's error field (XENSTORE_ERROR_RINGIDX, _PROTO). The guest can
 * start over by the reconnection feature; so can the toolstack, by introducing the domain again and making a new ring.
 */
import { XENSTORE_INTERFACE as PAGE, XENSTORE } from "../abi/xs-wire.ts";
import type { Connection } from "./connection.ts";

/** Features advertised in every ring. */
export const serverFeatures: number = XENSTORE.SERVER_FEATURE_RECONNECTION | XENSTORE.SERVER_FEATURE_ERROR;

const mask = XENSTORE.RING_SIZE - 1;

/** The service's end of a domain's ring. */
export class XenStoreRing {
  readonly connection: Connection;
  readonly #page: DataView;
  readonly #bytes: Uint8Array;
  readonly #littleEndian: boolean;
  readonly #wrote: ((from: number, to: number) => void) | undefined;
  readonly #buffer = new Uint8Array(XENSTORE.RING_SIZE);
  #stalled = false;

  /**
   * `page` is the guest's page, at least PAGE.size bytes; `wrote` is told of each range of it that has been written. Byte order
   * is the connection's. Advertises the features.
   */
  constructor(page: DataView, connection: Connection, wrote?: (from: number, to: number) => void) {
    if (page.byteLength < PAGE.size) throw new RangeError("XenStore ring page too small");
    this.connection = connection;
    this.#page = page;
    this.#bytes = new Uint8Array(page.buffer, page.byteOffset, page.byteLength);
    this.#littleEndian = connection.littleEndian;
    this.#wrote = wrote;
    this.#set(PAGE.serverFeatures, serverFeatures);
    this.#set(PAGE.connection, XENSTORE.CONNECTED);
    this.#set(PAGE.error, XENSTORE.ERROR_NONE);
  }

  /** Something can be moved without a word from the guest: answers or events wait, or requests that were left while too much was outstanding. */
  get due(): boolean {
    return this.connection.queued > 0 || (this.#stalled && !this.connection.blocked);
  }

  /** Moves requests in and answers out. Returns whether the guest is to be notified. Never throws because of the page. */
  poll(): boolean {
    const { closed, error } = this.connection;
    if (closed && error === XENSTORE.ERROR_NONE) return false; // released: nobody is there to start over with
    if (this.#get(PAGE.connection) === XENSTORE.RECONNECT) {
      this.#reconnect();
      return true;
    }
    if (closed) return this.#report(error);
    let moved = 0;
    for (;;) {
      const sent = this.#send();
      const received = this.#receive();
      if (sent < 0 || received < 0) {
        this.connection.close(XENSTORE.ERROR_RINGIDX);
        return this.#report(XENSTORE.ERROR_RINGIDX);
      }
      moved += sent + received;
      if (this.connection.closed) return this.#report(this.connection.error);
      if (sent + received === 0) return moved > 0;
    }
  }

  /** Requests to the connection. Returns how many bytes; -1 for a wild index. */
  #receive(): number {
    const cons = this.#get(PAGE.reqCons);
    const available = (this.#get(PAGE.reqProd) - cons) >>> 0;
    this.#stalled = false;
    if (available > XENSTORE.RING_SIZE) return -1;
    if (available === 0) return 0;
    for (let at = 0; at < available; at++) this.#buffer[at] = this.#bytes[PAGE.req + ((cons + at) & mask)]!;
    const taken = this.connection.feed(this.#buffer, 0, available);
    if (taken > 0) this.#set(PAGE.reqCons, (cons + taken) >>> 0);
    this.#stalled = taken < available;
    return taken;
  }

  /** Answers and events to the page. Returns how many bytes; -1 for a wild index. */
  #send(): number {
    const prod = this.#get(PAGE.rspProd);
    const unread = (prod - this.#get(PAGE.rspCons)) >>> 0;
    if (unread > XENSTORE.RING_SIZE) return -1;
    if (unread === XENSTORE.RING_SIZE || this.connection.queued === 0) return 0;
    const length = this.connection.take(this.#buffer, XENSTORE.RING_SIZE - unread);
    if (length === 0) return 0;
    const first = prod & mask;
    for (let at = 0; at < length; at++) this.#bytes[PAGE.rsp + ((first + at) & mask)] = this.#buffer[at]!;
    const head = Math.min(length, XENSTORE.RING_SIZE - first);
    this.#wrote?.(PAGE.rsp + first, PAGE.rsp + first + head);
    if (head < length) this.#wrote?.(PAGE.rsp, PAGE.rsp + length - head);
    this.#set(PAGE.rspProd, (prod + length) >>> 0);
    return length;
  }

  /** The guest asked to start over: a new, empty connection. */
  #reconnect(): void {
    this.connection.reset();
    for (const index of [PAGE.reqCons, PAGE.reqProd, PAGE.rspCons, PAGE.rspProd]) this.#set(index, 0);
    this.#set(PAGE.error, XENSTORE.ERROR_NONE);
    this.#set(PAGE.connection, XENSTORE.CONNECTED);
  }

  /** Shows an error to the guest; true if that is news. */
  #report(error: number): boolean {
    if (this.#get(PAGE.error) === error) return false;
    this.#set(PAGE.error, error);
    return true;
  }

  #get(offset: number): number {
    return this.#page.getUint32(offset, this.#littleEndian);
  }

  #set(offset: number, value: number): void {
    this.#page.setUint32(offset, value, this.#littleEndian);
    this.#wrote?.(offset, offset + 4);
  }
}
