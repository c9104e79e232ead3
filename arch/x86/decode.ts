/**
 * The x86 instruction decoder: bytes to one reused `Instruction` object, without garbage.
 *
 * Design: `decode` walks prefixes, REX, the opcode maps (1-byte, 0F, 0F38, 0F3A), ModRM, SIB, displacement and immediate.
 * What an opcode's operands are comes from the table it is handed (table.ts); the decoder knows only operand kinds.
 * Operand and address size derive from `mode.bits`, so that 16- and 32-bit code needs no other decoder.
 *
 * Invariants: never reads past `limit`; never throws; an instruction is at most 15 bytes (SDM volume 2, section 2.3.11);
 * a LOCK prefix on anything but a lockable form with a memory destination is #UD (SDM volume 2, LOCK).
 */

/** Opcode maps, in the order of their escape bytes. */
export const MAP_ONE = 0;
export const MAP_0F = 1;
export const MAP_0F38 = 2;
export const MAP_0F3A = 3;

/** Mandatory-prefix index of SSE-style tables: none, 66, F3, F2. */
export const PP_NONE = 0;
export const PP_66 = 1;
export const PP_F3 = 2;
export const PP_F2 = 3;

/** Result of `decode`. */
export const DECODE_OK = 0;
/** The bytes end (page end) before the instruction does. */
export const DECODE_MORE = 1;
/** #UD: no such instruction, or a bad LOCK. */
export const DECODE_UNDEFINED = 2;
/** #GP(0): longer than 15 bytes. */
export const DECODE_TOO_LONG = 3;

/** Longest instruction in bytes. */
export const MAX_LENGTH = 15;

/** Immediate kinds. */
export const IMM_NONE = 0;
/** One byte, sign-extended. */
export const IMM_B = 1;
/** Two bytes, zero-extended. */
export const IMM_W = 2;
/** 16 or 32 bits by operand size, sign-extended to 64. */
export const IMM_Z = 3;
/** 16, 32 or 64 bits by operand size (mov r, imm). */
export const IMM_V = 4;
/** iw, ib: `enter`. */
export const IMM_WB = 5;
/** Far pointer: iz, iw (not in 64-bit mode). */
export const IMM_FAR = 6;
/** Memory offset of the address size (mov al, moffs). */
export const IMM_OFFSET = 7;
/** Branch displacement: 32 bits in 64-bit mode whatever the operand-size prefix (Intel's rule), else by operand size. */
export const IMM_JZ = 8;

/** Entry flags. */
export const F_BYTE = 1;
/** Operand size defaults to 64 in 64-bit mode (push, pop, leave...). */
export const F_DEFAULT64 = 2;
/** Operand size is 64 in 64-bit mode (near branches). */
export const F_FORCE64 = 4;
/** LOCK allowed with a memory destination. */
export const F_LOCK = 8;
/** #UD in 64-bit mode. */
export const F_NO64 = 16;
/** Entry is a group: ModRM.reg picks from `group` (index 8 + reg for mod 3 when `groupMod3`). */
export const F_GROUP = 32;
/** Memory form required (mod 3 is #UD). */
export const F_MEMORY = 64;
/** Register form required (mod 3 only). */
export const F_REGISTER = 128;
/** ModRM is present but mod is ignored and treated as 3 (mov cr, dr). */
export const F_MOD3 = 256;
/** The operand-size prefix is mandatory-prefix only and does not set the operand size. */
export const F_SIMD = 512;

/** What the decoder needs to know about an opcode; the table adds its name and lifter. */
export interface OpcodeEntry {
  readonly name: string;
  readonly modrm: boolean;
  readonly immediate: number;
  readonly flags: number;
  /** Sub-entries by ModRM: 0-7 memory forms by reg, 8-15 register forms by reg; 64 more by whole ModRM C0-FF when longer. */
  readonly group: readonly (OpcodeEntry | null)[] | null;
}

/** A table: index (map << 10) | (pp << 8) | opcode. */
export type OpcodeTable<Entry extends OpcodeEntry> = readonly (Entry | null)[];

/** Segment register numbers as encoded. */
export const SEG_ES = 0;
export const SEG_CS = 1;
export const SEG_SS = 2;
export const SEG_DS = 3;
export const SEG_FS = 4;
export const SEG_GS = 5;

/** One decoded instruction; reused by its owner. */
export class Instruction<Entry extends OpcodeEntry = OpcodeEntry> {
  /** Code size in bits: 64, 32 or 16; set by the owner before `decode`. */
  bits: 64 | 32 | 16 = 64;
  entry: Entry | null = null;
  map = 0;
  opcode = 0;
  /** Bytes in all. */
  length = 0;
  /** Mandatory-prefix index as seen: PP_*. */
  pp = 0;
  /** Operand-size prefix (66) seen. */
  operandPrefix = false;
  /** 0, 0xF2 or 0xF3: the last one seen. */
  rep = 0;
  lock = false;
  /** Segment override, or -1. */
  segment = -1;
  /** REX byte, or 0. */
  rex = 0;
  /** Operand size in bytes: 1, 2, 4 or 8. */
  size = 4;
  /** Address size in bytes: 2, 4 or 8. */
  addressSize = 8;
  modrm = 0;
  mod = 0;
  /** ModRM.reg with REX.R. */
  reg = 0;
  /** ModRM.rm with REX.B (register number when mod is 3). */
  rm = 0;
  /** Memory operand: base register or -1, index register or -1, log2 scale, displacement (sign-extended), rip-relative. */
  base = -1;
  index = -1;
  scale = 0;
  displacement = 0;
  ripRelative = false;
  /** Immediate, low and high halves (sign- or zero-extended as its kind says). */
  immLo = 0;
  immHi = 0;
  /** Second immediate: `enter`'s level, a far pointer's selector. */
  imm2 = 0;
}

