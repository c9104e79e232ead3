/**
 * The decoder: one 32-bit word to an instruction of RV64GC, and 16-bit encodings to the 32-bit ones they stand for.
 *
 * Source: The RISC-V Instruction Set Manual, volume I (unprivileged, chapter of instruction listings; C: tables of quadrants 0 to 2) and volume II
 * for the privileged ones. An entry is a match and a mask; candidates are found by major opcode and funct3. A word that is no
 * instruction decodes to null. Fields that the manual says to ignore (fence's, aq and rl) are not looked at.
 */

/** How an instruction's operands are laid out; says which immediate it has. */
export type Format = "R" | "I" | "S" | "B" | "U" | "J" | "shift" | "shiftw" | "csr" | "csri" | "R4" | "amo" | "none";

/** One instruction. */
export interface Entry {
  readonly name: string;
  readonly format: Format;
  readonly match: number;
  readonly mask: number;
  /** Position in INSTRUCTIONS. */
  readonly id: number;
  /** Has a rounding mode in bits 14..12. */
  readonly rounds: boolean;
}

const OP = 0x33;
const OP_32 = 0x3b;
const OP_IMM = 0x13;
const OP_IMM_32 = 0x1b;
const LOAD = 0x03;
const STORE = 0x23;
const LOAD_FP = 0x07;
const STORE_FP = 0x27;
const BRANCH = 0x63;
const SYSTEM = 0x73;
const AMO = 0x2f;
const OP_FP = 0x53;
const MISC_MEM = 0x0f;

const F3 = 0x7000;
const F7 = 0xfe000000 | 0;
const RS2 = 0x01f00000;

type Row = readonly [name: string, format: Format, match: number, mask: number, rounds?: boolean];

const f3 = (opcode: number, format: Format, names: readonly (string | null)[]): Row[] =>
  names.flatMap((name, n): Row[] => (name === null ? [] : [[name, format, opcode | (n << 12), 0x7f | F3]]));
const r = (opcode: number, funct7: number, names: readonly (string | null)[]): Row[] =>
  names.flatMap((name, n): Row[] =>
    name === null ? [] : [[name, "R", opcode | (n << 12) | (funct7 << 25), 0x7f | F3 | F7]],
  );

function amoRows(): Row[] {
  const rows: Row[] = [];
  const kinds: readonly [string, number][] = [
    ["amoadd", 0],
    ["amoswap", 1],
    ["lr", 2],
    ["sc", 3],
    ["amoxor", 4],
    ["amoor", 8],
    ["amoand", 12],
    ["amomin", 16],
    ["amomax", 20],
    ["amominu", 24],
    ["amomaxu", 28],
  ];
  for (const [kind, funct5] of kinds) {
    for (const [suffix, width] of [
      ["w", 2],
      ["d", 3],
    ] as const) {
      const mask = 0x7f | F3 | (0xf8000000 | 0) | (kind === "lr" ? RS2 : 0);
      rows.push([`${kind}.${suffix}`, "amo", AMO | (width << 12) | (funct5 << 27), mask]);
    }
  }
  return rows;
}

