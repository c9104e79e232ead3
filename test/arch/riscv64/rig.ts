/** A machine of 8 MiB for the tests: one guest whose RAM is machine memory from 1 MiB on, at guest-physical 0x8000_0000; MMIO at 0x1000_0000. */
import {
  P2m,
  type RiscvGuest,
  type RiscvHart,
  type RiscvMachine,
  type RiscvMachineOptions,
} from "../../../arch/riscv64/cpu.ts";
import { createRiscvMachine } from "../../../arch/riscv64/machine.ts";
import { bytesOf } from "./assemble.ts";

export const FRAMES = 2048;
/** First frame of RAM, and its guest-physical page. */
export const RAM_FRAME = 256;
export const RAM_FRAMES = 1024;
export const RAM_GFN = 0x80000;
export const RAM = 0x80000000;
export const MMIO = 0x10000000;

export class Rig {
  readonly memory = new WebAssembly.Memory({ initial: FRAMES / 16, maximum: FRAMES / 16 });
  readonly view: DataView = new DataView(this.memory.buffer);
  readonly machine: RiscvMachine;
  readonly guest: RiscvGuest;
  readonly hart: RiscvHart;
  readonly p2m: P2m;
  /** Ticks that the time CSR gives. */
  time = 0;
  #next = 1;

  constructor(options: Partial<RiscvMachineOptions> = {}) {
    this.machine = createRiscvMachine({
      memory: this.memory,
      frames: FRAMES,
      time: () => this.time,
      codeBytes: 1 << 20,
      vcpus: 4,
      ...options,
    });
    this.p2m = this.newP2m();
    for (let n = 0; n < RAM_FRAMES; n++) this.p2m.set(RAM_GFN + n, RAM_FRAME + n);
    this.p2m.setMmio(MMIO / 4096);
    this.guest = this.machine.createGuest(this.p2m);
    this.hart = this.guest.createHart();
  }

  newP2m(): P2m {
    return new P2m(this.memory, FRAMES, {
      allocate: () => (this.#next < RAM_FRAME ? this.#next++ : -1),
      free: () => {},
    });
  }

  /** Machine address of a guest-physical one in RAM. */
  at(gpa: number): number {
    return gpa - RAM + RAM_FRAME * 4096;
  }
  put(gpa: number, words: readonly number[]): void {
    this.bytes(gpa, bytesOf(words));
  }
  bytes(gpa: number, bytes: Uint8Array): void {
    this.machine.engine.physical.set(bytes, this.at(gpa));
    for (let done = 0; done < bytes.length; done += 4096) this.machine.engine.wroteFrame(this.at(gpa + done) >> 12);
  }
  put64(gpa: number, value: bigint): void {
    this.view.setBigUint64(this.at(gpa), BigInt.asUintN(64, value), true);
    this.machine.engine.wroteFrame(this.at(gpa) >> 12);
  }
  get64(gpa: number): bigint {
    return this.view.getBigUint64(this.at(gpa), true);
  }
  x(n: number, hart: RiscvHart = this.hart): bigint {
    return (BigInt(hart.xHi(n)) << 32n) | BigInt(hart.xLo(n));
  }
  setX(n: number, value: bigint, hart: RiscvHart = this.hart): void {
    hart.setX(n, Number(value & 0xffffffffn), Number((value >> 32n) & 0xffffffffn));
  }
  f(n: number): bigint {
    return (BigInt(this.hart.fHi(n)) << 32n) | BigInt(this.hart.fLo(n));
  }
  setF(n: number, value: bigint): void {
    this.hart.setF(n, Number(value & 0xffffffffn), Number((value >> 32n) & 0xffffffffn));
  }
  pc(hart: RiscvHart = this.hart): bigint {
    return (BigInt(hart.pcHi) << 32n) | BigInt(hart.pcLo);
  }
  setPc(value: bigint, hart: RiscvHart = this.hart): void {
    hart.setPc(Number(value & 0xffffffffn), Number((value >> 32n) & 0xffffffffn));
  }
  csr(n: number, hart: RiscvHart = this.hart): bigint {
    const words = new Uint32Array(2);
    if (!hart.readCsr(n, words)) throw new Error(`no CSR ${n.toString(16)}`);
    return (BigInt(words[1]!) << 32n) | BigInt(words[0]!);
  }
  setCsr(n: number, value: bigint, hart: RiscvHart = this.hart): boolean {
    return hart.writeCsr(n, Number(value & 0xffffffffn), Number((value >> 32n) & 0xffffffffn));
  }
}
