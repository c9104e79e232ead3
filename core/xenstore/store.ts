/**
 * The store's tree and its transactions.
 *
 * Nodes are immutable and live in one map by path; a change replaces the objects it touches. A transaction is an overlay that
 * remembers, for every path it looked at, the object that it found: at its end it commits exactly if each of these paths still
 * holds the same object (or is still missing). So committed transactions are serialisable in the order of their ends, and
 * unrelated changes never make one fail.
 *
 * Invariants: the root exists; every node's parent exists and lists it, once; an operation that throws has changed nothing;
 * the count of nodes per owner is exact. Paths have been resolved (path.ts) before they come here.
 */
import { XENSTORE } from "../abi/xs-wire.ts";
import { XenStoreError } from "./errors.ts";
import { childPath, isSpecial, leafName, parentPath } from "./path.ts";
import { Access, type Actor, accessOf, ownerOf, type Permission } from "./permissions.ts";
import { defaultQuotas, type XenStoreQuotas } from "./quota.ts";

/** One node. `children` are leaf names in the order of their creation. */
export interface StoreNode {
  /** Grows with every change of any node; equal generations mean an unchanged node. */
  readonly generation: number;
  readonly data: Uint8Array;
  readonly permissions: readonly Permission[];
  readonly children: readonly string[];
}

/** A change to tell watches about. */
export interface StoreEvent {
  readonly path: string;
  /** Only watches of this very path: a descendant of what was removed. */
  readonly exact: boolean;
  /** Permissions that were in force before the change and may make it visible to a reader who lost access. */
  readonly before: readonly (readonly Permission[])[];
}

/** The invented nodes: they carry permissions only. */
export const specialNodes: readonly string[] = Object.freeze(["@introduceDomain", "@releaseDomain"]);

interface Change {
  readonly path: string;
  /** What the path holds from now on; undefined: nothing. */
  readonly node: StoreNode | undefined;
}

/** sizeof(struct xs_tdb_record_hdr) and of one entry of permissions in the C daemon: part of what a node counts against its quota. */
const nodeHeaderBytes = 24;
const permissionBytes = 8;

const noData = new Uint8Array(0);

/** The operations on nodes, the same on the store itself and inside a transaction. All throw XenStoreError. */
export abstract class StoreView {
  /** The node at a path, if there is one. */
  protected abstract lookup(path: string): StoreNode | undefined;
  /** Makes the changes, all or none, and passes the events on. */
  protected abstract change(changes: readonly Change[], events: readonly StoreEvent[]): void;
  /** How many nodes a domain owns. */
  abstract nodesOwned(domid: number): number;
  protected abstract readonly quotas: XenStoreQuotas;

  /** The value of a node. Not a copy: never modify it. */
  read(actor: Actor, path: string): Uint8Array {
    return this.#need(actor, path, Access.READ).data;
  }

  /** Sets a value, creating the node and its missing parents. The store keeps `data`. */
  write(actor: Actor, path: string, data: Uint8Array): void {
    if (data.length > XENSTORE.PAYLOAD_MAX) throw new XenStoreError("EINVAL", path);
    const node = this.#find(actor, path, Access.WRITE);
    if (node === undefined) this.#create(actor, path, data);
    else this.#check(actor, [{ path, node: { ...node, data } }], [{ path, exact: false, before: [] }]);
  }

