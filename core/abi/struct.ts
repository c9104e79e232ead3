/**
 * A declarative codec for C structures in guest memory: `defineStruct("evtchn_send", { port: "u32" })`.
 *
 * A definition lists fields in the order of the header; `at(abi)` computes sizes and offsets by C's rules for one word size,
 * byte order and alignment of 64-bit integers, once per such combination. Every scalar that a path of names reaches is a `Field`
 * with `offset`, `size` and accessors over a DataView; nothing there allocates. A path goes through nested structures, unions and
 * one level of arrays (`"console.domU.mfn"`, `"trap_ctxt.cs"` with an index); TypeScript checks paths.
 *
 * Conventions:
 *  - fields of up to 32 bits are numbers: `get`, `set`;
 *  - fields that are 64-bit in some ABI (u64, i64, ulong, handle) are two halves in every ABI: `getLo`, `getHi`, `setLoHi`
 *    (where such a field is 32-bit, the high half reads 0 and is dropped on writing); `getNumber` gives a double, exact below
 *    2^53 and the nearest double above, so that a comparison with any limit below 2^53 holds;
 *  - `read` gives `{lo, hi}` (unsigned) for those fields, always; `write` takes `{lo, hi}` or a number.
 * A base or an index outside is a fault of the caller and throws RangeError: check what a guest hands over before.
 */

/** What decides a C structure's layout. An arch backend's ABI has these among its own. */
export interface Abi {
  /** Bytes of `unsigned long` and of a pointer. */
  readonly wordBytes: 4 | 8;
  readonly endian: "little" | "big";
  /** Alignment of a 64-bit integer within a structure: 4 on i386, else 8. */
  readonly align64: 4 | 8;
}

export const ABI_X86_64: Abi = Object.freeze({ wordBytes: 8, endian: "little", align64: 8 });
export const ABI_X86_32: Abi = Object.freeze({ wordBytes: 4, endian: "little", align64: 4 });

/** A 64-bit value as two unsigned 32-bit halves. */
export interface U64 {
  readonly lo: number;
  readonly hi: number;
}

/** Types of at most 32 bits. */
export type NarrowScalar = "u8" | "u16" | "u32" | "i8" | "i16" | "i32";
/** Types of 64 bits in some ABI. `u64_aligned` is 8-aligned everywhere; `handle` is a guest pointer. */
export type WideScalar = "u64" | "i64" | "u64_aligned" | "ulong" | "handle";
export type Scalar = NarrowScalar | WideScalar;

export type Count = number | ((abi: Abi) => number);
/** What an array may hold: an array of arrays needs a structure between. */
export type ElementType = Scalar | StructType;
export interface ArrayType<T extends ElementType = ElementType> {
  readonly kind: "array";
  readonly of: T;
  readonly count: Count;
}
export interface WhenType<T extends ElementType | ArrayType = ElementType | ArrayType> {
  readonly kind: "when";
  readonly of: T;
  readonly present: (abi: Abi) => boolean;
}
export interface PadType {
  readonly kind: "pad";
  readonly bytes: number;
  readonly align: number;
}
export interface StructType {
  readonly kind: "struct";
  readonly name: string;
  readonly union: boolean;
  readonly spec: FieldSpecs;
  at(abi: Abi): LayoutBase;
}
export type FieldType = Scalar | ArrayType | WhenType | PadType | StructType;
export interface FieldSpecs {
  readonly [name: string]: FieldType;
}

/** `count` elements of a type; 0 is a flexible array member, whose index is not checked. The count may depend on the ABI. */
export function array<const T extends ElementType>(of: T, count: Count): ArrayType<T> {
  return { kind: "array", of, count };
}

/** A field that exists in some ABIs only. Elsewhere it takes no room, reads as undefined, and its accessors throw. */
export function when<const T extends ElementType | ArrayType>(present: (abi: Abi) => boolean, of: T): WhenType<T> {
  return { kind: "when", of, present };
}

/** Explicit padding: no path reaches it, and `write` leaves it alone. */
export function pad(bytes: number, align = 1): PadType {
  return { kind: "pad", bytes, align };
}

