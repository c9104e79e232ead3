/**
 * pCPUs in the order of their next event: an indexed binary heap over (time, number).
 *
 * Invariants: every pCPU is in it, at Infinity when nothing will happen on it by itself; equal times go by the lower number.
 */
import type { Nanoseconds } from "../machine/timers.ts";

export class PcpuQueue {
  readonly #keys: Float64Array;
  /** pCPU numbers in heap order, and where each one is. */
  readonly #heap: Int32Array;
  readonly #at: Int32Array;

  constructor(pcpus: number) {
    this.#keys = new Float64Array(pcpus).fill(Infinity);
    this.#heap = Int32Array.from({ length: pcpus }, (_, i) => i);
    this.#at = Int32Array.from({ length: pcpus }, (_, i) => i);
  }

  /** Number of the pCPU whose event is next. */
  get first(): number {
    return this.#heap[0]!;
  }

  /** Time of the next event. */
  get firstKey(): Nanoseconds {
    return this.#keys[this.#heap[0]!]!;
  }

  /** Time of the event after the next. */
  get secondKey(): Nanoseconds {
    const heap = this.#heap;
    const left = heap.length > 1 ? this.#keys[heap[1]!]! : Infinity;
    const right = heap.length > 2 ? this.#keys[heap[2]!]! : Infinity;
    return left < right ? left : right;
  }

  keyOf(pcpu: number): Nanoseconds {
    return this.#keys[pcpu]!;
  }

  /** Gives a pCPU's next event another time. */
  set(pcpu: number, key: Nanoseconds): void {
    const keys = this.#keys;
    const before = keys[pcpu]!;
    if (before === key) return;
    keys[pcpu] = key;
    if (key < before) this.#up(this.#at[pcpu]!);
    else this.#down(this.#at[pcpu]!);
  }

  #less(a: number, b: number): boolean {
    const x = this.#keys[a]!;
    const y = this.#keys[b]!;
    return x < y || (x === y && a < b);
  }

  #place(pcpu: number, at: number): void {
    this.#heap[at] = pcpu;
    this.#at[pcpu] = at;
  }

  #up(from: number): void {
    let at = from;
    const pcpu = this.#heap[at]!;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      const above = this.#heap[parent]!;
      if (!this.#less(pcpu, above)) break;
      this.#place(above, at);
      at = parent;
    }
    this.#place(pcpu, at);
  }

  #down(from: number): void {
    let at = from;
    const heap = this.#heap;
    const pcpu = heap[at]!;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && this.#less(heap[child + 1]!, heap[child]!)) child++;
      const below = heap[child]!;
      if (!this.#less(below, pcpu)) break;
      this.#place(below, at);
      at = child;
    }
    this.#place(pcpu, at);
  }
}
