/** Lifters of data movement: mov, movzx, movsx, lea, xchg, push, pop, cmov, setcc, the cbw family, xlat, bswap, enter, leave, flags. */
import { SEG_FS } from "../decode.ts";
import { COND_NAMES } from "../flags.ts";
import { family, id, LOG2 } from "../opset.ts";
import { gpr, RAX, RBP, RBX, RDX, RSP, STATE, segmentBase } from "../state.ts";
import { FLAGS_RESULT, FLAGS_SUB, FLAGS_UNKNOWN, type LiftContext, type Lifter, memoryOp } from "./context.ts";

const MOV_I = [id("mov8i"), id("mov16i"), id("mov64i"), id("mov64i")];
const LDM8 = memoryOp("ldm8");
const LDM16 = memoryOp("ldm16");
const LDZ32 = memoryOp("ldz32");
const LD64 = memoryOp("ld64");
const INTO = [LDM8, LDM16, LDZ32, LD64];
const STI = family("sti");
const SUB64I = id("sub64i");
const ADD64I = id("add64i");

export const movEG: Lifter = (x, i) => {
  const g = x.readG(i, i.size);
  if (i.mod === 3) x.move(i.size, x.register(i, i.rm, i.size), g);
  else {
    x.address(i);
    x.store(i.size, g);
  }
};
export const movGE: Lifter = (x, i) => {
  const g = x.readG(i, i.size);
  if (i.mod === 3) x.move(i.size, g, x.register(i, i.rm, i.size));
  else {
    x.address(i);
    x.memory(INTO[LOG2[i.size]!]!, g);
  }
};

/** A register's immediate: 32 bits clear the upper half. */
function setRegister(x: LiftContext, size: number, cell: number, lo: number, hi: number): void {
  if (size === 4) hi = 0;
  x.emit(MOV_I[LOG2[size]!]!, cell, 0, 0, lo, hi);
}
export const movEI: Lifter = (x, i) => {
  if (i.mod === 3) {
    setRegister(x, i.size, x.register(i, i.rm, i.size), i.immLo, i.immHi);
    return;
  }
  x.address(i);
  if (x.index < 0 && x.dispHi === x.dispLo >> 31) x.emit(STI[LOG2[i.size]!]!, 0, x.base, 0, x.dispLo, i.immLo);
  else {
    const t = x.temp();
    x.moveImmediate(t, i.immLo, i.immHi);
    x.store(i.size, t);
  }
};
export const movZI: Lifter = (x, i) => setRegister(x, i.size, x.register(i, i.rm, i.size), i.immLo, i.immHi);

/** mov al or rax and a memory offset. */
function offset(x: LiftContext, segment: number, lo: number, hi: number): void {
  x.base = segment >= SEG_FS ? segmentBase(segment) : STATE.at.zero;
  x.index = -1;
  x.dispLo = lo;
  x.dispHi = hi;
}
export const movAO: Lifter = (x, i) => {
  offset(x, i.segment, i.immLo, i.immHi);
  x.memory(INTO[LOG2[i.size]!]!, gpr(RAX));
};
export const movOA: Lifter = (x, i) => {
  offset(x, i.segment, i.immLo, i.immHi);
  x.store(i.size, gpr(RAX));
};

const EXTEND = {
  // by destination size (log2), then source 8, 16, 32
  z: [
    [0, 0, 0],
    [id("zx8_16"), id("mov16"), 0],
    [id("zx8"), id("zx16"), id("zx32")],
    [id("zx8"), id("zx16"), id("zx32")],
  ],
  s: [
    [0, 0, 0],
    [id("sx8_16"), id("mov16"), id("mov16")],
    [id("sx8_32"), id("sx16_32"), id("mov32")],
    [id("sx8"), id("sx16"), id("sx32")],
  ],
};
const LOAD_Z = [memoryOp("ldz8"), memoryOp("ldz16"), LDZ32];
const LOAD_S32 = [memoryOp("lds8_32"), memoryOp("lds16_32"), LDZ32];
const LOAD_S64 = [memoryOp("lds8"), memoryOp("lds16"), memoryOp("lds32")];