/** True for the ABI of i386, where Xen's headers have a few fields elsewhere. */
export function isI386(abi: Abi): boolean {
  return abi.wordBytes === 4 && abi.align64 === 4 && abi.endian === "little";
}

type PathIn<K extends string, T, S, InArray extends boolean> =
  T extends ArrayType<infer E>
    ? InArray extends true
      ? never
      : (ArrayType extends S ? K : never) | PathIn<K, E, S, true>
    : T extends WhenType<infer O>
      ? PathIn<K, O, S, InArray>
      : T extends { readonly kind: "struct"; readonly spec: infer G extends FieldSpecs }
        ? (ArrayType extends S ? K : never) | `${K}.${PathOf<G, S, InArray>}`
        : T extends S
          ? K
          : never;
type PathOf<F extends FieldSpecs, S, InArray extends boolean = false> = string extends keyof F
  ? string
  : { [K in keyof F & string]: PathIn<K, F[K], S, InArray> }[keyof F & string];

/** Paths of the fields of at most 32 bits. */
export type NarrowPath<F extends FieldSpecs> = PathOf<F, NarrowScalar>;
/** Paths of the fields of 64 bits in some ABI. */
export type WidePath<F extends FieldSpecs> = PathOf<F, WideScalar>;
/** Every path, nested structures and arrays included. */
export type AnyPath<F extends FieldSpecs> = PathOf<F, Scalar | ArrayType>;

export type ValueOf<T> = T extends NarrowScalar
  ? number
  : T extends WideScalar
    ? U64
    : T extends ArrayType<infer E>
      ? ValueOf<E>[]
      : T extends WhenType<infer O>
        ? ValueOf<O> | undefined
        : T extends { readonly kind: "struct"; readonly spec: infer G extends FieldSpecs }
          ? Values<G>
          : never;
/** What `read` gives. */
export type Values<F extends FieldSpecs> = { [K in keyof F as F[K] extends PadType ? never : K]: ValueOf<F[K]> };

export type InputOf<T> = T extends NarrowScalar
  ? number
  : T extends WideScalar
    ? number | U64
    : T extends ArrayType<infer E>
      ? ArrayLike<InputOf<E>>
      : T extends WhenType<infer O>
        ? InputOf<O> | undefined
        : T extends { readonly kind: "struct"; readonly spec: infer G extends FieldSpecs }
          ? Inputs<G>
          : never;
/** What `write` takes: any of the fields; those left out keep what memory has. */
export type Inputs<F extends FieldSpecs> = { [K in keyof F as F[K] extends PadType ? never : K]?: InputOf<F[K]> };

const GROUP = 0;
const U8 = 1;
const I8 = 2;
const U16 = 3;
const I16 = 4;
const U32 = 5;
const I32 = 6;
const U64_CODE = 7;
const I64_CODE = 8;
const TWO32 = 4294967296;

/** Where one path is in a structure, and how to reach it. `index` counts the elements of the array on the path, if there is one. */
export class Field {
  readonly path: string;
  /** Bytes from the structure's start to the (first) element. */
  readonly offset: number;
  /** Bytes of one element. */
  readonly size: number;
  /** Bytes from one element to the next. */
  readonly stride: number;
  /** Elements; 1 without an array on the path, 0 for a flexible array member. */
  readonly count: number;
  /** True if the path names an array itself, not something below one. */
  readonly isArray: boolean;
  /** False if this ABI has no such field. */
  readonly present: boolean;
  readonly #code: number;
  readonly #little: boolean;

  constructor(path: string, at: FieldPlace, code: number, little: boolean) {
    this.path = path;
    this.offset = at.offset;
    this.size = at.size;
    this.stride = at.stride;
    this.count = at.count;
    this.isArray = at.isArray;
    this.present = at.present;
    this.#code = code;
    this.#little = little;
  }

  /** Offset of the element `index` from the structure's start. */
  at(index: number): number {
    if (index >>> 0 !== index || (index >= this.count && this.count !== 0) || !this.present)
      this.#refuse(`element ${index}`);
    return this.offset + index * this.stride;
  }

