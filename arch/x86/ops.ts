/**
 * The x86's own IR operations: arithmetic with lazy flags, conditions, compare-and-branch, stack, and what faults with #DE.
 *
 * Design: families generated over widths 8, 16, 32, 64 and over register or immediate second operand (suffix i). Operands and
 * result conventions are those of the core ops (translate/OPS.md), so that an op's `plain` twin is a core op. Flags: flags.ts.
 * Names start with "x.".
 *
 * Invariant: an op reads its sources before it writes d, since they may be the same cell.
 */
import type { EmitContext, FlagUse, Local, OpSpec, OracleContext } from "../translate/ir.ts";
import type { Expr } from "../translate/wasm/code.ts";
import { c32, c64, i32, i64, select } from "../translate/wasm/expr.ts";
import {
  CC_ADC,
  CC_ADD,
  CC_DEC,
  CC_EFLAGS,
  CC_INC,
  CC_RESULT,
  CC_SBB,
  CC_SUB,
  COND_NAMES,
  conditionHolds,
  emitCarry,
  emitCondition,
  emitFlags,
  emitResultCondition,
  emitSubCondition,
  oracleFlags,
} from "./flags.ts";
import { VECTOR_DE, VECTOR_GP } from "./state.ts";

const WIDTHS = [8, 16, 32, 64] as const;
type Width = (typeof WIDTHS)[number];
const log = (w: Width) => (w === 8 ? 0 : w === 16 ? 1 : w === 32 ? 2 : 3);

// ---- emission helpers ---------------------------------------------------------------------------------------------

/** Second operand, sign-extended to i64. */
const second = (c: EmitContext, w: Width, imm: boolean): Expr =>
  imm ? sext(w, c.imm) : w === 8 ? c.b.s8 : w === 16 ? c.b.s16 : w === 32 ? c.b.s32 : c.b.i64;
const first = (c: EmitContext, w: Width): Expr =>
  w === 8 ? c.a.s8 : w === 16 ? c.a.s16 : w === 32 ? c.a.s32 : c.a.i64;
const firstUnsigned = (c: EmitContext, w: Width): Expr =>
  w === 8 ? c.a.u8 : w === 16 ? c.a.u16 : w === 32 ? c.a.u32 : c.a.i64;
const destination = (c: EmitContext, w: Width): Expr =>
  w === 8 ? c.d.u8 : w === 16 ? c.d.u16 : w === 32 ? c.d.u32 : c.d.i64;
const sext = (w: Width, x: Expr): Expr => (w === 8 ? i64.sx8(x) : w === 16 ? i64.sx16(x) : w === 32 ? i64.sx32(x) : x);
const zext = (w: Width, x: Expr): Expr =>
  w === 64 ? x : w === 32 ? i64.extu(i32.wrap(x)) : i64.and(x, c64(w === 8 ? 0xff : 0xffff));
/** Writes an i64 to d by the width's convention (32 clears the upper half). */
const put = (c: EmitContext, w: Width, x: Expr): Expr =>
  w === 8 ? c.d.set8(x) : w === 16 ? c.d.set16(x) : w === 32 ? c.d.set64(zext(32, x)) : c.d.set64(x);
const setFlags = (c: EmitContext, cc: number, dst: Expr, src: Expr): Expr =>
  c.seq(c.cell("ccDst").set64(dst), c.cell("ccSrc").set64(src), c.cell("ccOp").set64i(c32(cc)));
/** Flags from an i32 in RFLAGS form. */
const setEflags = (c: EmitContext, flags: Expr): Expr =>
  c.seq(c.cell("ccSrc").set64i(flags), c.cell("ccOp").set64i(c32(CC_EFLAGS)));
/** Raises an exception: vector, error code or -1. */
const raise = (c: EmitContext, vector: Expr, error: Expr): Expr =>
  c.seq(c.cell("faultVector").set32i(vector), c.cell("faultError").set32i(error), c.fault);

// ---- oracle helpers -----------------------------------------------------------------------------------------------

const S = (w: number, x: bigint) => BigInt.asIntN(w, x);
const U = (w: number, x: bigint) => BigInt.asUintN(w, x);
const oa = (o: OracleContext, w: number) => o.get(o.a, w);
const ob = (o: OracleContext, w: number, imm: boolean) => (imm ? U(w, o.imm) : o.get(o.b, w));
const oput = (o: OracleContext, w: number, x: bigint) => o.set(o.d, w === 32 ? 64 : w, U(w, x));
const oflags = (o: OracleContext, cc: number, dst: bigint, src: bigint): void => {
  o.set(o.at("ccOp"), 64, BigInt(cc));
  o.set(o.at("ccDst"), 64, U(64, dst));
  o.set(o.at("ccSrc"), 64, U(64, src));
};
const oeflags = (o: OracleContext, flags: number): void => {
  o.set(o.at("ccOp"), 64, BigInt(CC_EFLAGS));
  o.set(o.at("ccSrc"), 64, BigInt(flags));
};
function oraise(o: OracleContext, vector: number, error: number): never {
  o.set(o.at("faultVector"), 32, BigInt(vector));
  o.set(o.at("faultError"), 32, U(32, BigInt(error)));
  return o.fault();
}

