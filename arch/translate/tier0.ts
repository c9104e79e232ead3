/**
 * Tier 0: the interpreter, emitted as one WebAssembly module per architecture.
 *
 * run(state, ip, budget) -> EXIT_*: `ip` is the header of a block; every entry of a block takes its count of
 * instructions from the budget, and leaves with EXIT_BUDGET (nothing of the block done) when it does not suffice. One
 * loop and br_table over the opcode; operands live in the state. Leaving, the address of the op and the budget are
 * in the state (exitOp, budget).
 *
 * Beside it: the arch's page walk, the slow paths of loads and stores (TLB fill, page crossing, special frames), and
 * `translate` and `evict` for TypeScript. Memory 0 is physical, memory 1 holds the state. Everything else that an op
 * needs of TypeScript is one of three imports.
 */
import {
  ACCESS_EXECUTE,
  ACCESS_WRITE,
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
  PERMIT_EXECUTE,
  PERMIT_READ,
  PERMIT_WRITE,
  type StoreKind,
} from "./ir.ts";
import type { Layout } from "./layout.ts";
import {
  ENTRY_MASK,
  FETCH_TLB,
  FILLS,
  FRAME_CODE,
  FRAME_FETCHED,
  FRAME_READABLE,
  FRAME_WRITABLE,
  GENERATION,
  HEADER_BYTES,
  JUMP_CACHE,
  MAX_FILLS,
  MMU_BYTES,
  READ_TLB,
  STATE_BYTES,
  WRITE_TLB,
} from "./map.ts";
import { type Code, type Expr, F64, I32, I64, type Label, V128, VOID } from "./wasm/code.ts";
import { c32, c64, i32, i64, select } from "./wasm/expr.ts";
import { FunctionBody, ModuleBuilder } from "./wasm/module.ts";

/** What an arch's page walk is written with. Its function is walk(state, va: i64, access) -> 0 found, 1 fault, 2 special. */
export interface WalkEmitter {
  readonly code: Code;
  /** The parameters. */
  readonly state: Expr;
  readonly va: Expr;
  /** ACCESS_* as i32. */
  readonly access: Expr;
  /** Machine frames there are: a walk must not read or answer one at or past this. */
  readonly frames: number;
  local(type: number): Local;
  cell(field: string, index?: number): CellAccess;
  /** Reads, writes machine memory at a byte address (i32); the caller has checked the frame. */
  physical32(address: Expr): Expr;
  physical64(address: Expr): Expr;
  setPhysical32(address: Expr, value: Expr): Expr;
  setPhysical64(address: Expr, value: Expr): Expr;
  write(...statements: Expr[]): void;
  seq(...statements: Expr[]): Expr;
  when(condition: Expr, then: Expr, otherwise?: Expr): Expr;
  /** Ends the walk with a result. */
  answer(result: number): Expr;
  /** Ends the walk with walkPage = page (i32, byte address of the frame), walkPermit = permit (i32), result 0. */
  found(page: Expr, permit: Expr): Expr;
}

