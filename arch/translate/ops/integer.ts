/**
 * Core integer operations: moves, arithmetic, logic, shifts, extensions, comparisons. Families are built by width from
 * one description of the operation on i32 and i64, and one on BigInt for the oracle.
 */
import { type CellAccess, defineOp, type EmitContext, type OpSpec, type OracleContext } from "../ir.ts";
import type { Expr } from "../wasm/code.ts";
import { c32, c64, i32, i64, select } from "../wasm/expr.ts";

/** A result width: 8 and 16 merge, 32 zero-extends, 32s sign-extends. */
export type Width = 8 | 16 | 32 | "32s" | 64;
export const bitsOf = (w: Width): 8 | 16 | 32 | 64 => (w === "32s" ? 32 : w);

/** Writes an i32 (widths up to 32) or an i64 (64) result to a cell by the rules of its width. */
export function put(cell: CellAccess, w: Width, value: Expr): Expr {
  switch (w) {
    case 8:
      return cell.set8i(value);
    case 16:
      return cell.set16i(value);
    case 32:
      return cell.set64i(value);
    case "32s":
      return cell.set64(i64.exts(value));
    case 64:
      return cell.set64(value);
  }
}

/** Reads a cell zero-extended: i32 for widths up to 32, else i64. */
export function take(cell: CellAccess, w: Width): Expr {
  switch (w) {
    case 8:
      return cell.i8u;
    case 16:
      return cell.i16u;
    case 64:
      return cell.i64;
    default:
      return cell.i32;
  }
}

/** Reads a cell sign-extended. */
export function takeSigned(cell: CellAccess, w: Width): Expr {
  switch (w) {
    case 8:
      return cell.i8s;
    case 16:
      return cell.i16s;
    case 64:
      return cell.i64;
    default:
      return cell.i32;
  }
}

/** The oracle's counterpart of `put`. */
export function putOracle(o: OracleContext, w: Width, value: bigint): void {
  if (w === 32) o.set(o.d, 64, BigInt.asUintN(32, value));
  else if (w === "32s") o.set(o.d, 64, BigInt.asIntN(32, value));
  else o.set(o.d, w, value);
}

interface Family {
  readonly name: string;
  readonly narrow: (x: Expr, y: Expr, w: Width) => Expr;
  readonly wide: (x: Expr, y: Expr) => Expr;
  /** Operands are unsigned values of `bits` bits. */
  readonly meaning: (x: bigint, y: bigint, bits: number) => bigint;
  readonly widths: readonly Width[];
  /** The first operand is read sign-extended. */
  readonly signed?: boolean;
}

const ALL = [8, 16, 32, "32s", 64] as const;
const PLAIN = [8, 16, 32, 64] as const;

const shiftCount = (y: Expr): Expr => i32.and(y, c32(31));
const masked = (y: bigint, bits: number): bigint => y & (bits === 64 ? 63n : 31n);
/** i32 shifts that may pass the width: narrow operands are extended to 32 bits, counts are below 32. */
const rotate =
  (left: boolean) =>
  (x: Expr, y: Expr, w: Width): Expr => {
    if (w !== 8 && w !== 16) return left ? i32.rotl(x, y) : i32.rotr(x, y);
    const n = i32.and(y, c32(w - 1));
    const m = i32.and(i32.sub(c32(0), y), c32(w - 1));
    return left ? i32.or(i32.shl(x, n), i32.shru(x, m)) : i32.or(i32.shru(x, n), i32.shl(x, m));
  };
const rotateMeaning = (x: bigint, n: bigint, bits: number): bigint => {
  const k = n % BigInt(bits);
  return (x << k) | (x >> (BigInt(bits) - k));
};

