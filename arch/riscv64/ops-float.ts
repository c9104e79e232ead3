/**
 * Floating-point IR operations: done in WebAssembly in the usual case, by the helper (fpu.ts) in every other.
 *
 * The usual case of what rounds: to nearest even; singles NaN-boxed; operands normal or zero; the result normal and above the smallest normal (a smaller
 * one may be tiny), or an exact zero. Such an operation can raise inexact alone: mostly that is set already; while it is clear, the
 * rounding error is worked out. lo is the mask of fcsr that must be 0 but for inexact: frm where the rounding mode is dynamic. hi is the helper's: its
 * low half says which operation, its upper half is the third operand's cell. In the oracle all of it is the helper's.
 *
 * Fused multiply-add is put together from error-free transformations and one rounding to odd (Boldo and Melquiond, Emulation of FMA and
 * correctly rounded sums, IEEE TC 2008), inside ranges where none of them can overflow or lose bits.
 */
import type { CellAccess, EmitContext, Local, OpSpec } from "../translate/ir.ts";
import type { Expr } from "../translate/wasm/code.ts";
import { c32, c64, cf64, f64, i32, i64, op1, op2, select } from "../translate/wasm/expr.ts";
import { HELPER_FLOAT } from "./ops.ts";

const LEAST_64 = 2 ** -1022;
const LEAST_32 = 2 ** -126;
const promote = op1(0xbb);
const demote = op1(0xb6);
const fromBits = op1(0xbf);
const BOX = c64(0, -1);
const infinity = cf64(Number.POSITIVE_INFINITY);

const ordinary = (v: Expr, least: number): Expr => i32.or(f64.ge(f64.abs(v), cf64(least)), f64.eq(v, cf64(0)));
const safe = (v: Expr, least: number): Expr => i32.and(f64.gt(f64.abs(v), cf64(least)), f64.lt(f64.abs(v), infinity));
const finite = (v: Expr): Expr => f64.lt(f64.abs(v), infinity);
const number = (v: Expr): Expr => f64.eq(v, v);
const boxed = (cell: CellAccess): Expr => i64.geu(cell.i64, BOX);
const FRM = 0xe0;
/** To nearest even. */
const rounds = (c: EmitContext): Expr => i32.eqz(i32.and(i32.and(c.cell("fcsr").i32, c.lo), c32(FRM)));
/** Inexact is set already. */
const sticky = (c: EmitContext): Expr => i32.and(c.cell("fcsr").i32, c32(1));

/** A single (as the f32 that an f64 holds) into d. */
const putSingle = (c: EmitContext, v: Expr): Expr => c.d.set64(i64.or(i64.extu(i32.reinterpret(demote(v))), BOX));
const put = (c: EmitContext, double: boolean, v: Expr): Expr => (double ? c.d.setF64(v) : putSingle(c, v));
const value = (cell: CellAccess, double: boolean): Expr => (double ? cell.f64 : promote(cell.f32));

/** s = a + b, e = its error. t is scratch. */
function twoSum(c: EmitContext, a: Local, b: Local, s: Local, e: Local, t: Local): Expr {
  return c.seq(
    s.set(f64.add(a.get, b.get)),
    t.set(f64.sub(s.get, a.get)),
    e.set(f64.add(f64.sub(a.get, f64.sub(s.get, t.get)), f64.sub(b.get, t.get))),
  );
}

const SPLIT = 2 ** 27 + 1;
const LARGE = 2 ** 480;
const SMALL = 2 ** -800;
/** Factors whose product, and the error of it, lose nothing. */
const between = (l: Local): Expr =>
  i32.and(f64.lt(f64.abs(l.get), cf64(LARGE)), f64.gt(f64.abs(l.get), cf64(2 ** -400)));
/** e = the error of p, which is a * b rounded (Dekker). t, and locals 6 to 9, are scratch. */
function twoProduct(c: EmitContext, a: Local, b: Local, p: Local, e: Local, t: Local): Expr {
  const [ah, al, bh, bl] = [c.f64(6), c.f64(7), c.f64(8), c.f64(9)];
  const split = (v: Local, high: Local, low: Local): Expr =>
    c.seq(
      t.set(f64.mul(v.get, cf64(SPLIT))),
      high.set(f64.sub(t.get, f64.sub(t.get, v.get))),
      low.set(f64.sub(v.get, high.get)),
    );
  return c.seq(
    split(a, ah, al),
    split(b, bh, bl),
    e.set(
      f64.sub(
        f64.mul(al.get, bl.get),
        f64.sub(f64.sub(f64.sub(p.get, f64.mul(ah.get, bh.get)), f64.mul(al.get, bh.get)), f64.mul(ah.get, bl.get)),
      ),
    ),
  );
}

