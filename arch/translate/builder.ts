/**
 * Collects the ops of one block, and finishes it: flags that die unread are not computed, each direct target gets a
 * stub, each op knows its guest instruction.
 *
 * An op belongs to the guest instruction that was open when it was emitted. Instructions without an op of their own
 * lend their number to the next op, so that a block whose code changes can stop before any instruction; where that op
 * can fault, they get a `nop` instead, so that a fault names the right one.
 */
import type { BlockBuilder, Op, OpSet } from "./ir.ts";
import { LINK } from "./ops/control.ts";

/** The most guest instructions of a block. */
export const MAX_INSTRUCTIONS = 64;
const WORDS = 4;

export class Builder implements BlockBuilder {
  readonly ops: OpSet;
  /** The ops: four 32-bit words each 16 bytes. */
  words = new Int32Array(1024 * WORDS);
  /** Words used. */
  length = 0;
  /** Of each op: its first word, its instruction. */
  #start = new Int32Array(1024);
  #instruction = new Int32Array(1024);
  count = 0;
  /** Of each instruction: byte offset from the block's pc. */
  readonly offsets = new Int32Array(MAX_INSTRUCTIONS + 1);
  /** Of each 16-byte unit of the finished block: its instruction. */
  owners = new Uint8Array(2048);
  #instructions = 0;
  /** Instructions below this have an op. */
  #covered = 0;
  #end = 0;
  #ended = false;
  /** Ops before this have a label behind them. */
  #labelled = 0;
  #opened = 0;
  /** Words where the direct targets are to go (lo first), and their pcs. */
  #targets: { word: number; half: number; lo: number; hi: number }[] = [];
  #terminator = 0;
  /** Liveness has left a nop. */
  #nops = false;
  readonly #nop: number;
  readonly #jmp: number;
  readonly #goto: number;
  readonly #link: number;

  constructor(ops: OpSet) {
    this.ops = ops;
    this.#nop = ops.id("nop");
    this.#jmp = ops.id("jmp");
    this.#goto = ops.id("goto");
    this.#link = ops.id(LINK);
  }

  /** Starts over. */
  reset(): void {
    this.length = 0;
    this.count = 0;
    this.#instructions = 0;
    this.#covered = 0;
    this.#end = 0;
    this.#ended = false;
    this.#labelled = 0;
    this.#opened = 0;
    this.#targets = [];
  }

  get instructions(): number {
    return this.#instructions;
  }
  get ended(): boolean {
    return this.#ended;
  }
  /** Bytes of guest code so far. */
  get guestBytes(): number {
    return this.#end;
  }