// ---- arithmetic ---------------------------------------------------------------------------------------------------

const ops: OpSpec[] = [];
const suffix = (imm: boolean) => (imm ? "i" : "");

function binary(
  name: string,
  w: Width,
  imm: boolean,
  result: (x: Expr, y: Expr) => Expr,
  flags: (c: EmitContext, x: Expr, y: Expr, r: Expr) => Expr,
  value: (a: bigint, b: bigint) => bigint,
  oracle: (o: OracleContext, a: bigint, b: bigint, r: bigint) => void,
  keep = true,
): void {
  const i = suffix(imm);
  ops.push({
    name: `x.${name}${w}${i}`,
    flags: "set",
    plain: keep ? `${name}${w}${i}` : "drop",
    emit(c) {
      const x = c.i64(0);
      const y = c.i64(1);
      const r = c.i64(2);
      return c.seq(
        x.set(first(c, w)),
        y.set(second(c, w, imm)),
        r.set(sext(w, result(x.get, y.get))),
        ...(keep ? [put(c, w, r.get)] : []),
        flags(c, x.get, y.get, r.get),
      );
    },
    evaluate(o) {
      const a = oa(o, w);
      const b = ob(o, w, imm);
      const r = U(w, value(a, b));
      if (keep) oput(o, w, r);
      oracle(o, S(w, a), S(w, b), S(w, r));
    },
  });
}

for (const w of WIDTHS) {
  for (const imm of [false, true]) {
    const i = suffix(imm);
    const l = log(w);
    binary(
      "add",
      w,
      imm,
      i64.add,
      (c, _x, y, r) => setFlags(c, CC_ADD | l, r, y),
      (a, b) => a + b,
      (o, _a, b, r) => oflags(o, CC_ADD | l, r, b),
    );
    binary(
      "sub",
      w,
      imm,
      i64.sub,
      (c, x, y) => setFlags(c, CC_SUB | l, x, y),
      (a, b) => a - b,
      (o, a, b) => oflags(o, CC_SUB | l, a, b),
    );
    for (const [name, f, v] of [
      ["and", i64.and, (a: bigint, b: bigint) => a & b],
      ["or", i64.or, (a: bigint, b: bigint) => a | b],
      ["xor", i64.xor, (a: bigint, b: bigint) => a ^ b],
    ] as const) {
      binary(
        name,
        w,
        imm,
        f,
        (c, _x, _y, r) => setFlags(c, CC_RESULT | l, r, c64(0)),
        v,
        (o, _a, _b, r) => oflags(o, CC_RESULT | l, r, 0n),
      );
    }
    ops.push(
      {
        name: `x.cmp${w}${i}`,
        flags: "set",
        plain: "drop",
        emit: (c) => setFlags(c, CC_SUB | l, first(c, w), second(c, w, imm)),
        evaluate: (o) => oflags(o, CC_SUB | l, S(w, oa(o, w)), S(w, ob(o, w, imm))),
      },
      {
        name: `x.test${w}${i}`,
        flags: "set",
        plain: "drop",
        emit: (c) => setFlags(c, CC_RESULT | l, i64.and(first(c, w), second(c, w, imm)), c64(0)),
        evaluate: (o) => oflags(o, CC_RESULT | l, S(w, oa(o, w) & ob(o, w, imm)), 0n),
      },
    );
    // adc, sbb: the group says whether there was a carry in
    for (const [name, f, base, withCarry, sign] of [
      ["adc", i64.add, CC_ADD, CC_ADC, 1n],
      ["sbb", i64.sub, CC_SUB, CC_SBB, -1n],
    ] as const) {
      ops.push({
        name: `x.${name}${w}${i}`,
        flags: "update",
        emit(c) {
          const x = c.i64(0);
          const y = c.i64(1);
          const carry = c.i32(0);
          const r = c.i64(2);
          return c.seq(
            x.set(first(c, w)),
            y.set(second(c, w, imm)),
            carry.set(emitCarry(c)),
            r.set(sext(w, f(f(x.get, y.get), i64.extu(carry.get)))),
            put(c, w, r.get),
            c.cell("ccDst").set64(name === "adc" ? r.get : x.get),
            c.cell("ccSrc").set64(y.get),
            c.cell("ccOp").set64i(i32.add(c32(base | l), i32.shl(carry.get, c32(3)))),
          );
        },
        evaluate(o) {
          const a = oa(o, w);
          const b = ob(o, w, imm);
          const carry = oracleFlags(o) & 1;
          const r = a + sign * (b + BigInt(carry));
          oput(o, w, r);
          oflags(o, (carry ? withCarry : base) | l, S(w, name === "adc" ? r : a), S(w, b));
        },
      });
    }
    shifts(w, imm);
    rotates(w, imm);
    // imul of two operands: CF = OF = the product does not fit
    if (w !== 8) {
      ops.push({
        name: `x.imul${w}${i}`,
        flags: "set",
        plain: `mul${w}${i}`,
        emit(c) {
          const x = c.i64(0);
          const y = c.i64(1);
          const r = c.i64(2);
          const overflow =
            w === 64 ? i64.ne(highSigned(c, x.get, y.get), i64.shrs(r.get, c64(63))) : i64.ne(sext(w, r.get), r.get);
          return c.seq(
            x.set(first(c, w)),
            y.set(second(c, w, imm)),
            r.set(i64.mul(x.get, y.get)),
            put(c, w, r.get),
            c.cell("ccSrc").set64i(i32.mul(overflow, c32(0x801))),
            c.cell("ccDst").set64(sext(w, r.get)),
            c.cell("ccOp").set64i(c32(CC_RESULT | l)),
          );
        },
        evaluate(o) {
          const r = S(w, oa(o, w)) * S(w, ob(o, w, imm));
          oput(o, w, r);
          oflags(o, CC_RESULT | l, S(w, r), S(w, r) === r ? 0n : 0x801n);
        },
      });
    }
  }
  const l = log(w);
  for (const [name, group, delta, plain] of [
    ["inc", CC_INC, 1, "add"],
    ["dec", CC_DEC, -1, "sub"],
  ] as const) {
    // imm is 1: the plain twin is addWi or subWi
    ops.push({
      name: `x.${name}${w}`,
      flags: "update",
      plain: `${plain}${w}i`,
      emit(c) {
        const r = c.i64(0);
        return c.seq(
          r.set(sext(w, i64.add(first(c, w), c64(delta)))),
          put(c, w, r.get),
          c.cell("ccSrc").set64i(emitCarry(c)),
          c.cell("ccDst").set64(r.get),
          c.cell("ccOp").set64i(c32(group | l)),
        );
      },
      evaluate(o) {
        const carry = oracleFlags(o) & 1;
        const r = S(w, oa(o, w) + BigInt(delta));
        oput(o, w, r);
        oflags(o, group | l, r, BigInt(carry));
      },
    });
  }
  ops.push({
    name: `x.neg${w}`,
    flags: "set",
    plain: `neg${w}`,
    emit(c) {
      const x = c.i64(0);
      return c.seq(x.set(first(c, w)), put(c, w, i64.sub(c64(0), x.get)), setFlags(c, CC_SUB | l, c64(0), x.get));
    },
    evaluate(o) {
      const a = S(w, oa(o, w));
      oput(o, w, -a);
      oflags(o, CC_SUB | l, 0n, a);
    },
  });
  wide(w);
  if (w !== 8) bits(w);
}

