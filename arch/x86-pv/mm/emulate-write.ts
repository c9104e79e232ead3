/**
 * Emulated writes to page tables: the guest kernel writes to a page table that it maps read-only (VMASST_TYPE_writable_pagetables;
 * Xen: pv/ro-page-fault.c). The instruction is decoded again and its store becomes a checked change of the entry.
 *
 * Only entries of L1 tables can be written so, by one aligned store of at most 8 bytes; a smaller one is merged with what is there. The
 * destination is the fault's address, so that no address needs to be computed. Instructions: mov, xchg, cmpxchg, stos,
 * add, or, and, sub, xor, bts, btr, btc. Everything else stays a page fault.
 */
import { DECODE_OK, decode, Instruction, MAP_0F, MAP_ONE } from "../../x86/decode.ts";
import type { X86Entry } from "../../x86/lift/context.ts";
import { X86_TABLE } from "../../x86/table.ts";
import { RAX, RCX, RDI } from "../cpu.ts";
import type { PvVcpu } from "../vcpu-state.ts";
import { TYPE_L1 } from "./pte.ts";
import type { GuestMemory } from "./walk.ts";

const ARITHMETIC = 0x8d5;
const ZF = 0x40;
const CF = 1;

export class WriteEmulator {
  readonly #memory: GuestMemory;
  readonly #instruction = new Instruction<X86Entry>();
  readonly #bytes = new Uint8Array(16);

  constructor(memory: GuestMemory) {
    this.#memory = memory;
  }

  /** Emulates the instruction at rip, whose write to (lo, hi) faulted; false: it stays the guest's fault. */
  emulate(v: PvVcpu, lo: number, hi: number): boolean {
    const mfn = this.#memory.frameAt(v.kernelRoot, lo, hi, false);
    const domid = v.vcpu.domain.id;
    if (mfn < 0 || !v.tables.isTable(mfn, TYPE_L1) || !v.tables.frames.owns(domid, mfn)) return false;
    const i = this.#decode(v);
    if (i === null || (i.entry?.modrm === true && i.mod === 3)) return false;
    const { size } = i;
    if ((lo & (size - 1)) !== 0) return false;
    const index = (lo & 0xfff) >>> 3;
    const oldLo = v.tables.entryLo(mfn, index);
    const oldHi = v.tables.entryHi(mfn, index);
    const shift = (lo & 7) * 8;
    const before = ((BigInt(oldHi) << 32n) | BigInt(oldLo)) >> BigInt(shift);
    const mask = (1n << BigInt(size * 8)) - 1n;
    const step = this.#step(v, i, before & mask, mask);
    if (step === null) return false;
    if (step.store !== null) {
      const whole =
        (((BigInt(oldHi) << 32n) | BigInt(oldLo)) & ~(mask << BigInt(shift))) | ((step.store & mask) << BigInt(shift));
      const newLo = Number(whole & 0xffffffffn);
      const newHi = Number((whole >> 32n) & 0xffffffffn);
      if (v.tables.modify(mfn, index, newLo, newHi, false, domid, domid) !== 0) return false;
    }
    step.commit();
    const sum = v.cpu.ripLo() + (step.stay ? 0 : i.length);
    v.cpu.setRip(sum >>> 0, sum > 0xffff_ffff ? (v.cpu.ripHi() + 1) >>> 0 : v.cpu.ripHi());
    return true;
  }

