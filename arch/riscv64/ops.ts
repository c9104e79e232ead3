/**
 * RISC-V's own IR operations beside the core's: division, indirect jumps, atomics, sstatus, what raises and leaves. Floating point: ops-float.ts.
 *
 * Each has its emission and its independent meaning. Helper indexes are those of machine.ts.
 */
import type { CellAccess, EmitContext, OpSpec, OracleContext } from "../translate/ir.ts";
import type { Expr } from "../translate/wasm/code.ts";
import { c32, c64, i32, i64, select } from "../translate/wasm/expr.ts";
import { CAUSE_LOAD_MISALIGNED, CAUSE_STORE_MISALIGNED, DETAIL_INTERRUPTS, SSTATUS_SIE } from "./state.ts";

/** Helpers by index. */
export const HELPER_CSR = 0;
export const HELPER_COUNTER = 1;
export const HELPER_SRET = 2;
export const HELPER_SFENCE = 3;
export const HELPER_WFI = 4;
export const HELPER_FLOAT = 5;

const ops: OpSpec[] = [];
const U64 = (value: bigint): bigint => BigInt.asUintN(64, value);
const S64 = (value: bigint): bigint => BigInt.asIntN(64, value);

// ---- division ----------------------------------------------------------------------------------------------------

/** Division by zero gives all ones, or the dividend; the one overflow gives the dividend, or 0 (unprivileged, table of M). */
for (const [name, rest, signed] of [
  ["div", false, true],
  ["divu", false, false],
  ["rem", true, true],
  ["remu", true, false],
] as const) {
  const divide = rest ? (signed ? i64.rems : i64.remu) : signed ? i64.divs : i64.divu;
  const meaning = (a: bigint, b: bigint): bigint => (b === 0n ? (rest ? a : -1n) : rest ? a % b : a / b);
  ops.push(
    {
      name: `rv.${name}64`,
      emit: (c) => {
        const a = c.i64(0);
        const b = c.i64(1);
        const usual = c.d.set64(divide(a.get, b.get));
        return c.seq(
          a.set(c.a.i64),
          b.set(c.b.i64),
          c.when(
            i64.eqz(b.get),
            c.d.set64(rest ? a.get : c64(-1)),
            signed ? c.when(i64.eq(b.get, c64(-1)), c.d.set64(rest ? c64(0) : i64.sub(c64(0), a.get)), usual) : usual,
          ),
        );
      },
      evaluate: (o) => {
        const [a, b] = [o.get(o.a, 64), o.get(o.b, 64)];
        o.set(o.d, 64, U64(signed ? meaning(S64(a), S64(b)) : meaning(a, b)));
      },
    },
    {
      // the low halves, the result sign-extended; 64-bit division cannot overflow with them
      name: `rv.${name}32`,
      emit: (c) => {
        const a = c.i64(0);
        const b = c.i64(1);
        return c.seq(
          a.set(signed ? c.a.s32 : c.a.u32),
          b.set(signed ? c.b.s32 : c.b.u32),
          c.when(
            i64.eqz(b.get),
            c.d.set64(rest ? i64.sx32(a.get) : c64(-1)),
            c.d.set64(i64.sx32(divide(a.get, b.get))),
          ),
        );
      },
      evaluate: (o) => {
        const take = (offset: number): bigint => {
          const raw = o.get(offset, 32);
          return signed ? BigInt.asIntN(32, raw) : raw;
        };
        o.set(o.d, 64, U64(BigInt.asIntN(32, meaning(take(o.a), take(o.b)))));
      },
    },
  );
}

// ---- jumps and exceptions ----------------------------------------------------------------------------------------

ops.push(
  {
    // to (a + imm) with bit 0 clear
    name: "rv.jr",
    terminator: "computed",
    emit: (c) => c.jumpTo(i64.and(i64.add(c.a.i64, c.imm), c64(-2))),
    evaluate: (o) => o.jumpTo(U64(o.get(o.a, 64) + o.imm) & ~1n),
  },
  {
    // the same; d = imm2, the return address (a may be d)
    name: "rv.jalr",
    terminator: "computed",
    extra: true,
    emit: (c) =>
      c.seq(c.i64(0).set(i64.and(i64.add(c.a.i64, c.imm), c64(-2))), c.d.set64(c.imm2), c.jumpTo(c.i64(0).get)),
    evaluate: (o) => {
      const target = U64(o.get(o.a, 64) + o.imm) & ~1n;
      o.set(o.d, 64, o.imm2);
      o.jumpTo(target);
    },
  },
  {
    // the exception lo with stval imm2
    name: "rv.raise",
    terminator: "computed",
    extra: true,
    emit: (c) => c.seq(c.cell("faultCause").set32i(c.lo), c.cell("faultValue").set64(c.imm2), c.fault),
    evaluate: (o) => {
      o.set(o.at("faultCause"), 32, BigInt(o.lo));
      o.set(o.at("faultValue"), 64, o.imm2);
      o.fault();
    },
  },
);

