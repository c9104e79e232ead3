/** Bit tests and scans, population counts, double shifts. */
import type { OpSpec } from "../../translate/ir.ts";
import type { Expr } from "../../translate/wasm/code.ts";
import { c32, c64, i32, i64 } from "../../translate/wasm/expr.ts";
import { CC_RESULT, emitFlags, oracleFlags } from "../flags.ts";
import {
  destination,
  firstUnsigned,
  log,
  oa,
  oeflags,
  oflags,
  oput,
  put,
  S,
  setEflags,
  setFlags,
  sext,
  suffix,
  U,
} from "./common.ts";

const ops: OpSpec[] = [];

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

bits(16);
bits(32);
bits(64);

export const bitOps: readonly OpSpec[] = ops;
