/**
 * Bounce frames: how a PV guest's kernel is entered for an exception, a software interrupt, an event, a syscall.
 *
 * Layout on the kernel's stack, from the new rsp up: rcx, r11, [ds, es, fs, gs for the failsafe callback], [error code], rip,
 * cs with the saved upcall mask in bits 32 to 39, rflags, rsp, ss (Xen: create_bounce_frame in x86_64/entry.S). IF in the saved rflags
 * is the inverse of the mask; IOPL is 0 unless architectural_iopl; the RPL of a kernel's cs is 0.
 *
 * A vCPU without a vcpu_info (infoAddress -1) takes no events.
 * Invariants: the frame is written as the guest kernel could write it; if that fails the domain crashes, nothing else does.
 */
import { ABI_X86_64, type Frames, xen } from "hookvisor";
import {
  CS,
  DS,
  ES,
  FLAG_AC,
  FLAG_IF,
  FLAG_IOPL,
  FLAG_NT,
  FLAG_RF,
  FLAG_TF,
  FLAG_VM,
  FS,
  GS,
  R11,
  RCX,
  RSP,
  SS,
} from "../cpu.ts";
import { reservedDescriptor, segmentOf } from "../descriptors.ts";
import type { GuestMemory } from "../mm/walk.ts";
import type { PvVcpu } from "../vcpu-state.ts";

const { VMASST_TYPE, x86_64 } = xen;

const VCPU_INFO = xen.vcpu_info.at(ABI_X86_64);
const PENDING = VCPU_INFO.fields.evtchn_upcall_pending.offset;
const MASK = VCPU_INFO.fields.evtchn_upcall_mask.offset;
const CR2 = VCPU_INFO.fields["arch.cr2"].offset;

/** Does the error code follow for this vector (SDM volume 3, table 6-1)? */
export function hasErrorCode(vector: number): boolean {
  return vector === 8 || (vector >= 10 && vector <= 14) || vector === 17 || vector === 21;
}

/** No error code in the frame. */
export const NO_ERROR = -1;

/** Reads and writes the guest-visible bytes of a vCPU's vcpu_info. */
export class VcpuInfo {
  readonly #frames: Frames;

  constructor(frames: Frames) {
    this.#frames = frames;
  }

  masked(v: PvVcpu): boolean {
    if (v.vcpu.infoAddress < 0) return true;
    return this.#frames.bytes[v.vcpu.infoAddress + MASK] !== 0;
  }

  setMask(v: PvVcpu, masked: boolean): void {
    if (v.vcpu.infoAddress >= 0) this.#set(v.vcpu.infoAddress + MASK, masked ? 1 : 0);
  }

  /** Is an event to be delivered: pending and not masked? */
  deliverable(v: PvVcpu): boolean {
    const { bytes } = this.#frames;
    const at = v.vcpu.infoAddress;
    return at >= 0 && bytes[at + PENDING] !== 0 && bytes[at + MASK] === 0;
  }

  setCr2(v: PvVcpu, lo: number, hi: number): void {
    if (v.vcpu.infoAddress < 0) return;
    const at = v.vcpu.infoAddress + CR2;
    this.#frames.view.setUint32(at, lo, true);
    this.#frames.view.setUint32(at + 4, hi, true);
    this.#frames.wrote(at >>> 12, at & 0xfff, (at & 0xfff) + 8);
  }

  #set(at: number, value: number): void {
    if (this.#frames.bytes[at] === value) return;
    this.#frames.bytes[at] = value;
    this.#frames.wrote(at >>> 12, at & 0xfff, (at & 0xfff) + 1);
  }
}

/** Loads one of Xen's flat segments; the selector is one of FLAT_RING3. */
export function loadFlat(v: PvVcpu, register: number, selector: number): void {
  const entry = reservedDescriptor(selector >>> 3);
  const { base, limit, attributes } = segmentOf(entry ?? [0, 0]);
  v.cpu.setSegment(register, selector, base, limit, attributes);
}