const ops: OpSpec[] = [];

/** An op that tries `fast` (a statement that sets i32 local 0 where it succeeds) and falls back to the helper. */
function define(name: string, when: (c: EmitContext) => Expr, fast: (c: EmitContext) => Expr): void {
  ops.push({
    name: `rv.${name}`,
    emit: (c) =>
      c.seq(c.i32(0).set(c32(0)), c.when(when(c), fast(c)), c.when(i32.eqz(c.i32(0).get), c.helper(c32(HELPER_FLOAT)))),
    evaluate: (o) => o.helper(HELPER_FLOAT),
  });
}
/** If (condition) d = v. */
const give = (c: EmitContext, condition: Expr, store: Expr): Expr =>
  c.when(condition, c.seq(store, c.i32(0).set(c32(1))));

/** The same for what may be inexact: `before` prepares, `inexact` pushes whether it is (what it needs must not be d). */
const giveRounded = (c: EmitContext, condition: Expr, store: Expr, inexact: Expr, before: Expr = () => {}): Expr =>
  c.when(
    condition,
    c.seq(
      c.i32(0).set(c32(1)),
      c.when(i32.eqz(sticky(c)), c.seq(before, c.cell("fcsr").set32i(i32.or(c.cell("fcsr").i32, inexact)))),
      store,
    ),
  );

/** One that has no usual case. */
ops.push({ name: "rv.float", emit: (c) => c.helper(c32(HELPER_FLOAT)), evaluate: (o) => o.helper(HELPER_FLOAT) });

