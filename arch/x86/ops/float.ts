/**
 * SSE floating point done in WebAssembly in the usual case, by the helper (sse-float.ts) in every other.
 *
 * The usual case: all exceptions masked, round to nearest, neither DAZ nor FTZ, and the inexact flag set already, so that an
 * ordinary operation leaves MXCSR as it is; operands normal or zero; the result normal and above the smallest normal
 * (a smaller one may be tiny), or, of a sum or difference, zero.
 *
 * d, a, lo and hi are those of the helper's op: d the destination, which is also the first operand, a the source, lo the helper,
 * hi the operation's code. In the oracle all of it is the helper's.
 */
import type { CellAccess, EmitContext, OpSpec } from "../../translate/ir.ts";
import type { Expr } from "../../translate/wasm/code.ts";
import { c32, cf64, f64, i32, op1, op2, select } from "../../translate/wasm/expr.ts";
import { CC_EFLAGS } from "../flags.ts";

const SIMD = 0xfd0000;
/** MXCSR without its first five flags, as the usual case has it: masks set, inexact sticky. */
const USUAL = 0x1fa0;
const usual = (c: EmitContext): Expr => i32.eq(i32.and(c.cell("mxcsr").i32, c32(~0x1f)), c32(USUAL));
const LEAST_64 = 2 ** -1022;
const LEAST_32 = 2 ** -126;
const constant = cf64;
const promote = op1(0xbb);
const demote = op1(0xb6);

/** Pushes 1 where an f64 is normal or zero (NaN and infinity give 1 too, or not: the result tells). */
const ordinary = (x: Expr, least: number): Expr => i32.or(f64.ge(f64.abs(x), constant(least)), f64.eq(x, constant(0)));
/** Pushes 1 where an f64 is finite and above the smallest normal. */
const safe = (x: Expr, least: number): Expr =>
  i32.and(f64.gt(f64.abs(x), constant(least)), f64.lt(f64.abs(x), constant(Number.POSITIVE_INFINITY)));

const ops: OpSpec[] = [];

/** An op that tries `fast` (a statement that leaves its success in i32 local 0), and falls back to the helper. */
function define(name: string, fast: (c: EmitContext) => Expr, setsFlags = false): void {
  ops.push({
    name: `x.${name}`,
    ...(setsFlags ? { flags: "update" as const } : {}),
    emit: (c) => c.seq(c.i32(0).set(c32(0)), c.when(usual(c), fast(c)), c.when(i32.eqz(c.i32(0).get), c.helper(c.lo))),
    evaluate: (o) => o.helper(o.lo),
  });
}

