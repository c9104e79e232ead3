/** A hypercall of the tests' vCPU: arguments, and guest memory as the port's own walks see it. */
import type { Domain, HypercallCall, Vcpu } from "hookvisor";
import { HypercallTable, xen } from "hookvisor";
import { PV_ABI } from "../../../arch/x86-pv/backend.ts";
import type { PvContext } from "../../../arch/x86-pv/context.ts";
import { addPvHypercalls } from "../../../arch/x86-pv/hypercalls.ts";
import type { Bench } from "./fake-cpu.ts";

export class FakeCall implements HypercallCall {
  readonly vcpu: Vcpu;
  readonly domain: Domain;
  readonly abi = PV_ABI;
  readonly now = 0;
  readonly args = new Uint32Array(12);
  readonly #bench: Bench;
  /** Calls of `preempted` that answer no. */
  patience = Infinity;

  constructor(bench: Bench) {
    this.#bench = bench;
    this.vcpu = bench.v.vcpu;
    this.domain = this.vcpu.domain;
  }
  lo(index: number): number {
    return this.args[2 * index]!;
  }
  hi(index: number): number {
    return this.args[2 * index + 1]!;
  }
  number(index: number): number {
    return this.hi(index) * 2 ** 32 + this.lo(index);
  }
  int(index: number): number {
    return this.lo(index) | 0;
  }
  read(lo: number, hi: number, length: number): DataView | null {
    const bytes = new Uint8Array(length);
    return this.#bench.memory.copyFrom(this.#bench.v.kernelRoot, lo, hi, bytes, length)
      ? new DataView(bytes.buffer)
      : null;
  }
  readArg(index: number, length: number, offset = 0): DataView | null {
    const sum = this.lo(index) + offset;
    return this.read(sum >>> 0, (this.hi(index) + (sum > 0xffffffff ? 1 : 0)) >>> 0, length);
  }
  write(lo: number, hi: number, from: Uint8Array | DataView, length: number): boolean {
    const bytes = from instanceof Uint8Array ? from : new Uint8Array(from.buffer, from.byteOffset, length);
    return this.#bench.memory.copyTo(this.#bench.v.kernelRoot, lo, hi, bytes, length);
  }
  writeArg(index: number, from: Uint8Array | DataView, length: number, offset = 0): boolean {
    const sum = this.lo(index) + offset;
    return this.write(sum >>> 0, (this.hi(index) + (sum > 0xffffffff ? 1 : 0)) >>> 0, from, length);
  }
  charge(): void {}
  preempted(): boolean {
    return this.patience-- <= 0;
  }
  setArgument(index: number, lo: number, hi = 0): void {
    this.args[2 * index] = lo;
    this.args[2 * index + 1] = hi;
  }
  continued(): number {
    return CONTINUED;
  }
}

/** What a preempted call of a FakeCall answers. */
export const CONTINUED = -123456;

/** The PV calls over a bench; `call(nr, a0, a1, ...)` makes one with arguments below 2^53. */
export function pvCalls(bench: Bench) {
  const crashes: string[] = [];
  const context: PvContext = {
    host: Object.assign(bench.host, { crash: (_: Domain, message: string) => crashes.push(message) }),
    tables: bench.tables,
    memory: bench.memory,
    traps: bench.traps,
    stateOf: () => bench.v,
    statesOf: () => [bench.v],
    strict: () => false,
  };
  const table = new HypercallTable("pv", PV_ABI);
  table.addGroup(xen.__HYPERVISOR.memory_op, "memory_op", (call) => call.lo(0));
  addPvHypercalls(table, context);
  const fake = new FakeCall(bench);
  const call = (nr: number, ...args: number[]): number => {
    fake.args.fill(0);
    for (const [i, value] of args.entries()) fake.setArgument(i, value >>> 0, Math.floor(value / 2 ** 32) >>> 0);
    return table.entry(nr)!.handler(fake);
  };
  return { call, fake, table, crashes };
}