for (const double of [false, true]) {
  const suffix = double ? "d" : "s";
  const least = double ? LEAST_64 : LEAST_32;
  const both = (c: EmitContext): Expr => (double ? c32(1) : i64.geu(i64.and(c.a.i64, c.b.i64), BOX));
  const one = (c: EmitContext): Expr => (double ? c32(1) : boxed(c.a));
  for (const [name, code32, code64, zero] of [
    ["fadd", 0x92, 0xa0, "sum"],
    ["fsub", 0x93, 0xa1, "sum"],
    ["fmul", 0x94, 0xa2, "product"],
    ["fdiv", 0x95, 0xa3, "quotient"],
  ] as const) {
    define(
      `${name}.${suffix}`,
      (c) => i32.and(rounds(c), both(c)),
      (c) => {
        const [a, b, r] = [c.f64(0), c.f64(1), c.f64(2)];
        const isZero = (l: Local): Expr => f64.eq(l.get, cf64(0));
        const result = double ? op2(code64)(a.get, b.get) : promote(op2(code32)(demote(a.get), demote(b.get)));
        const exactZero =
          zero === "sum"
            ? isZero(r)
            : i32.and(isZero(r), zero === "product" ? i32.or(isZero(a), isZero(b)) : isZero(a));
        // What the exact result is more than r: of a sum its error, of a quotient r * b - a.
        const error = c.f64(3);
        const [product, t] = [c.f64(4), c.f64(5)];
        const nonZero = f64.ne(error.get, cf64(0));
        let inexact: Expr = nonZero;
        let before: Expr;
        let usual: Expr = c32(1);
        if (zero === "sum") {
          const other = name === "fsub" ? f64.neg(b.get) : b.get;
          before = c.seq(product.set(other), twoSum(c, a, product, r, error, t));
          // a single is rounded once more, from s; what b was is not needed again
          if (!double) {
            before = c.seq(product.set(other), b.set(r.get), twoSum(c, a, product, r, error, t));
            before = c.seq(before, product.set(r.get), r.set(b.get));
            inexact = i32.or(nonZero, f64.ne(r.get, product.get));
          }
        } else if (!double) {
          before = () => {};
          const back = f64.mul(r.get, b.get);
          inexact = zero === "product" ? f64.ne(r.get, f64.mul(a.get, b.get)) : f64.ne(back, a.get);
        } else {
          const factor = zero === "product" ? a : r;
          before = c.seq(product.set(f64.mul(factor.get, b.get)), twoProduct(c, factor, b, product, error, t));
          if (zero === "quotient") inexact = i32.or(nonZero, f64.ne(product.get, a.get));
          inexact = i32.and(inexact, f64.ne(r.get, cf64(0)));
          // the error of a product is exact within bounds; zeros have none
          usual = i32.or(sticky(c), i32.or(i32.and(between(factor), between(b)), f64.eq(r.get, cf64(0))));
        }
        return c.seq(
          a.set(value(c.a, double)),
          b.set(value(c.b, double)),
          r.set(result),
          giveRounded(
            c,
            i32.and(
              i32.and(i32.or(safe(r.get, least), exactZero), usual),
              i32.and(ordinary(a.get, least), ordinary(b.get, least)),
            ),
            put(c, double, r.get),
            inexact,
            before,
          ),
        );
      },
    );
  }
  define(
    `fsqrt.${suffix}`,
    (c) => i32.and(rounds(c), one(c)),
    (c) => {
      const [a, r, product, error, t] = [c.f64(0), c.f64(1), c.f64(2), c.f64(3), c.f64(4)];
      const root = double ? f64.sqrt(a.get) : promote(op1(0x91)(demote(a.get)));
      const square = product.set(f64.mul(r.get, r.get));
      const ranged = i32.or(sticky(c), i32.or(between(r), f64.eq(a.get, cf64(0))));
      return c.seq(
        a.set(value(c.a, double)),
        r.set(root),
        giveRounded(
          c,
          i32.and(
            i32.or(i32.and(f64.ge(a.get, cf64(least)), f64.lt(a.get, infinity)), f64.eq(a.get, cf64(0))),
            double ? ranged : c32(1),
          ),
          put(c, double, r.get),
          i32.or(f64.ne(product.get, a.get), double ? f64.ne(error.get, cf64(0)) : c32(0)),
          double ? c.seq(square, twoProduct(c, r, r, product, error, t)) : square,
        ),
      );
    },
  );
  // Comparisons raise nothing where neither is a NaN.
  for (const [name, compare] of [
    ["feq", f64.eq],
    ["flt", f64.lt],
    ["fle", f64.le],
  ] as const) {
    define(`${name}.${suffix}`, both, (c) => {
      const [a, b] = [c.f64(0), c.f64(1)];
      return c.seq(
        a.set(value(c.a, double)),
        b.set(value(c.b, double)),
        give(c, i32.and(number(a.get), number(b.get)), c.d.set64i(compare(a.get, b.get))),
      );
    });
  }
  // Where one is less than the other; equal ones (zeros of either sign) and NaNs are the helper's.
  for (const [name, first] of [
    ["fmin", f64.lt],
    ["fmax", f64.gt],
  ] as const) {
    define(`${name}.${suffix}`, both, (c) => {
      const [a, b] = [c.f64(0), c.f64(1)];
      return c.seq(
        a.set(value(c.a, double)),
        b.set(value(c.b, double)),
        give(
          c,
          i32.or(f64.lt(a.get, b.get), f64.gt(a.get, b.get)),
          put(c, double, select(a.get, b.get, first(a.get, b.get))),
        ),
      );
    });
  }
  // Integers to numbers are never tiny nor too large.
  for (const [kind, code32, code64] of [
    ["w", 0xb2, 0xb7],
    ["wu", 0xb3, 0xb8],
    ["l", 0xb4, 0xb9],
    ["lu", 0xb5, 0xba],
  ] as const) {
    const wide = kind.startsWith("l");
    define(`fcvt.${suffix}.${kind}`, rounds, (c) => {
      const [source, r] = [c.i64(0), c.f64(0)];
      const operand = wide ? source.get : i32.wrap(source.get);
      // back, and compared; the largest ones round to what is no such integer any more
      const back = op1(kind === "lu" ? 0xfc0007 : 0xfc0006)(r.get);
      const beyond = f64.ge(r.get, cf64(kind === "lu" ? 2 ** 64 : 2 ** 63));
      return c.seq(
        source.set(kind === "w" ? c.a.s32 : kind === "wu" ? c.a.u32 : c.a.i64),
        r.set(double ? op1(code64)(operand) : promote(op1(code32)(operand))),
        giveRounded(c, c32(1), put(c, double, r.get), i32.or(i64.ne(back, source.get), beyond)),
      );
    });
    // Truncation, in range (rounding to zero is in the instruction: lo is 0).
    const [low, high] =
      kind === "w"
        ? [-(2 ** 31) - 1, 2 ** 31]
        : kind === "wu"
          ? [-1, 2 ** 32]
          : kind === "l"
            ? [-(2 ** 63) - 2048, 2 ** 63]
            : [-1, 2 ** 64];
    const truncate = { w: 0xaa, wu: 0xab, l: 0xb0, lu: 0xb1 }[kind];
    define(
      `fcvt.${kind}.${suffix}.rtz`,
      (c) => i32.and(rounds(c), one(c)),
      (c) => {
        const a = c.f64(0);
        const result = op1(truncate)(a.get);
        return c.seq(
          a.set(value(c.a, double)),
          giveRounded(
            c,
            i32.and(f64.gt(a.get, cf64(low)), f64.lt(a.get, cf64(high))),
            c.d.set64(wide ? result : i64.exts(result)),
            f64.ne(a.get, f64.trunc(a.get)),
          ),
        );
      },
    );
  }
}
// Exact.
for (const [kind, code] of [
  ["w", 0xb7],
  ["wu", 0xb8],
] as const) {
  ops.push({
    name: `rv.fcvt.d.${kind}.exact`,
    emit: (c) => c.d.setF64(op1(code)(c.a.i32)),
    evaluate: (o) => {
      const view = new DataView(new ArrayBuffer(8));
      const raw = o.get(o.a, 32);
      view.setFloat64(0, Number(kind === "w" ? BigInt.asIntN(32, raw) : raw));
      o.set(o.d, 64, view.getBigUint64(0));
    },
  });
}
define(
  "fcvt.d.s",
  (c) => i32.and(boxed(c.a), number(promote(c.a.f32))),
  (c) => c.seq(c.d.setF64(promote(c.a.f32)), c.i32(0).set(c32(1))),
);
define("fcvt.s.d", rounds, (c) => {
  const [a, r] = [c.f64(0), c.f64(1)];
  return c.seq(
    a.set(c.a.f64),
    r.set(promote(demote(a.get))),
    giveRounded(c, i32.or(safe(r.get, LEAST_32), f64.eq(a.get, cf64(0))), putSingle(c, r.get), f64.ne(a.get, r.get)),
  );
});

