/**
 * The x86 page walk, emitted as WebAssembly: 4-level paging of long mode (SDM volume 3, 4.5), or identity when CR0.PG is clear.
 *
 * Roots: cell `root[mmu]` holds the physical address of the top table for each mmu index, so that a platform can keep several
 * address spaces in separate soft-TLBs. Index MMU_SUPERVISOR is checked as a supervisor (CR0.WP); every other one as a user.
 *
 * Accessed bits are set in every entry a successful walk used, the dirty bit on a write; a page is writable in the TLB only
 * once it is dirty. A frame beyond the machine's memory is a reserved-bit fault. Error code: SDM volume 3, 4.7.
 */

import { ACCESS_EXECUTE, ACCESS_WRITE, PERMIT_EXECUTE, PERMIT_READ, PERMIT_WRITE } from "../translate/ir.ts";
import type { WalkEmitter } from "../translate/tier0.ts";
import { type Expr, I32, I64 } from "../translate/wasm/code.ts";
import { c32, c64, i32, i64 } from "../translate/wasm/expr.ts";
import { NO_ERROR_CODE, VECTOR_GP, VECTOR_PF } from "./state.ts";

/** mmu indexes: supervisor and user of one root; a third for platforms that keep two user-checked roots apart. */
export const MMU_SUPERVISOR = 0;
export const MMU_USER = 1;
export const MMU_USER_2 = 2;
export const MMU_INDEXES = 3;

/** Page-table entry bits. */
export const PTE_PRESENT = 1;
export const PTE_WRITE = 2;
export const PTE_USER = 4;
export const PTE_ACCESSED = 0x20;
export const PTE_DIRTY = 0x40;
export const PTE_LARGE = 0x80;
/** Bit 63, as bit 31 of the high half. */
export const PTE_NX_HI = 0x80000000;

/** Page-fault error code bits. */
export const PF_PRESENT = 1;
export const PF_WRITE = 2;
export const PF_USER = 4;
export const PF_RESERVED = 8;
export const PF_FETCH = 16;

const CR0_PG = 0x80000000 | 0;
const CR0_WP = 0x10000;
const EFER_NXE = 0x800;