// ---- sstatus -----------------------------------------------------------------------------------------------------

const sstatus = (c: EmitContext): CellAccess => c.cell("sstatus");
const onlySie = (value: Expr): Expr => i64.eqz(i64.and(value, c64(~SSTATUS_SIE, -1)));

ops.push(
  {
    // d = sstatus, sstatus |= a: done here where a has SIE at most, else by the CSR helper (hi is its). The cell pc holds the next pc.
    name: "rv.sstatus.set",
    terminator: "jump",
    emit: (c) => {
      const value = c.i64(0);
      const old = c.i64(1);
      return c.seq(
        value.set(c.a.i64),
        c.when(i32.eqz(onlySie(value.get)), c.helper(c32(HELPER_CSR))),
        old.set(sstatus(c).i64),
        sstatus(c).set64(i64.or(old.get, value.get)),
        c.d.set64(old.get),
        c.when(
          i32.and(i64.ne(value.get, c64(0)), i64.ne(i64.and(c.cell("sip").i64, c.cell("sie").i64), c64(0))),
          c.exitAfter(c32(DETAIL_INTERRUPTS)),
        ),
        c.jump(),
      );
    },
    evaluate: (o) => {
      const value = o.get(o.a, 64);
      if ((value & ~2n) !== 0n) {
        o.helper(HELPER_CSR);
        return;
      }
      const old = o.get(o.at("sstatus"), 64);
      o.set(o.at("sstatus"), 64, old | value);
      o.set(o.d, 64, old);
      if (value !== 0n && (o.get(o.at("sip"), 64) & o.get(o.at("sie"), 64)) !== 0n) o.exitAfter(DETAIL_INTERRUPTS);
      o.jump();
    },
  },
  {
    // d = sstatus, sstatus &= ~a: likewise
    name: "rv.sstatus.clear",
    terminator: "jump",
    emit: (c) => {
      const value = c.i64(0);
      const old = c.i64(1);
      return c.seq(
        value.set(c.a.i64),
        c.when(i32.eqz(onlySie(value.get)), c.helper(c32(HELPER_CSR))),
        old.set(sstatus(c).i64),
        sstatus(c).set64(i64.and(old.get, i64.xor(value.get, c64(-1)))),
        c.d.set64(old.get),
        c.jump(),
      );
    },
    evaluate: (o) => {
      const value = o.get(o.a, 64);
      if ((value & ~2n) !== 0n) {
        o.helper(HELPER_CSR);
        return;
      }
      const old = o.get(o.at("sstatus"), 64);
      o.set(o.at("sstatus"), 64, old & ~value);
      o.set(o.d, 64, old);
      o.jump();
    },
  },
  {
    // d = the bits lo of a shifted left by hi, the others kept (fields of fcsr)
    name: "rv.insert",
    emit: (c) => {
      const mask = i64.extu(c.lo);
      return c.d.set64(
        i64.or(i64.and(c.d.i64, i64.xor(mask, c64(-1))), i64.and(i64.shl(c.a.i64, i64.extu(c.hi)), mask)),
      );
    },
    evaluate: (o) => {
      const mask = BigInt(o.lo);
      o.set(o.d, 64, (o.get(o.d, 64) & ~mask) | ((o.get(o.a, 64) << BigInt(o.hi)) & mask));
    },
  },
);

// ---- atomics -----------------------------------------------------------------------------------------------------

const aligned = (c: EmitContext, bytes: number, cause: number): Expr =>
  c.when(
    i32.and(i32.wrap(c.i64(0).get), c32(bytes - 1)),
    c.seq(c.cell("faultCause").set32i(c32(cause)), c.cell("faultValue").set64(c.i64(0).get), c.fault),
  );
function alignedMeaning(o: OracleContext, address: bigint, bytes: number, cause: number): void {
  if ((address & BigInt(bytes - 1)) === 0n) return;
  o.set(o.at("faultCause"), 32, BigInt(cause));
  o.set(o.at("faultValue"), 64, address);
  o.fault();
}

