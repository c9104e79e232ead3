/**
 * A toy architecture for the tests of the translation library: 16 registers of 64 bits, instructions of 4 bytes, one
 * level of page table in machine memory, flags that liveness may drop.
 *
 * An instruction is op, d, a, b (a byte each), b also a signed 8-bit immediate; an op of bit 7 has 6 bytes, the last
 * of which is b (so that instructions may cross pages). A page-table entry is 8 bytes: bit 0 readable, 1 writable, 2 executable, 3 the
 * page is special, 12.. the frame; `root` is its first frame, `pages` how many virtual pages it has.
 */
import {
  type BlockBuilder,
  c32,
  c64,
  defineLayout,
  defineOp,
  HELPER_CONTINUE,
  HELPER_EXIT,
  HELPER_EXIT_AFTER,
  HELPER_FAULT,
  HELPER_NEXT,
  type Helper,
  I32,
  I64,
  i32,
  i64,
  LIFT_DONE,
  LIFT_TRUNCATED,
  type LiftSource,
  type OpSet,
  type OpSpec,
  type TranslateArch,
  type WalkEmitter,
} from "../../../arch/translate/index.ts";

export const toyLayout = defineLayout("toy", {
  r: [8, 16],
  root: 4,
  pages: 4,
  flag: 8,
  faultAddress: 8,
  faultAccess: 4,
});

export const reg = (i: number): number => toyLayout.at.r + 8 * i;

/** The flag is the sign of the last "set" result; "addf" sets it, "getf" reads it. */
export const toyOps: readonly OpSpec[] = [
  defineOp({
    name: "toy.addf",
    flags: "set",
    plain: "add64",
    emit: (c) => {
      const r = c.i64(0);
      return c.seq(r.set(i64.add(c.a.i64, c.b.i64)), c.cell("flag").set64(r.get), c.d.set64(r.get));
    },
    evaluate: (o) => {
      const r = o.get(o.a, 64) + o.get(o.b, 64);
      o.set(o.at("flag"), 64, r);
      o.set(o.d, 64, r);
    },
  }),
  // Adds the flag in, and sets it; its plain twin still reads it.
  defineOp({
    name: "toy.adcf",
    flags: "update",
    plain: "toy.adc",
    emit: (c) => {
      const r = c.i64(0);
      return c.seq(
        r.set(i64.add(i64.add(c.a.i64, c.b.i64), c.cell("flag").i64)),
        c.cell("flag").set64(r.get),
        c.d.set64(r.get),
      );
    },
    evaluate: (o) => {
      const r = o.get(o.a, 64) + o.get(o.b, 64) + o.get(o.at("flag"), 64);
      o.set(o.at("flag"), 64, r);
      o.set(o.d, 64, r);
    },
  }),
  defineOp({
    name: "toy.adc",
    flags: "read",
    emit: (c) => c.d.set64(i64.add(i64.add(c.a.i64, c.b.i64), c.cell("flag").i64)),
    evaluate: (o) => o.set(o.d, 64, o.get(o.a, 64) + o.get(o.b, 64) + o.get(o.at("flag"), 64)),
  }),
  defineOp({
    name: "toy.getf",
    flags: "read",
    emit: (c) => c.d.set64(c.cell("flag").i64),
    evaluate: (o) => o.set(o.d, 64, o.get(o.at("flag"), 64)),
  }),
];

/** Opcodes of the toy. */
export const ADD = 1;
export const ADDI = 2;
export const ADDF = 3;
export const GETF = 4;
export const LD = 5;
export const ST = 6;
export const BNE = 7;
export const JMP = 8;
export const JMPR = 9;
export const CALL = 10;
export const HLT = 11;
export const XCHG = 12;
export const STB = 13;
export const NOP = 14;
export const SHL = 15;
export const LDI = 16;
export const HELP = 17;
/** Stores d at [a], then sets the flag (and d) to d + b. */
export const STF = 18;
/** d = a + b + flag, which it sets to d. */
export const ADCF = 19;
export const LONG = 0x80;

/** Encodes an instruction. */
export function toy(op: number, d = 0, a = 0, b = 0): number[] {
  return op & LONG ? [op, d & 255, a & 255, 0, 0, b & 255] : [op, d & 255, a & 255, b & 255];
}

