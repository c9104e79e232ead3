/**
 * The lifter: guest bytes of one page to one block of IR. Integer instructions here; lift-float.ts and lift-system.ts have the others.
 *
 * A block ends at a control transfer, at what changes privilege, CSRs or translations, at the engine's limit or the page's end. An instruction that
 * is none becomes the exception it raises. A target that auipc has just made is a direct one.
 */
import { type BlockBuilder, LIFT_DONE, LIFT_TRUNCATED, type Lift, type OpSet } from "../translate/ir.ts";
import { decode, type Entry, expand, INSTRUCTIONS, immediate, rdOf, rs1Of, rs2Of } from "./decode.ts";
import { floatLifters } from "./lift-float.ts";
import { systemLifters } from "./lift-system.ts";
import { CAUSE_ILLEGAL, STATE, x, xd } from "./state.ts";

const at = STATE.at;

/** The instruction that is lifted. One object, reused. */
export class LiftContext {
  b!: BlockBuilder;
  mode = 0;
  /** The instruction as 32 bits, and as it is in memory. */
  word = 0;
  raw = 0;
  pcLo = 0;
  pcHi = 0;
  nextLo = 0;
  nextHi = 0;
  /** Register that auipc of the instruction before has set, or -1, and its value. */
  known = -1;
  knownLo = 0;
  knownHi = 0;
  readonly #raise: number;
  readonly #movi: number;

  constructor(ops: OpSet) {
    this.#raise = ops.id("rv.raise");
    this.#movi = ops.id("mov64i");
  }

