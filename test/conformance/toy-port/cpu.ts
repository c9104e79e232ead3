/**
 * The toy machine's CPU: a readable interpreter.
 *
 * Before every instruction it looks whether an event is to be delivered, so that the moment does not depend on how a run is cut into
 * slices. Delivery saves the program counter and masks events; `eret` undoes both.
 * Invariants: an instruction that faults has changed nothing and is not counted; an instruction that leaves the guest is counted, and the
 * program counter is behind it.
 */
import { type ArchHost, type Exit, ExitCode, FRAME_SIZE, type Vcpu } from "hookvisor";
import { Op } from "./isa.ts";
import type { Space } from "./space.ts";

const {
  li: LI,
  addi: ADDI,
  add: ADD,
  sub: SUB,
  and: AND,
  or: OR,
  xor: XOR,
  shl: SHL,
  shr: SHR,
  mul: MUL,
  lw: LW,
  sw: SW,
  lb: LB,
  sb: SB,
  beq: BEQ,
  bne: BNE,
  bltu: BLTU,
  jal: JAL,
  jr: JR,
  hcall: HCALL,
  halt: HALT,
  yield: YIELD,
  eret: ERET,
  upcall: UPCALL,
  rdtime: RDTIME,
  in: IN,
  out: OUT,
} = Op;
const RUNNING = ExitCode.budget;
const SIZE = FRAME_SIZE;

/** Words of a saved context (VCPUOP_initialise): program counter, upcall entry, registers. */
export const CONTEXT_WORDS = 18;

/** Thrown within a step: the guest did what nobody may. */
class Fault extends Error {}

/** One vCPU's state. */
export class ToyCpu {
  readonly registers = new Uint32Array(16);
  pc = 0;
  /** Where upcalls go; 0: nowhere. */
  upcallEntry = 0;
  /** Program counter that the last upcall interrupted. */
  interrupted = 0;
  /** Register that an `in` under way is for. */
  ioRegister = 0;
  /** The run under way is to end. */
  stop = false;
  readonly #vcpu: Vcpu;
  readonly #space: Space;
  readonly #host: ArchHost;

  constructor(vcpu: Vcpu, space: Space, host: ArchHost) {
    this.#vcpu = vcpu;
    this.#space = space;
    this.#host = host;
  }

  /** An event waits and is not masked. */
  get deliverable(): boolean {
    const { shared } = this.#vcpu.domain;
    return shared?.upcallPending(this.#vcpu) === true && !shared.upcallMask(this.#vcpu);
  }

  /** Runs at most `budget` instructions; says how many. */
  run(budget: number, exit: Exit): number {
    this.stop = false;
    exit.code = RUNNING;
    let retired = 0;
    try {
      while (retired < budget && !this.stop && exit.code === RUNNING) {
        if (this.upcallEntry !== 0 && this.deliverable) this.#deliver();
        this.#step(exit, retired);
        retired++;
      }
    } catch (error) {
      if (!(error instanceof Fault)) throw error;
      exit.code = ExitCode.crash;
      exit.reason = `${error.message} at pc 0x${this.pc.toString(16)}`;
    }
    return retired;
  }

  #deliver(): void {
    this.interrupted = this.pc;
    this.pc = this.upcallEntry;
    this.#vcpu.domain.shared?.setUpcallMask(this.#vcpu, true);
  }

