/**
 * Exceptions, software interrupts, syscalls and iret of PV guests.
 *
 * What the CPU reports becomes a bounce to the guest's trap table (Xen: pv/traps.c, pv/iret.c, x86_64/traps.c). The guest kernel is virtual
 * CPL 1 for software interrupts, 0 for privileged instructions, though ring 3 runs it.
 *
 * Invariants: nothing here throws because of the guest; false means that the domain cannot go on, and `v.crashed` says why.
 */
import { ABI_X86_64, type Hooks, xen } from "hookvisor";
import { CS, FLAG_IF, FLAG_IOPL, FLAG_VM, FLAGS_USER, R11, RAX, RCX, RSP, SS } from "../cpu.ts";
import { descriptorOf } from "../descriptor-tables.ts";
import { HIGH_LONG, isCode, isData, isPresent, isStack, segmentOf } from "../descriptors.ts";
import type { GuestMemory } from "../mm/walk.ts";
import type { PvVcpu } from "../vcpu-state.ts";
import { type Bounce, hasErrorCode, hex, NO_ERROR } from "./bounce.ts";

const { VMASST_TYPE } = xen;

/** Exception vectors (SDM volume 3, table 6-1). */
export const VECTOR_DB = 1;
export const VECTOR_BP = 3;
export const VECTOR_OF = 4;
export const VECTOR_UD = 6;
export const VECTOR_NM = 7;
export const VECTOR_NP = 11;
export const VECTOR_SS = 12;
export const VECTOR_GP = 13;
export const VECTOR_PF = 14;

/** Page-fault error code bits. */
export const PF_PRESENT = 1;
export const PF_WRITE = 2;
export const PF_USER = 4;
export const PF_RESERVED = 8;
export const PF_FETCH = 16;

/** Error code bit: the index is a vector. */
const CODE_IDT = 2;

const IRET = xen.x86_64.iret_context.at(ABI_X86_64);
const DEBUG_STEP = 0x4000;
const NAMES = [
  "#DE",
  "#DB",
  "NMI",
  "#BP",
  "#OF",
  "#BR",
  "#UD",
  "#NM",
  "#DF",
  "vector 9",
  "#TS",
  "#NP",
  "#SS",
  "#GP",
  "#PF",
];

/** Entries and exits of guest kernels. */
export class Traps {
  readonly bounce: Bounce;
  readonly #memory: GuestMemory;
  readonly #hooks: Hooks;
  readonly #now: () => number;
  readonly #frame = new Uint8Array(IRET.size);
  readonly #view = new DataView(this.#frame.buffer);

  constructor(memory: GuestMemory, bounce: Bounce, hooks: Hooks, now: () => number) {
    this.#memory = memory;
    this.bounce = bounce;
    this.#hooks = hooks;
    this.#now = now;
  }

  /** Gives an exception to the guest; `error` only where the vector has one. */
  inject(v: PvVcpu, vector: number, error: number): boolean {
    if (this.#hooks.trap.isUsed()) this.#hooks.trap.call(v.vcpu, vector, error, this.#now());
    const code = hasErrorCode(vector) ? error : NO_ERROR;
    if (vector === VECTOR_NM && v.taskSwitched) v.setTaskSwitched(false);
    return this.#enter(v, vector, code);
  }

  /** #DB after a single step. */
  injectStep(v: PvVcpu): boolean {
    v.debugLo[6] = (v.debugLo[6]! | DEBUG_STEP) >>> 0;
    return this.inject(v, VECTOR_DB, 0);
  }

  /** A page fault: CR2 goes to vcpu_info too, and the U bit of the code tells the virtual mode. */
  injectPageFault(v: PvVcpu, code: number, lo: number, hi: number): boolean {
    v.cr2Lo = lo;
    v.cr2Hi = hi;
    this.bounce.info.setCr2(v, lo, hi);
    return this.inject(v, VECTOR_PF, v.kernelMode ? code & ~PF_USER : code | PF_USER);
  }

  #enter(v: PvVcpu, vector: number, code: number): boolean {
    const mask = (v.trapFlags[vector]! & xen.TI_IF) !== 0;
    return this.bounce.enter(v, v.trapLo[vector]!, v.trapHi[vector]!, code, mask, false, this.#what(v, vector, code));
  }

  /** The exception in words, for a crash message. */
  #what(v: PvVcpu, vector: number, code: number): string {
    if (v.trapLo[vector] !== 0 || v.trapHi[vector] !== 0) return `Exception ${NAMES[vector] ?? `vector ${vector}`}`;
    const name = NAMES[vector] ?? `vector ${vector}`;
    const error = code === NO_ERROR ? "" : ` with error code 0x${code.toString(16)}`;
    const where = vector === VECTOR_PF ? ` at address ${hex(v.cr2Lo, v.cr2Hi)}` : "";
    return `Exception ${name}${error}${where}`;
  }

