/**
 * The intermediate representation that lifters produce and that every tier executes.
 *
 * An op is 16 bytes (32 when its definition says `extra`):
 *
 *   u16 opcode @0 | u16 d @2 | u16 a @4 | u16 b @6 | i64 imm @8  (also seen as lo: i32 @8 and hi: i32 @12)
 *   extra:  i64 imm2 @16 (lo2 @16, hi2 @20) | i64 imm3 @24 (lo3 @24, hi3 @28)
 *
 * d, a and b are byte offsets into the vCPU's state (layout.ts): registers, temporaries, any cell, any byte of one
 * (little-endian: offset + 1 of a 64-bit cell is its bits 8..15). An op that does not use an operand ignores it.
 *
 * Conventions of the core ops (arch/translate/ops/): a suffix 8, 16, 32, 64 is the operation's width. Sources are read
 * at that width. Results: 8 and 16 write just that many bits of d; 32 writes 64 bits, zero-extended; 32s writes 64 bits,
 * sign-extended. A suffix i takes imm in the place of b. See OPS.md beside this file for every core op.
 *
 * Each operation is defined once (`defineOp`): `emit` writes its WebAssembly with operand accessors that the tier
 * supplies; `evaluate` is its independent meaning for the oracle. Whether an op can fault, store or leave is found out
 * by emitting it once.
 *
 * Precision: an op that can fault must come before any op of its instruction that changes a guest register or flag
 * (temporaries may change), unless the arch undoes it. Flags: see `flags` and `plain`. Between two instructions
 * nothing lives in temporaries.
 */
import type { Expr } from "./wasm/code.ts";

/** What a helper (a TypeScript function called by the op `helper`) answers. */
export const HELPER_NEXT = 0;
/** The instruction faults: leaves with EXIT_FAULT, pc at the instruction, not retired. */
export const HELPER_FAULT = 1;
/** Leaves with EXIT_ARCH, pc at the instruction, not retired (exitDetail says why). */
export const HELPER_EXIT = 2;
/** The instruction has retired, cell pc holds the next one (mode, mmu may have changed); translated code goes on there. */
export const HELPER_CONTINUE = 3;
/** As HELPER_CONTINUE, but leaves with EXIT_ARCH. */
export const HELPER_EXIT_AFTER = 4;

/**
 * Why translated code was left. Engine.run answers BUDGET, FAULT or ARCH; the others are the engine's own business.
 * 1 to 4 are what helpers answer.
 */
export const EXIT_BUDGET = 0;
/** A fault: pc at the faulting instruction, details in the arch's cells (or exitDetail of `raise`). */
export const EXIT_FAULT = 1;
/** The arch asked to leave (`exit`, `exitAfter`, a helper): exitDetail says why; pc is where to go on or to look. */
export const EXIT_ARCH = 2;
export const EXIT_CONTINUE = 3;
export const EXIT_ARCH_AFTER = 4;
export const EXIT_LOOKUP = 5;
export const EXIT_LINK = 6;
export const EXIT_STOP = 7;

/** (state: byte address of the vCPU's state in memory 1, op: byte address of the op in memory 1) => HELPER_*. */
export type Helper = (state: number, op: number) => number;

/** Kinds of guest memory access. */
export const ACCESS_READ = 0;
export const ACCESS_WRITE = 1;
export const ACCESS_EXECUTE = 2;

/** What a walk result allows (bits of walkPermit). Write only if the page table needs no further change (dirty bit). */
export const PERMIT_READ = 1;
export const PERMIT_WRITE = 2;
export const PERMIT_EXECUTE = 4;

/**
 * Bytes of a guest access and how they become a 64-bit value: u zero-extends, s sign-extends. v128 loads 16 bytes;
 * v32 and v64 load that many into the low end of a v128 and clear the rest.
 */
export type LoadKind = "u8" | "u16" | "u32" | "u64" | "s8" | "s16" | "s32" | "v128" | "v32" | "v64";
/** Low bytes of an i64 (8..64), or of a v128 (v32, v64, v128). */
export type StoreKind = 8 | 16 | 32 | 64 | "v128" | "v32" | "v64";

