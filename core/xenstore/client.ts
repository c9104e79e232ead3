/**
 * XenStore for the inside of the process: backends, toolstack and hypervisor act as domain 0, synchronously, without a wire.
 *
 * A write by a client fires the watches of guests and of other clients at once, but callbacks of clients only go into a queue
 * that all clients of a service share; `deliver`, called by the hypervisor before the next guest entry, runs them, in the
 * order of the changes, then of the watches' registration. An event equal to one still queued is dropped.
 *
 * Values are text (UTF-8); the ...Bytes methods take and give them raw. Refused operations throw XenStoreError.
 */
import { XenStoreError } from "./errors.ts";
import { resolvePath } from "./path.ts";
import type { Actor, Permission } from "./permissions.ts";
import type { Store, StoreView } from "./store.ts";
import type { Watch, WatchClient, Watches } from "./watches.ts";

/** Called with the path that changed, as the watch reports it. */
export type WatchCallback = (path: string) => void;

/** Part of the store below one path, as a device's backend sees it. Keys are relative; a missing key reads as undefined. */
export interface XenStoreArea {
  readonly path: string;
  read(key: string): string | undefined;
  write(key: string, value: string): void;
  remove(key: string): void;
  list(key?: string): readonly string[];
  /** Calls back once soon and after each change at or below the key. Returns what ends the watch. */
  watch(key: string, changed: () => void): () => void;
}

/** Local watch events on their way: one queue a service. */
export class LocalEvents {
  readonly #queue: { readonly watch: LocalWatch; readonly path: string; readonly key: string }[] = [];
  readonly #keys = new Set<string>();

  /** How many callbacks are due. */
  get pending(): number {
    return this.#queue.length;
  }

  add(watch: LocalWatch, path: string): void {
    const key = `${watch.id}\0${path}`;
    if (this.#keys.has(key)) return;
    this.#keys.add(key);
    this.#queue.push({ watch, path, key });
  }

  /**
   * Runs callbacks that are due, those that they cause included, at most `limit`. Returns how many were run. If one throws, it is
   * out of the queue and the error goes on to the caller; the others stay due.
   */
  deliver(limit = Number.POSITIVE_INFINITY): number {
    let run = 0;
    while (run < limit) {
      const next = this.#queue.shift();
      if (next === undefined) break;
      this.#keys.delete(next.key);
      if (!next.watch.active) continue;
      run++;
      next.watch.callback(next.path);
    }
    return run;
  }
}

interface LocalWatch {
  readonly id: number;
  readonly callback: WatchCallback;
  active: boolean;
}

/** The operations that a client and its transactions have in common. */
export abstract class XenStoreOperations {
  protected abstract readonly view: StoreView;
  readonly actor: Actor;

  constructor(actor: Actor) {
    this.actor = actor;
  }

  /** A value as text. Throws ENOENT if there is no such node. */
  read(path: string): string {
    return new TextDecoder().decode(this.readBytes(path));
  }

  /** A value as text; undefined if there is no such node. */
  tryRead(path: string): string | undefined {
    return ifThere(() => this.read(path));
  }

  /** A value's bytes: a copy. */
  readBytes(path: string): Uint8Array {
    return this.view.read(this.actor, this.resolve(path)).slice();
  }

  /** Sets a value, creating the node and its missing parents. */
  write(path: string, value: string | Uint8Array): void {
    const data = typeof value === "string" ? new TextEncoder().encode(value) : value.slice();
    this.view.write(this.actor, this.resolve(path), data);
  }

  mkdir(path: string): void {
    this.view.mkdir(this.actor, this.resolve(path));
  }

  /** Removes a node and all below it. A missing one is no error, unless its parent is missing too (ENOENT). */
  rm(path: string): void {
    this.view.rm(this.actor, this.resolve(path));
  }

  /** Names of the children, in the order of their creation. Throws ENOENT. */
  list(path: string): readonly string[] {
    return this.view.list(this.actor, this.resolve(path));
  }

  exists(path: string): boolean {
    return ifThere(() => this.view.list(this.actor, this.resolve(path))) !== undefined;
  }