// ---- fused multiply-add ------------------------------------------------------------------------------------------

/** hi bits of the helper's operand: negate the product, negate the addend. */
export const FMA_NEGATE_PRODUCT = 0x4000;
export const FMA_NEGATE_ADDEND = 0x8000;

/** value ^ (hi's bit moved to the sign). */
const signed = (c: EmitContext, v: Expr, bit: number): Expr =>
  fromBits(i64.xor(i64.reinterpret(v), i64.shl(i64.extu(i32.and(c.hi, c32(bit))), c64(63 - Math.log2(bit)))));
const third = (c: EmitContext): CellAccess => c.cellAt(0, i32.shru(c.hi, c32(16)));
/** sum's last bit made odd in the direction of the error, where there is one: rounding to odd. */
function toOdd(c: EmitContext, sum: Local, error: Local): Expr {
  const bits = c.i64(0);
  const away = i64.ges(i64.xor(bits.get, i64.reinterpret(error.get)), c64(0));
  return c.when(
    f64.ne(error.get, cf64(0)),
    c.seq(
      bits.set(i64.reinterpret(sum.get)),
      c.when(i64.eqz(i64.and(bits.get, c64(1))), sum.set(fromBits(i64.add(bits.get, select(c64(1), c64(-1), away))))),
    ),
  );
}
define(
  "fma.s",
  (c) => i32.and(i32.and(rounds(c), sticky(c)), i64.geu(i64.and(i64.and(c.a.i64, c.b.i64), third(c).i64), BOX)),
  (c) => {
    const [p, addend, s, e, t, r] = [c.f64(0), c.f64(1), c.f64(2), c.f64(3), c.f64(4), c.f64(5)];
    return c.seq(
      // exact: 24 + 24 bits
      p.set(signed(c, f64.mul(promote(c.a.f32), promote(c.b.f32)), FMA_NEGATE_PRODUCT)),
      addend.set(signed(c, promote(third(c).f32), FMA_NEGATE_ADDEND)),
      twoSum(c, p, addend, s, e, t),
      toOdd(c, s, e),
      r.set(promote(demote(s.get))),
      give(c, i32.and(safe(r.get, LEAST_32), finite(s.get)), putSingle(c, r.get)),
    );
  },
);