function floatRows(): Row[] {
  const rows: Row[] = [];
  for (const [suffix, fmt] of [
    ["s", 0],
    ["d", 1],
  ] as const) {
    const funct7 = (n: number): number => (n << 27) | (fmt << 25);
    const dyadic = (name: string, n: number): Row => [`${name}.${suffix}`, "R", OP_FP | funct7(n), 0x7f | F7, true];
    const three = (name: string, n: number, f: number): Row => [
      `${name}.${suffix}`,
      "R",
      OP_FP | funct7(n) | (f << 12),
      0x7f | F7 | F3,
    ];
    const unary = (name: string, n: number, rs2: number): Row => [
      name,
      "R",
      OP_FP | funct7(n) | (rs2 << 20),
      0x7f | F7 | RS2,
      true,
    ];
    const move = (name: string, n: number, f: number): Row => [
      name,
      "R",
      OP_FP | funct7(n) | (f << 12),
      0x7f | F7 | F3 | RS2,
    ];
    rows.push(
      dyadic("fadd", 0),
      dyadic("fsub", 1),
      dyadic("fmul", 2),
      dyadic("fdiv", 3),
      unary(`fsqrt.${suffix}`, 11, 0),
      three("fsgnj", 4, 0),
      three("fsgnjn", 4, 1),
      three("fsgnjx", 4, 2),
      three("fmin", 5, 0),
      three("fmax", 5, 1),
      three("fle", 20, 0),
      three("flt", 20, 1),
      three("feq", 20, 2),
      unary(fmt === 0 ? "fcvt.s.d" : "fcvt.d.s", 8, fmt === 0 ? 1 : 0),
      move(`fclass.${suffix}`, 28, 1),
      move(fmt === 0 ? "fmv.x.w" : "fmv.x.d", 28, 0),
      move(fmt === 0 ? "fmv.w.x" : "fmv.d.x", 30, 0),
    );
    for (const [n, kind] of ["w", "wu", "l", "lu"].entries()) {
      rows.push(unary(`fcvt.${kind}.${suffix}`, 24, n), unary(`fcvt.${suffix}.${kind}`, 26, n));
    }
    for (const [name, opcode] of [
      ["fmadd", 0x43],
      ["fmsub", 0x47],
      ["fnmsub", 0x4b],
      ["fnmadd", 0x4f],
    ] as const) {
      rows.push([`${name}.${suffix}`, "R4", opcode | (fmt << 25), 0x7f | (3 << 25), true]);
    }
  }
  return rows;
}

const ROWS: readonly Row[] = [
  ["lui", "U", 0x37, 0x7f],
  ["auipc", "U", 0x17, 0x7f],
  ["jal", "J", 0x6f, 0x7f],
  ["jalr", "I", 0x67, 0x7f | F3],
  ...f3(BRANCH, "B", ["beq", "bne", null, null, "blt", "bge", "bltu", "bgeu"]),
  ...f3(LOAD, "I", ["lb", "lh", "lw", "ld", "lbu", "lhu", "lwu"]),
  ...f3(STORE, "S", ["sb", "sh", "sw", "sd"]),
  ...f3(OP_IMM, "I", ["addi", null, "slti", "sltiu", "xori", null, "ori", "andi"]),
  ["slli", "shift", OP_IMM | (1 << 12), 0x7f | F3 | (0xfc000000 | 0)],
  ["srli", "shift", OP_IMM | (5 << 12), 0x7f | F3 | (0xfc000000 | 0)],
  ["srai", "shift", OP_IMM | (5 << 12) | (16 << 26), 0x7f | F3 | (0xfc000000 | 0)],
  ["addiw", "I", OP_IMM_32, 0x7f | F3],
  ["slliw", "shiftw", OP_IMM_32 | (1 << 12), 0x7f | F3 | F7],
  ["srliw", "shiftw", OP_IMM_32 | (5 << 12), 0x7f | F3 | F7],
  ["sraiw", "shiftw", OP_IMM_32 | (5 << 12) | (32 << 25), 0x7f | F3 | F7],
  ...r(OP, 0, ["add", "sll", "slt", "sltu", "xor", "srl", "or", "and"]),
  ...r(OP, 32, ["sub", null, null, null, null, "sra"]),
  ...r(OP, 1, ["mul", "mulh", "mulhsu", "mulhu", "div", "divu", "rem", "remu"]),
  ...r(OP_32, 0, ["addw", "sllw", null, null, null, "srlw"]),
  ...r(OP_32, 32, ["subw", null, null, null, null, "sraw"]),
  ...r(OP_32, 1, ["mulw", null, null, null, "divw", "divuw", "remw", "remuw"]),
  // Zihintpause: a fence that older harts ignore
  ["pause", "none", 0x0100000f, -1],
  ["fence", "none", MISC_MEM, 0x7f | F3],
  ["fence.i", "none", MISC_MEM | (1 << 12), 0x7f | F3],
  ["ecall", "none", 0x00000073, -1],
  ["ebreak", "none", 0x00100073, -1],
  ["sret", "none", 0x10200073, -1],
  ["wfi", "none", 0x10500073, -1],
  ["sfence.vma", "R", 0x12000073, F7 | F3 | 0x7fff],
  ["csrrw", "csr", SYSTEM | (1 << 12), 0x7f | F3],
  ["csrrs", "csr", SYSTEM | (2 << 12), 0x7f | F3],
  ["csrrc", "csr", SYSTEM | (3 << 12), 0x7f | F3],
  ["csrrwi", "csri", SYSTEM | (5 << 12), 0x7f | F3],
  ["csrrsi", "csri", SYSTEM | (6 << 12), 0x7f | F3],
  ["csrrci", "csri", SYSTEM | (7 << 12), 0x7f | F3],
  ...amoRows(),
  ["flw", "I", LOAD_FP | (2 << 12), 0x7f | F3],
  ["fld", "I", LOAD_FP | (3 << 12), 0x7f | F3],
  ["fsw", "S", STORE_FP | (2 << 12), 0x7f | F3],
  ["fsd", "S", STORE_FP | (3 << 12), 0x7f | F3],
  ...floatRows(),
];

