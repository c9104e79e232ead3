/**
 * What ops are emitted with, whatever the tier: cells, locals, guest memory through the TLB, faults, exits, shared functions.
 *
 * A subclass says where operands come from and where control goes. Every function that ops are emitted into is
 * (state, ip, budget) -> EXIT_*; local IP holds the address of the op wherever the op can leave.
 */

import { cellAt, fieldOffset, LOAD, load, localOf, lowLane, STORE, seq, store, when } from "./cells.ts";
import {
  type CellAccess,
  type EmitContext,
  EXIT_ARCH,
  EXIT_ARCH_AFTER,
  EXIT_CONTINUE,
  type LoadKind,
  type Local,
  type Op,
  type StoreKind,
} from "./ir.ts";
import type { Layout } from "./layout.ts";
import { ENTRY_MASK, READ_TLB, WRITE_TLB } from "./map.ts";
import { type Code, type Expr, F64, I32, I64, type Label, V128 } from "./wasm/code.ts";
import { c32, c64, i32, i64 } from "./wasm/expr.ts";
import { FunctionBody, type FunctionType, type ModuleBuilder } from "./wasm/module.ts";

/** The parameters of a function that ops are emitted into. */
export const S = 0;
export const IP = 1;
export const BUDGET = 2;

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

/** Functions of the module that ops call. */
export interface ContextFunctions {
  readonly load: number;
  readonly store: number;
  readonly helper: number;
  /** Index of the function of a shared part, (state) -> i32; emitted when it is first asked for. */
  readonly shared: (name: string, body: (c: EmitContext) => Expr) => number;
}

/** Where control can go, by name. */
export type Target = "fault" | "leave" | "lookup" | "enter" | "reload" | "next" | "out" | "top";

export abstract class WasmContext implements EmitContext {
  protected readonly body: FunctionBody;
  readonly #layout: Layout;
  readonly #functions: ContextFunctions;
  readonly #locals = new Map<string, Local>();
  readonly tlb: Local;
  readonly code: Local;
  #depth = 0;
  op: Op | undefined;
  labels: { readonly [name in Target]?: Label } = {};

  abstract readonly d: CellAccess;
  abstract readonly a: CellAccess;
  abstract readonly b: CellAccess;
  abstract readonly rawD: Expr;
  abstract readonly rawA: Expr;
  abstract readonly rawB: Expr;
  abstract readonly imm: Expr;
  abstract readonly lo: Expr;
  abstract readonly hi: Expr;
  abstract readonly imm2: Expr;
  abstract readonly lo2: Expr;
  abstract readonly hi2: Expr;
  abstract readonly imm3: Expr;
  abstract readonly lo3: Expr;
  abstract readonly hi3: Expr;
  abstract readonly vimm: Expr;
  abstract branch(condition: Expr): Expr;
  abstract jump(): Expr;
  abstract jumpTo(pc: Expr): Expr;
  abstract skip(condition: Expr): Expr;

  constructor(body: FunctionBody, layout: Layout, functions: ContextFunctions) {
    this.body = body;
    this.#layout = layout;
    this.#functions = functions;
    this.tlb = localOf(body.local(I32));
    this.code = localOf(body.local(I32));
  }

  /** A statement behind every store that took the slow way. */
  protected get stored(): Expr {
    return () => {};
  }

  #local(type: number, name: string): Local {
    const known = this.#locals.get(name);
    if (known !== undefined) return known;
    const made = localOf(this.body.local(type));
    this.#locals.set(name, made);
    return made;
  }

  #exits(): void {
    if (this.op !== undefined) this.op.exits = true;
  }

  protected to(name: Target): Expr {
    return (w) => {
      const label = this.labels[name];
      if (label === undefined) throw new Error(`${this.op?.name ?? "an op"} cannot go to ${name} here`);
      w.br(label);
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
      this.to("fault")(w);
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
      this.to("fault")(w);
      w.end();
      this.stored(w);
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

  get fault(): Expr {
    this.#exits();
    return this.to("fault");
  }
  leave(code: Expr): Expr {
    this.#exits();
    return seq(this.code.set(code), this.to("leave"));
  }
  exit(detail: Expr): Expr {
    return seq(this.cell("exitDetail").set32i(detail), this.leave(c32(EXIT_ARCH)));
  }
  exitAfter(detail: Expr): Expr {
    return seq(this.cell("exitDetail").set32i(detail), this.leave(c32(EXIT_ARCH_AFTER)));
  }

  helper(index: Expr): Expr {
    this.#exits();
    const op = this.op;
    if (op !== undefined) {
      op.stores = true;
      op.helps = true;
    }
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
      return seq(ask, when(i32.eq(this.code.get, c32(EXIT_CONTINUE)), this.to("reload")), this.to("leave"));
    }
    return seq(ask, when(this.code.get, this.to("leave")));
  }

  shared(name: string, body: (c: EmitContext) => Expr): Expr {
    const index = this.#functions.shared(name, body);
    return (w) => {
      w.get(S);
      w.call(index);
    };
  }
}

/** The context of a shared part: there are no operands and nowhere to go. */
class SharedContext extends WasmContext {
  readonly d = cellAt(none, 0);
  readonly a = this.d;
  readonly b = this.d;
  readonly rawD = none;
  readonly rawA = none;
  readonly rawB = none;
  readonly imm = none;
  readonly lo = none;
  readonly hi = none;
  readonly imm2 = none;
  readonly lo2 = none;
  readonly hi2 = none;
  readonly imm3 = none;
  readonly lo3 = none;
  readonly hi3 = none;
  readonly vimm = none;
  branch(): Expr {
    return none;
  }
  jump(): Expr {
    return none;
  }
  jumpTo(): Expr {
    return none;
  }
  skip(): Expr {
    return none;
  }
}

function none(): never {
  throw new Error("a shared part has no operands and goes nowhere");
}

const SHARED_TYPE: FunctionType = { parameters: [I32], results: [I32] };

/** Functions for ops in a module: `shared` ones are added to it as they are asked for. */
export function contextFunctions(
  m: ModuleBuilder,
  layout: Layout,
  called: { readonly load: number; readonly store: number; readonly helper: number },
): ContextFunctions {
  const known = new Map<string, number>();
  const functions: ContextFunctions = {
    ...called,
    shared(name, emit) {
      let index = known.get(name);
      if (index === undefined) {
        index = m.declare(SHARED_TYPE);
        known.set(name, index);
        const body = new FunctionBody(SHARED_TYPE);
        body.write(emit(new SharedContext(body, layout, functions)));
        m.define(index, body);
      }
      return index;
    },
  };
  return functions;
}
