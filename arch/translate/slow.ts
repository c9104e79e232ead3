/**
 * The slow side of memory accesses, in WebAssembly beside the interpreter: the arch's page walk, TLB fills, accesses
 * that miss or cross a page, fetches; and `translate` and `evict` for TypeScript.
 */

import { cellAt, fieldOffset, LOAD, load, localOf, MASK_PAGE, STORE, seq, store, when } from "./cells.ts";
import {
  ACCESS_EXECUTE,
  ACCESS_WRITE,
  type CellAccess,
  type Local,
  PERMIT_EXECUTE,
  PERMIT_READ,
  PERMIT_WRITE,
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
  MAX_FILLS,
  MMU_BYTES,
  READ_TLB,
  STATE_BYTES,
  WRITE_TLB,
} from "./map.ts";
import { type Code, type Expr, I32 } from "./wasm/code.ts";
import { c32, c64, i32, i64, select } from "./wasm/expr.ts";
import type { FunctionBody } from "./wasm/module.ts";

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

/** What these functions depend on. */
export interface MemoryOptions {
  readonly layout: Layout;
  /** Machine frames of 4 KiB; address of their flags in memory 1. */
  readonly frames: number;
  readonly frameFlags: number;
  readonly emitWalk: (w: WalkEmitter) => void;
}

/** Emits resolve(state, va, access) -> 0 fault, 1 found (address in the global), 2 special: walk, then fill a TLB. */
export function emitResolve(body: FunctionBody, o: MemoryOptions, walk: number, address: number): void {
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
export function emitSlow(
  body: FunctionBody,
  o: MemoryOptions,
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
export function emitFetch(body: FunctionBody, resolve: number, address: number): void {
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
export function emitTranslate(body: FunctionBody, resolve: number): void {
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
export function emitEvict(body: FunctionBody): void {
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
export function emitWalk(body: FunctionBody, o: MemoryOptions): void {
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