// Single precision is computed by the f32 instruction; values are looked at as f64, which holds them exactly.
for (const double of [false, true]) {
  const suffix = double ? "sd" : "ss";
  const least = double ? LEAST_64 : LEAST_32;
  const value = (cell: CellAccess): Expr => (double ? cell.f64 : promote(cell.f32));
  /** An f64 (exactly a single where single) into d. */
  const put = (c: EmitContext, x: Expr): Expr => (double ? c.d.setF64(x) : c.d.setF32(demote(x)));
  for (const [name, code32, code64, zeros] of [
    ["add", 0x92, 0xa0, true],
    ["sub", 0x93, 0xa1, true],
    ["mul", 0x94, 0xa2, false],
    ["div", 0x95, 0xa3, false],
  ] as const) {
    define(`${name}${suffix}`, (c) => {
      const a = c.f64(0);
      const b = c.f64(1);
      const r = c.f64(2);
      const result = double ? op2(code64)(a.get, b.get) : promote(op2(code32)(demote(a.get), demote(b.get)));
      const good = zeros ? i32.or(safe(r.get, least), f64.eq(r.get, constant(0))) : safe(r.get, least);
      return c.seq(
        a.set(value(c.d)),
        b.set(value(c.a)),
        r.set(result),
        c.when(
          i32.and(good, i32.and(ordinary(a.get, least), ordinary(b.get, least))),
          c.seq(put(c, r.get), c.i32(0).set(c32(1))),
        ),
      );
    });
  }
  define(`sqrt${suffix}`, (c) => {
    const a = c.f64(0);
    const root = double ? f64.sqrt(a.get) : promote(op1(0x91)(demote(a.get)));
    return c.seq(
      a.set(value(c.a)),
      c.when(
        i32.and(f64.ge(a.get, constant(least)), f64.lt(a.get, constant(Number.POSITIVE_INFINITY))),
        c.seq(put(c, root), c.i32(0).set(c32(1))),
      ),
    );
  });
  // the second operand unless the first is smaller, or greater; NaNs and denormals are the helper's
  for (const name of ["min", "max"] as const) {
    define(`${name}${suffix}`, (c) => {
      const a = c.f64(0);
      const b = c.f64(1);
      const first = name === "min" ? f64.lt(a.get, b.get) : f64.gt(a.get, b.get);
      return c.seq(
        a.set(value(c.d)),
        b.set(value(c.a)),
        c.when(
          i32.and(ordinary(a.get, least), ordinary(b.get, least)),
          c.seq(put(c, select(a.get, b.get, first)), c.i32(0).set(c32(1))),
        ),
      );
    });
  }
  for (const name of ["ucomi", "comi"]) {
    define(
      `${name}${suffix}`,
      (c) => {
        const a = c.f64(0);
        const b = c.f64(1);
        return c.seq(
          a.set(value(c.d)),
          b.set(value(c.a)),
          c.when(
            i32.and(ordinary(a.get, least), ordinary(b.get, least)),
            c.seq(
              c.cell("ccSrc").set64i(i32.or(f64.lt(a.get, b.get), i32.shl(f64.eq(a.get, b.get), c32(6)))),
              c.cell("ccOp").set64i(c32(CC_EFLAGS)),
              c.i32(0).set(c32(1)),
            ),
          ),
        );
      },
      true,
    );
  }
  // integers to numbers are never tiny nor too large
  for (const [q, code] of [
    ["", double ? 0xb7 : 0xb2],
    ["q", double ? 0xb9 : 0xb4],
  ] as const) {
    define(`cvtsi2${suffix}${q}`, (c) => {
      const number = op1(code)(q === "q" ? c.a.i64 : c.a.i32);
      return c.seq(double ? c.d.setF64(number) : c.d.setF32(number), c.i32(0).set(c32(1)));
    });
    // truncation: in range
    define(`cvtt${suffix}2si${q}`, (c) => {
      const a = c.f64(0);
      const limit = q === "q" ? 2 ** 63 : 2 ** 31;
      return c.seq(
        a.set(value(c.a)),
        c.when(
          f64.lt(f64.abs(a.get), constant(limit)),
          c.seq(q === "q" ? c.d.set64(op1(0xb0)(a.get)) : c.d.set64i(op1(0xaa)(a.get)), c.i32(0).set(c32(1))),
        ),
      );
    });
  }
}
define("cvtss2sd", (c) => {
  const a = c.f64(0);
  return c.seq(
    a.set(promote(c.a.f32)),
    c.when(
      i32.and(ordinary(a.get, LEAST_32), f64.lt(f64.abs(a.get), constant(Number.POSITIVE_INFINITY))),
      c.seq(c.d.setF64(a.get), c.i32(0).set(c32(1))),
    ),
  );
});
define("cvtsd2ss", (c) => {
  const r = c.f64(0);
  return c.seq(
    r.set(promote(demote(c.a.f64))),
    c.when(
      i32.or(safe(r.get, LEAST_32), f64.eq(c.a.f64, constant(0))),
      c.seq(c.d.setF32(demote(r.get)), c.i32(0).set(c32(1))),
    ),
  );
});

// Packed arithmetic: the same conditions lane by lane.
for (const double of [false, true]) {
  const suffix = double ? "pd" : "ps";
  const n = double ? 12 : 0; // f64x2 arithmetic follows f32x4's by 12
  const least = double ? LEAST_64 : LEAST_32;
  const compare = (code: number) => op2(SIMD | (code + (double ? 6 : 0)));
  const [eq, lt, gt, ge] = [compare(65), compare(67), compare(68), compare(70)];
  const absolute = op1(SIMD | (224 + n));
  const splat = (x: number): Expr => (double ? op1(SIMD | 20)(constant(x)) : op1(SIMD | 19)(demote(constant(x))));
  const all = op1(SIMD | (double ? 195 : 163));
  const or = op2(SIMD | 80);
  const and = op2(SIMD | 78);
  const ordinaries = (x: Expr): Expr => or(ge(absolute(x), splat(least)), eq(x, splat(0)));
  const safes = (x: Expr): Expr => and(gt(absolute(x), splat(least)), lt(absolute(x), splat(Number.POSITIVE_INFINITY)));
  for (const [name, code, zeros] of [
    ["add", 228, true],
    ["sub", 229, true],
    ["mul", 230, false],
    ["div", 231, false],
  ] as const) {
    define(`${name}${suffix}`, (c) => {
      const r = c.v128(0);
      const good = zeros ? or(safes(r.get), eq(r.get, splat(0))) : safes(r.get);
      return c.seq(
        r.set(op2(SIMD | (code + n))(c.d.v128, c.a.v128)),
        c.when(
          all(and(good, and(ordinaries(c.d.v128), ordinaries(c.a.v128)))),
          c.seq(c.d.setV128(r.get), c.i32(0).set(c32(1))),
        ),
      );
    });
  }
}

export const floatOps: readonly OpSpec[] = ops;
