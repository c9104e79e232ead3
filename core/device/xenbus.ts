/**
 * The xenbus handshake, backend side (xen/io/xenbus.h): drives a split device by what its frontend and the toolstack write into
 * XenStore.
 *
 * It is level-triggered: an event says only that something may have changed; each step reads where both sides stand and does the one thing
 * that follows, until nothing does. So states that are skipped, repeated, out of order or seen late need no cases of their own.
 *
 * What follows, first match first (FE: the frontend's state; BE: ours):
 *   frontend or backend directory gone       disconnect, Closed, end
 *   BE found Closing, not by us              a wish of the toolstack to detach: Closing
 *   BE Initialising                          probe, InitWait
 *   FE Closing                               disconnect, Closing
 *   FE Closed                                disconnect, Closed; end if offline
 *   detach wished, FE neither Initialised nor Connected   disconnect, Closed; end if offline
 *   FE Initialised or Connected, BE InitWait     connect, Connected
 *   FE Initialising, BE Connected            disconnect, probe, InitWait       (a frontend that started over)
 *   FE starts again, BE Closing or Closed    probe, InitWait                   (reconnect)
 *
 * Invariants: connect and disconnect alternate, connect first; neither is called while the promise of one is pending; no exception of
 * the backend leaves this class: it is written to the error node, and the state becomes Closing. After an error, and after a wish to
 * detach, nothing starts again before the frontend does.
 */
import { ERRNO, errnoName, isErrnoName } from "../abi/errno.ts";
import { XenbusState } from "../abi/io/xenbus.ts";
import type { XenStoreClient } from "../xenstore/client.ts";

/** Parses the value of a `state` node; Unknown for what is no state. */
export function parseXenbusState(text: string | undefined): number {
  return text !== undefined && /^[0-8]$/.test(text) ? Number(text) : XenbusState.Unknown;
}

/** What the handshake asks of a backend. */
export interface HandshakeBackend {
  /** Publish features; may be called again after a disconnect. */
  probe(): void;
  /** The frontend has published its rings: map and bind. Throw or reject to refuse. */
  connect(): void | Promise<void>;
  /** Finish or fail what is in flight, release everything. */
  disconnect(): void | Promise<void>;
}

/** Options of the handshake. */
export interface HandshakeOptions {
  /** Whose store and rights are used; the handshake makes a child of it for its watches. */
  readonly client: XenStoreClient;
  /** Absolute path of the frontend's directory. */
  readonly frontend: string;
  /** Absolute path of the backend's directory. */
  readonly backend: string;
  /**
   * connect or disconnect is pending: the owner holds virtual time until the promise, which never rejects, is settled.
   * What follows from it has been done by then.
   */
  readonly hold?: (work: Promise<void>) => void;
  /** For tracing: our state changed. */
  readonly stateChanged?: (from: number, to: number) => void;
  /** An error of the backend, after it has been written to the error node. */
  readonly failed?: (error: unknown) => void;
  /** The handshake has ended: detached, or one of the directories is gone. The backend is disconnected. */
  readonly ended?: () => void;
}

/** One device's handshake. */
export class XenbusHandshake {
  readonly #options: HandshakeOptions;
  readonly #backend: HandshakeBackend;
  readonly #client: XenStoreClient;
  #state: number = XenbusState.Initialising;
  #connected = false;
  #detaching = false;
  /** The frontend's state when something failed or a detach was asked: nothing is tried again until the frontend starts over. */
  #stoppedAt: number | null = null;
  #frontendState: number = XenbusState.Unknown;
  #destroying = false;
  #frontendSeen = false;
  #started = false;
  #ended = false;
  #stepping = false;
  #pending: Promise<void> | null = null;

  constructor(backend: HandshakeBackend, options: HandshakeOptions) {
    this.#backend = backend;
    this.#options = options;
    this.#client = options.client.child();
  }

  /** Our state: one of XenbusState. */
  get state(): number {
    return this.#state;
  }

  /** Whether the backend is connected. */
  get connected(): boolean {
    return this.#connected;
  }

  /** The work in progress that virtual time has to wait for. */
  get pending(): Promise<void> | null {
    return this.#pending;
  }

  /** Nothing will happen any more. */
  get ended(): boolean {
    return this.#ended;
  }

