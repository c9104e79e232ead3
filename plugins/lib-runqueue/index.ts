/**
 * A run queue: an ordered multiset by (number key, order of insertion), for schedulers of every kind.
 *
 * A treap (binary search tree by key, heap by a pseudo-random rank) whose nodes are also threaded into a list in order: the first and
 * the next item cost O(1), adding and removing an expected O(log n) whatever the order of keys, and O(1) rotations.
 * Invariants: the list is in order of key, equal keys in order of insertion; the tree's in-order walk is the list; ranks come from a
 * generator of the queue's own with a fixed seed, so equal operations give equal trees in every run.
 * Nodes are recycled: a queue in its steady state allocates nothing.
 */

/** A node; `item` is undefined exactly while it is in the free list (linked by `next`). */
interface Node<T> {
  item: T | undefined;
  key: number;
  rank: number;
  parent: Node<T> | null;
  left: Node<T> | null;
  right: Node<T> | null;
  previous: Node<T> | null;
  next: Node<T> | null;
}

/** Nodes kept for reuse at most. */
const KEPT = 1024;

/** An ordered multiset of items by a number key; an item is in it at most once. Equal keys come in the order in which they were added. */
export class OrderedQueue<T> {
  readonly #nodes = new Map<T, Node<T>>();
  #root: Node<T> | null = null;
  #first: Node<T> | null = null;
  #last: Node<T> | null = null;
  #free: Node<T> | null = null;
  #freeCount = 0;
  #seed = 0x9e3779b9;

  /** Number of items. */
  get size(): number {
    return this.#nodes.size;
  }

  /** Whether the item is in the queue. */
  has(item: T): boolean {
    return this.#nodes.has(item);
  }

  /** The key that the item was added with; undefined: it is not in the queue. */
  keyOf(item: T): number | undefined {
    return this.#nodes.get(item)?.key;
  }

  /** The item with the lowest key, of those the one added first; null: the queue is empty. */
  first(): T | null {
    return this.#first === null ? null : (this.#first.item as T);
  }

  /** The item with the highest key, of those the one added last; null: the queue is empty. */
  last(): T | null {
    return this.#last === null ? null : (this.#last.item as T);
  }

  /** The lowest key; Infinity: the queue is empty. */
  firstKey(): number {
    return this.#first === null ? Infinity : this.#first.key;
  }

  /** The item behind `item`; null: it is the last, or is not in the queue. */
  next(item: T): T | null {
    const next = this.#nodes.get(item)?.next ?? null;
    return next === null ? null : (next.item as T);
  }

  /**
   * Adds an item behind those of its key; one that is in the queue already is moved there.
   * @throws RangeError for a key that is not a number (NaN).
   */
  add(item: T, key: number): void {
    if (Number.isNaN(key)) throw new RangeError("A key of a run queue must be a number, got NaN.");
    if (this.#nodes.has(item)) this.remove(item);
    const node = this.#take(item, key);
    this.#nodes.set(item, node);
    this.#attach(node);
    while (node.parent !== null && node.parent.rank < node.rank) this.#rotateUp(node);
  }

  /** Takes an item out; false: it was not in the queue. */
  remove(item: T): boolean {
    const node = this.#nodes.get(item);
    if (node === undefined) return false;
    this.#nodes.delete(item);
    for (;;) {
      const { left, right } = node;
      if (left === null || right === null) break;
      this.#rotateUp(left.rank > right.rank ? left : right);
    }
    this.#replace(node, node.left ?? node.right);
    if (node.previous === null) this.#first = node.next;
    else node.previous.next = node.next;
    if (node.next === null) this.#last = node.previous;
    else node.next.previous = node.previous;
    this.#give(node);
    return true;
  }

  /** Takes the first item out and returns it; null: the queue is empty. */
  shift(): T | null {
    const item = this.first();
    if (item !== null) this.remove(item);
    return item;
  }

  /** Takes everything out. */
  clear(): void {
    this.#nodes.clear();
    this.#root = null;
    this.#first = null;
    this.#last = null;
  }

  /** The items in order; the one just visited may be removed meanwhile, others may not. */
  *[Symbol.iterator](): IterableIterator<T> {
    let node = this.#first;
    while (node !== null) {
      const { next } = node;
      yield node.item as T;
      node = next;
    }
  }

  /** Length of the longest path of the tree (0: empty), for tests: logarithmic with all but certainty. O(n). */
  height(): number {
    const depth = (node: Node<T> | null): number =>
      node === null ? 0 : 1 + Math.max(depth(node.left), depth(node.right));
    return depth(this.#root);
  }

  /** Hangs a node into tree and list as a leaf. Both ends, where most items go, need no descent. */
  #attach(node: Node<T>): void {
    const { key } = node;
    const [first, last] = [this.#first, this.#last];
    if (first === null || last === null) {
      this.#root = node;
      this.#first = node;
      this.#last = node;
      return;
    }
    let parent = last;
    let before = false;
    if (key < last.key) {
      if (key < first.key) {
        parent = first;
        before = true;
      } else {
        for (let at = this.#root; at !== null; at = before ? at.left : at.right) {
          parent = at;
          before = key < at.key;
        }
      }
    }
    node.parent = parent;
    if (before) {
      parent.left = node;
      node.next = parent;
      node.previous = parent.previous;
      if (node.previous === null) this.#first = node;
      else node.previous.next = node;
      parent.previous = node;
    } else {
      parent.right = node;
      node.previous = parent;
      node.next = parent.next;
      if (node.next === null) this.#last = node;
      else node.next.previous = node;
      parent.next = node;
    }
  }

  /** Puts `child` where `node` hangs. */
  #replace(node: Node<T>, child: Node<T> | null): void {
    const { parent } = node;
    if (child !== null) child.parent = parent;
    if (parent === null) this.#root = child;
    else if (parent.left === node) parent.left = child;
    else parent.right = child;
  }

  /** Exchanges a node with its parent, keeping the order. */
  #rotateUp(node: Node<T>): void {
    const parent = node.parent!;
    this.#replace(parent, node);
    const isLeft = parent.left === node;
    const inner = isLeft ? node.right : node.left;
    if (isLeft) {
      parent.left = inner;
      node.right = parent;
    } else {
      parent.right = inner;
      node.left = parent;
    }
    if (inner !== null) inner.parent = parent;
    parent.parent = node;
  }

  /** A node for an item, with its rank (xorshift32). */
  #take(item: T, key: number): Node<T> {
    let seed = this.#seed;
    seed ^= seed << 13;
    seed ^= seed >>> 17;
    seed ^= seed << 5;
    this.#seed = seed;
    const node = this.#free;
    if (node === null)
      return { item, key, rank: seed, parent: null, left: null, right: null, previous: null, next: null };
    this.#free = node.next;
    this.#freeCount--;
    node.item = item;
    node.key = key;
    node.rank = seed;
    node.next = null;
    return node;
  }

  #give(node: Node<T>): void {
    node.item = undefined;
    node.parent = null;
    node.left = null;
    node.right = null;
    node.previous = null;
    node.next = null;
    if (this.#freeCount >= KEPT) return;
    node.next = this.#free;
    this.#free = node;
    this.#freeCount++;
  }
}