/** One operand or named cell as an emitter sees it: reads push, writes are statements. */
export interface CellAccess {
  /** Reads as i32, zero- or sign-extended from the width. */
  readonly i8u: Expr;
  readonly i8s: Expr;
  readonly i16u: Expr;
  readonly i16s: Expr;
  readonly i32: Expr;
  /** Reads as i64; u8..u32 zero-extend, s8..s32 sign-extend. */
  readonly u8: Expr;
  readonly s8: Expr;
  readonly u16: Expr;
  readonly s16: Expr;
  readonly u32: Expr;
  readonly s32: Expr;
  readonly i64: Expr;
  readonly v128: Expr;
  readonly f32: Expr;
  readonly f64: Expr;
  /** Writes the low 8, 16, 32 bits of an i64. */
  set8(value: Expr): Expr;
  set16(value: Expr): Expr;
  set32(value: Expr): Expr;
  set64(value: Expr): Expr;
  /** Writes an i32 as 8, 16, 32 bits, or zero-extended to 64. */
  set8i(value: Expr): Expr;
  set16i(value: Expr): Expr;
  set32i(value: Expr): Expr;
  set64i(value: Expr): Expr;
  setV128(value: Expr): Expr;
  setF32(value: Expr): Expr;
  setF64(value: Expr): Expr;
}

/** A WebAssembly local for one op's use. */
export interface Local {
  readonly get: Expr;
  set(value: Expr): Expr;
  /** Sets and pushes. */
  tee(value: Expr): Expr;
}

/** What an emitter composes an operation from. */
export interface EmitContext {
  /** The cells that the op's d, a and b name. */
  readonly d: CellAccess;
  readonly a: CellAccess;
  readonly b: CellAccess;
  /** The immediates: i64, and their halves as i32. imm2, imm3 exist in ops with `extra`. */
  readonly imm: Expr;
  readonly lo: Expr;
  readonly hi: Expr;
  readonly imm2: Expr;
  readonly lo2: Expr;
  readonly hi2: Expr;
  readonly imm3: Expr;
  readonly lo3: Expr;
  readonly hi3: Expr;
  /** The v128 formed by imm2 and imm3. */
  readonly vimm: Expr;
  /** The raw u16 operands as i32 (an op may use them as small numbers). */
  readonly rawD: Expr;
  readonly rawA: Expr;
  readonly rawB: Expr;
  /** A cell of the state by the name of its field (and index within an array field). */
  cell(field: string, index?: number): CellAccess;
  /** A cell at state + constant offset + a computed i32 (table lookups within the state). */
  cellAt(offset: number, index: Expr): CellAccess;
  /** Scratch locals, i = 0..3 of each type; an op's own until it ends. */
  i64(i: number): Local;
  i32(i: number): Local;
  v128(i: number): Local;
  f64(i: number): Local;
  /**
   * A guest load at virtual address `va` (i64): pushes an i64 (or a v128). `forWrite` demands write permission as
   * well, as the load of a read-modify-write does. On a fault the op is left there.
   */
  load(kind: LoadKind, va: Expr, forWrite?: boolean): Expr;
  /** A guest store (a statement). On a fault the op is left there and nothing was written. */
  store(kind: StoreKind, va: Expr, value: Expr): Expr;
  /** Several statements. */
  seq(...statements: Expr[]): Expr;
  /** if (i32) then else. */
  when(condition: Expr, then: Expr, otherwise?: Expr): Expr;
  /**
   * Terminators only: ends the block and goes on at one of the targets that the builder was given (`branch`: taken
   * where the i32 is not 0), or at a computed pc (i64).
   */
  branch(condition: Expr): Expr;
  jump(): Expr;
  jumpTo(pc: Expr): Expr;
  /** Leaves with EXIT_FAULT, pc at the instruction (the op has put the details into the arch's cells). */
  readonly fault: Expr;
  /** Leaves with EXIT_ARCH, pc at the instruction, not retired; exitDetail = detail (i32). */
  exit(detail: Expr): Expr;
  /** Terminators only: leaves with EXIT_ARCH, retired; the cell pc holds the next instruction. */
  exitAfter(detail: Expr): Expr;
  /** Ops with `skip` only: goes to the label if the i32 is not 0. */
  skip(condition: Expr): Expr;
  /** The engine's own: leaves with an exit code (i32). */
  leave(code: Expr): Expr;
  /** Calls a helper by its index (i32), and acts on what it answers. */
  helper(index: Expr): Expr;
  /**
   * Pushes the i32 that `body` pushes. `body` is emitted once, as a function of its own, however many ops share it by
   * this name: it works on cells and on its own scratch locals, has no operands, and neither faults nor leaves. For what is
   * long and rare: every tier's compilation gets shorter by it.
   */
  shared(name: string, body: (c: EmitContext) => Expr): Expr;
}

