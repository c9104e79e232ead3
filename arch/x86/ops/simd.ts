/**
 * The x86's own vector operations, where WebAssembly's differ: shifts whose counts saturate, sums of absolute differences.
 *
 * d, a: 16-byte cells; b: a cell whose low 64 bits are the count, or with suffix i the count in imm.
 */
import type { EmitContext, OpSpec, OracleContext } from "../../translate/ir.ts";
import type { Expr } from "../../translate/wasm/code.ts";
import { c32, c64, i32, i64, op2, select } from "../../translate/wasm/expr.ts";
import { VECTOR_MF } from "../state.ts";
import { oraise, raise } from "./common.ts";

const SIMD = 0xfd0000;
/** Lanes of a 128-bit value. */
const lanes = (x: bigint, w: number): bigint[] =>
  Array.from({ length: 128 / w }, (_, n) => BigInt.asUintN(w, x >> BigInt(n * w)));
const join = (list: readonly bigint[], w: number): bigint =>
  list.reduce((sum, lane, n) => sum | (BigInt.asUintN(w, lane) << BigInt(n * w)), 0n);

const ops: OpSpec[] = [];

for (const [name, w, code] of [
  ["psrlw", 16, 141],
  ["psrld", 32, 173],
  ["psrlq", 64, 205],
  ["psraw", 16, 140],
  ["psrad", 32, 172],
  ["psllw", 16, 139],
  ["pslld", 32, 171],
  ["psllq", 64, 203],
] as const) {
  const arithmetic = name.startsWith("psra");
  for (const immediate of [false, true]) {
    ops.push({
      name: `x.${name}${immediate ? "i" : ""}`,
      emit(c: EmitContext): Expr {
        const count = c.i64(0);
        const shift = op2(SIMD | code);
        const past = i64.gtu(count.get, c64(w - 1));
        const set = count.set(immediate ? c.imm : c.b.i64);
        if (arithmetic) {
          return c.seq(set, c.d.setV128(shift(c.a.v128, i32.wrap(select(c64(w - 1), count.get, past)))));
        }
        return c.seq(
          set,
          c.when(
            past,
            c.d.setV128(op2(SIMD | 81)(c.a.v128, c.a.v128)),
            c.d.setV128(shift(c.a.v128, i32.wrap(count.get))),
          ),
        );
      },
      evaluate(o: OracleContext): void {
        const count = immediate ? o.imm : o.get(o.b, 64);
        const past = count > BigInt(w - 1);
        const result = lanes(o.get(o.a, 128), w).map((lane) => {
          if (arithmetic) return BigInt.asIntN(w, lane) >> (past ? BigInt(w - 1) : count);
          if (past) return 0n;
          return name.startsWith("psrl") ? lane >> count : lane << count;
        });
        o.set(o.d, 128, join(result, w));
      },
    });
  }
}

ops.push({
  // d = for each half, the sum of |a - b| over its eight bytes
  name: "x.psadbw",
  emit(c) {
    const v = c.v128(0);
    const sum = c.v128(1);
    const sub = op2(SIMD | 113);
    const absolute = sub(op2(SIMD | 121)(c.a.v128, c.b.v128), op2(SIMD | 119)(c.a.v128, c.b.v128));
    const pairwise =
      (code: number) =>
      (x: Expr): Expr =>
      (w) => {
        x(w);
        w.op(SIMD | code);
      };
    const extract =
      (half: number): Expr =>
      (w) => {
        sum.get(w);
        w.op(SIMD | 29);
        w.u8(half);
      };
    // i16x8 pair sums, then i32x4 pair sums; two of these make a half
    const half = (n: number): Expr => i64.add(i64.and(extract(n), c64(-1, 0)), i64.shru(extract(n), c64(32)));
    return c.seq(v.set(absolute), sum.set(pairwise(127)(pairwise(125)(v.get))), (w) => {
      c.d.setV128((v2) => {
        half(0)(v2);
        v2.op(SIMD | 18);
        half(1)(v2);
        v2.op(SIMD | 30);
        v2.u8(1);
      })(w);
    });
  },
  evaluate(o) {
    const a = lanes(o.get(o.a, 128), 8);
    const b = lanes(o.get(o.b, 128), 8);
    const sums = [0n, 0n];
    for (let n = 0; n < 16; n++) {
      const difference = a[n]! - b[n]!;
      sums[n >> 3] = sums[n >> 3]! + (difference < 0n ? -difference : difference);
    }
    o.set(o.d, 128, join(sums, 64));
  },
});

ops.push({
  // #MF where an unmasked x87 exception waits
  name: "x.mmx.wait",
  emit: (c) => c.when(i32.and(c.cell("fpuStatus").i32, c32(0x80)), raise(c, c32(VECTOR_MF), c32(-1))),
  evaluate: (o) => {
    if ((Number(o.get(o.at("fpuStatus"), 32)) & 0x80) !== 0) oraise(o, VECTOR_MF, -1);
  },
});

ops.push({
  // what every MMX instruction does to the x87: all registers in use, TOP 0
  name: "x.mmx",
  emit: (c) =>
    c.seq(
      c.cell("fpuTags").set32i(c32(0xff)),
      c.cell("fpuStatus").set32i(i32.and(c.cell("fpuStatus").i32, c32(~0x3800))),
    ),
  evaluate: (o) => {
    o.set(o.at("fpuTags"), 32, 0xffn);
    o.set(o.at("fpuStatus"), 32, o.get(o.at("fpuStatus"), 32) & ~0x3800n);
  },
});

export const simdOps: readonly OpSpec[] = ops;
