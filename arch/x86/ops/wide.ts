/** Multiplication and division of rdx:rax, and the high halves of products. */
import type { EmitContext, OpSpec } from "../../translate/ir.ts";
import type { Expr } from "../../translate/wasm/code.ts";
import { c32, c64, i32, i64 } from "../../translate/wasm/expr.ts";
import { CC_RESULT } from "../flags.ts";
import { VECTOR_DE } from "../state.ts";
import {
  first,
  firstUnsigned,
  log,
  oa,
  oflags,
  oraise,
  raise,
  S,
  sext,
  U,
  WIDTHS,
  type Width,
  zext,
} from "./common.ts";

const ops: OpSpec[] = [];

/** High half of a signed 64 x 64 product; uses i64 local 3. */
export function highSigned(c: EmitContext, x: Expr, y: Expr): Expr {
  return i64.sub(i64.sub(highUnsigned(c, x, y), i64.and(i64.shrs(x, c64(63)), y)), i64.and(i64.shrs(y, c64(63)), x));
}

/** High half of an unsigned 64 x 64 product, by 32-bit parts; uses i64 local 3. */
export function highUnsigned(c: EmitContext, x: Expr, y: Expr): Expr {
  const lo = (e: Expr) => i64.and(e, c64(0xffffffff, 0));
  const hi = (e: Expr) => i64.shru(e, c64(32));
  const middle = c.i64(3);
  // middle = hi(x) * lo(y) + hi(lo(x) * lo(y)) cannot overflow; then add lo(x) * hi(y) to its low half
  return i64.add(
    i64.add(i64.mul(hi(x), hi(y)), hi(middle.tee(i64.add(i64.mul(hi(x), lo(y)), hi(i64.mul(lo(x), lo(y))))))),
    hi(i64.add(i64.mul(lo(x), hi(y)), lo(middle.get))),
  );
}