  /** Makes sure that a node exists, with an empty value if it is new. An existing one stays as it is. */
  mkdir(actor: Actor, path: string): void {
    if (this.#find(actor, path, Access.WRITE) === undefined) this.#create(actor, path, noData);
  }

  /** Removes a node and all below it. A missing leaf is no error, a missing parent is ENOENT. */
  rm(actor: Actor, path: string): void {
    const up = parentPath(path);
    if (up === undefined) throw new XenStoreError("EINVAL", path);
    const node = this.#find(actor, path, Access.WRITE);
    const parent = this.lookup(up);
    if (node === undefined) {
      if (parent === undefined) throw new XenStoreError("ENOENT", path);
      return;
    }
    if (parent === undefined) throw new XenStoreError("EIO", path);
    const changes: Change[] = [];
    const events: StoreEvent[] = [];
    this.#collect(path, node, parent, false, changes, events);
    const leaf = leafName(path);
    changes.push({ path: up, node: { ...parent, children: parent.children.filter((name) => name !== leaf) } });
    this.change(changes, events);
  }

  /** Leaf names of the children, in the order of their creation. */
  list(actor: Actor, path: string): readonly string[] {
    return this.#need(actor, path, Access.READ).children;
  }

  /** The children and the node's generation, for reading a long list in parts. */
  listWithGeneration(actor: Actor, path: string): StoreNode {
    return this.#need(actor, path, Access.READ);
  }

  /** Permissions, owner first. */
  permissions(actor: Actor, path: string): readonly Permission[] {
    return this.#need(actor, path, Access.READ).permissions;
  }

  /** Replaces permissions: for the owner and the privileged; only the latter may change the owner. */
  setPermissions(actor: Actor, path: string, permissions: readonly Permission[]): void {
    const [first] = permissions;
    if (first === undefined) throw new XenStoreError("EINVAL", path);
    if (!actor.privileged && permissions.length > this.quotas.permissions) throw new XenStoreError("ENOSPC", path);
    const node = this.#need(actor, path, Access.WRITE | Access.OWNER);
    if (!actor.privileged && first.domid !== ownerOf(node.permissions)) throw new XenStoreError("EPERM", path);
    const next = { ...node, permissions: Object.freeze([...permissions]) };
    this.#check(actor, [{ path, node: next }], [{ path, exact: false, before: [node.permissions] }]);
  }

  /**
   * The node, or undefined if it is missing and the nearest existing ancestor gives the access asked for; EACCES otherwise, so that
   * nobody learns what exists where they may not look.
   */
  #find(actor: Actor, path: string, access: number): StoreNode | undefined {
    const node = this.lookup(path);
    if (node !== undefined) {
      if ((accessOf(actor, node.permissions) & access) !== access) throw new XenStoreError("EACCES", path);
      return node;
    }
    if (isSpecial(path)) throw new XenStoreError("EINVAL", path);
    for (let up = parentPath(path); up !== undefined; up = parentPath(up)) {
      const ancestor = this.lookup(up);
      if (ancestor === undefined) continue;
      if ((accessOf(actor, ancestor.permissions) & access) === 0) throw new XenStoreError("EACCES", path);
      break;
    }
    return undefined;
  }

  #need(actor: Actor, path: string, access: number): StoreNode {
    const node = this.#find(actor, path, access);
    if (node === undefined) throw new XenStoreError("ENOENT", path);
    return node;
  }

  /** Creates a node and its missing ancestors. Each inherits its parent's permissions; an unprivileged creator becomes the owner. */
  #create(actor: Actor, path: string, data: Uint8Array): void {
    const missing = [path];
    let up = parentPath(path)!;
    let parent = this.lookup(up);
    while (parent === undefined) {
      missing.push(up);
      up = parentPath(up)!;
      parent = this.lookup(up);
    }
    const [first, ...rest] = parent.permissions;
    const permissions = actor.privileged
      ? parent.permissions
      : Object.freeze([{ domid: actor.domid, access: first?.access ?? Access.NONE }, ...rest]);
    const changes: Change[] = [];
    let below: string | undefined;
    for (const created of missing) {
      const children = below === undefined ? [] : [below];
      changes.push({
        path: created,
        node: { generation: 0, data: below === undefined ? data : noData, permissions, children },
      });
      below = leafName(created);
    }
    changes.push({ path: up, node: { ...parent, children: [...parent.children, below!] } });
    this.#check(actor, changes, [{ path, exact: false, before: [] }]);
  }

  /** Holds changes that add to the store against the actor's quotas, then makes them. */
  #check(actor: Actor, changes: readonly Change[], events: readonly StoreEvent[]): void {
    if (!actor.privileged) {
      let added = 0;
      for (const { path, node } of changes) {
        if (node === undefined) continue;
        if (nodeBytes(node) >= this.quotas.nodeSize) throw new XenStoreError("ENOSPC", path);
        const old = this.lookup(path);
        if (ownerOf(node.permissions) === actor.domid) added++;
        if (old !== undefined && ownerOf(old.permissions) === actor.domid) added--;
      }
      if (added > 0 && this.nodesOwned(actor.domid) + added > this.quotas.nodes) throw new XenStoreError("ENOSPC");
    }
    this.change(changes, events);
  }

  #collect(
    path: string,
    node: StoreNode,
    parent: StoreNode,
    exact: boolean,
    changes: Change[],
    events: StoreEvent[],
  ): void {
    for (const leaf of node.children) {
      const below = childPath(path, leaf);
      const child = this.lookup(below);
      if (child !== undefined) this.#collect(below, child, node, true, changes, events);
    }
    changes.push({ path, node: undefined });
    events.push({ path, exact, before: [node.permissions, parent.permissions] });
  }
}