/** What is stored, of the value in memory and the operand (both sign-extended). */
const AMOS: readonly [
  string,
  (m: Expr, b: Expr) => Expr,
  (m: bigint, b: bigint, u: (v: bigint) => bigint) => bigint,
][] = [
  ["add", i64.add, (m, b) => m + b],
  ["swap", (_m, b) => b, (_m, b) => b],
  ["xor", i64.xor, (m, b) => m ^ b],
  ["or", i64.or, (m, b) => m | b],
  ["and", i64.and, (m, b) => m & b],
  ["min", (m, b) => select(m, b, i64.lts(m, b)), (m, b) => (m < b ? m : b)],
  ["max", (m, b) => select(m, b, i64.gts(m, b)), (m, b) => (m > b ? m : b)],
  // sign extension keeps the unsigned order
  ["minu", (m, b) => select(m, b, i64.ltu(m, b)), (m, b, u) => (u(m) < u(b) ? m : b)],
  ["maxu", (m, b) => select(m, b, i64.gtu(m, b)), (m, b, u) => (u(m) > u(b) ? m : b)],
];

for (const [suffix, bytes] of [
  ["w", 4],
  ["d", 8],
] as const) {
  const bits = bytes === 4 ? 32 : 64;
  const kind = bytes === 4 ? "s32" : "u64";
  const operand = (cell: CellAccess): Expr => (bytes === 4 ? cell.s32 : cell.i64);
  const signed = (value: bigint): bigint => BigInt.asIntN(bits, value);
  const reserved = (c: EmitContext): CellAccess => c.cell("reserved");
  for (const [name, emitted, meaning] of AMOS) {
    ops.push({
      name: `rv.amo${name}.${suffix}`,
      emit: (c) => {
        const [address, source, loaded] = [c.i64(0), c.i64(1), c.i64(2)];
        return c.seq(
          address.set(c.a.i64),
          aligned(c, bytes, CAUSE_STORE_MISALIGNED),
          source.set(operand(c.b)),
          loaded.set(c.load(kind, address.get, true)),
          c.store(bits, address.get, emitted(loaded.get, source.get)),
          c.d.set64(loaded.get),
        );
      },
      evaluate: (o) => {
        const address = o.get(o.a, 64);
        alignedMeaning(o, address, bytes, CAUSE_STORE_MISALIGNED);
        const source = signed(o.get(o.b, bits));
        const loaded = signed(o.load(address, bits, true));
        o.store(
          address,
          bits,
          BigInt.asUintN(
            bits,
            meaning(loaded, source, (v) => BigInt.asUintN(bits, v)),
          ),
        );
        o.set(o.d, 64, U64(loaded));
      },
    });
  }
  ops.push(
    {
      name: `rv.lr.${suffix}`,
      emit: (c) => {
        const [address, loaded] = [c.i64(0), c.i64(2)];
        return c.seq(
          address.set(c.a.i64),
          aligned(c, bytes, CAUSE_LOAD_MISALIGNED),
          loaded.set(c.load(kind, address.get)),
          reserved(c).set64i(c32(bytes)),
          c.cell("reservedAddress").set64(address.get),
          c.cell("reservedValue").set64(loaded.get),
          c.d.set64(loaded.get),
        );
      },
      evaluate: (o) => {
        const address = o.get(o.a, 64);
        alignedMeaning(o, address, bytes, CAUSE_LOAD_MISALIGNED);
        const loaded = U64(signed(o.load(address, bits)));
        o.set(o.at("reserved"), 64, BigInt(bytes));
        o.set(o.at("reservedAddress"), 64, address);
        o.set(o.at("reservedValue"), 64, loaded);
        o.set(o.d, 64, loaded);
      },
    },
    {
      // d = 0 and stores b where the reservation is for this very access, and memory has what LR read; else d = 1
      name: `rv.sc.${suffix}`,
      emit: (c) => {
        const [address, failed] = [c.i64(0), c.i32(0)];
        const mine = i32.and(i64.eq(reserved(c).i64, c64(bytes)), i64.eq(c.cell("reservedAddress").i64, address.get));
        return c.seq(
          address.set(c.a.i64),
          aligned(c, bytes, CAUSE_STORE_MISALIGNED),
          failed.set(c32(1)),
          c.when(
            mine,
            c.when(
              i64.eq(c.load(kind, address.get, true), c.cell("reservedValue").i64),
              c.seq(c.store(bits, address.get, c.b.i64), failed.set(c32(0))),
            ),
          ),
          reserved(c).set64(c64(0)),
          c.d.set64i(failed.get),
        );
      },
      evaluate: (o) => {
        const address = o.get(o.a, 64);
        alignedMeaning(o, address, bytes, CAUSE_STORE_MISALIGNED);
        let failed = 1n;
        if (o.get(o.at("reserved"), 64) === BigInt(bytes) && o.get(o.at("reservedAddress"), 64) === address) {
          if (U64(signed(o.load(address, bits, true))) === o.get(o.at("reservedValue"), 64)) {
            o.store(address, bits, o.get(o.b, bits));
            failed = 0n;
          }
        }
        o.set(o.at("reserved"), 64, 0n);
        o.set(o.d, 64, failed);
      },
    },
  );
}

export const integerOps: readonly OpSpec[] = ops;
