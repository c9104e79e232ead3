/**
 * An x86 vCPU as TypeScript sees it, and the machine that runs them.
 *
 * Design: `X86Machine` owns one translation engine for all vCPUs of an arch plugin; `X86Vcpu` reads and writes one vCPU's state by
 * name. 64-bit values cross as two 32-bit halves (lo, hi), signed or unsigned as it comes: compare with | 0 or >>> 0.
 *
 * Invariants: rip and retired are exact after `run`, and within `X86Platform.system` (rip at the instruction). Register
 * writes outside of these are the caller's responsibility: not while translated code runs.
 */
import { Engine, type TranslatedVcpu } from "../translate/engine.ts";
import { ACCESS_READ, ACCESS_WRITE, EXIT_BUDGET, EXIT_FAULT } from "../translate/ir.ts";
import { type CpuidPolicy, defaultCpuid } from "./cpuid.ts";
import { DECODE_OK, decode, Instruction } from "./decode.ts";
import { CC_EFLAGS, flagsFromHalves } from "./flags.ts";
import { makeHelpers } from "./helpers.ts";
import { fxrstorImage, fxsaveImage } from "./helpers-fpu.ts";
import type { X86Entry } from "./lift/context.ts";
import { makeLift } from "./lift/index.ts";
import { X86_OPS } from "./ops/index.ts";
import { emitWalk, MMU_INDEXES, MMU_SUPERVISOR } from "./paging.ts";
import type { SystemOperation, X86Platform } from "./platform.ts";
import {
  FLAGS_ARITHMETIC,
  gpr,
  MODE_32,
  MODE_64,
  MODE_NO_FPU,
  MODE_SIZE,
  NO_ERROR_CODE,
  RBP,
  RSP,
  STATE,
  segmentBase,
  VECTOR_GP,
  VECTOR_PF,
  VECTOR_SS,
  xmm,
} from "./state.ts";
import { X86_TABLE } from "./table.ts";

/** Why `X86Machine.run` returned. */
/** The budget is used up. */
export const X86_EXIT_BUDGET = 0;
/** An exception at rip: `exceptionVector`, `exceptionError`, `faultAddressLo`, `faultAddressHi`. */
export const X86_EXIT_EXCEPTION = 1;
/** The platform asked for it (SYSTEM_EXIT): `exitReason`. */
export const X86_EXIT_PLATFORM = 2;

const at = STATE.at;

export class X86Vcpu {
  readonly machine: X86Machine;
  readonly translated: TranslatedVcpu;
  /** The platform's own: set by `system` before it answers SYSTEM_EXIT. */
  exitReason = 0;
  /** For the platform to hang its own object on. */
  owner: unknown = null;
  /** Result that `system` answers for the SYS_* that say so. */
  systemResultLo = 0;
  systemResultHi = 0;

  constructor(machine: X86Machine, translated: TranslatedVcpu) {
    this.machine = machine;
    this.translated = translated;
    this.reset();
  }

  /** Zeroes all registers; long mode on, flat, paging off, x87 and SSE at their defaults. */
  reset(): void {
    const t = this.translated;
    t.bytes.fill(0, 0, STATE.bytes);
    this.flags = 2;
    t.set(at.mxcsr, 0x1f80);
    t.set(at.fpuControl, 0x37f);
    // CR0: PE, MP, ET, NE, WP; EFER: SCE, LME, LMA, NXE
    t.set(at.cr0, 0x10033);
    t.set(at.cr4, 0x620);
    t.set(at.efer, 0xd01);
    t.set(at.mmu, MMU_SUPERVISOR);
    t.set(at.faultError, NO_ERROR_CODE);
    this.machine.engine.flushAll(t);
  }

  /** General register `n` (0 rax, 1 rcx, 2 rdx, 3 rbx, 4 rsp, 5 rbp, 6 rsi, 7 rdi, 8-15), low half as unsigned. */
  lo(n: number): number {
    return this.translated.get(gpr(n));
  }
  hi(n: number): number {
    return this.translated.get(gpr(n) + 4);
  }
  set(n: number, lo: number, hi: number): void {
    this.translated.set64(gpr(n), lo, hi);
  }

  get ripLo(): number {
    return this.translated.get(at.pc);
  }
  get ripHi(): number {
    return this.translated.get(at.pc + 4);
  }
  setRip(lo: number, hi: number): void {
    this.translated.set64(at.pc, lo, hi);
  }