  raise(cause: number, valueLo = 0, valueHi = 0): void {
    this.b.computed(this.#raise, 0, 0, 0, cause, 0, valueLo, valueHi);
  }
  illegal(): void {
    this.raise(CAUSE_ILLEGAL, this.raw, 0);
  }
  /** The cell pc becomes the next instruction's, for what leaves behind this one. */
  setNext(): void {
    this.b.emit(this.#movi, at.pc, 0, 0, this.nextLo, this.nextHi);
  }
  /** pc + offset, into target. */
  target(offset: number): void {
    const sum = (this.pcLo >>> 0) + offset;
    this.targetLo = sum | 0;
    this.targetHi = (this.pcHi + (sum > 0xffffffff ? 1 : sum < 0 ? -1 : 0)) | 0;
  }
  targetLo = 0;
  targetHi = 0;
}

export type Lifter = (c: LiftContext, word: number) => void;

function integerLifters(ops: OpSet): Map<string, Lifter> {
  const map = new Map<string, Lifter>();
  const id = (name: string): number => ops.id(name);
  const mov = id("mov64");
  const movi = id("mov64i");
  const sx32 = id("sx32");

  // register and immediate
  const withImmediate = (name: string, op: number, format: "I" | "shift" | "shiftw", zero?: number): void => {
    map.set(name, (c, w) => {
      const rd = rdOf(w);
      if (rd === 0) return;
      const imm = immediate(format, w);
      // addi and addiw of nothing are moves
      if (imm === 0 && zero !== undefined) c.b.emit(zero, x(rd), x(rs1Of(w)));
      else c.b.emit(op, x(rd), x(rs1Of(w)), 0, imm);
    });
  };
  const add64i = id("add64i");
  /** A constant that the instruction before has put into the same register: the sum is one, too. */
  const constant = (c: LiftContext, rd: number, rs1: number): boolean =>
    rd === rs1 && c.b.lastOp === movi && c.b.lastD === x(rd);
  map.set("addi", (c, w) => {
    const rd = rdOf(w);
    if (rd === 0) return;
    const [rs1, imm] = [rs1Of(w), w >> 20];
    if (constant(c, rd, rs1)) {
      const sum = (c.b.lastLo >>> 0) + imm;
      const hi = (c.b.lastHi + (sum > 0xffffffff ? 1 : sum < 0 ? -1 : 0)) | 0;
      c.b.dropLast();
      c.b.emit(movi, x(rd), 0, 0, sum | 0, hi);
    } else if (rs1 === 0) c.b.emit(movi, x(rd), 0, 0, imm);
    else if (imm === 0) c.b.emit(mov, x(rd), x(rs1));
    else c.b.emit(add64i, x(rd), x(rs1), 0, imm);
  });
  withImmediate("addiw", id("add32si"), "I", sx32);
  const addiw = map.get("addiw");
  map.set("addiw", (c, w) => {
    const rd = rdOf(w);
    if (rd === 0 || !constant(c, rd, rs1Of(w))) {
      addiw?.(c, w);
      return;
    }
    const sum = (c.b.lastLo + (w >> 20)) | 0;
    c.b.dropLast();
    c.b.emit(movi, x(rd), 0, 0, sum);
  });
  withImmediate("slti", id("setlts64i"), "I");
  withImmediate("sltiu", id("setltu64i"), "I");
  withImmediate("xori", id("xor64i"), "I");
  withImmediate("ori", id("or64i"), "I");
  withImmediate("andi", id("and64i"), "I");
  withImmediate("slli", id("shl64i"), "shift");
  withImmediate("srli", id("shr64i"), "shift");
  withImmediate("srai", id("sar64i"), "shift");
  // Left and back by as much, in one register: an extension. What was between the two nobody sees, as neither of them can leave.
  const shli = id("shl64i");
  const and64i = id("and64i");
  for (const [name, words] of [
    ["srli", { 32: id("zx32"), 48: id("zx16"), 56: id("zx8") }],
    ["srai", { 32: sx32, 48: id("sx16"), 56: id("sx8") }],
  ] as const) {
    const plain = map.get(name);
    map.set(name, (c, w) => {
      const { b } = c;
      const [rd, rs1, by] = [rdOf(w), rs1Of(w), immediate("shift", w)];
      const back = rd !== 0 && rd === rs1 && b.lastOp === shli && b.lastD === x(rd) && b.lastLo === by;
      const op = by === 32 || by === 48 || by === 56 ? words[by] : name === "srli" && by > 0 ? and64i : -1;
      if (!back || op < 0) {
        plain?.(c, w);
        return;
      }
      const from = b.lastA;
      b.dropLast();
      if (op !== and64i) b.emit(op, x(rd), from);
      else b.emit(op, x(rd), from, 0, by >= 32 ? -1 >>> (by - 32) : -1, by >= 32 ? 0 : -1 >>> by);
    });
  }
  withImmediate("slliw", id("shl32si"), "shiftw");
  withImmediate("srliw", id("shr32si"), "shiftw");
  withImmediate("sraiw", id("sar32si"), "shiftw");

  // two registers
  for (const [name, op] of [
    ["sub", "sub64"],
    ["sll", "shl64"],
    ["slt", "setlts64"],
    ["sltu", "setltu64"],
    ["xor", "xor64"],
    ["srl", "shr64"],
    ["sra", "sar64"],
    ["or", "or64"],
    ["and", "and64"],
    ["mul", "mul64"],
    ["mulh", "mulhs64"],
    ["mulhsu", "mulhsu64"],
    ["mulhu", "mulhu64"],
    ["div", "rv.div64"],
    ["divu", "rv.divu64"],
    ["rem", "rv.rem64"],
    ["remu", "rv.remu64"],
    ["addw", "add32s"],
    ["subw", "sub32s"],
    ["sllw", "shl32s"],
    ["srlw", "shr32s"],
    ["sraw", "sar32s"],
    ["mulw", "mul32s"],
    ["divw", "rv.div32"],
    ["divuw", "rv.divu32"],
    ["remw", "rv.rem32"],
    ["remuw", "rv.remu32"],
  ] as const) {
    const n = id(op);
    map.set(name, (c, w) => {
      const rd = rdOf(w);
      if (rd !== 0) c.b.emit(n, x(rd), x(rs1Of(w)), x(rs2Of(w)));
    });
  }
  const add64 = id("add64");
  const lea64 = id("lea64");
  map.set("add", (c, w) => {
    const { b } = c;
    const [rd, rs1, rs2] = [rdOf(w), rs1Of(w), rs2Of(w)];
    if (rd === 0) return;
    // what the instruction before has shifted into rd is added to another register: an index
    if (b.lastOp === shli && b.lastD === x(rd) && (rd === rs1) !== (rd === rs2)) {
      const [index, by] = [b.lastA, b.lastLo];
      b.dropLast();
      b.emit(lea64, x(rd), x(rd === rs1 ? rs2 : rs1), index, 0, by);
    } else if (rs1 === 0) c.b.emit(mov, x(rd), x(rs2Of(w)));
    else c.b.emit(add64, x(rd), x(rs1Of(w)), x(rs2Of(w)));
  });

  map.set("lui", (c, w) => {
    if (rdOf(w) !== 0) c.b.emit(movi, x(rdOf(w)), 0, 0, w & 0xfffff000);
  });
  map.set("auipc", (c, w) => {
    const rd = rdOf(w);
    if (rd === 0) return;
    c.target(w & 0xfffff000);
    c.b.emit(movi, x(rd), 0, 0, c.targetLo, c.targetHi);
    c.known = rd;
    c.knownLo = c.targetLo;
    c.knownHi = c.targetHi;
  });

  // memory
  for (const [name, op] of [
    ["lb", "lds8"],
    ["lh", "lds16"],
    ["lw", "lds32"],
    ["ld", "ld64"],
    ["lbu", "ldz8"],
    ["lhu", "ldz16"],
    ["lwu", "ldz32"],
  ] as const) {
    const n = id(op);
    map.set(name, (c, w) => {
      c.b.emit(n, xd(rdOf(w)), x(rs1Of(w)), 0, w >> 20);
    });
  }
  for (const [name, op] of [
    ["sb", "st8"],
    ["sh", "st16"],
    ["sw", "st32"],
    ["sd", "st64"],
  ] as const) {
    const n = id(op);
    map.set(name, (c, w) => {
      c.b.emit(n, x(rs2Of(w)), x(rs1Of(w)), 0, immediate("S", w));
    });
  }
  for (const kind of [
    "amoadd",
    "amoswap",
    "amoxor",
    "amoor",
    "amoand",
    "amomin",
    "amomax",
    "amominu",
    "amomaxu",
    "sc",
  ]) {
    for (const suffix of ["w", "d"]) {
      const n = id(`rv.${kind}.${suffix}`);
      map.set(`${kind}.${suffix}`, (c, w) => {
        c.b.emit(n, xd(rdOf(w)), x(rs1Of(w)), x(rs2Of(w)));
      });
    }
  }
  for (const suffix of ["w", "d"]) {
    const n = id(`rv.lr.${suffix}`);
    map.set(`lr.${suffix}`, (c, w) => {
      c.b.emit(n, xd(rdOf(w)), x(rs1Of(w)));
    });
  }

  // control transfers
  const brz = id("brz");
  const brnz = id("brnz");
  for (const [name, op, zero] of [
    ["beq", "beq64", brz],
    ["bne", "bne64", brnz],
    ["blt", "blts64", -1],
    ["bge", "bges64", -1],
    ["bltu", "bltu64", -1],
    ["bgeu", "bgeu64", -1],
  ] as const) {
    const n = id(op);
    map.set(name, (c, w) => {
      c.target(immediate("B", w));
      const [a, b] = [rs1Of(w), rs2Of(w)];
      if (b === 0 && zero >= 0) c.b.branch(zero, 0, x(a), 0, c.targetLo, c.targetHi, c.nextLo, c.nextHi);
      else c.b.branch(n, 0, x(a), x(b), c.targetLo, c.targetHi, c.nextLo, c.nextHi);
    });
  }
  map.set("jal", (c, w) => {
    const rd = rdOf(w);
    c.target(immediate("J", w));
    if (rd !== 0) c.b.emit(movi, x(rd), 0, 0, c.nextLo, c.nextHi);
    c.b.jump(c.targetLo, c.targetHi);
  });
  const jr = id("rv.jr");
  const jalr = id("rv.jalr");
  map.set("jalr", (c, w) => {
    const [rd, rs1, imm] = [rdOf(w), rs1Of(w), w >> 20];
    if (rs1 !== 0 && rs1 === c.known) {
      const sum = (c.knownLo >>> 0) + imm;
      const hi = (c.knownHi + (sum > 0xffffffff ? 1 : sum < 0 ? -1 : 0)) | 0;
      if (rd !== 0) c.b.emit(movi, x(rd), 0, 0, c.nextLo, c.nextHi);
      c.b.jump(sum & ~1, hi);
    } else if (rd === 0) c.b.computed(jr, 0, x(rs1), 0, imm);
    else c.b.computed(jalr, x(rd), x(rs1), 0, imm, imm >> 31, c.nextLo, c.nextHi);
  });

  // Stores reach everybody in order, and translated code follows its bytes: fences have nothing to do.
  map.set("fence", () => {});
  map.set("fence.i", () => {});
  return map;
}

/** Makes the lifter of an engine. */
export function makeLift(ops: OpSet): Lift {
  const lifters = new Map([...integerLifters(ops), ...floatLifters(ops), ...systemLifters(ops)]);
  const byId: readonly Lifter[] = INSTRUCTIONS.map(({ name }) => {
    const lifter = lifters.get(name);
    if (lifter === undefined) throw new Error(`no lifter of ${name}`);
    return lifter;
  });
  const c = new LiftContext(ops);
  return (source, builder) => {
    const { bytes, end } = source;
    c.b = builder;
    c.mode = source.mode;
    c.known = -1;
    let from = source.start;
    let pcLo = source.pcLo | 0;
    let pcHi = source.pcHi | 0;
    for (let n = 0; n < source.maxInstructions; n++) {
      const half = (bytes[from] ?? 0) | ((bytes[from + 1] ?? 0) << 8);
      const length = (half & 3) === 3 ? 4 : 2;
      if (from + length > end) {
        if (n === 0) return LIFT_TRUNCATED;
        break;
      }
      c.raw = length === 2 ? half : half | ((bytes[from + 2] ?? 0) << 16) | ((bytes[from + 3] ?? 0) << 24);
      c.word = length === 2 ? expand(half) : c.raw;
      const entry: Entry | null = decode(c.word);
      builder.instruction(pcLo, pcHi, length);
      c.pcLo = pcLo;
      c.pcHi = pcHi;
      const sum = (pcLo >>> 0) + length;
      c.nextLo = sum | 0;
      c.nextHi = (pcHi + (sum > 0xffffffff ? 1 : 0)) | 0;
      const known = c.known;
      if (entry === null) c.illegal();
      else byId[entry.id]?.(c, c.word);
      if (builder.ended) return LIFT_DONE;
      // what auipc has set is known to the very next instruction only
      if (c.known === known) c.known = -1;
      pcLo = c.nextLo;
      pcHi = c.nextHi;
      from += length;
      if (from >= end) break;
    }
    builder.fallThrough(pcLo, pcHi);
    return LIFT_DONE;
  };
}
