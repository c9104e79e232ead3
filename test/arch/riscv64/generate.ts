/**
 * Random cases for the differential tests: a short sequence around one instruction, registers and memory, all from one seed.
 *
 * Rules that keep a case legal in user mode and its memory within the scratch page: tp is the record's address, sp, s0 and s1 point into the scratch
 * page (s1 aligned to 8); nothing writes these four. frm is always valid. Jumps go forward, over one instruction at most. LR and SC of a case have
 * one width: whether an SC of another width may succeed is left open.
 */
import { decode, expand, INSTRUCTIONS } from "../../../arch/riscv64/decode.ts";
import { asm } from "./assemble.ts";

/** Where a record lies, in the guest's address space and in qemu's: registers, code, scratch. */
export const RECORD = 0x100000;
export const RECORD_BYTES = 0x2000;
export const CODE_AT = 0x400;
export const CODE_BYTES = 0x400;
export const SCRATCH_AT = 0x1000;
/** Where a case's code jumps to at its end. */
export const SAVE = 0x10400;
/** Offsets of f0 and of fcsr in a record; x0 is at 0. */
export const F_AT = 256;
export const FCSR_AT = 512;

/** A small generator (mulberry32): the same numbers everywhere. */
export class Random {
  #state: number;
  constructor(seed: number) {
    this.#state = seed >>> 0;
  }
  u32(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let t = this.#state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return (t ^ (t >>> 14)) >>> 0;
  }
  below(n: number): number {
    return this.u32() % n;
  }
  u64(): bigint {
    return (BigInt(this.u32()) << 32n) | BigInt(this.u32());
  }
  pick<T>(list: readonly T[]): T {
    const one = list[this.below(list.length)];
    if (one === undefined) throw new Error("nothing to pick from");
    return one;
  }
}

const FIXED = [2, 4, 8, 9];
const SYSTEM = /^(ecall|ebreak|sret|wfi|sfence|csr|pause)/;

/** What a case may be about. */
export const SUBJECTS: readonly string[] = [
  ...INSTRUCTIONS.map((e) => e.name).filter((name) => !SYSTEM.test(name)),
  "csr.fflags",
  "csr.frm",
  "csr.fcsr",
  "compressed",
  "idiom",
];

const F64_SPECIAL = [
  0n,
  1n,
  0xfffffffffffffn,
  0x10000000000000n,
  0x10000000000001n,
  0x3ff0000000000000n,
  0x3ff8000000000000n,
  0x3fefffffffffffffn,
  0x4000000000000000n,
  0x41dfffffffc00000n,
  0x41e0000000000000n,
  0x41efffffffe00000n,
  0x43dfffffffffffffn,
  0x43e0000000000000n,
  0x43f0000000000000n,
  0x7fefffffffffffffn,
  0x7ff0000000000000n,
  0x7ff0000000000001n,
  0x7ff8000000000000n,
  0x7ff8000000001234n,
  0x36a0000000000000n,
  0x3690000000000001n,
  0x380fffffe0000000n,
  0x3fe0000000000000n,
];
const F32_SPECIAL = [
  0n,
  1n,
  0x7fffffn,
  0x800000n,
  0x800001n,
  0x3f800000n,
  0x3fc00000n,
  0x3f7fffffn,
  0x3f000000n,
  0x4effffffn,
  0x4f000000n,
  0x4f7fffffn,
  0x5f000000n,
  0x5f800000n,
  0x7f7fffffn,
  0x7f800000n,
  0x7f800001n,
  0x7fc00000n,
  0x7fc01234n,
  0x7f900000n,
];

function f64(r: Random): bigint {
  switch (r.below(6)) {
    case 0:
      return r.u64();
    case 1:
      return r.pick(F64_SPECIAL) | (BigInt(r.below(2)) << 63n);
    case 2: {
      // integers and halves: exact results, ties
      const view = new DataView(new ArrayBuffer(8));
      view.setFloat64(0, ((r.u32() | 0) >> r.below(31)) / (1 << r.below(3)));
      return view.getBigUint64(0);
    }
    case 3:
      // few significant bits
      return (r.u64() & 0x800fff0000000000n) | (BigInt(1023 - 30 + r.below(60)) << 52n);
    default:
      return (r.u64() & 0x800fffffffffffffn) | (BigInt(1023 - 60 + r.below(120)) << 52n);
  }
}

