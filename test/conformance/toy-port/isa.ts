/**
 * The toy machine's instructions, and a small assembler for them.
 *
 * A register machine with sixteen 32-bit registers, big-endian, with byte addresses. An instruction is one word: operation, two
 * registers, 16 bits that are a signed offset or name a third register; `li` has its value in the word behind it.
 * The assembler keeps code and data apart: data is placed behind the code, and labels name both. Its macros use r12 and r13; the hypercall
 * macro sets r0 to r6 as the hypercall convention has it (number in r0, arguments in r1 to r6, result in r0).
 */
import { type FieldSpecs, type Inputs, type Struct, xen } from "hookvisor";
import { encodeImage, TOY_ABI } from "./image.ts";

/** Operations. 0 is none: running into empty memory crashes. */
export const Op = Object.freeze({
  li: 0x01,
  addi: 0x02,
  add: 0x03,
  sub: 0x04,
  and: 0x05,
  or: 0x06,
  xor: 0x07,
  shl: 0x08,
  shr: 0x09,
  mul: 0x0a,
  /** Word and byte, load and store, at register plus offset. */
  lw: 0x10,
  sw: 0x11,
  lb: 0x12,
  sb: 0x13,
  /** Compare two registers and go to the next instruction plus so many words. */
  beq: 0x18,
  bne: 0x19,
  bltu: 0x1a,
  /** Jump and link; jump to a register. */
  jal: 0x1b,
  jr: 0x1c,
  hcall: 0x20,
  halt: 0x21,
  yield: 0x22,
  /** Back from an upcall: to where it came in, with events unmasked. */
  eret: 0x23,
  /** The upcall's entry point is in a register; 0: no upcalls. */
  upcall: 0x24,
  /** System time: high word, low word in the register behind. */
  rdtime: 0x25,
  /** A word from or to an I/O port. */
  in: 0x26,
  out: 0x27,
});

/** A number, a label's address, or a register's contents. */
export type Operand = number | string | { readonly reg: number };

const LINK = 14;
const SCRATCH = 13;

/** A word of code: known, a label's address, or a branch. */
type Item = number | { readonly absolute: string } | { readonly word: number; readonly relative: string };

/** A program under construction. */
export class Assembler {
  readonly origin: number;
  readonly #code: Item[] = [];
  readonly #labels = new Map<string, number>();
  readonly #data: { readonly name: string; readonly bytes: Uint8Array }[] = [];
  readonly #pointers: { readonly name: string; readonly offset: number; readonly to: string }[] = [];
  #unique = 0;

  constructor(origin = 0x2000) {
    this.origin = origin;
  }