/** The TranslateArch.emitWalk of x86. */
export function emitWalk(w: WalkEmitter): void {
  const va = w.va;
  const entry = w.local(I64);
  const addresses = [4, 3, 2, 1].map(() => w.local(I32));
  const table = w.local(I32);
  const rights = w.local(I32);
  const nx = w.local(I64);
  const user = w.local(I32);
  const writing = i32.eq(w.access, c32(ACCESS_WRITE));
  const executing = i32.eq(w.access, c32(ACCESS_EXECUTE));
  const nxe = i32.and(w.cell("efer").i32, c32(EFER_NXE));
  const fault = (bits: number): Expr =>
    w.seq(
      w.cell("faultVector").set32i(c32(VECTOR_PF)),
      w.cell("faultAddress").set64(va),
      w
        .cell("faultError")
        .set32i(
          i32.or(
            i32.or(c32(bits), i32.mul(writing, c32(PF_WRITE))),
            i32.or(
              i32.mul(i32.ne(user.get, c32(0)), c32(PF_USER)),
              i32.mul(i32.and(executing, i32.ne(nxe, c32(0))), c32(PF_FETCH)),
            ),
          ),
        ),
      w.answer(1),
    );
  const framesAsAddress = c64(w.frames << 12, Math.floor(w.frames / 0x100000));
  const physical = i64.and(entry.get, c64(0xfffff000 | 0, 0x000fffff));
  const wp = i32.ne(i32.and(w.cell("cr0").i32, c32(CR0_WP)), c32(0));
  const mayWrite = i32.or(i32.ne(i32.and(rights.get, c32(PTE_WRITE)), c32(0)), i32.and(i32.eqz(user.get), i32.eqz(wp)));

  /** Checks rights, sets accessed and dirty bits, answers. `used` tables were read; the last one's entry is the leaf. */
  const finish = (used: number, page: Expr): Expr =>
    w.seq(
      w.when(i32.and(i32.ne(user.get, c32(0)), i32.eqz(i32.and(rights.get, c32(PTE_USER)))), fault(PF_PRESENT)),
      w.when(i32.and(writing, i32.eqz(mayWrite)), fault(PF_PRESENT)),
      w.when(i32.and(executing, i64.lts(nx.get, c64(0))), fault(PF_PRESENT)),
      ...addresses
        .slice(0, used - 1)
        .map((a) =>
          w.when(
            i32.eqz(i32.and(w.physical32(a.get), c32(PTE_ACCESSED))),
            w.setPhysical32(a.get, i32.or(w.physical32(a.get), c32(PTE_ACCESSED))),
          ),
        ),
      // rights becomes the leaf's bits with A and perhaps D
      table.set(i32.or(i32.wrap(entry.get), i32.or(c32(PTE_ACCESSED), i32.mul(writing, c32(PTE_DIRTY))))),
      w.when(i32.ne(table.get, i32.wrap(entry.get)), w.setPhysical32(addresses[used - 1]!.get, table.get)),
      w.found(
        page,
        i32.or(
          i32.or(c32(PERMIT_READ), i32.mul(i64.ges(nx.get, c64(0)), c32(PERMIT_EXECUTE))),
          i32.mul(i32.and(mayWrite, i32.ne(i32.and(table.get, c32(PTE_DIRTY)), c32(0))), c32(PERMIT_WRITE)),
        ),
      ),
    );

  const level = (n: number, shift: number): Expr => {
    const a = addresses[n]!;
    const large = (low: number): Expr =>
      finish(n + 1, i32.wrap(i64.or(i64.and(physical, c64(~low, -1)), i64.and(va, c64(low & ~0xfff)))));
    const small = i64.and(va, c64(shift === 30 ? 0x3fffffff : 0x1fffff));
    return w.seq(
      a.set(i32.add(table.get, i32.shl(i32.and(i32.wrap(i64.shru(va, c64(shift))), c32(511)), c32(3)))),
      entry.set(w.physical64(a.get)),
      w.when(i32.eqz(i32.and(i32.wrap(entry.get), c32(PTE_PRESENT))), fault(0)),
      // NX without EFER.NXE, and frames that are not there, are reserved bits
      w.when(i32.and(i64.lts(entry.get, c64(0)), i32.eqz(nxe)), fault(PF_PRESENT | PF_RESERVED)),
      nx.set(i64.or(nx.get, entry.get)),
      rights.set(i32.and(rights.get, i32.wrap(entry.get))),
      w.when(
        i64.geu(
          shift === 30 || shift === 21
            ? i64.or(
                physical,
                i64.extu(i32.mul(i32.ne(i32.and(i32.wrap(entry.get), c32(PTE_LARGE)), c32(0)), i32.wrap(small))),
              )
            : physical,
          framesAsAddress,
        ),
        fault(PF_PRESENT | PF_RESERVED),
      ),
      ...(shift === 39
        ? [w.when(i32.and(i32.wrap(entry.get), c32(PTE_LARGE)), fault(PF_PRESENT | PF_RESERVED))]
        : shift === 30
          ? [w.when(i32.and(i32.wrap(entry.get), c32(PTE_LARGE)), large(0x3fffffff))]
          : shift === 21
            ? [w.when(i32.and(i32.wrap(entry.get), c32(PTE_LARGE)), large(0x1fffff))]
            : [finish(4, i32.wrap(physical))]),
      table.set(i32.wrap(physical)),
    );
  };

  w.write(
    user.set(i32.ne(w.cell("mmu").i32, c32(MMU_SUPERVISOR))),
    // CR0.PG clear: the low 4 GiB of memory, as they are
    w.when(
      i32.eqz(i32.and(w.cell("cr0").i32, c32(CR0_PG))),
      w.seq(
        w.when(i64.geu(va, framesAsAddress), fault(0)),
        w.found(i32.and(i32.wrap(va), c32(~0xfff)), c32(PERMIT_READ | PERMIT_WRITE | PERMIT_EXECUTE)),
      ),
    ),
    w.when(
      i64.ne(i64.shrs(i64.shl(va, c64(16)), c64(16)), va),
      w.seq(
        w.cell("faultVector").set32i(c32(VECTOR_GP)),
        w.cell("faultError").set32i(c32(0)),
        w.cell("faultAddress").set64(va),
        w.answer(1),
      ),
    ),
    rights.set(c32(-1)),
    nx.set(c64(0)),
    // the caller of setRoot has checked its frame
    table.set(i32.and(w.cell("root", 0).i32, c32(~0xfff))),
    w.when(i32.eq(w.cell("mmu").i32, c32(1)), table.set(i32.and(w.cell("root", 1).i32, c32(~0xfff)))),
    w.when(i32.eq(w.cell("mmu").i32, c32(2)), table.set(i32.and(w.cell("root", 2).i32, c32(~0xfff)))),
    level(0, 39),
    level(1, 30),
    level(2, 21),
    level(3, 12),
  );
}

/** Error code of an exception that has none, for readers of `faultError`. */
export const noErrorCode = (value: number): boolean => value >>> 0 === NO_ERROR_CODE;
