/**
 * The page walk, emitted as WebAssembly: Sv39 and Sv48 of the guest (privileged specification, 4.4), then the P2m (p2m.ts).
 *
 * Choices that the specification leaves open: A and D are never set by the hart, an access that needs them set takes a page fault (Svade). ASIDs
 * have no bits. Page-based memory types and NAPOT (bits 54 to 63 of an entry) are reserved: a page fault. So are D, A and U in an entry that is
 * no leaf. An entry that cannot be read (no RAM there) is an access fault of the original access's kind.
 *
 * Every address that a guest can influence is looked up in the P2m, whose leaves only name frames that exist: a walk reads at most four entries.
 */
import { ACCESS_EXECUTE, ACCESS_WRITE } from "../translate/ir.ts";
import type { WalkEmitter } from "../translate/slow.ts";
import { type Expr, I32, I64 } from "../translate/wasm/code.ts";
import { c32, c64, i32, i64, select } from "../translate/wasm/expr.ts";
import { P2M_RAM, P2M_WRITABLE } from "./p2m.ts";
import { CAUSE_FETCH_ACCESS, CAUSE_FETCH_PAGE, MMU_S_SUM, MMU_U, SSTATUS_MXR } from "./state.ts";

export const PTE_V = 1;
export const PTE_R = 2;
export const PTE_W = 4;
export const PTE_X = 8;
export const PTE_U = 0x10;
export const PTE_G = 0x20;
export const PTE_A = 0x40;
export const PTE_D = 0x80;

