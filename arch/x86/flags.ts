/**
 * Lazy arithmetic flags: how the cells ccOp, ccDst and ccSrc stand for CF, PF, AF, ZF, SF and OF.
 *
 * ccOp = group * 4 + log2(bytes of the operation). Values are stored sign-extended from the operation's width to 64 bits, so that
 * signed and unsigned comparisons, zero and sign tests work at 64 bits whatever the width:
 *
 *   EFLAGS  the flags themselves are in ccSrc
 *   RESULT  ccDst the result (ZF, SF, PF); ccSrc holds CF (bit 0) and OF (bit 11); AF is 0
 *   INC DEC ccDst the result; ccSrc bit 0 the CF kept from before
 *   ADD     ccDst the result, ccSrc the second operand;  ADC the same with a carry in of 1
 *   SUB     ccDst the FIRST operand, ccSrc the second;   SBB the same with a borrow of 1
 *
 * so that after a compare every condition but S, O and P is one comparison of ccDst with ccSrc. Definitions of the flags: SDM
 * volume 1, 3.4.3.1. Two forms here: `emit*` as WebAssembly, `evaluateFlags` for the oracle and for TypeScript.
 */
import type { EmitContext, OracleContext } from "../translate/ir.ts";
import type { Expr } from "../translate/wasm/code.ts";
import { c32, c64, i32, i64, select } from "../translate/wasm/expr.ts";

export const CC_EFLAGS = 0;
export const CC_RESULT = 4;
export const CC_INC = 8;
export const CC_DEC = 12;
export const CC_ADD = 16;
export const CC_SUB = 20;
export const CC_ADC = 24;
export const CC_SBB = 28;

/** Condition codes as encoded in jcc, setcc, cmovcc; the low bit negates. */
export const COND_O = 0;
export const COND_B = 2;
export const COND_Z = 4;
export const COND_BE = 6;
export const COND_S = 8;
export const COND_P = 10;
export const COND_L = 12;
export const COND_LE = 14;
export const COND_NAMES = ["o", "no", "b", "ae", "z", "nz", "be", "a", "s", "ns", "p", "np", "l", "ge", "le", "g"];

const dst = (c: EmitContext) => c.cell("ccDst").i64;
const src = (c: EmitContext) => c.cell("ccSrc").i64;
const op = (c: EmitContext) => c.cell("ccOp").i32;

/** Pushes CF (i32 0 or 1). */
export function emitCarry(c: EmitContext): Expr {
  return select(
    i32.and(i32.wrap(src(c)), c32(1)),
    select(i64.leu(dst(c), src(c)), i64.ltu(dst(c), src(c)), i32.and(op(c), c32(8))),
    i32.ltu(op(c), c32(CC_ADD)),
  );
}

/** Statement: computes the six flags into i32 local 3 (bits as in RFLAGS), by a function that all ops share. */
export function emitFlags(c: EmitContext): Expr {
  return c.i32(3).set(c.shared("x.flags", (f) => f.seq(emitFlagsHere(f), f.i32(3).get)));
}

