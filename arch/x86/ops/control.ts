/** Conditions, compare-and-branch, flags as a word, stack and control transfers, exceptions. */
import type { EmitContext, OpSpec, OracleContext } from "../../translate/ir.ts";
import type { Expr } from "../../translate/wasm/code.ts";
import { c32, c64, i32, i64, select } from "../../translate/wasm/expr.ts";
import {
  CC_RESULT,
  CC_SUB,
  COND_NAMES,
  conditionHolds,
  emitCondition,
  emitFlags,
  emitResultCondition,
  emitSubCondition,
  oracleFlags,
} from "../flags.ts";
import { VECTOR_GP } from "../state.ts";
import {
  first,
  log,
  oa,
  oeflags,
  oflags,
  oput,
  oraise,
  raise,
  S,
  second,
  setEflags,
  setFlags,
  sext,
  suffix,
  U,
  WIDTHS,
} from "./common.ts";

const ops: OpSpec[] = [];

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

export const controlOps: readonly OpSpec[] = ops;