  instruction(_pcLo: number, _pcHi: number, bytes: number): void {
    if (this.#ended || this.#instructions >= MAX_INSTRUCTIONS) throw new Error("the block is full");
    this.offsets[this.#instructions++] = this.#end;
    this.#end += bytes;
    this.#opened = this.count;
  }

  #put(op: Op, d: number, a: number, b: number, lo: number, hi: number): number {
    const current = this.#instructions - 1;
    if (current < 0 || this.#ended) throw new Error("an op outside of an instruction");
    let owner = current;
    if (this.#covered < current) {
      if (op.exits) {
        for (let i = this.#covered; i < current; i++) this.#raw(this.#nop, 0, 0, 0, 0, 0, i);
      } else {
        owner = this.#covered;
      }
    }
    this.#covered = current + 1;
    return this.#raw(op.id, d, a, b, lo, hi, owner);
  }

  #raw(op: number, d: number, a: number, b: number, lo: number, hi: number, owner: number): number {
    if (this.count + 1 >= this.#start.length || this.length + 4 * WORDS >= this.words.length) this.#grow();
    const at = this.length;
    this.words[at] = op | (d << 16);
    this.words[at + 1] = (a & 0xffff) | (b << 16);
    this.words[at + 2] = lo;
    this.words[at + 3] = hi;
    this.length += WORDS;
    this.#start[this.count] = at;
    this.#instruction[this.count] = owner;
    return this.count++;
  }

  #grow(): void {
    const words = new Int32Array(this.words.length * 2);
    words.set(this.words);
    this.words = words;
    const start = new Int32Array(this.#start.length * 2);
    start.set(this.#start);
    this.#start = start;
    const instruction = new Int32Array(this.#instruction.length * 2);
    instruction.set(this.#instruction);
    this.#instruction = instruction;
  }

  #extra(lo2: number, hi2: number, lo3: number, hi3: number): void {
    const at = this.length;
    this.words[at] = lo2;
    this.words[at + 1] = hi2;
    this.words[at + 2] = lo3;
    this.words[at + 3] = hi3;
    this.length += WORDS;
  }

  #op(id: number): Op {
    const op = this.ops.list[id];
    if (op === undefined) throw new Error(`no IR operation ${id}`);
    return op;
  }

  emit(op: number, d = 0, a = 0, b = 0, lo = 0, hi = lo >> 31): number {
    const known = this.#op(op);
    if (known.extra || known.terminator !== undefined) throw new Error(`${known.name} is not emitted like this`);
    return this.#put(known, d, a, b, lo, hi);
  }

  emitExtra(
    op: number,
    d: number,
    a: number,
    b: number,
    lo: number,
    hi: number,
    lo2: number,
    hi2: number,
    lo3 = 0,
    hi3 = 0,
  ): number {
    const known = this.#op(op);
    if (!known.extra || known.terminator !== undefined) throw new Error(`${known.name} is not emitted like this`);
    const index = this.#put(known, d, a, b, lo, hi);
    this.#extra(lo2, hi2, lo3, hi3);
    return index;
  }

  skip(op: number, a = 0, b = 0): number {
    const known = this.#op(op);
    if (!known.skip) throw new Error(`${known.name} is no skip`);
    return this.#put(known, 0, a, b, 0, 0);
  }

  label(index: number): void {
    const start = this.#start[index] ?? 0;
    const op = this.#op((this.words[start] ?? 0) & 0xffff);
    if (!op.skip || index < this.#opened) throw new Error("a label needs an open skip of this instruction");
    // The skip has advanced by nothing yet: the distance counts from itself.
    this.words[start + 2] = (this.length - start) * 4;
    this.#labelled = this.count;
  }

  #terminate(
    op: number,
    kind: "branch" | "jump" | "computed",
    d: number,
    a: number,
    b: number,
    lo: number,
    hi: number,
  ): Op {
    const known = this.#op(op);
    if (known.terminator !== kind) throw new Error(`${known.name} is no ${kind}`);
    this.#terminator = this.length;
    const index = this.#put(known, d, a, b, lo, hi);
    this.#terminator = this.#start[index] ?? 0;
    this.#ended = true;
    return known;
  }

  branch(
    op: number,
    d: number,
    a: number,
    b: number,
    takenLo: number,
    takenHi: number,
    nextLo: number,
    nextHi: number,
    lo2 = 0,
    hi2 = 0,
    lo3 = 0,
    hi3 = 0,
  ): void {
    if (this.#terminate(op, "branch", d, a, b, 0, 0).extra) this.#extra(lo2, hi2, lo3, hi3);
    this.#targets.push({ word: this.#terminator + 2, half: 0, lo: takenLo, hi: takenHi });
    this.#targets.push({ word: this.#terminator + 3, half: 1, lo: nextLo, hi: nextHi });
  }

  jump(
    targetLo: number,
    targetHi: number,
    op = this.#jmp,
    d = 0,
    a = 0,
    b = 0,
    hi = 0,
    lo2 = 0,
    hi2 = 0,
    lo3 = 0,
    hi3 = 0,
  ): void {
    if (this.#terminate(op, "jump", d, a, b, 0, hi).extra) this.#extra(lo2, hi2, lo3, hi3);
    this.#targets.push({ word: this.#terminator + 2, half: 0, lo: targetLo, hi: targetHi });
  }

  computed(op: number, d = 0, a = 0, b = 0, lo = 0, hi = lo >> 31, lo2 = 0, hi2 = 0, lo3 = 0, hi3 = 0): void {
    if (this.#terminate(op, "computed", d, a, b, lo, hi).extra) this.#extra(lo2, hi2, lo3, hi3);
  }

  fallThrough(pcLo: number, pcHi: number): void {
    this.jump(pcLo, pcHi);
  }

  get lastOp(): number {
    const last = this.count - 1;
    if (last < 0 || last < this.#labelled) return -1;
    return (this.words[this.#start[last] ?? 0] ?? 0) & 0xffff;
  }
  get lastD(): number {
    return (this.words[this.#start[this.count - 1] ?? 0] ?? 0) >>> 16;
  }
  get lastA(): number {
    return (this.words[(this.#start[this.count - 1] ?? 0) + 1] ?? 0) & 0xffff;
  }
  get lastB(): number {
    return (this.words[(this.#start[this.count - 1] ?? 0) + 1] ?? 0) >>> 16;
  }
  get lastLo(): number {
    return this.words[(this.#start[this.count - 1] ?? 0) + 2] ?? 0;
  }
  get lastHi(): number {
    return this.words[(this.#start[this.count - 1] ?? 0) + 3] ?? 0;
  }

  dropLast(): void {
    const last = this.count - 1;
    const op = this.#op(this.lastOp);
    if (op.exits) throw new Error(`${op.name} can leave the block: it stays`);
    const owner = this.#instruction[last] ?? 0;
    this.length = this.#start[last] ?? 0;
    this.count = last;
    // Its instruction is without an op now, unless another is left.
    if (last === 0 || (this.#instruction[last - 1] ?? 0) < owner) this.#covered = owner;
  }

  /** Puts plain twins in where flags die unread: backwards from the end, where they are live. */
  #liveness(): void {
    this.#nops = false;
    let live = true;
    let instruction = -1;
    for (let i = this.count - 1; i >= 0; i--) {
      const at = this.#start[i] ?? 0;
      const word = this.words[at] ?? 0;
      const op = this.#op(word & 0xffff);
      const owner = this.#instruction[i] ?? 0;
      if (owner !== instruction) {
        instruction = owner;
        // An instruction that stores may stop the block at its end.
        for (let j = i; j >= 0 && this.#instruction[j] === owner; j--) {
          if (this.#op((this.words[this.#start[j] ?? 0] ?? 0) & 0xffff).stores) {
            live = true;
            break;
          }
        }
      }
      if (!live && op.plain !== undefined) {
        const plain = op.plainId < 0 ? this.#nop : op.plainId;
        if (plain === this.#nop) this.#nops = true;
        this.words[at] = (word & 0xffff0000) | plain;
        // The twin sets no flags, but may read them (an addition with carry).
        if (this.#op(plain).flags !== "none") live = true;
      } else if (op.flags === "set") {
        live = false;
      } else if (op.flags !== "none") {
        live = true;
      }
      if (op.exits || op.skip) live = true;
    }
  }

  /** Removes the nops that dropped ops have left, where the next op can lend its place. */
  #compact(): void {
    if (!this.#nops) return;
    for (let i = 0; i < this.count; i++) if (this.#op((this.words[this.#start[i] ?? 0] ?? 0) & 0xffff).skip) return;
    let kept = 0;
    let length = 0;
    let lent = -1;
    for (let i = 0; i < this.count; i++) {
      const at = this.#start[i] ?? 0;
      const end = i + 1 < this.count ? (this.#start[i + 1] ?? 0) : this.length;
      const op = this.#op((this.words[at] ?? 0) & 0xffff);
      let owner = this.#instruction[i] ?? 0;
      if (op.id === this.#nop && i + 1 < this.count) {
        const next = this.#instruction[i + 1] ?? 0;
        const nextOp = this.#op((this.words[this.#start[i + 1] ?? 0] ?? 0) & 0xffff);
        if ((next === owner && (lent < 0 || lent === owner)) || !nextOp.exits) {
          if (lent < 0) lent = owner;
          continue;
        }
      }
      if (lent >= 0 && !op.exits) owner = lent;
      lent = -1;
      this.words.copyWithin(length, at, end);
      if (at === this.#terminator) this.#terminator = length;
      this.#start[kept] = length;
      this.#instruction[kept++] = owner;
      length += end - at;
    }
    const moved = this.length - length;
    for (const target of this.#targets) target.word -= moved;
    this.count = kept;
    this.length = length;
  }

  /**
   * Finishes the block: `ip` is where its first op will be, `linkable` says of a target pc whether it may be linked
   * directly. Appends the stubs and fills `owners`; answers the words used.
   */
  finish(ip: number, linkable: (lo: number, hi: number) => boolean): number {
    if (!this.#ended) throw new Error("the lifter left a block without a terminator");
    this.#liveness();
    this.#compact();
    let unit = 0;
    if (this.length / WORDS + 8 > this.owners.length) this.owners = new Uint8Array((this.length / WORDS) * 2);
    const owners = this.owners;
    for (let i = 0; i < this.count; i++) {
      const end = i + 1 < this.count ? (this.#start[i + 1] ?? 0) : this.length;
      for (let at = this.#start[i] ?? 0; at < end; at += WORDS) owners[unit++] = this.#instruction[i] ?? 0;
    }
    for (const target of this.#targets) {
      // A stub is entered like a block: a header of no instructions, then the op.
      if (this.length + 2 * WORDS > this.words.length) this.#grow();
      const header = this.length;
      const at = header + WORDS;
      const link = linkable(target.lo, target.hi);
      this.words.fill(0, header, at);
      this.words[at] = (link ? this.#link : this.#goto) | (target.half << 16);
      // Distance in bytes from the word that names the target.
      this.words[at + 1] = (at - target.word) * 4;
      this.words[at + 2] = target.lo;
      this.words[at + 3] = target.hi;
      this.words[target.word] = ip + header * 4;
      this.length += 2 * WORDS;
      owners[unit++] = this.#instructions - 1;
      owners[unit++] = this.#instructions - 1;
    }
    return this.length;
  }
}
