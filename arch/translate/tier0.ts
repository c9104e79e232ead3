/**
 * Tier 0: the interpreter, emitted as one WebAssembly module per architecture.
 *
 * run(state, ip, budget) -> EXIT_*: `ip` is the header of a block; every entry of a block takes its count of
 * instructions from the budget, and leaves with EXIT_BUDGET (nothing of the block done) when it does not suffice. One
 * loop and br_table over the opcode; operands live in the state. Leaving, the address of the op and the budget are
 * in the state (exitOp, budget).
 *
 * Beside it in the module: slow.ts. Memory 0 is physical, memory 1 holds the state. Everything else that an op
 * needs of TypeScript is one of three imports.
 */

import { cellAt, fieldOffset, LOAD, load, localOf, lowLane, STORE, seq, store, when } from "./cells.ts";
import {
  type CellAccess,
  type EmitContext,
  EXIT_ARCH,
  EXIT_ARCH_AFTER,
  EXIT_BUDGET,
  EXIT_CONTINUE,
  EXIT_FAULT,
  EXIT_LOOKUP,
  type LoadKind,
  type Local,
  type Op,
  type OpSet,
  type StoreKind,
} from "./ir.ts";
import type { Layout } from "./layout.ts";
import {
  ENTRY_MASK,
  GENERATION,
  HEADER_BYTES,
  JUMP_CACHE,
  MMU_BYTES,
  READ_TLB,
  STATE_BYTES,
  WRITE_TLB,
} from "./map.ts";
import { emitEvict, emitFetch, emitResolve, emitSlow, emitTranslate, emitWalk, type MemoryOptions } from "./slow.ts";
import { type Code, type Expr, F64, I32, I64, type Label, V128, VOID } from "./wasm/code.ts";
import { c32, c64, i32, i64, select } from "./wasm/expr.ts";
import { FunctionBody, ModuleBuilder } from "./wasm/module.ts";

export type { WalkEmitter } from "./slow.ts";

export interface Tier0Options extends MemoryOptions {
  readonly ops: OpSet;
}

/** What the module imports from TypeScript, beside the memories. */
export interface Tier0Imports {
  /** Calls helper `index`. */
  helper(state: number, op: number, index: number): number;
  /** An access to a special page (walk result 2): the value is in slowValue, the address in slowAddress; 1 done, 0 fault. */
  special(state: number, op: number, access: number, bytes: number): number;
  /** Guest bytes that may be translated code have been written. */
  wroteCode(state: number, op: number, address: number, bytes: number): void;
}

/** What the module exports. */
export interface Tier0Exports {
  run(state: number, ip: number, budget: number): number;
  /** 0 fault, 1 found (walkPage, walkPermit), 2 special. */
  translate(state: number, lo: number, hi: number, access: number): number;
  /** Removes a frame (byte address of its page) from the TLB at this address. */
  evict(tlb: number, page: number): void;
}

/** Loads of memory 0, and of slowValue: instruction and bytes. */
const LOADS: Record<LoadKind, readonly [instruction: number, bytes: number]> = {
  u8: [0x31, 1],
  s8: [0x30, 1],
  u16: [0x33, 2],
  s16: [0x32, 2],
  u32: [0x35, 4],
  s32: [0x34, 4],
  u64: [LOAD.i64, 8],
  v128: [LOAD.v128, 16],
  v32: [0xfd005c, 4],
  v64: [0xfd005d, 8],
};
const STORES: Record<StoreKind, readonly [instruction: number, bytes: number, vector: boolean]> = {
  8: [0x3c, 1, false],
  16: [0x3d, 2, false],
  32: [0x3e, 4, false],
  64: [STORE.i64, 8, false],
  v128: [STORE.v128, 16, true],
  v32: [STORE.i32, 4, true],
  v64: [STORE.i64, 8, true],
};

/**
 * Rare ops jump to one end for each so many ops, and only that to the next op: where a thousand ops meet in one place, the host's compiler
 * takes 280 MB and half a second (quadratic in their number). The others go there directly, as the detour costs some of them a third of
 * their speed.
 */
const GROUP = 32;
const S = 0;
const IP = 1;
const BUDGET = 2;