  /**
   * A software interrupt of `length` bytes (int n, int3, into): the trap table's DPL decides; refused, it is #GP with the vector in its error
   * code. int3 and into need no permission, as the hardware's gates for them have DPL 3.
   */
  softwareInterrupt(v: PvVcpu, vector: number, length: number): boolean {
    const open = vector === VECTOR_BP || vector === VECTOR_OF;
    const dpl = v.trapFlags[vector]! & xen.TI_DPL_MASK;
    if (!open && dpl < (v.kernelMode ? 1 : 3)) return this.inject(v, VECTOR_GP, (vector << 3) | CODE_IDT);
    this.advance(v, length);
    if (this.#hooks.trap.isUsed()) this.#hooks.trap.call(v.vcpu, vector, 0, this.#now());
    return this.#enter(v, vector, NO_ERROR);
  }

  /** Moves rip on. */
  advance(v: PvVcpu, length: number): void {
    const sum = v.cpu.ripLo() + length;
    v.cpu.setRip(sum >>> 0, sum > 0xffff_ffff ? (v.cpu.ripHi() + 1) >>> 0 : v.cpu.ripHi());
  }

  /** The syscall instruction's own effect: rcx = the next rip, r11 = rflags. rip is moved on. */
  enterSyscall(v: PvVcpu, length: number): void {
    const { cpu } = v;
    this.advance(v, length);
    cpu.set(RCX, cpu.ripLo(), cpu.ripHi());
    cpu.set(R11, (cpu.flags() & ~FLAG_IOPL) | FLAG_IF, 0);
  }

  /** A syscall of the guest's user mode: to the registered callback. rip has been moved on by enterSyscall. */
  userSyscall(v: PvVcpu): boolean {
    const { lo, hi, mask } = v.syscall;
    return this.bounce.enter(v, lo, hi, NO_ERROR, mask, false, "A syscall");
  }

  /** HYPERVISOR_iret: the frame is at the kernel's rsp. */
  iret(v: PvVcpu): boolean {
    const { cpu } = v;
    if (!this.#memory.copyFrom(v.kernelRoot, cpu.lo(RSP), cpu.hi(RSP), this.#frame, IRET.size)) {
      v.crashed = `HYPERVISOR_iret cannot read its frame at ${hex(cpu.lo(RSP), cpu.hi(RSP))}`;
      return false;
    }
    const view = this.#view;
    const { fields } = IRET;
    const cs = fields.cs.getLo(view, 0) & 0xffff;
    const ss = fields.ss.getLo(view, 0) & 0xffff;
    const flags = fields.rflags.getLo(view, 0);
    const toUser = (cs & 3) === 3;
    if (toUser) {
      if (v.userRoot === 0) {
        v.crashed = "HYPERVISOR_iret to user mode without user page tables";
        return false;
      }
      v.setMode(false);
    }
    if ((v.vcpu.domain.vmAssist & (1 << VMASST_TYPE.architectural_iopl)) !== 0) v.iopl = (flags >>> 12) & 3;
    const ripLo = fields.rip.getLo(view, 0);
    const ripHi = fields.rip.getHi(view, 0);
    cpu.setRip(ripLo, ripHi);
    cpu.setFlags(((flags & ~(FLAG_IOPL | FLAG_VM)) | FLAG_IF | 2) >>> 0);
    cpu.set(RSP, fields.rsp.getLo(view, 0), fields.rsp.getHi(view, 0));
    if ((fields.flags.getLo(view, 0) & xen.x86_64.VGCF_in_syscall) === 0) {
      cpu.set(R11, fields.r11.getLo(view, 0), fields.r11.getHi(view, 0));
      cpu.set(RCX, fields.rcx.getLo(view, 0), fields.rcx.getHi(view, 0));
    } else {
      // A return by sysret: its own registers carry rip and rflags.
      cpu.set(RCX, ripLo, ripHi);
      cpu.set(R11, cpu.flags(), 0);
    }
    cpu.set(RAX, fields.rax.getLo(view, 0), fields.rax.getHi(view, 0));
    this.bounce.info.setMask(v, (flags & FLAG_IF) === 0);
    return this.#loadReturnSegments(v, cs | 3, ss | 3, ripHi);
  }

  /** CS and SS of a return to ring 3; what the hardware's iret would refuse goes to the failsafe callback. */
  #loadReturnSegments(v: PvVcpu, cs: number, ss: number, ripHi: number): boolean {
    const code = descriptorOf(v, this.#memory, cs);
    const top = ripHi >>> 15;
    const canonical = top === 0 || top === 0x1_ffff;
    const codeFits = canonical && code !== null && isCode(code[1]);
    const stack = descriptorOf(v, this.#memory, ss);
    // A null SS in ring 3 is refused by hardware; the flat SS is what 64-bit guests use.
    if (!codeFits || stack === null || !isStack(stack[1])) return this.#failsafe(v);
    this.#load(v, CS, cs, code);
    this.#load(v, SS, ss, stack);
    // No 32-bit code is executed: its first instruction is an undefined one, which ends the process and nothing else.
    return (code[1] & HIGH_LONG) !== 0 || this.inject(v, VECTOR_UD, 0);
  }

  #failsafe(v: PvVcpu): boolean {
    const { lo, hi, mask } = v.failsafe;
    return this.bounce.enter(v, lo, hi, NO_ERROR, mask, true, "A return frame is unusable");
  }

  #load(v: PvVcpu, register: number, selector: number, descriptor: readonly [number, number]): void {
    const { base, limit, attributes } = segmentOf(descriptor);
    v.cpu.setSegment(register, selector, base, limit, attributes);
  }

