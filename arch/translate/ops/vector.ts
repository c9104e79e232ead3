/**
 * Core 128-bit operations: WebAssembly's fixed-width SIMD by its own names (numbers from the core specification,
 * "Vector Instructions"). The oracle works lane by lane on BigInts and numbers.
 *
 * A NaN that a floating operation produces has the payload that the host gives it: an arch that promises NaN payloads
 * checks for NaNs and uses a helper.
 */
import { defineOp, type OpSpec, type OracleContext } from "../ir.ts";
import type { Expr } from "../wasm/code.ts";
import { i64, op1, op2 } from "../wasm/expr.ts";

const SIMD = 0xfd0000;

/** Splits 128 bits into unsigned lanes of `bits`. */
function lanes(value: bigint, bits: number): bigint[] {
  return Array.from({ length: 128 / bits }, (_, i) => BigInt.asUintN(bits, value >> BigInt(i * bits)));
}
function join(parts: readonly bigint[], bits: number): bigint {
  return parts.reduce((sum, lane, i) => sum | (BigInt.asUintN(bits, lane) << BigInt(i * bits)), 0n);
}
const s = (bits: number, x: bigint): bigint => BigInt.asIntN(bits, x);
const clampSigned = (bits: number, x: bigint): bigint => {
  const limit = 1n << BigInt(bits - 1);
  return x < -limit ? -limit : x >= limit ? limit - 1n : x;
};
const clampUnsigned = (bits: number, x: bigint): bigint => {
  const limit = 1n << BigInt(bits);
  return x < 0n ? 0n : x >= limit ? limit - 1n : x;
};

const least = (x: bigint, y: bigint): bigint => {
  if (x < y) return x;
  return y;
};
const most = (x: bigint, y: bigint): bigint => {
  if (x > y) return x;
  return y;
};

type Lane2 = (x: bigint, y: bigint, bits: number) => bigint;

/** Lane-wise integer binaries: opcode for 8, 16, 32, 64-bit lanes (0: there is none), and meaning on unsigned lanes. */
const integerBinaries: readonly [string, number, number, number, number, Lane2][] = [
  ["add", 110, 142, 174, 206, (x, y) => x + y],
  ["add_sat_s", 111, 143, 0, 0, (x, y, n) => clampSigned(n, s(n, x) + s(n, y))],
  ["add_sat_u", 112, 144, 0, 0, (x, y, n) => clampUnsigned(n, x + y)],
  ["sub", 113, 145, 177, 209, (x, y) => x - y],
  ["sub_sat_s", 114, 146, 0, 0, (x, y, n) => clampSigned(n, s(n, x) - s(n, y))],
  ["sub_sat_u", 115, 147, 0, 0, (x, y, n) => clampUnsigned(n, x - y)],
  ["mul", 0, 149, 181, 213, (x, y) => x * y],
  ["min_s", 118, 150, 182, 0, (x, y, n) => (s(n, x) < s(n, y) ? x : y)],
  ["min_u", 119, 151, 183, 0, least],
  ["max_s", 120, 152, 184, 0, (x, y, n) => (s(n, x) > s(n, y) ? x : y)],
  ["max_u", 121, 153, 185, 0, most],
  ["avgr_u", 123, 155, 0, 0, (x, y) => (x + y + 1n) >> 1n],
  ["eq", 35, 45, 55, 214, (x, y) => (x === y ? -1n : 0n)],
  ["ne", 36, 46, 56, 215, (x, y) => (x !== y ? -1n : 0n)],
  ["lt_s", 37, 47, 57, 216, (x, y, n) => (s(n, x) < s(n, y) ? -1n : 0n)],
  ["lt_u", 38, 48, 58, 0, (x, y) => (x < y ? -1n : 0n)],
  ["gt_s", 39, 49, 59, 217, (x, y, n) => (s(n, x) > s(n, y) ? -1n : 0n)],
  ["gt_u", 40, 50, 60, 0, (x, y) => (x > y ? -1n : 0n)],
  ["le_s", 41, 51, 61, 218, (x, y, n) => (s(n, x) <= s(n, y) ? -1n : 0n)],
  ["le_u", 42, 52, 62, 0, (x, y) => (x <= y ? -1n : 0n)],
  ["ge_s", 43, 53, 63, 219, (x, y, n) => (s(n, x) >= s(n, y) ? -1n : 0n)],
  ["ge_u", 44, 54, 64, 0, (x, y) => (x >= y ? -1n : 0n)],
];

const integerUnaries: readonly [string, number, number, number, number, (x: bigint, bits: number) => bigint][] = [
  ["abs", 96, 128, 160, 192, (x, n) => (s(n, x) < 0n ? -x : x)],
  ["neg", 97, 129, 161, 193, (x) => -x],
];

