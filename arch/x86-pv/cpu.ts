/**
 * What the PV port needs of a CPU: registers, segments, address spaces, TLBs. The software CPU implements it (cpu-x86.ts), tests
 * have a plain object.
 *
 * 64-bit values are two unsigned 32-bit halves.
 */

/** General registers by their number in instruction encodings. */
export const RAX = 0;
export const RCX = 1;
export const RDX = 2;
export const RBX = 3;
export const RSP = 4;
export const RBP = 5;
export const RSI = 6;
export const RDI = 7;
export const R8 = 8;
export const R9 = 9;
export const R10 = 10;
export const R11 = 11;

/** Segment registers by their number in instruction encodings. */
export const ES = 0;
export const CS = 1;
export const SS = 2;
export const DS = 3;
export const FS = 4;
export const GS = 5;

/** RFLAGS bits (SDM volume 1, 3.4.3). */
export const FLAG_TF = 0x100;
export const FLAG_IF = 0x200;
export const FLAG_IOPL = 0x3000;
export const FLAG_NT = 0x4000;
export const FLAG_RF = 0x1_0000;
export const FLAG_VM = 0x2_0000;
export const FLAG_AC = 0x4_0000;
/** What user code may change by popf or iret at IOPL 0: all flags of applications, with AC, ID, NT and TF. */
export const FLAGS_USER = 0x24_4dd5 | FLAG_TF;

/** One virtual CPU's register file and translation state. */
export interface PvCpu {
  lo(register: number): number;
  hi(register: number): number;
  set(register: number, lo: number, hi: number): void;
  ripLo(): number;
  ripHi(): number;
  setRip(lo: number, hi: number): void;
  /** The low 32 bits of RFLAGS; bit 1 is set. */
  flags(): number;
  setFlags(flags: number): void;
  selector(segment: number): number;
  baseLo(segment: number): number;
  baseHi(segment: number): number;
  setBase(segment: number, lo: number, hi: number): void;
  /** Loads selector, base, limit and attributes (a descriptor's bytes 5 and 6). */
  setSegment(segment: number, selector: number, base: number, limit: number, attributes: number): void;
  /** The root (an L4 frame) of the guest kernel's or of its user mode's address space; its old translations are gone. */
  setRoot(user: boolean, mfn: number): void;
  /** Which of the two address spaces memory accesses use from now on. */
  setUser(user: boolean): void;
  /** Every translation is gone. */
  flushAll(): void;
  /** Translations of one page are gone. */
  flushPage(lo: number, hi: number): void;
  /** CR0.TS: the next floating-point instruction is #NM. */
  setTaskSwitched(on: boolean): void;
  /** The run ends with this exception, rip at the instruction; `error` only counts where the vector has one. */
  raise(vector: number, error: number): void;
  raisePageFault(code: number, lo: number, hi: number): void;
  /** The value that a system instruction gives to its operand, and the ZF of lar and its kin. */
  setResult(lo: number, hi: number): void;
  setZero(on: boolean): void;
  /** Instructions retired so far in the present run. */
  retired(): number;
  /** Floating-point state from an FXSAVE image of 512 bytes; false: its MXCSR has reserved bits. */
  loadFpu(image: Uint8Array): boolean;
  /** Registers for people. */
  describe(): string;
}
