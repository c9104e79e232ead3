/**
 * Core scalar floating point on the low 32 or 64 bits of cells (the rest of d is kept): the host's own IEEE arithmetic,
 * round to nearest even, no flags. NaN payloads are the host's (see vector.ts). What an arch needs beyond (flags,
 * rounding modes, payloads) is its helpers' matter.
 */
import { defineOp, type OpSpec, type OracleContext } from "../ir.ts";
import type { Expr } from "../wasm/code.ts";
import { op1, op2 } from "../wasm/expr.ts";

const view = (): DataView => new DataView(new ArrayBuffer(8));

/** A cell's bits as a number. */
function number(o: OracleContext, offset: number, double: boolean): number {
  const v = view();
  v.setBigUint64(0, o.get(offset, double ? 64 : 32), true);
  return double ? v.getFloat64(0, true) : v.getFloat32(0, true);
}
function putNumber(o: OracleContext, double: boolean, value: number): void {
  const v = view();
  if (double) v.setFloat64(0, value, true);
  else v.setFloat32(0, value, true);
  o.set(o.d, double ? 64 : 32, double ? v.getBigUint64(0, true) : BigInt(v.getUint32(0, true)));
}

const binaries: readonly [string, number, number, (x: number, y: number) => number][] = [
  ["add", 0x92, 0xa0, (x, y) => x + y],
  ["sub", 0x93, 0xa1, (x, y) => x - y],
  ["mul", 0x94, 0xa2, (x, y) => x * y],
  ["div", 0x95, 0xa3, (x, y) => x / y],
  ["min", 0x96, 0xa4, (x, y) => Math.min(x, y)],
  ["max", 0x97, 0xa5, (x, y) => Math.max(x, y)],
];

const compares: readonly [string, number, number, (x: number, y: number) => boolean][] = [
  ["eq", 0x5b, 0x61, (x, y) => x === y],
  ["lt", 0x5d, 0x63, (x, y) => x < y],
  ["le", 0x5f, 0x65, (x, y) => x <= y],
];

function arithmeticOps(): OpSpec[] {
  const ops: OpSpec[] = [];
  for (const double of [false, true]) {
    const type = double ? "f64" : "f32";
    for (const [name, single, wide, meaning] of binaries) {
      const operation = op2(double ? wide : single);
      ops.push(
        defineOp({
          name: `${type}.${name}`,
          emit: (c) => (double ? c.d.setF64(operation(c.a.f64, c.b.f64)) : c.d.setF32(operation(c.a.f32, c.b.f32))),
          evaluate: (o) => putNumber(o, double, meaning(number(o, o.a, double), number(o, o.b, double))),
        }),
      );
    }
    for (const [name, single, wide, meaning] of compares) {
      const operation = op2(double ? wide : single);
      ops.push(
        defineOp({
          name: `${type}.${name}`,
          emit: (c) => c.d.set64i(double ? operation(c.a.f64, c.b.f64) : operation(c.a.f32, c.b.f32)),
          evaluate: (o) => o.set(o.d, 64, meaning(number(o, o.a, double), number(o, o.b, double)) ? 1n : 0n),
        }),
      );
    }
    const root = op1(double ? 0x9f : 0x91);
    ops.push(
      defineOp({
        name: `${type}.sqrt`,
        emit: (c) => (double ? c.d.setF64(root(c.a.f64)) : c.d.setF32(root(c.a.f32))),
        evaluate: (o) => putNumber(o, double, Math.sqrt(number(o, o.a, double))),
      }),
    );
  }
  return ops;
}

function conversionOps(): OpSpec[] {
  const ops: OpSpec[] = [
    defineOp({
      name: "f64.promote",
      emit: (c) => c.d.setF64(op1(0xbb)(c.a.f32)),
      evaluate: (o) => putNumber(o, true, number(o, o.a, false)),
    }),
    defineOp({
      name: "f32.demote",
      emit: (c) => c.d.setF32(op1(0xb6)(c.a.f64)),
      evaluate: (o) => putNumber(o, false, number(o, o.a, true)),
    }),
  ];
  /** A 64-bit integer as a single, rounded once. */
  const single = (x: bigint): number => {
    const near = Math.fround(Number(x));
    if (Number.isSafeInteger(Number(x))) return near;
    // Number(x) rounds to 53 bits first; a tie that this made is settled by the exact distances.
    const candidates = [near, Math.fround(near * (1 - 2 ** -24)), Math.fround(near * (1 + 2 ** -23))];
    const distance = (c: number): bigint => (BigInt(c) > x ? BigInt(c) - x : x - BigInt(c));
    let best = near;
    for (const c of candidates) {
      const closer = distance(c) - distance(best);
      if (closer < 0n || (closer === 0n && c !== best && isEven(c))) best = c;
    }
    return best;
  };
  const isEven = (x: number): boolean => {
    const v = view();
    v.setFloat32(0, x);
    return (v.getUint32(0) & 1) === 0;
  };
  const sources: readonly [string, number, boolean, number, number][] = [
    ["i32s", 32, true, 0xb2, 0xb7],
    ["i32u", 32, false, 0xb3, 0xb8],
    ["i64s", 64, true, 0xb4, 0xb9],
    ["i64u", 64, false, 0xb5, 0xba],
  ];
  for (const [name, bits, signed, toSingle, toDouble] of sources) {
    for (const double of [false, true]) {
      const operation = op1(double ? toDouble : toSingle);
      ops.push(
        defineOp({
          name: `${double ? "f64" : "f32"}.convert_${name}`,
          emit: (c) => {
            const value: Expr = operation(bits === 64 ? c.a.i64 : c.a.i32);
            return double ? c.d.setF64(value) : c.d.setF32(value);
          },
          evaluate: (o) => {
            const raw = o.get(o.a, bits);
            const value = signed ? BigInt.asIntN(bits, raw) : raw;
            putNumber(o, double, double ? Number(value) : single(value));
          },
        }),
      );
    }
  }
  const targets: readonly [string, number, boolean, boolean, number][] = [
    ["i32.trunc_sat_f32s", 32, true, false, 0],
    ["i32.trunc_sat_f32u", 32, false, false, 1],
    ["i32.trunc_sat_f64s", 32, true, true, 2],
    ["i32.trunc_sat_f64u", 32, false, true, 3],
    ["i64.trunc_sat_f32s", 64, true, false, 4],
    ["i64.trunc_sat_f32u", 64, false, false, 5],
    ["i64.trunc_sat_f64s", 64, true, true, 6],
    ["i64.trunc_sat_f64u", 64, false, true, 7],
  ];
  for (const [name, bits, signed, double, code] of targets) {
    ops.push(
      defineOp({
        name,
        emit: (c) => {
          const value = op1(0xfc0000 | code)(double ? c.a.f64 : c.a.f32);
          return bits === 64 ? c.d.set64(value) : c.d.set64i(value);
        },
        evaluate: (o) => {
          const x = number(o, o.a, double);
          const top = 1n << BigInt(signed ? bits - 1 : bits);
          const bottom = signed ? -top : 0n;
          let value = 0n;
          if (x === Infinity) value = top - 1n;
          else if (x === -Infinity) value = bottom;
          else if (!Number.isNaN(x)) value = BigInt(Math.trunc(x));
          if (value >= top) value = top - 1n;
          if (value < bottom) value = bottom;
          o.set(o.d, 64, BigInt.asUintN(bits, value));
        },
      }),
    );
  }
  return ops;
}

export const floatOps: readonly OpSpec[] = [...arithmeticOps(), ...conversionOps()];