const shifts: readonly [string, number, number, number, number, (x: bigint, n: bigint, bits: number) => bigint][] = [
  ["shl", 107, 139, 171, 203, (x, n) => x << n],
  ["shr_s", 108, 140, 172, 204, (x, n, bits) => s(bits, x) >> n],
  ["shr_u", 109, 141, 173, 205, (x, n) => x >> n],
];

const SHAPES = [
  ["i8x16", 8],
  ["i16x8", 16],
  ["i32x4", 32],
  ["i64x2", 64],
] as const;

function binary(name: string, code: number, meaning: (x: bigint, y: bigint) => bigint): OpSpec {
  return defineOp({
    name,
    emit: (c) => c.d.setV128(op2(SIMD | code)(c.a.v128, c.b.v128)),
    evaluate: (o) => o.set(o.d, 128, meaning(o.get(o.a, 128), o.get(o.b, 128))),
  });
}

function unary(name: string, code: number, meaning: (x: bigint) => bigint): OpSpec {
  return defineOp({
    name,
    emit: (c) => c.d.setV128(op1(SIMD | code)(c.a.v128)),
    evaluate: (o) => o.set(o.d, 128, meaning(o.get(o.a, 128))),
  });
}

function integerOps(): OpSpec[] {
  const ops: OpSpec[] = [];
  SHAPES.forEach(([shape, bits], column) => {
    for (const [name, ...rest] of integerBinaries) {
      const code = rest[column] as number;
      const meaning = rest[4];
      if (code === 0) continue;
      ops.push(
        binary(`${shape}.${name}`, code, (x, y) => {
          const ys = lanes(y, bits);
          return join(
            lanes(x, bits).map((lane, i) => meaning(lane, ys[i] ?? 0n, bits)),
            bits,
          );
        }),
      );
    }
    for (const [name, ...rest] of integerUnaries) {
      const meaning = rest[4];
      ops.push(
        unary(`${shape}.${name}`, rest[column] as number, (x) =>
          join(
            lanes(x, bits).map((lane) => meaning(lane, bits)),
            bits,
          ),
        ),
      );
    }
    for (const [name, ...rest] of shifts) {
      const meaning = rest[4];
      const code = rest[column] as number;
      ops.push(
        defineOp({
          name: `${shape}.${name}`,
          emit: (c) => c.d.setV128(op2(SIMD | code)(c.a.v128, c.b.i32)),
          evaluate: (o) => {
            const n = o.get(o.b, 32) % BigInt(bits);
            o.set(
              o.d,
              128,
              join(
                lanes(o.get(o.a, 128), bits).map((lane) => meaning(lane, n, bits)),
                bits,
              ),
            );
          },
        }),
      );
    }
    const toInteger = (name: string, code: number, meaning: (x: bigint) => bigint): void => {
      ops.push(
        defineOp({
          name,
          emit: (c) => c.d.set64i(op1(SIMD | code)(c.a.v128)),
          evaluate: (o) => o.set(o.d, 64, meaning(o.get(o.a, 128))),
        }),
      );
    };
    toInteger(`${shape}.bitmask`, [100, 132, 164, 196][column] ?? 0, (x) =>
      lanes(x, bits).reduce((m, lane, i) => m | ((lane >> BigInt(bits - 1)) << BigInt(i)), 0n),
    );
    toInteger(`${shape}.all_true`, [99, 131, 163, 195][column] ?? 0, (x) =>
      lanes(x, bits).every((lane) => lane !== 0n) ? 1n : 0n,
    );
    if (column === 0) toInteger("vany", 83, (x) => (x !== 0n ? 1n : 0n));
  });
  return ops;
}

