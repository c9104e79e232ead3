/** Doubly linked lists through their items: O(1) for everything, and no allocation. */

/** Something that is in one list at a time. */
export interface Linked<T> {
  previous: T | null;
  next: T | null;
}

/** A doubly linked list through its items. */
export class LinkedList<T extends Linked<T>> {
  first: T | null = null;
  last: T | null = null;

  append(item: T): void {
    item.previous = this.last;
    item.next = null;
    if (this.last === null) this.first = item;
    else this.last.next = item;
    this.last = item;
  }

  prepend(item: T): void {
    item.previous = null;
    item.next = this.first;
    if (this.first === null) this.last = item;
    else this.first.previous = item;
    this.first = item;
  }

  insertAfter(item: T, before: T): void {
    if (before.next === null) {
      this.append(item);
      return;
    }
    item.previous = before;
    item.next = before.next;
    before.next.previous = item;
    before.next = item;
  }

  remove(item: T): void {
    if (item.previous === null) this.first = item.next;
    else item.previous.next = item.next;
    if (item.next === null) this.last = item.previous;
    else item.next.previous = item.previous;
    item.previous = null;
    item.next = null;
  }
}
