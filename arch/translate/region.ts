/**
 * Compiled loops: blocks that run on and on become a WebAssembly function of their own, where ops follow each other without
 * being dispatched and their operands' places are constants.
 *
 * Found by sampling: the interpreter is left every so many instructions anyway, and a block that it is left in again and again is hot. With
 * the blocks that are linked to it, on the same page and as plain as it, it makes a region, if control can come back to it. A
 * region is entered where the engine would enter the interpreter, at the header of one of its blocks (where a run starts within a block, the
 * engine has the interpreter go on by short stretches until it comes to one), and does the same to the last
 * bit: each block takes its count from the budget, every exit names its op. Where control goes elsewhere it leaves as if the
 * budget were used up, at that block's header; the engine goes on there.
 *
 * Invariants: the ops of a region's blocks do not change while it lives: a block that dies takes its regions with it. A store that kills a
 * running region (it changed translated code) ends it before the next instruction: only stores that take the slow way can,
 * and after those the region's flag in memory 1 is read. Blocks with helpers, with computed ends, with a store in their last
 * instruction stay with the interpreter.
 */
import type { Block, Cache } from "./cache.ts";
import { cellAt, LOAD, load, localOf, STORE, seq, store, when } from "./cells.ts";
import { BUDGET, type ContextFunctions, contextFunctions, IP, S, WasmContext } from "./context.ts";
import { type CellAccess, EXIT_BUDGET, EXIT_FAULT, EXIT_STOP, type OpSet } from "./ir.ts";
import type { Layout } from "./layout.ts";
import { HEADER_BYTES, MMU_BYTES, STATE_BYTES } from "./map.ts";
import { type Expr, I32, I64, type Label } from "./wasm/code.ts";
import { c32, c64, i32 } from "./wasm/expr.ts";
import { FunctionBody, ModuleBuilder } from "./wasm/module.ts";

/** Samples of a block, out of the last WINDOW, that make it hot. */
const HOT = 8;
const WINDOW = 64;
/** Blocks of a region at most, and blocks in regions at a time. */
const MAX_BLOCKS = 24;
const MAX_ENTRIES = 2048;
/** Flags of regions lie below everything else in memory 1, 4 bytes each: so many regions can be made until all code is dropped. */
const FLAGS = 64;
const FLAGS_END = 0x10000;

/** A place where compiled code may be entered: a block's header. */
export interface RegionEntry {
  readonly region: Region;
  /** Which of the region's blocks. */
  readonly index: number;
}

/** A compiled region. */
export interface Region {
  /** (state, index, budget) -> EXIT_*. */
  readonly run: (state: number, index: number, budget: number) => number;
  readonly blocks: readonly Block[];
  readonly flag: number;
}

/** What regions are made with. */
export interface RegionOptions {
  readonly ops: OpSet;
  readonly layout: Layout;
  readonly cache: Cache;
  readonly physical: WebAssembly.Memory;
  readonly state: WebAssembly.Memory;
  readonly slowLoad: WebAssembly.ExportValue;
  readonly slowStore: WebAssembly.ExportValue;
  /** Samples that make a block hot; default 8. */
  readonly hot?: number;
}

/** A block's ops up to its terminator: addresses in memory 1. */
interface RegionBlock {
  readonly block: Block;
  readonly ops: readonly number[];
  /** Places that name its targets. */
  readonly targets: readonly number[];
}

export class Regions {
  readonly #o: RegionOptions;
  readonly #u16: Uint16Array;
  readonly #u32: Uint32Array;
  readonly #hot: number;
  /** By the address of a block's header. */
  readonly #entries = new Map<number, RegionEntry>();
  /** How many of these there are on a frame. */
  readonly #frames = new Map<number, number>();
  #samples = new Map<number, number>();
  #sampled = 0;
  /** Blocks that are in no loop or cannot be compiled. */
  readonly #refused = new Set<number>();
  /** The next region's flag. One that has ended may still be looked at by its code. */
  #flag = FLAGS;
  /** Regions made so far. */
  made = 0;