/** movzx, movsx, movsxd: a source of 1, 2 or 4 bytes. */
export const extend =
  (signed: boolean, from: 1 | 2 | 4): Lifter =>
  (x, i) => {
    const to = LOG2[i.size]!;
    const source = LOG2[from]!;
    const d = gpr(i.reg);
    if (i.mod === 3) {
      x.emit((signed ? EXTEND.s : EXTEND.z)[to]![source]!, d, x.register(i, i.rm, from));
      return;
    }
    x.address(i);
    if (i.size === 2) {
      const t = x.temp();
      x.memory((signed ? LOAD_S64 : LOAD_Z)[source === 2 ? 1 : source]!, t);
      x.move(2, d, t);
    } else x.memory((!signed ? LOAD_Z : i.size === 4 ? LOAD_S32 : LOAD_S64)[source]!, d);
  };

const LEA = [0, id("lea16"), id("lea32"), id("lea64")];
const MOV64I = id("mov64i");
export const lea: Lifter = (x, i) => {
  const d = gpr(i.reg);
  const wide = i.addressSize === 8 && i.size === 8;
  if (i.ripRelative || (i.base < 0 && i.index < 0)) {
    const segment = i.segment;
    i.segment = -1;
    x.address(i);
    i.segment = segment;
    if (i.size === 8) x.emit(MOV64I, d, 0, 0, x.dispLo, x.dispHi);
    else setRegister(x, i.size, d, x.dispLo, x.dispHi);
    return;
  }
  const base = i.base >= 0 ? gpr(i.base) : STATE.at.zero;
  const index = i.index >= 0 ? gpr(i.index) : STATE.at.zero;
  if (wide) {
    if (i.index < 0) {
      // the commonest forms: rsp + n, and plain copies
      if (i.displacement === 0) x.move(8, d, base);
      else x.emit(ADD64I, d, base, 0, i.displacement);
    } else x.emit(LEA[3]!, d, base, index, i.displacement, i.scale);
  } else if (i.size === 2) x.emit(LEA[1]!, d, base, index, i.displacement, i.scale);
  else x.emit(LEA[2]!, d, base, index, i.displacement, i.scale);
};

export const xchgEG: Lifter = (x, i) => {
  const g = x.readG(i, i.size);
  const t = x.temp();
  if (i.mod === 3) {
    const e = x.register(i, i.rm, i.size);
    x.move(i.size, t, e);
    x.move(i.size, e, g);
    x.move(i.size, g, t);
    return;
  }
  x.address(i);
  x.loadForWrite(i.size, t);
  x.store(i.size, g);
  x.move(i.size, g, t);
};
export const xchgZA: Lifter = (x, i) => {
  const t = x.temp();
  x.move(i.size, t, gpr(RAX));
  x.move(i.size, gpr(RAX), gpr(i.rm));
  x.move(i.size, gpr(i.rm), t);
};
export const nop: Lifter = () => {};
/** Hints with a memory operand whose address is not even checked: prefetch, nop E. */
export const ignored: Lifter = () => {};
/** clflush and its kin fault like a byte load. */
export const touch: Lifter = (x, i) => {
  x.readE(i, 1);
};

// ---- stack --------------------------------------------------------------------------------------------------------

const PUSH64 = id("x.push64");
const PUSH64I = id("x.push64i");
const POP64 = id("x.pop64");

/** Pushes `size` bytes of a cell; the only store of its instruction, rsp moves behind it. */
export function push(x: LiftContext, size: number, cell: number): void {
  if (size === 8) {
    x.emit(PUSH64, 0, cell);
    return;
  }
  x.at(gpr(RSP), -size);
  x.store(size, cell);
  x.emit(SUB64I, gpr(RSP), gpr(RSP), 0, size);
}
function pop(x: LiftContext, size: number, cell: number): void {
  if (size === 8) {
    x.emit(POP64, cell);
    return;
  }
  const t = x.temp();
  x.at(gpr(RSP));
  x.load(size, t);
  x.emit(ADD64I, gpr(RSP), gpr(RSP), 0, size);
  x.move(size, cell, t);
}
export const pushZ: Lifter = (x, i) => push(x, i.size, gpr(i.rm));
export const popZ: Lifter = (x, i) => pop(x, i.size, gpr(i.rm));
export const pushE: Lifter = (x, i) => push(x, i.size, x.readE(i, i.size));
export const pushI: Lifter = (x, i) => {
  if (i.size === 8) x.emit(PUSH64I, 0, 0, 0, i.immLo, i.immHi);
  else {
    const t = x.temp();
    x.moveImmediate(t, i.immLo);
    push(x, i.size, t);
  }
};
/** pop E: the address is computed with rsp already moved (SDM, POP). */
export const popE: Lifter = (x, i) => {
  if (i.mod === 3) {
    pop(x, i.size, gpr(i.rm));
    return;
  }
  const t = x.temp();
  x.at(gpr(RSP));
  x.load(i.size, t);
  x.address(i, i.base === RSP ? i.size : 0);
  x.store(i.size, t);
  x.emit(ADD64I, gpr(RSP), gpr(RSP), 0, i.size);
};

