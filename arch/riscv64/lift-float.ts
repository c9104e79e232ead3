/**
 * Lifting F and D: each rounding operation to its op of ops-float.ts, moves and sign injections to pure ones.
 *
 * With FS off all of them are illegal; with FS clean the first one leaves, FS becomes dirty, and it is done again (state.ts, mode).
 */
import type { OpSet } from "../translate/ir.ts";
import { immediate, rdOf, rmOf, rs1Of, rs2Of, rs3Of } from "./decode.ts";
import { floatOperation, RM_DYNAMIC } from "./fpu.ts";
import type { LiftContext, Lifter } from "./lift.ts";
import { FMA_NEGATE_ADDEND, FMA_NEGATE_PRODUCT } from "./ops-float.ts";
import { FAULT_FS_CLEAN, f, MODE_FS_CLEAN, MODE_FS_OFF, MODE_FS_SHIFT, x, xd } from "./state.ts";

/** The helper's operand: operation in bits 0 to 7, rounding mode in 8 to 10, rs3's cell in 16 to 31; fma's two signs are between. */
export const FLOAT_OPERATION = 0xff;
export const FLOAT_RM_SHIFT = 8;
/** fcsr's bits that must be 0 for the usual case: frm where the mode is dynamic. */
const MASK_STATIC = 0;
const MASK_DYNAMIC = 0xe0;

/** The instruction may use the floating-point state now; false: it has become what happens instead. */
export function floatEnabled(c: LiftContext): boolean {
  const fs = (c.mode >> MODE_FS_SHIFT) & 3;
  if (fs === MODE_FS_OFF) c.illegal();
  else if (fs === MODE_FS_CLEAN) c.raise(FAULT_FS_CLEAN);
  else return true;
  return false;
}