/** Functions of the module that ops call. */
interface ContextFunctions {
  readonly load: number;
  readonly store: number;
  readonly helper: number;
  /** Index of the function of a shared part, (state) -> i32; emitted when it is first asked for. */
  readonly shared: (name: string, body: (c: EmitContext) => Expr) => number;
}

/** The emitter's side of the interpreter: one object, told which op it emits. */
class Tier0Context implements EmitContext {
  readonly #body: FunctionBody;
  readonly #layout: Layout;
  readonly #functions: ContextFunctions;
  readonly #locals = new Map<string, Local>();
  readonly tlb: Local;
  readonly mode: Local;
  readonly code: Local;
  readonly target: Local;
  #depth = 0;
  op: Op | undefined;
  labels: { fault: Label; leave: Label; lookup: Label; enter: Label; reload: Label; next: Label } | undefined;

  readonly d: CellAccess;
  readonly a: CellAccess;
  readonly b: CellAccess;
  readonly rawD: Expr = load(0x2f, 1, (w) => w.get(IP), 2);
  readonly rawA: Expr = load(0x2f, 1, (w) => w.get(IP), 4);
  readonly rawB: Expr = load(0x2f, 1, (w) => w.get(IP), 6);
  readonly imm: Expr = load(LOAD.i64, 1, (w) => w.get(IP), 8);
  readonly lo: Expr = load(LOAD.i32, 1, (w) => w.get(IP), 8);
  readonly hi: Expr = load(LOAD.i32, 1, (w) => w.get(IP), 12);
  readonly imm2: Expr = load(LOAD.i64, 1, (w) => w.get(IP), 16);
  readonly lo2: Expr = load(LOAD.i32, 1, (w) => w.get(IP), 16);
  readonly hi2: Expr = load(LOAD.i32, 1, (w) => w.get(IP), 20);
  readonly imm3: Expr = load(LOAD.i64, 1, (w) => w.get(IP), 24);
  readonly lo3: Expr = load(LOAD.i32, 1, (w) => w.get(IP), 24);
  readonly hi3: Expr = load(LOAD.i32, 1, (w) => w.get(IP), 28);
  readonly vimm: Expr = load(LOAD.v128, 1, (w) => w.get(IP), 16);

  constructor(body: FunctionBody, layout: Layout, functions: ContextFunctions) {
    this.#body = body;
    this.#layout = layout;
    this.#functions = functions;
    const operand = (raw: Expr): CellAccess =>
      cellAt(
        i32.add((w) => w.get(S), raw),
        0,
      );
    this.d = operand(this.rawD);
    this.a = operand(this.rawA);
    this.b = operand(this.rawB);
    this.tlb = localOf(body.local(I32));
    this.mode = localOf(body.local(I32));
    this.code = localOf(body.local(I32));
    this.target = localOf(body.local(I64));
  }

  #local(type: number, name: string): Local {
    const known = this.#locals.get(name);
    if (known !== undefined) return known;
    const made = localOf(this.#body.local(type));
    this.#locals.set(name, made);
    return made;
  }

