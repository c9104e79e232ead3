/**
 * Lifting CSR accesses and privileged instructions. What only moves a value (sscratch, sepc, ...) is pure IR, so are fcsr's fields and the switching
 * of sstatus.SIE; the rest is the CSR helper's (csr.ts).
 */
import type { OpSet } from "../translate/ir.ts";
import { csrOf, rdOf, rs1Of } from "./decode.ts";
import type { LiftContext, Lifter } from "./lift.ts";
import { floatEnabled } from "./lift-float.ts";
import { HELPER_COUNTER, HELPER_CSR, HELPER_SFENCE, HELPER_SRET, HELPER_WFI } from "./ops.ts";
import {
  CAUSE_BREAKPOINT,
  CAUSE_ECALL_U,
  DETAIL_ECALL,
  DETAIL_PAUSE,
  MODE_S,
  SSTATUS_SIE,
  STATE,
  temp,
  x,
  xd,
} from "./state.ts";

const at = STATE.at;

/** CSR numbers (privileged specification, table of supervisor CSRs). */
export const CSR_FFLAGS = 1;
export const CSR_FRM = 2;
export const CSR_FCSR = 3;
export const CSR_SSTATUS = 0x100;
export const CSR_SIE = 0x104;
export const CSR_STVEC = 0x105;
export const CSR_SCOUNTEREN = 0x106;
export const CSR_SENVCFG = 0x10a;
export const CSR_SSCRATCH = 0x140;
export const CSR_SEPC = 0x141;
export const CSR_SCAUSE = 0x142;
export const CSR_STVAL = 0x143;
export const CSR_SIP = 0x144;
export const CSR_SATP = 0x180;
export const CSR_CYCLE = 0xc00;
export const CSR_TIME = 0xc01;
export const CSR_INSTRET = 0xc02;

/** What a CSR instruction does, in the helper's operand above the number. */
export const CSR_WRITE = 1;
export const CSR_SET = 2;
export const CSR_CLEAR = 3;
export const CSR_KIND_SHIFT = 12;
/** It writes (csrrs and csrrc of x0 only read). */
export const CSR_WRITES = 0x4000;

/** CSRs that a write only stores, under a mask of the low half. */
const PLAIN = new Map<number, { readonly cell: number; readonly mask: number }>([
  [CSR_SSCRATCH, { cell: at.sscratch, mask: -1 }],
  [CSR_SEPC, { cell: at.sepc, mask: ~1 }],
  [CSR_SCAUSE, { cell: at.scause, mask: -1 }],
  [CSR_STVAL, { cell: at.stval, mask: -1 }],
  // modes 0 and 1
  [CSR_STVEC, { cell: at.stvec, mask: ~2 }],
]);
/** What reads need no helper. */
const READABLE = new Map<number, number>([
  [CSR_SSTATUS, at.sstatus],
  [CSR_SIE, at.sie],
  [CSR_SIP, at.sip],
  [CSR_SATP, at.satp],
  [CSR_SCOUNTEREN, at.scounteren],
  [CSR_SENVCFG, at.senvcfg],
]);

