/** Lifters of arithmetic and logic: add to cmp, test, inc, dec, neg, not, shifts, rotates, multiplication, division, bits. */
import type { Instruction } from "../decode.ts";
import { family, id, LOG2 } from "../opset.ts";
import { gpr, RAX, RCX, STATE } from "../state.ts";
import {
  FLAGS_RESULT,
  FLAGS_SUB,
  FLAGS_UNKNOWN,
  HELPER_DIV64,
  HELPER_IDIV64,
  type LiftContext,
  type Lifter,
} from "./context.ts";

const NAMES = ["add", "or", "adc", "sbb", "and", "sub", "xor", "cmp"] as const;
const ALU = NAMES.map((name) => family(`x.${name}`));
const ALU_I = NAMES.map((name) => family(`x.${name}`, "i"));
const FLAGS_AFTER = [
  FLAGS_RESULT,
  FLAGS_RESULT,
  FLAGS_RESULT,
  FLAGS_UNKNOWN,
  FLAGS_RESULT,
  FLAGS_SUB,
  FLAGS_RESULT,
  FLAGS_SUB,
];
const CMP = 7;
const TEST = family("x.test");
const TEST_I = family("x.test", "i");
const INC = family("x.inc");
const DEC = family("x.dec");
const NEG = family("x.neg");
const NOT = family("not");
const MOV32 = id("mov32");

/** op E, G. */
export function aluEG(n: number): Lifter {
  const ops = ALU[n]!;
  return (x, i) => {
    const op = ops[LOG2[i.size]!]!;
    const g = x.readG(i, i.size);
    if (n === CMP) x.emit(op, 0, x.readE(i, i.size), g);
    else x.modifyE(i, i.size, (cell) => x.emit(op, cell, cell, g));
    x.flags = FLAGS_AFTER[n]!;
  };
}

/** op G, E. */
export function aluGE(n: number): Lifter {
  const ops = ALU[n]!;
  return (x, i) => {
    const e = x.readE(i, i.size);
    const g = x.readG(i, i.size);
    x.emit(ops[LOG2[i.size]!]!, g, g, e);
    x.flags = FLAGS_AFTER[n]!;
  };
}

function immediate(x: LiftContext, i: Instruction, n: number, accumulator: boolean): void {
  const op = ALU_I[n]![LOG2[i.size]!]!;
  if (accumulator) x.emit(op, gpr(RAX), gpr(RAX), 0, i.immLo, i.immHi);
  else if (n === CMP) x.emit(op, 0, x.readE(i, i.size), 0, i.immLo, i.immHi);
  else x.modifyE(i, i.size, (cell) => x.emit(op, cell, cell, 0, i.immLo, i.immHi));
  x.flags = FLAGS_AFTER[n]!;
}

/** op al or rax, imm. */
export const aluAI =
  (n: number): Lifter =>
  (x, i) =>
    immediate(x, i, n, true);
/** op E, imm. */
export const aluEI =
  (n: number): Lifter =>
  (x, i) =>
    immediate(x, i, n, false);

export const testEG: Lifter = (x, i) => {
  x.emit(TEST[LOG2[i.size]!]!, 0, x.readE(i, i.size), x.readG(i, i.size));
  x.flags = FLAGS_RESULT;
};
export const testEI: Lifter = (x, i) => {
  x.emit(TEST_I[LOG2[i.size]!]!, 0, x.readE(i, i.size), 0, i.immLo, i.immHi);
  x.flags = FLAGS_RESULT;
};
export const testAI: Lifter = (x, i) => {
  x.emit(TEST_I[LOG2[i.size]!]!, 0, gpr(RAX), 0, i.immLo, i.immHi);
  x.flags = FLAGS_RESULT;
};

const unary =
  (ops: readonly number[], flags: number, lo: number): Lifter =>
  (x, i) => {
    x.modifyE(i, i.size, (cell) => x.emit(ops[LOG2[i.size]!]!, cell, cell, 0, lo));
    x.flags = flags;
  };
