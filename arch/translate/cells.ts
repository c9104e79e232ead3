/** What emitters are composed of: loads and stores of either memory, statements, locals, and cells of the state. */
import type { CellAccess, Local } from "./ir.ts";
import type { Layout } from "./layout.ts";
import type { Expr } from "./wasm/code.ts";
import { i64 } from "./wasm/expr.ts";

// Memory instructions.
export const LOAD = { i32: 0x28, i64: 0x29, f32: 0x2a, f64: 0x2b, v128: 0xfd0000 } as const;
export const STORE = { i32: 0x36, i64: 0x37, f32: 0x38, f64: 0x39, v128: 0xfd000b } as const;
export const MASK_PAGE = ~4095;

export const load =
  (instruction: number, memory: number, address: Expr, offset = 0): Expr =>
  (w) => {
    address(w);
    w.memory(instruction, memory, offset);
  };
export const store =
  (instruction: number, memory: number, address: Expr, value: Expr, offset = 0): Expr =>
  (w) => {
    address(w);
    value(w);
    w.memory(instruction, memory, offset);
  };
export const seq =
  (...statements: Expr[]): Expr =>
  (w) => {
    for (const statement of statements) statement(w);
  };
export const when =
  (condition: Expr, then: Expr, otherwise?: Expr): Expr =>
  (w) => {
    condition(w);
    w.if();
    then(w);
    if (otherwise !== undefined) {
      w.else();
      otherwise(w);
    }
    w.end();
  };
/** i64x2.extract_lane 0. */
export const lowLane =
  (vector: Expr): Expr =>
  (w) => {
    vector(w);
    w.op(0xfd001d);
    w.u8(0);
  };
export const localOf = (index: number): Local => ({
  get: (w) => w.get(index),
  set: (value) => (w) => {
    value(w);
    w.set(index);
  },
  tee: (value) => (w) => {
    value(w);
    w.tee(index);
  },
});

/** A cell of memory 1 at an address plus a constant offset. */
export function cellAt(address: Expr, offset: number): CellAccess {
  const get = (instruction: number): Expr => load(instruction, 1, address, offset);
  const set =
    (instruction: number) =>
    (value: Expr): Expr =>
      store(instruction, 1, address, value, offset);
  return {
    i8s: get(0x2c),
    i8u: get(0x2d),
    i16s: get(0x2e),
    i16u: get(0x2f),
    i32: get(LOAD.i32),
    s8: get(0x30),
    u8: get(0x31),
    s16: get(0x32),
    u16: get(0x33),
    s32: get(0x34),
    u32: get(0x35),
    i64: get(LOAD.i64),
    f32: get(LOAD.f32),
    f64: get(LOAD.f64),
    v128: get(LOAD.v128),
    set8: set(0x3c),
    set16: set(0x3d),
    set32: set(0x3e),
    set64: set(STORE.i64),
    set8i: set(0x3a),
    set16i: set(0x3b),
    set32i: set(STORE.i32),
    set64i: (value) => set(STORE.i64)(i64.extu(value)),
    setV128: set(STORE.v128),
    setF32: set(STORE.f32),
    setF64: set(STORE.f64),
  };
}

/** Offset of a field's element, checked. */
export function fieldOffset(layout: Layout, field: string, index = 0): number {
  const at = layout.at[field as keyof typeof layout.at] as number | undefined;
  if (at === undefined) throw new Error(`layout ${layout.name} has no field ${field}`);
  return at + index * (layout.size[field as keyof typeof layout.size] as number);
}