function emitFlagsHere(c: EmitContext): Expr {
  const shift = c.i64(2); // 64 - width
  const result = c.i64(3);
  const code = c.i32(2);
  const flags = c.i32(3);
  const sext = (x: Expr) => i64.shrs(i64.shl(x, shift.get), shift.get);
  const bit = (condition: Expr, at: number) => i32.shl(condition, c32(at));
  const borrow = i64.extu(i32.and(i32.shru(code.get, c32(3)), c32(1))); // carry in of ADC and SBB
  const szp = i32.or(
    i32.or(bit(i64.eqz(result.get), 6), bit(i64.lts(result.get, c64(0)), 7)),
    bit(i32.eqz(i32.and(i32.popcnt(i32.and(i32.wrap(result.get), c32(0xff))), c32(1))), 2),
  );
  const nibble = i32.and(i32.wrap(result.get), c32(15));
  const auxiliary = (a: Expr) => i32.and(i32.wrap(i64.xor(i64.xor(a, src(c)), result.get)), c32(0x10));
  const sign = (x: Expr, at: number) => bit(i64.lts(x, c64(0)), at);
  return c.when(
    i32.ltu(code.tee(op(c)), c32(4)),
    flags.set(i32.and(i32.wrap(src(c)), c32(0x8d5))),
    c.seq(
      shift.set(i64.extu(i32.sub(c32(64), i32.shl(c32(8), i32.and(code.get, c32(3)))))),
      c.when(
        i32.ltu(code.get, c32(CC_ADD)),
        c.seq(
          result.set(dst(c)),
          flags.set(i32.or(szp, i32.and(i32.wrap(src(c)), c32(0x801)))),
          c.when(
            i32.geu(code.get, c32(CC_INC)),
            c.when(
              i32.ltu(code.get, c32(CC_DEC)),
              flags.set(
                i32.or(
                  i32.and(flags.get, c32(~0x800)),
                  i32.or(
                    bit(i32.eqz(nibble), 4),
                    // overflow: the result is the most negative number, that is x << shift is the sign bit alone
                    bit(i64.eq(i64.shl(result.get, shift.get), c64(0, 0x80000000 | 0)), 11),
                  ),
                ),
              ),
              flags.set(
                i32.or(
                  i32.and(flags.get, c32(~0x800)),
                  i32.or(
                    bit(i32.eq(nibble, c32(15)), 4),
                    bit(i64.eq(i64.shl(i64.add(result.get, c64(1)), shift.get), c64(0, 0x80000000 | 0)), 11),
                  ),
                ),
              ),
            ),
          ),
        ),
        c.when(
          i32.and(code.get, c32(4)),
          // SUB, SBB: a = dst
          c.seq(
            result.set(sext(i64.sub(i64.sub(dst(c), src(c)), borrow))),
            flags.set(
              i32.or(
                i32.or(szp, emitCarry(c)),
                i32.or(auxiliary(dst(c)), sign(i64.and(i64.xor(dst(c), src(c)), i64.xor(dst(c), result.get)), 11)),
              ),
            ),
          ),
          // ADD, ADC: a = result - src - carry
          c.seq(
            result.set(dst(c)),
            flags.set(i32.or(szp, emitCarry(c))),
            shift.set(sext(i64.sub(i64.sub(dst(c), src(c)), borrow))),
            flags.set(
              i32.or(
                flags.get,
                i32.or(
                  auxiliary(shift.get),
                  sign(i64.and(i64.xor(shift.get, result.get), i64.xor(src(c), result.get)), 11),
                ),
              ),
            ),
          ),
        ),
      ),
    ),
  );
}

/** From flags in an i32: pushes whether condition `cc` holds (any i32, 0 or not). */
export function emitConditionOf(cc: number, flags: Expr): Expr {
  const bit = (at: number) => i32.and(i32.shru(flags, c32(at)), c32(1));
  let e: Expr;
  switch (cc & 14) {
    case COND_O:
      e = bit(11);
      break;
    case COND_B:
      e = bit(0);
      break;
    case COND_Z:
      e = bit(6);
      break;
    case COND_BE:
      e = i32.ne(i32.and(flags, c32(0x41)), c32(0));
      break;
    case COND_S:
      e = bit(7);
      break;
    case COND_P:
      e = bit(2);
      break;
    case COND_L:
      e = i32.xor(bit(7), bit(11));
      break;
    default:
      e = i32.or(i32.xor(bit(7), bit(11)), bit(6));
  }
  return cc & 1 ? i32.eqz(e) : e;
}

/** Statement: puts condition `cc` (0 or 1) into i32 local 0, whatever made the flags. Uses i32 local 3. */
export function emitCondition(c: EmitContext, cc: number): Expr {
  const out = c.i32(0);
  if ((cc & 14) === COND_B) return out.set(cc & 1 ? i32.eqz(emitCarry(c)) : emitCarry(c));
  const slow = c.seq(emitFlags(c), out.set(emitConditionOf(cc, c.i32(3).get)));
  const fast = emitSubCondition(c, cc);
  if (fast === null) return slow;
  return c.when(i32.eq(i32.and(op(c), c32(~3)), c32(CC_SUB)), out.set(fast), slow);
}