export const leave: Lifter = (x, i) => {
  const t = x.temp();
  x.at(gpr(RBP));
  x.load(i.size, t);
  x.emit(ADD64I, gpr(RSP), gpr(RBP), 0, i.size);
  x.move(i.size, gpr(RBP), t);
};

/** enter size, level: frame pointers are copied by unrolled loads and stores; rsp and rbp move last. */
export const enter: Lifter = (x, i) => {
  const size = i.size;
  const level = i.imm2 & 31;
  const frame = x.temp();
  const t = x.temp();
  x.at(gpr(RSP), -size);
  x.store(size, gpr(RBP));
  x.emit(SUB64I, frame, gpr(RSP), 0, size);
  for (let n = 1; n < level; n++) {
    x.at(gpr(RBP), -size * n);
    x.load(size, t);
    x.at(frame, -size * n);
    x.store(size, t);
  }
  if (level > 0) {
    x.at(frame, -size * level);
    x.store(size, frame);
  }
  // the new top must be writable too (SDM, ENTER)
  x.at(frame, -(size * level + i.immLo));
  x.loadForWrite(1, t);
  x.emit(SUB64I, gpr(RSP), frame, 0, size * level + i.immLo);
  x.move(size, gpr(RBP), frame);
};

// ---- conditions ---------------------------------------------------------------------------------------------------

const kindName = (kind: number): string => (kind === FLAGS_SUB ? "s" : kind === FLAGS_RESULT ? "r" : "");
const hasOp = (kind: number, cc: number): boolean => {
  const base = cc & 14;
  if (kind === FLAGS_SUB) return base === 2 || base === 4 || base === 6 || base === 12 || base === 14;
  return kind === FLAGS_RESULT && (base === 4 || base === 8);
};
/** [kind][cc] -> opcode, the general op where a kind has none of its own. */
export const conditionOps = (prefix: string, every = true): readonly (readonly number[])[] =>
  [FLAGS_UNKNOWN, FLAGS_SUB, FLAGS_RESULT].map((kind) =>
    Array.from({ length: 16 }, (_, cc) =>
      !every && (cc & 1) === 1 ? 0 : id(`${prefix}${hasOp(kind, cc) ? kindName(kind) : ""}${COND_NAMES[cc]}`),
    ),
  );
const SET = conditionOps("x.set.");
const COND = conditionOps("x.cond.");
const CMOV = [[], conditionOps("x.cmov16."), conditionOps("x.cmov32."), conditionOps("x.cmov64.")];

/** Condition into a fresh temporary: 0 or 1. */
export function conditionCell(x: LiftContext, cc: number): number {
  const t = x.temp();
  x.emit(COND[x.flags]![cc]!, t);
  return t;
}
export const setcc: Lifter = (x, i) => {
  const cc = i.opcode & 15;
  if (i.mod === 3) {
    x.emit(SET[x.flags]![cc]!, x.register(i, i.rm, 1));
    return;
  }
  x.address(i);
  const t = x.temp();
  x.emit(COND[x.flags]![cc]!, t);
  x.store(1, t);
};
export const cmov: Lifter = (x, i) => {
  const e = x.readE(i, i.size);
  x.emit(CMOV[LOG2[i.size]!]![x.flags]![i.opcode & 15]!, gpr(i.reg), e);
};

// ---- conversions and flags ----------------------------------------------------------------------------------------

