/** Core loads and stores, with base + displacement and base + scaled index + displacement addresses. */
import {
  type CellAccess,
  defineOp,
  type EmitContext,
  type LoadKind,
  type OpSpec,
  type OracleContext,
  type StoreKind,
} from "../ir.ts";
import type { Expr } from "../wasm/code.ts";
import { i32, i64 } from "../wasm/expr.ts";
import { indexed, indexedMeaning } from "./integer.ts";

const displaced = (c: EmitContext): Expr => i64.add(c.a.i64, c.imm);
const displacedMeaning = (o: OracleContext): bigint => BigInt.asUintN(64, o.get(o.a, 64) + o.imm);

interface LoadSpec {
  readonly name: string;
  readonly kind: LoadKind;
  readonly bits: number;
  /** Bits of d that are written, and how the value is put. */
  readonly result: number;
  readonly put: (d: CellAccess, value: Expr) => Expr;
  readonly signed?: boolean;
  readonly write?: boolean;
  /** Sign extension reaches this width; above it is zero. */
  readonly narrow?: number;
}

const set64 = (d: CellAccess, v: Expr): Expr => d.set64(v);
const set128 = (d: CellAccess, v: Expr): Expr => d.setV128(v);
const low32 = (d: CellAccess, v: Expr): Expr => d.set64(i64.extu(i32.wrap(v)));

const loads: readonly LoadSpec[] = [
  { name: "ldz8", kind: "u8", bits: 8, result: 64, put: set64 },
  { name: "ldz16", kind: "u16", bits: 16, result: 64, put: set64 },
  { name: "ldz32", kind: "u32", bits: 32, result: 64, put: set64 },
  { name: "ld64", kind: "u64", bits: 64, result: 64, put: set64 },
  { name: "lds8", kind: "s8", bits: 8, result: 64, put: set64, signed: true },
  { name: "lds16", kind: "s16", bits: 16, result: 64, put: set64, signed: true },
  { name: "lds32", kind: "s32", bits: 32, result: 64, put: set64, signed: true },
  { name: "lds8_32", kind: "s8", bits: 8, result: 64, put: low32, signed: true, narrow: 32 },
  { name: "lds16_32", kind: "s16", bits: 16, result: 64, put: low32, signed: true, narrow: 32 },
  { name: "ldm8", kind: "u8", bits: 8, result: 8, put: (d, v) => d.set8(v) },
  { name: "ldm16", kind: "u16", bits: 16, result: 16, put: (d, v) => d.set16(v) },
  { name: "ldw8", kind: "u8", bits: 8, result: 64, put: set64, write: true },
  { name: "ldw16", kind: "u16", bits: 16, result: 64, put: set64, write: true },
  { name: "ldw32", kind: "u32", bits: 32, result: 64, put: set64, write: true },
  { name: "ldw64", kind: "u64", bits: 64, result: 64, put: set64, write: true },
  { name: "vld", kind: "v128", bits: 128, result: 128, put: set128 },
  { name: "vldz32", kind: "v32", bits: 32, result: 128, put: set128 },
  { name: "vldz64", kind: "v64", bits: 64, result: 128, put: set128 },
];

function loadOps(): OpSpec[] {
  const ops: OpSpec[] = [];
  for (const l of loads) {
    for (const scaled of [false, true]) {
      ops.push(
        defineOp({
          name: scaled ? `${l.name}x` : l.name,
          emit: (c) => l.put(c.d, c.load(l.kind, scaled ? indexed(c) : displaced(c), l.write)),
          evaluate: (o) => {
            let value = o.load(scaled ? indexedMeaning(o) : displacedMeaning(o), l.bits, l.write);
            if (l.signed) value = BigInt.asIntN(l.bits, value);
            if (l.narrow !== undefined) value = BigInt.asUintN(l.narrow, value);
            o.set(o.d, l.result, value);
          },
        }),
      );
    }
  }
  return ops;
}

const stores: readonly { name: string; kind: StoreKind; bits: number; value: (d: CellAccess) => Expr }[] = [
  { name: "st8", kind: 8, bits: 8, value: (d) => d.u8 },
  { name: "st16", kind: 16, bits: 16, value: (d) => d.u16 },
  { name: "st32", kind: 32, bits: 32, value: (d) => d.u32 },
  { name: "st64", kind: 64, bits: 64, value: (d) => d.i64 },
  { name: "vst", kind: "v128", bits: 128, value: (d) => d.v128 },
  { name: "vst32", kind: 32, bits: 32, value: (d) => d.u32 },
  { name: "vst64", kind: 64, bits: 64, value: (d) => d.i64 },
];

function storeOps(): OpSpec[] {
  const ops: OpSpec[] = [];
  for (const s of stores) {
    for (const scaled of [false, true]) {
      ops.push(
        defineOp({
          name: scaled ? `${s.name}x` : s.name,
          emit: (c) => c.store(s.kind, scaled ? indexed(c) : displaced(c), s.value(c.d)),
          evaluate: (o) => o.store(scaled ? indexedMeaning(o) : displacedMeaning(o), s.bits, o.get(o.d, s.bits)),
        }),
      );
    }
  }
  for (const bits of [8, 16, 32, 64] as const) {
    ops.push(
      defineOp({
        name: `sti${bits}`,
        emit: (c) => c.store(bits, i64.add(c.a.i64, i64.exts(c.lo)), i64.exts(c.hi)),
        evaluate: (o) =>
          o.store(BigInt.asUintN(64, o.get(o.a, 64) + BigInt(o.lo)), bits, BigInt.asUintN(bits, BigInt(o.hi))),
      }),
    );
  }
  return ops;
}

export const memoryOps: readonly OpSpec[] = [...loadOps(), ...storeOps()];