/** Bytes of a node as its quota counts them. */
function nodeBytes(node: StoreNode): number {
  let bytes = nodeHeaderBytes + node.permissions.length * permissionBytes + node.data.length;
  for (const leaf of node.children) bytes += leaf.length + 1;
  return bytes;
}

/** The store itself. `fire` gets each event once its change is in force. */
export class Store extends StoreView {
  readonly quotas: XenStoreQuotas;
  readonly #nodes = new Map<string, StoreNode>();
  /** Paths whose permissions name a domain other than 0. */
  readonly #named = new Map<number, Set<string>>();
  readonly #owned = new Map<number, number>();
  readonly #fire: (event: StoreEvent) => void;
  #generation = 0;

  constructor(fire: (event: StoreEvent) => void = () => {}, quotas: XenStoreQuotas = defaultQuotas) {
    super();
    this.#fire = fire;
    this.quotas = quotas;
    const permissions = Object.freeze([{ domid: 0, access: Access.NONE }]);
    for (const path of ["/", ...specialNodes])
      this.#put(path, { generation: 0, data: noData, permissions, children: [] });
  }

  /** The node at a path as it is now, without any check. */
  peek(path: string): StoreNode | undefined {
    return this.#nodes.get(path);
  }

  override nodesOwned(domid: number): number {
    return this.#owned.get(domid) ?? 0;
  }

  /** Opens a transaction for an actor. */
  transaction(actor: Actor): StoreTransaction {
    return new StoreTransaction(this, actor);
  }

  /** A generation that no node has had. */
  nextGeneration(): number {
    return ++this.#generation;
  }

  /** Makes changes of a transaction that has been checked. For StoreTransaction alone. */
  applyCommitted(changes: readonly Change[], events: readonly StoreEvent[]): void {
    this.change(changes, events);
  }