export const inc = unary(INC, FLAGS_RESULT, 1);
export const dec = unary(DEC, FLAGS_RESULT, 1);
export const neg = unary(NEG, FLAGS_SUB, 0);
export const not: Lifter = (x, i) => x.modifyE(i, i.size, (cell) => x.emit(NOT[LOG2[i.size]!]!, cell, cell));
/** inc and dec by opcode 40 to 4F (not in 64-bit mode). */
export const incZ: Lifter = (x, i) => {
  x.emit((i.opcode & 8 ? DEC : INC)[LOG2[i.size]!]!, gpr(i.rm), gpr(i.rm), 0, 1);
  x.flags = FLAGS_RESULT;
};

const SHIFT_NAMES = ["rol", "ror", "rcl", "rcr", "shl", "shr", "shl", "sar"] as const;
const SHIFT = SHIFT_NAMES.map((name) => family(`x.${name}`));
const SHIFT_I = SHIFT_NAMES.map((name) => family(`x.${name}`, "i"));

function shiftBy(x: LiftContext, i: Instruction, n: number, count: number): void {
  const masked = count & (i.size === 8 ? 63 : 31);
  x.modifyE(i, i.size, (cell) => {
    if (masked !== 0) {
      x.emit(SHIFT_I[n]![LOG2[i.size]!]!, cell, cell, 0, masked);
      x.flags = n >= 4 ? FLAGS_RESULT : FLAGS_UNKNOWN;
    } else if (i.size === 4) x.emit(MOV32, cell, cell);
  });
}
export const shiftE1 =
  (n: number): Lifter =>
  (x, i) =>
    shiftBy(x, i, n, 1);
export const shiftEI =
  (n: number): Lifter =>
  (x, i) =>
    shiftBy(x, i, n, i.immLo);
export const shiftECL =
  (n: number): Lifter =>
  (x, i) => {
    x.modifyE(i, i.size, (cell) => x.emit(SHIFT[n]![LOG2[i.size]!]!, cell, cell, gpr(RCX)));
    x.flags = FLAGS_UNKNOWN;
  };

const SHLD = family("x.shld", "", [16, 32, 64]);
const SHLD_I = family("x.shld", "i", [16, 32, 64]);
const SHRD = family("x.shrd", "", [16, 32, 64]);
const SHRD_I = family("x.shrd", "i", [16, 32, 64]);
/** shld and shrd by an immediate or by cl. */
export const shiftDouble =
  (left: boolean, byImmediate: boolean): Lifter =>
  (x, i) => {
    const g = x.readG(i, i.size);
    const l = LOG2[i.size]!;
    const count = i.immLo & (i.size === 8 ? 63 : 31);
    x.modifyE(i, i.size, (cell) => {
      if (!byImmediate) x.emit((left ? SHLD : SHRD)[l]!, cell, g, gpr(RCX));
      else if (count !== 0) x.emit((left ? SHLD_I : SHRD_I)[l]!, cell, g, 0, count);
      else if (i.size === 4) x.emit(MOV32, cell, cell);
    });
    x.flags = FLAGS_UNKNOWN;
  };

const MUL = family("x.mulwide");
const IMUL = family("x.imulwide");
const DIV = family("x.div");
const IDIV = family("x.idiv");
export const mul: Lifter = (x, i) => {
  x.emit(MUL[LOG2[i.size]!]!, 0, x.readE(i, i.size));
  x.flags = FLAGS_RESULT;
};
export const imulE: Lifter = (x, i) => {
  x.emit(IMUL[LOG2[i.size]!]!, 0, x.readE(i, i.size));
  x.flags = FLAGS_RESULT;
};
export const div: Lifter = (x, i) => x.emit(DIV[LOG2[i.size]!]!, 0, x.readE(i, i.size), 0, HELPER_DIV64);
export const idiv: Lifter = (x, i) => x.emit(IDIV[LOG2[i.size]!]!, 0, x.readE(i, i.size), 0, HELPER_IDIV64);

const IMUL2 = family("x.imul", "", [16, 32, 64]);
const IMUL2_I = family("x.imul", "i", [16, 32, 64]);
export const imulGE: Lifter = (x, i) => {
  const e = x.readE(i, i.size);
  x.emit(IMUL2[LOG2[i.size]!]!, gpr(i.reg), gpr(i.reg), e);
  x.flags = FLAGS_RESULT;
};
export const imulGEI: Lifter = (x, i) => {
  x.emit(IMUL2_I[LOG2[i.size]!]!, gpr(i.reg), x.readE(i, i.size), 0, i.immLo, i.immHi);
  x.flags = FLAGS_RESULT;
};

