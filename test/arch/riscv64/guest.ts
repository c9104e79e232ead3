/** Guests of RISC-V domains for tests: a program of a few instructions as an ELF file, and the plugins that such a domain needs. */
import { definePlugin, type Plugin } from "hookvisor";
import { RiscvBackend, type RiscvOptions } from "../../../arch/riscv64/backend.ts";
import { XEN_EXTENSION } from "../../../arch/riscv64/sbi.ts";
import { addRiscvHypercalls } from "../../../arch/riscv64/xen.ts";
import plic from "../../../plugins/device-plic/plugin.ts";
import uart from "../../../plugins/device-uart16550/plugin.ts";
import { asm, bytesOf, type Operands } from "./assemble.ts";

/** Register numbers. */
export const REG = { zero: 0, ra: 1, sp: 2, t0: 5, t1: 6, t2: 7, a0: 10, a1: 11, a2: 12, a6: 16, a7: 17 } as const;

/** Where a program is loaded; RAM begins there. */
export const BASE = 0x8000_0000;
/** Bytes of an ELF file before the program. */
export const HEADERS = 64 + 56;

/** A program under construction. */
export class Program {
  readonly words: number[] = [];
  readonly #labels = new Map<string, number>();
  readonly #jumps: { readonly at: number; readonly label: string; readonly build: (offset: number) => number }[] = [];

  /** Address of what comes next. */
  get here(): number {
    return BASE + 4 * this.words.length;
  }
  put(name: string, operands: Operands = {}): this {
    this.words.push(asm(name, operands));
    return this;
  }
  label(name: string): this {
    this.#labels.set(name, this.words.length);
    return this;
  }
  jump(label: string): this {
    return this.#to(label, (imm) => asm("jal", { imm }));
  }
  branch(name: string, rs1: number, rs2: number, label: string): this {
    return this.#to(label, (imm) => asm(name, { rs1, rs2, imm }));
  }
  #to(label: string, build: (offset: number) => number): this {
    this.#jumps.push({ at: this.words.length, label, build });
    this.words.push(0);
    return this;
  }
  /** Any whole number that a 64-bit register can have. */
  li(rd: number, value: number | bigint): this {
    const wide = BigInt.asUintN(64, BigInt(value));
    // auipc rd, 0; ld rd, 12(rd); j behind; the number, at a multiple of 8.
    const gap = this.words.length % 2 === 0 ? 16 : 12;
    this.put("auipc", { rd }).put("ld", { rd, rs1: rd, imm: gap }).put("jal", { imm: gap });
    if (gap === 16) this.put("addi");
    this.words.push(Number(wide & 0xffffffffn) | 0, Number(wide >> 32n) | 0);
    return this;
  }
  /** The address of a label, once the program is complete. */
  address(rd: number, label: string): this {
    this.#jumps.push({ at: this.words.length, label, build: () => asm("auipc", { rd }) });
    this.#jumps.push({ at: this.words.length + 1, label, build: (imm) => asm("addi", { rd, rs1: rd, imm: imm + 4 }) });
    this.words.push(0, 0);
    return this;
  }
  /** An ecall with these arguments. */
  ecall(extension: number, fn: number, args: readonly (number | bigint)[]): this {
    for (const [i, arg] of args.entries()) this.li(REG.a0 + i, arg);
    return this.li(REG.a7, extension).li(REG.a6, fn).put("ecall");
  }
  hypercall(nr: number, args: readonly (number | bigint)[]): this {
    return this.ecall(XEN_EXTENSION, nr, args);
  }
  /** Stores a register at an address. */
  store(register: number, address: number): this {
    return this.li(REG.t2, address).put("sd", { rs1: REG.t2, rs2: register });
  }

  /** The program's bytes. */
  code(): Uint8Array {
    const words = [...this.words];
    for (const { at, label, build } of this.#jumps) {
      const target = this.#labels.get(label);
      if (target === undefined) throw new Error(`no label ${label}`);
      words[at] = build(4 * (target - at));
    }
    return bytesOf(words);
  }
  /** An ELF file of it, with `memory` bytes from BASE on. */
  image(memory = 0x4_0000): Uint8Array {
    return elf(this.code(), BASE, memory);
  }
}

/** An ELF file with one segment, entered at its first byte. */
export function elf(bytes: Uint8Array, address: number, memory: number): Uint8Array {
  const file = new Uint8Array(HEADERS + bytes.length);
  const view = new DataView(file.buffer);
  const u64 = (at: number, value: number): void => view.setBigUint64(at, BigInt(value), true);
  file.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  view.setUint16(16, 2, true);
  view.setUint16(18, 243, true);
  view.setUint32(20, 1, true);
  u64(24, address);
  u64(32, 64);
  view.setUint16(52, 64, true);
  view.setUint16(54, 56, true);
  view.setUint16(56, 1, true);
  view.setUint32(64, 1, true);
  view.setUint32(68, 7, true);
  u64(72, HEADERS);
  u64(80, address);
  u64(88, address);
  u64(96, bytes.length);
  u64(104, memory);
  u64(112, 4096);
  file.set(bytes, HEADERS);
  return file;
}

/** The port with the devices that its domains have, as one plugin; `made` is told of the backend. */
export function riscvPlugin(options: RiscvOptions = {}, made: (backend: RiscvBackend) => void = () => {}): Plugin {
  return definePlugin({
    name: "riscv64-tested",
    api: "^1.0.0",
    apply(hypervisor) {
      plic.apply(hypervisor);
      uart.apply(hypervisor);
      let backend: RiscvBackend | undefined;
      hypervisor.hooks.arch.for("riscv64").tap("riscv64-tested", (host) => {
        if (backend === undefined) {
          backend = new RiscvBackend(host, options);
          made(backend);
        }
        return backend;
      });
      hypervisor.hooks.hypercalls.tap("riscv64-tested", (table) => {
        const riscv = backend;
        if (riscv !== undefined) addRiscvHypercalls(table, (call) => riscv.sbi(call));
      });
    },
  });
}
