/**
 * Watches of all clients, found by path.
 *
 * Invariants: a client has at most one watch of a path and token; an event reaches the matching watches in the order of their
 * registration; a client that could not read the changed node, neither before nor after, nor its parent, is not told.
 */
import { isSpecial, parentPath } from "./path.ts";
import { Access, type Actor, accessOf } from "./permissions.ts";
import type { Store, StoreEvent } from "./store.ts";

/** A registered watch. */
export interface Watch {
  readonly client: WatchClient;
  /** Resolved path, or a special one. */
  readonly path: string;
  /** What the client gave: handed back with every event. */
  readonly token: string;
  /** Prefix, slash included, to strip from reported paths; "" for an absolute watch. */
  readonly prefix: string;
  /** Order of registration. */
  readonly order: number;
}

/** Who watches. `deliverEvent` queues the event and returns: it runs in the middle of somebody's change. */
export interface WatchClient {
  readonly actor: Actor;
  deliverEvent(watch: Watch, path: string): void;
}

/** All watches of all clients. */
export class Watches {
  readonly #byPath = new Map<string, Set<Watch>>();
  readonly #byClient = new Map<WatchClient, Set<Watch>>();
  #order = 0;

  /** How many a client has. */
  count(client: WatchClient): number {
    return this.#byClient.get(client)?.size ?? 0;
  }

  /** A client's watch of a path and token. */
  find(client: WatchClient, path: string, token: string): Watch | undefined {
    for (const watch of this.#byPath.get(path) ?? [])
      if (watch.client === client && watch.token === token) return watch;
    return undefined;
  }

  /** Registers a watch; the caller has checked that it is new. */
  add(client: WatchClient, path: string, token: string, prefix: string): Watch {
    const watch: Watch = { client, path, token, prefix, order: this.#order++ };
    entry(this.#byPath, path).add(watch);
    entry(this.#byClient, client).add(watch);
    return watch;
  }

  remove(watch: Watch): void {
    drop(this.#byPath, watch.path, watch);
    drop(this.#byClient, watch.client, watch);
  }

  /** Removes all of a client. */
  clear(client: WatchClient): void {
    for (const watch of this.#byClient.get(client) ?? []) drop(this.#byPath, watch.path, watch);
    this.#byClient.delete(client);
  }

  /** Tells the watches about a change that is in force. */
  fire(store: Store, event: StoreEvent): void {
    const matches: Watch[] = [];
    for (let path: string | undefined = event.path; path !== undefined; path = event.exact ? undefined : above(path)) {
      const here = this.#byPath.get(path);
      if (here !== undefined) matches.push(...here);
    }
    if (matches.length === 0) return;
    matches.sort((one, other) => one.order - other.order);
    for (const watch of matches) {
      if (visible(store, event, watch.client.actor)) watch.client.deliverEvent(watch, reported(watch, event.path));
    }
  }
}

/** The path that a watch reports: relative as it was set. */
export function reported(watch: { readonly prefix: string }, path: string): string {
  return watch.prefix !== "" && path.startsWith(watch.prefix) ? path.slice(watch.prefix.length) : path;
}

function above(path: string): string | undefined {
  return isSpecial(path) ? undefined : parentPath(path);
}

function visible(store: Store, event: StoreEvent, actor: Actor): boolean {
  if (actor.privileged) return true;
  const readable = (permissions: Parameters<typeof accessOf>[1]): boolean =>
    (accessOf(actor, permissions) & Access.READ) !== 0;
  const node = store.peek(event.path);
  if (node !== undefined && readable(node.permissions)) return true;
  if (isSpecial(event.path)) return false;
  if (event.before.some(readable)) return true;
  const up = parentPath(event.path);
  const parent = up === undefined ? undefined : store.peek(up);
  return parent !== undefined && readable(parent.permissions);
}

function entry<Key, Value>(map: Map<Key, Set<Value>>, key: Key): Set<Value> {
  const known = map.get(key);
  if (known !== undefined) return known;
  const made = new Set<Value>();
  map.set(key, made);
  return made;
}

function drop<Key, Value>(map: Map<Key, Set<Value>>, key: Key, value: Value): void {
  const set = map.get(key);
  if (set === undefined) return;
  set.delete(value);
  if (set.size === 0) map.delete(key);
}