const BT = family("x.bt", "", [16, 32, 64]);
const BT_I = family("x.bt", "i", [16, 32, 64]);
const OR = family("or");
const AND = family("and");
const XOR = family("xor");
const OR_I = family("or", "i");
const AND_I = family("and", "i");
const XOR_I = family("xor", "i");
const SHL = family("shl");
const SAR64I = id("sar64i");
const AND64I = id("and64i");
const SX = [0, id("sx16"), id("sx32"), id("mov64")];
const MOV64I = id("mov64i");

/** The change that bts (1), btr (2), btc (3) make, by a bit number in a cell. Uses a temporary. */
function changeBit(x: LiftContext, l: number, kind: number, cell: number, bit: number): void {
  const t = x.temp();
  // the bit number modulo the width: shifts mask to 31 or 63 themselves; 16 bits need it
  let count = bit;
  if (l === 1) {
    count = x.temp();
    x.emit(AND64I, count, bit, 0, 15);
  }
  x.emit(MOV64I, t, 0, 0, 1);
  x.emit(SHL[l]!, t, t, count);
  if (kind === 1) x.emit(OR[l]!, cell, cell, t);
  else if (kind === 3) x.emit(XOR[l]!, cell, cell, t);
  else {
    x.emit(NOT[l]!, t, t);
    x.emit(AND[l]!, cell, cell, t);
  }
}

/** bt (0), bts (1), btr (2), btc (3) with a register bit number; in memory it reaches beyond the operand. */
export const bitEG =
  (kind: number): Lifter =>
  (x, i) => {
    const l = LOG2[i.size]!;
    const g = gpr(i.reg);
    x.flags = FLAGS_UNKNOWN;
    if (i.mod === 3) {
      const cell = gpr(i.rm);
      if (kind !== 0 && g === cell) {
        // bts rax, rax: the bit number is the old value
        const bit = x.temp();
        x.move(8, bit, g);
        x.emit(BT[l]!, 0, cell, bit);
        changeBit(x, l, kind, cell, bit);
        return;
      }
      x.emit(BT[l]!, 0, cell, g);
      if (kind !== 0) changeBit(x, l, kind, cell, g);
      return;
    }
    x.address(i);
    const at = x.temp();
    const offset = x.temp();
    x.lea(at);
    x.emit(SX[l]!, offset, g);
    x.emit(SAR64I, offset, offset, 0, 3);
    x.emit(AND64I, offset, offset, 0, -i.size);
    x.add(at, at, offset);
    x.at(at);
    const t = x.temp();
    if (kind === 0) x.load(i.size, t);
    else x.loadForWrite(i.size, t);
    x.emit(BT[l]!, 0, t, g);
    if (kind !== 0) {
      changeBit(x, l, kind, t, g);
      x.store(i.size, t);
    }
  };

/** The same with an immediate bit number, modulo the operand's width. */
export const bitEI =
  (kind: number): Lifter =>
  (x, i) => {
    const l = LOG2[i.size]!;
    const bit = i.immLo & (i.size * 8 - 1);
    x.flags = FLAGS_UNKNOWN;
    if (kind === 0) {
      x.emit(BT_I[l]!, 0, x.readE(i, i.size), 0, bit);
      return;
    }
    let lo = bit < 32 ? 1 << bit : 0;
    let hi = bit < 32 ? 0 : 1 << (bit - 32);
    if (kind === 2) {
      lo = ~lo;
      hi = ~hi;
    }
    const op = (kind === 1 ? OR_I : kind === 2 ? AND_I : XOR_I)[l]!;
    x.modifyE(i, i.size, (cell) => {
      x.emit(BT_I[l]!, 0, cell, 0, bit);
      x.emit(op, cell, cell, 0, lo, hi);
    });
  };

const scan =
  (ops: readonly number[]): Lifter =>
  (x, i) => {
    x.emit(ops[LOG2[i.size]!]!, gpr(i.reg), x.readE(i, i.size));
    x.flags = FLAGS_UNKNOWN;
  };
export const bsf = scan(family("x.bsf", "", [16, 32, 64]));
export const bsr = scan(family("x.bsr", "", [16, 32, 64]));
export const popcnt = scan(family("x.popcnt", "", [16, 32, 64]));

// ---- compare and exchange -----------------------------------------------------------------------------------------

