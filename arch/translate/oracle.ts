/**
 * The oracle: a slow, readable interpreter of the IR over the same state bytes and memories as tier 0, by each op's own
 * `evaluate`. It has tier 0's contract (run: header and budget, EXIT_*, exitOp), so that an engine runs whole guests
 * through it; tests compare the two. It shares the arch's walk and the TLBs with tier 0, not the ops' emitters, the TLB
 * lookups of ops, or the jump cache.
 */
import type { Engine, TranslatedVcpu } from "./engine.ts";
import {
  ACCESS_READ,
  ACCESS_WRITE,
  EXIT_ARCH,
  EXIT_ARCH_AFTER,
  EXIT_BUDGET,
  EXIT_CONTINUE,
  EXIT_FAULT,
  EXIT_LOOKUP,
  HELPER_NEXT,
  type Op,
  type OracleContext,
} from "./ir.ts";
import { HEADER_BYTES } from "./map.ts";
import type { Tier0Imports } from "./tier0.ts";

/** Thrown to leave an op; caught by `run`. */
class Leave extends Error {
  readonly code: number;
  constructor(code: number) {
    super("leave");
    this.code = code;
  }
}

export class Oracle implements OracleContext {
  readonly #engine: Engine;
  readonly #imports: Tier0Imports;
  readonly #view: DataView;
  #vcpu: TranslatedVcpu | undefined;
  #state = 0;
  #ip = 0;
  #budget = 0;
  #op: Op | undefined;
  /** Where the op goes: the next op, another op of the block, or another block. */
  #next = 0;
  #enters = false;

  constructor(engine: Engine, imports: Tier0Imports) {
    this.#engine = engine;
    this.#imports = imports;
    this.#view = new DataView(engine.state.buffer);
  }

  /** As tier 0's run. */
  run(state: number, ip: number, budget: number): number {
    const { exitOp, budget: budgetAt } = this.#engine.layout.at;
    this.#vcpu = this.#engine.vcpuOf(state);
    this.#state = state;
    this.#ip = ip;
    this.#budget = budget;
    const code = this.#loop();
    this.#view.setUint32(state + exitOp, this.#ip, true);
    this.#view.setInt32(state + budgetAt, this.#budget, true);
    return code;
  }

  #loop(): number {
    for (;;) {
      const count = this.#view.getUint16(this.#ip + 2, true);
      if (this.#budget < count) return EXIT_BUDGET;
      this.#budget -= count;
      this.#ip += HEADER_BYTES;
      this.#enters = false;
      while (!this.#enters) {
        const op = this.#engine.ops.list[this.#view.getUint16(this.#ip, true)];
        if (op === undefined) throw new Error("the oracle met a number that is no op");
        if (op.evaluate === undefined) throw new Error(`IR operation ${op.name} has no meaning for the oracle`);
        this.#op = op;
        this.#next = this.#ip + op.bytes;
        try {
          op.evaluate(this);
        } catch (e) {
          if (e instanceof Leave) return e.code;
          throw e;
        }
        this.#ip = this.#next;
      }
    }
  }

  get d(): number {
    return this.#view.getUint16(this.#ip + 2, true);
  }
  get a(): number {
    return this.#view.getUint16(this.#ip + 4, true);
  }
  get b(): number {
    return this.#view.getUint16(this.#ip + 6, true);
  }
  get imm(): bigint {
    return this.#view.getBigUint64(this.#ip + 8, true);
  }
  get imm2(): bigint {
    return this.#view.getBigUint64(this.#ip + 16, true);
  }
  get imm3(): bigint {
    return this.#view.getBigUint64(this.#ip + 24, true);
  }
  get lo(): number {
    return this.#view.getInt32(this.#ip + 8, true);
  }
  get hi(): number {
    return this.#view.getInt32(this.#ip + 12, true);
  }
  get lo2(): number {
    return this.#view.getInt32(this.#ip + 16, true);
  }
  get hi2(): number {
    return this.#view.getInt32(this.#ip + 20, true);
  }
  get lo3(): number {
    return this.#view.getInt32(this.#ip + 24, true);
  }
  get hi3(): number {
    return this.#view.getInt32(this.#ip + 28, true);
  }

  at(field: string, index = 0): number {
    const { layout } = this.#engine;
    const key = field as keyof typeof layout.at;
    const offset = layout.at[key] as number | undefined;
    if (offset === undefined) throw new Error(`layout ${layout.name} has no field ${field}`);
    return offset + index * layout.size[key];
  }

  get(offset: number, bits: number): bigint {
    return this.#bytes(this.#engine.u8, this.#state + offset, bits);
  }

