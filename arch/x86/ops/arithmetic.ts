/**
 * Addition to negation, comparison, logic, and multiplication of two operands, with lazy flags.
 *
 * Families generated over widths 8, 16, 32, 64 and over register or immediate second operand (suffix i). Operands and result
 * conventions are those of the core ops (translate/OPS.md), so that an op's `plain` twin is a core op. Flags: flags.ts.
 * Invariant: an op reads its sources before it writes d, since they may be the same cell.
 */
import type { EmitContext, OpSpec, OracleContext } from "../../translate/ir.ts";
import type { Expr } from "../../translate/wasm/code.ts";
import { c32, c64, i32, i64 } from "../../translate/wasm/expr.ts";
import { CC_ADC, CC_ADD, CC_DEC, CC_INC, CC_RESULT, CC_SBB, CC_SUB, emitCarry, oracleFlags } from "../flags.ts";
import {
  first,
  log,
  oa,
  ob,
  oflags,
  oput,
  put,
  S,
  second,
  setFlags,
  sext,
  suffix,
  U,
  WIDTHS,
  type Width,
} from "./common.ts";
import { highSigned } from "./wide.ts";

const ops: OpSpec[] = [];

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
        plain: `x.${name}${w}${i}.n`,
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
      // the twin for where its flags die unread: it still reads CF
      ops.push({
        name: `x.${name}${w}${i}.n`,
        flags: "read",
        emit: (c) => put(c, w, f(f(first(c, w), second(c, w, imm)), i64.extu(emitCarry(c)))),
        evaluate: (o) => oput(o, w, oa(o, w) + sign * (ob(o, w, imm) + BigInt(oracleFlags(o) & 1))),
      });
    }
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
}

export const arithmeticOps: readonly OpSpec[] = ops;
