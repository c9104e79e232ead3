/** Expressions over WebAssembly: functions that compose `Expr`s. Names follow the text format, with _ for dots. */
import type { Expr } from "./code.ts";

const binary =
  (code: number) =>
  (x: Expr, y: Expr): Expr =>
  (w) => {
    x(w);
    y(w);
    w.op(code);
  };
const unary =
  (code: number) =>
  (x: Expr): Expr =>
  (w) => {
    x(w);
    w.op(code);
  };

/** Constants. */
export const c32 =
  (value: number): Expr =>
  (w) =>
    w.i32(value);
export const c64 =
  (lo: number, hi?: number): Expr =>
  (w) =>
    w.i64(lo, hi);
export const cf64 =
  (value: number): Expr =>
  (w) => {
    w.u8(0x44);
    w.f64(value);
  };

/** select: x where the i32 is not 0, else y (numeric and v128 types). */
export const select =
  (x: Expr, y: Expr, condition: Expr): Expr =>
  (w) => {
    x(w);
    y(w);
    condition(w);
    w.u8(0x1b);
  };

export const i32 = {
  eqz: unary(0x45),
  eq: binary(0x46),
  ne: binary(0x47),
  lts: binary(0x48),
  ltu: binary(0x49),
  gts: binary(0x4a),
  gtu: binary(0x4b),
  les: binary(0x4c),
  leu: binary(0x4d),
  ges: binary(0x4e),
  geu: binary(0x4f),
  clz: unary(0x67),
  ctz: unary(0x68),
  popcnt: unary(0x69),
  add: binary(0x6a),
  sub: binary(0x6b),
  mul: binary(0x6c),
  divs: binary(0x6d),
  divu: binary(0x6e),
  rems: binary(0x6f),
  remu: binary(0x70),
  and: binary(0x71),
  or: binary(0x72),
  xor: binary(0x73),
  shl: binary(0x74),
  shrs: binary(0x75),
  shru: binary(0x76),
  rotl: binary(0x77),
  rotr: binary(0x78),
  wrap: unary(0xa7),
  sx8: unary(0xc0),
  sx16: unary(0xc1),
  reinterpret: unary(0xbc),
} as const;

export const i64 = {
  eqz: unary(0x50),
  eq: binary(0x51),
  ne: binary(0x52),
  lts: binary(0x53),
  ltu: binary(0x54),
  gts: binary(0x55),
  gtu: binary(0x56),
  les: binary(0x57),
  leu: binary(0x58),
  ges: binary(0x59),
  geu: binary(0x5a),
  clz: unary(0x79),
  ctz: unary(0x7a),
  popcnt: unary(0x7b),
  add: binary(0x7c),
  sub: binary(0x7d),
  mul: binary(0x7e),
  divs: binary(0x7f),
  divu: binary(0x80),
  rems: binary(0x81),
  remu: binary(0x82),
  and: binary(0x83),
  or: binary(0x84),
  xor: binary(0x85),
  shl: binary(0x86),
  shrs: binary(0x87),
  shru: binary(0x88),
  rotl: binary(0x89),
  rotr: binary(0x8a),
  /** From i32. */
  exts: unary(0xac),
  extu: unary(0xad),
  sx8: unary(0xc2),
  sx16: unary(0xc3),
  sx32: unary(0xc4),
  reinterpret: unary(0xbd),
} as const;

export const f64 = {
  eq: binary(0x61),
  ne: binary(0x62),
  lt: binary(0x63),
  gt: binary(0x64),
  le: binary(0x65),
  ge: binary(0x66),
  abs: unary(0x99),
  neg: unary(0x9a),
  ceil: unary(0x9b),
  floor: unary(0x9c),
  trunc: unary(0x9d),
  nearest: unary(0x9e),
  sqrt: unary(0x9f),
  add: binary(0xa0),
  sub: binary(0xa1),
  mul: binary(0xa2),
  div: binary(0xa3),
  reinterpret: unary(0xbf),
} as const;

export const f32 = { reinterpret: unary(0xbe) } as const;

/** Any other instruction by its number (prefixed: 0xfd0000 | n). */
export const op1 = unary;
export const op2 = binary;
