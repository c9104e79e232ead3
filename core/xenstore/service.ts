/**
 * The XenStore service: the store, its watches, its clients, and the domains that it talks to.
 *
 * Order of what a client receives (as the C daemon has it): a watch's first event follows the answer to WATCH; the events that a
 * change causes come before the answer to the request that made it.
 *
 * Invariants: no state outside the instance; every answer is one message; a refused request has changed nothing.
 * Not supported (ENOSYS): GET_FEATURE, SET_FEATURE, GET_QUOTA, SET_QUOTA, the watch depth feature; live update and logging by CONTROL (EINVAL).
 */
import { XENSTORE, XS } from "../abi/xs-wire.ts";
import { LocalEvents, XenStoreClient } from "./client.ts";
import { Connection, type ConnectionHost } from "./connection.ts";
import { XenStoreError } from "./errors.ts";
import { defaultQuotas, type XenStoreQuotas } from "./quota.ts";
import { type Request, type RequestHost, requestType } from "./requests.ts";
import { Store } from "./store.ts";
import { Watches } from "./watches.ts";
import { joinStrings, type Message } from "./wire.ts";

/** What the service needs to know of the machine. Everything has a default for use without one. */
export interface XenStoreHost {
  /** Whether a domain exists, introduced or not. Default: domain 0 and the introduced ones. */
  domainExists?(domid: number): boolean;
  /**
   * A privileged client asked for INTRODUCE: map the ring at `gfn`, bind `port`, call introduceDomain. Throws XenStoreError to refuse.
   * Default: refuses with ENOSYS.
   */
  introduce?(domid: number, gfn: number, port: number): void;
  /** A domain has been released: its connection is closed; unmap its ring. */
  released?(domid: number): void;
  /** Text of CONTROL print and check. */
  print?(text: string): void;
}

/** Options of a service. */
export interface XenStoreOptions {
  readonly host?: XenStoreHost;
  /** Limits of a domU; those not given have the C daemon's defaults. */
  readonly quotas?: Partial<XenStoreQuotas>;
}

/** How a client is connected. */
export interface ConnectOptions {
  /** Exempt from permissions and quotas. Default: domain 0 is. */
  readonly privileged?: boolean;
  /** Byte order of the message headers. Default: little. */
  readonly littleEndian?: boolean;
}

interface IntroducedDomain {
  readonly connection: Connection;
  shutdown: boolean;
}

/** One store and all who use it. */
export class XenStoreService implements ConnectionHost, RequestHost {
  readonly store: Store;
  readonly watches = new Watches();
  readonly quotas: XenStoreQuotas;
  readonly #host: XenStoreHost;
  readonly #events = new LocalEvents();
  readonly #domains = new Map<number, IntroducedDomain>();
  #cause: Connection | undefined;

  constructor(options: XenStoreOptions = {}) {
    this.#host = options.host ?? {};
    this.quotas = Object.freeze({ ...defaultQuotas, ...options.quotas });
    this.store = new Store((event) => this.watches.fire(this.store, event), this.quotas);
  }