function lifter(ops: OpSet): (source: LiftSource, builder: BlockBuilder) => number {
  const id = (name: string): number => ops.id(name);
  const n = {
    add: id("add64"),
    addi: id("add64i"),
    addf: id("toy.addf"),
    adcf: id("toy.adcf"),
    getf: id("toy.getf"),
    ld: id("ld64"),
    st: id("st64"),
    stb: id("st8"),
    ldw: id("ldw64"),
    mov: id("mov64"),
    movi: id("mov64i"),
    bne: id("bne64"),
    jmpr: id("jmpr"),
    exit: id("exit"),
    raise: id("raise"),
    shl: id("shl64i"),
    helper: id("helper"),
    helperEnd: id("helperEnd"),
  };
  const t0 = toyLayout.at.t;
  return (source, builder) => {
    let at = source.start;
    let pcLo = source.pcLo >>> 0;
    let pcHi = source.pcHi;
    for (;;) {
      if (builder.instructions >= source.maxInstructions) {
        builder.fallThrough(pcLo | 0, pcHi);
        return LIFT_DONE;
      }
      const op = source.bytes[at] ?? 0;
      const length = op & LONG ? 6 : 4;
      if (at + length > source.end) {
        if (builder.instructions === 0) return LIFT_TRUNCATED;
        builder.fallThrough(pcLo | 0, pcHi);
        return LIFT_DONE;
      }
      const d = reg((source.bytes[at + 1] ?? 0) & 15);
      const a = reg((source.bytes[at + 2] ?? 0) & 15);
      const raw = source.bytes[at + length - 1] ?? 0;
      const b = reg(raw & 15);
      const immediate = (raw << 24) >> 24;
      builder.instruction(pcLo | 0, pcHi, length);
      const next = pcLo + length;
      const nextHi = next > 0xffffffff ? (pcHi + 1) | 0 : pcHi;
      const nextLo = next | 0;
      const target = (pcLo + immediate * 4) | 0;
      switch (op & 0x7f) {
        case ADD:
          builder.emit(n.add, d, a, b);
          break;
        case ADDI:
          builder.emit(n.addi, d, a, 0, immediate);
          break;
        case LDI:
          builder.emit(n.movi, d, 0, 0, immediate);
          break;
        case ADDF:
          builder.emit(n.addf, d, a, b);
          break;
        case ADCF:
          builder.emit(n.adcf, d, a, b);
          break;
        case GETF:
          builder.emit(n.getf, d);
          break;
        case SHL:
          builder.emit(n.shl, d, a, 0, immediate);
          break;
        case LD:
          builder.emit(n.ld, d, a, 0, immediate);
          break;
        case ST:
          builder.emit(n.st, d, a, 0, immediate);
          break;
        case STB:
          builder.emit(n.stb, d, a, 0, immediate);
          break;
        case XCHG:
          builder.emit(n.ldw, t0, a, 0, 0);
          builder.emit(n.st, d, a, 0, 0);
          builder.emit(n.mov, d, t0);
          break;
        case STF:
          builder.emit(n.st, d, a, 0, 0);
          builder.emit(n.addf, d, d, b);
          break;
        case NOP:
          break;
        case HELP:
          if (raw & 0x40) {
            builder.emit(n.movi, toyLayout.at.pc, 0, 0, nextLo, nextHi);
            builder.computed(n.helperEnd, d, a, b, raw & 15);
            return LIFT_DONE;
          }
          builder.emit(n.movi, toyLayout.at.pc, 0, 0, nextLo, nextHi);
          builder.emit(n.helper, d, a, b, raw & 15);
          break;
        case BNE:
          builder.branch(n.bne, 0, d, a, target, pcHi, nextLo, nextHi);
          return LIFT_DONE;
        case JMP:
          builder.jump(target, pcHi);
          return LIFT_DONE;
        case CALL:
          builder.emit(n.movi, d, 0, 0, nextLo, nextHi);
          builder.jump(target, pcHi);
          return LIFT_DONE;
        case JMPR:
          builder.computed(n.jmpr, 0, a);
          return LIFT_DONE;
        case HLT:
          builder.computed(n.exit, 0, 0, 0, raw);
          return LIFT_DONE;
        default:
          builder.computed(n.raise, 0, 0, 0, 6);
          return LIFT_DONE;
      }
      at += length;
      pcLo = next >>> 0;
      pcHi = nextHi;
    }
  };
}

/** One level: entry at root + 8 * page. */
function emitWalk(w: WalkEmitter): void {
  const entry = w.local(I64);
  const page = w.local(I64);
  const frame = w.local(I64);
  const bits = w.local(I32);
  const fault = w.seq(w.cell("faultAddress").set64(w.va), w.cell("faultAccess").set32i(w.access), w.answer(1));
  w.write(
    page.set(i64.shru(w.va, c64(12))),
    w.when(i64.geu(page.get, w.cell("pages").u32), fault),
    entry.set(w.physical64(i32.add(i32.shl(w.cell("root").i32, c32(12)), i32.wrap(i64.shl(page.get, c64(3)))))),
    bits.set(i32.wrap(i64.and(entry.get, c64(7)))),
    // Reads need bit 0, writes 1, fetches 2: the bit of the access kind.
    w.when(i32.eqz(i32.and(i32.shru(bits.get, w.access), c32(1))), fault),
    w.when(i32.wrap(i64.and(entry.get, c64(8))), w.answer(2)),
    frame.set(i64.shru(entry.get, c64(12))),
    w.when(i64.geu(frame.get, c64(w.frames)), fault),
    w.found(i32.shl(i32.wrap(frame.get), c32(12)), bits.get),
  );
}

/** A toy machine's helpers, by index; tests may replace them. */
export const toyHelpers = (extra: readonly Helper[] = []): readonly Helper[] => [
  () => HELPER_NEXT,
  () => HELPER_FAULT,
  () => HELPER_EXIT,
  () => HELPER_CONTINUE,
  () => HELPER_EXIT_AFTER,
  ...extra,
];

export function toyArch(options: Partial<TranslateArch> = {}): TranslateArch {
  return {
    name: "toy",
    layout: toyLayout,
    ops: toyOps,
    mmuIndexes: 2,
    emitWalk,
    lifter,
    helpers: () => toyHelpers(),
    ...options,
  };
}