/** Extensions, narrowings and widening products between neighbouring shapes. */
function wideningOps(): OpSpec[] {
  const ops: OpSpec[] = [
    unary("i8x16.popcnt", 98, (x) =>
      join(
        lanes(x, 8).map((lane) => BigInt(lane.toString(2).replaceAll("0", "").length)),
        8,
      ),
    ),
    binary("i32x4.dot_i16x8_s", 186, (x, y) => {
      const xs = lanes(x, 16).map((lane) => s(16, lane));
      const ys = lanes(y, 16).map((lane) => s(16, lane));
      const product = (i: number): bigint => (xs[i] ?? 0n) * (ys[i] ?? 0n);
      return join(
        [0, 1, 2, 3].map((i) => product(2 * i) + product(2 * i + 1)),
        32,
      );
    }),
    binary("i8x16.swizzle", 14, (x, y) => {
      const xs = lanes(x, 8);
      return join(
        lanes(y, 8).map((index) => xs[Number(index)] ?? 0n),
        8,
      );
    }),
  ];
  const narrow = (name: string, code: number, from: number, unsigned: boolean): void => {
    ops.push(
      binary(name, code, (x, y) =>
        join(
          [...lanes(x, from), ...lanes(y, from)].map((lane) =>
            (unsigned ? clampUnsigned : clampSigned)(from / 2, s(from, lane)),
          ),
          from / 2,
        ),
      ),
    );
  };
  narrow("i8x16.narrow_i16x8_s", 101, 16, false);
  narrow("i8x16.narrow_i16x8_u", 102, 16, true);
  narrow("i16x8.narrow_i32x4_s", 133, 32, false);
  narrow("i16x8.narrow_i32x4_u", 134, 32, true);
  const shapes = [
    ["i16x8", "i8x16", 8, 135, 156],
    ["i32x4", "i16x8", 16, 167, 188],
    ["i64x2", "i32x4", 32, 199, 220],
  ] as const;
  for (const [to, from, bits, extend, extmul] of shapes) {
    const halves = [
      ["low", "s", 0],
      ["high", "s", 1],
      ["low", "u", 2],
      ["high", "u", 3],
    ] as const;
    for (const [half, sign, step] of halves) {
      const part = (x: bigint): bigint[] =>
        lanes(x, bits)
          .slice(half === "low" ? 0 : 64 / bits, half === "low" ? 64 / bits : undefined)
          .map((lane) => (sign === "s" ? s(bits, lane) : lane));
      ops.push(
        unary(`${to}.extend_${half}_${from}_${sign}`, extend + step, (x) => join(part(x), 2 * bits)),
        binary(`${to}.extmul_${half}_${from}_${sign}`, extmul + step, (x, y) => {
          const ys = part(y);
          return join(
            part(x).map((lane, i) => lane * (ys[i] ?? 0n)),
            2 * bits,
          );
        }),
      );
    }
  }
  return ops;
}

/** Reads lanes as numbers, and back. */
function numbers(value: bigint, double: boolean): number[] {
  const view = new DataView(new ArrayBuffer(16));
  view.setBigUint64(0, BigInt.asUintN(64, value), true);
  view.setBigUint64(8, value >> 64n, true);
  return double
    ? [view.getFloat64(0, true), view.getFloat64(8, true)]
    : [0, 4, 8, 12].map((at) => view.getFloat32(at, true));
}
function fromNumbers(values: readonly number[], double: boolean): bigint {
  const view = new DataView(new ArrayBuffer(16));
  values.forEach((v, i) => {
    if (double) view.setFloat64(8 * i, v, true);
    else view.setFloat32(4 * i, v, true);
  });
  return view.getBigUint64(0, true) | (view.getBigUint64(8, true) << 64n);
}

const minimum = (x: number, y: number): number => Math.min(x, y);
const maximum = (x: number, y: number): number => Math.max(x, y);