const CMPX = family("x.cmp");
const SETEQ = [0, 0, id("seteq32"), id("seteq64")];
const SELNZ64 = id("selnz64");
const SELZ64 = id("selz64");
const ZX = [id("zx8"), id("zx16"), id("zx32"), id("mov64")];
const ADDX = family("x.add");
const MOV64 = id("mov64");
const OR64 = id("or64");
const XOR64 = id("xor64");
const ZF = id("x.zf");

/** cmpxchg E, G: the operand is written either way. */
export const cmpxchg: Lifter = (x, i) => {
  const size = i.size;
  const l = LOG2[size]!;
  const g = x.readG(i, size);
  const old = x.temp();
  if (i.mod !== 3) {
    x.address(i);
    x.loadForWrite(size, old);
  } else x.emit(ZX[l]!, old, x.register(i, i.rm, size));
  const accumulator = x.temp();
  x.emit(ZX[l]!, accumulator, gpr(RAX));
  const equal = x.temp();
  x.emit(SETEQ[3]!, equal, accumulator, old);
  const value = x.temp();
  x.emit(MOV64, value, old);
  const source = x.temp();
  x.emit(ZX[l]!, source, g);
  x.emit(SELNZ64, value, equal, source);
  if (i.mod !== 3) x.store(size, value);
  x.emit(CMPX[l]!, 0, accumulator, old);
  if (i.mod === 3) {
    if (size === 4) {
      // only what is really written is extended: the destination when equal, the accumulator when not
      const d = gpr(i.rm);
      x.emit(SELNZ64, d, equal, value);
    } else x.move(size, x.register(i, i.rm, size), value);
  }
  if (size >= 4) x.emit(SELZ64, gpr(RAX), equal, old);
  else {
    // equal: what the accumulator holds now, which may be the destination
    x.emit(SELNZ64, old, equal, gpr(RAX));
    x.move(size, gpr(RAX), old);
  }
  x.flags = FLAGS_SUB;
};

/** cmpxchg8b, cmpxchg16b: edx:eax or rdx:rax against memory; only ZF changes. 16 bytes must be aligned (#GP). */
export const cmpxchgWide: Lifter = (x, i) => {
  const size = i.size === 8 ? 8 : 4;
  x.address(i);
  const at = x.temp();
  x.lea(at);
  if (size === 8) x.emit(id("x.aligned16"), 0, at);
  x.at(at);
  const lo = x.temp();
  const hi = x.temp();
  const t = x.temp();
  const different = x.temp();
  x.loadForWrite(size, lo);
  x.access(size === 8 ? id("ldw64") : id("ldw32"), 0, hi, size);
  x.emit(ZX[LOG2[size]!]!, t, gpr(RAX));
  x.emit(XOR64, different, lo, t);
  x.emit(ZX[LOG2[size]!]!, t, gpr(2));
  x.emit(XOR64, t, hi, t);
  x.emit(OR64, different, different, t);
  const equal = x.temp();
  x.emit(SETEQ[3]!, equal, different, STATE.at.zero);
  const newLo = x.temp();
  const newHi = x.temp();
  x.emit(MOV64, newLo, lo);
  x.emit(MOV64, newHi, hi);
  x.emit(SELNZ64, newLo, equal, gpr(3));
  x.emit(SELNZ64, newHi, equal, gpr(RCX));
  x.store(size, newLo);
  x.store(size, newHi, size);
  x.emit(ZF, 0, equal);
  x.emit(SELZ64, gpr(RAX), equal, lo);
  x.emit(SELZ64, gpr(2), equal, hi);
  x.flags = FLAGS_UNKNOWN;
};

/** xadd E, G. */
export const xadd: Lifter = (x, i) => {
  const l = LOG2[i.size]!;
  const g = x.readG(i, i.size);
  const sum = x.temp();
  if (i.mod === 3) {
    const e = x.register(i, i.rm, i.size);
    const old = x.temp();
    x.emit(ZX[l]!, old, e);
    x.emit(ADDX[l]!, sum, e, g);
    x.move(i.size, g, old);
    x.move(i.size, e, sum);
  } else {
    x.address(i);
    const old = x.temp();
    x.loadForWrite(i.size, old);
    x.emit(ADDX[l]!, sum, old, g);
    x.store(i.size, sum);
    x.move(i.size, g, old);
  }
  x.flags = FLAGS_RESULT;
};