/** What the oracle hands an op's independent meaning. Values are unsigned BigInts of the width asked. */
export interface OracleContext {
  readonly d: number;
  readonly a: number;
  readonly b: number;
  /** Immediates as unsigned 64-bit values; halves as signed 32-bit numbers. */
  readonly imm: bigint;
  readonly imm2: bigint;
  readonly imm3: bigint;
  readonly lo: number;
  readonly hi: number;
  readonly lo2: number;
  readonly hi2: number;
  readonly lo3: number;
  readonly hi3: number;
  /** Offset of a field's element. */
  at(field: string, index?: number): number;
  /** Reads `bits` (8..128) of the state at an offset; unsigned. */
  get(offset: number, bits: number): bigint;
  /** Writes the low `bits` of a value to the state. */
  set(offset: number, bits: number, value: bigint): void;
  /** Guest memory; a fault ends the op by an exception that the oracle catches. */
  load(va: bigint, bits: number, forWrite?: boolean): bigint;
  store(va: bigint, bits: number, value: bigint): void;
  /** Terminators. */
  branch(taken: boolean): void;
  jump(): void;
  jumpTo(pc: bigint): void;
  fault(): never;
  exit(detail: number): never;
  exitAfter(detail: number): never;
  skip(taken: boolean): void;
  leave(code: number): never;
  helper(index: number): void;
}

/**
 * What an op does with the arch's flag cells. "set": defines all of them without reading any. "update": reads some or
 * keeps some. "read": only reads. Default none. Flags are live at the end of a block, wherever an op can leave the
 * block before its instruction retires, and at the end of an instruction that stores (it may have changed the code).
 */
export type FlagUse = "none" | "set" | "update" | "read";

export interface OpSpec {
  readonly name: string;
  /** Writes the operation. Must leave the stack as it was. */
  readonly emit: (c: EmitContext) => Expr;
  /** Independent meaning for the oracle; an engine of tier "oracle" refuses ops without one when it meets them. */
  readonly evaluate?: (o: OracleContext) => void;
  readonly flags?: FlagUse;
  /**
   * For "set" and "update" ops: the name of the op that does the same without the flags, same operands, or "drop"
   * where nothing else remains. The block builder puts it in where the flags die unread. It may read flags itself.
   */
  readonly plain?: string;
  /** The op has 32 bytes. */
  readonly extra?: boolean;
  /** How the op ends a block: "branch" has two targets in imm, "jump" one, "computed" none (jumpTo, exits). */
  readonly terminator?: "branch" | "jump" | "computed";
  /** A forward skip within the block: imm lo is patched with the byte distance to its label. */
  readonly skip?: boolean;
  /** Usual code seldom needs it: the interpreter may give up some of its speed to be compiled sooner, in less memory. */
  readonly rare?: boolean;
}

/** Marks as rare those ops of a list whose name matches. */
export function rarely(ops: readonly OpSpec[], names: RegExp = /(?:)/): readonly OpSpec[] {
  return ops.map((op) => (names.test(op.name) ? { ...op, rare: true } : op));
}

/** Defines an operation (identity, for the type and the reader). */
export function defineOp(spec: OpSpec): OpSpec {
  return spec;
}

/** An op as the builder and the tiers know it. */
export interface Op extends OpSpec {
  readonly id: number;
  /** 16 or 32. */
  readonly bytes: number;
  readonly flags: FlagUse;
  /** Opcode of the plain twin, -1 where there is none (or it is "drop"). */
  plainId: number;
  /** Can leave the block before its end (fault, exit, helper); set when the interpreter is emitted. */
  exits: boolean;
  /** Stores to guest memory or calls a helper, which may do so. */
  stores: boolean;
  /** Calls a helper. */
  helps: boolean;
}

/** All operations of one engine: the core's and the arch's. Ids are positions; they differ between archs. */
export class OpSet {
  readonly list: readonly Op[];
  readonly #byName = new Map<string, Op>();