  constructor(options: RegionOptions) {
    this.#o = options;
    this.#u16 = new Uint16Array(options.state.buffer);
    this.#u32 = new Uint32Array(options.state.buffer);
    this.#hot = options.hot ?? HOT;
  }

  /** The compiled code that can be entered at a header. */
  at(header: number): RegionEntry | undefined {
    return this.#entries.size === 0 ? undefined : this.#entries.get(header);
  }

  /** The block at a header is on a page that has compiled code. */
  near(header: number): boolean {
    return this.#entries.size > 0 && this.#frames.has((this.#u32[(header >> 2) + 1] ?? 0) | 0);
  }

  /** The interpreter has been left at this header because time was up. */
  sample(header: number): void {
    const count = (this.#samples.get(header) ?? 0) + 1;
    this.#samples.set(header, count);
    if (++this.#sampled >= WINDOW && count < this.#hot) {
      this.#samples.clear();
      this.#sampled = 0;
    }
    if (count !== this.#hot || this.#refused.has(header)) return;
    if (this.#flag >= FLAGS_END || this.#entries.size > MAX_ENTRIES) return;
    const block = this.#o.cache.at(header);
    if (block === undefined || block.ip !== header) return;
    const blocks = this.#collect(block);
    if (blocks === null) this.#refused.add(header);
    else this.#make(blocks);
  }

  /** A block has died. */
  drop(block: Block): void {
    const entry = this.#entries.get(block.ip);
    if (entry === undefined) return;
    this.#u32[entry.region.flag >> 2] = 1;
    for (const { ip, frame } of entry.region.blocks) {
      this.#entries.delete(ip);
      const left = (this.#frames.get(frame) ?? 0) - 1;
      if (left > 0) this.#frames.set(frame, left);
      else this.#frames.delete(frame);
    }
  }

  /** All translated code is gone; none of it runs. */
  clear(): void {
    this.#entries.clear();
    this.#frames.clear();
    this.#samples.clear();
    this.#refused.clear();
    this.#flag = FLAGS;
  }

  /** The ops of a block that a region can hold; null: it cannot. */
  #read(block: Block): RegionBlock | null {
    const { cache, ops } = this.#o;
    if (block.dead || block.frame2 >= 0) return null;
    const list: number[] = [];
    let stored = -1;
    for (let at = block.ip + HEADER_BYTES; at < block.end; ) {
      const op = ops.list[this.#u16[at >> 1] ?? 0];
      if (op === undefined || op.helps || op.skip === true) return null;
      list.push(at);
      if (op.stores) stored = cache.owner(block, at);
      if (op.terminator !== undefined) {
        if (op.terminator === "computed" || stored === cache.owner(block, at)) return null;
        return { block, ops: list, targets: op.terminator === "branch" ? [at + 8, at + 12] : [at + 8] };
      }
      at += op.bytes;
    }
    return null;
  }

  /** The blocks of a hot one's region, by their place in memory 1; null: there is no way back to it. */
  #collect(hot: Block): RegionBlock[] | null {
    const { cache } = this.#o;
    const found = new Map<number, RegionBlock>();
    const waiting = [hot];
    let loops = false;
    for (let block = waiting.shift(); block !== undefined && found.size < MAX_BLOCKS; block = waiting.shift()) {
      if (found.has(block.ip) || this.#entries.has(block.ip)) continue;
      const read = block.mode === hot.mode && block.frame === hot.frame ? this.#read(block) : null;
      if (read === null) continue;
      found.set(block.ip, read);
      for (const place of read.targets) {
        const target = this.#u32[place >> 2] ?? 0;
        if (target === hot.ip) loops = true;
        const next = cache.at(target);
        if (next !== undefined && next.ip === target) waiting.push(next);
      }
    }
    return loops ? [...found.values()].sort((x, y) => x.block.pcLo - y.block.pcLo || x.block.ip - y.block.ip) : null;
  }

  #make(blocks: readonly RegionBlock[]): void {
    const flag = this.#flag;
    this.#flag += 4;
    const { cache, ops, layout, physical, state, slowLoad, slowStore } = this.#o;
    const bytes = emitRegion({ blocks, ops, layout, cache, flag, u16: this.#u16, u32: this.#u32 });
    const instance = new WebAssembly.Instance(new WebAssembly.Module(bytes), {
      m: { physical, state },
      h: { slowLoad, slowStore },
    });
    this.#u32[flag >> 2] = 0;
    const run = instance.exports["run"] as Region["run"];
    const region: Region = { run, blocks: blocks.map(({ block }) => block), flag };
    for (const [index, { block }] of blocks.entries()) {
      this.#entries.set(block.ip, { region, index });
      this.#frames.set(block.frame, (this.#frames.get(block.frame) ?? 0) + 1);
    }
    this.made++;
  }
}

/** The emitter's side of a region: operands are those of the op at `at`, known now. */
class RegionContext extends WasmContext {
  readonly #u16: Uint16Array;
  readonly #u32: Uint32Array;
  readonly #flag: number;
  /** A store of this instruction has killed the region. */
  readonly stopped;
  /** Address of the op that is emitted. */
  at = 0;
  /** Goes to the block whose header is named at an address. */
  go: (place: number) => Expr = () => () => {};

  constructor(
    body: FunctionBody,
    layout: Layout,
    functions: ContextFunctions,
    o: { readonly u16: Uint16Array; readonly u32: Uint32Array; readonly flag: number },
  ) {
    super(body, layout, functions);
    this.#u16 = o.u16;
    this.#u32 = o.u32;
    this.#flag = o.flag;
    this.stopped = localOf(body.local(I32));
  }

  protected override get stored(): Expr {
    return this.stopped.set(load(LOAD.i32, 1, c32(this.#flag)));
  }

  #raw(offset: number): number {
    return this.#u16[(this.at + offset) >> 1] ?? 0;
  }
  #word(offset: number): number {
    return (this.#u32[(this.at + offset) >> 2] ?? 0) | 0;
  }
  #cell(offset: number): CellAccess {
    return cellAt((w) => w.get(S), this.#raw(offset));
  }

  get d(): CellAccess {
    return this.#cell(2);
  }
  get a(): CellAccess {
    return this.#cell(4);
  }
  get b(): CellAccess {
    return this.#cell(6);
  }
  get rawD(): Expr {
    return c32(this.#raw(2));
  }
  get rawA(): Expr {
    return c32(this.#raw(4));
  }
  get rawB(): Expr {
    return c32(this.#raw(6));
  }
  get imm(): Expr {
    return c64(this.#word(8), this.#word(12));
  }
  get lo(): Expr {
    return c32(this.#word(8));
  }
  get hi(): Expr {
    return c32(this.#word(12));
  }
  get imm2(): Expr {
    return c64(this.#word(16), this.#word(20));
  }
  get lo2(): Expr {
    return c32(this.#word(16));
  }
  get hi2(): Expr {
    return c32(this.#word(20));
  }
  get imm3(): Expr {
    return c64(this.#word(24), this.#word(28));
  }
  get lo3(): Expr {
    return c32(this.#word(24));
  }
  get hi3(): Expr {
    return c32(this.#word(28));
  }
  get vimm(): Expr {
    return load(LOAD.v128, 1, c32(this.at), 16);
  }

  branch(condition: Expr): Expr {
    return when(condition, this.go(this.at + 8), this.go(this.at + 12));
  }
  jump(): Expr {
    return this.go(this.at + 8);
  }
  jumpTo(): Expr {
    throw new Error("a region has no computed jump");
  }
  skip(): Expr {
    throw new Error("a region has no skip");
  }
}

/** Emits a region's module: exports run(state, index, budget). */
function emitRegion(o: {
  readonly blocks: readonly RegionBlock[];
  readonly ops: OpSet;
  readonly layout: Layout;
  readonly cache: Cache;
  readonly flag: number;
  readonly u16: Uint16Array;
  readonly u32: Uint32Array;
}): Uint8Array<ArrayBuffer> {
  const { blocks, ops, layout, cache } = o;
  const m = new ModuleBuilder();
  m.importMemory("m", "physical", 1);
  m.importMemory("m", "state", 1);
  const slow = { parameters: [I32, I32, I64, I32], results: [I32] };
  const loading = m.importFunction("h", "slowLoad", slow);
  const storing = m.importFunction("h", "slowStore", slow);
  const type = { parameters: [I32, I32, I32], results: [I32] };
  const run = m.declare(type);
  const body = new FunctionBody(type);
  // No op of a region calls a helper.
  const functions = contextFunctions(m, layout, { load: loading, store: storing, helper: -1 });
  const c = new RegionContext(body, layout, functions, o);
  const w = body.code;
  const ip = localOf(IP);
  const budget = localOf(BUDGET);
  const state: Expr = (v) => v.get(S);
  const indexOf = new Map(blocks.map(({ block }, index) => [block.ip, index]));

  c.tlb.set(
    i32.add(i32.add(state, c32(STATE_BYTES)), i32.mul(load(LOAD.i32, 1, state, layout.at.mmu), c32(MMU_BYTES))),
  )(w);
  const leave = w.block();
  const out = w.block();
  const fault = w.block();
  // Here local IP is the index of a block.
  const top = w.loop();
  const starts: Label[] = [];
  for (let index = blocks.length - 1; index >= 0; index--) starts[index] = w.block();
  ip.get(w);
  const [first] = starts;
  if (first === undefined) throw new Error("a region without blocks");
  w.brTable([...starts, first]);
  c.labels = { fault, leave, out, top };
  for (const [index, { block, ops: list }] of blocks.entries()) {
    w.end();
    budget.set(i32.sub(budget.get, c32(block.count)))(w);
    when(
      i32.lts(budget.get, c32(0)),
      seq(budget.set(i32.add(budget.get, c32(block.count))), ip.set(c32(block.ip)), (v) => v.br(out)),
    )(w);
    c.go = (place) => {
      const target = indexOf.get(o.u32[place >> 2] ?? 0);
      if (target === undefined) return seq(ip.set(load(LOAD.i32, 1, c32(place))), (v) => v.br(out));
      if (target <= index) return seq(ip.set(c32(target)), (v) => v.br(top));
      return (v) => {
        const label = starts[target];
        if (label === undefined) throw new Error("a region has no such block");
        v.br(label);
      };
    };
    /** Instruction that the last store belongs to. */
    let stored = -1;
    for (const at of list) {
      const op = ops.list[o.u16[at >> 1] ?? 0];
      if (op === undefined) throw new Error("no such op");
      const owner = cache.owner(block, at);
      if (op.exits || (stored >= 0 && owner > stored)) ip.set(c32(at))(w);
      if (stored >= 0 && owner > stored) {
        when(
          c.stopped.get,
          seq(c.code.set(c32(EXIT_STOP)), (v) => v.br(leave)),
        )(w);
        stored = -1;
      }
      if (op.stores) stored = owner;
      c.at = at;
      op.emit(c)(w);
      if (op.terminator !== undefined) w.unreachable();
    }
  }
  w.end();
  w.unreachable();
  w.end();
  c.code.set(c32(EXIT_FAULT))(w);
  w.br(leave);
  w.end();
  c.code.set(c32(EXIT_BUDGET))(w);
  w.end();
  store(STORE.i32, 1, state, ip.get, layout.at.exitOp)(w);
  store(STORE.i32, 1, state, budget.get, layout.at.budget)(w);
  c.code.get(w);
  m.define(run, body);
  m.export("run", run);
  return m.bytes();
}