/** Pushes condition `cc` after a SUB group; null for S, O, P. */
export function emitSubCondition(c: EmitContext, cc: number): Expr | null {
  switch (cc) {
    case COND_B:
      return i64.ltu(dst(c), src(c));
    case COND_B | 1:
      return i64.geu(dst(c), src(c));
    case COND_Z:
      return i64.eq(dst(c), src(c));
    case COND_Z | 1:
      return i64.ne(dst(c), src(c));
    case COND_BE:
      return i64.leu(dst(c), src(c));
    case COND_BE | 1:
      return i64.gtu(dst(c), src(c));
    case COND_L:
      return i64.lts(dst(c), src(c));
    case COND_L | 1:
      return i64.ges(dst(c), src(c));
    case COND_LE:
      return i64.les(dst(c), src(c));
    case COND_LE | 1:
      return i64.gts(dst(c), src(c));
    default:
      return null;
  }
}

/** Pushes condition `cc` where ccDst is the result (RESULT, INC, DEC, ADD, ADC): Z and S only; null for others. */
export function emitResultCondition(c: EmitContext, cc: number): Expr | null {
  switch (cc) {
    case COND_Z:
      return i64.eqz(dst(c));
    case COND_Z | 1:
      return i64.ne(dst(c), c64(0));
    case COND_S:
      return i64.lts(dst(c), c64(0));
    case COND_S | 1:
      return i64.ges(dst(c), c64(0));
    default:
      return null;
  }
}

/** The six flags as bits of RFLAGS, from the cells' values (unsigned 64-bit). */
export function evaluateFlags(ccOp: number, ccDst: bigint, ccSrc: bigint): number {
  const group = ccOp & ~3;
  const bits = 8 << (ccOp & 3);
  if (group === CC_EFLAGS) return Number(ccSrc & 0x8d5n);
  const d = BigInt.asUintN(bits, ccDst);
  const s = BigInt.asUintN(bits, ccSrc);
  const carry = group === CC_ADC || group === CC_SBB ? 1n : 0n;
  const top = 1n << BigInt(bits - 1);
  let result = d;
  let flags = 0;
  if (group === CC_RESULT) flags = Number(ccSrc & 0x801n);
  else if (group === CC_INC) {
    flags = Number(ccSrc & 1n) | ((d & 15n) === 0n ? FLAG.AF : 0) | (d === top ? FLAG.OF : 0);
  } else if (group === CC_DEC) {
    flags = Number(ccSrc & 1n) | ((d & 15n) === 15n ? FLAG.AF : 0) | (d === top - 1n ? FLAG.OF : 0);
  } else if (group === CC_ADD || group === CC_ADC) {
    const a = BigInt.asUintN(bits, d - s - carry);
    if ((a + s + carry) >> BigInt(bits) !== 0n) flags |= FLAG.CF;
    if (((a ^ s ^ d) & 16n) !== 0n) flags |= FLAG.AF;
    if (((a ^ d) & (s ^ d) & top) !== 0n) flags |= FLAG.OF;
  } else {
    result = BigInt.asUintN(bits, d - s - carry);
    if (d < s + carry) flags |= FLAG.CF;
    if (((d ^ s ^ result) & 16n) !== 0n) flags |= FLAG.AF;
    if (((d ^ s) & (d ^ result) & top) !== 0n) flags |= FLAG.OF;
  }
  if (result === 0n) flags |= FLAG.ZF;
  if ((result & top) !== 0n) flags |= FLAG.SF;
  let low = Number(result & 0xffn);
  low ^= low >> 4;
  low ^= low >> 2;
  low ^= low >> 1;
  if ((low & 1) === 0) flags |= FLAG.PF;
  return flags;
}

const FLAG = { CF: 1, PF: 4, AF: 0x10, ZF: 0x40, SF: 0x80, OF: 0x800 };