export function systemLifters(ops: OpSet): Map<string, Lifter> {
  const map = new Map<string, Lifter>();
  const id = (name: string): number => ops.id(name);
  const n = {
    mov: id("mov64"),
    movi: id("mov64i"),
    and: id("and64"),
    andi: id("and64i"),
    or: id("or64"),
    andn: id("andn64"),
    shri: id("shr64i"),
    insert: id("rv.insert"),
    set: id("rv.sstatus.set"),
    clear: id("rv.sstatus.clear"),
    helper: id("helper"),
    helperEnd: id("helperEnd"),
    exitAfter: id("exitAfter"),
  };
  const t0 = temp(0);
  const t1 = temp(1);

  /** rd = old, where old is in t1. */
  const result = (c: LiftContext, rd: number): void => {
    if (rd !== 0) c.b.emit(n.mov, x(rd), t1);
  };
  /** t0 = the new value, of the old in t1 and the source. */
  const compute = (c: LiftContext, kind: number, source: number): void => {
    if (kind === CSR_SET) c.b.emit(n.or, t0, t1, source);
    else if (kind === CSR_CLEAR) c.b.emit(n.andn, t0, t1, source);
    else if (source !== t0) c.b.emit(n.mov, t0, source);
  };
  const fcsrField = (c: LiftContext, csr: number, kind: number, writes: boolean, source: number, rd: number): void => {
    if (!floatEnabled(c)) return;
    const [shift, mask] = csr === CSR_FFLAGS ? [0, 0x1f] : csr === CSR_FRM ? [5, 0xe0] : [0, 0xff];
    if (shift !== 0) c.b.emit(n.shri, t1, at.fcsr, 0, shift);
    else c.b.emit(n.andi, t1, at.fcsr, 0, mask);
    if (writes) {
      compute(c, kind, source);
      c.b.emit(n.insert, at.fcsr, t0, 0, mask, shift);
    }
    result(c, rd);
  };

  const access = (c: LiftContext, word: number, kind: number, immediate: boolean): void => {
    const csr = csrOf(word);
    const rs1 = rs1Of(word);
    const rd = rdOf(word);
    const writes = kind === CSR_WRITE || rs1 !== 0;
    // bits 11..10 are 3: read-only; bits 9..8: the least privilege
    if ((writes && csr >> 10 === 3) || ((csr >> 8) & 3) > ((c.mode & MODE_S) !== 0 ? 1 : 0)) {
      c.illegal();
      return;
    }
    const source = immediate ? t0 : x(rs1);
    const loadImmediate = (): void => {
      if (immediate && writes) c.b.emit(n.movi, t0, 0, 0, rs1);
    };
    if (csr >= CSR_FFLAGS && csr <= CSR_FCSR) {
      if (floatEnabled(c)) {
        loadImmediate();
        fcsrField(c, csr, kind, writes, source, rd);
      }
      return;
    }
    if (csr >= CSR_CYCLE && csr <= CSR_INSTRET) {
      c.setNext();
      c.b.emit(n.helper, xd(rd), 0, 0, HELPER_COUNTER, csr);
      return;
    }
    const plain = PLAIN.get(csr);
    if (plain !== undefined) {
      if (!writes) {
        if (rd !== 0) c.b.emit(n.mov, x(rd), plain.cell);
        return;
      }
      loadImmediate();
      c.b.emit(n.mov, t1, plain.cell);
      compute(c, kind, source);
      if (plain.mask === -1) c.b.emit(n.mov, plain.cell, t0);
      else c.b.emit(n.andi, plain.cell, t0, 0, plain.mask);
      result(c, rd);
      return;
    }
    if (!writes) {
      const cell = READABLE.get(csr);
      if (cell === undefined) c.illegal();
      else if (rd !== 0) c.b.emit(n.mov, x(rd), cell);
      return;
    }
    if (!READABLE.has(csr)) {
      c.illegal();
      return;
    }
    const detail = csr | (kind << CSR_KIND_SHIFT) | CSR_WRITES;
    if (csr === CSR_SSTATUS && kind === CSR_CLEAR && immediate && rs1 === SSTATUS_SIE) {
      c.b.emit(n.mov, t1, at.sstatus);
      c.b.emit(n.andi, at.sstatus, t1, 0, ~SSTATUS_SIE);
      result(c, rd);
      return;
    }
    loadImmediate();
    c.setNext();
    if (csr === CSR_SSTATUS && kind !== CSR_WRITE) {
      c.b.jump(c.nextLo, c.nextHi, kind === CSR_SET ? n.set : n.clear, xd(rd), source, 0, detail);
    } else c.b.computed(n.helperEnd, xd(rd), source, 0, HELPER_CSR, detail);
  };
  for (const [name, kind] of [
    ["csrrw", CSR_WRITE],
    ["csrrs", CSR_SET],
    ["csrrc", CSR_CLEAR],
  ] as const) {
    map.set(name, (c, w) => access(c, w, kind, false));
    map.set(`${name}i`, (c, w) => access(c, w, kind, true));
  }

  map.set("ecall", (c) => {
    if ((c.mode & MODE_S) === 0) {
      c.raise(CAUSE_ECALL_U);
      return;
    }
    c.setNext();
    c.b.computed(n.exitAfter, 0, 0, 0, DETAIL_ECALL);
  });
  map.set("ebreak", (c) => c.raise(CAUSE_BREAKPOINT, c.pcLo, c.pcHi));
  map.set("pause", (c) => {
    c.setNext();
    c.b.computed(n.exitAfter, 0, 0, 0, DETAIL_PAUSE);
  });
  const privileged = (name: string, helper: number, operands: (w: number) => readonly [number, number]): void => {
    map.set(name, (c, w) => {
      if ((c.mode & MODE_S) === 0) {
        c.illegal();
        return;
      }
      c.setNext();
      const [a, b] = operands(w);
      c.b.computed(n.helperEnd, 0, a, b, helper, 0);
    });
  };
  privileged("sret", HELPER_SRET, () => [0, 0]);
  privileged("wfi", HELPER_WFI, () => [0, 0]);
  // a is 0 where every address is meant
  privileged("sfence.vma", HELPER_SFENCE, (w) => [rs1Of(w) === 0 ? 0 : x(rs1Of(w)), 0]);
  return map;
}
