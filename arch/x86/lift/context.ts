/**
 * What every lifter works with: the instruction, the block builder, addresses, operands, and what is known about the flags.
 *
 * Conventions: an operand is a cell offset. A 32-bit source may be a 64-bit cell with anything above; ops read at their width. `ah`
 * and its kin are offset + 1 of their register. Temporaries are handed out from t0 upwards and are free again at the next
 * instruction. Every op that can fault comes before the first one that changes a register or a flag.
 */
import type { BlockBuilder } from "../../translate/ir.ts";
import { F_BYTE, type Instruction, type OpcodeEntry, SEG_FS } from "../decode.ts";
import { family, id, LOG2 } from "../opset.ts";
import { gpr, NO_ERROR_CODE, STATE, segmentBase, temp, VECTOR_UD, vtemp } from "../state.ts";

export type Lifter = (x: LiftContext, i: Instruction<X86Entry>) => void;

/** A table entry with its lifter. */
export interface X86Entry extends OpcodeEntry {
  /** Operands, as in the manuals' opcode maps: "Ev Gv". */
  readonly operands: string;
  readonly lift: Lifter | null;
  readonly group: readonly (X86Entry | null)[] | null;
}

/** What made the flags, as far as this block tells: nothing known, a SUB group, or ccDst holds the result. */
export const FLAGS_UNKNOWN = 0;
export const FLAGS_SUB = 1;
export const FLAGS_RESULT = 2;

const MOV = family("mov");
const MOV64I = id("mov64i");
const LDZ = [id("ldz8"), id("ldz16"), id("ldz32"), id("ld64")];
const LDZX = [id("ldz8x"), id("ldz16x"), id("ldz32x"), id("ld64x")];
const LDW = [id("ldw8"), id("ldw16"), id("ldw32"), id("ldw64")];
const LDWX = [id("ldw8x"), id("ldw16x"), id("ldw32x"), id("ldw64x")];
const ST = family("st");
const STX = family("st", "x");
const LEA64 = id("lea64");
const LEA32 = id("lea32");
const ADD64 = id("add64");
const RAISE = id("x.raise");
const HELPER_END = id("helperEnd");
const ZERO = STATE.at.zero;

/** Helper numbers, positions in the engine's helper list (helpers.ts). */
export const HELPER_SYSTEM = 0;
export const HELPER_STRING = 1;
export const HELPER_DIV64 = 2;
export const HELPER_IDIV64 = 3;
export const HELPER_FPU = 4;
export const HELPER_SSE = 5;
export const HELPER_STATE = 6;

/** An op's plain and indexed forms. */
export interface MemoryOp {
  readonly plain: number;
  readonly indexed: number;
}
export const memoryOp = (name: string): MemoryOp => ({ plain: id(name), indexed: id(`${name}x`) });

export class LiftContext {
  b!: BlockBuilder;
  /** This instruction and the one behind it. */
  pcLo = 0;
  pcHi = 0;
  nextLo = 0;
  nextHi = 0;
  flags: number = FLAGS_UNKNOWN;
  /** CR0.TS or EM is set: x87, MMX and SSE instructions raise #NM. */
  fpuDisabled = false;
  #temps = 0;
  #vectors = 0;

  // The address that `address` computed: base cell + (index cell << scale) + displacement.
  base = ZERO;
  /** Index cell, or -1: then the displacement has 64 bits. */
  index = -1;
  scale = 0;
  dispLo = 0;
  dispHi = 0;

  /** Starts an instruction. */
  start(): void {
    this.#temps = 0;
    this.#vectors = 0;
  }

