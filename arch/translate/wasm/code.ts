/**
 * A small WebAssembly encoder: instructions, function bodies.
 *
 * `Code` writes instructions into one preallocated byte array. Labels are objects that remember their depth, so that a
 * branch names its target instead of counting blocks. An `Expr` is a function that writes an expression (or, as a
 * statement, something that leaves the stack as it was): emitters compose them (see expr.ts).
 */

/** Value types and the empty block type. */
export const I32 = 0x7f;
export const I64 = 0x7e;
export const F32 = 0x7d;
export const F64 = 0x7c;
export const V128 = 0x7b;
export const VOID = 0x40;

/** Writes code: an expression that pushes its value, or a statement. */
export type Expr = (w: Code) => void;

/** A branch target: the depth of its block. */
export interface Label {
  readonly depth: number;
}

export class Code {
  bytes: Uint8Array;
  length = 0;
  #depth = 0;
  #view: DataView;

  constructor(capacity = 1 << 16) {
    this.bytes = new Uint8Array(capacity);
    this.#view = new DataView(this.bytes.buffer);
  }

  #room(n: number): void {
    if (this.length + n <= this.bytes.length) return;
    const grown = new Uint8Array(Math.max(this.bytes.length * 2, this.length + n));
    grown.set(this.bytes.subarray(0, this.length));
    this.bytes = grown;
    this.#view = new DataView(grown.buffer);
  }

  u8(value: number): void {
    this.#room(1);
    this.bytes[this.length++] = value;
  }

  /** Unsigned LEB128 of a u32. */
  u32(value: number): void {
    this.#room(5);
    let v = value >>> 0;
    while (v >= 0x80) {
      this.bytes[this.length++] = (v & 0x7f) | 0x80;
      v >>>= 7;
    }
    this.bytes[this.length++] = v;
  }

  /** Signed LEB128 of an i32. */
  s32(value: number): void {
    this.#room(5);
    let v = value | 0;
    for (;;) {
      const byte = v & 0x7f;
      v >>= 7;
      if ((v === 0 && (byte & 0x40) === 0) || (v === -1 && (byte & 0x40) !== 0)) {
        this.bytes[this.length++] = byte;
        return;
      }
      this.bytes[this.length++] = byte | 0x80;
    }
  }

  /** Signed LEB128 of an i64 given as two 32-bit halves. */
  s64(lo: number, hi: number): void {
    this.#room(10);
    let l = lo | 0;
    let h = hi | 0;
    for (;;) {
      const byte = l & 0x7f;
      l = (l >>> 7) | (h << 25);
      h >>= 7;
      const sign = (byte & 0x40) !== 0;
      if ((l === 0 && h === 0 && !sign) || (l === -1 && h === -1 && sign)) {
        this.bytes[this.length++] = byte;
        return;
      }
      this.bytes[this.length++] = byte | 0x80;
    }
  }

  f64(value: number): void {
    this.#room(8);
    this.#view.setFloat64(this.length, value, true);
    this.length += 8;
  }

  raw(bytes: Uint8Array): void {
    this.#room(bytes.length);
    this.bytes.set(bytes, this.length);
    this.length += bytes.length;
  }

  /** A length-prefixed UTF-8 name. */
  name(text: string): void {
    const bytes = new TextEncoder().encode(text);
    this.u32(bytes.length);
    this.raw(bytes);
  }

  // Control.

  /** Opens a block whose label is its end; `type` is its result. */
  block(type = VOID): Label {
    this.u8(0x02);
    this.u8(type);
    return { depth: this.#depth++ };
  }

  /** Opens a loop whose label is its start. */
  loop(type = VOID): Label {
    this.u8(0x03);
    this.u8(type);
    return { depth: this.#depth++ };
  }

  /** Opens an if on the i32 on the stack. */
  if(type = VOID): Label {
    this.u8(0x04);
    this.u8(type);
    return { depth: this.#depth++ };
  }

  else(): void {
    this.u8(0x05);
  }

  end(): void {
    this.#depth--;
    this.u8(0x0b);
  }

  br(label: Label): void {
    this.u8(0x0c);
    this.u32(this.#depth - 1 - label.depth);
  }

  brIf(label: Label): void {
    this.u8(0x0d);
    this.u32(this.#depth - 1 - label.depth);
  }

  /** br_table over `labels`, the last one being the default. */
  brTable(labels: readonly Label[]): void {
    this.u8(0x0e);
    this.u32(labels.length - 1);
    for (const label of labels) this.u32(this.#depth - 1 - label.depth);
  }

  return(): void {
    this.u8(0x0f);
  }

  call(index: number): void {
    this.u8(0x10);
    this.u32(index);
  }

  unreachable(): void {
    this.u8(0x00);
  }

  drop(): void {
    this.u8(0x1a);
  }

  // Variables and constants.

  get(local: number): void {
    this.u8(0x20);
    this.u32(local);
  }

  set(local: number): void {
    this.u8(0x21);
    this.u32(local);
  }

  tee(local: number): void {
    this.u8(0x22);
    this.u32(local);
  }

  i32(value: number): void {
    this.u8(0x41);
    this.s32(value);
  }

  /** i64.const of two halves; `hi` defaults to the sign of `lo`. */
  i64(lo: number, hi = lo >> 31): void {
    this.u8(0x42);
    this.s64(lo, hi);
  }

  /** A plain instruction, or a prefixed one given as prefix << 16 | number (0xfd0000 | n for SIMD). */
  op(code: number): void {
    if (code < 0x100) {
      this.u8(code);
      return;
    }
    this.u8(code >>> 16);
    this.u32(code & 0xffff);
  }

  /** Loads or stores: instruction, memory index, constant offset; alignment is declared as 1 byte. */
  memory(code: number, memory: number, offset: number): void {
    this.op(code);
    if (memory === 0) {
      this.u32(0);
    } else {
      this.u32(0x40);
      this.u32(memory);
    }
    this.u32(offset);
  }
}
