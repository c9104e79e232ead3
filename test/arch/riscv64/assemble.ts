/** An assembler for tests: one instruction by name and operands, after the decoder's own table. */
import { encodeB, encodeI, encodeJ, encodeR, encodeS, INSTRUCTIONS } from "../../../arch/riscv64/decode.ts";

const BY_NAME = new Map(INSTRUCTIONS.map((e) => [e.name, e]));

/** Operands by name; what is not given is 0. For branches and jumps imm is the offset; for csr instructions imm is the number. */
export interface Operands {
  readonly rd?: number;
  readonly rs1?: number;
  readonly rs2?: number;
  readonly rs3?: number;
  readonly imm?: number;
  /** Rounding mode; default dynamic. */
  readonly rm?: number;
}

/** Encodes an instruction. Throws for a name that is none (a mistake in a test). */
export function asm(name: string, o: Operands = {}): number {
  const e = BY_NAME.get(name);
  if (e === undefined) throw new Error(`no instruction ${name}`);
  const { rd = 0, rs1 = 0, rs2 = 0, rs3 = 0, imm = 0, rm = 7 } = o;
  const match = e.rounds ? e.match | (rm << 12) : e.match;
  switch (e.format) {
    case "R":
      return encodeR(match, rd, rs1, (e.mask & 0x01f00000) === 0 ? rs2 : 0);
    case "amo":
      return encodeR(match, rd, rs1, (e.mask & 0x01f00000) === 0 ? rs2 : 0);
    case "R4":
      return encodeR(match, rd, rs1, rs2) | (rs3 << 27);
    case "I":
      return encodeI(match, rd, rs1, imm);
    case "csr":
    case "csri":
      return encodeI(match, rd, rs1, imm);
    case "shift":
      return encodeI(match, rd, rs1, imm & 63);
    case "shiftw":
      return encodeI(match, rd, rs1, imm & 31);
    case "S":
      return encodeS(match, rs1, rs2, imm);
    case "B":
      return encodeB(match, rs1, rs2, imm);
    case "U":
      return match | (rd << 7) | (imm & 0xfffff000);
    case "J":
      return encodeJ(match, rd, imm);
    default:
      return match;
  }
}

/** Bytes of 32-bit words. */
export function bytesOf(words: readonly number[]): Uint8Array {
  const bytes = new Uint8Array(4 * words.length);
  const view = new DataView(bytes.buffer);
  words.forEach((w, n) => {
    view.setInt32(4 * n, w | 0, true);
  });
  return bytes;
}