/** shl, shr, sar. By register: count 0 changes nothing, not even flags. Immediate counts are 1..W-1 (masked by the lifter). */
function shifts(w: Width, imm: boolean): void {
  const i = suffix(imm);
  const l = log(w);
  const mask = w === 64 ? 63 : 31;
  for (const name of ["shl", "shr", "sar"] as const) {
    ops.push({
      name: `x.${name}${w}${i}`,
      flags: imm ? "set" : "update",
      plain: `${name}${w}${i}`,
      emit(c) {
        const n = c.i64(0);
        const x = c.i64(1);
        const r = c.i64(2);
        const carry = c.i32(0);
        const less = i64.sub(n.get, c64(1));
        const body = (): Expr => {
          if (name === "shl") {
            // CF: the last bit out; counts past an 8- or 16-bit width shift zeros out
            const before = w === 64 ? i64.shl(x.get, less) : i64.shl(zext(w, x.get), less);
            return c.seq(
              r.set(before),
              carry.set(i32.and(i32.wrap(i64.shru(r.get, c64(w - 1))), c32(1))),
              r.set(sext(w, i64.shl(r.get, c64(1)))),
              put(c, w, r.get),
              c.cell("ccSrc").set64i(i32.or(carry.get, i32.shl(i32.xor(i64.lts(r.get, c64(0)), carry.get), c32(11)))),
            );
          }
          const shift = name === "shr" ? i64.shru : i64.shrs;
          return c.seq(
            r.set(shift(x.get, less)),
            carry.set(i32.and(i32.wrap(r.get), c32(1))),
            // OF: the sign before the shift for shr (of the last step), 0 for sar
            ...(name === "shr"
              ? [
                  c
                    .cell("ccSrc")
                    .set64i(
                      i32.or(carry.get, i32.shl(i32.and(i32.wrap(i64.shru(r.get, c64(w - 1))), c32(1)), c32(11))),
                    ),
                ]
              : [c.cell("ccSrc").set64i(carry.get)]),
            r.set(sext(w, shift(r.get, c64(1)))),
            put(c, w, r.get),
          );
        };
        const run = c.seq(body(), c.cell("ccDst").set64(r.get), c.cell("ccOp").set64i(c32(CC_RESULT | l)));
        const load = x.set(name === "sar" ? first(c, w) : firstUnsigned(c, w));
        if (imm) return c.seq(n.set(c.imm), load, run);
        const zero = put(c, w, x.get);
        return c.seq(n.set(i64.and(c.b.u8, c64(mask))), load, c.when(i32.eqz(i64.eqz(n.get)), run, zero));
      },
      evaluate(o) {
        const n = imm ? o.imm : o.get(o.b, 8) & BigInt(mask);
        const a = oa(o, w);
        if (n === 0n) {
          oput(o, w, a);
          return;
        }
        const W = BigInt(w);
        let r: bigint;
        let carry: bigint;
        let overflow: bigint;
        if (name === "shl") {
          r = U(w, a << n);
          carry = n > W ? 0n : ((a << n) >> W) & 1n;
          overflow = (r >> (W - 1n)) ^ carry;
        } else {
          const x = name === "sar" ? S(w, a) : a;
          r = U(w, x >> n);
          carry = (x >> (n - 1n)) & 1n;
          overflow = name === "shr" ? ((x >> (n - 1n)) >> (W - 1n)) & 1n : 0n;
        }
        oput(o, w, r);
        oflags(o, CC_RESULT | l, S(w, r), carry | (overflow << 11n));
      },
    });
  }
}