  #decode(v: PvVcpu): Instruction<X86Entry> | null {
    const { cpu } = v;
    const lo = cpu.ripLo();
    const hi = cpu.ripHi();
    this.#bytes.fill(0);
    let length = 15;
    if (!this.#memory.copyFrom(v.root, lo, hi, this.#bytes, 15)) {
      length = Math.min(15, 4096 - (lo & 0xfff));
      if (!this.#memory.copyFrom(v.root, lo, hi, this.#bytes, length)) return null;
    }
    const i = this.#instruction;
    i.bits = 64;
    return decode(X86_TABLE, this.#bytes, 0, length, i) === DECODE_OK ? i : null;
  }

  /** What the instruction stores and does to registers, given the old value. */
  #step(
    v: PvVcpu,
    i: Instruction<X86Entry>,
    old: bigint,
    mask: bigint,
  ): { readonly store: bigint | null; readonly stay: boolean; commit(): void } | null {
    const { cpu } = v;
    const bits = BigInt(i.size * 8);
    const high = i.rex === 0 && i.size === 1;
    const get = (n: number): bigint => {
      if (high && n >= 4 && n < 8) return BigInt((cpu.lo(n - 4) >>> 8) & 0xff);
      return ((BigInt(cpu.hi(n)) << 32n) | BigInt(cpu.lo(n))) & mask;
    };
    const put = (n: number, value: bigint): void => {
      if (i.size === 8) cpu.set(n, Number(value & 0xffffffffn), Number(value >> 32n));
      else if (i.size === 4) cpu.set(n, Number(value), 0);
      else if (high && n >= 4 && n < 8)
        cpu.set(n - 4, ((cpu.lo(n - 4) & ~0xff00) | (Number(value) << 8)) >>> 0, cpu.hi(n - 4));
      else cpu.set(n, ((cpu.lo(n) & ~Number(mask)) | Number(value)) >>> 0, cpu.hi(n));
    };
    const immediate = ((BigInt(i.immHi >>> 0) << 32n) | BigInt(i.immLo >>> 0)) & mask;
    const plain = (store: bigint) => ({ store, stay: false, commit: () => {} });
    const flagged = (store: bigint | null, flags: number) => ({
      store,
      stay: false,
      commit: () => cpu.setFlags(((cpu.flags() & ~ARITHMETIC) | flags) >>> 0),
    });
    const arithmetic = (operation: number, other: bigint) => {
      switch (operation) {
        case 0:
          return flagged((old + other) & mask, addFlags(old, other, mask, bits));
        case 1:
          return flagged(old | other, logicFlags(old | other, bits));
        case 4:
          return flagged(old & other, logicFlags(old & other, bits));
        case 5:
          return flagged((old - other) & mask, subFlags(old, other, mask, bits));
        case 6:
          return flagged(old ^ other, logicFlags(old ^ other, bits));
        default:
          return null;
      }
    };
    const { opcode } = i;
    if (i.map === MAP_ONE) {
      switch (opcode) {
        case 0x88:
        case 0x89:
          return plain(get(i.reg));
        case 0xc6:
        case 0xc7:
          return plain(immediate);
        case 0x86:
        case 0x87: {
          const value = get(i.reg);
          return { store: value, stay: false, commit: () => put(i.reg, old) };
        }
        case 0x00:
        case 0x01:
        case 0x08:
        case 0x09:
        case 0x20:
        case 0x21:
        case 0x28:
        case 0x29:
        case 0x30:
        case 0x31:
          return arithmetic(opcode >>> 3, get(i.reg));
        case 0x80:
        case 0x81:
        case 0x83:
          return arithmetic((i.modrm >>> 3) & 7, immediate);
        case 0xaa:
        case 0xab:
          return this.#stos(v, i, get(RAX));
        default:
          return null;
      }
    }
    if (i.map !== MAP_0F) return null;
    switch (opcode) {
      case 0xb0:
      case 0xb1: {
        const wanted = get(RAX);
        const flags = subFlags(wanted, old, mask, bits);
        if (wanted === old) return flagged(get(i.reg), flags);
        const refused = flagged(old, flags);
        return {
          store: null,
          stay: false,
          commit: () => {
            refused.commit();
            put(RAX, old);
          },
        };
      }
      case 0xab:
      case 0xb3:
      case 0xbb:
      case 0xba: {
        const kind = opcode === 0xba ? (i.modrm >>> 3) & 7 : opcode === 0xab ? 5 : opcode === 0xb3 ? 6 : 7;
        const bit = 1n << ((opcode === 0xba ? immediate : get(i.reg)) & (bits - 1n));
        if (kind < 5) return null;
        const store = kind === 5 ? old | bit : kind === 6 ? old & ~bit : old ^ bit;
        const carry = (old & bit) !== 0n ? CF : 0;
        return {
          store: store & mask,
          stay: false,
          commit: () => cpu.setFlags(((cpu.flags() & ~CF) | carry) >>> 0),
        };
      }
      default:
        return null;
    }
  }

  /** One element of stos; with rep, rip stays until rcx is used up. */
  #stos(v: PvVcpu, i: Instruction<X86Entry>, value: bigint) {
    const { cpu } = v;
    const count = cpu.hi(RCX) * 0x1_0000_0000 + cpu.lo(RCX);
    if (i.rep !== 0 && count === 0) return null;
    return {
      store: value,
      stay: i.rep !== 0 && count > 1,
      commit: () => {
        const sum = cpu.lo(RDI) + ((cpu.flags() & 0x400) !== 0 ? -i.size : i.size);
        cpu.set(RDI, sum >>> 0, (cpu.hi(RDI) + (sum < 0 ? -1 : sum > 0xffff_ffff ? 1 : 0)) >>> 0);
        if (i.rep === 0) return;
        const left = cpu.lo(RCX) - 1;
        cpu.set(RCX, left >>> 0, left < 0 ? (cpu.hi(RCX) - 1) >>> 0 : cpu.hi(RCX));
      },
    };
  }
}

function parity(value: bigint): number {
  let byte = Number(value & 0xffn);
  byte ^= byte >> 4;
  byte ^= byte >> 2;
  byte ^= byte >> 1;
  return (byte & 1) === 0 ? 4 : 0;
}

function logicFlags(value: bigint, bits: bigint): number {
  return (value === 0n ? ZF : 0) | ((value >> (bits - 1n)) & 1n ? 0x80 : 0) | parity(value);
}

function addFlags(a: bigint, b: bigint, mask: bigint, bits: bigint): number {
  const sum = (a + b) & mask;
  const overflow = ((~(a ^ b) & (a ^ sum)) >> (bits - 1n)) & 1n;
  return (
    logicFlags(sum, bits) |
    (a + b > mask ? CF : 0) |
    (overflow ? 0x800 : 0) |
    (((a ^ b ^ sum) & 0x10n) !== 0n ? 0x10 : 0)
  );
}

function subFlags(a: bigint, b: bigint, mask: bigint, bits: bigint): number {
  const difference = (a - b) & mask;
  const overflow = (((a ^ b) & (a ^ difference)) >> (bits - 1n)) & 1n;
  return (
    logicFlags(difference, bits) |
    (a < b ? CF : 0) |
    (overflow ? 0x800 : 0) |
    (((a ^ b ^ difference) & 0x10n) !== 0n ? 0x10 : 0)
  );
}
