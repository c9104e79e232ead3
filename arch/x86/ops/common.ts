/**
 * What the x86's own operations share: operand access by width, writing results and flags, raising exceptions; for the emitters and for
 * the oracle.
 */
import type { EmitContext, OracleContext } from "../../translate/ir.ts";
import type { Expr } from "../../translate/wasm/code.ts";
import { c32, c64, i32, i64 } from "../../translate/wasm/expr.ts";
import { CC_EFLAGS } from "../flags.ts";

export const WIDTHS = [8, 16, 32, 64] as const;
export type Width = (typeof WIDTHS)[number];
export const log = (w: Width) => (w === 8 ? 0 : w === 16 ? 1 : w === 32 ? 2 : 3);

// ---- emission helpers ---------------------------------------------------------------------------------------------

/** Second operand, sign-extended to i64. */
export const second = (c: EmitContext, w: Width, imm: boolean): Expr =>
  imm ? sext(w, c.imm) : w === 8 ? c.b.s8 : w === 16 ? c.b.s16 : w === 32 ? c.b.s32 : c.b.i64;
export const first = (c: EmitContext, w: Width): Expr =>
  w === 8 ? c.a.s8 : w === 16 ? c.a.s16 : w === 32 ? c.a.s32 : c.a.i64;
export const firstUnsigned = (c: EmitContext, w: Width): Expr =>
  w === 8 ? c.a.u8 : w === 16 ? c.a.u16 : w === 32 ? c.a.u32 : c.a.i64;
export const destination = (c: EmitContext, w: Width): Expr =>
  w === 8 ? c.d.u8 : w === 16 ? c.d.u16 : w === 32 ? c.d.u32 : c.d.i64;
export const sext = (w: Width, x: Expr): Expr =>
  w === 8 ? i64.sx8(x) : w === 16 ? i64.sx16(x) : w === 32 ? i64.sx32(x) : x;
export const zext = (w: Width, x: Expr): Expr =>
  w === 64 ? x : w === 32 ? i64.extu(i32.wrap(x)) : i64.and(x, c64(w === 8 ? 0xff : 0xffff));
/** Writes an i64 to d by the width's convention (32 clears the upper half). */
export const put = (c: EmitContext, w: Width, x: Expr): Expr =>
  w === 8 ? c.d.set8(x) : w === 16 ? c.d.set16(x) : w === 32 ? c.d.set64(zext(32, x)) : c.d.set64(x);
export const setFlags = (c: EmitContext, cc: number, dst: Expr, src: Expr): Expr =>
  c.seq(c.cell("ccDst").set64(dst), c.cell("ccSrc").set64(src), c.cell("ccOp").set64i(c32(cc)));
/** Flags from an i32 in RFLAGS form. */
export const setEflags = (c: EmitContext, flags: Expr): Expr =>
  c.seq(c.cell("ccSrc").set64i(flags), c.cell("ccOp").set64i(c32(CC_EFLAGS)));
/** Raises an exception: vector, error code or -1. */
export const raise = (c: EmitContext, vector: Expr, error: Expr): Expr =>
  c.seq(c.cell("faultVector").set32i(vector), c.cell("faultError").set32i(error), c.fault);

// ---- oracle helpers -----------------------------------------------------------------------------------------------

export const S = (w: number, x: bigint) => BigInt.asIntN(w, x);
export const U = (w: number, x: bigint) => BigInt.asUintN(w, x);
export const oa = (o: OracleContext, w: number) => o.get(o.a, w);
export const ob = (o: OracleContext, w: number, imm: boolean) => (imm ? U(w, o.imm) : o.get(o.b, w));
export const oput = (o: OracleContext, w: number, x: bigint) => o.set(o.d, w === 32 ? 64 : w, U(w, x));
export const oflags = (o: OracleContext, cc: number, dst: bigint, src: bigint): void => {
  o.set(o.at("ccOp"), 64, BigInt(cc));
  o.set(o.at("ccDst"), 64, U(64, dst));
  o.set(o.at("ccSrc"), 64, U(64, src));
};
export const oeflags = (o: OracleContext, flags: number): void => {
  o.set(o.at("ccOp"), 64, BigInt(CC_EFLAGS));
  o.set(o.at("ccSrc"), 64, BigInt(flags));
};
export function oraise(o: OracleContext, vector: number, error: number): never {
  o.set(o.at("faultVector"), 32, BigInt(vector));
  o.set(o.at("faultError"), 32, U(32, BigInt(error)));
  return o.fault();
}
export const suffix = (imm: boolean) => (imm ? "i" : "");