const families: readonly Family[] = [
  { name: "add", narrow: i32.add, wide: i64.add, meaning: (x, y) => x + y, widths: ALL },
  { name: "sub", narrow: i32.sub, wide: i64.sub, meaning: (x, y) => x - y, widths: ALL },
  { name: "and", narrow: i32.and, wide: i64.and, meaning: (x, y) => x & y, widths: PLAIN },
  { name: "or", narrow: i32.or, wide: i64.or, meaning: (x, y) => x | y, widths: PLAIN },
  { name: "xor", narrow: i32.xor, wide: i64.xor, meaning: (x, y) => x ^ y, widths: PLAIN },
  { name: "mul", narrow: i32.mul, wide: i64.mul, meaning: (x, y) => x * y, widths: [16, 32, "32s", 64] },
  {
    name: "shl",
    narrow: (x, y) => i32.shl(x, shiftCount(y)),
    wide: i64.shl,
    meaning: (x, y, bits) => x << masked(y, bits),
    widths: ALL,
  },
  {
    name: "shr",
    narrow: (x, y) => i32.shru(x, shiftCount(y)),
    wide: i64.shru,
    meaning: (x, y, bits) => x >> masked(y, bits),
    widths: ALL,
  },
  {
    name: "sar",
    narrow: (x, y) => i32.shrs(x, shiftCount(y)),
    wide: i64.shrs,
    meaning: (x, y, bits) => BigInt.asIntN(bits, x) >> masked(y, bits),
    widths: ALL,
    signed: true,
  },
  {
    name: "rol",
    narrow: rotate(true),
    wide: i64.rotl,
    meaning: (x, y, bits) => rotateMeaning(x, y % BigInt(bits), bits),
    widths: PLAIN,
  },
  {
    name: "ror",
    narrow: rotate(false),
    wide: i64.rotr,
    meaning: (x, y, bits) => rotateMeaning(x, (BigInt(bits) - (y % BigInt(bits))) % BigInt(bits), bits),
    widths: PLAIN,
  },
];

function familyOps(): OpSpec[] {
  const ops: OpSpec[] = [];
  for (const f of families) {
    for (const w of f.widths) {
      const bits = bitsOf(w);
      for (const immediate of [false, true]) {
        ops.push(
          defineOp({
            name: `${f.name}${w}${immediate ? "i" : ""}`,
            emit: (c: EmitContext) => {
              const x = f.signed ? takeSigned(c.a, w) : take(c.a, w);
              const y = immediate ? (w === 64 ? c.imm : c.lo) : take(c.b, w);
              return put(c.d, w, w === 64 ? f.wide(x, y) : f.narrow(x, y, w));
            },
            evaluate: (o) => {
              const y = immediate ? BigInt.asUintN(bits, o.imm) : o.get(o.b, bits);
              putOracle(o, w, f.meaning(o.get(o.a, bits), y, bits));
            },
          }),
        );
      }
    }
  }
  return ops;
}

function moveOps(): OpSpec[] {
  const ops: OpSpec[] = [
    defineOp({ name: "nop", emit: (c) => c.seq(), evaluate: () => {} }),
    defineOp({
      name: "andn64",
      emit: (c) => c.d.set64(i64.and(c.a.i64, i64.xor(c.b.i64, c64(-1)))),
      evaluate: (o) => o.set(o.d, 64, o.get(o.a, 64) & ~o.get(o.b, 64)),
    }),
  ];
  for (const w of PLAIN) {
    const zero = w === 64 ? c64(0) : c32(0);
    const ones = w === 64 ? c64(-1) : c32(-1);
    const sub = w === 64 ? i64.sub : i32.sub;
    const xor = w === 64 ? i64.xor : i32.xor;
    ops.push(
      defineOp({
        name: `mov${w}`,
        emit: (c) => put(c.d, w, take(c.a, w)),
        evaluate: (o) => putOracle(o, w, o.get(o.a, w)),
      }),
      defineOp({
        name: `mov${w}i`,
        emit: (c) => put(c.d, w, w === 64 ? c.imm : c.lo),
        evaluate: (o) => putOracle(o, w, o.imm),
      }),
      defineOp({
        name: `neg${w}`,
        emit: (c) => put(c.d, w, sub(zero, take(c.a, w))),
        evaluate: (o) => putOracle(o, w, -o.get(o.a, w)),
      }),
      defineOp({
        name: `not${w}`,
        emit: (c) => put(c.d, w, xor(take(c.a, w), ones)),
        evaluate: (o) => putOracle(o, w, ~o.get(o.a, w)),
      }),
    );
  }
  const extension = (name: string, from: number, signed: boolean, w: Width, value: (c: EmitContext) => Expr): OpSpec =>
    defineOp({
      name,
      emit: (c) => put(c.d, w, value(c)),
      evaluate: (o) => {
        const raw = o.get(o.a, from);
        putOracle(o, w, signed ? BigInt.asIntN(from, raw) : raw);
      },
    });
  ops.push(
    extension("zx8", 8, false, 64, (c) => c.a.u8),
    extension("zx16", 16, false, 64, (c) => c.a.u16),
    extension("zx32", 32, false, 64, (c) => c.a.u32),
    extension("sx8", 8, true, 64, (c) => c.a.s8),
    extension("sx16", 16, true, 64, (c) => c.a.s16),
    extension("sx32", 32, true, 64, (c) => c.a.s32),
    extension("sx8_32", 8, true, 32, (c) => c.a.i8s),
    extension("sx16_32", 16, true, 32, (c) => c.a.i16s),
    extension("sx8_16", 8, true, 16, (c) => c.a.i8s),
    extension("zx8_16", 8, false, 16, (c) => c.a.i8u),
  );
  return ops;
}