/** The TranslateArch.emitWalk of RISC-V. */
export function emitWalk(w: WalkEmitter): void {
  const { va } = w;
  const gpa = w.local(I64);
  const pte = w.local(I64);
  const low = w.local(I64);
  const entry = w.local(I32);
  const level = w.local(I32);
  const shift = w.local(I64);
  const bits = w.local(I32);
  const writing = i32.eq(w.access, c32(ACCESS_WRITE));
  const executing = i32.eq(w.access, c32(ACCESS_EXECUTE));
  /** Causes come in threes: fetch, load at 4 (page faults: 1) more, store at 6 (3) more. */
  const fault = (page: boolean): Expr => {
    const [fetch, load, store] = page ? [CAUSE_FETCH_PAGE, 13, 15] : [CAUSE_FETCH_ACCESS, 5, 7];
    const cause = select(c32(fetch), select(c32(store), c32(load), writing), executing);
    return w.seq(w.cell("faultCause").set32i(cause), w.cell("faultValue").set64(va), w.answer(1));
  };
  const pageFault = fault(true);
  const accessFault = fault(false);
  /** entry = the P2m's leaf for gpa, 0 where there is none. */
  const lookUp = (): Expr => {
    const step = (from: Expr, by: number): Expr =>
      entry.set(w.physical32(i32.add(from, i32.shl(i32.and(i32.wrap(i64.shru(gpa.get, c64(by))), c32(1023)), c32(2)))));
    const table = i32.and(entry.get, c32(~4095));
    return w.seq(
      entry.set(c32(0)),
      w.when(
        i64.eqz(i64.shru(gpa.get, c64(42))),
        w.seq(
          step(w.cell("p2mRoot").i32, 32),
          w.when(entry.get, w.seq(step(table, 22), w.when(entry.get, step(table, 12)))),
        ),
      ),
    );
  };
  const mmu = w.cell("mmu").i32;
  const has = (bit: number): Expr => i32.and(bits.get, c32(bit));
  const hasNot = (bit: number): Expr => i32.eqz(has(bit));

  /** The table walk; leaves gpa. */
  const walk: Expr = (code) => {
    // the unused upper bits must be copies of the top one
    shift.set(i64.sub(c64(52), i64.mul(i64.extu(level.get), c64(9))))(code);
    w.when(i64.ne(i64.shrs(i64.shl(va, shift.get), shift.get), va), pageFault)(code);
    gpa.set(w.cell("root").i64)(code);
    const done = code.block();
    const next = code.loop();
    level.set(i32.sub(level.get, c32(1)))(code);
    w.when(i32.lts(level.get, c32(0)), pageFault)(code);
    shift.set(i64.add(c64(12), i64.mul(i64.extu(level.get), c64(9))))(code);
    gpa.set(i64.or(gpa.get, i64.shl(i64.and(i64.shru(va, shift.get), c64(511)), c64(3))))(code);
    lookUp()(code);
    w.when(i32.eqz(i32.and(entry.get, c32(P2M_RAM))), accessFault)(code);
    pte.set(w.physical64(i32.or(i32.and(entry.get, c32(~4095)), i32.and(i32.wrap(gpa.get), c32(4095)))))(code);
    bits.set(i32.wrap(pte.get))(code);
    w.when(
      i32.or(i32.or(hasNot(PTE_V), i32.eq(has(PTE_R | PTE_W), c32(PTE_W))), i64.ne(i64.shru(pte.get, c64(54)), c64(0))),
      pageFault,
    )(code);
    gpa.set(i64.and(i64.shl(pte.get, c64(2)), c64(~4095, 0x00ff_ffff)))(code);
    w.when(has(PTE_R | PTE_X), (v) => v.br(done))(code);
    w.when(has(PTE_D | PTE_A | PTE_U), pageFault)(code);
    code.br(next);
    code.end();
    code.unreachable();
    code.end();
  };
  const mxr = i32.ne(i32.and(w.cell("sstatus").i32, c32(SSTATUS_MXR)), c32(0));
  const readable = i32.or(has(PTE_R), i32.and(mxr, i32.ne(has(PTE_X), c32(0))));
  /** Checks the leaf and completes gpa. */
  const leaf = w.seq(
    low.set(i64.sub(i64.shl(c64(1), shift.get), c64(1))),
    // a superpage's frame is aligned to its size
    w.when(i64.ne(i64.and(gpa.get, low.get), c64(0)), pageFault),
    w.when(
      i32.eq(mmu, c32(MMU_U)),
      w.when(hasNot(PTE_U), pageFault),
      w.when(has(PTE_U), w.when(i32.or(executing, i32.ne(mmu, c32(MMU_S_SUM))), pageFault)),
    ),
    w.when(
      executing,
      w.when(hasNot(PTE_X), pageFault),
      w.when(writing, w.when(hasNot(PTE_W), pageFault), w.when(i32.eqz(readable), pageFault)),
    ),
    w.when(i32.or(hasNot(PTE_A), i32.and(writing, hasNot(PTE_D))), pageFault),
    gpa.set(i64.or(gpa.get, i64.and(va, low.get))),
    w.when(
      level.get,
      w.seq(
        // from here on pte is the superpage's first virtual page
        pte.set(i64.shru(i64.and(va, i64.xor(low.get, c64(-1))), c64(12))),
        w.when(i64.ltu(pte.get, w.cell("superLow").i64), w.cell("superLow").set64(pte.get)),
        pte.set(i64.add(pte.get, i64.shru(i64.add(low.get, c64(1)), c64(12)))),
        w.when(i64.gtu(pte.get, w.cell("superHigh").i64), w.cell("superHigh").set64(pte.get)),
      ),
    ),
  );
  w.write(
    gpa.set(va),
    w.when(level.tee(w.cell("levels").i32), w.seq(walk, leaf)),
    lookUp(),
    w.when(i32.eqz(entry.get), accessFault),
    w.when(
      i32.eqz(i32.and(entry.get, c32(P2M_RAM))),
      w.seq(w.when(executing, accessFault), w.cell("walkGpa").set64(gpa.get), w.answer(2)),
    ),
    w.when(i32.and(writing, i32.eqz(i32.and(entry.get, c32(P2M_WRITABLE)))), accessFault),
    // what was asked for is what is permitted
    w.found(i32.and(entry.get, c32(~4095)), i32.shl(c32(1), w.access)),
  );
}