  temp(): number {
    return temp(this.#temps++);
  }
  vector(): number {
    return vtemp(this.#vectors++);
  }

  emit(op: number, d = 0, a = 0, b = 0, lo = 0, hi = lo >> 31): void {
    this.b.emit(op, d, a, b, lo, hi);
  }

  /** Byte register as encoded: without REX, 4 to 7 are ah, ch, dh, bh. */
  byteRegister(i: Instruction, n: number): number {
    return i.rex === 0 && n >= 4 && n < 8 ? gpr(n - 4) + 1 : gpr(n);
  }

  /** Cell of general register `n` as an operand of `size` bytes. */
  register(i: Instruction, n: number, size: number): number {
    return size === 1 ? this.byteRegister(i, n) : gpr(n);
  }

  /**
   * Prepares the memory operand of `i` for `load`, `store` and `lea`: at most one op is emitted (a segment base with a full address).
   * `extra` is added to the displacement.
   */
  address(i: Instruction, extra = 0): void {
    const segment = i.segment >= SEG_FS ? segmentBase(i.segment) : -1;
    this.index = -1;
    this.scale = 0;
    let lo = (i.displacement + extra) | 0;
    let hi = lo >> 31;
    if (i.ripRelative) {
      const sum = (this.nextLo >>> 0) + (lo >>> 0);
      hi = (this.nextHi + hi + (sum > 0xffffffff ? 1 : 0)) | 0;
      lo = sum | 0;
      if (i.addressSize === 4) hi = 0;
      this.base = segment >= 0 ? segment : ZERO;
    } else if (i.addressSize !== 8) {
      // 32-bit address arithmetic, zero-extended, then the segment's base
      const t = this.temp();
      this.emit(LEA32, t, i.base >= 0 ? gpr(i.base) : ZERO, i.index >= 0 ? gpr(i.index) : ZERO, lo, i.scale);
      if (segment >= 0) {
        this.base = segment;
        this.index = t;
      } else this.base = t;
      lo = 0;
      hi = 0;
    } else if (segment < 0) {
      this.base = i.base >= 0 ? gpr(i.base) : ZERO;
      if (i.index >= 0) {
        this.index = gpr(i.index);
        this.scale = i.scale;
      }
    } else if (i.base >= 0 && i.index >= 0) {
      const t = this.temp();
      this.emit(LEA64, t, gpr(i.base), gpr(i.index), lo, i.scale);
      this.base = segment;
      this.index = t;
      lo = 0;
      hi = 0;
    } else {
      this.base = segment;
      if (i.base >= 0) this.index = gpr(i.base);
      else if (i.index >= 0) {
        this.index = gpr(i.index);
        this.scale = i.scale;
      }
    }
    this.dispLo = lo;
    this.dispHi = hi;
  }

  /** Sets the prepared address to [cell + displacement]. */
  at(cell: number, displacement = 0): void {
    this.base = cell;
    this.index = -1;
    this.dispLo = displacement;
    this.dispHi = displacement >> 31;
  }

  /** Emits a memory op on the prepared address. */
  memory(op: MemoryOp, d: number, displacement = 0): void {
    this.access(op.plain, op.indexed, d, displacement);
  }

  access(plain: number, indexed: number, d: number, displacement = 0): void {
    if (this.index >= 0) this.emit(indexed, d, this.base, this.index, this.dispLo + displacement, this.scale);
    else {
      const lo = (this.dispLo + displacement) | 0;
      const carry = displacement > 0 && lo >>> 0 < this.dispLo >>> 0 ? 1 : 0;
      this.emit(plain, d, this.base, 0, lo, this.dispHi + carry);
    }
  }

  /** Loads `size` bytes from the prepared address, zero-extended. */
  load(size: number, d: number, displacement = 0): void {
    this.access(LDZ[LOG2[size]!]!, LDZX[LOG2[size]!]!, d, displacement);
  }
  /** The same, and the page must be writable. */
  loadForWrite(size: number, d: number): void {
    this.access(LDW[LOG2[size]!]!, LDWX[LOG2[size]!]!, d);
  }
  store(size: number, value: number, displacement = 0): void {
    this.access(ST[LOG2[size]!]!, STX[LOG2[size]!]!, value, displacement);
  }

  /** The prepared address itself into a cell (linear, with the segment's base). */
  lea(d: number): void {
    if (this.index >= 0) this.emit(LEA64, d, this.base, this.index, this.dispLo, this.scale);
    else if (this.base === ZERO) this.emit(MOV64I, d, 0, 0, this.dispLo, this.dispHi);
    else this.emit(LEA64, d, this.base, ZERO, this.dispLo, 0);
  }

  /** The r/m operand for reading: a register's cell, or a temporary loaded from memory. */
  readE(i: Instruction, size: number): number {
    if (i.mod === 3) return this.register(i, i.rm, size);
    this.address(i);
    const t = this.temp();
    this.load(size, t);
    return t;
  }
  readG(i: Instruction, size: number): number {
    return this.register(i, i.reg, size);
  }
  /** Copies `size` bytes between cells by the width's convention (4 clears the upper half). */
  move(size: number, d: number, a: number): void {
    this.emit(MOV[LOG2[size]!]!, d, a);
  }
  moveImmediate(d: number, lo: number, hi = lo >> 31): void {
    this.emit(MOV64I, d, 0, 0, lo, hi);
  }
  add(d: number, a: number, b: number): void {
    this.emit(ADD64, d, a, b);
  }

  /**
   * Read-modify-write of the r/m operand: `change(cell)` emits what updates the cell in place. The page is known writable when
   * it runs, so that it may set flags.
   */
  modifyE(i: Instruction, size: number, change: (cell: number) => void): void {
    if (i.mod === 3) {
      change(this.register(i, i.rm, size));
      return;
    }
    this.address(i);
    const t = this.temp();
    this.loadForWrite(size, t);
    change(t);
    this.store(size, t);
  }

  /** Ends the block with an exception at this instruction. */
  raise(vector: number, error: number = NO_ERROR_CODE): void {
    this.b.computed(RAISE, 0, 0, 0, vector, error | 0);
  }
  undefined(): void {
    this.raise(VECTOR_UD);
  }

  /** Ends the block with a helper that needs the pc and moves it itself. */
  helperEnd(helper: number, d = 0, a = 0, b = 0, detail = 0): void {
    this.moveImmediate(STATE.at.pc, this.pcLo, this.pcHi);
    this.b.computed(HELPER_END, d, a, b, helper, detail);
  }

  /** A branch target: next instruction + displacement, cut to the code's word. */
  targetLo = 0;
  targetHi = 0;
  target(i: Instruction): void {
    const sum = (this.nextLo >>> 0) + (i.immLo >>> 0);
    this.targetLo = sum | 0;
    this.targetHi = (this.nextHi + i.immHi + (sum > 0xffffffff ? 1 : 0)) | 0;
    if (i.bits !== 64) {
      if (i.size === 2) this.targetLo &= 0xffff;
      this.targetHi = 0;
    }
  }
}

/** Parses an operand specification into what the decoder needs. */
export function operandFlags(operands: string): { modrm: boolean; immediate: number; flags: number } {
  let modrm = false;
  let immediate = 0;
  let flags = 0;
  for (const [n, token] of operands.split(" ").filter(Boolean).entries()) {
    if (n === 0 && (token === "AL" || (token.length === 2 && token.endsWith("b") && !/[IJ]/.test(token[0]!)))) {
      flags |= F_BYTE;
    }
    switch (token[0]) {
      case "E":
      case "G":
      case "S":
      case "V":
      case "W":
      case "P":
      case "Q":
        modrm = true;
        break;
      case "M":
        modrm = true;
        flags |= 64;
        break;
      case "U":
      case "N":
      case "R":
        modrm = true;
        flags |= 128;
        break;
      case "C":
      case "D":
        if (token !== "DX" && token !== "CL") {
          modrm = true;
          flags |= 256;
        }
        break;
      case "I":
        immediate = token === "Ib" ? 1 : token === "Iw" ? 2 : token === "Iz" ? 3 : token === "Iv" ? 4 : 5;
        break;
      case "J":
        immediate = token === "Jb" ? 1 : 8;
        break;
      case "O":
        immediate = 7;
        break;
      case "F":
        immediate = 6;
        break;
    }
  }
  return { modrm, immediate, flags };
}