  /**
   * Loads a segment register as the hardware does in ring 3. 0: done; else the exception: vector << 16 | error code.
   */
  loadSegment(v: PvVcpu, register: number, selector: number): number {
    selector &= 0xffff;
    const code = selector & 0xfffc;
    if (code === 0) {
      if (register === SS || register === CS) return VECTOR_GP << 16;
      v.cpu.setSegment(register, selector, 0, 0, 0);
      return 0;
    }
    const descriptor = descriptorOf(v, this.#memory, selector);
    if (descriptor === null) return (VECTOR_GP << 16) | code;
    const high = descriptor[1];
    const dpl = (high >>> 13) & 3;
    if (register === SS) {
      if ((selector & 3) !== 3 || dpl !== 3) return (VECTOR_GP << 16) | code;
      if (!isPresent(high)) return (VECTOR_SS << 16) | code;
      if (!isStack(high)) return (VECTOR_GP << 16) | code;
    } else if (register === CS) {
      if (!isPresent(high)) return (VECTOR_NP << 16) | code;
      if (!isCode(high) || (high & HIGH_LONG) === 0 || (selector & 3) !== 3) return (VECTOR_GP << 16) | code;
    } else {
      if (!isData(high) || dpl !== 3) return (VECTOR_GP << 16) | code;
      if (!isPresent(high)) return (VECTOR_NP << 16) | code;
    }
    this.#load(v, register, selector, descriptor);
    return 0;
  }

  /** The guest's iretq, which stays in its ring: five words at rsp. 0: done; else vector << 16 | error code (a #PF is at rsp). */
  hardwareIret(v: PvVcpu): number {
    const { cpu } = v;
    const frame = new Uint8Array(40);
    if (!this.#memory.copyFrom(v.root, cpu.lo(RSP), cpu.hi(RSP), frame, 40)) return (VECTOR_PF << 16) | PF_USER;
    const view = new DataView(frame.buffer);
    const word = (i: number): [number, number] => [view.getUint32(i * 8, true), view.getUint32(i * 8 + 4, true)];
    const [ripLo, ripHi] = word(0);
    const top = ripHi >>> 15;
    const cs = word(1)[0] & 0xffff;
    const ss = word(4)[0] & 0xffff;
    if (top !== 0 && top !== 0x1_ffff) return VECTOR_GP << 16;
    if ((cs & 3) !== 3) return (VECTOR_GP << 16) | (cs & 0xfffc);
    const failed = this.loadSegment(v, CS, cs) || this.loadSegment(v, SS, ss);
    if (failed !== 0) return failed;
    const flags = word(2)[0];
    cpu.setFlags(((cpu.flags() & ~FLAGS_USER) | (flags & FLAGS_USER) | 2) >>> 0);
    cpu.setRip(ripLo, ripHi);
    cpu.set(RSP, ...word(3));
    return 0;
  }
}