  /** RFLAGS, the low 32 bits; the arithmetic flags are worked out. */
  get flags(): number {
    const t = this.translated;
    const arithmetic = flagsFromHalves(
      t.get(at.ccOp),
      t.get(at.ccDst) | 0,
      t.get(at.ccDst + 4) | 0,
      t.get(at.ccSrc) | 0,
      t.get(at.ccSrc + 4) | 0,
    );
    return (t.get(at.rflags) | arithmetic) >>> 0;
  }
  set flags(value: number) {
    const t = this.translated;
    t.set64(at.rflags, (value & ~FLAGS_ARITHMETIC) | 2, 0);
    t.set64(at.ccOp, CC_EFLAGS, 0);
    t.set64(at.ccSrc, value & FLAGS_ARITHMETIC, 0);
    // what is not looked at must not differ between two ways to the same state
    t.set64(at.ccDst, 0, 0);
  }
  /** ZF alone (lar, lsl, verr, verw). */
  setZero(zero: boolean): void {
    this.flags = zero ? this.flags | 0x40 : this.flags & ~0x40;
  }

  /** Selector of segment register SEG_* (0 es, 1 cs, 2 ss, 3 ds, 4 fs, 5 gs; 8 ldtr, 9 tr). */
  selector(segment: number): number {
    return this.translated.get(at.selector + 4 * segment);
  }
  setSelector(segment: number, value: number): void {
    this.translated.set(at.selector + 4 * segment, value & 0xffff);
  }
  baseLo(segment: number): number {
    return this.translated.get(segmentBase(segment));
  }
  baseHi(segment: number): number {
    return this.translated.get(segmentBase(segment) + 4);
  }
  setBase(segment: number, lo: number, hi: number): void {
    this.translated.set64(segmentBase(segment), lo, hi);
  }
  limit(segment: number): number {
    return this.translated.get(at.segmentLimit + 4 * segment);
  }
  attributes(segment: number): number {
    return this.translated.get(at.segmentAttributes + 4 * segment);
  }
  /** Limit in bytes and attributes of a segment cache (state.ts). */
  setLimit(segment: number, limit: number, attributes: number): void {
    this.translated.set(at.segmentLimit + 4 * segment, limit);
    this.translated.set(at.segmentAttributes + 4 * segment, attributes);
  }

  /** Any 32-bit half of the state by offset (STATE.at). */
  getState(offset: number): number {
    return this.translated.get(offset);
  }
  setState(offset: number, value: number): void {
    this.translated.set(offset, value);
  }

  /** The mmu index (paging.ts) that memory accesses use from now on. */
  get mmu(): number {
    return this.translated.get(at.mmu);
  }
  set mmu(index: number) {
    this.translated.set(at.mmu, index);
  }
  /** Top page table of an mmu index, as a frame; its TLB is flushed. The caller has checked that the frame exists. */
  setRoot(index: number, frame: number): void {
    if (frame < 0 || frame >= this.machine.engine.frames) throw new Error("a root page table outside of memory");
    this.translated.set64(at.root + 8 * index, (frame << 12) >>> 0, Math.floor(frame / 0x100000));
    this.machine.engine.flushAll(this.translated, index);
  }
  /** CR0.PG: paging on or off. */
  setPaging(on: boolean): void {
    const cr0 = this.translated.get(at.cr0);
    this.translated.set(at.cr0, on ? cr0 | 0x80000000 : cr0 & 0x7fffffff);
    this.machine.engine.flushAll(this.translated);
  }

  /** CR0.TS or EM: x87, MMX and SSE instructions raise #NM from now on, or no longer. */
  setFpuDisabled(disabled: boolean): void {
    this.mode = disabled ? this.mode | MODE_NO_FPU : this.mode & ~MODE_NO_FPU;
  }

  /** FXSAVE's 512-byte image (64-bit form) out of the vCPU, and into it; false where MXCSR has reserved bits. */
  fxsave(out: DataView): void {
    fxsaveImage(this.machine.engine, this, out);
  }
  fxrstor(from: DataView): boolean {
    return fxrstorImage(this.machine.engine, this, from);
  }

  /** MODE_64, MODE_32 or MODE_16, and MODE_NO_FPU. */
  set mode(mode: number) {
    this.translated.set(at.mode, mode);
  }
  get mode(): number {
    return this.translated.get(at.mode);
  }

  /** 16 bytes of xmm register `n`, a live view. */
  xmm(n: number): Uint8Array {
    return this.translated.bytes.subarray(xmm(n), xmm(n) + 16);
  }

  /** Instructions retired; exact after `run` and within `system` (the running instruction not counted). */
  get retired(): number {
    const machine = this.machine;
    return machine.currentOp === 0
      ? this.translated.retired
      : machine.engine.retiredNow(this.translated, machine.currentOp);
  }

