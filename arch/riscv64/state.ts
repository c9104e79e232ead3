/**
 * A hart's state in memory 1: one layout from which WebAssembly offsets and TypeScript accessors derive.
 *
 * x[0] is always zero: what instructions write to it goes to `sink`, or is not done. Single-precision values in f are NaN-boxed. `fcsr` is fflags in
 * bits 0 to 4 and frm in bits 5 to 7. `sstatus` always has SD and UXL as a read gives them. `sip` has pins and the software bit alike.
 *
 * The mode cell is MODE_S in S-mode, and the FS field (0 off, 1 clean or initial, 2 dirty) above it: code that is translated for "clean" leaves at its
 * first floating-point instruction, which makes FS dirty, so that dirty code, the usual one, pays nothing.
 */
import { defineLayout, temporary } from "../translate/layout.ts";

export const STATE = defineLayout("riscv64", {
  x: [8, 32],
  f: [8, 32],
  sink: 8,
  fcsr: 8,
  sstatus: 8,
  sie: 8,
  sip: 8,
  stvec: 8,
  sscratch: 8,
  sepc: 8,
  scause: 8,
  stval: 8,
  satp: 8,
  scounteren: 8,
  senvcfg: 8,
  /** Guest-physical address of the root page table and the levels that satp asks for: 0 (bare), 3, 4. */
  root: 8,
  levels: 4,
  /** Machine byte address of the P2m's top table. */
  p2mRoot: 4,
  /** Guest-physical address that the last walk found (for accesses that are no memory). */
  walkGpa: 8,
  /** Virtual pages (address >> 12) between which superpages have been used since the last full flush: low <= page < high. */
  superLow: 8,
  superHigh: 8,
  /** LR's reservation: bytes (0: none), address, and the value read, sign-extended. */
  reserved: 8,
  reservedAddress: 8,
  reservedValue: 8,
  /** The last fault: CAUSE_* or FAULT_*, and what stval becomes. */
  faultCause: 4,
  faultValue: 8,
});

const at = STATE.at;

/** Offsets of registers; `xd` is where a result goes. */
export const x = (n: number): number => at.x + 8 * n;
export const xd = (n: number): number => (n === 0 ? at.sink : at.x + 8 * n);
export const f = (n: number): number => at.f + 8 * n;
export const temp = (i: number): number => temporary(STATE, i);

/** The mode cell. */
export const MODE_S = 1;
export const MODE_FS_SHIFT = 1;
export const MODE_FS_OFF = 0;
export const MODE_FS_CLEAN = 1;
export const MODE_FS_DIRTY = 2;

/** mmu indexes: U-mode, S-mode, S-mode with SUM set. */
export const MMU_U = 0;
export const MMU_S = 1;
export const MMU_S_SUM = 2;
export const MMU_INDEXES = 3;

/** Exception causes (privileged specification, table of scause). */
export const CAUSE_FETCH_ACCESS = 1;
export const CAUSE_ILLEGAL = 2;
export const CAUSE_BREAKPOINT = 3;
export const CAUSE_LOAD_MISALIGNED = 4;
export const CAUSE_LOAD_ACCESS = 5;
export const CAUSE_STORE_MISALIGNED = 6;
export const CAUSE_STORE_ACCESS = 7;
export const CAUSE_ECALL_U = 8;
export const CAUSE_FETCH_PAGE = 12;
export const CAUSE_LOAD_PAGE = 13;
export const CAUSE_STORE_PAGE = 15;
/** Not the guest's: FS becomes dirty and the instruction is done again; an access to MMIO. */
export const FAULT_FS_CLEAN = 0x100;
export const FAULT_MMIO = 0x101;

/** exitDetail of an exit of the hart's. */
export const DETAIL_INTERRUPTS = 1;
export const DETAIL_ECALL = 2;
export const DETAIL_WFI = 3;
export const DETAIL_PAUSE = 4;
export const DETAIL_STOP = 5;

/** sstatus (privileged specification, 4.1.1), low half but where it says. */
export const SSTATUS_SIE = 2;
export const SSTATUS_SPIE = 0x20;
export const SSTATUS_SPP = 0x100;
export const SSTATUS_FS = 0x6000;
export const SSTATUS_SUM = 0x4_0000;
export const SSTATUS_MXR = 0x8_0000;
/** What can be written: SIE, SPIE, SPP, FS, SUM, MXR. */
export const SSTATUS_WRITABLE: number =
  SSTATUS_SIE | SSTATUS_SPIE | SSTATUS_SPP | SSTATUS_FS | SSTATUS_SUM | SSTATUS_MXR;
/** High half: UXL = 2 (64 bits), and SD. */
export const SSTATUS_UXL_HI = 2;
export const SSTATUS_SD_HI = 0x8000_0000;

/** Interrupts that sie can enable: software, timer, external, and all local ones. */
export const SIE_WRITABLE = 0xffff_0222;
/** Of sip the guest itself can write the software bit. */
export const SIP_WRITABLE = 2;
