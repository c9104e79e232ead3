/**
 * The one HypercallCall of a machine: arguments, guest memory, cost and preemption of the hypercall under way.
 *
 * Design: reused for every call. A multicall runs its inner calls on the same object after putting its own arguments
 * aside (`enter`/`leave`), so that nothing recurses on shared state.
 * Invariants: read() gives a view of a scratch buffer that the next read overwrites; nothing here throws for what a guest handed over.
 */
import type { GuestAbi } from "../architecture/guest-abi.ts";
import type { Domain } from "../domain/domain.ts";
import type { Vcpu } from "../domain/vcpu.ts";
import type { Machine } from "../machine/machine.ts";
import type { Nanoseconds } from "../machine/timers.ts";
import { type HypercallCall, Result } from "./table.ts";

/** Argument registers of a hypercall. */
export const ARGUMENTS = 6;
const TWO32 = 0x1_0000_0000;
/** A hypercall is preempted after this much virtual time, and continued. */
const PREEMPT_AFTER_US = 500;

export class CurrentCall implements HypercallCall {
  readonly #machine: Machine;
  readonly #limit: number;
  #vcpu: Vcpu | null = null;
  #scratch = new Uint8Array(4096);
  readonly #own = new Uint32Array(2 * ARGUMENTS);
  readonly #inner = new Uint32Array(2 * ARGUMENTS);
  /** Argument halves: lo of argument i at 2i, hi at 2i + 1. */
  args = this.#own;

  constructor(machine: Machine) {
    this.#machine = machine;
    this.#limit = machine.config.cpuMhz * PREEMPT_AFTER_US;
  }

  /** A hypercall of `vcpu` begins. */
  begin(vcpu: Vcpu): void {
    this.#vcpu = vcpu;
    this.args = this.#own;
    vcpu.domain.arch!.loadArguments(vcpu, this.args);
  }

  get inMulticall(): boolean {
    return this.args === this.#inner;
  }

  /** Puts the multicall's own arguments aside: `args` are an inner call's from now on. */
  enter(): void {
    this.args = this.#inner;
  }

  /** Back to the multicall's own arguments. */
  leave(): void {
    this.args = this.#own;
  }

  get vcpu(): Vcpu {
    if (this.#vcpu === null) throw new Error("no hypercall is under way");
    return this.#vcpu;
  }
  get domain(): Domain {
    return this.vcpu.domain;
  }
  get abi(): GuestAbi {
    return this.vcpu.domain.abi;
  }
  get now(): Nanoseconds {
    return this.#machine.now;
  }

  lo(index: number): number {
    return this.args[2 * index]!;
  }
  hi(index: number): number {
    return this.args[2 * index + 1]!;
  }
  number(index: number): number {
    const hi = this.hi(index);
    return hi < 0x20_0000 ? hi * TWO32 + this.lo(index) : Infinity;
  }
  int(index: number): number {
    return this.lo(index) | 0;
  }

  read(lo: number, hi: number, length: number): DataView | null {
    if (length > this.#scratch.length) this.#scratch = new Uint8Array(length);
    const { vcpu } = this;
    if (!vcpu.domain.arch!.copyFromGuest(vcpu, lo, hi, this.#scratch, length)) return null;
    return new DataView(this.#scratch.buffer, 0, length);
  }

  readArg(index: number, length: number, offset = 0): DataView | null {
    const lo = this.lo(index) + offset;
    return this.read(lo >>> 0, this.#carry(index, lo), length);
  }

  write(lo: number, hi: number, from: Uint8Array | DataView, length: number): boolean {
    const bytes = from instanceof Uint8Array ? from : new Uint8Array(from.buffer, from.byteOffset, from.byteLength);
    const { vcpu } = this;
    return vcpu.domain.arch!.copyToGuest(vcpu, lo, hi, bytes, length);
  }

  writeArg(index: number, from: Uint8Array | DataView, length: number, offset = 0): boolean {
    const lo = this.lo(index) + offset;
    return this.write(lo >>> 0, this.#carry(index, lo), from, length);
  }

  /** The high half of argument `index` plus what the sum `lo` carries; a 32-bit guest's addresses wrap. */
  #carry(index: number, lo: number): number {
    return this.abi.wordBytes === 4 ? 0 : (this.hi(index) + Math.floor(lo / TWO32)) >>> 0;
  }

  charge(instructions: number): void {
    this.#machine.charge(instructions);
  }
  preempted(): boolean {
    return this.#machine.charged > this.#limit;
  }

  setArgument(index: number, lo: number, hi = 0): void {
    this.args[2 * index] = lo;
    this.args[2 * index + 1] = hi;
  }
  continued(): number {
    return Result.continued;
  }
}