define(
  "fma.d",
  (c) => i32.and(rounds(c), sticky(c)),
  (c) => {
    const local = (i: number): Local => c.f64(i);
    const [a, b, addend, uh, ul, t] = [local(0), local(1), local(2), local(3), local(4), local(5)];
    const [ah, al, bh, bl, th, tl] = [local(6), local(7), local(8), local(9), local(10), local(11)];
    const addendFine = i32.or(
      i32.and(f64.lt(f64.abs(addend.get), cf64(2 ** 960)), f64.gt(f64.abs(addend.get), cf64(SMALL))),
      f64.eq(addend.get, cf64(0)),
    );
    return c.seq(
      a.set(signed(c, c.a.f64, FMA_NEGATE_PRODUCT)),
      b.set(c.b.f64),
      addend.set(signed(c, third(c).f64, FMA_NEGATE_ADDEND)),
      c.when(
        i32.and(i32.and(between(a), between(b)), addendFine),
        c.seq(
          // uh + ul = a * b
          uh.set(f64.mul(a.get, b.get)),
          twoProduct(c, a, b, uh, ul, t),
          // th + tl = addend + ul; then ah + al = uh + th; the rest rounded to odd, and added
          twoSum(c, addend, ul, th, tl, t),
          twoSum(c, uh, th, ah, al, t),
          twoSum(c, tl, al, bh, bl, t),
          toOdd(c, bh, bl),
          t.set(f64.add(ah.get, bh.get)),
          give(c, f64.gt(f64.abs(t.get), cf64(SMALL)), c.d.setF64(t.get)),
        ),
      ),
    );
  },
);

// ---- moves -------------------------------------------------------------------------------------------------------

const CANONICAL_32 = 0x7fc0_0000n;
ops.push(
  {
    name: "rv.flw",
    emit: (c) => c.d.set64(i64.or(c.load("u32", i64.add(c.a.i64, c.imm)), BOX)),
    evaluate: (o) => o.set(o.d, 64, o.load(BigInt.asUintN(64, o.get(o.a, 64) + o.imm), 32) | (0xffff_ffffn << 32n)),
  },
  {
    name: "rv.box",
    emit: (c) => c.d.set64(i64.or(c.a.u32, BOX)),
    evaluate: (o) => o.set(o.d, 64, o.get(o.a, 32) | (0xffff_ffffn << 32n)),
  },
);
const signs: readonly [string, (a: Expr, b: Expr) => Expr, (a: bigint, b: bigint) => bigint][] = [
  ["fsgnj", (_a, b) => b, (_a, b) => b],
  ["fsgnjn", (_a, b) => i64.xor(b, c64(-1)), (_a, b) => ~b],
  ["fsgnjx", i64.xor, (a, b) => a ^ b],
];
for (const [name, sign, meaning] of signs) {
  ops.push(
    {
      name: `rv.${name}.d`,
      emit: (c) => {
        const [a, b] = [c.i64(0), c.i64(1)];
        return c.seq(
          a.set(c.a.i64),
          b.set(c.b.i64),
          c.d.set64(i64.or(i64.and(a.get, c64(-1, 0x7fff_ffff)), i64.and(sign(a.get, b.get), c64(0, 0x8000_0000 | 0)))),
        );
      },
      evaluate: (o) => {
        const [a, b] = [o.get(o.a, 64), o.get(o.b, 64)];
        o.set(o.d, 64, (a & ~(1n << 63n)) | (meaning(a, b) & (1n << 63n)));
      },
    },
    {
      // what is not boxed counts as the canonical NaN
      name: `rv.${name}.s`,
      emit: (c) => {
        const [a, b] = [c.i64(0), c.i64(1)];
        const unbox = (cell: CellAccess): Expr => select(cell.i64, c64(0x7fc0_0000), boxed(cell));
        return c.seq(
          a.set(unbox(c.a)),
          b.set(unbox(c.b)),
          c.d.set64(
            i64.or(
              i64.or(i64.and(a.get, c64(0x7fff_ffff, 0)), i64.and(sign(a.get, b.get), c64(0x8000_0000 | 0, 0))),
              BOX,
            ),
          ),
        );
      },
      evaluate: (o) => {
        const unbox = (v: bigint): bigint => (v >> 32n === 0xffff_ffffn ? v & 0xffff_ffffn : CANONICAL_32);
        const [a, b] = [unbox(o.get(o.a, 64)), unbox(o.get(o.b, 64))];
        const result = (a & 0x7fff_ffffn) | (meaning(a, b) & 0x8000_0000n);
        o.set(o.d, 64, result | (0xffff_ffffn << 32n));
      },
    },
  );
}

export const floatOps: readonly OpSpec[] = ops;