/** Every instruction, in a fixed order. */
export const INSTRUCTIONS: readonly Entry[] = ROWS.map(([name, format, match, mask, rounds], id) => ({
  name,
  format,
  match: match | 0,
  mask: mask | 0,
  id,
  rounds: rounds === true,
}));

/** Candidates by opcode bits 6..2 and funct3. */
const BUCKETS: readonly (readonly Entry[])[] = Array.from({ length: 256 }, (_, key) => {
  const fields = ((key >> 3) << 2) | 3 | ((key & 7) << 12);
  const known = 0x7f | F3;
  return INSTRUCTIONS.filter((e) => ((e.match ^ fields) & e.mask & known) === 0);
});

/** The instruction that a 32-bit word is; null: none. */
export function decode(word: number): Entry | null {
  if ((word & 3) !== 3) return null;
  const bucket = BUCKETS[(((word >>> 2) & 31) << 3) | ((word >>> 12) & 7)];
  if (bucket === undefined) return null;
  for (const entry of bucket) {
    if ((word & entry.mask) !== entry.match) continue;
    // rounding modes 5 and 6 are reserved
    if (entry.rounds && ((word >>> 12) & 7) >= 5 && ((word >>> 12) & 7) < 7) return null;
    return entry;
  }
  return null;
}

// Fields.
export const rdOf = (word: number): number => (word >>> 7) & 31;
export const rs1Of = (word: number): number => (word >>> 15) & 31;
export const rs2Of = (word: number): number => (word >>> 20) & 31;
export const rs3Of = (word: number): number => word >>> 27;
export const rmOf = (word: number): number => (word >>> 12) & 7;
export const csrOf = (word: number): number => word >>> 20;

/** The immediate by format, sign-extended to 32 bits (for U: the whole upper part). */
export function immediate(format: Format, word: number): number {
  switch (format) {
    case "I":
      return word >> 20;
    case "S":
      return ((word >> 25) << 5) | ((word >>> 7) & 31);
    case "B":
      return ((word >> 31) << 12) | ((word << 4) & 0x800) | ((word >>> 20) & 0x7e0) | ((word >>> 7) & 0x1e);
    case "U":
      return word & 0xfffff000;
    case "J":
      return ((word >> 31) << 20) | (word & 0xff000) | ((word >>> 9) & 0x800) | ((word >>> 20) & 0x7fe);
    case "shift":
      return (word >>> 20) & 63;
    case "shiftw":
      return (word >>> 20) & 31;
    case "csri":
      return rs1Of(word);
    default:
      return 0;
  }
}