function floatOps(): OpSpec[] {
  const ops: OpSpec[] = [];
  const arithmetic: readonly [string, number, number, (x: number, y: number) => number][] = [
    ["add", 228, 240, (x, y) => x + y],
    ["sub", 229, 241, (x, y) => x - y],
    ["mul", 230, 242, (x, y) => x * y],
    ["div", 231, 243, (x, y) => x / y],
    ["min", 232, 244, minimum],
    ["max", 233, 245, maximum],
  ];
  const picks: readonly [string, number, number, (x: number, y: number) => boolean][] = [
    ["pmin", 234, 246, (x, y) => y < x],
    ["pmax", 235, 247, (x, y) => x < y],
  ];
  const compares: readonly [string, number, number, (x: number, y: number) => boolean][] = [
    ["eq", 65, 71, (x, y) => x === y],
    ["ne", 66, 72, (x, y) => x !== y],
    ["lt", 67, 73, (x, y) => x < y],
    ["gt", 68, 74, (x, y) => x > y],
    ["le", 69, 75, (x, y) => x <= y],
    ["ge", 70, 76, (x, y) => x >= y],
  ];
  for (const double of [false, true]) {
    const shape = double ? "f64x2" : "f32x4";
    const bits = double ? 64 : 32;
    for (const [name, single, wide, meaning] of arithmetic) {
      ops.push(
        binary(`${shape}.${name}`, double ? wide : single, (x, y) => {
          const ys = numbers(y, double);
          return fromNumbers(
            numbers(x, double).map((v, i) => meaning(v, ys[i] ?? 0)),
            double,
          );
        }),
      );
    }
    for (const [name, single, wide, second] of picks) {
      ops.push(
        binary(`${shape}.${name}`, double ? wide : single, (x, y) => {
          const xs = numbers(x, double);
          const yl = lanes(y, bits);
          const ys = numbers(y, double);
          return join(
            lanes(x, bits).map((lane, i) => (second(xs[i] ?? 0, ys[i] ?? 0) ? (yl[i] ?? 0n) : lane)),
            bits,
          );
        }),
      );
    }
    for (const [name, single, wide, meaning] of compares) {
      ops.push(
        binary(`${shape}.${name}`, double ? wide : single, (x, y) => {
          const ys = numbers(y, double);
          return join(
            numbers(x, double).map((v, i) => (meaning(v, ys[i] ?? 0) ? -1n : 0n)),
            bits,
          );
        }),
      );
    }
    ops.push(
      unary(`${shape}.sqrt`, double ? 239 : 227, (x) => fromNumbers(numbers(x, double).map(Math.sqrt), double)),
      unary(`${shape}.abs`, double ? 236 : 224, (x) =>
        join(
          lanes(x, bits).map((lane) => BigInt.asUintN(bits - 1, lane)),
          bits,
        ),
      ),
      unary(`${shape}.neg`, double ? 237 : 225, (x) =>
        join(
          lanes(x, bits).map((lane) => lane ^ (1n << BigInt(bits - 1))),
          bits,
        ),
      ),
    );
  }
  ops.push(
    unary("f64x2.promote_low_f32x4", 95, (x) => fromNumbers(numbers(x, false).slice(0, 2), true)),
    unary("f32x4.demote_f64x2_zero", 94, (x) => fromNumbers(numbers(x, true), false)),
    unary("f32x4.convert_i32x4_s", 250, (x) =>
      fromNumbers(
        lanes(x, 32).map((lane) => Number(s(32, lane))),
        false,
      ),
    ),
    unary("f64x2.convert_low_i32x4_s", 254, (x) =>
      fromNumbers(
        lanes(x, 32)
          .slice(0, 2)
          .map((lane) => Number(s(32, lane))),
        true,
      ),
    ),
    unary("i32x4.trunc_sat_f32x4_s", 248, (x) =>
      join(
        numbers(x, false).map((v) =>
          Number.isNaN(v) ? 0n : BigInt(Math.trunc(Math.max(-2147483648, Math.min(2147483647, v)))),
        ),
        32,
      ),
    ),
    unary("i32x4.trunc_sat_f64x2_s_zero", 252, (x) =>
      join(
        numbers(x, true).map((v) =>
          Number.isNaN(v) ? 0n : BigInt(Math.trunc(Math.max(-2147483648, Math.min(2147483647, v)))),
        ),
        32,
      ),
    ),
  );
  return ops;
}

const ALL_ONES = (1n << 128n) - 1n;

/** A shuffle by 16 constant lane indexes (imm2, imm3) cannot be WebAssembly's, whose indexes are in the code: two swizzles. */
const shuffle = defineOp({
  name: "i8x16.shuffle",
  extra: true,
  emit: (c) => {
    const swizzle = op2(SIMD | 14);
    const sixteen: Expr = (w) => {
      w.op(SIMD | 12);
      for (let i = 0; i < 16; i++) w.u8(16);
    };
    // An index out of 0..15 gives 0, so each half picks its own; b's indexes are 16 less.
    return c.d.setV128(op2(SIMD | 80)(swizzle(c.a.v128, c.vimm), swizzle(c.b.v128, op2(SIMD | 113)(c.vimm, sixteen))));
  },
  evaluate: (o: OracleContext) => {
    const bytes = [...lanes(o.get(o.a, 128), 8), ...lanes(o.get(o.b, 128), 8)];
    const indexes = lanes(o.imm2 | (o.imm3 << 64n), 8);
    o.set(
      o.d,
      128,
      join(
        indexes.map((i) => bytes[Number(i)] ?? 0n),
        8,
      ),
    );
  },
});

export const vectorOps: readonly OpSpec[] = [
  defineOp({
    name: "vmov",
    emit: (c) => c.d.setV128(c.a.v128),
    evaluate: (o) => o.set(o.d, 128, o.get(o.a, 128)),
  }),
  defineOp({
    name: "vzero",
    emit: (c) => c.d.setV128((w) => op1(SIMD | 18)(i64.extu((v) => v.i32(0)))(w)),
    evaluate: (o) => o.set(o.d, 128, 0n),
  }),
  unary("v128.not", 77, (x) => x ^ ALL_ONES),
  binary("v128.and", 78, (x, y) => x & y),
  binary("v128.andnot", 79, (x, y) => x & (y ^ ALL_ONES)),
  binary("v128.or", 80, (x, y) => x | y),
  binary("v128.xor", 81, (x, y) => x ^ y),
  ...integerOps(),
  ...wideningOps(),
  ...floatOps(),
  shuffle,
];
