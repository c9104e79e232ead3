/**
 * The RISC-V CPU as the rest of the port sees it: machines, guests (one address space of guest-physical memory), harts.
 *
 * A machine owns one translation engine for all harts of all domains of the type. A guest is a P2m and the harts that share it. A hart is
 * what the RISC-V privileged specification calls a hart in VS- and VU-mode: the guest knows them as S and U, and the supervisor CSRs by their
 * plain names; there is no M-mode. 64-bit values cross as two 32-bit halves (lo, hi), signed or unsigned as it comes.
 *
 * Invariants: `run` never throws for what a guest does; after it pc, registers and `spent` are exact. Registers may be written only outside of
 * `run` (and from within its callbacks only where said). Exits do not depend on the tier, nor on how runs are sliced.
 */
import type { Engine } from "../translate/engine.ts";
import type { P2m } from "./p2m.ts";

export { P2M_MMIO, P2M_NONE, P2m, type P2mFrames } from "./p2m.ts";

/** Why `RiscvHart.run` returned. The budget is used up, or requestStop ended the run. */
export const HART_BUDGET = 0;
/** ecall in S-mode (SBI, Xen): it has retired, pc is 4 behind it; arguments are in a0 to a7. Write the answer to a0, a1. */
export const HART_ECALL = 1;
/** wfi with nothing pending: it has retired. Run again when `interruptPending`, or whenever you like (wfi may end at any time). */
export const HART_WFI = 2;
/** An access to a page that the P2m calls MMIO: `mmio` says which; answer by finishMmio or failMmio before the next run. */
export const HART_MMIO = 3;
/** pause (Zihintpause): it has retired; the hart spins. */
export const HART_PAUSE = 4;

/** Privilege modes by their number in the specification. */
export const PRIVILEGE_U = 0;
export const PRIVILEGE_S = 1;

/** Interrupt causes (privileged specification, table of scause): also the pins. */
export const IRQ_SOFTWARE = 1;
export const IRQ_TIMER = 5;
export const IRQ_EXTERNAL = 9;
/** The first cause for platform use: local interrupts of the port's own, 16 to 31. Taken after the others, the lowest first. */
export const IRQ_LOCAL = 16;

/** An access that `run` left for the caller to do. One object a hart, reused. */
export interface MmioAccess {
  gpaLo: number;
  gpaHi: number;
  size: 1 | 2 | 4 | 8;
  write: boolean;
  /** What is written; upper bytes are zero. */
  valueLo: number;
  valueHi: number;
}

/** What a machine is made of. */
export interface RiscvMachineOptions {
  /** Machine memory and the 4 KiB frames in it. */
  readonly memory: WebAssembly.Memory;
  readonly frames: number;
  /**
   * The time CSR: ticks of the timebase, a whole number. Called from within run (hart.retiredNow is exact); it may call requestStop, not more.
   */
  readonly time: (hart: RiscvHart) => number;
  readonly tier?: "interpreter" | "oracle";
  readonly codeBytes?: number;
  readonly vcpus?: number;
  /** Samples that make a loop hot (Engine). */
  readonly hotSamples?: number;
}

/** One engine and the harts on it. Made by `createRiscvMachine` (machine.ts). */
export interface RiscvMachine {
  readonly engine: Engine;
  /** A guest: harts that share guest-physical memory. `p2m` may be changed later: what it takes away must be flushed (P2m). */
  createGuest(p2m: P2m): RiscvGuest;
}

export interface RiscvGuest {
  readonly machine: RiscvMachine;
  readonly p2m: P2m;
  readonly harts: readonly RiscvHart[];
  /** A hart in S-mode with all registers and CSRs zero but what the specification fixes (UXL, FS off). Throws where the engine is full. */
  createHart(): RiscvHart;
  /** Releases all harts. */
  destroy(): void;
  /** Every translation of every hart is gone: after the P2m lost or changed an entry (engine.flushFrame does it for one frame). */
  flush(): void;
}

export interface RiscvHart {
  readonly guest: RiscvGuest;
  /** For the caller to hang its own object on. */
  owner: unknown;
  /** Filled when `run` answers HART_MMIO. */
  readonly mmio: MmioAccess;

  /** Integer register 0 to 31 (0 is zero and stays so), as unsigned halves. */
  xLo(n: number): number;
  xHi(n: number): number;
  setX(n: number, lo: number, hi: number): void;
  /** Floating-point register 0 to 31, raw bits. */
  fLo(n: number): number;
  fHi(n: number): number;
  setF(n: number, lo: number, hi: number): void;
  readonly pcLo: number;
  readonly pcHi: number;
  setPc(lo: number, hi: number): void;
  /** PRIVILEGE_U or PRIVILEGE_S. */
  privilege: number;
  /** Reads a CSR as S-mode would, into two words; false: there is no such CSR. time, cycle and instret are as of now. */
  readCsr(number: number, into: Uint32Array): boolean;
  /** Writes one as S-mode would (WARL rules apply); false: no such CSR, or read-only. */
  writeCsr(number: number, lo: number, hi: number): boolean;
  /** As after createHart, for a hart that is started again. */
  reset(): void;

  /** Raises or lowers a pin: IRQ_SOFTWARE sets or clears sip.SSIP (which the guest clears itself), the others are levels. False: no such pin. */
  setPin(cause: number, level: boolean): boolean;
  pin(cause: number): boolean;
  /** sip & sie is not 0: what ends a wfi. */
  readonly interruptPending: boolean;
  /** An interrupt would be taken at the next entry. */
  readonly interruptDeliverable: boolean;

  /** Runs for at most `budget` instructions (below 2^31), taking pending interrupts first. Answers HART_*. */
  run(budget: number): number;
  /** Instructions that the last run took from its budget: those retired, and one for each exception taken. */
  readonly spent: number;
  /** Instructions and exceptions since the hart was made; within a callback of `run` exact, too. */
  readonly retiredNow: number;
  /** Ends the run under way after the present instruction (from within a callback of it). */
  requestStop(): void;
  /** Completes HART_MMIO: the value read (ignored for a write). The instruction is done, and counted, by the next run. */
  finishMmio(lo: number, hi: number): void;
  /** Nobody is there: the next run takes an access fault. */
  failMmio(): void;

  /** Machine byte address of a guest virtual address as the hart sees it now, or -1. `access`: ACCESS_READ, ACCESS_WRITE, ACCESS_EXECUTE. */
  translate(lo: number, hi: number, access: number): number;
  /** Copies from, and to, guest virtual memory as the hart sees it now; every page is checked before the first byte is written. */
  read(lo: number, hi: number, into: Uint8Array): boolean;
  write(lo: number, hi: number, from: Uint8Array): boolean;
  /** sfence.vma of everything, fence.i included (an SBI RFENCE arrives). */
  fence(): void;
  /** sfence.vma of one page. */
  fencePage(lo: number, hi: number): void;
  /** All of the architectural state, in a form of its own version; `restore` answers false for what is none. */
  save(): Uint8Array;
  restore(image: Uint8Array): boolean;
  /** Registers and the instruction at pc, for dumps. */
  describe(): string;
}
