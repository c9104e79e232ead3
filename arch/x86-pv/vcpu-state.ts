/**
 * The port's state of a PV vCPU beside its registers: virtual privilege, roots, trap table, callbacks, descriptor tables.
 *
 * Design (Xen: struct pv_vcpu): guest kernel and guest user both run in ring 3; which of them is a flag here, each with a root of its own
 * and a GS base of its own, switched together by `setMode`. References: a root is a page and type reference of an L4 table, a GDT
 * frame and a shadowed LDT page one of a descriptor page.
 *
 * Invariant: every frame named here is referenced; `release` gives all back.
 */
import type { Vcpu } from "hookvisor";
import type { PvCpu } from "./cpu.ts";
import { GS } from "./cpu.ts";
import type { PageTables } from "./mm/page-tables.ts";
import { TYPE_SEGMENTS } from "./mm/pte.ts";

/** A registered entry point of the guest kernel. */
export interface Callback {
  lo: number;
  hi: number;
  /** Events are masked on entry. */
  mask: boolean;
}

/** LDT pages: 8192 descriptors. */
const LDT_PAGES = 16;

export class PvVcpu {
  readonly vcpu: Vcpu;
  readonly cpu: PvCpu;
  readonly tables: PageTables;
  /** The guest's kernel runs (TF_kernel_mode). */
  kernelMode = true;
  /** L4 frames; 0: none. */
  kernelRoot = 0;
  userRoot = 0;
  /** Trap table: set_trap_table. */
  readonly trapFlags = new Uint8Array(256);
  readonly trapLo = new Uint32Array(256);
  readonly trapHi = new Uint32Array(256);
  readonly trapSelector = new Uint16Array(256);
  readonly event: Callback = { lo: 0, hi: 0, mask: true };
  readonly failsafe: Callback = { lo: 0, hi: 0, mask: false };
  readonly syscall: Callback = { lo: 0, hi: 0, mask: false };
  readonly syscall32: Callback = { lo: 0, hi: 0, mask: false };
  readonly sysenter: Callback = { lo: 0, hi: 0, mask: false };
  /** Stack for entries from user mode: stack_switch. */
  kernelSs = 0;
  kernelSpLo = 0;
  kernelSpHi = 0;
  /** GS base of the mode that does not run now. */
  otherGsLo = 0;
  otherGsHi = 0;
  /** Virtual IOPL, 0 to 3. */
  iopl = 0;
  /** CR0.TS as the guest set it. */
  taskSwitched = false;
  cr2Lo = 0;
  cr2Hi = 0;
  /** CR4 as the guest reads it. */
  cr4 = 0;
  /** dr0 to dr3, dr6, dr7 (index 6 and 7); 4 and 5 are unused. */
  readonly debugLo = new Uint32Array(8);
  readonly debugHi = new Uint32Array(8);
  gdtFrames: number[] = [];
  gdtEntries = 0;
  ldtLo = 0;
  ldtHi = 0;
  ldtEntries = 0;
  /** Frames behind the LDT's pages, once looked at; -1: not yet. */
  readonly ldtFrames = new Int32Array(LDT_PAGES).fill(-1);
  /** Time of the last flush that this vCPU's TLB has seen. */
  flushed = 0;
  /** Not empty: the domain cannot go on, and why. */
  crashed = "";

  constructor(vcpu: Vcpu, cpu: PvCpu, tables: PageTables) {
    this.vcpu = vcpu;
    this.cpu = cpu;
    this.tables = tables;
    this.debugLo[6] = 0xffff_0ff0;
    this.debugLo[7] = 0x400;
  }

  /** Switches between guest kernel and guest user: root and GS base with it (toggle_guest_mode). */
  setMode(kernel: boolean): void {
    if (this.kernelMode === kernel) return;
    this.kernelMode = kernel;
    const lo = this.cpu.baseLo(GS);
    const hi = this.cpu.baseHi(GS);
    this.cpu.setBase(GS, this.otherGsLo, this.otherGsHi);
    this.otherGsLo = lo;
    this.otherGsHi = hi;
    this.cpu.setUser(!kernel);
  }

  /** The root that translates now. */
  get root(): number {
    return this.kernelMode ? this.kernelRoot : this.userRoot;
  }

  /** Sets and clears CR0.TS. */
  setTaskSwitched(on: boolean): void {
    this.taskSwitched = on;
    this.cpu.setTaskSwitched(on);
  }

  /** Forgets the guest's GDT. */
  releaseGdt(): void {
    for (const mfn of this.gdtFrames) this.tables.putPageAndType(mfn);
    this.gdtFrames = [];
    this.gdtEntries = 0;
  }

  /** Forgets the shadowed pages of the LDT; true: there were some. */
  releaseLdt(): boolean {
    let any = false;
    for (let i = 0; i < LDT_PAGES; i++) {
      const mfn = this.ldtFrames[i]!;
      if (mfn < 0) continue;
      this.ldtFrames[i] = -1;
      this.tables.putPageAndType(mfn);
      any = true;
    }
    return any;
  }

  /** The frame of LDT page `page` as a page of descriptors; `mfn` is what the guest's page tables map there. False: it is no such page. */
  shadowLdt(page: number, mfn: number): boolean {
    if (this.tables.getPageAndType(mfn, TYPE_SEGMENTS, this.vcpu.domain.id) !== 0) return false;
    this.ldtFrames[page] = mfn;
    return true;
  }

  /** Gives every reference back. */
  release(): void {
    this.releaseGdt();
    this.releaseLdt();
    if (this.kernelRoot !== 0) this.tables.putPageAndType(this.kernelRoot);
    if (this.userRoot !== 0) this.tables.putPageAndType(this.userRoot);
    this.kernelRoot = 0;
    this.userRoot = 0;
  }
}
