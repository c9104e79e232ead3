/**
 * Lifters of control transfers: jmp, jcc, call, ret, loop, jrcxz, and strings.
 *
 * jcc right after a compare or test of the same block becomes one compare-and-branch op; after other known flags it looks at
 * two cells; otherwise it works out the condition from the lazy flags. A negated condition swaps the targets.
 */
import type { Instruction } from "../decode.ts";
import { SEG_FS } from "../decode.ts";
import { COND_B, COND_BE, COND_L, COND_LE, COND_NAMES, COND_S, COND_Z } from "../flags.ts";
import { family, id, LOG2 } from "../opset.ts";
import { gpr, RAX, RCX, RDI, RSI, STATE, segmentBase } from "../state.ts";
import { FLAGS_SUB, FLAGS_UNKNOWN, HELPER_STRING, type LiftContext, type Lifter } from "./context.ts";
import { conditionCell, conditionOps } from "./move.ts";

const J = conditionOps("x.j.", false);

interface Fusion {
  readonly immediate: boolean;
  /** Opcode by condition pair (cc >> 1); 0 where it cannot be fused. */
  readonly branch: readonly number[];
}
const FUSION = new Map<number, Fusion>();
for (const w of [8, 16, 32, 64]) {
  for (const immediate of [false, true]) {
    const i = immediate ? "i" : "";
    const compare = Array.from({ length: 8 }, () => 0);
    for (const cc of [COND_B, COND_Z, COND_BE, COND_L, COND_LE])
      compare[cc >> 1] = id(`x.jcmp${w}${i}.${COND_NAMES[cc]}`);
    FUSION.set(id(`x.cmp${w}${i}`), { immediate, branch: compare });
    const test = Array.from({ length: 8 }, () => 0);
    test[COND_Z >> 1] = id(`x.jtest${w}${i}.z`);
    test[COND_BE >> 1] = test[COND_Z >> 1]!;
    test[COND_S >> 1] = id(`x.jtest${w}${i}.s`);
    test[COND_L >> 1] = test[COND_S >> 1]!;
    test[COND_LE >> 1] = id(`x.jtest${w}${i}.le`);
    FUSION.set(id(`x.test${w}${i}`), { immediate, branch: test });
  }
}

export const jcc: Lifter = (x, i) => {
  const b = x.b;
  x.target(i);
  const cc = i.opcode & 15;
  const negate = (cc & 1) === 1;
  const takenLo = negate ? x.nextLo : x.targetLo;
  const takenHi = negate ? x.nextHi : x.targetHi;
  const nextLo = negate ? x.targetLo : x.nextLo;
  const nextHi = negate ? x.targetHi : x.nextHi;
  const fusion = FUSION.get(b.lastOp);
  const fused = fusion?.branch[cc >> 1] ?? 0;
  if (fusion !== undefined && fused !== 0) {
    const { lastA: a, lastB: second, lastLo: lo, lastHi: hi } = b;
    b.dropLast();
    if (fusion.immediate) b.branch(fused, 0, a, 0, takenLo, takenHi, nextLo, nextHi, lo, hi);
    else b.branch(fused, 0, a, second, takenLo, takenHi, nextLo, nextHi);
    return;
  }
  b.branch(J[x.flags]![cc & 14]!, 0, 0, 0, takenLo, takenHi, nextLo, nextHi);
};

export const jmpJ: Lifter = (x, i) => {
  x.target(i);
  x.b.jump(x.targetLo, x.targetHi);
};
const JMPR = id("jmpr");
const CALL = id("x.call");
const CALLR = id("x.callr");
const RET = id("x.ret");
export const jmpE: Lifter = (x, i) => {
  const e = x.readE(i, 8);
  x.b.computed(JMPR, 0, e);
};
export const callJ: Lifter = (x, i) => {
  x.target(i);
  x.b.jump(x.targetLo, x.targetHi, CALL, 0, 0, 0, 0, x.nextLo, x.nextHi);
};
export const callE: Lifter = (x, i) => {
  const e = x.readE(i, 8);
  x.b.computed(CALLR, 0, e, 0, x.nextLo, x.nextHi);
};
export const ret: Lifter = (x, i) => {
  x.b.computed(RET, 0, 0, 0, 8 + (i.opcode === 0xc2 ? i.immLo : 0), 0);
};

