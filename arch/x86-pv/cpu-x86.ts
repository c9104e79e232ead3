/**
 * The software CPU of arch/x86 as the PV port's CPU: guest kernel and guest user are two sets of soft-TLBs, both checked as user code.
 */
import { MMU_USER, MMU_USER_2, NO_ERROR_CODE, STATE, VECTOR_PF, type X86Vcpu } from "../x86/index.ts";
import { FLAG_TF, type PvCpu } from "./cpu.ts";
import { hasErrorCode } from "./traps/bounce.ts";

const at = STATE.at;

export class X86Cpu implements PvCpu {
  readonly x: X86Vcpu;
  /** What `x.retired` was when the present run began. */
  #start = 0;

  constructor(x: X86Vcpu) {
    this.x = x;
    x.mmu = MMU_USER;
    x.setPaging(true);
  }

  /** A run begins: `retired` counts from here. */
  begin(): void {
    this.#start = this.x.retired;
  }
  retired(): number {
    return this.x.retired - this.#start;
  }
  lo(register: number): number {
    return this.x.lo(register) >>> 0;
  }
  hi(register: number): number {
    return this.x.hi(register) >>> 0;
  }
  set(register: number, lo: number, hi: number): void {
    this.x.set(register, lo, hi);
  }
  ripLo(): number {
    return this.x.ripLo >>> 0;
  }
  ripHi(): number {
    return this.x.ripHi >>> 0;
  }
  setRip(lo: number, hi: number): void {
    this.x.setRip(lo, hi);
  }
  flags(): number {
    return this.x.flags;
  }
  setFlags(flags: number): void {
    this.x.flags = flags;
  }
  /** TF: each instruction is followed by #DB. */
  stepping(): boolean {
    return (this.x.translated.get(at.rflags) & FLAG_TF) !== 0;
  }
  selector(segment: number): number {
    return this.x.selector(segment) & 0xffff;
  }
  baseLo(segment: number): number {
    return this.x.baseLo(segment) >>> 0;
  }
  baseHi(segment: number): number {
    return this.x.baseHi(segment) >>> 0;
  }
  setBase(segment: number, lo: number, hi: number): void {
    this.x.setBase(segment, lo, hi);
  }
  setSegment(segment: number, selector: number, base: number, limit: number, attributes: number): void {
    this.x.setSelector(segment, selector);
    this.x.setBase(segment, base, 0);
    this.x.setLimit(segment, limit, attributes);
  }
  setRoot(user: boolean, mfn: number): void {
    this.x.setRoot(user ? MMU_USER_2 : MMU_USER, mfn);
  }
  setUser(user: boolean): void {
    this.x.mmu = user ? MMU_USER_2 : MMU_USER;
  }
  flushAll(): void {
    this.x.machine.engine.flushAll(this.x.translated);
  }
  flushPage(lo: number, hi: number): void {
    this.x.machine.engine.flushPage(this.x.translated, lo | 0, hi | 0);
  }
  setTaskSwitched(on: boolean): void {
    this.x.setFpuDisabled(on);
  }
  raise(vector: number, error: number): void {
    this.x.raise(vector, hasErrorCode(vector) ? error : NO_ERROR_CODE);
  }
  raisePageFault(code: number, lo: number, hi: number): void {
    this.x.setState(at.faultAddress, lo);
    this.x.setState(at.faultAddress + 4, hi);
    this.x.raise(VECTOR_PF, code);
  }
  setResult(lo: number, hi: number): void {
    this.x.systemResultLo = lo;
    this.x.systemResultHi = hi;
  }
  setZero(on: boolean): void {
    this.x.setZero(on);
  }
  loadFpu(image: Uint8Array): boolean {
    return this.x.fxrstor(new DataView(image.buffer, image.byteOffset, image.byteLength));
  }
  describe(): string {
    return this.x.describe();
  }
}