  #exits(): void {
    if (this.op !== undefined) this.op.exits = true;
  }

  #label(name: "fault" | "leave" | "lookup" | "enter" | "reload" | "next"): Expr {
    return (w) => {
      if (this.labels === undefined) throw new Error("no op is being emitted");
      w.br(this.labels[name]);
    };
  }

  i64(i: number): Local {
    return this.#local(I64, `l${i}`);
  }
  i32(i: number): Local {
    return this.#local(I32, `i${i}`);
  }
  v128(i: number): Local {
    return this.#local(V128, `v${i}`);
  }
  f64(i: number): Local {
    return this.#local(F64, `f${i}`);
  }

  cell(field: string, index = 0): CellAccess {
    return cellAt((w) => w.get(S), fieldOffset(this.#layout, field, index));
  }

  cellAt(offset: number, index: Expr): CellAccess {
    return cellAt(
      i32.add((w) => w.get(S), index),
      offset,
    );
  }

  /** Looks `va` (a local) up in a TLB: leaves to `slow` unless it hits; pushes the machine address. */
  #hit(w: Code, va: Local, entry: Local, table: number, bytes: number, slow: Label): void {
    const x = entry.tee(i32.wrap(i64.shru(va.get, c64(8))));
    const slot = i32.and(i32.xor(x, i32.shru(entry.get, c32(12))), c32(ENTRY_MASK));
    i64.xor(load(LOAD.i64, 1, entry.tee(i32.add(slot, this.tlb.get)), table), va.get)(w);
    w.i64(4096 - bytes, 0);
    w.op(0x56);
    w.brIf(slow);
    i32.add(i32.wrap(va.get), load(LOAD.i32, 1, entry.get, table + 8))(w);
  }

  load(kind: LoadKind, va: Expr, forWrite = false): Expr {
    this.#exits();
    const [instruction, bytes] = LOADS[kind];
    const type = kind.startsWith("v") ? V128 : I64;
    return (w) => {
      const depth = this.#depth++;
      const address = this.#local(I64, `va${depth}`);
      const entry = this.#local(I32, `entry${depth}`);
      address.set(va)(w);
      const done = w.block(type);
      const slow = w.block();
      this.#hit(w, address, entry, forWrite ? WRITE_TLB : READ_TLB, bytes, slow);
      w.memory(instruction, 0, 0);
      w.br(done);
      w.end();
      w.get(S);
      w.get(IP);
      address.get(w);
      w.i32(bytes | (forWrite ? 0x100 : 0));
      w.call(this.#functions.load);
      w.op(0x45);
      w.if();
      this.#label("fault")(w);
      w.end();
      load(instruction, 1, (v) => v.get(S), fieldOffset(this.#layout, "slowValue"))(w);
      w.end();
      this.#depth--;
    };
  }

  store(kind: StoreKind, va: Expr, value: Expr): Expr {
    this.#exits();
    if (this.op !== undefined) this.op.stores = true;
    const [instruction, bytes, vector] = STORES[kind];
    return (w) => {
      const depth = this.#depth++;
      const address = this.#local(I64, `va${depth}`);
      const entry = this.#local(I32, `entry${depth}`);
      const kept = this.#local(kind === "v128" ? V128 : I64, `${kind === "v128" ? "vv" : "value"}${depth}`);
      // The low lane of a vector store that is narrower than the vector.
      kept.set(vector && kind !== "v128" ? lowLane(value) : value)(w);
      address.set(va)(w);
      const plain = kind === "v32" ? 0x3e : instruction;
      const done = w.block();
      const slow = w.block();
      this.#hit(w, address, entry, WRITE_TLB, bytes, slow);
      kept.get(w);
      w.memory(plain, 0, 0);
      w.br(done);
      w.end();
      store(plain, 1, (v) => v.get(S), kept.get, fieldOffset(this.#layout, "slowValue"))(w);
      w.get(S);
      w.get(IP);
      address.get(w);
      w.i32(bytes);
      w.call(this.#functions.store);
      w.op(0x45);
      w.if();
      this.#label("fault")(w);
      w.end();
      w.end();
      this.#depth--;
    };
  }

  seq(...statements: Expr[]): Expr {
    return seq(...statements);
  }
  when(condition: Expr, then: Expr, otherwise?: Expr): Expr {
    return when(condition, then, otherwise);
  }

  branch(condition: Expr): Expr {
    return seq(localOf(IP).set(select(this.lo, this.hi, condition)), this.#label("enter"));
  }
  jump(): Expr {
    return seq(localOf(IP).set(this.lo), this.#label("enter"));
  }
  jumpTo(pc: Expr): Expr {
    return seq(this.target.set(pc), this.#label("lookup"));
  }

  get fault(): Expr {
    this.#exits();
    return this.#label("fault");
  }
  leave(code: Expr): Expr {
    this.#exits();
    return seq(this.code.set(code), this.#label("leave"));
  }
  exit(detail: Expr): Expr {
    return seq(this.cell("exitDetail").set32i(detail), this.leave(c32(EXIT_ARCH)));
  }
  exitAfter(detail: Expr): Expr {
    return seq(this.cell("exitDetail").set32i(detail), this.leave(c32(EXIT_ARCH_AFTER)));
  }

  skip(condition: Expr): Expr {
    return when(condition, seq(localOf(IP).set(i32.add((w) => w.get(IP), this.lo)), this.#label("next")));
  }

  helper(index: Expr): Expr {
    this.#exits();
    const op = this.op;
    if (op !== undefined) op.stores = true;
    const call: Expr = (w) => {
      w.get(S);
      w.get(IP);
      index(w);
      w.call(this.#functions.helper);
    };
    // What a helper answers is the exit code, but for "go on", and "continue" at the end of a block.
    const ends = op?.terminator !== undefined;
    const ask = seq(
      this.cell("budget").set32i((w) => w.get(BUDGET)),
      this.code.set(call),
    );
    if (ends) {
      return seq(ask, when(i32.eq(this.code.get, c32(EXIT_CONTINUE)), this.#label("reload")), this.#label("leave"));
    }
    return seq(ask, when(this.code.get, this.#label("leave")));
  }

  shared(name: string, body: (c: EmitContext) => Expr): Expr {
    const index = this.#functions.shared(name, body);
    return (w) => {
      w.get(S);
      w.call(index);
    };
  }
}

/** Emits `run`. */
function emitRun(body: FunctionBody, c: Tier0Context, ops: OpSet, layout: Layout, fetch: number): void {
  const w = body.code;
  const ip = localOf(IP);
  const budget = localOf(BUDGET);
  const state: Expr = (v) => v.get(S);
  const reload = seq(
    c.tlb.set(
      i32.add(i32.add(state, c32(STATE_BYTES)), i32.mul(load(LOAD.i32, 1, state, layout.at.mmu), c32(MMU_BYTES))),
    ),
    c.mode.set(load(LOAD.i32, 1, state, layout.at.mode)),
  );
  const leave = w.block();
  reload(w);
  const enter = w.loop();
  // The block's header.
  const count = c.i32(0);
  budget.set(i32.sub(budget.get, count.tee(load(0x2f, 1, ip.get, 2))))(w);
  when(
    i32.lts(budget.get, c32(0)),
    seq(budget.set(i32.add(budget.get, count.get)), c.code.set(c32(EXIT_BUDGET)), (v) => v.br(leave)),
  )(w);
  ip.set(i32.add(ip.get, c32(HEADER_BYTES)))(w);
  const next = w.loop();
  const fault = w.block();
  const lookup = w.block();
  const again = w.block();
  // Rare ops have their ends in common: see GROUP.
  const cases: Label[] = [];
  const tails: Label[] = [];
  for (let id = ops.list.length - 1; id >= 0; id--) {
    cases[id] = w.block(VOID);
    if (id % GROUP === 0 && id > 0) tails[id / GROUP - 1] = w.block(VOID);
  }
  // The innermost block is op 0's: its end comes first.
  const none = w.block();
  load(0x2f, 1, ip.get)(w);
  w.brTable([...cases, none]);
  w.end();
  w.unreachable();
  c.labels = { fault, leave, lookup, enter, reload: again, next };
  for (const op of ops.list) {
    if (op.id % GROUP === 0 && op.id > 0) {
      w.end();
      ip.set(i32.add(ip.get, c32(16)))(w);
      w.br(next);
    }
    w.end();
    op.exits = false;
    op.stores = false;
    c.op = op;
    op.emit(c)(w);
    if (op.terminator !== undefined) {
      w.unreachable();
    } else {
      const tail = op.rare === true ? tails[Math.floor(op.id / GROUP)] : undefined;
      const here = tail === undefined ? op.bytes : op.bytes - 16;
      if (here > 0) ip.set(i32.add(ip.get, c32(here)))(w);
      w.br(tail ?? next);
    }
  }
  c.op = undefined;
  // A helper has ended the block: mode and mmu may have changed, the pc is in its cell.
  w.end();
  reload(w);
  c.target.set(load(LOAD.i64, 1, state, layout.at.pc))(w);
  // A computed jump: the jump cache.
  w.end();
  const entry = c.i32(1);
  const low = c.i32(2);
  const stamp = c.i32(3);
  const now = c.i32(0);
  const slot = i32.and(i32.xor(i32.shl(low.get, c32(4)), i32.shru(low.get, c32(8))), c32(ENTRY_MASK));
  seq(
    low.set(i32.wrap(c.target.get)),
    entry.set(i32.add(c.tlb.get, slot)),
    now.set(i32.or(i32.shl(load(LOAD.i32, 1, c.tlb.get, GENERATION), c32(8)), c.mode.get)),
    when(
      i64.eq(load(LOAD.i64, 1, entry.get, JUMP_CACHE), c.target.get),
      seq(
        ip.set(load(LOAD.i32, 1, entry.get, JUMP_CACHE + 8)),
        stamp.set(load(LOAD.i32, 1, entry.get, JUMP_CACHE + 12)),
        when(i32.eq(stamp.get, now.get), (v) => v.br(enter)),
        // Of an older generation: it holds if the pc still leads to the same frame.
        when(
          i32.and(i32.ne(ip.get, c32(0)), i32.eqz(i32.and(i32.xor(stamp.get, now.get), c32(0xff)))),
          when(
            i32.eq(load(LOAD.i32, 1, ip.get, 4), (v) => {
              v.get(S);
              c.tlb.get(v);
              c.target.get(v);
              v.call(fetch);
            }),
            seq(store(STORE.i32, 1, entry.get, now.get, JUMP_CACHE + 12), (v) => v.br(enter)),
          ),
        ),
      ),
    ),
    store(STORE.i64, 1, state, c.target.get, layout.at.pc),
    c.code.set(c32(EXIT_LOOKUP)),
    (v) => v.br(leave),
  )(w);
  w.end();
  c.code.set(c32(EXIT_FAULT))(w);
  w.br(leave);
  w.end();
  w.unreachable();
  w.end();
  w.unreachable();
  w.end();
  store(STORE.i32, 1, state, ip.get, layout.at.exitOp)(w);
  store(STORE.i32, 1, state, budget.get, layout.at.budget)(w);
  c.code.get(w);
}

/** Emits the whole module. Also finds out which ops exit and store. */
export function emitTier0(o: Tier0Options): Uint8Array<ArrayBuffer> {
  const m = new ModuleBuilder();
  m.importMemory("m", "physical", 1);
  m.importMemory("m", "state", 1);
  const i32s = (n: number): number[] => Array.from({ length: n }, () => I32);
  const helper = m.importFunction("h", "helper", { parameters: i32s(3), results: [I32] });
  const special = m.importFunction("h", "special", { parameters: i32s(4), results: [I32] });
  const wroteCode = m.importFunction("h", "wroteCode", { parameters: i32s(4), results: [] });
  const address = m.global();
  const walkType = { parameters: [I32, I64, I32], results: [I32] };
  const slowType = { parameters: [I32, I32, I64, I32], results: [I32] };
  const fourType = { parameters: i32s(4), results: [I32] };
  const runType = { parameters: i32s(3), results: [I32] };
  const evictType = { parameters: i32s(2), results: [] };
  const walk = m.declare(walkType);
  const resolve = m.declare(walkType);
  const slowLoad = m.declare(slowType);
  const slowStore = m.declare(slowType);
  const run = m.declare(runType);
  const translate = m.declare(fourType);
  const evict = m.declare(evictType);
  const fetchType = { parameters: [I32, I32, I64], results: [I32] };
  const fetch = m.declare(fetchType);

  const define = (
    index: number,
    type: typeof runType | typeof evictType,
    write: (body: FunctionBody) => void,
  ): void => {
    const body = new FunctionBody(type);
    write(body);
    m.define(index, body);
  };
  define(walk, walkType, (body) => emitWalk(body, o));
  define(resolve, walkType, (body) => emitResolve(body, o, walk, address));
  const f = { resolve, special, wroteCode, address };
  define(slowLoad, slowType, (body) => emitSlow(body, o, false, f));
  define(slowStore, slowType, (body) => emitSlow(body, o, true, f));
  const sharedType = { parameters: [I32], results: [I32] };
  const known = new Map<string, number>();
  const shared = (name: string, emit: (c: EmitContext) => Expr): number => {
    let index = known.get(name);
    if (index === undefined) {
      index = m.declare(sharedType);
      known.set(name, index);
      define(index, sharedType, (body) => {
        body.write(emit(new Tier0Context(body, o.layout, { load: slowLoad, store: slowStore, helper, shared })));
      });
    }
    return index;
  };
  define(run, runType, (body) => {
    const context = new Tier0Context(body, o.layout, { load: slowLoad, store: slowStore, helper, shared });
    emitRun(body, context, o.ops, o.layout, fetch);
  });
  define(translate, fourType, (body) => emitTranslate(body, resolve));
  define(evict, evictType, (body) => emitEvict(body));
  define(fetch, fetchType, (body) => emitFetch(body, resolve, address));
  m.export("run", run);
  m.export("translate", translate);
  m.export("evict", evict);
  return m.bytes();
}
