/**
 * The x86 vCPU state: one layout from which WebAssembly offsets and TypeScript accessors derive.
 *
 * Flags are lazy: `ccOp` names what produced the arithmetic flags last, `ccDst` and `ccSrc` hold its values (flags.ts); the
 * other bits of RFLAGS (TF, IF, DF, IOPL...) live in `rflags`, DF again as +1 or -1 in nothing: helpers read the bit.
 * Segment caches hold what a descriptor load left: base (64 bits), limit (bytes, page-scaled), attributes (as a
 * descriptor's bytes 5 and 6: type, S, DPL, P, AVL, L, D/B, G in bits 0-7 and 12-15, SDM volume 3, 3.4.5).
 * x87 registers are 16 bytes each in physical order: significand (8), sign and exponent (2), padding.
 */
import { defineLayout, temporary, vectorTemporary } from "../translate/layout.ts";

export const STATE = defineLayout("x86", {
  /** rax rcx rdx rbx rsp rbp rsi rdi r8..r15, the encoding's order. */
  gpr: [8, 16],
  ccOp: 8,
  /** RFLAGS but CF PF AF ZF SF OF; bit 1 is always 1. */
  rflags: 8,
  ccDst: 8,
  ccSrc: 8,
  /** Segment bases by SEG_* number (es cs ss ds fs gs), then gdtr, idtr, ldtr, tr. */
  segmentBase: [8, 10],
  segmentLimit: [4, 10],
  segmentAttributes: [4, 10],
  selector: [4, 10],
  xmm: [16, 16],
  mxcsr: 4,
  fpuControl: 4,
  fpuStatus: 4,
  /** x87 tags: bit i set when physical register i holds a value (FXSAVE's abridged form). */
  fpuTags: 4,
  fpuOpcode: 4,
  fpuInstruction: 8,
  fpuData: 8,
  fpuRegister: [16, 8],
  cr0: 8,
  cr2: 8,
  cr3: 8,
  /** Physical address of the top page table by mmu index (paging.ts). */
  root: [8, 4],
  cr4: 8,
  cr8: 8,
  efer: 8,
  kernelGsBase: 8,
  dr: [8, 8],
  /** The last fault: vector, error code (or NO_ERROR_CODE), and CR2 for a page fault in `faultAddress`. */
  faultVector: 4,
  faultError: 4,
  faultAddress: 8,
  /** What stopped the run for the platform: SYSTEM_* operation, software interrupt vector, and lengths. */
  exitKind: 4,
  exitValue: 4,
  /** Bytes of the instruction that made a helper run (so that it can move the pc itself). */
  instructionLength: 4,
  /** Scratch of helpers: addresses and 16-byte values on their way to and from TypeScript. */
  helperAddress: 8,
  helperValue: 16,
});

/** The `mode` cell: code size in the low two bits; MODE_NO_FPU while CR0.TS or EM is set (#NM). */
export const MODE_64 = 0;
export const MODE_32 = 1;
export const MODE_16 = 2;
export const MODE_SIZE = 3;
export const MODE_NO_FPU = 4;

/** Register numbers. */
export const RAX = 0;
export const RCX = 1;
export const RDX = 2;
export const RBX = 3;
export const RSP = 4;
export const RBP = 5;
export const RSI = 6;
export const RDI = 7;

/** Segment cache indexes beyond SEG_*. */
export const SEGMENT_GDTR = 6;
export const SEGMENT_IDTR = 7;
export const SEGMENT_LDTR = 8;
export const SEGMENT_TR = 9;

/** `faultError` of an exception without an error code. */
export const NO_ERROR_CODE = 0xffffffff;

/** RFLAGS bits (SDM volume 1, 3.4.3). */
export const FLAG_CF = 1;
export const FLAG_PF = 4;
export const FLAG_AF = 0x10;
export const FLAG_ZF = 0x40;
export const FLAG_SF = 0x80;
export const FLAG_TF = 0x100;
export const FLAG_IF = 0x200;
export const FLAG_DF = 0x400;
export const FLAG_OF = 0x800;
export const FLAG_IOPL = 0x3000;
export const FLAG_NT = 0x4000;
export const FLAG_RF = 0x10000;
export const FLAG_VM = 0x20000;
export const FLAG_AC = 0x40000;
export const FLAG_VIF = 0x80000;
export const FLAG_VIP = 0x100000;
export const FLAG_ID = 0x200000;
/** The six arithmetic flags. */
export const FLAGS_ARITHMETIC = 0x8d5;

/** Exception vectors (SDM volume 3, table 6-1). */
export const VECTOR_DE = 0;
export const VECTOR_DB = 1;
export const VECTOR_BP = 3;
export const VECTOR_OF = 4;
export const VECTOR_UD = 6;
export const VECTOR_NM = 7;
export const VECTOR_TS = 10;
export const VECTOR_NP = 11;
export const VECTOR_SS = 12;
export const VECTOR_GP = 13;
export const VECTOR_PF = 14;
export const VECTOR_MF = 16;
export const VECTOR_AC = 17;
export const VECTOR_XM = 19;

/** Offset of general register `n`. */
export function gpr(n: number): number {
  return STATE.at.gpr + 8 * n;
}

/** Offset of xmm register `n`. */
export function xmm(n: number): number {
  return STATE.at.xmm + 16 * n;
}

/** Offset of x87 physical register `n`, whose significand MMX aliases. */
export function fpuRegister(n: number): number {
  return STATE.at.fpuRegister + 16 * n;
}

/** Offset of a segment base cell. */
export function segmentBase(n: number): number {
  return STATE.at.segmentBase + 8 * n;
}

/** Offset of temporary `i` (64 bits), and of vector temporary `i` (128 bits). */
export function temp(i: number): number {
  return temporary(STATE, i);
}
export function vtemp(i: number): number {
  return vectorTemporary(STATE, i);
}