/** Enters guest kernels. */
export class Bounce {
  readonly info: VcpuInfo;
  readonly #memory: GuestMemory;
  readonly #frame = new Uint8Array(12 * 8);
  readonly #words = new Uint32Array(this.#frame.buffer);

  constructor(memory: GuestMemory) {
    this.#memory = memory;
    this.info = new VcpuInfo(memory.frames);
  }

  /**
   * Enters the kernel at an address. `error` is NO_ERROR or an error code; `what` names the reason for messages. False: the domain cannot
   * go on, and `v.crashed` says why.
   */
  enter(v: PvVcpu, lo: number, hi: number, error: number, mask: boolean, failsafe: boolean, what: string): boolean {
    const { cpu } = v;
    if (lo === 0 && hi === 0) return this.#crash(v, `${what} and the guest has no handler for it`);
    const fromKernel = v.kernelMode;
    const rspLo = cpu.lo(RSP);
    const rspHi = cpu.hi(RSP);
    if (!fromKernel) v.setMode(true);
    const stackLo = ((fromKernel ? rspLo : v.kernelSpLo) & ~0xf) >>> 0;
    const stackHi = fromKernel ? rspHi : v.kernelSpHi;
    const masked = this.info.masked(v);
    const flags = cpu.flags();
    const words = this.#words;
    let at = 0;
    const push = (wordLo: number, wordHi: number): void => {
      words[at++] = wordLo;
      words[at++] = wordHi;
    };
    push(cpu.lo(RCX), cpu.hi(RCX));
    push(cpu.lo(R11), cpu.hi(R11));
    if (failsafe) for (const segment of [DS, ES, FS, GS]) push(cpu.selector(segment), 0);
    if (error !== NO_ERROR) push(error >>> 0, 0);
    push(cpu.ripLo(), cpu.ripHi());
    push(fromKernel ? cpu.selector(CS) & ~3 : cpu.selector(CS), masked ? 1 : 0);
    const iopl = (v.vcpu.domain.vmAssist & (1 << VMASST_TYPE.architectural_iopl)) !== 0 ? v.iopl << 12 : 0;
    push(((flags & ~(FLAG_IF | FLAG_IOPL)) | (masked ? 0 : FLAG_IF) | iopl) >>> 0, 0);
    push(rspLo, rspHi);
    push(cpu.selector(SS), 0);
    const bytes = at * 4;
    const newLo = stackLo - bytes;
    const newHi = newLo < 0 ? (stackHi - 1) >>> 0 : stackHi;
    if (!this.#memory.copyTo(v.kernelRoot, newLo >>> 0, newHi, this.#frame, bytes))
      return this.#crash(v, `${what} and its kernel stack at ${hex(newLo >>> 0, newHi)} cannot be written`);
    cpu.set(RSP, newLo >>> 0, newHi);
    cpu.setRip(lo, hi);
    cpu.setFlags(flags & ~(FLAG_AC | FLAG_VM | FLAG_RF | FLAG_NT | FLAG_TF));
    loadFlat(v, CS, x86_64.FLAT_KERNEL_CS);
    loadFlat(v, SS, x86_64.FLAT_KERNEL_SS);
    if (mask) this.info.setMask(v, true);
    return true;
  }

  /** Delivers a pending event at a guest entry. */
  deliverEvent(v: PvVcpu): boolean {
    return this.enter(v, v.event.lo, v.event.hi, NO_ERROR, true, false, "An event is pending");
  }

  #crash(v: PvVcpu, what: string): false {
    v.crashed = what;
    return false;
  }
}

/** A 64-bit number for people. */
export function hex(lo: number, hi: number): string {
  const low = (lo >>> 0).toString(16);
  return hi === 0 ? `0x${low}` : `0x${(hi >>> 0).toString(16)}${low.padStart(8, "0")}`;
}
