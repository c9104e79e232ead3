/**
 * Where in the major frame a time lies: consecutive windows, then perhaps a rest in which nobody runs, over and over.
 *
 * Invariant: frame n begins at origin + n * length and its windows at fixed offsets in it, whenever somebody last looked: a decision that
 * comes late shortens its window and moves none.
 */
import type { Nanoseconds } from "hookvisor";

export class MajorFrame {
  /** A time at which a frame begins. */
  #origin: Nanoseconds;
  /** Offsets in the frame at which each window ends. */
  readonly #ends: Nanoseconds[] = [];
  #length: Nanoseconds = 0;
  // What `locate` found, valid from #from up to `until`.
  #from: Nanoseconds = Infinity;
  /** The window that `locate` found; -1: none. */
  index = -1;
  /** When it ends; Infinity: there is no window at all. */
  until: Nanoseconds = -Infinity;

  constructor(origin: Nanoseconds) {
    this.#origin = origin;
  }

  /** A frame that begins at `origin`, of windows of these lengths; `length` 0: as long as they are together. */
  static of(windows: readonly Nanoseconds[], length: Nanoseconds, origin: Nanoseconds): MajorFrame {
    const frame = new MajorFrame(origin);
    for (const window of windows) frame.append(window);
    if (length !== 0) frame.#length = length;
    return frame;
  }

  get length(): Nanoseconds {
    return this.#length;
  }

  /** How far into a frame `now` is. */
  phase(now: Nanoseconds): Nanoseconds {
    if (this.#length === 0) return 0;
    const phase = (now - this.#origin) % this.#length;
    return phase < 0 ? phase + this.#length : phase;
  }

  /** Sets `index` and `until` for `now`. */
  locate(now: Nanoseconds): void {
    if (now >= this.#from && now < this.until) return;
    const phase = this.phase(now);
    const start = now - phase;
    const ends = this.#ends;
    let low = 0;
    let high = ends.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (ends[middle]! > phase) high = middle;
      else low = middle + 1;
    }
    this.#from = now;
    this.index = low < ends.length ? low : -1;
    this.until = this.#length === 0 ? Infinity : start + (ends[low] ?? this.#length);
  }

  /** One more window at the end; the present one and those before go on as they are. */
  append(window: Nanoseconds, now: Nanoseconds = this.#origin): void {
    const origin = now - this.phase(now);
    this.#length += window;
    this.#ends.push((this.#ends.at(-1) ?? 0) + window);
    this.#begin(origin);
  }

  /** Takes window `index` out; when it is the present one, the next begins now, otherwise the present one goes on as it is. */
  remove(index: number, now: Nanoseconds): void {
    const start = this.#ends[index - 1] ?? 0;
    const window = this.#ends[index]! - start;
    let phase = this.phase(now);
    if (phase >= start + window) phase -= window;
    else if (phase > start) phase = start;
    this.#ends.splice(index, 1);
    for (let i = index; i < this.#ends.length; i++) this.#ends[i]! -= window;
    this.#length -= window;
    this.#begin(now - phase);
  }

  #begin(origin: Nanoseconds): void {
    this.#origin = origin;
    this.#from = Infinity;
    this.until = -Infinity;
  }
}