// Encoders, for expansion and for tests.
export const encodeR = (match: number, rd: number, rs1: number, rs2: number): number =>
  match | (rd << 7) | (rs1 << 15) | (rs2 << 20);
export const encodeI = (match: number, rd: number, rs1: number, imm: number): number =>
  match | (rd << 7) | (rs1 << 15) | (imm << 20);
export const encodeS = (match: number, rs1: number, rs2: number, imm: number): number =>
  match | ((imm & 31) << 7) | (rs1 << 15) | (rs2 << 20) | ((imm >> 5) << 25);
export const encodeB = (match: number, rs1: number, rs2: number, imm: number): number =>
  match |
  (rs1 << 15) |
  (rs2 << 20) |
  (((imm >> 1) & 15) << 8) |
  (((imm >> 5) & 63) << 25) |
  (((imm >> 11) & 1) << 7) |
  ((imm >> 12) << 31);
export const encodeJ = (match: number, rd: number, imm: number): number =>
  match | (rd << 7) | (imm & 0xff000) | (((imm >> 11) & 1) << 20) | (((imm >> 1) & 0x3ff) << 21) | ((imm >> 20) << 31);

const ADDI = OP_IMM;
const ADDIW = OP_IMM_32;
const LD = LOAD | (3 << 12);
const LW = LOAD | (2 << 12);
const FLD = LOAD_FP | (3 << 12);
const SD = STORE | (3 << 12);
const SW = STORE | (2 << 12);
const FSD = STORE_FP | (3 << 12);
const JALR = 0x67;
const SHAMT_RIGHT = OP_IMM | (5 << 12);
const ANDI = OP_IMM | (7 << 12);