/** Prefix classes of the legacy prefixes, by byte. */
const PREFIX = new Uint8Array(256);
for (const [byte, kind] of [
  [0x26, 1],
  [0x2e, 1],
  [0x36, 1],
  [0x3e, 1],
  [0x64, 1],
  [0x65, 1],
  [0x66, 2],
  [0x67, 3],
  [0xf0, 4],
  [0xf2, 5],
  [0xf3, 5],
] as const) {
  PREFIX[byte] = kind;
}

/** Decodes the instruction at `bytes[at..limit)`. Answers DECODE_*; on DECODE_OK `out` is filled. */
export function decode<Entry extends OpcodeEntry>(
  table: OpcodeTable<Entry>,
  bytes: Uint8Array,
  at: number,
  limit: number,
  out: Instruction<Entry>,
): number {
  const end = Math.min(at + MAX_LENGTH, limit);
  const short = limit - at < MAX_LENGTH ? DECODE_MORE : DECODE_TOO_LONG;
  const long = out.bits === 64;
  let p = at;
  let rex = 0;
  let rep = 0;
  let operandPrefix = false;
  let addressPrefix = false;
  let lock = false;
  let segment = -1;
  let byte = 0;
  for (;;) {
    if (p >= end) return short;
    byte = bytes[p++]!;
    const kind = PREFIX[byte]!;
    if (kind === 0) {
      if (long && (byte & 0xf0) === 0x40) {
        rex = byte;
        continue;
      }
      break;
    }
    rex = 0; // a legacy prefix after REX voids it (SDM volume 2, 2.2.1)
    if (kind === 1) {
      if (byte >= 0x64) segment = byte - 0x60;
      else if (!long) segment = (byte >> 3) & 3; // in 64-bit mode ES, CS, SS and DS overrides are ignored
    } else if (kind === 2) operandPrefix = true;
    else if (kind === 3) addressPrefix = true;
    else if (kind === 4) lock = true;
    else rep = byte;
  }
  let map = MAP_ONE;
  if (byte === 0x0f) {
    if (p >= end) return short;
    byte = bytes[p++]!;
    map = MAP_0F;
    if (byte === 0x38 || byte === 0x3a) {
      map = byte === 0x38 ? MAP_0F38 : MAP_0F3A;
      if (p >= end) return short;
      byte = bytes[p++]!;
    }
  }
  const pp = rep === 0xf3 ? PP_F3 : rep === 0xf2 ? PP_F2 : operandPrefix ? PP_66 : PP_NONE;
  let entry: Entry | null = table[(map << 10) | (pp << 8) | byte] ?? null;
  if (entry === null) return DECODE_UNDEFINED;
  out.map = map;
  out.opcode = byte;
  out.pp = pp;
  out.operandPrefix = operandPrefix;
  out.rep = rep;
  out.lock = lock;
  out.segment = segment;
  out.rex = rex;
  const addressSize = long ? (addressPrefix ? 4 : 8) : (out.bits === 32) !== addressPrefix ? 4 : 2;
  out.addressSize = addressSize;
  out.base = -1;
  out.index = -1;
  out.scale = 0;
  out.displacement = 0;
  out.ripRelative = false;
  out.mod = 0;
  out.modrm = 0;
  if (entry.modrm) {
    if (p >= end) return short;
    const modrm = bytes[p++]!;
    let mod = modrm >> 6;
    if (entry.group !== null) {
      const group: readonly (OpcodeEntry | null)[] = entry.group;
      const whole = mod === 3 && group.length > 16 ? group[16 + (modrm & 63)] : undefined;
      const sub = whole ?? group[(mod === 3 ? 8 : 0) | ((modrm >> 3) & 7)] ?? null;
      if (sub === null) return DECODE_UNDEFINED;
      entry = sub as Entry;
    }
    if ((entry.flags & F_MOD3) !== 0) mod = 3;
    if (mod === 3 ? (entry.flags & F_MEMORY) !== 0 : (entry.flags & F_REGISTER) !== 0) return DECODE_UNDEFINED;
    out.modrm = modrm;
    out.mod = mod;
    out.reg = ((modrm >> 3) & 7) | ((rex & 4) << 1);
    const rm = modrm & 7;
    out.rm = rm | ((rex & 1) << 3);
    if (mod !== 3) {
      if (addressSize === 2) {
        // 16-bit addressing: BX+SI, BX+DI, BP+SI, BP+DI, SI, DI, BP (or disp16), BX
        let bytesOfDisp = mod;
        if (rm < 4) {
          out.base = rm < 2 ? 3 : 5;
          out.index = 6 + (rm & 1);
        } else if (rm === 6 && mod === 0) bytesOfDisp = 2;
        else out.base = rm === 4 ? 6 : rm === 5 ? 7 : rm === 6 ? 5 : 3;
        if (p + bytesOfDisp > end) return short;
        if (bytesOfDisp === 1) out.displacement = (bytes[p]! << 24) >> 24;
        else if (bytesOfDisp === 2) out.displacement = ((bytes[p]! | (bytes[p + 1]! << 8)) << 16) >> 16;
        p += bytesOfDisp;
      } else {
        let bytesOfDisp = mod === 1 ? 1 : mod === 2 ? 4 : 0;
        if (rm === 4) {
          if (p >= end) return short;
          const sib = bytes[p++]!;
          const index = ((sib >> 3) & 7) | ((rex & 2) << 2);
          if (index !== 4) {
            out.index = index;
            out.scale = sib >> 6;
          }
          if ((sib & 7) === 5 && mod === 0) bytesOfDisp = 4;
          else out.base = (sib & 7) | ((rex & 1) << 3);
        } else if (rm === 5 && mod === 0) {
          bytesOfDisp = 4;
          out.ripRelative = long;
        } else out.base = rm | ((rex & 1) << 3);
        if (p + bytesOfDisp > end) return short;
        if (bytesOfDisp === 1) out.displacement = (bytes[p]! << 24) >> 24;
        else if (bytesOfDisp === 4)
          out.displacement = bytes[p]! | (bytes[p + 1]! << 8) | (bytes[p + 2]! << 16) | (bytes[p + 3]! << 24);
        p += bytesOfDisp;
      }
    }
  } else {
    out.reg = 0;
    out.rm = (byte & 7) | ((rex & 1) << 3);
  }
  const flags = entry.flags;
  if (long && (flags & F_NO64) !== 0) return DECODE_UNDEFINED;
  if (lock && ((flags & F_LOCK) === 0 || out.mod === 3 || !entry.modrm)) return DECODE_UNDEFINED;
  let size: number;
  if ((flags & F_BYTE) !== 0) size = 1;
  else if (long) {
    if ((flags & F_FORCE64) !== 0 || (rex & 8) !== 0) size = 8;
    else if ((flags & F_DEFAULT64) !== 0) size = operandPrefix ? 2 : 8;
    else size = operandPrefix && (flags & F_SIMD) === 0 ? 2 : 4;
  } else size = (out.bits === 32) !== (operandPrefix && (flags & F_SIMD) === 0) ? 4 : 2;
  out.size = size;
  let lo = 0;
  let hi = 0;
  out.imm2 = 0;
  switch (entry.immediate) {
    case IMM_NONE:
      break;
    case IMM_B:
      if (p >= end) return short;
      lo = (bytes[p++]! << 24) >> 24;
      hi = lo >> 31;
      break;
    case IMM_W:
      if (p + 2 > end) return short;
      lo = bytes[p]! | (bytes[p + 1]! << 8);
      p += 2;
      break;
    case IMM_WB:
      if (p + 3 > end) return short;
      lo = bytes[p]! | (bytes[p + 1]! << 8);
      out.imm2 = bytes[p + 2]!;
      p += 3;
      break;
    case IMM_JZ:
    case IMM_Z:
    case IMM_V:
    case IMM_FAR: {
      let bytesOfImm = size === 2 ? 2 : 4;
      if (entry.immediate === IMM_JZ && long) bytesOfImm = 4;
      if (entry.immediate === IMM_V && size === 8) bytesOfImm = 8;
      if (p + bytesOfImm > end) return short;
      if (bytesOfImm === 2) lo = ((bytes[p]! | (bytes[p + 1]! << 8)) << 16) >> 16;
      else lo = bytes[p]! | (bytes[p + 1]! << 8) | (bytes[p + 2]! << 16) | (bytes[p + 3]! << 24);
      hi =
        bytesOfImm === 8
          ? bytes[p + 4]! | (bytes[p + 5]! << 8) | (bytes[p + 6]! << 16) | (bytes[p + 7]! << 24)
          : lo >> 31;
      p += bytesOfImm;
      if (entry.immediate === IMM_FAR) {
        if (p + 2 > end) return short;
        out.imm2 = bytes[p]! | (bytes[p + 1]! << 8);
        p += 2;
      }
      break;
    }
    case IMM_OFFSET:
      if (p + addressSize > end) return short;
      lo = bytes[p]! | (bytes[p + 1]! << 8);
      if (addressSize >= 4) lo |= (bytes[p + 2]! << 16) | (bytes[p + 3]! << 24);
      if (addressSize === 8) hi = bytes[p + 4]! | (bytes[p + 5]! << 8) | (bytes[p + 6]! << 16) | (bytes[p + 7]! << 24);
      p += addressSize;
      break;
  }
  out.immLo = lo;
  out.immHi = hi;
  out.entry = entry;
  out.length = p - at;
  return DECODE_OK;
}