  /**
   * Takes a destroyed domain out of all permissions, so that its number can be used again: its entries go, and what it
   * owned belongs to domain 0, closed to others. Tells no watch.
   */
  forgetDomain(domid: number): void {
    if (domid === 0) return;
    for (const path of [...(this.#named.get(domid) ?? [])]) {
      const node = this.#nodes.get(path)!;
      const [first, ...rest] = node.permissions;
      const head = first === undefined || first.domid === domid ? { domid: 0, access: Access.NONE } : first;
      const permissions = Object.freeze([head, ...rest.filter((entry) => entry.domid !== domid)]);
      this.#put(path, { ...node, permissions });
    }
    this.#named.delete(domid);
  }

  /** Every node in depth-first order of creation: for dumps and tests. */
  *entries(from = "/"): Generator<readonly [string, StoreNode]> {
    const node = this.#nodes.get(from);
    if (node === undefined) return;
    yield [from, node];
    for (const leaf of node.children) yield* this.entries(childPath(from, leaf));
  }

  /** Violations of the tree's invariants, one sentence each: none in a sound store (CONTROL check). */
  inconsistencies(): string[] {
    const found: string[] = [];
    const owned = new Map<number, number>();
    let reached = 0;
    for (const [path, node] of this.entries()) {
      reached++;
      count(owned, ownerOf(node.permissions), 1);
      if (new Set(node.children).size !== node.children.length) found.push(`${path} lists a child twice`);
      for (const leaf of node.children)
        if (!this.#nodes.has(childPath(path, leaf))) found.push(`${path} lists ${leaf}, which is missing`);
    }
    for (const path of specialNodes) count(owned, ownerOf(this.#nodes.get(path)?.permissions ?? []), 1);
    if (reached + specialNodes.length !== this.#nodes.size) found.push("a node is not listed by its parent");
    for (const domid of new Set([...owned.keys(), ...this.#owned.keys()])) {
      if ((owned.get(domid) ?? 0) !== this.nodesOwned(domid))
        found.push(`the count of domain ${domid}'s nodes is wrong`);
    }
    return found;
  }

  protected override lookup(path: string): StoreNode | undefined {
    return this.#nodes.get(path);
  }

  protected override change(changes: readonly Change[], events: readonly StoreEvent[]): void {
    for (const { path, node } of changes) this.#put(path, node);
    for (const event of events) this.#fire(event);
  }

  #nameIn(domid: number, path: string): void {
    const paths = this.#named.get(domid);
    if (paths === undefined) this.#named.set(domid, new Set([path]));
    else paths.add(path);
  }

  #put(path: string, node: StoreNode | undefined): void {
    const old = this.#nodes.get(path);
    if (old !== undefined) count(this.#owned, ownerOf(old.permissions), -1);
    if (old?.permissions !== node?.permissions) {
      for (const { domid } of old?.permissions ?? []) if (domid !== 0) this.#named.get(domid)?.delete(path);
      for (const { domid } of node?.permissions ?? []) if (domid !== 0) this.#nameIn(domid, path);
    }
    if (node === undefined) {
      this.#nodes.delete(path);
      return;
    }
    count(this.#owned, ownerOf(node.permissions), 1);
    this.#nodes.set(path, { ...node, generation: this.nextGeneration() });
  }
}

interface Accessed {
  /** The very object that the store held when the path was first looked at. */
  readonly found: StoreNode | undefined;
  current: StoreNode | undefined;
  modified: boolean;
}

/** A transaction. After commit() or when it is dropped it has no further effect. */
export class StoreTransaction extends StoreView {
  protected readonly quotas: XenStoreQuotas;
  readonly #store: Store;
  readonly #actor: Actor;
  readonly #accessed = new Map<string, Accessed>();
  readonly #owned = new Map<number, number>();
  readonly #events = new Map<string, StoreEvent>();

  constructor(store: Store, actor: Actor) {
    super();
    this.#store = store;
    this.#actor = actor;
    this.quotas = store.quotas;
  }

  override nodesOwned(domid: number): number {
    return this.#store.nodesOwned(domid) + (this.#owned.get(domid) ?? 0);
  }

  /** Makes the transaction's changes, or throws: EAGAIN if what it saw has changed, ENOSPC if the owner's quota has been used up. */
  commit(): void {
    const changes: Change[] = [];
    for (const [path, entry] of this.#accessed) {
      if (this.#store.peek(path) !== entry.found) throw new XenStoreError("EAGAIN", path);
      if (entry.modified) changes.push({ path, node: entry.current });
    }
    const { domid, privileged } = this.#actor;
    if (!privileged && (this.#owned.get(domid) ?? 0) > 0 && this.nodesOwned(domid) > this.quotas.nodes) {
      throw new XenStoreError("ENOSPC");
    }
    this.#store.applyCommitted(changes, [...this.#events.values()]);
  }

  protected override lookup(path: string): StoreNode | undefined {
    return this.#access(path).current;
  }

  protected override change(changes: readonly Change[], events: readonly StoreEvent[]): void {
    for (const { path } of changes) this.#access(path); // may refuse: before the first change is made
    for (const { path, node } of changes) {
      const entry = this.#access(path);
      if (entry.current !== undefined) count(this.#owned, ownerOf(entry.current.permissions), -1);
      if (node !== undefined) count(this.#owned, ownerOf(node.permissions), 1);
      entry.current = node === undefined ? undefined : { ...node, generation: this.#store.nextGeneration() };
      entry.modified = true;
    }
    for (const event of events) {
      const old = this.#events.get(event.path);
      const merged = old === undefined ? event : merge(old, event);
      this.#events.set(event.path, merged);
    }
  }

  #access(path: string): Accessed {
    const known = this.#accessed.get(path);
    if (known !== undefined) return known;
    if (!this.#actor.privileged && this.#accessed.size >= this.quotas.transactionNodes)
      throw new XenStoreError("ENOSPC", path);
    const found = this.#store.peek(path);
    const entry = { found, current: found, modified: false };
    this.#accessed.set(path, entry);
    return entry;
  }
}

function merge(old: StoreEvent, event: StoreEvent): StoreEvent {
  return { path: event.path, exact: old.exact && event.exact, before: [...old.before, ...event.before].slice(0, 4) };
}

function count(counts: Map<number, number>, domid: number, by: number): void {
  const next = (counts.get(domid) ?? 0) + by;
  if (next === 0) counts.delete(domid);
  else counts.set(domid, next);
}