  /** Starts: announces Initialising, sets the watches, probes. The toolstack has made both directories. */
  start(): void {
    if (this.#started) return;
    this.#started = true;
    const { frontend, backend } = this.#options;
    this.#write(XenbusState.Initialising);
    const step = (): void => this.#step();
    this.#client.watch(`${frontend}/state`, step);
    this.#client.watch(`${backend}/state`, step);
    this.#client.watch(`${backend}/online`, step);
    this.#step();
  }

  /** Asks for an orderly end, as a toolstack does: offline and Closing; the frontend may take its time. */
  detach(): void {
    if (this.#ended) return;
    this.#client.write(`${this.#options.backend}/online`, "0");
    this.#write(XenbusState.Closing);
    this.#step();
  }

  /** Ends at once, whatever the frontend does: the domain is being destroyed. Waits for pending work and disconnect. */
  async destroy(): Promise<void> {
    this.#destroying = true;
    while (this.#pending !== null) await this.#pending;
    if (this.#ended) return;
    this.#disconnect(() => this.#end());
    while (this.#pending !== null) await this.#pending;
  }

  /** Does what follows from where both sides stand, until nothing does. */
  #step(): void {
    if (this.#stepping) return;
    this.#stepping = true;
    try {
      while (this.#started && !this.#ended && !this.#destroying && this.#pending === null && this.#next());
    } finally {
      this.#stepping = false;
    }
  }

  /** One thing that follows; false if nothing does. Each changes our state, or ends. */
  #next(): boolean {
    const { frontend: frontendPath, backend: backendPath } = this.#options;
    const written = this.#client.tryRead(`${frontendPath}/state`);
    const frontend = parseXenbusState(written);
    this.#frontendState = frontend;
    if (written !== undefined) this.#frontendSeen = true;
    const own = this.#client.tryRead(`${backendPath}/state`);
    if (own === undefined || (written === undefined && this.#frontendSeen)) {
      this.#disconnect(() => {
        this.#switch(XenbusState.Closed);
        this.#end();
      });
      return true;
    }
    const online = this.#client.tryRead(`${backendPath}/online`) !== "0";
    if (parseXenbusState(own) === XenbusState.Closing && this.#state !== XenbusState.Closing) {
      // Not written by us, so by the toolstack: a wish to detach.
      this.#detaching = true;
      this.#stoppedAt = frontend;
      this.#adopt(XenbusState.Closing);
      return true;
    }
    const startsOver =
      frontend === XenbusState.Initialising || frontend === XenbusState.Closing || frontend === XenbusState.Closed;
    if (startsOver && frontend !== this.#stoppedAt) this.#stoppedAt = null;
    const active = frontend === XenbusState.Initialised || frontend === XenbusState.Connected;
    const closed = this.#state === XenbusState.Closing || this.#state === XenbusState.Closed;

    if (this.#state === XenbusState.Initialising) {
      this.#probe();
      return true;
    }
    if (frontend === XenbusState.Closing && !closed) {
      this.#disconnect(() => this.#switch(XenbusState.Closing));
      return true;
    }
    if (frontend === XenbusState.Closing && this.#connected) {
      this.#disconnect(() => undefined);
      return true;
    }
    const finished =
      frontend === XenbusState.Closed || (this.#detaching && !active && frontend !== XenbusState.Closing);
    if (finished && this.#state !== XenbusState.Closed) {
      this.#disconnect(() => this.#switch(XenbusState.Closed));
      return true;
    }
    if (finished && this.#state === XenbusState.Closed && !online) {
      this.#end();
      return true;
    }
    if (active && this.#state === XenbusState.InitWait) {
      this.#connect();
      return true;
    }
    if (frontend === XenbusState.Initialising && this.#state === XenbusState.Connected) {
      this.#disconnect(() => this.#switch(XenbusState.Initialising));
      return true;
    }
    // Reconnect: from the start, or seen late, when the frontend is already further; after a failure only from the start.
    const again = frontend === XenbusState.Initialising || (active && !this.#detaching);
    if (closed && online && again && this.#stoppedAt === null) {
      this.#detaching = false;
      this.#disconnect(() => this.#switch(XenbusState.Initialising));
      return true;
    }
    return false;
  }

  #probe(): void {
    try {
      this.#backend.probe();
      this.#switch(XenbusState.InitWait);
    } catch (error) {
      this.#fail(error);
    }
  }

  #connect(): void {
    this.#connected = true;
    this.#run(
      () => this.#backend.connect(),
      () => this.#switch(XenbusState.Connected),
      () => this.#disconnect(() => undefined), // even a connect that failed may hold something
    );
  }

  /** Disconnects if connected, then goes on. */
  #disconnect(then: () => void): void {
    if (this.#connected) {
      this.#connected = false;
      this.#run(() => this.#backend.disconnect(), then, then);
    } else then();
  }

  /** Runs work of the backend, at once if it is done at once; `then` follows success, `otherwise` a failure that has been reported. */
  #run(work: () => void | Promise<void>, then: () => void, otherwise: () => void): void {
    let result: void | Promise<void>;
    try {
      result = work();
    } catch (error) {
      this.#fail(error);
      otherwise();
      return;
    }
    if (!(result instanceof Promise)) {
      then();
      return;
    }
    const settled = (next: () => void): void => {
      this.#pending = null;
      next();
      this.#step();
    };
    this.#pending = result.then(
      () => settled(then),
      (error: unknown) =>
        settled(() => {
          this.#fail(error);
          otherwise();
        }),
    );
    this.#options.hold?.(this.#pending);
  }

  /** Shows an error where Linux' backends do: error/ before the path within the backend's domain. The state becomes Closing. */
  #fail(error: unknown): void {
    this.#stoppedAt = this.#frontendState;
    const text = error instanceof Error ? error.message : String(error);
    const [, home, rest] = /^(\/local\/domain\/\d+)\/(.*)$/.exec(this.#options.backend) ?? [
      "",
      "",
      this.#options.backend.slice(1),
    ];
    this.#client.write(`${home}/error/${rest}/error`, `${numberOf(error)} ${text}`.slice(0, 1024));
    if (this.#state !== XenbusState.Closed) this.#switch(XenbusState.Closing);
    this.#options.failed?.(error);
  }

  #switch(state: number): void {
    if (this.#state === state) return;
    if (this.#client.exists(this.#options.backend)) this.#write(state);
    this.#adopt(state);
  }

  #write(state: number): void {
    this.#client.write(`${this.#options.backend}/state`, String(state));
  }

  #adopt(state: number): void {
    const from = this.#state;
    this.#state = state;
    this.#options.stateChanged?.(from, state);
  }

  #end(): void {
    this.#ended = true;
    this.#client.close();
    this.#options.ended?.();
  }
}

/** Xen's number for an error that carries one by number or by name; EIO for others. */
function numberOf(error: unknown): number {
  const given: unknown = typeof error === "object" && error !== null && "errno" in error ? error.errno : undefined;
  if (typeof given === "string" && isErrnoName(given)) return ERRNO[given];
  if (typeof given === "number" && errnoName(given) !== undefined) return Math.abs(given);
  return ERRNO.EIO;
}
