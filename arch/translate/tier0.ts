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

import { cellAt, LOAD, load, localOf, STORE, seq, store, when } from "./cells.ts";
import { BUDGET, type ContextFunctions, contextFunctions, IP, S, WasmContext } from "./context.ts";
import { type CellAccess, EXIT_BUDGET, EXIT_FAULT, EXIT_LOOKUP, type Local, type OpSet } from "./ir.ts";
import type { Layout } from "./layout.ts";
import { ENTRY_MASK, GENERATION, HEADER_BYTES, JUMP_CACHE, MMU_BYTES, STATE_BYTES } from "./map.ts";
import { emitEvict, emitFetch, emitResolve, emitSlow, emitTranslate, emitWalk, type MemoryOptions } from "./slow.ts";
import { type Expr, I32, I64, type Label, VOID } from "./wasm/code.ts";
import { c32, i32, i64, select } from "./wasm/expr.ts";
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
  /** Accesses the slow way, for compiled regions (slow.ts). */
  readonly slowLoad: WebAssembly.ExportValue;
  readonly slowStore: WebAssembly.ExportValue;
}

/**
 * Rare ops jump to one end for each so many ops, and only that to the next op: where a thousand ops meet in one place, the host's compiler
 * takes 280 MB and half a second (quadratic in their number). The others go there directly, as the detour costs some of them a third of
 * their speed.
 */
const GROUP = 32;

/** The emitter's side of the interpreter: operands are read from the op at local IP. */
class InterpreterContext extends WasmContext {
  readonly mode: Local;
  readonly target: Local;
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
  readonly d: CellAccess = operand(this.rawD);
  readonly a: CellAccess = operand(this.rawA);
  readonly b: CellAccess = operand(this.rawB);

  constructor(body: FunctionBody, layout: Layout, functions: ContextFunctions) {
    super(body, layout, functions);
    this.mode = localOf(body.local(I32));
    this.target = localOf(body.local(I64));
  }

  branch(condition: Expr): Expr {
    return seq(localOf(IP).set(select(this.lo, this.hi, condition)), this.to("enter"));
  }
  jump(): Expr {
    return seq(localOf(IP).set(this.lo), this.to("enter"));
  }
  jumpTo(pc: Expr): Expr {
    return seq(this.target.set(pc), this.to("lookup"));
  }
  skip(condition: Expr): Expr {
    return when(condition, seq(localOf(IP).set(i32.add((w) => w.get(IP), this.lo)), this.to("next")));
  }
}

function operand(raw: Expr): CellAccess {
  return cellAt(
    i32.add((w) => w.get(S), raw),
    0,
  );
}

/** Emits `run`. */
function emitRun(body: FunctionBody, c: InterpreterContext, ops: OpSet, layout: Layout, fetch: number): void {
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
    op.helps = false;
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
  const functions = contextFunctions(m, o.layout, { load: slowLoad, store: slowStore, helper });
  define(run, runType, (body) => {
    const context = new InterpreterContext(body, o.layout, functions);
    emitRun(body, context, o.ops, o.layout, fetch);
  });
  define(translate, fourType, (body) => emitTranslate(body, resolve));
  define(evict, evictType, (body) => emitEvict(body));
  define(fetch, fetchType, (body) => emitFetch(body, resolve, address));
  m.export("run", run);
  m.export("translate", translate);
  m.export("evict", evict);
  m.export("slowLoad", slowLoad);
  m.export("slowStore", slowStore);
  return m.bytes();
}