export function floatLifters(ops: OpSet): Map<string, Lifter> {
  const map = new Map<string, Lifter>();
  const id = (name: string): number => ops.id(name);
  const slow = id("rv.float");
  const put = (name: string, lift: Lifter): void => {
    map.set(name, (c, w) => {
      if (floatEnabled(c)) lift(c, w);
    });
  };
  const number = (name: string): number => {
    const n = floatOperation(name);
    if (n < 0 || n > FLOAT_OPERATION) throw new Error(`no floating-point operation ${name}`);
    return n;
  };
  /** What has a rounding mode: `op` is its usual case's, which does nearest-even only (or `zero`: rounds to zero by itself). */
  const rounding = (
    name: string,
    op: number,
    d: (rd: number) => number,
    a: (rs: number) => number,
    zero = -1,
    exact = -1,
  ): void => {
    const operation = number(name);
    put(name, (c, w) => {
      const rm = rmOf(w);
      const hi = operation | (rm << FLOAT_RM_SHIFT);
      const [to, from, other] = [d(rdOf(w)), a(rs1Of(w)), f(rs2Of(w))];
      if (exact >= 0 && rm !== RM_DYNAMIC) c.b.emit(exact, to, from);
      else if (zero >= 0 && rm === 1) c.b.emit(zero, to, from, 0, MASK_STATIC, hi);
      else if (op < 0 || (rm !== 0 && rm !== RM_DYNAMIC)) c.b.emit(slow, to, from, other, 0, hi);
      else c.b.emit(op, to, from, other, rm === 0 ? MASK_STATIC : MASK_DYNAMIC, hi);
    });
  };
  for (const s of ["s", "d"]) {
    for (const name of ["fadd", "fsub", "fmul", "fdiv", "fsqrt"]) rounding(`${name}.${s}`, id(`rv.${name}.${s}`), f, f);
    for (const k of ["w", "wu", "l", "lu"]) {
      rounding(`fcvt.${k}.${s}`, -1, xd, f, id(`rv.fcvt.${k}.${s}.rtz`));
      const exact = s === "d" && k.startsWith("w") ? id(`rv.fcvt.d.${k}.exact`) : -1;
      rounding(`fcvt.${s}.${k}`, id(`rv.fcvt.${s}.${k}`), f, x, -1, exact);
    }
    for (const name of ["fmin", "fmax"]) {
      const [op, operation] = [id(`rv.${name}.${s}`), number(`${name}.${s}`)];
      put(`${name}.${s}`, (c, w) => {
        c.b.emit(op, f(rdOf(w)), f(rs1Of(w)), f(rs2Of(w)), 0, operation);
      });
    }
    for (const name of ["feq", "flt", "fle"]) {
      const [op, operation] = [id(`rv.${name}.${s}`), number(`${name}.${s}`)];
      put(`${name}.${s}`, (c, w) => {
        c.b.emit(op, xd(rdOf(w)), f(rs1Of(w)), f(rs2Of(w)), 0, operation);
      });
    }
    const classify = number(`fclass.${s}`);
    put(`fclass.${s}`, (c, w) => {
      c.b.emit(slow, xd(rdOf(w)), f(rs1Of(w)), 0, 0, classify);
    });
    for (const name of ["fsgnj", "fsgnjn", "fsgnjx"]) {
      const op = id(`rv.${name}.${s}`);
      put(`${name}.${s}`, (c, w) => {
        c.b.emit(op, f(rdOf(w)), f(rs1Of(w)), f(rs2Of(w)));
      });
    }
    const fma = id(`rv.fma.${s}`);
    for (const [name, signs] of [
      ["fmadd", 0],
      ["fmsub", FMA_NEGATE_ADDEND],
      ["fnmsub", FMA_NEGATE_PRODUCT],
      ["fnmadd", FMA_NEGATE_PRODUCT | FMA_NEGATE_ADDEND],
    ] as const) {
      const operation = number(`${name}.${s}`);
      put(`${name}.${s}`, (c, w) => {
        const rm = rmOf(w);
        const hi = operation | (rm << FLOAT_RM_SHIFT) | signs | (f(rs3Of(w)) << 16);
        const usual = rm === 0 || rm === RM_DYNAMIC;
        const mask = rm === 0 ? MASK_STATIC : MASK_DYNAMIC;
        c.b.emit(usual ? fma : slow, f(rdOf(w)), f(rs1Of(w)), f(rs2Of(w)), usual ? mask : 0, hi);
      });
    }
  }
  // exact, whatever the rounding mode; a dynamic one must be valid
  const widen = number("fcvt.d.s");
  const promote = id("rv.fcvt.d.s");
  put("fcvt.d.s", (c, w) => {
    const rm = rmOf(w);
    const hi = widen | (rm << FLOAT_RM_SHIFT);
    c.b.emit(rm === RM_DYNAMIC ? slow : promote, f(rdOf(w)), f(rs1Of(w)), 0, 0, hi);
  });
  rounding("fcvt.s.d", id("rv.fcvt.s.d"), f, f);

  const [mov, sx32, box] = [id("mov64"), id("sx32"), id("rv.box")];
  put("fmv.x.w", (c, w) => {
    c.b.emit(sx32, xd(rdOf(w)), f(rs1Of(w)));
  });
  put("fmv.x.d", (c, w) => {
    c.b.emit(mov, xd(rdOf(w)), f(rs1Of(w)));
  });
  put("fmv.w.x", (c, w) => {
    c.b.emit(box, f(rdOf(w)), x(rs1Of(w)));
  });
  put("fmv.d.x", (c, w) => {
    c.b.emit(mov, f(rdOf(w)), x(rs1Of(w)));
  });
  const [flw, fld, fsw, fsd] = [id("rv.flw"), id("ld64"), id("st32"), id("st64")];
  put("flw", (c, w) => {
    c.b.emit(flw, f(rdOf(w)), x(rs1Of(w)), 0, w >> 20);
  });
  put("fld", (c, w) => {
    c.b.emit(fld, f(rdOf(w)), x(rs1Of(w)), 0, w >> 20);
  });
  put("fsw", (c, w) => {
    c.b.emit(fsw, f(rs2Of(w)), x(rs1Of(w)), 0, immediate("S", w));
  });
  put("fsd", (c, w) => {
    c.b.emit(fsd, f(rs2Of(w)), x(rs1Of(w)), 0, immediate("S", w));
  });
  return map;
}