  /** The next instruction's name. */
  label(name: string): this {
    if (this.#labels.has(name)) throw new Error(`label ${name} is there already`);
    this.#labels.set(name, this.origin + 4 * this.#code.length);
    return this;
  }

  /** Bytes behind the code, aligned to a word; returns the label. */
  data(name: string, content: Uint8Array | number): string {
    const bytes = typeof content === "number" ? new Uint8Array(content) : content;
    this.#data.push({ name, bytes });
    return name;
  }
  /** A structure of the Xen ABI with these values, in the data. */
  struct<const F extends FieldSpecs>(name: string, type: Struct<F>, values: Inputs<F>): string {
    const layout = type.at(TOY_ABI);
    const bytes = new Uint8Array(layout.size);
    layout.write(new DataView(bytes.buffer), 0, values);
    return this.data(name, bytes);
  }
  /** The word at `offset` of some data becomes the address of a label. */
  pointer(name: string, offset: number, to: string): this {
    this.#pointers.push({ name, offset, to });
    return this;
  }
  /** A name that nothing has yet. */
  fresh(stem: string): string {
    return `${stem} ${this.#unique++}`;
  }
  /** Words in the data. */
  words(name: string, ...values: number[]): string {
    const view = new DataView(new ArrayBuffer(4 * values.length));
    for (const [i, value] of values.entries()) view.setUint32(4 * i, value);
    return this.data(name, new Uint8Array(view.buffer));
  }
  text(name: string, text: string): string {
    return this.data(name, new TextEncoder().encode(text));
  }

  #op(op: number, d = 0, a = 0, imm = 0): this {
    this.#code.push(((op << 24) | (d << 20) | (a << 16) | (imm & 0xffff)) >>> 0);
    return this;
  }
  #branch(op: number, d: number, a: number, to: string): this {
    this.#code.push({ word: ((op << 24) | (d << 20) | (a << 16)) >>> 0, relative: to });
    return this;
  }

  /** One instruction as a number. */
  raw(word: number): this {
    this.#code.push(word >>> 0);
    return this;
  }
  li(d: number, value: number | string): this {
    this.#op(Op.li, d);
    this.#code.push(typeof value === "number" ? value >>> 0 : { absolute: value });
    return this;
  }
  set(d: number, value: Operand): this {
    return typeof value === "object" ? this.addi(d, value.reg, 0) : this.li(d, value);
  }
  addi(d: number, a: number, imm: number): this {
    return this.#op(Op.addi, d, a, imm);
  }
  alu(op: "add" | "sub" | "and" | "or" | "xor" | "shl" | "shr" | "mul", d: number, a: number, b: number): this {
    return this.#op(Op[op], d, a, b);
  }
  lw(d: number, a: number, offset = 0): this {
    return this.#op(Op.lw, d, a, offset);
  }
  sw(d: number, a: number, offset = 0): this {
    return this.#op(Op.sw, d, a, offset);
  }
  lb(d: number, a: number, offset = 0): this {
    return this.#op(Op.lb, d, a, offset);
  }
  sb(d: number, a: number, offset = 0): this {
    return this.#op(Op.sb, d, a, offset);
  }
  beq(d: number, a: number, to: string): this {
    return this.#branch(Op.beq, d, a, to);
  }
  bne(d: number, a: number, to: string): this {
    return this.#branch(Op.bne, d, a, to);
  }
  bltu(d: number, a: number, to: string): this {
    return this.#branch(Op.bltu, d, a, to);
  }
  jump(to: string): this {
    return this.#branch(Op.jal, SCRATCH, 0, to);
  }
  call(to: string): this {
    return this.#branch(Op.jal, LINK, 0, to);
  }
  return(): this {
    return this.#op(Op.jr, 0, LINK);
  }
  jr(a: number): this {
    return this.#op(Op.jr, 0, a);
  }
  hcall(): this {
    return this.#op(Op.hcall);
  }
  halt(): this {
    return this.#op(Op.halt);
  }
  yield(): this {
    return this.#op(Op.yield);
  }
  eret(): this {
    return this.#op(Op.eret);
  }
  upcall(a: number): this {
    return this.#op(Op.upcall, 0, a);
  }
  rdtime(d: number): this {
    return this.#op(Op.rdtime, d);
  }
  in(d: number, a: number, offset = 0): this {
    return this.#op(Op.in, d, a, offset);
  }
  out(d: number, a: number, offset = 0): this {
    return this.#op(Op.out, d, a, offset);
  }

  // ---- macros ------------------------------------------------------------------------------------

  /** Stores a register in the variable `name` (a word of data). */
  store(reg: number, name: string, offset = 0): this {
    return this.li(SCRATCH, name).sw(reg, SCRATCH, offset);
  }
  load(reg: number, name: string, offset = 0): this {
    return this.li(reg, name).lw(reg, reg, offset);
  }
  /** Makes a hypercall; with `result` its answer goes to a new variable of that name. */
  hypercall(nr: number, args: readonly Operand[], result?: string): this {
    for (const [i, arg] of args.entries()) this.set(1 + i, arg);
    this.li(0, nr).hcall();
    if (result !== undefined) {
      this.data(result, 4);
      this.store(0, result);
    }
    return this;
  }
  /** Ends the domain. */
  shutdown(reason = 0): this {
    const name = this.struct(this.fresh("shutdown"), xen.sched_shutdown, { reason });
    return this.hypercall(xen.__HYPERVISOR.sched_op, [xen.SCHEDOP.shutdown, name])
      .label(`dead ${name}`)
      .jump(`dead ${name}`);
  }
  /** Counts register `reg` up to `times` with `body` before each step. */
  loop(reg: number, times: number, body: () => void): this {
    const name = this.fresh("loop");
    this.li(reg, 0).label(name);
    body();
    return this.addi(reg, reg, 1).li(12, times).bltu(reg, 12, name);
  }

  /** Address of a label, data included; only what is there so far counts. */
  address(name: string): number {
    const code = this.#labels.get(name);
    if (code !== undefined) return code;
    let at = this.origin + 4 * this.#code.length;
    for (const one of this.#data) {
      if (one.name === name) return at;
      at += Math.ceil(one.bytes.length / 4) * 4;
    }
    throw new Error(`no label ${name}`);
  }

  /** The image that the toy port loads. */
  image(): Uint8Array {
    const dataSize = this.#data.reduce((sum, { bytes }) => sum + Math.ceil(bytes.length / 4) * 4, 0);
    const program = new Uint8Array(4 * this.#code.length + dataSize);
    const view = new DataView(program.buffer);
    for (const [i, one] of this.#code.entries()) view.setUint32(4 * i, this.#encode(one, i));
    for (const { name, bytes } of this.#data) program.set(bytes, this.address(name) - this.origin);
    for (const { name, offset, to } of this.#pointers)
      view.setUint32(this.address(name) - this.origin + offset, this.address(to));
    return encodeImage({ load: this.origin, entry: this.origin, program });
  }

  #encode(one: Item, index: number): number {
    if (typeof one === "number") return one;
    if ("absolute" in one) return this.address(one.absolute);
    const words = (this.address(one.relative) - (this.origin + 4 * (index + 1))) / 4;
    if (words < -0x8000 || words > 0x7fff) throw new Error(`${one.relative} is too far away`);
    return (one.word | (words & 0xffff)) >>> 0;
  }
}