  /** A field of at most 32 bits. */
  get(view: DataView, base: number, index = 0): number {
    const at = base + this.at(index);
    switch (this.#code) {
      case U8:
        return view.getUint8(at);
      case I8:
        return view.getInt8(at);
      case U16:
        return view.getUint16(at, this.#little);
      case I16:
        return view.getInt16(at, this.#little);
      case U32:
        return view.getUint32(at, this.#little);
      case I32:
        return view.getInt32(at, this.#little);
      default:
        return this.#refuse("get of a field that is not a scalar of 32 bits; use getLo and getHi");
    }
  }

  /** Writes a field of at most 32 bits, modulo its size. */
  set(view: DataView, base: number, value: number, index = 0): void {
    const at = base + this.at(index);
    switch (this.#code) {
      case U8:
      case I8:
        view.setUint8(at, value);
        return;
      case U16:
      case I16:
        view.setUint16(at, value, this.#little);
        return;
      case U32:
      case I32:
        view.setUint32(at, value, this.#little);
        return;
      default:
        this.#refuse("set of a field that is not a scalar of 32 bits; use setLoHi");
    }
  }

  /** The low 32 bits, unsigned. */
  getLo(view: DataView, base: number, index = 0): number {
    const at = base + this.at(index);
    if (this.#code < U32) this.#refuse("getLo of a narrow field");
    return view.getUint32(this.size === 8 && !this.#little ? at + 4 : at, this.#little);
  }

  /** The high 32 bits, unsigned; 0 where the field has 32 bits. */
  getHi(view: DataView, base: number, index = 0): number {
    const at = base + this.at(index);
    if (this.#code < U32) this.#refuse("getHi of a narrow field");
    return this.size === 8 ? view.getUint32(this.#little ? at + 4 : at, this.#little) : 0;
  }

  /** Writes both halves; where the field has 32 bits, the high half is dropped. */
  setLoHi(view: DataView, base: number, lo: number, hi: number, index = 0): void {
    const at = base + this.at(index);
    if (this.#code < U32) this.#refuse("setLoHi of a narrow field");
    if (this.size === 8) {
      view.setUint32(this.#little ? at : at + 4, lo, this.#little);
      view.setUint32(this.#little ? at + 4 : at, hi, this.#little);
    } else view.setUint32(at, lo, this.#little);
  }

  /** The value as a double: exact below 2^53, the nearest double above. i64 is signed, the others unsigned. */
  getNumber(view: DataView, base: number, index = 0): number {
    const hi = this.getHi(view, base, index);
    return (this.#code === I64_CODE ? hi | 0 : hi) * TWO32 + this.getLo(view, base, index);
  }

  /** Writes an integer below 2^53; a negative one in two's complement. */
  setNumber(view: DataView, base: number, value: number, index = 0): void {
    this.setLoHi(view, base, value >>> 0, Math.floor(value / TWO32) >>> 0, index);
  }

  #refuse(what: string): never {
    throw new RangeError(`${this.path}: ${this.present ? what : "not in this ABI"}`);
  }
}

interface FieldPlace {
  readonly offset: number;
  readonly size: number;
  readonly stride: number;
  readonly count: number;
  readonly isArray: boolean;
  readonly present: boolean;
}

/** The part of a layout that does not depend on the type of its fields. */
export interface LayoutBase {
  readonly name: string;
  readonly abi: Abi;
  readonly size: number;
  readonly align: number;
  /** Every path, by name, in declaration order. */
  readonly all: ReadonlyMap<string, Field>;
}

/** One structure in one ABI. Hot code keeps `fields.x`, or its offset, in a constant. */
export interface Layout<F extends FieldSpecs> extends LayoutBase {
  readonly fields: { readonly [P in AnyPath<F>]: Field };
  get(view: DataView, base: number, path: NarrowPath<F>, index?: number): number;
  set(view: DataView, base: number, path: NarrowPath<F>, value: number, index?: number): void;
  getLo(view: DataView, base: number, path: WidePath<F>, index?: number): number;
  getHi(view: DataView, base: number, path: WidePath<F>, index?: number): number;
  setLoHi(view: DataView, base: number, path: WidePath<F>, lo: number, hi: number, index?: number): void;
  getNumber(view: DataView, base: number, path: WidePath<F>, index?: number): number;
  setNumber(view: DataView, base: number, path: WidePath<F>, value: number, index?: number): void;
  /** Text of a character array, up to its first NUL, one character a byte. */
  getString(view: DataView, base: number, path: NarrowPath<F>): string;
  /** Writes text into a character array, cut so that a NUL follows it; the rest is zeroed. Characters above 255 become "?". */
  setString(view: DataView, base: number, path: NarrowPath<F>, text: string): void;
  /** The whole structure as an object, every view of a union included. */
  read(view: DataView, base: number): Values<F>;
  /** Writes the fields given; an array shorter than the field's writes its first elements. */
  write(view: DataView, base: number, values: Inputs<F>): void;
  /** Zeroes the structure, padding included. */
  clear(view: DataView, base: number): void;
}

/** A structure or union in every ABI. */
export interface Struct<F extends FieldSpecs> extends StructType {
  readonly spec: F;
  at(abi: Abi): Layout<F>;
}

/** Options of a definition: `packed` has no alignment at all. */
export interface StructOptions {
  readonly packed?: boolean;
}

/** Defines a structure; the name is the header's tag, and names it in errors. */
export function defineStruct<const F extends FieldSpecs>(
  name: string,
  spec: F,
  options: StructOptions = {},
): Struct<F> {
  return define(name, spec, false, options.packed ?? false);
}

/** Defines a union: every field is at offset 0. */
export function defineUnion<const F extends FieldSpecs>(name: string, views: F): Struct<F> {
  return define(name, views, true, false);
}

/** A nested structure without a tag. */
export function struct<const F extends FieldSpecs>(spec: F): Struct<F> {
  return define("", spec, false, false);
}

/** A nested union without a tag. */
export function union<const F extends FieldSpecs>(views: F): Struct<F> {
  return define("", views, true, false);
}

function define<F extends FieldSpecs>(name: string, spec: F, isUnion: boolean, packed: boolean): Struct<F> {
  // Layouts by ABI: a memo of pure results, so that two hypervisors may share it.
  const layouts: (Layout<F> | undefined)[] = new Array(8).fill(undefined);
  return Object.freeze({
    kind: "struct",
    name,
    union: isUnion,
    spec,
    at(abi: Abi): Layout<F> {
      const key = (abi.wordBytes === 8 ? 4 : 0) + (abi.endian === "big" ? 2 : 0) + (abi.align64 === 8 ? 1 : 0);
      let layout = layouts[key];
      if (layout === undefined) {
        layout = new StructLayout(name, spec, abi, isUnion, packed) as unknown as Layout<F>;
        layouts[key] = layout;
      }
      return layout;
    },
  });
}

interface Extent {
  readonly size: number;
  readonly align: number;
}

function countOf(type: ArrayType, abi: Abi): number {
  return typeof type.count === "number" ? type.count : type.count(abi);
}

function extentOf(type: FieldType, abi: Abi): Extent {
  if (typeof type === "string") {
    switch (type) {
      case "u8":
      case "i8":
        return { size: 1, align: 1 };
      case "u16":
      case "i16":
        return { size: 2, align: 2 };
      case "u32":
      case "i32":
        return { size: 4, align: 4 };
      case "u64":
      case "i64":
        return { size: 8, align: abi.align64 };
      case "u64_aligned":
        return { size: 8, align: 8 };
      case "ulong":
      case "handle":
        return { size: abi.wordBytes, align: abi.wordBytes };
    }
  }
  switch (type.kind) {
    case "array": {
      const of = extentOf(type.of, abi);
      return { size: of.size * countOf(type, abi), align: of.align };
    }
    case "when":
      return type.present(abi) ? extentOf(type.of, abi) : { size: 0, align: 1 };
    case "pad":
      return { size: type.bytes, align: type.align };
    case "struct":
      return type.at(abi);
  }
}

function codeOf(type: FieldType, abi: Abi): number {
  switch (type) {
    case "u8":
      return U8;
    case "i8":
      return I8;
    case "u16":
      return U16;
    case "i16":
      return I16;
    case "u32":
      return U32;
    case "i32":
      return I32;
    case "u64":
    case "u64_aligned":
      return U64_CODE;
    case "i64":
      return I64_CODE;
    case "ulong":
    case "handle":
      return abi.wordBytes === 8 ? U64_CODE : U32;
    default:
      return GROUP;
  }
}

function alignUp(value: number, align: number): number {
  return Math.ceil(value / align) * align;
}

/** The reader and writer of one layout. Untyped inside; `Layout<F>` is its face. */
class StructLayout implements LayoutBase {
  readonly name: string;
  readonly abi: Abi;
  readonly size: number;
  readonly align: number;
  readonly all: ReadonlyMap<string, Field>;
  readonly fields: Readonly<Record<string, Field>>;
  readonly #spec: FieldSpecs;

  constructor(name: string, spec: FieldSpecs, abi: Abi, isUnion: boolean, packed: boolean) {
    const all = new Map<string, Field>();
    let cursor = 0;
    let end = 0;
    let structAlign = 1;
    for (const [fieldName, type] of Object.entries(spec)) {
      const extent = extentOf(type, abi);
      const align = packed ? 1 : extent.align;
      const offset = isUnion ? 0 : alignUp(cursor, align);
      collect(all, fieldName, type, abi, offset);
      cursor = offset + extent.size;
      end = Math.max(end, cursor);
      structAlign = Math.max(structAlign, align);
    }
    this.name = name;
    this.abi = Object.freeze({ wordBytes: abi.wordBytes, endian: abi.endian, align64: abi.align64 });
    this.align = structAlign;
    this.size = alignUp(end, structAlign);
    this.all = all;
    this.fields = Object.freeze(Object.fromEntries(all));
    this.#spec = spec;
  }

  get(view: DataView, base: number, path: string, index = 0): number {
    return this.#field(path).get(view, base, index);
  }
  set(view: DataView, base: number, path: string, value: number, index = 0): void {
    this.#field(path).set(view, base, value, index);
  }
  getLo(view: DataView, base: number, path: string, index = 0): number {
    return this.#field(path).getLo(view, base, index);
  }
  getHi(view: DataView, base: number, path: string, index = 0): number {
    return this.#field(path).getHi(view, base, index);
  }
  setLoHi(view: DataView, base: number, path: string, lo: number, hi: number, index = 0): void {
    this.#field(path).setLoHi(view, base, lo, hi, index);
  }
  getNumber(view: DataView, base: number, path: string, index = 0): number {
    return this.#field(path).getNumber(view, base, index);
  }
  setNumber(view: DataView, base: number, path: string, value: number, index = 0): void {
    this.#field(path).setNumber(view, base, value, index);
  }

  getString(view: DataView, base: number, path: string): string {
    const field = this.#field(path);
    let text = "";
    for (let index = 0; index < field.count; index++) {
      const code = field.get(view, base, index) & 0xff;
      if (code === 0) break;
      text += String.fromCharCode(code);
    }
    return text;
  }

  setString(view: DataView, base: number, path: string, text: string): void {
    const field = this.#field(path);
    const length = Math.min(text.length, field.count - 1);
    for (let index = 0; index < field.count; index++) {
      const code = index < length ? text.charCodeAt(index) : 0;
      field.set(view, base, code > 255 ? 0x3f : code, index);
    }
  }

  read(view: DataView, base: number): Record<string, unknown> {
    const values: Record<string, unknown> = {};
    for (const [name, type] of Object.entries(this.#spec)) {
      const field = this.fields[name];
      if (field !== undefined) values[name] = readType(view, base + field.offset, type, field, this.abi);
    }
    return values;
  }

  write(view: DataView, base: number, values: Readonly<Record<string, unknown>>): void {
    for (const [name, value] of Object.entries(values)) {
      const type = this.#spec[name];
      if (value !== undefined && type !== undefined) writeType(view, base, type, this.#field(name), this.abi, value);
    }
  }

  clear(view: DataView, base: number): void {
    for (let at = 0; at < this.size; at++) view.setUint8(base + at, 0);
  }

  #field(path: string): Field {
    const field = this.fields[path];
    if (field === undefined) throw new RangeError(`${this.name} has no field ${path}`);
    return field;
  }
}

/** Where the elements of the array on a path are; none: stride 0, count 1. */
interface Elements {
  readonly stride: number;
  readonly count: number;
}
const NO_ARRAY: Elements = { stride: 0, count: 1 };

/** Adds the paths that start at one field of any type. */
function collect(
  all: Map<string, Field>,
  path: string,
  type: FieldType,
  abi: Abi,
  offset: number,
  within: Elements = NO_ARRAY,
  present = true,
): void {
  if (typeof type === "string") {
    collectElement(all, path, type, abi, offset, within, present, false);
    return;
  }
  switch (type.kind) {
    case "pad":
      return;
    case "when":
      collect(all, path, type.of, abi, offset, within, present && type.present(abi));
      return;
    case "array":
      // An array within an array has no path: the element's own layout reaches it.
      if (within.stride === 0) {
        const elements = { stride: extentOf(type.of, abi).size, count: countOf(type, abi) };
        collectElement(all, path, type.of, abi, offset, elements, present, true);
      }
      return;
    case "struct":
      collectElement(all, path, type, abi, offset, within, present, false);
  }
}

/** Adds one path, and those below it if it is a structure. */
function collectElement(
  all: Map<string, Field>,
  path: string,
  type: ElementType,
  abi: Abi,
  offset: number,
  { stride, count }: Elements,
  present: boolean,
  isArray: boolean,
): void {
  const { size } = extentOf(type, abi);
  const place = { offset, size: present ? size : 0, stride: stride || size, count, isArray, present };
  all.set(path, new Field(path, place, codeOf(type, abi), abi.endian === "little"));
  if (typeof type === "string") return;
  for (const field of type.at(abi).all.values()) {
    const inner = type.spec[field.path];
    if (inner === undefined) continue;
    collect(all, `${path}.${field.path}`, inner, abi, offset + field.offset, { stride, count }, present);
  }
}

/** Reads one value. `field` is the enclosing structure's entry for it; an array's elements share it. */
function readType(view: DataView, at: number, type: FieldType, field: Field, abi: Abi): unknown {
  if (typeof type === "string") {
    const base = at - field.offset;
    return codeOf(type, ABI_WIDE) >= U64_CODE
      ? { lo: field.getLo(view, base), hi: field.getHi(view, base) }
      : field.get(view, base);
  }
  switch (type.kind) {
    case "pad":
      return undefined;
    case "when":
      return type.present(abi) ? readType(view, at, type.of, field, abi) : undefined;
    case "array":
      return Array.from({ length: countOf(type, abi) }, (_, index) =>
        readType(view, at + index * field.stride, type.of, field, abi),
      );
    case "struct":
      return layoutOf(type, abi).read(view, at);
  }
}

function writeType(view: DataView, base: number, type: FieldType, field: Field, abi: Abi, value: unknown): void {
  if (typeof type === "string") {
    if (typeof value !== "number") {
      const halves = value as U64;
      field.setLoHi(view, base, halves.lo, halves.hi);
    } else if (codeOf(type, ABI_WIDE) >= U64_CODE) field.setNumber(view, base, value);
    else field.set(view, base, value);
    return;
  }
  switch (type.kind) {
    case "pad":
      return;
    case "when":
      writeType(view, base, type.of, field, abi, value);
      return;
    case "array": {
      const values = value as ArrayLike<unknown>;
      if (values.length > countOf(type, abi)) throw new RangeError(`${field.path}: ${values.length} elements`);
      for (let index = 0; index < values.length; index++)
        writeType(view, base + index * field.stride, type.of, field, abi, values[index]);
      return;
    }
    case "struct":
      layoutOf(type, abi).write(view, base + field.at(0), value as Readonly<Record<string, unknown>>);
  }
}

/** Any ABI in which every wide type has 64 bits: tells wide types from narrow ones. */
const ABI_WIDE = ABI_X86_64;

function layoutOf(type: StructType, abi: Abi): StructLayout {
  return type.at(abi) as StructLayout;
}