/** The 32-bit instruction that a 16-bit one of RV64C stands for; 0: it is none (reserved encodings, and all zeros). */
export function expand(half: number): number {
  const rdp = ((half >> 2) & 7) + 8;
  const rsp = ((half >> 7) & 7) + 8;
  const rd = (half >> 7) & 31;
  const rs2 = (half >> 2) & 31;
  const imm6 = (((half << 19) >> 31) << 5) | ((half >> 2) & 31);
  const uimm6 = ((half >> 7) & 32) | ((half >> 2) & 31);
  const word = ((half >> 7) & 0x38) | ((half >> 4) & 4) | ((half << 1) & 0x40);
  const double = ((half >> 7) & 0x38) | ((half << 1) & 0xc0);
  switch (((half & 3) << 3) | ((half >> 13) & 7)) {
    case 0: {
      // c.addi4spn
      const imm = ((half >> 7) & 0x30) | ((half >> 1) & 0x3c0) | ((half >> 4) & 4) | ((half >> 2) & 8);
      return imm === 0 ? 0 : encodeI(ADDI, rdp, 2, imm);
    }
    case 1:
      return encodeI(FLD, rdp, rsp, double);
    case 2:
      return encodeI(LW, rdp, rsp, word);
    case 3:
      return encodeI(LD, rdp, rsp, double);
    case 5:
      return encodeS(FSD, rsp, rdp, double);
    case 6:
      return encodeS(SW, rsp, rdp, word);
    case 7:
      return encodeS(SD, rsp, rdp, double);
    case 8:
      return encodeI(ADDI, rd, rd, imm6);
    case 9:
      return rd === 0 ? 0 : encodeI(ADDIW, rd, rd, imm6);
    case 10:
      return encodeI(ADDI, rd, 0, imm6);
    case 11: {
      if (rd === 2) {
        // c.addi16sp
        const imm =
          (((half << 19) >> 31) << 9) |
          ((half >> 2) & 0x10) |
          ((half << 1) & 0x40) |
          ((half << 4) & 0x180) |
          ((half << 3) & 0x20);
        return imm === 0 ? 0 : encodeI(ADDI, 2, 2, imm);
      }
      return imm6 === 0 ? 0 : 0x37 | (rd << 7) | (imm6 << 12);
    }
    case 12:
      return quadrant1Arithmetic(half, rsp, rdp, imm6, uimm6);
    case 13: {
      // c.j
      const imm =
        (((half << 19) >> 31) << 11) |
        ((half >> 7) & 0x10) |
        ((half >> 1) & 0x300) |
        ((half << 2) & 0x400) |
        ((half >> 1) & 0x40) |
        ((half << 1) & 0x80) |
        ((half >> 2) & 0xe) |
        ((half << 3) & 0x20);
      return encodeJ(0x6f, 0, imm);
    }
    case 14:
    case 15: {
      const imm =
        (((half << 19) >> 31) << 8) |
        ((half >> 7) & 0x18) |
        ((half << 1) & 0xc0) |
        ((half >> 2) & 6) |
        ((half << 3) & 0x20);
      return encodeB(BRANCH | (((half >> 13) & 1) << 12), rsp, 0, imm);
    }
    case 16:
      return encodeI(OP_IMM | (1 << 12), rd, rd, uimm6);
    case 17:
      return encodeI(FLD, rd, 2, ((half >> 7) & 0x20) | ((half >> 2) & 0x18) | ((half << 4) & 0x1c0));
    case 18:
      return rd === 0 ? 0 : encodeI(LW, rd, 2, ((half >> 7) & 0x20) | ((half >> 2) & 0x1c) | ((half << 4) & 0xc0));
    case 19:
      return rd === 0 ? 0 : encodeI(LD, rd, 2, ((half >> 7) & 0x20) | ((half >> 2) & 0x18) | ((half << 4) & 0x1c0));
    case 20:
      if ((half & 0x1000) === 0) {
        if (rs2 !== 0) return encodeR(OP, rd, 0, rs2);
        return rd === 0 ? 0 : encodeI(JALR, 0, rd, 0);
      }
      if (rs2 !== 0) return encodeR(OP, rd, rd, rs2);
      return rd === 0 ? 0x00100073 : encodeI(JALR, 1, rd, 0);
    case 21:
      return encodeS(FSD, 2, rs2, ((half >> 7) & 0x38) | ((half >> 1) & 0x1c0));
    case 22:
      return encodeS(SW, 2, rs2, ((half >> 7) & 0x3c) | ((half >> 1) & 0xc0));
    case 23:
      return encodeS(SD, 2, rs2, ((half >> 7) & 0x38) | ((half >> 1) & 0x1c0));
    default:
      return 0;
  }
}

function quadrant1Arithmetic(half: number, rsp: number, rdp: number, imm6: number, uimm6: number): number {
  switch ((half >> 10) & 3) {
    case 0:
      return encodeI(SHAMT_RIGHT, rsp, rsp, uimm6);
    case 1:
      return encodeI(SHAMT_RIGHT, rsp, rsp, uimm6 | 0x400);
    case 2:
      return encodeI(ANDI, rsp, rsp, imm6);
    default:
      break;
  }
  switch (((half >> 10) & 4) | ((half >> 5) & 3)) {
    case 0:
      return encodeR(OP | (32 << 25), rsp, rsp, rdp);
    case 1:
      return encodeR(OP | (4 << 12), rsp, rsp, rdp);
    case 2:
      return encodeR(OP | (6 << 12), rsp, rsp, rdp);
    case 3:
      return encodeR(OP | (7 << 12), rsp, rsp, rdp);
    case 4:
      return encodeR(OP_32 | (32 << 25), rsp, rsp, rdp);
    case 5:
      return encodeR(OP_32, rsp, rsp, rdp);
    default:
      return 0;
  }
}

/** Integer registers by their ABI names. */
export const REGISTER_NAMES: readonly string[] =
  "zero ra sp gp tp t0 t1 t2 s0 s1 a0 a1 a2 a3 a4 a5 a6 a7 s2 s3 s4 s5 s6 s7 s8 s9 s10 s11 t3 t4 t5 t6".split(" ");