/** The same from 32-bit halves, without BigInt: for TypeScript at every exit. */
export function flagsFromHalves(ccOp: number, dLo: number, dHi: number, sLo: number, sHi: number): number {
  if (ccOp < 4) return sLo & 0x8d5;
  const group = ccOp & ~3;
  const bits = 8 << (ccOp & 3);
  let lo = dLo;
  let hi = dHi;
  let flags = 0;
  if (group < CC_ADD) flags = sLo & (group === CC_RESULT ? 0x801 : 1);
  else {
    const carry = (ccOp >> 3) & 1;
    const below = dHi >>> 0 < sHi >>> 0 || (dHi === sHi && dLo >>> 0 < sLo >>> 0);
    const equal = dHi === sHi && dLo === sLo;
    if (below || (carry === 1 && equal)) flags |= 1;
    // result - src - carry is the first operand of an addition, first - second - borrow the result of a subtraction
    const differenceLo = (dLo >>> 0) - (sLo >>> 0) - carry;
    const oLo = differenceLo | 0;
    const oHi = (dHi - sHi - (differenceLo < 0 ? 1 : 0)) | 0;
    const sub = (ccOp & 4) !== 0;
    if (((dLo ^ sLo ^ oLo) & 0x10) !== 0) flags |= 0x10;
    // a ^ b and a ^ r for a subtraction; a ^ r and b ^ r for an addition (d is r, o is a)
    const xLo = sub ? (dLo ^ sLo) & (dLo ^ oLo) : (oLo ^ dLo) & (sLo ^ dLo);
    const xHi = sub ? (dHi ^ sHi) & (dHi ^ oHi) : (oHi ^ dHi) & (sHi ^ dHi);
    if (bits === 64 ? xHi < 0 : ((xLo >>> (bits - 1)) & 1) === 1) flags |= 0x800;
    if (sub) {
      lo = oLo;
      hi = oHi;
    }
  }
  const top = bits === 64 ? hi >>> 31 : (lo >>> (bits - 1)) & 1;
  const cut = bits === 64 ? lo : lo << (32 - Math.min(bits, 32));
  const zero = bits === 64 ? (lo | hi) === 0 : cut === 0;
  if (group === CC_INC || group === CC_DEC) {
    const dec = group === CC_DEC;
    if ((lo & 15) === (dec ? 15 : 0)) flags |= 0x10;
    const overflow = dec
      ? bits === 64
        ? hi === 0x7fffffff && lo === -1
        : cut >>> (32 - bits) === 2 ** (bits - 1) - 1
      : bits === 64
        ? hi === (0x80000000 | 0) && lo === 0
        : cut === (0x80000000 | 0);
    if (overflow) flags |= 0x800;
  }
  if (zero) flags |= 0x40;
  if (top) flags |= 0x80;
  let p = lo & 0xff;
  p ^= p >> 4;
  p ^= p >> 2;
  p ^= p >> 1;
  if ((p & 1) === 0) flags |= 4;
  return flags;
}

/** The oracle's view of the current flags. */
export function oracleFlags(o: OracleContext): number {
  return evaluateFlags(Number(o.get(o.at("ccOp"), 32)), o.get(o.at("ccDst"), 64), o.get(o.at("ccSrc"), 64));
}

/** Whether condition `cc` holds for flags as bits. */
export function conditionHolds(cc: number, flags: number): boolean {
  const s = (flags >> 7) & 1;
  const o = (flags >> 11) & 1;
  let holds: boolean;
  switch (cc & 14) {
    case COND_O:
      holds = o === 1;
      break;
    case COND_B:
      holds = (flags & 1) !== 0;
      break;
    case COND_Z:
      holds = (flags & 0x40) !== 0;
      break;
    case COND_BE:
      holds = (flags & 0x41) !== 0;
      break;
    case COND_S:
      holds = s === 1;
      break;
    case COND_P:
      holds = (flags & 4) !== 0;
      break;
    case COND_L:
      holds = s !== o;
      break;
    default:
      holds = s !== o || (flags & 0x40) !== 0;
  }
  return cc & 1 ? !holds : holds;
}