  constructor(specs: readonly OpSpec[]) {
    this.list = specs.map((spec, id) => {
      const op: Op = {
        ...spec,
        id,
        bytes: spec.extra ? 32 : 16,
        flags: spec.flags ?? "none",
        plainId: -1,
        exits: true,
        stores: true,
        helps: true,
      };
      if (this.#byName.has(op.name)) throw new Error(`IR operation ${op.name} is defined twice`);
      this.#byName.set(op.name, op);
      return op;
    });
    for (const op of this.list) {
      if (op.plain === undefined || op.plain === "drop") continue;
      const plain = this.get(op.plain);
      if (plain.flags === "set" || plain.flags === "update")
        throw new Error(`IR operation ${op.name}: its twin ${op.plain} sets flags`);
      if (plain.bytes !== op.bytes) throw new Error(`IR operation ${op.name}: its twin ${op.plain} has another size`);
      op.plainId = plain.id;
    }
  }

  get(name: string): Op {
    const op = this.#byName.get(name);
    if (op === undefined) throw new Error(`unknown IR operation ${name}`);
    return op;
  }

  /** The opcode of a name; lifters resolve their names once, at set-up. */
  id(name: string): number {
    return this.get(name).id;
  }
}

/** Guest code as a lifter sees it. One object, reused. */
export interface LiftSource {
  /** Bytes to read from; the instruction at `pc` starts at `start`, bytes at and past `end` must not be used. */
  bytes: Uint8Array;
  start: number;
  end: number;
  pcLo: number;
  pcHi: number;
  mode: number;
  /** The block may have at most this many instructions. */
  maxInstructions: number;
}

/**
 * Turns guest code from `source` into ops until a terminator, maxInstructions, or `end`.
 *
 * An instruction that does not fit before `end`: with no instruction lifted yet, answer LIFT_TRUNCATED (the engine calls
 * again with the bytes of both pages, and maxInstructions 1); otherwise end the block before it by `fallThrough`.
 * Bytes that are no instruction are lifted as an op that raises the arch's fault. Never throws.
 */
export type Lift = (source: LiftSource, builder: BlockBuilder) => number;
export const LIFT_DONE = 0;
export const LIFT_TRUNCATED = 1;

/**
 * Collects one block's ops. The lifter calls `instruction` at the start of each guest instruction, then `emit` for its
 * ops, and ends with exactly one terminator (`branch`, `jump`, `computed`, `fallThrough`).
 */
export interface BlockBuilder {
  readonly ops: OpSet;
  /** Guest instructions so far. */
  readonly instructions: number;
  /** A terminator has been emitted. */
  readonly ended: boolean;
  /** Starts a guest instruction at this pc of this many bytes. */
  instruction(pcLo: number, pcHi: number, bytes: number): void;
  /** Emits an op; `hi` defaults to the sign of `lo`. Answers its index (for `rewrite`, `label`). */
  emit(op: number, d?: number, a?: number, b?: number, lo?: number, hi?: number): number;
  /** Emits an op with `extra`. */
  emitExtra(
    op: number,
    d: number,
    a: number,
    b: number,
    lo: number,
    hi: number,
    lo2: number,
    hi2: number,
    lo3?: number,
    hi3?: number,
  ): number;
  /** Emits a forward skip (op with `skip`), to be closed by `label`. */
  skip(op: number, a?: number, b?: number): number;
  /** The skip `index` lands here: before the next op. Its instruction must still be open. */
  label(index: number): void;
  /** Terminator with two direct targets (op of terminator "branch"). `lo2..` fill the extra part where it has one. */
  branch(
    op: number,
    d: number,
    a: number,
    b: number,
    takenLo: number,
    takenHi: number,
    nextLo: number,
    nextHi: number,
    lo2?: number,
    hi2?: number,
    lo3?: number,
    hi3?: number,
  ): void;
  /** Terminator with one direct target: `op` is "jmp" or an arch op of terminator "jump" (lo is the builder's, hi yours). */
  jump(
    targetLo: number,
    targetHi: number,
    op?: number,
    d?: number,
    a?: number,
    b?: number,
    hi?: number,
    lo2?: number,
    hi2?: number,
    lo3?: number,
    hi3?: number,
  ): void;
  /** Terminator that computes where it goes, or leaves (op of terminator "computed"). */
  computed(
    op: number,
    d?: number,
    a?: number,
    b?: number,
    lo?: number,
    hi?: number,
    lo2?: number,
    hi2?: number,
    lo3?: number,
    hi3?: number,
  ): void;
  /** Ends a block that just stops (limit or page end): goes on at this pc. */
  fallThrough(pcLo: number, pcHi: number): void;
  /**
   * For fusion: opcode of the last op of this block that no label follows, or -1; `last*` are its operands.
   * `dropLast` removes it (its instruction stays counted; only if it neither stores nor exits).
   */
  readonly lastOp: number;
  readonly lastD: number;
  readonly lastA: number;
  readonly lastB: number;
  readonly lastLo: number;
  readonly lastHi: number;
  dropLast(): void;
}