  #address(address: number, size: number, write: boolean): number {
    if (address % size !== 0) throw new Fault(`misaligned address 0x${address.toString(16)}`);
    const at = this.#space.translate(address, write);
    if (at < 0) throw new Fault(`bad address 0x${address.toString(16)}`);
    return at;
  }

  #fetch(address: number): number {
    return this.#host.frames.view.getUint32(this.#address(address, 4, false));
  }

  #wrote(at: number, size: number): void {
    const offset = at % SIZE;
    this.#host.frames.wrote((at - offset) / SIZE, offset, offset + size);
  }

  #step(exit: Exit, retired: number): void {
    const r = this.registers;
    const { view } = this.#host.frames;
    const word = this.#fetch(this.pc);
    const d = (word >>> 20) & 15;
    const a = (word >>> 16) & 15;
    const imm = (word << 16) >> 16;
    const b = word & 15;
    let next = (this.pc + 4) >>> 0;
    switch (word >>> 24) {
      case LI:
        r[d] = this.#fetch(next);
        next = (next + 4) >>> 0;
        break;
      case ADDI:
        r[d] = r[a]! + imm;
        break;
      case ADD:
        r[d] = r[a]! + r[b]!;
        break;
      case SUB:
        r[d] = r[a]! - r[b]!;
        break;
      case AND:
        r[d] = r[a]! & r[b]!;
        break;
      case OR:
        r[d] = r[a]! | r[b]!;
        break;
      case XOR:
        r[d] = r[a]! ^ r[b]!;
        break;
      case SHL:
        r[d] = r[a]! << (r[b]! & 31);
        break;
      case SHR:
        r[d] = r[a]! >>> (r[b]! & 31);
        break;
      case MUL:
        r[d] = Math.imul(r[a]!, r[b]!);
        break;
      case LW:
        r[d] = view.getUint32(this.#address((r[a]! + imm) >>> 0, 4, false));
        break;
      case SW: {
        const at = this.#address((r[a]! + imm) >>> 0, 4, true);
        view.setUint32(at, r[d]!);
        this.#wrote(at, 4);
        break;
      }
      case LB:
        r[d] = view.getUint8(this.#address((r[a]! + imm) >>> 0, 1, false));
        break;
      case SB: {
        const at = this.#address((r[a]! + imm) >>> 0, 1, true);
        view.setUint8(at, r[d]!);
        this.#wrote(at, 1);
        break;
      }
      case BEQ:
        if (r[d] === r[a]) next = (next + 4 * imm) >>> 0;
        break;
      case BNE:
        if (r[d] !== r[a]) next = (next + 4 * imm) >>> 0;
        break;
      case BLTU:
        if (r[d]! < r[a]!) next = (next + 4 * imm) >>> 0;
        break;
      case JAL:
        r[d] = next;
        next = (next + 4 * imm) >>> 0;
        break;
      case JR:
        next = r[a]!;
        break;
      case HCALL:
        exit.code = ExitCode.hypercall;
        exit.nr = r[0]!;
        break;
      case HALT:
        exit.code = ExitCode.halt;
        break;
      case YIELD:
        exit.code = ExitCode.yield;
        break;
      case ERET:
        next = this.interrupted;
        this.#vcpu.domain.shared?.setUpcallMask(this.#vcpu, false);
        break;
      case UPCALL:
        this.upcallEntry = r[a]!;
        break;
      case RDTIME: {
        const now = this.#host.timeOf(this.#vcpu, retired);
        r[d] = Math.floor(now / 0x1_0000_0000);
        r[(d + 1) & 15] = now >>> 0;
        break;
      }
      case IN:
      case OUT:
        Object.assign(exit, { code: ExitCode.io, space: "pio", addressHi: 0, size: 4, write: word >>> 24 === OUT });
        exit.addressLo = (r[a]! + imm) >>> 0;
        exit.valueLo = r[d]!;
        exit.valueHi = 0;
        this.ioRegister = exit.write ? -1 : d;
        break;
      default:
        throw new Fault(`no such instruction 0x${word.toString(16)}`);
    }
    this.pc = next;
  }

  /** Takes a saved context. */
  load(context: DataView): void {
    this.pc = context.getUint32(0);
    this.upcallEntry = context.getUint32(4);
    for (let i = 0; i < 16; i++) this.registers[i] = context.getUint32(8 + 4 * i);
  }

  toString(): string {
    const registers = [...this.registers].map((value, i) => `r${i}=${value.toString(16)}`);
    return `pc=${this.pc.toString(16)} upcall=${this.upcallEntry.toString(16)} interrupted=${this.interrupted.toString(16)} ${registers.join(" ")}`;
  }
}
