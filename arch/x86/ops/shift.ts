/** Shifts and rotates, with lazy flags (flags.ts). */
import type { EmitContext, Local, OpSpec } from "../../translate/ir.ts";
import type { Expr } from "../../translate/wasm/code.ts";
import { c32, c64, i32, i64 } from "../../translate/wasm/expr.ts";
import { CC_RESULT, emitFlags, oracleFlags } from "../flags.ts";
import {
  first,
  firstUnsigned,
  log,
  oa,
  oeflags,
  oflags,
  oput,
  put,
  S,
  setEflags,
  sext,
  suffix,
  U,
  WIDTHS,
  type Width,
  zext,
} from "./common.ts";

const ops: OpSpec[] = [];

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

for (const w of WIDTHS) {
  for (const imm of [false, true]) {
    shifts(w, imm);
    rotates(w, imm);
  }
}

export const shiftOps: readonly OpSpec[] = ops;