/** rol, ror, rcl, rcr: only CF and OF change, and nothing for count 0. The immediate is masked to 1..63 or 1..31. */
function rotates(w: Width, imm: boolean): void {
  const i = suffix(imm);
  const mask = w === 64 ? 63 : 31;
  for (const name of ["rol", "ror", "rcl", "rcr"] as const) {
    const carried = name === "rcl" || name === "rcr";
    const left = name === "rol" || name === "rcl";
    ops.push({
      name: `x.${name}${w}${i}`,
      flags: "update",
      ...(carried ? {} : { plain: `${name}${w}${i}` }),
      emit(c) {
        const n = c.i64(0);
        const x = c.i64(1);
        const r = c.i64(2); // after emitFlags only: it uses i64 locals 2 and 3
        const flags = c.i32(3);
        const top = (v: Expr) => i32.wrap(i64.and(i64.shru(v, c64(w - 1)), c64(1)));
        const period = w + (carried ? 1 : 0);
        const count = carried && w < 32 ? i64.remu(n.get, c64(period)) : w < 32 ? i64.and(n.get, c64(w - 1)) : n.get;
        const k = c.i64(0);
        const rotate = (): Expr => {
          if (!carried) {
            const back = i64.and(i64.sub(c64(w), k.get), c64(w - 1));
            if (w === 64) return left ? i64.rotl(x.get, k.get) : i64.rotr(x.get, k.get);
            return left
              ? i64.or(i64.shl(x.get, k.get), i64.shru(x.get, back))
              : i64.or(i64.shru(x.get, k.get), i64.shl(x.get, back));
          }
          // rcl: x << k | cf << (k - 1) | x >> (w + 1 - k), the last as two shifts since it may be w; rcr is rcl by w + 1 - k
          const cf = i64.extu(i32.and(flags.get, c32(1)));
          const less = i64.sub(k.get, c64(1));
          const rest = i64.sub(c64(w), k.get);
          return left
            ? i64.or(i64.or(i64.shl(x.get, k.get), i64.shl(cf, less)), i64.shru(i64.shru(x.get, c64(1)), rest))
            : i64.or(i64.or(i64.shru(x.get, k.get), i64.shl(cf, rest)), i64.shl(i64.shl(x.get, c64(1)), rest));
        };
        const carryOut = (): Expr => {
          if (name === "rol") return i32.wrap(i64.and(r.get, c64(1)));
          if (name === "ror") return top(r.get);
          // the last bit that went out
          return left
            ? i32.wrap(i64.and(i64.shru(x.get, i64.sub(c64(w), k.get)), c64(1)))
            : i32.wrap(i64.and(i64.shru(x.get, i64.sub(k.get, c64(1))), c64(1)));
        };
        const carry = c.i32(0);
        const overflow = left
          ? i32.xor(top(r.get), carry.get)
          : i32.xor(top(r.get), i32.wrap(i64.and(i64.shru(r.get, c64(w - 2)), c64(1))));
        const body = c.seq(
          emitFlags(c),
          k.set(count),
          c.when(
            i64.eqz(k.get),
            // a whole turn: the value stays; rol and ror still set CF from it
            carried
              ? put(c, w, x.get)
              : c.seq(r.set(x.get), carry.set(carryOut()), put(c, w, x.get), setRotateFlags(c, carry, overflow)),
            c.seq(
              r.set(zext(w, rotate())),
              carry.set(carryOut()),
              put(c, w, r.get),
              setRotateFlags(c, carry, overflow),
            ),
          ),
        );
        const load = x.set(firstUnsigned(c, w));
        if (imm) return c.seq(n.set(c.imm), load, body);
        return c.seq(n.set(i64.and(c.b.u8, c64(mask))), load, c.when(i64.eqz(n.get), put(c, w, x.get), body));
      },
      evaluate(o) {
        const n = Number(imm ? o.imm : o.get(o.b, 8) & BigInt(mask));
        const W = BigInt(w);
        let a = oa(o, w);
        const flags = oracleFlags(o);
        if (n === 0) {
          oput(o, w, a);
          return;
        }
        let carry = BigInt(flags & 1);
        const steps = carried ? n % (w + 1) : n;
        if (steps === 0) {
          oput(o, w, a);
          return;
        }
        for (let s = 0; s < steps; s++) {
          const out = left ? a >> (W - 1n) : a & 1n;
          const into = carried ? carry : out;
          a = left ? U(w, (a << 1n) | into) : (a >> 1n) | (into << (W - 1n));
          carry = out;
        }
        oput(o, w, a);
        const top = a >> (W - 1n);
        const overflow = left ? top ^ carry : top ^ ((a >> (W - 2n)) & 1n);
        oeflags(o, (flags & ~0x801) | Number(carry) | (Number(overflow) << 11));
      },
    });
  }
}