/** The high half of a 64x64 product from 32-bit parts; x and y in locals 0 and 1. */
function highProduct(c: EmitContext, signedA: boolean, signedB: boolean): Expr {
  const x = c.i64(0);
  const y = c.i64(1);
  const low = c64(-1, 0);
  const s32 = c64(32);
  const t = c.i64(2);
  const u = c.i64(3);
  // t = xl*yl >> 32 + xh*yl ; u = xl*yh + low(t) ; high = xh*yh + (t >> 32) + (u >> 32)
  const xl = i64.and(x.get, low);
  const yl = i64.and(y.get, low);
  const xh = i64.shru(x.get, s32);
  const yh = i64.shru(y.get, s32);
  let high: Expr = i64.add(i64.add(i64.mul(xh, yh), i64.shru(t.get, s32)), i64.shru(u.get, s32));
  if (signedA) high = i64.sub(high, i64.and(i64.shrs(x.get, c64(63)), y.get));
  if (signedB) high = i64.sub(high, i64.and(i64.shrs(y.get, c64(63)), x.get));
  return c.seq(
    x.set(c.a.i64),
    y.set(c.b.i64),
    t.set(i64.add(i64.mul(xh, yl), i64.shru(i64.mul(xl, yl), s32))),
    u.set(i64.add(i64.mul(xl, yh), i64.and(t.get, low))),
    c.d.set64(high),
  );
}

function wideOps(): OpSpec[] {
  const ops: OpSpec[] = [];
  const high = (name: string, sa: boolean, sb: boolean): void => {
    ops.push(
      defineOp({
        name,
        emit: (c) => highProduct(c, sa, sb),
        evaluate: (o) => {
          const x = o.get(o.a, 64);
          const y = o.get(o.b, 64);
          o.set(o.d, 64, ((sa ? BigInt.asIntN(64, x) : x) * (sb ? BigInt.asIntN(64, y) : y)) >> 64n);
        },
      }),
    );
  };
  high("mulhu64", false, false);
  high("mulhs64", true, true);
  high("mulhsu64", true, false);
  const count = (
    name: string,
    f32: (x: Expr) => Expr,
    f64: (x: Expr) => Expr,
    meaning: (bits: string) => number,
  ): void => {
    for (const w of [32, 64] as const) {
      ops.push(
        defineOp({
          name: `${name}${w}`,
          emit: (c) => put(c.d, w, w === 64 ? f64(c.a.i64) : f32(c.a.i32)),
          evaluate: (o) => putOracle(o, w, BigInt(meaning(o.get(o.a, w).toString(2).padStart(w, "0")))),
        }),
      );
    }
  };
  const runOfZeros = (bits: string): number => (bits.indexOf("1") < 0 ? bits.length : bits.indexOf("1"));
  count("clz", i32.clz, i64.clz, runOfZeros);
  count("ctz", i32.ctz, i64.ctz, (bits) => runOfZeros([...bits].reverse().join("")));
  count("popcnt", i32.popcnt, i64.popcnt, (bits) => bits.replaceAll("0", "").length);

  const swapMeaning = (x: bigint, bytes: number): bigint => {
    let out = 0n;
    for (let i = 0; i < bytes; i++) out = (out << 8n) | ((x >> BigInt(8 * i)) & 0xffn);
    return out;
  };
  ops.push(
    defineOp({
      name: "bswap32",
      emit: (c) =>
        c.d.set64i(
          i32.or(
            i32.and(i32.rotl(c.a.i32, c32(8)), c32(0x00ff00ff)),
            i32.and(i32.rotl(c.a.i32, c32(24)), c32(0xff00ff00 | 0)),
          ),
        ),
      evaluate: (o) => putOracle(o, 32, swapMeaning(o.get(o.a, 32), 4)),
    }),
    defineOp({
      name: "bswap64",
      emit: (c) => {
        const x = c.i64(0);
        const step = (mask: number, n: number): Expr =>
          x.set(
            i64.or(i64.and(i64.shru(x.get, c64(n)), c64(mask, mask)), i64.shl(i64.and(x.get, c64(mask, mask)), c64(n))),
          );
        return c.seq(x.set(c.a.i64), step(0x00ff00ff, 8), step(0x0000ffff, 16), c.d.set64(i64.rotl(x.get, c64(32))));
      },
      evaluate: (o) => o.set(o.d, 64, swapMeaning(o.get(o.a, 64), 8)),
    }),
  );
  return ops;
}

