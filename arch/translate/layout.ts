/**
 * The layout of a vCPU's state in memory 1.
 *
 * One table per architecture names every cell of the state; WebAssembly offsets and TypeScript accessors both derive
 * from it, save formats do not. The first cells are the same in every layout (CORE_FIELDS): the engine and the emitted
 * interpreter use them. A field is a size in bytes, or [size of an element, count]; it is aligned to its element size
 * (16 at most). Every offset fits an IR operand: a state is smaller than 64 KiB.
 */

/** A field: its size in bytes, or element size and count. */
export type FieldSpec = number | readonly [elementBytes: number, count: number];
export type FieldSpecs = { readonly [name: string]: FieldSpec };

/** Number of 64-bit temporaries t0.. and of 128-bit temporaries v0.. that a lifter may use within one instruction. */
export const TEMPORARIES = 16;
export const VECTOR_TEMPORARIES = 8;

/** The cells that every state has, in this order. */
export const CORE_FIELDS = {
  /** The guest program counter: exact after every exit, stale while translated code runs. */
  pc: 8,
  /** Always 0: the base of absolute addresses, the source of a constant zero. */
  zero: 8,
  /** The arch's number, 0 to 255, of everything a translation depends on besides the bytes (privilege, word size...). */
  mode: 4,
  /** Which set of soft-TLBs the vCPU uses now: 0 .. arch.mmuIndexes - 1. */
  mmu: 4,
  /** Temporaries; dead between two guest instructions. */
  t: [8, TEMPORARIES],
  v: [16, VECTOR_TEMPORARIES],
  /** Value on its way through a slow load or store (little-endian, up to 16 bytes). */
  slowValue: 16,
  /** Result of a page walk: machine byte address of the page (low 32 bits), and what it allows (PERMIT_*). */
  walkPage: 4,
  walkPermit: 4,
  /** Address whose access is being resolved, and its access kind: for the arch's fault details and for helpers. */
  slowAddress: 8,
  slowAccess: 4,
  /** Where the last run stopped: byte address in memory 1 of the op that left, and the budget left. */
  exitOp: 4,
  budget: 4,
  /** Detail of an exit (op `exit`: its code; helpers may write it). */
  exitDetail: 4,
} as const satisfies FieldSpecs;

export type CoreField = keyof typeof CORE_FIELDS;

/** Byte offsets of every field of a state. */
export interface Layout<F extends string = CoreField> {
  readonly name: string;
  /** Offset of each field (of its first element). */
  readonly at: { readonly [K in F | CoreField]: number };
  /** Element size of each field. */
  readonly size: { readonly [K in F | CoreField]: number };
  /** Bytes of the whole state, a multiple of 16, at most 65,536. */
  readonly bytes: number;
}

/** Lays out the core cells and then `fields`, in the order given. Throws on a duplicate or an overflow (a set-up error). */
export function defineLayout<const S extends FieldSpecs>(name: string, fields: S): Layout<keyof S & string> {
  const at: Record<string, number> = {};
  const size: Record<string, number> = {};
  let end = 0;
  for (const [field, spec] of [...Object.entries<FieldSpec>(CORE_FIELDS), ...Object.entries<FieldSpec>(fields)]) {
    const element = typeof spec === "number" ? spec : spec[0];
    const count = typeof spec === "number" ? 1 : spec[1];
    const align = element >= 16 ? 16 : element >= 8 ? 8 : element >= 4 ? 4 : element >= 2 ? 2 : 1;
    if (Object.hasOwn(at, field)) throw new Error(`layout ${name}: field ${field} is defined twice`);
    end = (end + align - 1) & -align;
    at[field] = end;
    size[field] = element;
    end += element * count;
  }
  end = (end + 15) & ~15;
  if (end > 0x10000) throw new Error(`layout ${name}: ${end} bytes, an operand reaches 65,536`);
  return { name, at: at as Layout<keyof S & string>["at"], size: size as Layout<keyof S & string>["size"], bytes: end };
}

/** Offset of temporary `i` of a layout (64 bits). */
export function temporary(layout: Layout<CoreField>, i: number): number {
  return layout.at.t + 8 * i;
}

/** Offset of 128-bit temporary `i` of a layout. */
export function vectorTemporary(layout: Layout<CoreField>, i: number): number {
  return layout.at.v + 16 * i;
}
