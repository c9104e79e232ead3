/**
 * Supervisor CSRs as a hart in VS-mode sees them: what a read gives, what a write changes (WARL), and what follows from it for translation.
 *
 * Source: privileged specification, chapter Supervisor-Level ISA. Reads are of the cells as they are (state.ts keeps them in the form that a read
 * gives); a write says by its answer what the caller must do.
 */
import type { TranslatedVcpu } from "../translate/engine.ts";
import {
  CSR_FCSR,
  CSR_FFLAGS,
  CSR_FRM,
  CSR_SATP,
  CSR_SCAUSE,
  CSR_SCOUNTEREN,
  CSR_SENVCFG,
  CSR_SEPC,
  CSR_SIE,
  CSR_SIP,
  CSR_SSCRATCH,
  CSR_SSTATUS,
  CSR_STVAL,
  CSR_STVEC,
} from "./lift-system.ts";
import {
  MMU_S,
  MMU_S_SUM,
  MMU_U,
  MODE_FS_CLEAN,
  MODE_FS_DIRTY,
  MODE_FS_OFF,
  MODE_FS_SHIFT,
  MODE_S,
  SIE_WRITABLE,
  SIP_WRITABLE,
  SSTATUS_FS,
  SSTATUS_MXR,
  SSTATUS_SD_HI,
  SSTATUS_SUM,
  SSTATUS_UXL_HI,
  SSTATUS_WRITABLE,
  STATE,
} from "./state.ts";

const at = STATE.at;

/** What a write asks of the caller (bits). There is no such CSR: CSR_NONE. */
export const CSR_DONE = 0;
export const CSR_FLUSH = 1;
export const CSR_NONE = -1;

/** Cells of CSRs; fcsr's parts are special. */
const CELLS = new Map<number, number>([
  [CSR_SSTATUS, at.sstatus],
  [CSR_SIE, at.sie],
  [CSR_STVEC, at.stvec],
  [CSR_SCOUNTEREN, at.scounteren],
  [CSR_SENVCFG, at.senvcfg],
  [CSR_SSCRATCH, at.sscratch],
  [CSR_SEPC, at.sepc],
  [CSR_SCAUSE, at.scause],
  [CSR_STVAL, at.stval],
  [CSR_SIP, at.sip],
  [CSR_SATP, at.satp],
]);

/** satp modes (privileged specification, table of satp.MODE). */
const SATP_BARE = 0;
const SATP_SV39 = 8;
const SATP_SV48 = 9;

/** Privilege and sstatus have changed: the mode and mmu cells follow. */
export function updateMode(t: TranslatedVcpu, supervisor: boolean): void {
  const status = t.get(at.sstatus);
  const fs = status & SSTATUS_FS;
  const floats = fs === 0 ? MODE_FS_OFF : fs === SSTATUS_FS ? MODE_FS_DIRTY : MODE_FS_CLEAN;
  t.set(at.mode, (supervisor ? MODE_S : 0) | (floats << MODE_FS_SHIFT));
  t.set(at.mmu, supervisor ? ((status & SSTATUS_SUM) !== 0 ? MMU_S_SUM : MMU_S) : MMU_U);
}

/** sstatus becomes these bits, as far as they can be written; the mode is the caller's to update. */
export function setStatus(t: TranslatedVcpu, value: number): void {
  const low = value & SSTATUS_WRITABLE;
  t.set(at.sstatus, low);
  t.set(at.sstatus + 4, SSTATUS_UXL_HI | ((low & SSTATUS_FS) === SSTATUS_FS ? SSTATUS_SD_HI : 0));
}

/** Reads one; false: there is none of this number (counters are the hart's matter). */
export function readCsr(t: TranslatedVcpu, number: number, into: Uint32Array): boolean {
  if (number >= CSR_FFLAGS && number <= CSR_FCSR) {
    const fcsr = t.get(at.fcsr);
    into[0] = number === CSR_FFLAGS ? fcsr & 0x1f : number === CSR_FRM ? fcsr >> 5 : fcsr;
    into[1] = 0;
    return true;
  }
  const cell = CELLS.get(number);
  if (cell === undefined) return false;
  into[0] = t.get(cell);
  into[1] = t.get(cell + 4);
  return true;
}

/** Writes one: CSR_*. */
export function writeCsr(t: TranslatedVcpu, number: number, lo: number, hi: number): number {
  switch (number) {
    case CSR_FFLAGS:
      t.set(at.fcsr, (t.get(at.fcsr) & 0xe0) | (lo & 0x1f));
      return CSR_DONE;
    case CSR_FRM:
      t.set(at.fcsr, (t.get(at.fcsr) & 0x1f) | ((lo & 7) << 5));
      return CSR_DONE;
    case CSR_FCSR:
      t.set(at.fcsr, lo & 0xff);
      return CSR_DONE;
    case CSR_SSTATUS: {
      const before = t.get(at.sstatus);
      setStatus(t, lo);
      updateMode(t, (t.get(at.mode) & MODE_S) !== 0);
      return ((before ^ lo) & SSTATUS_MXR) !== 0 ? CSR_FLUSH : CSR_DONE;
    }
    case CSR_SIE:
      t.set64(at.sie, lo & SIE_WRITABLE, 0);
      return CSR_DONE;
    case CSR_SIP:
      t.set(at.sip, (t.get(at.sip) & ~SIP_WRITABLE) | (lo & SIP_WRITABLE));
      return CSR_DONE;
    case CSR_STVEC:
      t.set64(at.stvec, lo & ~2, hi);
      return CSR_DONE;
    case CSR_SCOUNTEREN:
      t.set64(at.scounteren, lo & 7, 0);
      return CSR_DONE;
    case CSR_SENVCFG:
      // FIOM: fences order everything anyhow
      t.set64(at.senvcfg, lo & 1, 0);
      return CSR_DONE;
    case CSR_SEPC:
      t.set64(at.sepc, lo & ~1, hi);
      return CSR_DONE;
    case CSR_SSCRATCH:
    case CSR_SCAUSE:
    case CSR_STVAL:
      t.set64(CELLS.get(number) ?? at.sink, lo, hi);
      return CSR_DONE;
    case CSR_SATP:
      return writeSatp(t, lo, hi);
    default:
      return CSR_NONE;
  }
}

/** A mode that is not there leaves satp as it was; ASID bits are zero. */
function writeSatp(t: TranslatedVcpu, lo: number, hi: number): number {
  const mode = hi >>> 28;
  if (mode !== SATP_BARE && mode !== SATP_SV39 && mode !== SATP_SV48) return CSR_DONE;
  const ppnHi = hi & 0xfff;
  t.set64(at.satp, lo, ((mode << 28) | ppnHi) >>> 0);
  t.set64(at.root, lo << 12, (ppnHi << 12) | (lo >>> 20));
  t.set(at.levels, mode === SATP_BARE ? 0 : mode - 5);
  // a reservation is by virtual address
  t.set(at.reserved, 0);
  return CSR_FLUSH;
}