const SX8_16 = id("sx8_16");
const SX16_32 = id("sx16_32");
const SX16 = id("sx16");
const SX32 = id("sx32");
const SAR64I = id("sar64i");
const SAR32I = id("sar32i");
/** cbw, cwde, cdqe. */
export const cbw: Lifter = (x, i) => {
  x.emit(i.size === 2 ? SX8_16 : i.size === 4 ? SX16_32 : SX32, gpr(RAX), gpr(RAX));
};
/** cwd, cdq, cqo. */
export const cwd: Lifter = (x, i) => {
  if (i.size === 2) {
    const t = x.temp();
    x.emit(SX16, t, gpr(RAX));
    x.emit(SAR64I, t, t, 0, 63);
    x.move(2, gpr(RDX), t);
  } else if (i.size === 4) x.emit(SAR32I, gpr(RDX), gpr(RAX), 0, 31);
  else x.emit(SAR64I, gpr(RDX), gpr(RAX), 0, 63);
};

const BSWAP32 = id("bswap32");
const BSWAP64 = id("bswap64");
const MOV16I = id("mov16i");
/** bswap; with 16 bits the manuals leave it undefined and processors clear the register's low half. */
export const bswap: Lifter = (x, i) => {
  if (i.size === 2) x.emit(MOV16I, gpr(i.rm));
  else x.emit(i.size === 8 ? BSWAP64 : BSWAP32, gpr(i.rm), gpr(i.rm));
};

const ZX8 = id("zx8");
const LEA64 = id("lea64");
const ZX32 = id("zx32");
export const xlat: Lifter = (x, i) => {
  const t = x.temp();
  x.emit(ZX8, t, gpr(RAX));
  x.emit(LEA64, t, gpr(RBX), t, 0, 0);
  if (i.addressSize === 4) x.emit(ZX32, t, t);
  x.at(t);
  if (i.segment >= SEG_FS) {
    x.base = segmentBase(i.segment);
    x.index = t;
    x.scale = 0;
  }
  x.memory(LDM8, gpr(RAX));
};

const FLAGS = id("x.flags");
const SETFLAGS = id("x.setflags");
const SETFLAGS_I = id("x.setflagsi");
const CMC = id("x.cmc");
const MOV8 = id("mov8");
const OR8I = id("or8i");
export const lahf: Lifter = (x) => {
  const t = x.temp();
  x.emit(FLAGS, t);
  x.emit(OR8I, t, t, 0, 2);
  x.emit(MOV8, gpr(RAX) + 1, t);
};
export const sahf: Lifter = (x) => {
  const t = x.temp();
  x.emit(ZX8, t, gpr(RAX) + 1);
  x.emit(SETFLAGS, 0, t, 0, 0xd5);
  x.flags = FLAGS_UNKNOWN;
};
export const setCarry =
  (value: 0 | 1): Lifter =>
  (x) => {
    x.emit(SETFLAGS_I, 0, 0, 0, 1, value);
    x.flags = FLAGS_UNKNOWN;
  };
export const cmc: Lifter = (x) => {
  x.emit(CMC);
  x.flags = FLAGS_UNKNOWN;
};
const OR16I = id("or16i");
const AND16I = id("and16i");
export const cld: Lifter = (x) => x.emit(AND16I, STATE.at.rflags, STATE.at.rflags, 0, ~0x400);
export const std: Lifter = (x) => x.emit(OR16I, STATE.at.rflags, STATE.at.rflags, 0, 0x400);

const MOVNTI = [0, 0, 4, 8];
/** movnti M, G: an ordinary store. */
export const movnti: Lifter = (x, i) => {
  x.address(i);
  x.store(MOVNTI[LOG2[i.size]!] || 4, gpr(i.reg));
};

/** mov E, sreg: 16 bits to memory, zero-extended in a register. */
export const movES: Lifter = (x, i) => {
  const t = x.temp();
  x.move(4, t, STATE.at.selector + 4 * (i.reg & 7));
  if (i.mod === 3) x.move(i.size, gpr(i.rm), t);
  else {
    x.address(i);
    x.store(2, t);
  }
};
/** push fs and push gs. */
export const pushS =
  (segment: number): Lifter =>
  (x, i) => {
    const t = x.temp();
    x.move(4, t, STATE.at.selector + 4 * segment);
    push(x, i.size, t);
  };