function f32(r: Random): bigint {
  const box = 0xffffffff00000000n;
  switch (r.below(8)) {
    case 0:
      return box | BigInt(r.u32());
    case 1:
    case 2:
      return box | r.pick(F32_SPECIAL) | (BigInt(r.below(2)) << 31n);
    case 3: {
      const view = new DataView(new ArrayBuffer(4));
      view.setFloat32(0, ((r.u32() | 0) >> r.below(31)) / (1 << r.below(3)));
      return box | BigInt(view.getUint32(0));
    }
    case 4:
      // not boxed
      return r.u64();
    default:
      return box | BigInt((r.u32() & 0x807fffff) >>> 0) | (BigInt(127 - 30 + r.below(60)) << 23n);
  }
}

function integer(r: Random): bigint {
  switch (r.below(6)) {
    case 0:
      return BigInt.asUintN(64, BigInt(r.below(9)) - 4n);
    case 1:
      return 1n << BigInt(r.below(64));
    case 2:
      return BigInt.asUintN(64, (1n << BigInt(r.below(64))) - 1n);
    case 3:
      return BigInt.asUintN(64, BigInt(r.u32() | 0));
    case 4:
      return BigInt(r.u32());
    default:
      return r.u64();
  }
}

/** One instruction: its bytes, little-endian halves. */
type Item = readonly number[];
const halves = (word: number): Item => [word & 0xffff, word >>> 16];

function destination(r: Random): number {
  for (;;) {
    const n = r.below(32);
    if (!FIXED.includes(n)) return n;
  }
}

/** A 16-bit instruction that keeps the rules. */
function compressed(r: Random): Item {
  for (;;) {
    const half = r.u32() & 0xffff;
    if ((half & 3) === 3) continue;
    const word = expand(half);
    const entry = decode(word);
    if (entry === null || SYSTEM.test(entry.name) || /^(jal|b)/.test(entry.name)) continue;
    const rd = (word >>> 7) & 31;
    const rs1 = (word >>> 15) & 31;
    const floats = entry.name.startsWith("f");
    if (entry.format === "S") {
      if (!FIXED.includes(rs1) || rs1 === 4) continue;
    } else if (/^(l[bhwd]|fl[wd])/.test(entry.name) && entry.format === "I") {
      if (!FIXED.includes(rs1) || rs1 === 4) continue;
      if (!floats && FIXED.includes(rd)) continue;
    } else if (FIXED.includes(rd)) continue;
    return [half];
  }
}

/** Two instructions that a lifter may take for one: each is an item, so that jumps come between them. */
function idiom(r: Random): Item[] {
  const rd = destination(r) || 5;
  const [rs1, other] = [r.below(32), r.below(4) === 0 ? rd : r.below(32)];
  const by = r.pick([0, 1, 2, 3, 16, 31, 32, 33, 48, 56, 63]);
  const pair = (a: number, b: number): Item[] => [halves(a), halves(b)];
  const left = asm("slli", { rd, rs1, imm: by });
  const again = r.below(8) === 0 ? r.below(64) : by;
  switch (r.below(5)) {
    case 0:
      return pair(left, asm(r.pick(["srli", "srai"]), { rd, rs1: rd, imm: again }));
    case 1:
      return pair(left, asm("add", r.below(2) === 0 ? { rd, rs1: rd, rs2: other } : { rd, rs1: other, rs2: rd }));
    case 2:
      return pair(
        asm("lui", { rd, imm: r.u32() }),
        asm(r.pick(["addi", "addiw"]), { rd, rs1: rd, imm: (r.u32() << 20) >> 20 }),
      );
    case 3:
      return pair(asm("auipc", { rd, imm: r.u32() }), asm("addi", { rd, rs1: rd, imm: (r.u32() << 20) >> 20 }));
    default:
      return pair(
        asm("addi", { rd, imm: (r.u32() << 20) >> 20 }),
        asm(r.pick(["addi", "addiw"]), { rd, rs1: rd, imm: (r.u32() << 20) >> 20 }),
      );
  }
}

