/**
 * The records of Xen's trace buffers (public/trace.h) as this writer needs them, and the buffer of one pCPU.
 *
 * A record is a header word `event | words << 28 | 1 << 31`, two words of TSC, and its words of data. All of this writer's fit in 5 words;
 * they are kept at that stride, and packed when they are handed over. Invariant: a buffer is in order of TSC; records of equal TSC stay in the
 * order of arrival. A record that comes late is put in its place: pCPU clocks differ by a quantum, so that is near the end.
 */

/** Header words, from public/trace.h. */
export const RECORD = Object.freeze({
  /** TRC_TRACE_CPU_CHANGE (TRC_GEN + 3) with two words and no TSC: pCPU, bytes that follow. */
  cpuChange: (0x0001f003 | (2 << 28)) >>> 0,
  /** TRC_SCHED_RUNSTATE_CHANGE, to which `old << 8 | new << 4` is added; one word: domain << 16 | vCPU. */
  runstate: (0x00021001 | (1 << 28) | (1 << 31)) >>> 0,
  /** TRC_SCHED_CONTINUE_RUNNING, the same word. */
  continues: (0x00021002 | (1 << 28) | (1 << 31)) >>> 0,
  /** TRC_PM_FREQ_CHANGE: old, new. */
  frequency: (0x00801001 | (2 << 28) | (1 << 31)) >>> 0,
  /** TRC_PM_IDLE_ENTRY and _EXIT: the idle state. */
  idleEntry: (0x00801002 | (1 << 28) | (1 << 31)) >>> 0,
  idleExit: (0x00801003 | (1 << 28) | (1 << 31)) >>> 0,
});

/** Domain number of the idle domain (xen.h: DOMID_IDLE). */
export const IDLE_DOMAIN = 0x7fff;

const STRIDE = 5;
const HIGH = 2 ** 32;

/** Records of one pCPU that are not handed over yet. */
export class RecordBuffer {
  #words = new Uint32Array(STRIDE * 256);
  #used = 0;
  /** TSC of the newest record; 0: there is none. */
  #last = 0;

  get records(): number {
    return this.#used / STRIDE;
  }

  /** Adds a record of one word of data, or of two. */
  add(header: number, tsc: number, first: number, second = 0): void {
    if (this.#used === this.#words.length) this.#grow();
    const words = this.#words;
    let at = this.#used;
    if (tsc < this.#last) {
      while (at > 0 && words[at - 3]! * HIGH + words[at - 4]! > tsc) at -= STRIDE;
      words.copyWithin(at + STRIDE, at, this.#used);
    } else this.#last = tsc;
    words[at] = header;
    words[at + 1] = tsc % HIGH;
    words[at + 2] = tsc / HIGH;
    words[at + 3] = first;
    words[at + 4] = second;
    this.#used += STRIDE;
  }

  #grow(): void {
    const words = new Uint32Array(this.#words.length * 2);
    words.set(this.#words);
    this.#words = words;
  }

  /** Takes out what is not after `tsc`: the records, packed, little-endian, behind a cpu-change record. */
  take(pcpu: number, tsc: number): Uint8Array {
    const words = this.#words;
    let end = 0;
    let size = 0;
    while (end < this.#used && words[end + 2]! * HIGH + words[end + 1]! <= tsc) {
      size += 3 + ((words[end]! >>> 28) & 7);
      end += STRIDE;
    }
    const bytes = new Uint8Array(12 + size * 4);
    const view = new DataView(bytes.buffer);
    view.setUint32(0, RECORD.cpuChange, true);
    view.setUint32(4, pcpu, true);
    view.setUint32(8, size * 4, true);
    let out = 12;
    for (let at = 0; at < end; at += STRIDE) {
      const length = 3 + ((words[at]! >>> 28) & 7);
      for (let i = 0; i < length; i++, out += 4) view.setUint32(out, words[at + i]!, true);
    }
    words.copyWithin(0, end, this.#used);
    this.#used -= end;
    if (this.#used === 0) this.#last = 0;
    return bytes;
  }
}
