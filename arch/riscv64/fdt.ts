/**
 * Flattened device trees: a writer, and a reader that takes none but whole ones.
 *
 * Source: Devicetree Specification 0.4, chapter 5 (format of version 17, which programs of version 16 read) and 2.3 (property values).
 * All integers are big-endian. Invariant: what `writeFdt` makes, `readFdt` gives back; a blob that makes no sense is null, never an exception.
 */

const MAGIC = 0xd00dfeed;
const VERSION = 17;
const COMPATIBLE_VERSION = 16;
const HEADER = 40;

const BEGIN_NODE = 1;
const END_NODE = 2;
const PROP = 3;
const NOP = 4;
const END = 9;

/** Deepest tree that is read. */
const MOST_DEPTH = 64;

/** A property's value: text, several texts, 32-bit cells, raw bytes, or nothing (a flag). */
export type FdtValue = string | readonly string[] | readonly number[] | Uint8Array | true;

/** A node: properties in order, then children in order. */
export interface FdtNode {
  /** With its unit address: `memory@80000000`; empty for the root. */
  readonly name: string;
  readonly properties: ReadonlyMap<string, FdtValue>;
  readonly children: readonly FdtNode[];
}

/** A node as it is read: values are bytes. */
export interface FdtParsed {
  readonly name: string;
  readonly properties: ReadonlyMap<string, Uint8Array>;
  readonly children: readonly FdtParsed[];
}

/** Memory that the tree's reader leaves alone, in bytes. */
export interface FdtReservation {
  readonly address: number;
  readonly size: number;
}

/** Makes a node; undefined properties are left out. */
export function node(
  name: string,
  properties: Readonly<Record<string, FdtValue | undefined>>,
  children: readonly FdtNode[] = [],
): FdtNode {
  const map = new Map<string, FdtValue>();
  for (const [key, value] of Object.entries(properties)) if (value !== undefined) map.set(key, value);
  return { name, properties: map, children };
}

/** Two cells of a number below 2^53. */
export function cells64(value: number): [number, number] {
  return [Math.floor(value / 0x1_0000_0000), value >>> 0];
}

const latin1 = (text: string): Uint8Array => Uint8Array.from(text, (c) => c.charCodeAt(0) & 0xff);
const withEnd = (text: string): Uint8Array => latin1(`${text}\0`);

/** The bytes of a value. */
export function fdtBytes(value: FdtValue): Uint8Array {
  if (value === true) return new Uint8Array(0);
  if (value instanceof Uint8Array) return value;
  if (typeof value === "string") return withEnd(value);
  if (value.length > 0 && typeof value[0] === "string")
    return latin1((value as readonly string[]).map((text) => `${text}\0`).join(""));
  const bytes = new Uint8Array(4 * value.length);
  const view = new DataView(bytes.buffer);
  for (const [i, cell] of (value as readonly number[]).entries()) view.setUint32(4 * i, cell >>> 0);
  return bytes;
}

/** Bytes that grow. */
class Growing {
  #bytes = new Uint8Array(4096);
  length = 0;