  /** Prepares an exception; `system` then answers SYSTEM_FAULT. Without `error` there is no error code. */
  raise(vector: number, error: number = NO_ERROR_CODE): void {
    const t = this.translated;
    t.set(at.faultVector, vector);
    t.set(at.faultError, error);
  }
  get exceptionVector(): number {
    return this.translated.get(at.faultVector);
  }
  /** Error code, or undefined for an exception that has none. */
  get exceptionError(): number | undefined {
    const error = this.translated.get(at.faultError);
    return error === NO_ERROR_CODE ? undefined : error;
  }
  /** The address of the last page fault (what CR2 is to become). */
  get faultAddressLo(): number {
    return this.translated.get(at.faultAddress);
  }
  get faultAddressHi(): number {
    return this.translated.get(at.faultAddress + 4);
  }

  /** Copies guest memory out, under the present mmu index. false: a page fault, its details are in the exception fields. */
  read(lo: number, hi: number, into: Uint8Array): boolean {
    return this.machine.engine.copyFromGuest(this.translated, lo, hi, into);
  }
  /** Copies into guest memory; every page is checked before the first byte is written. */
  write(lo: number, hi: number, from: Uint8Array): boolean {
    const engine = this.machine.engine;
    for (let done = 0; done < from.length; done += 4096 - (((lo >>> 0) + done) & 4095)) {
      const sum = (lo >>> 0) + done;
      if (engine.translate(this.translated, sum | 0, (hi + (sum > 0xffffffff ? 1 : 0)) | 0, ACCESS_WRITE) < 0) {
        return false;
      }
    }
    return engine.copyToGuest(this.translated, lo, hi, from);
  }

  /** Registers, flags and the bytes at rip, for dumps. */
  describe(): string {
    const hex = (hi: number, lo: number) =>
      (hi >>> 0).toString(16).padStart(8, "0") + (lo >>> 0).toString(16).padStart(8, "0");
    const names = ["rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi"];
    const lines: string[] = [];
    for (let n = 0; n < 16; n += 4) {
      lines.push(
        [0, 1, 2, 3]
          .map((k) => `${(names[n + k] ?? `r${n + k}`).padEnd(3)} ${hex(this.hi(n + k), this.lo(n + k))}`)
          .join("  "),
      );
    }
    const bytes = new Uint8Array(16);
    let shown = "unreadable";
    const saved = [at.faultVector, at.faultError, at.faultAddress, at.faultAddress + 4].map((o) => [
      o,
      this.getState(o),
    ]);
    if (this.read(this.ripLo, this.ripHi, bytes)) {
      shown = Array.from(bytes, (b) => b.toString(16).padStart(2, "0")).join(" ");
    }
    for (const [offset, value] of saved) this.setState(offset!, value!);
    const [es, cs, ss, ds, fs, gs] = [0, 1, 2, 3, 4, 5].map((s) => this.selector(s).toString(16).padStart(4, "0"));
    lines.push(`rip ${hex(this.ripHi, this.ripLo)}  flags ${this.flags.toString(16).padStart(8, "0")}`);
    lines.push(`cs ${cs} ss ${ss} ds ${ds} es ${es} fs ${fs} gs ${gs}`);
    lines.push(`fs ${hex(this.baseHi(4), this.baseLo(4))}  gs ${hex(this.baseHi(5), this.baseLo(5))}`);
    lines.push(`code ${shown}`);
    return lines.join("\n");
  }
}

export interface X86MachineOptions {
  /** Machine memory and the number of 4 KiB frames in it. */
  readonly memory: WebAssembly.Memory;
  readonly frames: number;
  readonly platform: X86Platform;
  readonly cpuid?: CpuidPolicy;
  readonly tier?: "interpreter" | "oracle";
  readonly codeBytes?: number;
  readonly vcpus?: number;
  /** Samples that make a loop hot (Engine). */
  readonly hotSamples?: number;
}

export class X86Machine {
  readonly engine: Engine;
  readonly platform: X86Platform;
  readonly cpuid: CpuidPolicy;
  /** The op whose helper runs now, or 0. */
  currentOp = 0;
  readonly operation: SystemOperation = {
    kind: 0,
    size: 0,
    register: 0,
    index: 0,
    port: 0,
    lo: 0,
    hi: 0,
    rep: 0,
    addressSize: 8,
    segment: -1,
    length: 0,
  };
  readonly #vcpus = new Map<number, X86Vcpu>();
  /** The one that `vcpuAt` found last. */
  #last: X86Vcpu | null = null;
  readonly #fetched = new Uint8Array(16);
  readonly #instruction = new Instruction<X86Entry>();