/** CF and OF replaced in the flags that emitFlags left in i32 local 3. */
function setRotateFlags(c: EmitContext, carry: Local, overflow: Expr): Expr {
  return setEflags(c, i32.or(i32.and(c.i32(3).get, c32(~0x801)), i32.or(carry.get, i32.shl(overflow, c32(11)))));
}

/** High half of a signed 64 x 64 product; uses i64 local 3. */
function highSigned(c: EmitContext, x: Expr, y: Expr): Expr {
  return i64.sub(i64.sub(highUnsigned(c, x, y), i64.and(i64.shrs(x, c64(63)), y)), i64.and(i64.shrs(y, c64(63)), x));
}

/** High half of an unsigned 64 x 64 product, by 32-bit parts; uses i64 local 3. */
function highUnsigned(c: EmitContext, x: Expr, y: Expr): Expr {
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

/** bt (flags only), bsf, bsr, shld, shrd. */
function bits(w: 16 | 32 | 64): void {
  const l = log(w);
  for (const imm of [false, true]) {
    // bt: CF = bit b of a; all other flags stay
    ops.push({
      name: `x.bt${w}${suffix(imm)}`,
      flags: "update",
      plain: "drop",
      emit(c) {
        const n = imm ? c.imm : i64.and(c.b.i64, c64(w - 1));
        return c.seq(
          c.i64(0).set(i64.and(i64.shru(firstUnsigned(c, w), n), c64(1))),
          emitFlags(c),
          setEflags(c, i32.or(i32.and(c.i32(3).get, c32(~1)), i32.wrap(c.i64(0).get))),
        );
      },
      evaluate(o) {
        const n = (imm ? o.imm : o.get(o.b, 64)) & BigInt(w - 1);
        oeflags(o, (oracleFlags(o) & ~1) | Number((oa(o, w) >> n) & 1n));
      },
    });
    // shld, shrd: d by imm or b, filled from a
    for (const left of [true, false]) {
      ops.push({
        name: `x.${left ? "shld" : "shrd"}${w}${suffix(imm)}`,
        flags: "update",
        emit(c) {
          const n = c.i64(0);
          const x = c.i64(1);
          const r = c.i64(2);
          const fill = c.i64(3);
          const carry = c.i32(0);
          const mask = w === 64 ? 63 : 31;
          let body: Expr;
          if (w === 16) {
            // counts above 16 are undefined by the manuals: the 48-bit chain destination, source, destination
            const chain = left
              ? i64.or(i64.shl(x.get, c64(32)), i64.or(i64.shl(fill.get, c64(16)), x.get))
              : i64.or(x.get, i64.or(i64.shl(fill.get, c64(16)), i64.shl(x.get, c64(32))));
            body = left
              ? c.seq(
                  r.set(i64.shl(chain, i64.sub(n.get, c64(1)))),
                  carry.set(i32.wrap(i64.and(i64.shru(r.get, c64(47)), c64(1)))),
                  r.set(i64.shru(r.get, c64(31))),
                )
              : c.seq(
                  r.set(i64.shru(chain, i64.sub(n.get, c64(1)))),
                  carry.set(i32.wrap(i64.and(r.get, c64(1)))),
                  r.set(i64.shru(r.get, c64(1))),
                );
          } else {
            const back = i64.sub(c64(w), n.get);
            body = left
              ? c.seq(
                  carry.set(i32.wrap(i64.and(i64.shru(x.get, back), c64(1)))),
                  r.set(i64.or(i64.shl(x.get, n.get), i64.shru(fill.get, back))),
                )
              : c.seq(
                  carry.set(i32.wrap(i64.and(i64.shru(x.get, i64.sub(n.get, c64(1))), c64(1)))),
                  r.set(i64.or(i64.shru(x.get, n.get), i64.shl(fill.get, back))),
                );
          }
          const other = w === 16 ? c.a.u16 : w === 32 ? c.a.u32 : c.a.i64;
          return c.seq(
            n.set(imm ? c.imm : i64.and(c.b.u8, c64(mask))),
            x.set(destination(c, w)),
            fill.set(other),
            c.when(
              i64.eqz(n.get),
              put(c, w, x.get),
              c.seq(
                body,
                r.set(sext(w, r.get)),
                put(c, w, r.get),
                // OF: the sign changed
                setFlags(
                  c,
                  CC_RESULT | l,
                  r.get,
                  i64.extu(i32.or(carry.get, i32.shl(i64.lts(i64.xor(r.get, sext(w, x.get)), c64(0)), c32(11)))),
                ),
              ),
            ),
          );
        },
        evaluate(o) {
          const n = imm ? o.imm : o.get(o.b, 8) & (w === 64 ? 63n : 31n);
          const x = o.get(o.d, w);
          const fill = o.get(o.a, w);
          const W = BigInt(w);
          if (n === 0n) {
            oput(o, w, x);
            return;
          }
          // a chain of three: enough for counts up to 31 at 16 bits
          const chain = left ? (((x << W) | fill) << W) | x : (((x << W) | fill) << W) | x;
          let r: bigint;
          let carry: bigint;
          if (left) {
            r = U(w, (chain << n) >> (2n * W));
            carry = ((chain << n) >> (3n * W)) & 1n;
          } else {
            r = U(w, chain >> n);
            carry = (chain >> (n - 1n)) & 1n;
          }
          oput(o, w, r);
          const changed = ((r ^ x) >> (W - 1n)) & 1n;
          oflags(o, CC_RESULT | l, S(w, r), carry | (changed << 11n));
        },
      });
    }
  }
  for (const forward of [true, false]) {
    ops.push({
      name: `x.${forward ? "bsf" : "bsr"}${w}`,
      flags: "update",
      emit(c) {
        const x = c.i64(0);
        const found = forward ? i64.ctz(x.get) : i64.sub(c64(63), i64.clz(x.get));
        return c.seq(
          x.set(firstUnsigned(c, w)),
          emitFlags(c),
          c.when(
            i64.eqz(x.get),
            setEflags(c, i32.or(c.i32(3).get, c32(0x40))),
            c.seq(put(c, w, found), setEflags(c, i32.and(c.i32(3).get, c32(~0x40)))),
          ),
        );
      },
      evaluate(o) {
        const a = oa(o, w);
        const flags = oracleFlags(o);
        if (a === 0n) {
          oeflags(o, flags | 0x40);
          return;
        }
        const text = a.toString(2);
        const at = forward ? text.length - 1 - text.lastIndexOf("1") : text.length - 1;
        oput(o, w, BigInt(at));
        oeflags(o, flags & ~0x40);
      },
    });
  }
  ops.push({
    name: `x.popcnt${w}`,
    flags: "set",
    emit(c) {
      const x = c.i64(0);
      return c.seq(
        x.set(i64.popcnt(firstUnsigned(c, w))),
        put(c, w, x.get),
        setEflags(c, i32.shl(i64.eqz(x.get), c32(6))),
      );
    },
    evaluate(o) {
      let n = 0n;
      for (let a = oa(o, w); a !== 0n; a >>= 1n) n += a & 1n;
      oput(o, w, n);
      oeflags(o, n === 0n ? 0x40 : 0);
    },
  });
}

// ---- conditions ---------------------------------------------------------------------------------------------------

/** "" any flags; "s" after a SUB group (compare, sub, neg); "r" where ccDst is the result (logic, add, inc, dec, shifts). */
const KINDS = ["", "s", "r"] as const;

/** Prepares (statement) and pushes condition cc for a kind; null when the kind does not cover it. */
function condition(c: EmitContext, kind: "" | "s" | "r", cc: number): [before: Expr, value: Expr] | null {
  if (kind === "") return [emitCondition(c, cc), c.i32(0).get];
  const e = kind === "s" ? emitSubCondition(c, cc) : emitResultCondition(c, cc);
  return e === null ? null : [() => {}, e];
}
const covers = (kind: "" | "s" | "r", cc: number): boolean => {
  if (kind === "") return true;
  const base = cc & 14;
  return kind === "s" ? base === 2 || base === 4 || base === 6 || base === 12 || base === 14 : base === 4 || base === 8;
};

for (const kind of KINDS) {
  for (let cc = 0; cc < 16; cc++) {
    if (!covers(kind, cc)) continue;
    const name = `${kind}${COND_NAMES[cc]}`;
    const make = (c: EmitContext) => condition(c, kind, cc)!;
    const holds = (o: OracleContext) => conditionHolds(cc, oracleFlags(o));
    ops.push(
      {
        // d (8 bits) = condition
        name: `x.set.${name}`,
        flags: "read",
        emit(c) {
          const [before, value] = make(c);
          return c.seq(before, c.d.set8i(value));
        },
        evaluate: (o) => o.set(o.d, 8, holds(o) ? 1n : 0n),
      },
      {
        // d (64 bits) = condition
        name: `x.cond.${name}`,
        flags: "read",
        emit(c) {
          const [before, value] = make(c);
          return c.seq(before, c.d.set64i(value));
        },
        evaluate: (o) => o.set(o.d, 64, holds(o) ? 1n : 0n),
      },
    );
    for (const w of [16, 32, 64] as const) {
      ops.push({
        // cmov: d = a if the condition holds (32: the upper half is cleared either way)
        name: `x.cmov${w}.${name}`,
        flags: "read",
        emit(c) {
          const [before, value] = make(c);
          if (w === 16) return c.seq(before, c.when(value, c.d.set16(c.a.i64)));
          return c.seq(
            before,
            w === 64 ? c.d.set64(select(c.a.i64, c.d.i64, value)) : c.d.set64(select(c.a.u32, c.d.u32, value)),
          );
        },
        evaluate(o) {
          if (holds(o)) oput(o, w, oa(o, w));
          else if (w === 32) oput(o, 32, o.get(o.d, 32));
        },
      });
    }
    if ((cc & 1) === 0) {
      ops.push({
        name: `x.j.${name}`,
        flags: "read",
        terminator: "branch",
        emit(c) {
          const [before, value] = make(c);
          return c.seq(before, c.branch(value));
        },
        evaluate: (o) => o.branch(holds(o)),
      });
    }
  }
}

// Compare-and-branch, test-and-branch: flags and jump in one op. The immediate is imm2.
for (const w of WIDTHS) {
  const l = log(w);
  for (const imm of [false, true]) {
    const x = (c: EmitContext) => c.i64(0);
    const y = (c: EmitContext) => c.i64(1);
    const load = (c: EmitContext) =>
      c.seq(x(c).set(first(c, w)), y(c).set(imm ? sext(w, c.imm2) : second(c, w, false)));
    const oy = (o: OracleContext) => (imm ? U(w, o.imm2) : o.get(o.b, w));
    for (const [cc, compare] of [
      ["b", i64.ltu],
      ["z", i64.eq],
      ["be", i64.leu],
      ["l", i64.lts],
      ["le", i64.les],
    ] as const) {
      ops.push({
        name: `x.jcmp${w}${suffix(imm)}.${cc}`,
        flags: "set",
        terminator: "branch",
        ...(imm ? { extra: true } : {}),
        emit: (c) => c.seq(load(c), setFlags(c, CC_SUB | l, x(c).get, y(c).get), c.branch(compare(x(c).get, y(c).get))),
        evaluate(o) {
          oflags(o, CC_SUB | l, S(w, oa(o, w)), S(w, oy(o)));
          o.branch(conditionHolds(COND_NAMES.indexOf(cc), oracleFlags(o)));
        },
      });
    }
    for (const [cc, compare] of [
      ["z", i64.eqz],
      ["s", (r: Expr) => i64.lts(r, c64(0))],
      ["le", (r: Expr) => i64.les(r, c64(0))],
    ] as const) {
      ops.push({
        name: `x.jtest${w}${suffix(imm)}.${cc}`,
        flags: "set",
        terminator: "branch",
        ...(imm ? { extra: true } : {}),
        emit: (c) =>
          c.seq(
            load(c),
            setFlags(c, CC_RESULT | l, x(c).tee(i64.and(x(c).get, y(c).get)), c64(0)),
            c.branch(compare(x(c).get)),
          ),
        evaluate(o) {
          oflags(o, CC_RESULT | l, S(w, oa(o, w) & oy(o)), 0n);
          o.branch(conditionHolds(COND_NAMES.indexOf(cc), oracleFlags(o)));
        },
      });
    }
  }
}

// ---- flags as a word ----------------------------------------------------------------------------------------------

ops.push(
  {
    // d (64 bits) = the six arithmetic flags
    name: "x.flags",
    flags: "read",
    emit: (c) => c.seq(emitFlags(c), c.d.set64i(c.i32(3).get)),
    evaluate: (o) => o.set(o.d, 64, BigInt(oracleFlags(o))),
  },
  {
    // the flags of mask lo become those of a; the others stay
    name: "x.setflags",
    flags: "update",
    plain: "drop",
    emit: (c) =>
      c.seq(
        c.i32(0).set(i32.and(c.a.i32, c.lo)),
        emitFlags(c),
        setEflags(c, i32.or(c.i32(0).get, i32.and(c.i32(3).get, i32.xor(c.lo, c32(-1))))),
      ),
    evaluate: (o) => {
      const value = Number(o.get(o.a, 32)) & o.lo & 0x8d5;
      oeflags(o, value | (oracleFlags(o) & ~o.lo));
    },
  },
  {
    // the flags of mask lo become hi's; the others stay
    name: "x.setflagsi",
    flags: "update",
    plain: "drop",
    emit: (c) =>
      c.seq(emitFlags(c), setEflags(c, i32.or(i32.and(c.hi, c.lo), i32.and(c.i32(3).get, i32.xor(c.lo, c32(-1)))))),
    evaluate: (o) => oeflags(o, (o.hi & o.lo) | (oracleFlags(o) & ~o.lo)),
  },
  {
    // all flags become a's arithmetic bits
    name: "x.allflags",
    flags: "set",
    plain: "drop",
    emit: (c) => setEflags(c, i32.and(c.a.i32, c32(0x8d5))),
    evaluate: (o) => oeflags(o, Number(o.get(o.a, 32)) & 0x8d5),
  },
  {
    // complements CF
    name: "x.cmc",
    flags: "update",
    plain: "drop",
    emit: (c) => c.seq(emitFlags(c), setEflags(c, i32.xor(c.i32(3).get, c32(1)))),
    evaluate: (o) => oeflags(o, oracleFlags(o) ^ 1),
  },
  {
    // ZF = a (64 bits) is not 0; the others stay
    name: "x.zf",
    flags: "update",
    plain: "drop",
    emit: (c) =>
      c.seq(
        c.i32(0).set(i64.ne(c.a.i64, c64(0))),
        emitFlags(c),
        setEflags(c, i32.or(i32.and(c.i32(3).get, c32(~0x40)), i32.shl(c.i32(0).get, c32(6)))),
      ),
    evaluate: (o) => {
      const set = o.get(o.a, 64) !== 0n ? 0x40 : 0;
      oeflags(o, (oracleFlags(o) & ~0x40) | set);
    },
  },
);

// ---- stack and control --------------------------------------------------------------------------------------------

const RSP = 4;
const rsp = (c: EmitContext) => c.cell("gpr", RSP);
/** Pushes a 64-bit value kept in i64 local 1. */
const push = (c: EmitContext): Expr => {
  const sp = c.i64(0);
  return c.seq(sp.set(i64.sub(rsp(c).i64, c64(8))), c.store(64, sp.get, c.i64(1).get), rsp(c).set64(sp.get));
};
const opush = (o: OracleContext, value: bigint): void => {
  const at = o.at("gpr", RSP);
  const sp = U(64, o.get(at, 64) - 8n);
  o.store(sp, 64, value);
  o.set(at, 64, sp);
};

ops.push(
  {
    name: "x.push64",
    emit: (c) => c.seq(c.i64(1).set(c.a.i64), push(c)),
    evaluate: (o) => opush(o, o.get(o.a, 64)),
  },
  {
    name: "x.push64i",
    emit: (c) => c.seq(c.i64(1).set(c.imm), push(c)),
    evaluate: (o) => opush(o, o.imm),
  },
  {
    // rsp moves before d is written: pop rsp takes the value
    name: "x.pop64",
    emit: (c) =>
      c.seq(
        c.i64(0).set(c.load("u64", rsp(c).i64)),
        rsp(c).set64(i64.add(rsp(c).i64, c64(8))),
        c.d.set64(c.i64(0).get),
      ),
    evaluate: (o) => {
      const at = o.at("gpr", RSP);
      const sp = o.get(at, 64);
      const value = o.load(sp, 64);
      o.set(at, 64, U(64, sp + 8n));
      o.set(o.d, 64, value);
    },
  },
  {
    // call: pushes imm2 and jumps to the builder's target
    name: "x.call",
    terminator: "jump",
    extra: true,
    emit: (c) => c.seq(c.i64(1).set(c.imm2), push(c), c.jump()),
    evaluate: (o) => {
      opush(o, o.imm2);
      o.jump();
    },
  },
  {
    // call through a: pushes imm and goes to a
    name: "x.callr",
    terminator: "computed",
    emit: (c) => c.seq(c.i64(2).set(c.a.i64), c.i64(1).set(c.imm), push(c), c.jumpTo(c.i64(2).get)),
    evaluate: (o) => {
      const target = o.get(o.a, 64);
      opush(o, o.imm);
      o.jumpTo(target);
    },
  },
  {
    // ret: pops the target; imm is 8 and what `ret n` releases
    name: "x.ret",
    terminator: "computed",
    emit: (c) =>
      c.seq(c.i64(0).set(c.load("u64", rsp(c).i64)), rsp(c).set64(i64.add(rsp(c).i64, c.imm)), c.jumpTo(c.i64(0).get)),
    evaluate: (o) => {
      const at = o.at("gpr", RSP);
      const sp = o.get(at, 64);
      const value = o.load(sp, 64);
      o.set(at, 64, U(64, sp + o.imm));
      o.jumpTo(value);
    },
  },
  {
    // d += lo, or -= lo when DF is set; a 64-bit cell
    name: "x.step",
    emit: (c) =>
      c.d.set64(
        i64.add(c.d.i64, i64.exts(select(i32.sub(c32(0), c.lo), c.lo, i32.and(c.cell("rflags").i32, c32(0x400))))),
      ),
    evaluate: (o) => {
      const down = (o.get(o.at("rflags"), 32) & 0x400n) !== 0n;
      o.set(o.d, 64, U(64, o.get(o.d, 64) + BigInt(down ? -o.lo : o.lo)));
    },
  },
  {
    // raises the exception: vector lo, error code hi (-1: none)
    name: "x.raise",
    terminator: "computed",
    emit: (c) => raise(c, c.lo, c.hi),
    evaluate: (o) => oraise(o, o.lo, o.hi),
  },
  {
    // #GP(0) where a + imm is not a multiple of 16 (SSE's aligned memory operands)
    name: "x.aligned16",
    emit: (c) => c.when(i32.and(i32.add(c.a.i32, c.lo), c32(15)), raise(c, c32(VECTOR_GP), c32(0))),
    evaluate: (o) => {
      if (((Number(o.get(o.a, 32)) + o.lo) & 15) !== 0) oraise(o, VECTOR_GP, 0);
    },
  },
  {
    // d's low 32 bits = a's; the rest stays (movss, insertions)
    name: "x.low32",
    emit: (c) => c.d.set32(c.a.i64),
    evaluate: (o) => o.set(o.d, 32, o.get(o.a, 32)),
  },
);

/** All of them, for the engine. */
export const X86_INTEGER_OPS: readonly OpSpec[] = ops;

/** Uses of `FlagUse` other than "none" by name, for tests. */
export function flagUse(name: string): FlagUse {
  return ops.find((op) => op.name === name)?.flags ?? "none";
}