  /** A client inside the process, as domain 0. */
  client(): XenStoreClient {
    return new XenStoreClient(this.store, this.watches, this.#events, {
      domid: 0,
      privileged: true,
      target: undefined,
    });
  }

  /** How many callbacks of local clients are due. */
  pending(): number {
    return this.#events.pending;
  }

  /** Runs callbacks of local clients that are due, in order, and those that they cause; at most `limit`. Returns how many. */
  deliver(limit?: number): number {
    return this.#events.deliver(limit);
  }

  /** Opens a connection that is no introduced domain's: a socket's. Close it by its `close`. */
  connect(domid: number, options: ConnectOptions = {}): Connection {
    const privileged = options.privileged ?? domid === 0;
    return new Connection(this, { domid, privileged, target: undefined }, options.littleEndian ?? true);
  }

  /**
   * The service now talks to a domain: returns its connection, and fires @introduceDomain. A domain introduced already keeps its
   * connection, reset.
   */
  introduceDomain(domid: number, options: ConnectOptions = {}): Connection {
    const known = this.#domains.get(domid);
    if (known !== undefined) {
      known.connection.reset();
      return known.connection;
    }
    const connection = this.connect(domid, options);
    this.#domains.set(domid, { connection, shutdown: false });
    this.#fireSpecial("@introduceDomain");
    return connection;
  }

  /** Ends the connection of a domain, with its watches and transactions, and fires @releaseDomain. ENOENT if it is not introduced. */
  releaseDomain(domid: number): void {
    const domain = this.#introduced(domid);
    this.#domains.delete(domid);
    domain.connection.close();
    for (const { connection } of this.#domains.values()) {
      if (connection.actor.target === domid) connection.actor = { ...connection.actor, target: undefined };
    }
    this.#host.released?.(domid);
    this.#fireSpecial("@releaseDomain");
  }

  /** A domain is gone for good: releases it if needed and takes it out of all permissions, so that its number can be used again. */
  destroyDomain(domid: number): void {
    if (this.#domains.has(domid)) this.releaseDomain(domid);
    this.store.forgetDomain(domid);
  }

  /** A domain has shut down or crashed but is still there: fires @releaseDomain, once until it is resumed. */
  domainShutdown(domid: number): void {
    const domain = this.#domains.get(domid);
    if (domain === undefined || domain.shutdown) return;
    domain.shutdown = true;
    this.#fireSpecial("@releaseDomain");
  }

  /** A domain that had shut down runs again. ENOENT if it is not introduced. */
  resumeDomain(domid: number): void {
    this.#introduced(domid).shutdown = false;
  }

  /** `domid` gets all rights of `target`. ENOENT if either is not introduced. */
  setTarget(domid: number, target: number): void {
    this.#introduced(target);
    const { connection } = this.#introduced(domid);
    connection.actor = { ...connection.actor, target };
  }

  /** Whether the service talks to a domain. */
  isIntroduced(domid: number): boolean {
    return domid === 0 || this.#domains.has(domid);
  }

  /** The connection of an introduced domain. */
  connectionOf(domid: number): Connection | undefined {
    return this.#domains.get(domid)?.connection;
  }

  domainExists(domid: number): boolean {
    return this.isIntroduced(domid) || (this.#host.domainExists?.(domid) ?? false);
  }

  requestIntroduction(domid: number, gfn: number, port: number): void {
    if (this.#host.introduce === undefined) throw new XenStoreError("ENOSYS");
    this.#host.introduce(domid, gfn, port);
  }

  print(text: string): void {
    this.#host.print?.(text);
  }

  get outstandingLimit(): number {
    return this.quotas.outstanding;
  }

  get cause(): Connection | undefined {
    return this.#cause;
  }

  dropWatches(connection: Connection): void {
    this.watches.clear(connection);
  }

  /** Performs a request and queues its answer. For Connection alone. */
  handle(connection: Connection, message: Message): void {
    const { reqId, txId } = message;
    const outer = this.#cause;
    this.#cause = connection;
    try {
      const { payload, afterwards } = this.#perform(connection, message);
      connection.send({ type: message.type, reqId, txId, payload });
      afterwards?.();
    } catch (error) {
      if (!(error instanceof XenStoreError)) throw error;
      connection.send({ type: XS.ERROR, reqId, txId, payload: joinStrings([error.errno]) });
    } finally {
      this.#cause = outer;
    }
  }

  #perform(connection: Connection, message: Message): { payload: Uint8Array; afterwards: (() => void) | undefined } {
    const type = requestType(message.type);
    if (type === undefined) throw new XenStoreError("ENOSYS");
    if (type.privileged && !connection.actor.privileged) throw new XenStoreError("EACCES");
    const transaction = message.txId === 0 ? this.store : connection.transactions.get(message.txId);
    if (transaction === undefined) throw new XenStoreError("ENOENT");
    const request: Request = { host: this, connection, message, view: transaction, afterwards: undefined };
    const payload = type.perform(request);
    if (payload.length > XENSTORE.PAYLOAD_MAX) throw new XenStoreError("E2BIG");
    return { payload, afterwards: request.afterwards };
  }

  #introduced(domid: number): IntroducedDomain {
    const domain = this.#domains.get(domid);
    if (domain === undefined) throw new XenStoreError("ENOENT", String(domid));
    return domain;
  }

  #fireSpecial(path: string): void {
    this.watches.fire(this.store, { path, exact: true, before: [] });
  }
}