  constructor(options: X86MachineOptions) {
    this.platform = options.platform;
    this.cpuid = options.cpuid ?? defaultCpuid();
    this.engine = new Engine({
      memory: options.memory,
      frames: options.frames,
      arch: {
        name: "x86",
        layout: STATE,
        ops: X86_OPS,
        mmuIndexes: MMU_INDEXES,
        emitWalk,
        lifter: makeLift,
        helpers: (engine) => makeHelpers(engine, this),
      },
      ...(options.codeBytes === undefined ? {} : { codeBytes: options.codeBytes }),
      ...(options.vcpus === undefined ? {} : { vcpus: options.vcpus }),
      ...(options.tier === undefined ? {} : { tier: options.tier }),
      ...(options.hotSamples === undefined ? {} : { hotSamples: options.hotSamples }),
    });
  }

  /** A new vCPU, reset. */
  createVcpu(): X86Vcpu {
    const translated = this.engine.createVcpu();
    const vcpu = new X86Vcpu(this, translated);
    this.#vcpus.set(translated.base, vcpu);
    return vcpu;
  }
  destroyVcpu(vcpu: X86Vcpu): void {
    this.#vcpus.delete(vcpu.translated.base);
    this.#last = null;
    this.engine.destroyVcpu(vcpu.translated);
  }
  /** The vCPU of a state address (for helpers). */
  vcpuAt(state: number): X86Vcpu {
    const last = this.#last;
    if (last !== null && last.translated.base === state) return last;
    const vcpu = this.#vcpus.get(state);
    if (vcpu === undefined) throw new Error("no vCPU has this state");
    this.#last = vcpu;
    return vcpu;
  }

  /** Runs a vCPU for at most `budget` instructions (below 2^31). Answers X86_EXIT_*. */
  run(vcpu: X86Vcpu, budget: number): number {
    const code = this.engine.run(vcpu.translated, budget);
    if (code === EXIT_BUDGET) return X86_EXIT_BUDGET;
    if (code !== EXIT_FAULT) return X86_EXIT_PLATFORM;
    const t = vcpu.translated;
    const vector = t.get(at.faultVector);
    if (vector === VECTOR_PF) {
      const adjust = this.platform.pageFaultCode;
      if (adjust !== undefined) t.set(at.faultError, adjust.call(this.platform, vcpu, t.get(at.faultError)));
    } else if (vector === VECTOR_GP && t.get(at.faultError) === 0) {
      if (this.#usesStack(vcpu)) t.set(at.faultVector, VECTOR_SS);
      // so that the next #GP is not taken for one of an address
      t.set64(at.faultAddress, 0, 0);
    }
    return X86_EXIT_EXCEPTION;
  }

  /** Was the general-protection fault of a non-canonical address that of a stack access? Decodes the instruction again. */
  #usesStack(vcpu: X86Vcpu): boolean {
    const t = vcpu.translated;
    const hi = t.get(at.faultAddress + 4);
    // #GP for another reason leaves a canonical or stale address: the check below costs only time
    if ((hi >> 15 === 0 || hi >> 15 === -1) && t.get(at.faultVector) === VECTOR_GP) return false;
    const saved = [t.get(at.faultAddress), hi] as const;
    const readable = this.engine.translate(t, vcpu.ripLo | 0, vcpu.ripHi | 0, ACCESS_READ) >= 0;
    let uses = false;
    if (readable) {
      this.#fetched.fill(0x90);
      const room = Math.min(16, 4096 - (vcpu.ripLo & 4095));
      this.engine.copyFromGuest(t, vcpu.ripLo, vcpu.ripHi, this.#fetched.subarray(0, room));
      if (room < 16) {
        const sum = vcpu.ripLo + room;
        this.engine.copyFromGuest(
          t,
          sum | 0,
          (vcpu.ripHi + (sum > 0xffffffff ? 1 : 0)) | 0,
          this.#fetched.subarray(room),
        );
      }
      const i = this.#instruction;
      const size = vcpu.mode & MODE_SIZE;
      i.bits = size === MODE_64 ? 64 : size === MODE_32 ? 32 : 16;
      if (decode(X86_TABLE, this.#fetched, 0, 16, i) === DECODE_OK) {
        const memory = i.entry!.modrm && i.mod !== 3;
        const implicit = IMPLICIT_STACK.test(i.entry!.name);
        uses = implicit || (memory && i.segment < 0 && (i.base === RSP || i.base === RBP));
        if (implicit && memory && i.segment < 0 && i.base !== RSP && i.base !== RBP) {
          // push [rax] and the like: which of the two? The stack's if rsp is near the address
          const rsp = vcpu.hi(RSP);
          uses = rsp >>> 0 === saved[1] >>> 0;
        }
      }
    }
    t.set(at.faultVector, VECTOR_GP);
    t.set(at.faultError, 0);
    t.set64(at.faultAddress, saved[0], saved[1]);
    return uses;
  }
}

/** Instructions whose memory operand is the stack. */
const IMPLICIT_STACK = /^(push|pop|call|ret|enter|leave|iret)/;