  u32(value: number): void {
    this.#room(4);
    new DataView(this.#bytes.buffer).setUint32(this.length, value >>> 0);
    this.length += 4;
  }

  put(bytes: Uint8Array): void {
    this.#room(bytes.length);
    this.#bytes.set(bytes, this.length);
    this.length += bytes.length;
  }

  align(to: number): void {
    while (this.length % to !== 0) this.put(Uint8Array.of(0));
  }

  #room(more: number): void {
    if (this.length + more <= this.#bytes.length) return;
    const bigger = new Uint8Array(2 * (this.length + more));
    bigger.set(this.#bytes.subarray(0, this.length));
    this.#bytes = bigger;
  }

  get bytes(): Uint8Array {
    return this.#bytes.subarray(0, this.length);
  }
}

/** Makes the blob. `boot`: the number (reg) of the CPU that starts. */
export function writeFdt(root: FdtNode, reservations: readonly FdtReservation[] = [], boot = 0): Uint8Array {
  const structure = new Growing();
  const strings = new Growing();
  const offsets = new Map<string, number>();
  const offsetOf = (name: string): number => {
    let at = offsets.get(name);
    if (at === undefined) {
      at = strings.length;
      offsets.set(name, at);
      strings.put(withEnd(name));
    }
    return at;
  };
  const write = (one: FdtNode): void => {
    structure.u32(BEGIN_NODE);
    structure.put(withEnd(one.name));
    structure.align(4);
    for (const [name, value] of one.properties) {
      const bytes = fdtBytes(value);
      structure.u32(PROP);
      structure.u32(bytes.length);
      structure.u32(offsetOf(name));
      structure.put(bytes);
      structure.align(4);
    }
    for (const child of one.children) write(child);
    structure.u32(END_NODE);
  };
  write(root);
  structure.u32(END);

  const out = new Growing();
  const reserved = HEADER;
  const structureAt = reserved + 16 * (reservations.length + 1);
  const stringsAt = structureAt + structure.length;
  // A whole number of 8 bytes, as who copies it likes it.
  const total = (stringsAt + strings.length + 7) & ~7;
  for (const word of [
    MAGIC,
    total,
    structureAt,
    stringsAt,
    reserved,
    VERSION,
    COMPATIBLE_VERSION,
    boot,
    strings.length,
    structure.length,
  ])
    out.u32(word);
  for (const { address, size } of [...reservations, { address: 0, size: 0 }])
    for (const cell of [...cells64(address), ...cells64(size)]) out.u32(cell);
  out.put(structure.bytes);
  out.put(strings.bytes);
  out.align(8);
  return out.bytes.slice();
}

/** The text at an offset, up to its zero; null: it has no end before `end`. */
function textAt(blob: Uint8Array, at: number, end: number): string | null {
  const zero = blob.indexOf(0, at);
  if (at > end || zero < 0 || zero >= end) return null;
  // Not spread: arguments of a call are limited, and the blob may be anything.
  let text = "";
  for (const byte of blob.subarray(at, zero)) text += String.fromCharCode(byte);
  return text;
}

/** The tree in a blob; null: it is none. */
export function readFdt(blob: Uint8Array): FdtParsed | null {
  if (blob.length < HEADER) return null;
  const view = new DataView(blob.buffer, blob.byteOffset, blob.byteLength);
  const [magic, total, structureAt, stringsAt, , , compatible, , stringsSize, structureSize] = Array.from(
    { length: 10 },
    (_, i) => view.getUint32(4 * i),
  ) as [number, number, number, number, number, number, number, number, number, number];
  const stringsEnd = stringsAt + stringsSize;
  const end = structureAt + structureSize;
  if (magic !== MAGIC || total > blob.length || compatible > VERSION || end > total || stringsEnd > total) return null;
  if (structureAt % 4 !== 0) return null;

  interface Open {
    readonly name: string;
    readonly properties: Map<string, Uint8Array>;
    readonly children: FdtParsed[];
  }
  const open: Open[] = [];
  for (let at = structureAt; at + 4 <= end; ) {
    const token = view.getUint32(at);
    at += 4;
    if (token === NOP) continue;
    if (token === BEGIN_NODE) {
      const name = textAt(blob, at, end);
      if (name === null || open.length === MOST_DEPTH) return null;
      open.push({ name, properties: new Map(), children: [] });
      at += (name.length + 4) & ~3;
    } else if (token === PROP) {
      const here = open.at(-1);
      if (here === undefined || at + 8 > end) return null;
      const length = view.getUint32(at);
      const name = textAt(blob, stringsAt + view.getUint32(at + 4), stringsEnd);
      if (name === null || at + 8 + length > end) return null;
      here.properties.set(name, blob.slice(at + 8, at + 8 + length));
      at += 8 + ((length + 3) & ~3);
    } else if (token === END_NODE) {
      const closed = open.pop();
      if (closed === undefined) return null;
      const parent = open.at(-1);
      if (parent === undefined) return at + 4 <= end && view.getUint32(at) === END ? closed : null;
      parent.children.push(closed);
    } else return null;
  }
  return null;
}
