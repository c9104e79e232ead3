/**
 * One client at the other end of a byte stream: a domain's ring, or a socket.
 *
 * Bytes go in by `feed` and come out by `take`. Of the input it buffers one message at most. Of the output it has no bound of its own;
 * what keeps it small is that an unprivileged connection is not read while too many of its answers, and of the watch
 * events that it caused for others, have not been taken ("outstanding"), and that an event equal to one not yet
 * sent is dropped.
 *
 * Invariant: `attention` is called whenever there is new work for whoever moves the bytes, except from inside `feed`.
 */
import { XENSTORE, XS } from "../abi/xs-wire.ts";
import type { Actor } from "./permissions.ts";
import type { StoreTransaction } from "./store.ts";
import type { Watch, WatchClient } from "./watches.ts";
import { bytesOf, encodeMessage, joinStrings, type Message, MessageReader } from "./wire.ts";

/** What a connection needs of its service. */
export interface ConnectionHost {
  /** How many outstanding messages stop an unprivileged connection. */
  readonly outstandingLimit: number;
  /** Performs a request and answers by `connection.send`. */
  handle(connection: Connection, message: Message): void;
  /** Whose request is being handled, to charge events to; undefined: nobody's. */
  readonly cause: Connection | undefined;
  /** The connection's watches go. */
  dropWatches(connection: Connection): void;
}

interface Outgoing {
  readonly bytes: Uint8Array;
  /** Whose outstanding count it is in. */
  readonly cause: Connection | undefined;
  /** For a watch event: what makes it equal to another. */
  readonly key: string | undefined;
}

/** A client connection. Made by the service. */
export class Connection implements WatchClient {
  readonly domid: number;
  readonly littleEndian: boolean;
  /** Who the client is, for permissions. */
  actor: Actor;
  /** Transactions open, by id. */
  readonly transactions = new Map<number, StoreTransaction>();
  /** Called when there is something to take, or reading may go on. It should only make a note. */
  attention: (() => void) | undefined;

  readonly #host: ConnectionHost;
  readonly #reader: MessageReader;
  readonly #output: Outgoing[] = [];
  readonly #unsentEvents = new Set<string>();
  #sent = 0;
  #outstanding = 0;
  #feeding = false;
  #closed = false;
  #error: number = XENSTORE.ERROR_NONE;
  #nextTransaction = 1;

  constructor(host: ConnectionHost, actor: Actor, littleEndian: boolean) {
    this.#host = host;
    this.actor = actor;
    this.domid = actor.domid;
    this.littleEndian = littleEndian;
    this.#reader = new MessageReader(littleEndian);
  }

  /** No byte goes in or out any more. */
  get closed(): boolean {
    return this.#closed;
  }

  /** Why it was closed: one of XENSTORE.ERROR_*. */
  get error(): number {
    return this.#error;
  }

  /** Too much is outstanding: feed takes nothing until some of it has been taken. */
  get blocked(): boolean {
    return !this.actor.privileged && this.#outstanding >= this.#host.outstandingLimit;
  }

  /** Messages not wholly taken yet. */
  get queued(): number {
    return this.#output.length;
  }

  /** Reads bytes and performs the requests that they complete. Returns how many it took: fewer when blocked or closed. */
  feed(bytes: Uint8Array, from = 0, to = bytes.length): number {
    let at = from;
    this.#feeding = true;
    try {
      while (at < to && !this.#closed && !this.blocked) {
        at += this.#reader.push(bytes, at, to);
        if (this.#reader.oversized) {
          this.close(XENSTORE.ERROR_PROTO);
          break;
        }
        const message = this.#reader.take();
        if (message !== undefined) this.#host.handle(this, message);
      }
    } finally {
      this.#feeding = false;
    }
    return at - from;
  }

  /** Copies output into `target` and forgets it. Returns how many bytes. */
  take(target: Uint8Array, space = target.length): number {
    let at = 0;
    let done = 0;
    while (at < space && done < this.#output.length) {
      const { bytes, key, cause } = this.#output[done]!;
      if (key !== undefined) this.#unsentEvents.delete(key);
      const part = Math.min(bytes.length - this.#sent, space - at);
      target.set(bytes.subarray(this.#sent, this.#sent + part), at);
      at += part;
      this.#sent += part;
      if (this.#sent < bytes.length) break;
      this.#sent = 0;
      done++;
      cause?.settle();
    }
    this.#output.splice(0, done);
    return at;
  }

  /** Queues an answer. */
  send(message: Message): void {
    this.#queue(encodeMessage(message, this.littleEndian), this, undefined);
  }

  /** Queues a watch event, charged to whose request caused it. */
  deliverEvent(watch: Watch, path: string): void {
    if (this.#closed) return;
    const key = `${path}\0${watch.token}`;
    if (this.#unsentEvents.has(key)) return;
    const payload = joinStrings([path, watch.token]);
    if (payload.length > XENSTORE.PAYLOAD_MAX) return; // a token too long for this path: the protocol has no way to tell
    this.#unsentEvents.add(key);
    this.#queue(
      encodeMessage({ type: XS.WATCH_EVENT, reqId: 0, txId: 0, payload }, this.littleEndian),
      this.#host.cause,
      key,
    );
  }

  /** An id for a new transaction: counts up, never 0, never one in use. */
  transactionId(): number {
    let id = this.#nextTransaction;
    while (id === 0 || this.transactions.has(id)) id = (id + 1) >>> 0;
    this.#nextTransaction = (id + 1) >>> 0;
    return id;
  }

  /** Back to the state of a new connection: no partial message, output, watch or transaction. */
  reset(): void {
    this.#reader.reset();
    this.#dropOutput();
    this.transactions.clear();
    this.#host.dropWatches(this);
    this.#closed = false;
    this.#error = XENSTORE.ERROR_NONE;
  }

  /** Ends the connection, for good unless it is reset; drops all that it holds. */
  close(error: number = XENSTORE.ERROR_NONE): void {
    if (this.#closed) return;
    this.reset();
    this.#closed = true;
    this.#error = error;
    this.#wake();
  }

  /** A message that was charged to this connection has been taken or dropped. For other connections of the service. */
  settle(): void {
    const wasBlocked = this.blocked;
    this.#outstanding--;
    if (wasBlocked && !this.blocked) this.#wake();
  }

  #queue(bytes: Uint8Array, cause: Connection | undefined, key: string | undefined): void {
    if (this.#closed) return;
    this.#output.push({ bytes, cause, key });
    if (cause !== undefined) cause.#outstanding++;
    this.#wake();
  }

  #dropOutput(): void {
    const dropped = this.#output.splice(0);
    this.#sent = 0;
    this.#unsentEvents.clear();
    for (const { cause } of dropped) cause?.settle();
  }

  #wake(): void {
    if (!this.#feeding) this.attention?.();
  }
}

/** The payload of a plain success. */
export const acknowledgement: Uint8Array = bytesOf("OK\0");