const SUB64I = id("sub64i");
const SUB32I = id("sub32i");
const BRNZ = id("brnz");
const BRZ = id("brz");
const ZX32 = id("zx32");
const SETNE64 = id("setne64");
const AND64 = id("and64");
const XOR64I = id("xor64i");
/** loop, loope, loopne: the counter's width is the address size. */
export const loop: Lifter = (x, i) => {
  x.target(i);
  const rcx = gpr(RCX);
  const kind = i.opcode; // E0 loopne, E1 loope, E2 loop
  const condition = kind === 0xe2 ? -1 : conditionCell(x, COND_Z);
  x.emit(i.addressSize === 8 ? SUB64I : SUB32I, rcx, rcx, 0, 1);
  if (condition < 0) {
    x.b.branch(BRNZ, 0, rcx, 0, x.targetLo, x.targetHi, x.nextLo, x.nextHi);
    return;
  }
  const t = x.temp();
  x.emit(SETNE64, t, rcx, STATE.at.zero);
  if (kind === 0xe0) x.emit(XOR64I, condition, condition, 0, 1);
  x.emit(AND64, t, t, condition);
  x.b.branch(BRNZ, 0, t, 0, x.targetLo, x.targetHi, x.nextLo, x.nextHi);
};
export const jrcxz: Lifter = (x, i) => {
  x.target(i);
  let c = gpr(RCX);
  if (i.addressSize === 4) {
    c = x.temp();
    x.emit(ZX32, c, gpr(RCX));
  }
  x.b.branch(BRZ, 0, c, 0, x.targetLo, x.targetHi, x.nextLo, x.nextHi);
};

// ---- strings ------------------------------------------------------------------------------------------------------

/** String operations of the helper. */
export const STRING_MOVS = 0;
export const STRING_STOS = 1;
export const STRING_LODS = 2;
export const STRING_CMPS = 3;
export const STRING_SCAS = 4;

const STEP = id("x.step");
const HELPER = id("helper");
const CMP = family("x.cmp");

function sourceAddress(x: LiftContext, i: Instruction): void {
  x.at(gpr(RSI));
  if (i.segment >= SEG_FS) {
    x.base = segmentBase(i.segment);
    x.index = gpr(RSI);
    x.scale = 0;
  }
}

/**
 * One element inline; with a repeat prefix, or another address size, the helper does a chunk at a time (helpers.ts has the rule of what
 * a chunk is and how it retires).
 */
export const string =
  (kind: number): Lifter =>
  (x, i) => {
    if (i.rep !== 0 || i.addressSize !== 8) {
      // d: kind, a: size, b: segment of the source, detail: repeat prefix, address size
      const segment = i.segment >= SEG_FS ? i.segment : 0;
      x.emit(HELPER, kind, i.size, segment, HELPER_STRING, i.rep | (i.addressSize << 8));
      if (kind >= STRING_CMPS) x.flags = FLAGS_UNKNOWN;
      return;
    }
    const size = i.size;
    const t = x.temp();
    switch (kind) {
      case STRING_MOVS:
        sourceAddress(x, i);
        x.load(size, t);
        x.at(gpr(RDI));
        x.store(size, t);
        x.emit(STEP, gpr(RSI), 0, 0, size);
        x.emit(STEP, gpr(RDI), 0, 0, size);
        break;
      case STRING_STOS:
        x.at(gpr(RDI));
        x.store(size, gpr(RAX));
        x.emit(STEP, gpr(RDI), 0, 0, size);
        break;
      case STRING_LODS:
        sourceAddress(x, i);
        x.load(size, t);
        x.move(size, gpr(RAX), t);
        x.emit(STEP, gpr(RSI), 0, 0, size);
        break;
      case STRING_CMPS: {
        const other = x.temp();
        x.at(gpr(RDI));
        x.load(size, other);
        sourceAddress(x, i);
        x.load(size, t);
        x.emit(CMP[LOG2[size]!]!, 0, t, other);
        x.emit(STEP, gpr(RSI), 0, 0, size);
        x.emit(STEP, gpr(RDI), 0, 0, size);
        x.flags = FLAGS_SUB;
        break;
      }
      default:
        x.at(gpr(RDI));
        x.load(size, t);
        x.emit(CMP[LOG2[size]!]!, 0, gpr(RAX), t);
        x.emit(STEP, gpr(RDI), 0, 0, size);
        x.flags = FLAGS_SUB;
    }
  };