/** The ten conditions: name, i32 and i64 comparison, meaning. */
export const CONDITIONS: readonly {
  readonly name: string;
  readonly narrow: (x: Expr, y: Expr) => Expr;
  readonly wide: (x: Expr, y: Expr) => Expr;
  readonly signed: boolean;
  readonly meaning: (x: bigint, y: bigint) => boolean;
}[] = [
  { name: "eq", narrow: i32.eq, wide: i64.eq, signed: false, meaning: (x, y) => x === y },
  { name: "ne", narrow: i32.ne, wide: i64.ne, signed: false, meaning: (x, y) => x !== y },
  { name: "ltu", narrow: i32.ltu, wide: i64.ltu, signed: false, meaning: (x, y) => x < y },
  { name: "leu", narrow: i32.leu, wide: i64.leu, signed: false, meaning: (x, y) => x <= y },
  { name: "gtu", narrow: i32.gtu, wide: i64.gtu, signed: false, meaning: (x, y) => x > y },
  { name: "geu", narrow: i32.geu, wide: i64.geu, signed: false, meaning: (x, y) => x >= y },
  { name: "lts", narrow: i32.lts, wide: i64.lts, signed: true, meaning: (x, y) => x < y },
  { name: "les", narrow: i32.les, wide: i64.les, signed: true, meaning: (x, y) => x <= y },
  { name: "gts", narrow: i32.gts, wide: i64.gts, signed: true, meaning: (x, y) => x > y },
  { name: "ges", narrow: i32.ges, wide: i64.ges, signed: true, meaning: (x, y) => x >= y },
];

/** The oracle's reading of an operand for a condition. */
export function conditionOperand(value: bigint, bits: number, signed: boolean): bigint {
  return signed ? BigInt.asIntN(bits, value) : BigInt.asUintN(bits, value);
}

function conditionOps(): OpSpec[] {
  const ops: OpSpec[] = [];
  for (const condition of CONDITIONS) {
    for (const w of [32, 64] as const) {
      for (const immediate of [false, true]) {
        ops.push(
          defineOp({
            name: `set${condition.name}${w}${immediate ? "i" : ""}`,
            emit: (c) =>
              c.d.set64i(
                w === 64
                  ? condition.wide(c.a.i64, immediate ? c.imm : c.b.i64)
                  : condition.narrow(c.a.i32, immediate ? c.lo : c.b.i32),
              ),
            evaluate: (o) => {
              const x = conditionOperand(o.get(o.a, w), w, condition.signed);
              const y = conditionOperand(immediate ? o.imm : o.get(o.b, w), w, condition.signed);
              o.set(o.d, 64, condition.meaning(x, y) ? 1n : 0n);
            },
          }),
        );
      }
    }
  }
  for (const onZero of [false, true]) {
    const test = (c: EmitContext): Expr => (onZero ? i64.eqz(c.a.i64) : i64.ne(c.a.i64, c64(0)));
    for (const w of [16, 32, 64] as const) {
      ops.push(
        defineOp({
          name: `${onZero ? "selz" : "selnz"}${w}`,
          emit: (c) => put(c.d, w, select(take(c.b, w), take(c.d, w), test(c))),
          evaluate: (o) => putOracle(o, w, o.get((o.get(o.a, 64) === 0n) === onZero ? o.b : o.d, w)),
        }),
      );
    }
  }
  for (const w of [16, 32, 64] as const) {
    ops.push(
      defineOp({
        name: `lea${w}`,
        emit: (c) => {
          const address = indexed(c);
          return w === 64 ? c.d.set64(address) : put(c.d, w, i32.wrap(address));
        },
        evaluate: (o) => putOracle(o, w, indexedMeaning(o)),
      }),
    );
  }
  return ops;
}

/** a + (b << hi) + sign-extended lo. */
export function indexed(c: EmitContext): Expr {
  return i64.add(i64.add(c.a.i64, i64.shl(c.b.i64, i64.extu(c.hi))), i64.exts(c.lo));
}

/** The oracle's `indexed`. */
export function indexedMeaning(o: OracleContext): bigint {
  return BigInt.asUintN(64, o.get(o.a, 64) + (o.get(o.b, 64) << BigInt(o.hi & 63)) + BigInt(o.lo));
}

export const integerOps: readonly OpSpec[] = [...moveOps(), ...familyOps(), ...wideOps(), ...conditionOps()];