  set(offset: number, bits: number, value: bigint): void {
    for (let i = 0; i < bits / 8; i++) {
      this.#engine.u8[this.#state + offset + i] = Number((value >> BigInt(8 * i)) & 0xffn);
    }
  }

  #bytes(from: Uint8Array, at: number, bits: number): bigint {
    let value = 0n;
    for (let i = bits / 8 - 1; i >= 0; i--) value = (value << 8n) | BigInt(from[at + i] ?? 0);
    return value;
  }

  /** Machine addresses of an access: one, or where it crosses a page two and the bytes on the first. */
  #resolve(va: bigint, bytes: number, access: number): readonly [first: number, second: number, split: number] {
    const engine = this.#engine;
    const vcpu = this.#vcpu;
    if (vcpu === undefined) throw new Error("the oracle is not running");
    const one = (address: bigint): number => {
      const lo = Number(BigInt.asIntN(32, address));
      const hi = Number(BigInt.asIntN(32, address >> 32n));
      const found = engine.translate(vcpu, lo, hi, access);
      if (found < 0 && engine.lastWalk !== 2) throw new Leave(EXIT_FAULT);
      return found;
    };
    const split = Math.min(bytes, 4096 - Number(va & 4095n));
    const first = one(va);
    const second = split < bytes && first >= 0 ? one(BigInt.asUintN(64, va + BigInt(split))) : 0;
    return [first, second, split];
  }

  #special(va: bigint, access: number, bytes: number): void {
    this.set(this.at("slowAddress"), 64, va);
    if (this.#imports.special(this.#state, this.#ip, access, bytes) === 0) throw new Leave(EXIT_FAULT);
  }

  load(va: bigint, bits: number, forWrite = false): bigint {
    const bytes = bits / 8;
    const access = forWrite ? ACCESS_WRITE : ACCESS_READ;
    const [first, second, split] = this.#resolve(va, bytes, access);
    if (first < 0 || second < 0) {
      this.#special(va, access, bytes);
      return this.get(this.at("slowValue"), bits);
    }
    const low = this.#bytes(this.#engine.physical, first, 8 * split);
    return low | (this.#bytes(this.#engine.physical, second, 8 * (bytes - split)) << BigInt(8 * split));
  }

  store(va: bigint, bits: number, value: bigint): void {
    const bytes = bits / 8;
    const [first, second, split] = this.#resolve(va, bytes, ACCESS_WRITE);
    if (first < 0 || second < 0) {
      this.set(this.at("slowValue"), bits, value);
      this.#special(va, ACCESS_WRITE, bytes);
      return;
    }
    const memory = this.#engine.physical;
    for (let i = 0; i < bytes; i++) {
      memory[i < split ? first + i : second + i - split] = Number((value >> BigInt(8 * i)) & 0xffn);
    }
    const tell = (address: number, n: number): void => {
      if (n > 0 && this.#engine.hasCode(Math.floor(address / 4096))) {
        this.#imports.wroteCode(this.#state, this.#ip, address, n);
      }
    };
    tell(first, split);
    tell(second, bytes - split);
  }

  #enter(block: number): void {
    this.#next = block;
    this.#enters = true;
  }

  branch(taken: boolean): void {
    this.#enter((taken ? this.lo : this.hi) >>> 0);
  }
  jump(): void {
    this.#enter(this.lo >>> 0);
  }
  jumpTo(pc: bigint): void {
    this.set(this.#engine.layout.at.pc, 64, pc);
    throw new Leave(EXIT_LOOKUP);
  }
  fault(): never {
    throw new Leave(EXIT_FAULT);
  }
  exit(detail: number): never {
    this.set(this.#engine.layout.at.exitDetail, 32, BigInt(detail));
    throw new Leave(EXIT_ARCH);
  }
  exitAfter(detail: number): never {
    this.set(this.#engine.layout.at.exitDetail, 32, BigInt(detail));
    throw new Leave(EXIT_ARCH_AFTER);
  }
  skip(taken: boolean): void {
    if (taken) this.#next = this.#ip + this.lo;
  }
  leave(code: number): never {
    throw new Leave(code);
  }
  helper(index: number): void {
    this.#view.setInt32(this.#state + this.#engine.layout.at.budget, this.#budget, true);
    const answer = this.#imports.helper(this.#state, this.#ip, index);
    if (this.#op?.terminator !== undefined) {
      throw new Leave(answer === EXIT_CONTINUE ? EXIT_LOOKUP : answer);
    }
    if (answer !== HELPER_NEXT) throw new Leave(answer);
  }
}