function body(r: Random, name: string, next: number): Item[] {
  const rs1 = r.below(32);
  const rs2 = r.below(32);
  const rd = destination(r);
  const csr = (kind: string, number: number, source: number): Item =>
    halves(asm(kind, { rd, rs1: source, imm: number }));
  if (name === "compressed") return [compressed(r)];
  if (name === "idiom") return idiom(r);
  if (name === "csr.fflags") {
    const kind = r.pick(["csrrw", "csrrs", "csrrc", "csrrwi", "csrrsi", "csrrci"]);
    return [csr(kind, 1, rs1)];
  }
  if (name === "csr.frm") return [r.below(3) === 0 ? csr("csrrs", 2, 0) : csr("csrrwi", 2, r.below(5))];
  if (name === "csr.fcsr") return [r.below(2) === 0 ? csr("csrrs", 3, 0) : csr("csrrsi", 3, r.below(32))];
  const entry = INSTRUCTIONS.find((e) => e.name === name);
  if (entry === undefined) throw new Error(`no instruction ${name}`);
  const floats = /^(f[a-z]|fl)/.test(name) && !name.startsWith("fence");
  const toInteger = /^(feq|flt|fle|fclass|fcvt\.[wl]u?\.|fmv\.x)/.test(name);
  const fd = floats && !toInteger ? r.below(32) : rd;
  const rm = r.below(3) === 0 ? r.below(5) : 7;
  switch (entry.format) {
    case "B":
      return [halves(asm(name, { rs1, rs2, imm: 4 + next }))];
    case "J":
      return [halves(asm(name, { rd, imm: 4 + next }))];
    case "S":
      return [halves(asm(name, { rs1: r.pick([2, 8, 9]), rs2, imm: r.below(1024) - 512 }))];
    case "amo":
      return [halves(asm(name, { rd, rs1: 9, rs2 }))];
    case "I":
      if (name === "jalr") {
        const base = destination(r) || 5;
        // one item, so that no jump comes between
        return [
          [...halves(asm("auipc", { rd: base, imm: 0 })), ...halves(asm("jalr", { rd, rs1: base, imm: 8 + next }))],
        ];
      }
      if (/^(l[bhwd]u?|fl[wd])$/.test(name)) {
        return [halves(asm(name, { rd: fd, rs1: r.pick([2, 8, 9]), imm: r.below(1024) - 512 }))];
      }
      return [halves(asm(name, { rd, rs1, imm: (r.u32() << 20) >> 20 }))];
    case "U":
      return [halves(asm(name, { rd, imm: r.u32() }))];
    case "none":
      return [halves(asm(name))];
    default:
      return [halves(asm(name, { rd: fd, rs1, rs2, rs3: r.below(32), imm: r.below(64), rm }))];
  }
}

/** A record as it goes in: registers, code, scratch. */
export function makeCase(seed: number, subject: string): Uint8Array {
  const r = new Random(seed);
  const record = new Uint8Array(RECORD_BYTES);
  const view = new DataView(record.buffer);
  const single = subject.includes(".s") || r.below(3) === 0;
  for (let n = 1; n < 32; n++) view.setBigUint64(8 * n, integer(r), true);
  for (let n = 0; n < 32; n++)
    view.setBigUint64(F_AT + 8 * n, (r.below(8) === 0 ? !single : single) ? f32(r) : f64(r), true);
  // often a third operand that cancels a product
  if (/^fn?m(add|sub)\.d/.test(subject) && r.below(2) === 0) {
    const n = r.below(32);
    const product = view.getFloat64(F_AT + 8 * r.below(32), true) * view.getFloat64(F_AT + 8 * r.below(32), true);
    view.setFloat64(F_AT + 8 * n, -product, true);
  }
  view.setBigUint64(FCSR_AT, BigInt(r.below(2) === 0 ? r.below(32) : 1 | (r.below(5) << 5)), true);
  const centre = RECORD + SCRATCH_AT + 2048;
  view.setBigUint64(8 * 2, BigInt(centre + 8 * (r.below(64) - 32)), true);
  view.setBigUint64(8 * 4, BigInt(RECORD), true);
  view.setBigUint64(8 * 8, BigInt(centre + r.below(512) - 256), true);
  view.setBigUint64(8 * 9, BigInt(centre + 8 * (r.below(64) - 32)), true);
  for (let n = SCRATCH_AT; n < RECORD_BYTES; n += 8) view.setBigUint64(n, r.below(2) === 0 ? integer(r) : f64(r), true);

  // backwards, so that a jump knows what it skips
  const items: Item[] = [];
  const count = 4 + r.below(5);
  const width = subject.endsWith(".w") ? "w" : "d";
  for (let n = 0; n < count; n++) {
    let name = n === count >> 1 || r.below(2) === 0 ? subject : r.pick(SUBJECTS);
    if (/^(lr|sc)\./.test(name)) name = name.slice(0, 3) + width;
    const skipped = items[0];
    const next = n > 0 && skipped !== undefined && r.below(2) === 0 ? 2 * skipped.length : 0;
    items.unshift(...body(r, name, next));
  }
  let at = CODE_AT;
  for (const half of items.flat()) {
    view.setUint16(at, half, true);
    at += 2;
  }
  const end = asm("jal", { imm: SAVE - (RECORD + at) });
  view.setUint16(at, end & 0xffff, true);
  view.setUint16(at + 2, end >>> 16, true);
  return record;
}

/** Instructions of a case's code at most, with the jump at its end. */
export const CASE_BUDGET = 64;
