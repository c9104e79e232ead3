/**
 * System instructions of PV guests: emulated for the guest kernel, refused for its user mode (Xen: pv/emul-priv-op.c).
 *
 * Both run in ring 3, so most of these are #GP by hardware and Xen emulates them; what ring 3 may do (cpuid, rdtsc, segment loads,
 * pushf, iretq to itself) is done as the hardware would. Reads of ports give all ones: no domain has one.
 *
 * Invariants: nothing throws because of the guest; every answer is one of SYSTEM_*; exits say their reason by `exit`.
 */
import type { ArchHost } from "hookvisor";
import type { CpuidPolicy } from "../x86/cpuid.ts";
import * as op from "../x86/platform.ts";
import { CS, FLAG_IF, FLAG_IOPL, FLAG_TF, FLAGS_USER, FS, GS, RAX, RBX, RCX, RDI, RDX, RSI, RSP } from "./cpu.ts";
import { getDebug, setDebug } from "./debug-registers.ts";
import { descriptorOf } from "./descriptor-tables.ts";
import { isCode, isData, segmentOf } from "./descriptors.ts";
import { canonical } from "./mm/pte.ts";
import { setKernelRoot } from "./mm/roots.ts";
import type { GuestMemory } from "./mm/walk.ts";
import { type Traps, VECTOR_DB, VECTOR_GP, VECTOR_PF, VECTOR_UD } from "./traps/exceptions.ts";
import type { PvVcpu } from "./vcpu-state.ts";

/** Why the run ended, beside exceptions. */
export const EXIT_HYPERCALL = 1;
export const EXIT_CRASHED = 2;

/** CR0 as a guest reads it, but TS: PE, MP, ET, NE, WP, AM, PG. */
const CR0 = 0x8005_0033;
const CR0_TS = 8;
/** CR4 as a guest starts with it: PAE, OSFXSR, OSXMMEXCPT, DE as Xen's mask lets them through. */
export const CR4 = 0x628;
/** CR4 bits that a guest may change for itself: TSD, DE. */
const CR4_GUEST = 0xc;

/** Model-specific registers (SDM volume 4; AMD APM volume 2, appendix A). */
const MSR_FS_BASE = 0xc000_0100;
const MSR_GS_BASE = 0xc000_0101;
const MSR_KERNEL_GS_BASE = 0xc000_0102;
const MSR_TSC_AUX = 0xc000_0103;
const MSR_EFER = 0xc000_0080;
const MSR_PAT = 0x277;
const MSR_UCODE = 0x8b;
const MSR_MISC_ENABLE = 0x1a0;
const MSR_APIC_BASE = 0x1b;
/** SCE, LME, LMA, NXE. */
const EFER = 0xd01;

export class PrivilegedOps {
  readonly #host: ArchHost;
  readonly #memory: GuestMemory;
  readonly #traps: Traps;
  readonly #cpuid: CpuidPolicy;
  readonly #strict: (v: PvVcpu) => boolean;
  /** What ended the run, after SYSTEM_EXIT and SYSTEM_JUMP_EXIT: EXIT_*. */
  exit = 0;

  constructor(host: ArchHost, memory: GuestMemory, traps: Traps, cpuid: CpuidPolicy, strict: (v: PvVcpu) => boolean) {
    this.#host = host;
    this.#memory = memory;
    this.#traps = traps;
    this.#cpuid = cpuid;
    this.#strict = strict;
  }