  permissions(path: string): readonly Permission[] {
    return this.view.permissions(this.actor, this.resolve(path, true));
  }

  setPermissions(path: string, permissions: readonly Permission[]): void {
    this.view.setPermissions(this.actor, this.resolve(path, true), permissions);
  }

  /** Relative paths are those of the client's domain. */
  protected resolve(path: string, special = false): string {
    return resolvePath(this.actor.domid, path, special);
  }
}

/** A transaction of a local client: what happens in it is seen by others when it is committed, all at once. */
export class XenStoreTransaction extends XenStoreOperations {
  protected readonly view: StoreView;
  constructor(view: StoreView, actor: Actor) {
    super(actor);
    this.view = view;
  }
}

/** A client. Made by the service, or by `child`; close it to end its watches. */
export class XenStoreClient extends XenStoreOperations implements WatchClient {
  protected readonly view: Store;
  readonly #watches: Watches;
  readonly #events: LocalEvents;
  readonly #callbacks = new Map<Watch, LocalWatch>();
  #tokens = 0;

  constructor(store: Store, watches: Watches, events: LocalEvents, actor: Actor) {
    super(actor);
    this.view = store;
    this.#watches = watches;
    this.#events = events;
  }

  /** Another client of the same service and domain, with watches of its own. */
  child(): XenStoreClient {
    return new XenStoreClient(this.view, this.#watches, this.#events, this.actor);
  }

  /**
   * Watches a path (or "@introduceDomain", "@releaseDomain"): calls back once soon, then after each change of the node or anything below
   * it. Returns what ends the watch: no call follows it.
   */
  watch(path: string, callback: WatchCallback): () => void {
    const resolved = this.resolve(path, true);
    const watch = this.#watches.add(this, resolved, String(this.#tokens++), "");
    const local: LocalWatch = { id: watch.order, callback, active: true };
    this.#callbacks.set(watch, local);
    this.#events.add(local, resolved);
    return () => this.#end(watch, local);
  }

  /** Runs `body` in a transaction and commits it. If `body` throws nothing has happened. A conflict (EAGAIN) runs it again. */
  transaction<Result>(body: (transaction: XenStoreTransaction) => Result): Result {
    for (;;) {
      const transaction = this.view.transaction(this.actor);
      const result = body(new XenStoreTransaction(transaction, this.actor));
      try {
        transaction.commit();
        return result;
      } catch (error) {
        if (!(error instanceof XenStoreError && error.errno === "EAGAIN")) throw error;
      }
    }
  }

  /** The part of the store below a path. */
  area(base: string): XenStoreArea {
    const root = this.resolve(base);
    const at = (key: string): string => (key === "" ? root : `${root === "/" ? "" : root}/${key}`);
    return {
      path: root,
      read: (key) => this.tryRead(at(key)),
      write: (key, value) => this.write(at(key), value),
      remove: (key) => {
        ifThere(() => this.rm(at(key)));
      },
      list: (key = "") => ifThere(() => this.list(at(key))) ?? [],
      watch: (key, changed) => this.watch(at(key), () => changed()),
    };
  }

  /** How many callbacks of local clients are due. */
  pending(): number {
    return this.#events.pending;
  }

  /** Runs the callbacks of local clients that are due: see LocalEvents.deliver. */
  deliver(limit?: number): number {
    return this.#events.deliver(limit);
  }

  /** Ends all watches. */
  close(): void {
    for (const [watch, local] of [...this.#callbacks]) this.#end(watch, local);
  }

  /** For Watches: queues a callback. */
  deliverEvent(watch: Watch, path: string): void {
    const local = this.#callbacks.get(watch);
    if (local !== undefined) this.#events.add(local, path);
  }

  #end(watch: Watch, local: LocalWatch): void {
    local.active = false;
    if (this.#callbacks.delete(watch)) this.#watches.remove(watch);
  }
}

/** The result, or undefined where there is no such node. */
function ifThere<Result>(operation: () => Result): Result | undefined {
  try {
    return operation();
  } catch (error) {
    if (error instanceof XenStoreError && error.errno === "ENOENT") return undefined;
    throw error;
  }
}