/** One-operand mul, imul, div, idiv: rax and rdx (ah:al for bytes) by a. */
function wide(w: Width): void {
  const l = log(w);
  const rax = (c: EmitContext) => c.cell("gpr", 0);
  const rdx = (c: EmitContext) => c.cell("gpr", 2);
  for (const signed of [false, true]) {
    ops.push({
      name: `x.${signed ? "imul" : "mul"}wide${w}`,
      flags: "set",
      emit(c) {
        const x = c.i64(0);
        const y = c.i64(1);
        const r = c.i64(2);
        const half = (cell: { s8: Expr; s16: Expr; s32: Expr; u8: Expr; u16: Expr; u32: Expr; i64: Expr }): Expr =>
          w === 64
            ? cell.i64
            : signed
              ? w === 8
                ? cell.s8
                : w === 16
                  ? cell.s16
                  : cell.s32
              : w === 8
                ? cell.u8
                : w === 16
                  ? cell.u16
                  : cell.u32;
        const overflow = signed ? i64.ne(sext(w, r.get), r.get) : i64.ne(zext(w, r.get), r.get);
        const flags = (carry: Expr, low: Expr) =>
          c.seq(
            c.cell("ccSrc").set64i(i32.mul(carry, c32(0x801))),
            c.cell("ccDst").set64(low),
            c.cell("ccOp").set64i(c32(CC_RESULT | l)),
          );
        if (w === 64) {
          const high = c.i64(2);
          return c.seq(
            x.set(rax(c).i64),
            y.set(c.a.i64),
            high.set(signed ? highSigned(c, x.get, y.get) : highUnsigned(c, x.get, y.get)),
            x.set(i64.mul(x.get, y.get)),
            rax(c).set64(x.get),
            rdx(c).set64(high.get),
            flags(signed ? i64.ne(high.get, i64.shrs(x.get, c64(63))) : i64.ne(high.get, c64(0)), x.get),
          );
        }
        return c.seq(
          r.set(i64.mul(half(rax(c)), half(c.a))),
          ...(w === 8
            ? [rax(c).set16(r.get)]
            : w === 16
              ? [rax(c).set16(r.get), rdx(c).set16(i64.shru(r.get, c64(16)))]
              : [rax(c).set64(zext(32, r.get)), rdx(c).set64(i64.shru(r.get, c64(32)))]),
          flags(overflow, sext(w, r.get)),
        );
      },
      evaluate(o) {
        const A = o.at("gpr", 0);
        const D = o.at("gpr", 2);
        const f = (x: bigint) => (signed ? S(w, x) : x);
        const r = f(o.get(A, w)) * f(oa(o, w));
        if (w === 8) o.set(A, 16, U(16, r));
        else if (w === 16) {
          o.set(A, 16, U(16, r));
          o.set(D, 16, U(16, r >> 16n));
        } else {
          o.set(A, 64, U(w, r));
          o.set(D, 64, U(w, r >> BigInt(w)));
        }
        oflags(o, CC_RESULT | l, S(w, r), f(U(w, r)) === r ? 0n : 0x801n);
      },
    });
    ops.push({
      name: `x.${signed ? "idiv" : "div"}${w}`,
      emit(c) {
        const n = c.i64(0);
        const d = c.i64(1);
        const q = c.i64(2);
        const error = raise(c, c32(VECTOR_DE), c32(-1));
        if (w === 64) {
          // the usual case: the dividend fits 64 bits; else the helper whose index is in lo
          const usual = signed ? i64.eq(rdx(c).i64, i64.shrs(n.get, c64(63))) : i64.eqz(rdx(c).i64);
          const minimum = i32.and(i64.eq(n.get, c64(0, 0x80000000 | 0)), i64.eq(d.get, c64(-1)));
          return c.seq(
            n.set(rax(c).i64),
            d.set(c.a.i64),
            c.when(i64.eqz(d.get), error),
            c.when(
              usual,
              c.seq(
                ...(signed ? [c.when(minimum, error)] : []),
                q.set(signed ? i64.rems(n.get, d.get) : i64.remu(n.get, d.get)),
                rax(c).set64(signed ? i64.divs(n.get, d.get) : i64.divu(n.get, d.get)),
                rdx(c).set64(q.get),
              ),
              c.helper(c.lo),
            ),
          );
        }
        const dividend =
          w === 8
            ? signed
              ? rax(c).s16
              : rax(c).u16
            : w === 16
              ? signed
                ? i64.sx32(i64.or(rax(c).u16, i64.shl(rdx(c).u16, c64(16))))
                : i64.or(rax(c).u16, i64.shl(rdx(c).u16, c64(16)))
              : i64.or(rax(c).u32, i64.shl(rdx(c).u32, c64(32)));
        const divisor = signed ? first(c, w) : firstUnsigned(c, w);
        const quotient = signed
          ? c.when(
              i32.and(i64.eq(n.get, c64(0, 0x80000000 | 0)), i64.eq(d.get, c64(-1))),
              error,
              q.set(i64.divs(n.get, d.get)),
            )
          : q.set(i64.divu(n.get, d.get));
        return c.seq(
          n.set(dividend),
          d.set(divisor),
          c.when(i64.eqz(d.get), error),
          quotient,
          c.when(i64.ne(signed ? sext(w, q.get) : zext(w, q.get), q.get), error),
          n.set(signed ? i64.rems(n.get, d.get) : i64.remu(n.get, d.get)),
          ...(w === 8
            ? [rax(c).set16(i64.or(zext(8, q.get), i64.shl(zext(8, n.get), c64(8))))]
            : w === 16
              ? [rax(c).set16(q.get), rdx(c).set16(n.get)]
              : [rax(c).set64(zext(32, q.get)), rdx(c).set64(zext(32, n.get))]),
        );
      },
      evaluate(o) {
        const A = o.at("gpr", 0);
        const D = o.at("gpr", 2);
        const f = (bits: number, x: bigint) => (signed ? S(bits, x) : x);
        const raw = w === 8 ? o.get(A, 16) : o.get(A, w) | (o.get(D, w) << BigInt(w));
        const n = f(2 * w, raw);
        const d = f(w, oa(o, w));
        if (d === 0n) oraise(o, VECTOR_DE, -1);
        const q = n / d;
        if (f(w, U(w, q)) !== q) oraise(o, VECTOR_DE, -1);
        const r = n % d;
        if (w === 8) o.set(A, 16, U(8, q) | (U(8, r) << 8n));
        else if (w === 16) {
          o.set(A, 16, U(16, q));
          o.set(D, 16, U(16, r));
        } else {
          o.set(A, 64, U(w, q));
          o.set(D, 64, U(w, r));
        }
      },
    });
  }
}

for (const w of WIDTHS) wide(w);

export const wideOps: readonly OpSpec[] = ops;