  /** Does a system instruction for the vCPU: SYSTEM_*. */
  system(v: PvVcpu, o: op.SystemOperation): number {
    const { cpu } = v;
    switch (o.kind) {
      case op.SYS_SYSCALL:
        return this.#syscall(v, o.length);
      case op.SYS_PAUSE:
        return op.SYSTEM_NEXT;
      case op.SYS_CPUID:
        this.cpuid(v);
        return op.SYSTEM_NEXT;
      case op.SYS_RDTSC:
        this.#setTsc(v);
        return op.SYSTEM_NEXT;
      case op.SYS_RDTSCP:
        this.#setTsc(v);
        cpu.set(RCX, 0, 0);
        return op.SYSTEM_NEXT;
      case op.SYS_INT:
        return this.#interrupt(v, o);
      case op.SYS_IRET:
        return this.#refusedOr(
          v,
          this.#traps.hardwareIret(v),
          this.#stepping(v) ? op.SYSTEM_JUMP_EXIT : op.SYSTEM_JUMP,
        );
      case op.SYS_LOAD_SEGMENT:
        return this.#refusedOr(v, this.#traps.loadSegment(v, o.index, o.lo), op.SYSTEM_NEXT);
      case op.SYS_FAR_JUMP:
      case op.SYS_FAR_CALL:
        return this.#farTransfer(v, o);
      case op.SYS_FAR_RETURN:
        return this.#farReturn(v, o);
      case op.SYS_READ_FLAGS: {
        const flags = (cpu.flags() & ~FLAG_IOPL) | FLAG_IF;
        cpu.setResult(flags >>> 0, 0);
        return op.SYSTEM_NEXT;
      }
      case op.SYS_WRITE_FLAGS: {
        const may = o.size === 2 ? FLAGS_USER & 0xffff : FLAGS_USER;
        cpu.setFlags(((cpu.flags() & ~may) | (o.lo & may) | 2) >>> 0);
        return this.#stepping(v) ? op.SYSTEM_EXIT : op.SYSTEM_NEXT;
      }
      case op.SYS_READ_BASE:
        cpu.setResult(cpu.baseLo(o.index), o.size === 8 ? cpu.baseHi(o.index) : 0);
        return op.SYSTEM_NEXT;
      case op.SYS_WRITE_BASE:
        if (!canonical(o.hi)) return this.#fault(v);
        cpu.setBase(o.index, o.lo, o.hi);
        return op.SYSTEM_NEXT;
      case op.SYS_SMSW:
        cpu.setResult((CR0 | (v.taskSwitched ? CR0_TS : 0)) >>> 0, 0);
        return op.SYSTEM_NEXT;
      case op.SYS_LAR:
      case op.SYS_LSL:
      case op.SYS_VERR:
      case op.SYS_VERW:
        this.#inspect(v, o);
        return op.SYSTEM_NEXT;
      case op.SYS_VMCALL:
      case op.SYS_XGETBV:
      case op.SYS_XSETBV:
      case op.SYS_MONITOR:
      case op.SYS_MWAIT:
      case op.SYS_SYSENTER:
        cpu.raise(VECTOR_UD, 0);
        return op.SYSTEM_FAULT;
      case op.SYS_IN:
      case op.SYS_OUT:
      case op.SYS_INS:
      case op.SYS_OUTS:
        return this.#portAllowed(v) ? this.#port(v, o) : this.#fault(v);
      case op.SYS_CLI:
      case op.SYS_STI:
        // With a virtual IOPL that allows them they do nothing: the upcall mask is another thing.
        return this.#portAllowed(v) ? op.SYSTEM_NEXT : this.#fault(v);
      default:
        return v.kernelMode ? this.#kernelOnly(v, o) : this.#fault(v);
    }
  }

  /** Instructions that Xen emulates for the guest's kernel only. */
  #kernelOnly(v: PvVcpu, o: op.SystemOperation): number {
    const { cpu } = v;
    switch (o.kind) {
      case op.SYS_CLTS:
        v.setTaskSwitched(false);
        return op.SYSTEM_NEXT;
      case op.SYS_WBINVD:
        return op.SYSTEM_NEXT;
      case op.SYS_READ_CR:
        return this.#readControl(v, o);
      case op.SYS_WRITE_CR:
        return this.#writeControl(v, o);
      case op.SYS_READ_DR: {
        const value = getDebug(v, o.index);
        if (value === null) return this.#fault(v);
        cpu.set(o.register, value.lo, value.hi);
        return op.SYSTEM_NEXT;
      }
      case op.SYS_WRITE_DR:
        return setDebug(v, o.index, o.lo, o.hi) ? op.SYSTEM_NEXT : this.#fault(v);
      case op.SYS_RDMSR:
        return this.#readMsr(v);
      case op.SYS_WRMSR:
        return this.#writeMsr(v);
      default:
        return this.#fault(v);
    }
  }

  /** Is TF set? Then the run ends, because the next one is of one instruction. */
  #stepping(v: PvVcpu): boolean {
    return (v.cpu.flags() & FLAG_TF) !== 0;
  }

  #fault(v: PvVcpu, code = 0): number {
    v.cpu.raise(VECTOR_GP, code);
    return op.SYSTEM_FAULT;
  }

  /** `failed` is 0 or vector << 16 | error code. */
  #refusedOr(v: PvVcpu, failed: number, done: number): number {
    if (failed === 0) return done;
    if (failed >>> 16 === VECTOR_PF) v.cpu.raisePageFault(failed & 0xffff, v.cpu.lo(RSP), v.cpu.hi(RSP));
    else v.cpu.raise(failed >>> 16, failed & 0xffff);
    return op.SYSTEM_FAULT;
  }

  #syscall(v: PvVcpu, length: number): number {
    if (v.kernelMode) {
      this.#traps.enterSyscall(v, length);
      this.exit = EXIT_HYPERCALL;
      return op.SYSTEM_JUMP_EXIT;
    }
    if (v.syscall.lo === 0 && v.syscall.hi === 0) {
      v.cpu.raise(VECTOR_UD, 0);
      return op.SYSTEM_FAULT;
    }
    this.#traps.enterSyscall(v, length);
    if (this.#traps.userSyscall(v)) return op.SYSTEM_JUMP;
    this.exit = EXIT_CRASHED;
    return op.SYSTEM_JUMP_EXIT;
  }

  #interrupt(v: PvVcpu, o: op.SystemOperation): number {
    // int1 is a hardware breakpoint exception, after the instruction.
    if (o.register === 3) {
      this.#traps.advance(v, o.length);
      return this.#entered(this.#traps.inject(v, VECTOR_DB, 0));
    }
    return this.#entered(this.#traps.softwareInterrupt(v, o.index, o.length));
  }

  #entered(alive: boolean): number {
    if (alive) return op.SYSTEM_JUMP;
    this.exit = EXIT_CRASHED;
    return op.SYSTEM_JUMP_EXIT;
  }

  /** CPUID by eax and ecx; also what the forced-emulation prefix does. */
  cpuid(v: PvVcpu): void {
    const { cpu } = v;
    const asked = cpu.lo(RAX);
    const leaf = this.#cpuid.get(asked, cpu.lo(RCX));
    // The initial APIC id of leaf 1 is twice the vCPU's number, as Xen has it.
    const apic = asked === 1 ? (v.vcpu.id * 2) << 24 : 0;
    cpu.set(RAX, leaf.eax, 0);
    cpu.set(RBX, (leaf.ebx | apic) >>> 0, 0);
    cpu.set(RCX, leaf.ecx, 0);
    cpu.set(RDX, leaf.edx, 0);
  }

  #setTsc(v: PvVcpu): void {
    const now = this.#host.timeOf(v.vcpu, v.cpu.retired());
    v.cpu.set(RAX, now >>> 0, 0);
    v.cpu.set(RDX, Math.floor(now / 0x1_0000_0000) >>> 0, 0);
  }

  /** Does the virtual IOPL allow ports, cli and sti (iopl_ok)? The kernel is virtual CPL 1, or 0 under architectural_iopl. */
  #portAllowed(v: PvVcpu): boolean {
    const architectural = (v.vcpu.domain.vmAssist & 0x10) !== 0;
    return v.iopl >= (v.kernelMode ? (architectural ? 0 : 1) : 3);
  }

  #port(v: PvVcpu, o: op.SystemOperation): number {
    const { cpu } = v;
    if (o.kind === op.SYS_OUT) return op.SYSTEM_NEXT;
    if (o.kind === op.SYS_IN) {
      cpu.setResult(0xffff_ffff, 0);
      return op.SYSTEM_NEXT;
    }
    return this.#portString(v, o);
  }

  /** One element of ins or outs; with rep, rip stays until rcx is 0. */
  #portString(v: PvVcpu, o: op.SystemOperation): number {
    const { cpu } = v;
    if (o.rep !== 0 && cpu.lo(RCX) === 0 && cpu.hi(RCX) === 0) return op.SYSTEM_NEXT;
    const register = o.kind === op.SYS_INS ? RDI : RSI;
    const lo = cpu.lo(register);
    const hi = cpu.hi(register);
    if (o.kind === op.SYS_INS && !this.#memory.copyTo(v.root, lo, hi, new Uint8Array(4).fill(0xff), o.size)) {
      cpu.raisePageFault(2 | 4, lo, hi);
      return op.SYSTEM_FAULT;
    }
    const step = (cpu.flags() & 0x400) !== 0 ? -o.size : o.size;
    const sum = lo + step;
    cpu.set(register, sum >>> 0, (hi + (sum < 0 ? -1 : sum > 0xffff_ffff ? 1 : 0)) >>> 0);
    if (o.rep === 0) return op.SYSTEM_NEXT;
    const count = cpu.lo(RCX) - 1;
    cpu.set(RCX, count >>> 0, count < 0 ? (cpu.hi(RCX) - 1) >>> 0 : cpu.hi(RCX));
    return cpu.lo(RCX) === 0 && cpu.hi(RCX) === 0 ? op.SYSTEM_NEXT : op.SYSTEM_JUMP;
  }

  #readControl(v: PvVcpu, o: op.SystemOperation): number {
    const { cpu } = v;
    switch (o.index) {
      case 0:
        cpu.set(o.register, (CR0 | (v.taskSwitched ? CR0_TS : 0)) >>> 0, 0);
        return op.SYSTEM_NEXT;
      case 2:
        cpu.set(o.register, v.cr2Lo, v.cr2Hi);
        return op.SYSTEM_NEXT;
      case 3:
        cpu.set(o.register, (v.kernelRoot << 12) >>> 0, v.kernelRoot >>> 20);
        return op.SYSTEM_NEXT;
      case 4:
        cpu.set(o.register, v.cr4, 0);
        return op.SYSTEM_NEXT;
      default:
        return this.#fault(v);
    }
  }

  #writeControl(v: PvVcpu, o: op.SystemOperation): number {
    switch (o.index) {
      case 0:
        // Only TS may change.
        if (o.hi !== 0 || ((o.lo ^ CR0) & ~CR0_TS) !== 0) return this.#fault(v);
        v.setTaskSwitched((o.lo & CR0_TS) !== 0);
        return op.SYSTEM_NEXT;
      case 2:
        v.cr2Lo = o.lo;
        v.cr2Hi = o.hi;
        this.#traps.bounce.info.setCr2(v, o.lo, o.hi);
        return op.SYSTEM_NEXT;
      case 3: {
        const mfn = (o.lo >>> 12) + (o.hi & 0xf_ffff) * 0x10_0000;
        if (setKernelRoot(v, mfn, this.#strict(v)) !== 0) return this.#fault(v);
        this.#traps.advance(v, o.length);
        return op.SYSTEM_JUMP;
      }
      case 4:
        v.cr4 = ((v.cr4 & ~CR4_GUEST) | (o.lo & CR4_GUEST)) >>> 0;
        return op.SYSTEM_NEXT;
      default:
        return this.#fault(v);
    }
  }

  #readMsr(v: PvVcpu): number {
    const { cpu } = v;
    const answer = (lo: number, hi: number): number => {
      cpu.set(RAX, lo, 0);
      cpu.set(RDX, hi, 0);
      return op.SYSTEM_NEXT;
    };
    switch (cpu.lo(RCX)) {
      case MSR_FS_BASE:
        return answer(cpu.baseLo(FS), cpu.baseHi(FS));
      case MSR_GS_BASE:
        return answer(cpu.baseLo(GS), cpu.baseHi(GS));
      case MSR_KERNEL_GS_BASE:
        return answer(v.otherGsLo, v.otherGsHi);
      case MSR_EFER:
        return answer(EFER, 0);
      case MSR_PAT:
        // As Xen programs it: WB WT UC- UC WC WP.
        return answer(0x0007_0406, 0x0000_0501);
      case MSR_TSC_AUX:
      case MSR_UCODE:
      case MSR_MISC_ENABLE:
      case MSR_APIC_BASE:
        return answer(0, 0);
      default:
        return this.#fault(v);
    }
  }

  #writeMsr(v: PvVcpu): number {
    const { cpu } = v;
    const lo = cpu.lo(RAX);
    const hi = cpu.lo(RDX);
    switch (cpu.lo(RCX)) {
      case MSR_FS_BASE:
      case MSR_GS_BASE:
        if (!canonical(hi)) return this.#fault(v);
        cpu.setBase(cpu.lo(RCX) === MSR_FS_BASE ? FS : GS, lo, hi);
        return op.SYSTEM_NEXT;
      case MSR_KERNEL_GS_BASE:
        if (!canonical(hi)) return this.#fault(v);
        v.otherGsLo = lo;
        v.otherGsHi = hi;
        return op.SYSTEM_NEXT;
      case MSR_EFER:
        return lo === EFER && hi === 0 ? op.SYSTEM_NEXT : this.#fault(v);
      case MSR_MISC_ENABLE:
      case MSR_APIC_BASE:
      case MSR_UCODE:
        return op.SYSTEM_NEXT;
      default:
        return this.#fault(v);
    }
  }

  /** Far jump and call: within ring 3, to 64-bit code. */
  #farTransfer(v: PvVcpu, o: op.SystemOperation): number {
    const { cpu } = v;
    if (!canonical(o.hi)) return this.#fault(v);
    const returnSelector = cpu.selector(CS);
    if (o.kind === op.SYS_FAR_CALL) {
      // The frame goes first, so that a fault leaves everything as it was.
      const size = o.size;
      const sum = cpu.ripLo() + o.length;
      const frame = new DataView(new ArrayBuffer(16));
      const put = (at: number, lo: number, hi: number): void => {
        if (size === 8) {
          frame.setUint32(at * 8, lo, true);
          frame.setUint32(at * 8 + 4, hi, true);
        } else if (size === 4) frame.setUint32(at * 4, lo, true);
        else frame.setUint16(at * 2, lo, true);
      };
      put(0, sum >>> 0, sum > 0xffff_ffff ? (cpu.ripHi() + 1) >>> 0 : cpu.ripHi());
      put(1, returnSelector, 0);
      const rsp = cpu.lo(RSP) - 2 * size;
      const rspHi = rsp < 0 ? (cpu.hi(RSP) - 1) >>> 0 : cpu.hi(RSP);
      const failed = this.#traps.loadSegment(v, CS, o.index | 3);
      if (failed !== 0) return this.#refusedOr(v, failed, op.SYSTEM_JUMP);
      if (!this.#memory.copyTo(v.root, rsp >>> 0, rspHi, new Uint8Array(frame.buffer), 2 * size)) {
        this.#traps.loadSegment(v, CS, returnSelector);
        cpu.raisePageFault(2 | 4, rsp >>> 0, rspHi);
        return op.SYSTEM_FAULT;
      }
      cpu.set(RSP, rsp >>> 0, rspHi);
    } else {
      const failed = this.#traps.loadSegment(v, CS, o.index | 3);
      if (failed !== 0) return this.#refusedOr(v, failed, op.SYSTEM_JUMP);
    }
    cpu.setRip(o.lo, o.hi);
    return op.SYSTEM_JUMP;
  }

  /** Far return within ring 3; `lo` bytes more are released. */
  #farReturn(v: PvVcpu, o: op.SystemOperation): number {
    const { cpu } = v;
    const bytes = new Uint8Array(16);
    if (!this.#memory.copyFrom(v.root, cpu.lo(RSP), cpu.hi(RSP), bytes, 2 * o.size)) {
      cpu.raisePageFault(4, cpu.lo(RSP), cpu.hi(RSP));
      return op.SYSTEM_FAULT;
    }
    const view = new DataView(bytes.buffer);
    const ripLo = o.size === 2 ? view.getUint16(0, true) : view.getUint32(0, true);
    const ripHi = o.size === 8 ? view.getUint32(4, true) : 0;
    const selector = view.getUint16(o.size, true);
    if (!canonical(ripHi)) return this.#fault(v);
    if ((selector & 3) !== 3) return this.#fault(v, selector & 0xfffc);
    const failed = this.#traps.loadSegment(v, CS, selector);
    if (failed !== 0) return this.#refusedOr(v, failed, op.SYSTEM_JUMP);
    cpu.setRip(ripLo, ripHi);
    const sum = cpu.lo(RSP) + 2 * o.size + o.lo;
    cpu.set(RSP, sum >>> 0, sum > 0xffff_ffff ? (cpu.hi(RSP) + 1) >>> 0 : cpu.hi(RSP));
    return op.SYSTEM_JUMP;
  }

  /** lar, lsl, verr, verw. */
  #inspect(v: PvVcpu, o: op.SystemOperation): void {
    const { cpu } = v;
    const selector = o.lo & 0xffff;
    const descriptor = (selector & 0xfffc) === 0 ? null : descriptorOf(v, this.#memory, selector);
    const high = descriptor?.[1] ?? 0;
    const usable = descriptor !== null && (high & 0x1000) !== 0 && ((high >>> 13) & 3) === 3;
    const verr = o.kind === op.SYS_VERR && !(isCode(high) || isData(high));
    const verw = o.kind === op.SYS_VERW && ((high & 0x0800) !== 0 || (high & 0x0200) === 0);
    if (!usable || verr || verw) {
      cpu.setZero(false);
      return;
    }
    cpu.setZero(true);
    if (o.kind === op.SYS_LAR) cpu.setResult((high & 0x00ff_ff00) >>> 0, 0);
    if (o.kind === op.SYS_LSL) cpu.setResult(segmentOf(descriptor).limit, 0);
  }
}
