/**
 * What the x86 library asks of the plugin that uses it: everything that depends on who the guest believes it runs on.
 *
 * Design: user-mode semantics live in this library; a system instruction (cpuid, mov cr, in, out, syscall, int, iret, segment
 * loads...) becomes one call of `X86Platform.system` with the decoded operation in one reused object. A paravirtual
 * platform refuses, emulates or leaves the run; a hardware-like platform (HVM) does what the SDM says.
 *
 * Invariants: `system` runs with rip at the instruction; nothing of it has been done yet except that operands were read.
 * It never throws because of guest input.
 */
import type { X86Vcpu } from "./vcpu.ts";

/** System operations. */
export const SYS_CPUID = 0;
/** Result in edx:eax, upper halves zero. */
export const SYS_RDTSC = 1;
export const SYS_RDTSCP = 2;
export const SYS_RDPMC = 3;
export const SYS_RDMSR = 4;
export const SYS_WRMSR = 5;
/** `port`, `size`; the result goes to al, ax or eax. */
export const SYS_IN = 6;
/** `port`, `size`, `lo` the value. */
export const SYS_OUT = 7;
/** ins and outs, one element an operation; `rep` tells the prefix; the platform does all of it, rdi, rsi and rcx included. */
export const SYS_INS = 8;
export const SYS_OUTS = 9;
export const SYS_CLI = 10;
export const SYS_STI = 11;
export const SYS_HLT = 12;
/** `index` is the control or debug register, `register` the general register. */
export const SYS_READ_CR = 13;
/** As SYS_READ_CR; the value is also in `lo`, `hi`. */
export const SYS_WRITE_CR = 14;
export const SYS_READ_DR = 15;
export const SYS_WRITE_DR = 16;
/** Memory operand's address in `lo`, `hi`. */
export const SYS_LGDT = 17;
export const SYS_LIDT = 18;
export const SYS_SGDT = 19;
export const SYS_SIDT = 20;
/** Selector in `lo`. */
export const SYS_LLDT = 21;
export const SYS_LTR = 22;
/** The platform answers the value by `vcpu.systemResult` (lo, hi): it goes to the operand. */
export const SYS_SLDT = 23;
export const SYS_STR = 24;
export const SYS_SMSW = 25;
export const SYS_LMSW = 26;
/** Address in `lo`, `hi`. */
export const SYS_INVLPG = 27;
export const SYS_SWAPGS = 28;
export const SYS_CLTS = 29;
export const SYS_WBINVD = 30;
export const SYS_SYSCALL = 31;
export const SYS_SYSRET = 32;
export const SYS_SYSENTER = 33;
export const SYS_SYSEXIT = 34;
/** `size` is the operand size. */
export const SYS_IRET = 35;
/** `index` the vector. int3 and into come here too, with `register` their kind: 0 int n, 1 int3, 2 into, 3 int1. */
export const SYS_INT = 36;
/** Far transfers: `lo`, `hi` the offset, `index` the selector, `size` the operand size; far return: `lo` bytes to release. */
export const SYS_FAR_CALL = 37;
export const SYS_FAR_JUMP = 38;
export const SYS_FAR_RETURN = 39;
/** mov sreg, pop sreg, lss...: `index` the segment register, `lo` the selector; caches and selector are the platform's to set. */
export const SYS_LOAD_SEGMENT = 40;
/** lar, lsl, verr, verw: `lo` the selector; result by `vcpu.systemResult`, and ZF by `vcpu.setZero`. */
export const SYS_LAR = 41;
export const SYS_LSL = 42;
export const SYS_VERR = 43;
export const SYS_VERW = 44;
/** vmcall and vmmcall. */
export const SYS_VMCALL = 45;
export const SYS_XGETBV = 46;
export const SYS_XSETBV = 47;
/** monitor, mwait. */
export const SYS_MONITOR = 48;
export const SYS_MWAIT = 49;
/** pushf: the flags word that the guest sees is the platform's (IF, IOPL): result by `vcpu.systemResult`. */
export const SYS_READ_FLAGS = 50;
/** popf: `lo` the new flags word, `size` its size; the library has not touched any flag. */
export const SYS_WRITE_FLAGS = 51;
/** rdfsbase and its kin: `index` SEG_FS or SEG_GS, `size` 4 or 8; result by `vcpu.systemResult`. */
export const SYS_READ_BASE = 52;
/** wrfsbase: `lo`, `hi` the new base (upper half zero for size 4). Non-canonical is #GP. */
export const SYS_WRITE_BASE = 53;
/** pause (rep nop): a hint that the vCPU spins. */
export const SYS_PAUSE = 54;
/** invpcid: type in `index`, descriptor's address in `lo`, `hi`. */
export const SYS_INVPCID = 55;

/** Results of `X86Platform.system`. */
/** Done: go on behind the instruction. */
export const SYSTEM_NEXT = 0;
/** `vcpu.raise` has been called: the run ends with EXIT_EXCEPTION, rip at the instruction, which has not retired. */
export const SYSTEM_FAULT = 1;
/** Done, and the run ends with EXIT_PLATFORM, rip behind the instruction (which has retired); `vcpu.exitReason` is the platform's own. */
export const SYSTEM_EXIT = 2;
/** Done, and the platform has set rip (perhaps mode, root and registers): go on there. The instruction has retired. */
export const SYSTEM_JUMP = 3;
/** As SYSTEM_JUMP, and the run ends with EXIT_PLATFORM. */
export const SYSTEM_JUMP_EXIT = 4;

/** What a system instruction asks; one object per machine, reused. Fields as the SYS_* say; others are meaningless. */
export interface SystemOperation {
  kind: number;
  /** Operand size in bytes. */
  size: number;
  register: number;
  index: number;
  port: number;
  lo: number;
  hi: number;
  /** 0, 0xF2 or 0xF3. */
  rep: number;
  /** Address size in bytes (ins, outs). */
  addressSize: number;
  /** Segment of the source (outs). */
  segment: number;
  /** Length of the instruction in bytes. */
  length: number;
}

/** What the plugin provides. */
export interface X86Platform {
  /** Does a system instruction: answers SYSTEM_*. */
  system(vcpu: X86Vcpu, operation: SystemOperation): number;
  /**
   * What the error code of a page fault must become and whether it is the guest's at all; called before the exit. The raw
   * code has P, W/R, U/S by the page tables and the mmu index (SDM volume 3, 4.7). Absent: as it is.
   */
  pageFaultCode?(vcpu: X86Vcpu, code: number): number;
}