export interface Tier0Options {
  readonly ops: OpSet;
  readonly layout: Layout;
  /** Machine frames of 4 KiB; address of their flags in memory 1. */
  readonly frames: number;
  readonly frameFlags: number;
  readonly emitWalk: (w: WalkEmitter) => void;
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

// Memory instructions.
const LOAD = { i32: 0x28, i64: 0x29, f32: 0x2a, f64: 0x2b, v128: 0xfd0000 } as const;
const STORE = { i32: 0x36, i64: 0x37, f32: 0x38, f64: 0x39, v128: 0xfd000b } as const;
const MASK_PAGE = ~4095;

const load =
  (instruction: number, memory: number, address: Expr, offset = 0): Expr =>
  (w) => {
    address(w);
    w.memory(instruction, memory, offset);
  };
const store =
  (instruction: number, memory: number, address: Expr, value: Expr, offset = 0): Expr =>
  (w) => {
    address(w);
    value(w);
    w.memory(instruction, memory, offset);
  };
const seq =
  (...statements: Expr[]): Expr =>
  (w) => {
    for (const statement of statements) statement(w);
  };
const when =
  (condition: Expr, then: Expr, otherwise?: Expr): Expr =>
  (w) => {
    condition(w);
    w.if();
    then(w);
    if (otherwise !== undefined) {
      w.else();
      otherwise(w);
    }
    w.end();
  };
/** i64x2.extract_lane 0. */
const lowLane =
  (vector: Expr): Expr =>
  (w) => {
    vector(w);
    w.op(0xfd001d);
    w.u8(0);
  };
const localOf = (index: number): Local => ({
  get: (w) => w.get(index),
  set: (value) => (w) => {
    value(w);
    w.set(index);
  },
  tee: (value) => (w) => {
    value(w);
    w.tee(index);
  },
});

/** A cell of memory 1 at an address plus a constant offset. */
export function cellAt(address: Expr, offset: number): CellAccess {
  const get = (instruction: number): Expr => load(instruction, 1, address, offset);
  const set =
    (instruction: number) =>
    (value: Expr): Expr =>
      store(instruction, 1, address, value, offset);
  return {
    i8s: get(0x2c),
    i8u: get(0x2d),
    i16s: get(0x2e),
    i16u: get(0x2f),
    i32: get(LOAD.i32),
    s8: get(0x30),
    u8: get(0x31),
    s16: get(0x32),
    u16: get(0x33),
    s32: get(0x34),
    u32: get(0x35),
    i64: get(LOAD.i64),
    f32: get(LOAD.f32),
    f64: get(LOAD.f64),
    v128: get(LOAD.v128),
    set8: set(0x3c),
    set16: set(0x3d),
    set32: set(0x3e),
    set64: set(STORE.i64),
    set8i: set(0x3a),
    set16i: set(0x3b),
    set32i: set(STORE.i32),
    set64i: (value) => set(STORE.i64)(i64.extu(value)),
    setV128: set(STORE.v128),
    setF32: set(STORE.f32),
    setF64: set(STORE.f64),
  };
}

/** Offset of a field's element, checked. */
function fieldOffset(layout: Layout, field: string, index = 0): number {
  const at = layout.at[field as keyof typeof layout.at] as number | undefined;
  if (at === undefined) throw new Error(`layout ${layout.name} has no field ${field}`);
  return at + index * (layout.size[field as keyof typeof layout.size] as number);
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

const S = 0;
const IP = 1;
const BUDGET = 2;

/** The emitter's side of the interpreter: one object, told which op it emits. */
class Tier0Context implements EmitContext {
  readonly #body: FunctionBody;
  readonly #layout: Layout;
  readonly #functions: { readonly load: number; readonly store: number; readonly helper: number };
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

  constructor(body: FunctionBody, layout: Layout, functions: { load: number; store: number; helper: number }) {
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
  const cases: Label[] = ops.list.map(() => w.block(VOID)).reverse();
  // The innermost block is op 0's: its end comes first.
  const none = w.block();
  load(0x2f, 1, ip.get)(w);
  w.brTable([...cases, none]);
  w.end();
  w.unreachable();
  c.labels = { fault, leave, lookup, enter, reload: again, next };
  for (const op of ops.list) {
    w.end();
    op.exits = false;
    op.stores = false;
    c.op = op;
    op.emit(c)(w);
    if (op.terminator !== undefined) {
      w.unreachable();
    } else {
      ip.set(i32.add(ip.get, c32(op.bytes)))(w);
      w.br(next);
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

/** Emits resolve(state, va, access) -> 0 fault, 1 found (address in the global), 2 special: walk, then fill a TLB. */
function emitResolve(body: FunctionBody, o: Tier0Options, walk: number, address: number): void {
  const { layout } = o;
  const state: Expr = (w) => w.get(0);
  const va: Expr = (w) => w.get(1);
  const access: Expr = (w) => w.get(2);
  const result = localOf(body.local(I32));
  const page = localOf(body.local(I32));
  const permit = localOf(body.local(I32));
  const flags = localOf(body.local(I32));
  const tlb = localOf(body.local(I32));
  const slot = localOf(body.local(I32));
  const fills = localOf(body.local(I32));
  const x = localOf(body.local(I32));
  const frame = i32.shru(page.get, c32(12));
  const flagsNow = load(0x2d, 1, frame, o.frameFlags);
  const fill = (table: number, flag: number): Expr =>
    seq(
      slot.set(i32.add(slot.get, c32(table))),
      store(0x3a, 1, frame, i32.or(flags.get, c32(flag)), o.frameFlags),
      store(STORE.i64, 1, i32.add(tlb.get, slot.get), i64.and(va, c64(MASK_PAGE))),
      store(STORE.i32, 1, i32.add(tlb.get, slot.get), i32.sub(page.get, i32.and(i32.wrap(va), c32(MASK_PAGE))), 8),
      // Remember the slot for the next flush.
      when(
        i32.ltu(fills.tee(load(LOAD.i32, 1, tlb.get, FILLS)), c32(MAX_FILLS)),
        store(STORE.i32, 1, i32.add(tlb.get, i32.shl(fills.get, c32(2))), slot.get, FILLS + 4),
      ),
      store(STORE.i32, 1, tlb.get, i32.add(fills.get, c32(1)), FILLS),
    );
  body.write(
    result.set((w) => {
      w.get(0);
      w.get(1);
      w.get(2);
      w.call(walk);
    }),
    when(
      result.get,
      seq(i32.and(result.get, c32(2)), (w) => w.return()),
    ),
    page.set(i32.and(load(LOAD.i32, 1, state, layout.at.walkPage), c32(MASK_PAGE))),
    permit.set(load(LOAD.i32, 1, state, layout.at.walkPermit)),
    // An arch's walk must not answer a frame that is not there.
    when(i32.geu(frame, c32(o.frames)), (w) => w.unreachable()),
    i32.or(page.get, i32.and(i32.wrap(va), c32(4095))),
    (w) => {
      w.u8(0x24);
      w.u32(address);
    },
    flags.set(flagsNow),
    tlb.set(
      i32.add(i32.add(state, c32(STATE_BYTES)), i32.mul(load(LOAD.i32, 1, state, layout.at.mmu), c32(MMU_BYTES))),
    ),
    slot.set(i32.and(i32.xor(x.tee(i32.wrap(i64.shru(va, c64(8)))), i32.shru(x.get, c32(12))), c32(ENTRY_MASK))),
    when(
      i32.and(i32.eqz(access), i32.and(permit.get, c32(PERMIT_READ))),
      fill(READ_TLB, FRAME_READABLE),
      when(
        i32.and(
          i32.eq(access, c32(ACCESS_WRITE)),
          i32.and(i32.ne(i32.and(permit.get, c32(PERMIT_WRITE)), c32(0)), i32.eqz(i32.and(flags.get, c32(FRAME_CODE)))),
        ),
        fill(WRITE_TLB, FRAME_WRITABLE),
        when(
          i32.and(i32.eq(access, c32(ACCESS_EXECUTE)), i32.ne(i32.and(permit.get, c32(PERMIT_EXECUTE)), c32(0))),
          fill(FETCH_TLB, FRAME_FETCHED),
        ),
      ),
    ),
    c32(1),
  );
}

/** Emits slowLoad and slowStore(state, op, va, bytes | write << 8) -> 1 done, 0 fault: through slowValue. */
function emitSlow(
  body: FunctionBody,
  o: Tier0Options,
  storing: boolean,
  f: { resolve: number; special: number; wroteCode: number; address: number },
): void {
  const { layout } = o;
  const state: Expr = (w) => w.get(0);
  const va: Expr = (w) => w.get(2);
  const bytes = localOf(body.local(I32));
  const access = localOf(body.local(I32));
  const first = localOf(body.local(I32));
  const p1 = localOf(body.local(I32));
  const p2 = localOf(body.local(I32));
  const r = localOf(body.local(I32));
  const i = localOf(body.local(I32));
  const value = i32.add(state, i.get);
  const slowValue = layout.at.slowValue;
  const resolve = (address: Expr): Expr =>
    r.set((w) => {
      state(w);
      address(w);
      access.get(w);
      w.call(f.resolve);
    });
  const found: Expr = (w) => {
    w.u8(0x23);
    w.u32(f.address);
  };
  const give =
    (value: number): Expr =>
    (w) => {
      w.i32(value);
      w.return();
    };
  const special = when(i32.eq(r.get, c32(2)), (w) => {
    store(STORE.i64, 1, state, va, layout.at.slowAddress)(w);
    w.get(0);
    w.get(1);
    access.get(w);
    bytes.get(w);
    w.call(f.special);
    w.return();
  });
  const told = (address: Expr, n: Expr): Expr =>
    when(i32.and(load(0x2d, 1, i32.shru(address, c32(12)), o.frameFlags), c32(FRAME_CODE)), (w) => {
      w.get(0);
      w.get(1);
      address(w);
      n(w);
      w.call(f.wroteCode);
    });
  const move = (n: number, loading: number, storingWith: number): Expr =>
    when(
      i32.eq(bytes.get, c32(n)),
      storing
        ? seq(store(storingWith, 0, p1.get, load(loading, 1, state, slowValue)), told(p1.get, bytes.get), give(1))
        : seq(store(storingWith, 1, state, load(loading, 0, p1.get), slowValue), give(1)),
    );
  body.write(
    bytes.set(i32.and((w) => w.get(3), c32(0xff))),
    access.set(storing ? c32(ACCESS_WRITE) : i32.shru((w) => w.get(3), c32(8))),
    store(STORE.i64, 1, state, va, layout.at.slowAddress),
    store(STORE.i32, 1, state, access.get, layout.at.slowAccess),
    resolve(va),
    when(i32.eqz(r.get), give(0)),
    special,
    p1.set(found),
    first.set(i32.sub(c32(4096), i32.and(i32.wrap(va), c32(4095)))),
    when(
      i32.geu(first.get, bytes.get),
      seq(
        move(8, LOAD.i64, STORE.i64),
        move(4, LOAD.i32, STORE.i32),
        move(1, 0x2d, 0x3a),
        move(2, 0x2f, 0x3b),
        move(16, LOAD.v128, STORE.v128),
      ),
    ),
    // It crosses into the next page: both must allow it before anything is written.
    resolve(i64.add(va, i64.extu(first.get))),
    when(i32.eqz(r.get), give(0)),
    special,
    p2.set(i32.sub(found, first.get)),
    i.set(c32(0)),
    (w) => {
      const loop = w.loop();
      const source = i32.add(i.get, select(p1.get, p2.get, i32.ltu(i.get, first.get)));
      if (storing) store(0x3a, 0, source, load(0x2d, 1, value, slowValue))(w);
      else store(0x3a, 1, value, load(0x2d, 0, source), slowValue)(w);
      i32.ltu(i.tee(i32.add(i.get, c32(1))), bytes.get)(w);
      w.brIf(loop);
      w.end();
    },
    ...(storing ? [told(p1.get, first.get), told(i32.add(p2.get, first.get), i32.sub(bytes.get, first.get))] : []),
    c32(1),
  );
}

/** Emits fetch(state, tlb, pc) -> the frame that pc leads to, -2 if none: the fetch TLB, else a walk. */
function emitFetch(body: FunctionBody, resolve: number, address: number): void {
  const pc: Expr = (w) => w.get(2);
  const entry = localOf(body.local(I32));
  const slot = i32.and(
    i32.xor(entry.tee(i32.wrap(i64.shru(pc, c64(8)))), i32.shru(entry.get, c32(12))),
    c32(ENTRY_MASK),
  );
  body.write(
    entry.set(i32.add((w) => w.get(1), slot)),
    when(
      i64.ltu(i64.xor(load(LOAD.i64, 1, entry.get, FETCH_TLB), pc), c64(4096)),
      seq(i32.shru(i32.add(i32.wrap(pc), load(LOAD.i32, 1, entry.get, FETCH_TLB + 8)), c32(12)), (w) => w.return()),
    ),
    when(
      i32.ne((w) => {
        w.get(0);
        w.get(2);
        w.i32(ACCESS_EXECUTE);
        w.call(resolve);
      }, c32(1)),
      seq(c32(-2), (w) => w.return()),
    ),
    i32.shru((w) => {
      w.u8(0x23);
      w.u32(address);
    }, c32(12)),
  );
}

/** Emits translate(state, lo, hi, access) for TypeScript. */
function emitTranslate(body: FunctionBody, resolve: number): void {
  body.write(
    (w) => w.get(0),
    i64.or(
      i64.extu((w) => w.get(1)),
      i64.shl(
        i64.extu((w) => w.get(2)),
        c64(32),
      ),
    ),
    (w) => {
      w.get(3);
      w.call(resolve);
    },
  );
}

/** Emits evict(tlb, page): every entry that maps the frame becomes empty. */
function emitEvict(body: FunctionBody): void {
  const slot = localOf(body.local(I32));
  const entry = i32.add((w) => w.get(0), slot.get);
  body.write((w) => {
    const loop = w.loop();
    when(
      i32.eq(i32.add(load(LOAD.i32, 1, entry), load(LOAD.i32, 1, entry, 8)), (v) => v.get(1)),
      seq(store(STORE.i64, 1, entry, select(c64(-1), c64(0x1000), slot.get)), store(STORE.i32, 1, entry, c32(-1), 8)),
    )(w);
    i32.leu(slot.tee(i32.add(slot.get, c32(16))), c32(ENTRY_MASK))(w);
    w.brIf(loop);
    w.end();
  });
}

/** Emits the arch's walk. */
function emitWalk(body: FunctionBody, o: Tier0Options): void {
  const state: Expr = (w) => w.get(0);
  const answer =
    (result: number): Expr =>
    (w) => {
      w.i32(result);
      w.return();
    };
  o.emitWalk({
    code: body.code,
    state,
    va: (w) => w.get(1),
    access: (w) => w.get(2),
    frames: o.frames,
    local: (type) => localOf(body.local(type)),
    cell: (field, index = 0) => cellAt(state, fieldOffset(o.layout, field, index)),
    physical32: (address) => load(LOAD.i32, 0, address),
    physical64: (address) => load(LOAD.i64, 0, address),
    setPhysical32: (address, value) => store(STORE.i32, 0, address, value),
    setPhysical64: (address, value) => store(STORE.i64, 0, address, value),
    write: (...statements) => body.write(...statements),
    seq,
    when,
    answer,
    found: (page, permit) =>
      seq(
        store(STORE.i32, 1, state, page, o.layout.at.walkPage),
        store(STORE.i32, 1, state, permit, o.layout.at.walkPermit),
        answer(0),
      ),
  });
  body.code.unreachable();
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
  define(run, runType, (body) => {
    const context = new Tier0Context(body, o.layout, { load: slowLoad, store: slowStore, helper });
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
