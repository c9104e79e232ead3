/**
 * What the x86 does in TypeScript: system instructions (handed to the platform), repeated strings, 128-bit division.
 *
 * Repeated string instructions: one execution does one chunk, retires as one instruction, and leaves rip on itself until the
 * count is used up (or, for cmps and scas, the condition ends it). A chunk ends at the count's end or where either pointer
 * leaves its page; an element that crosses pages is a chunk of its own. So a chunk depends on registers only, every tier
 * counts the same, and a fault finds rcx, rsi and rdi as of the elements done.
 */
import type { Engine } from "../translate/engine.ts";
import {
  ACCESS_READ,
  ACCESS_WRITE,
  HELPER_CONTINUE,
  HELPER_EXIT_AFTER,
  HELPER_FAULT,
  HELPER_NEXT,
  type Helper,
} from "../translate/ir.ts";
import { CC_SUB } from "./flags.ts";
import { sseHelper, stateHelper, x87Helper } from "./helpers-fpu.ts";
import { STRING_CMPS, STRING_LODS, STRING_MOVS, STRING_STOS } from "./lift/control.ts";
import { RESULT_MEMORY, RESULT_PUSH, RESULT_REGISTER } from "./lift/system.ts";
import {
  SYS_FAR_CALL,
  SYS_FAR_JUMP,
  SYS_IN,
  SYS_LOAD_SEGMENT,
  SYS_OUT,
  SYSTEM_EXIT,
  SYSTEM_FAULT,
  SYSTEM_JUMP,
  SYSTEM_NEXT,
} from "./platform.ts";
import { gpr, NO_ERROR_CODE, RAX, RCX, RDI, RDX, RSI, RSP, STATE, segmentBase, VECTOR_DE } from "./state.ts";
import type { X86Machine, X86Vcpu } from "./vcpu.ts";

const at = STATE.at;
const LOG2 = [0, 0, 1, 0, 2, 0, 0, 0, 3];

/** The helpers in the order of HELPER_* (lift/context.ts). */
export function makeHelpers(engine: Engine, machine: X86Machine): readonly Helper[] {
  return [
    systemHelper(engine, machine),
    stringHelper(engine, machine),
    divide(engine, machine, false),
    divide(engine, machine, true),
    x87Helper(engine, machine),
    sseHelper(engine, machine),
    stateHelper(engine, machine),
  ];
}

/** Adds to a 64-bit register. */
function advance(vcpu: X86Vcpu, register: number, bytes: number): void {
  const sum = vcpu.lo(register) + bytes;
  vcpu.set(register, sum | 0, (vcpu.hi(register) + (sum > 0xffffffff ? 1 : sum < 0 ? -1 : 0)) | 0);
}
/** Moves rip behind the instruction. */
function skip(vcpu: X86Vcpu, length: number): void {
  const sum = vcpu.ripLo + length;
  vcpu.setRip(sum | 0, (vcpu.ripHi + (sum > 0xffffffff ? 1 : 0)) | 0);
}
/** Writes `size` bytes to a register by the width's convention. */
function setRegister(vcpu: X86Vcpu, n: number, size: number, lo: number, hi: number): void {
  if (size === 8) vcpu.set(n, lo, hi);
  else if (size === 4) vcpu.set(n, lo, 0);
  else if (size === 2) vcpu.set(n, (vcpu.lo(n) & 0xffff0000) | (lo & 0xffff), vcpu.hi(n));
  else vcpu.set(n, (vcpu.lo(n) & 0xffffff00) | (lo & 0xff), vcpu.hi(n));
}

function systemHelper(engine: Engine, machine: X86Machine): Helper {
  const scratch = new Uint8Array(8);
  const view = new DataView(scratch.buffer);
  return (state, op) => {
    const vcpu = machine.vcpuAt(state);
    const t = vcpu.translated;
    const kind = engine.u16[(op >> 1) + 1]!;
    const cell = engine.u16[(op >> 1) + 2]!;
    const packed = engine.u16[(op >> 1) + 3]!;
    const detail = engine.u32[(op >> 2) + 3]!;
    const o = machine.operation;
    o.kind = kind;
    o.size = detail & 15;
    o.length = (detail >> 4) & 15;
    const rep = (detail >> 8) & 3;
    o.rep = rep === 0 ? 0 : rep === 1 ? 0xf3 : 0xf2;
    o.addressSize = (detail >> 10) & 15;
    const segment = (detail >> 14) & 7;
    o.segment = segment === 7 ? -1 : segment;
    const release = detail >>> 20;
    o.register = packed & 15;
    o.index = (packed >> 4) & 0xff;
    const result = packed >> 12;
    o.lo = cell === 0 ? 0 : t.get(cell);
    o.hi = cell === 0 ? 0 : t.get(cell + 4);
    o.port = 0;
    if (kind === SYS_IN || kind === SYS_OUT) {
      o.port = o.lo & 0xffff;
      if (o.size === 8) o.size = 4;
      o.lo = kind === SYS_OUT ? vcpu.lo(RAX) : 0;
      if (kind === SYS_OUT && o.size < 4) o.lo &= o.size === 1 ? 0xff : 0xffff;
      o.hi = 0;
    } else if (kind === SYS_FAR_CALL || kind === SYS_FAR_JUMP) {
      o.index = t.get(cell + 8) & 0xffff;
    }
    let offsetLo = 0;
    let offsetHi = 0;
    const farLoad = kind === SYS_LOAD_SEGMENT && result === RESULT_REGISTER;
    if (farLoad) {
      offsetLo = t.get(cell - 8);
      offsetHi = t.get(cell - 4);
    }
    const { size, register, length, lo, hi } = o;
    const outer = machine.currentOp;
    machine.currentOp = op;
    vcpu.systemResultLo = 0;
    vcpu.systemResultHi = 0;
    const answer = machine.platform.system(vcpu, o);
    machine.currentOp = outer;
    if (answer === SYSTEM_FAULT) return HELPER_FAULT;
    if (answer !== SYSTEM_NEXT && answer !== SYSTEM_EXIT)
      return answer === SYSTEM_JUMP ? HELPER_CONTINUE : HELPER_EXIT_AFTER;
    if (kind === SYS_IN) setRegister(vcpu, RAX, size, vcpu.systemResultLo, 0);
    else if (farLoad) setRegister(vcpu, register, size, offsetLo, offsetHi);
    else if (result === RESULT_REGISTER) setRegister(vcpu, register, size, vcpu.systemResultLo, vcpu.systemResultHi);
    else if (result === RESULT_MEMORY || result === RESULT_PUSH) {
      view.setUint32(0, vcpu.systemResultLo, true);
      view.setUint32(4, vcpu.systemResultHi, true);
      const bytes = result === RESULT_MEMORY ? 2 : size;
      let toLo = lo;
      let toHi = hi;
      if (result === RESULT_PUSH) {
        toLo = vcpu.lo(RSP) - size;
        toHi = (vcpu.hi(RSP) + (toLo < 0 ? -1 : 0)) | 0;
      }
      if (!vcpu.write(toLo | 0, toHi, scratch.subarray(0, bytes))) return HELPER_FAULT;
      if (result === RESULT_PUSH) vcpu.set(RSP, toLo | 0, toHi);
    }
    if (release !== 0) advance(vcpu, RSP, release);
    skip(vcpu, length);
    return answer === SYSTEM_NEXT ? HELPER_CONTINUE : HELPER_EXIT_AFTER;
  };
}

/** div and idiv of a dividend that does not fit 64 bits: rdx:rax by the cell in a. */
function divide(engine: Engine, machine: X86Machine, signed: boolean): Helper {
  return (state, op) => {
    const vcpu = machine.vcpuAt(state);
    const cell = engine.u16[(op >> 1) + 2]!;
    const word = (lo: number, hi: number) => (BigInt(hi >>> 0) << 32n) | BigInt(lo >>> 0);
    const t = vcpu.translated;
    let n = (word(vcpu.lo(RDX), vcpu.hi(RDX)) << 64n) | word(vcpu.lo(RAX), vcpu.hi(RAX));
    let d = word(t.get(cell), t.get(cell + 4));
    if (signed) {
      n = BigInt.asIntN(128, n);
      d = BigInt.asIntN(64, d);
    }
    const quotient = d === 0n ? 0n : n / d;
    if (d === 0n || (signed ? BigInt.asIntN(64, quotient) : BigInt.asUintN(64, quotient)) !== quotient) {
      vcpu.raise(VECTOR_DE, NO_ERROR_CODE);
      return HELPER_FAULT;
    }
    const set = (register: number, value: bigint) =>
      vcpu.set(register, Number(value & 0xffffffffn), Number((value >> 32n) & 0xffffffffn));
    set(RAX, quotient);
    set(RDX, n % d);
    return HELPER_NEXT;
  };
}

function stringHelper(engine: Engine, machine: X86Machine): Helper {
  const one = new Uint8Array(8);
  const other = new Uint8Array(8);
  const physical = engine.physical;

  /** Elements from an address to its page's end in the direction; 0: the first one crosses. */
  const room = (address: number, size: number, down: boolean): number => {
    const offset = address & 4095;
    if (down) return offset + size > 4096 ? 0 : Math.floor(offset / size) + 1;
    return Math.floor((4096 - offset) / size);
  };
  const compare = (vcpu: X86Vcpu, size: number, a: Uint8Array, b: Uint8Array): boolean => {
    const t = vcpu.translated;
    const put = (cell: number, bytes: Uint8Array) => {
      let lo = 0;
      let hi = 0;
      for (let k = 0; k < Math.min(size, 4); k++) lo |= bytes[k]! << (8 * k);
      if (size === 8) for (let k = 4; k < 8; k++) hi |= bytes[k]! << (8 * (k - 4));
      else {
        const shift = 32 - 8 * Math.min(size, 4);
        lo = (lo << shift) >> shift;
        hi = lo >> 31;
      }
      t.set64(cell, lo, hi);
    };
    put(at.ccDst, a);
    put(at.ccSrc, b);
    t.set64(at.ccOp, CC_SUB | LOG2[size]!, 0);
    for (let k = 0; k < size; k++) if (a[k] !== b[k]) return false;
    return true;
  };

  /** movs onto what it reads: each element is read whole before it is written, and later ones see it. */
  const moveEach = (from: number, to: number, size: number, n: number, down: boolean): void => {
    const gap = Math.abs(to - from);
    if (gap >= size) {
      // What is between the two repeats itself, ever longer pieces at a time.
      const bytes = n * size;
      for (let filled = 0; filled < bytes; ) {
        const part = Math.min(filled === 0 ? gap : filled, bytes - filled);
        const source = filled === 0 ? from : to;
        const [s, d] = down ? [source + size - part, to + size - filled - part] : [source, to + filled];
        physical.copyWithin(d, s, s + part);
        filled += part;
      }
      return;
    }
    const stride = down ? -size : size;
    for (let k = 0; k < n; k++, from += stride, to += stride) {
      for (let byte = 0; byte < size; byte++) one[byte] = physical[from + byte]!;
      for (let byte = 0; byte < size; byte++) physical[to + byte] = one[byte]!;
    }
  };
  /** The element of cmps or scas at which the condition or the chunk ends. No garbage: a chunk is a page at most, in one instruction. */
  const lastCompared = (
    left: Uint8Array,
    l: number,
    stride: number,
    r: number,
    size: number,
    n: number,
    wantEqual: boolean,
    down: boolean,
  ): number => {
    if (stride > 0 && wantEqual) {
      const end = (n - 1) * size;
      let same = 0;
      while (same < end && left[l + same] === physical[r + same]) same++;
      return Math.floor(same / size);
    }
    const step = down ? -size : size;
    if (size === 1) {
      for (let k = 0; k < n - 1; k++, l += stride, r += step) if ((left[l] === physical[r]) !== wantEqual) return k;
      return n - 1;
    }
    for (let k = 0; k < n - 1; k++, l += stride, r += step) {
      let byte = 0;
      while (byte < size && left[l + byte] === physical[r + byte]) byte++;
      if ((byte === size) !== wantEqual) return k;
    }
    return n - 1;
  };

  const { i32, u32, u16 } = engine;
  /** The register moves within its low half: a chunk of a page never carries past it unless the half is at its end. */
  const add = (register: number, bytes: number): void => {
    const sum = u32[register]! + bytes;
    u32[register] = sum;
    if (sum > 0xffffffff) i32[register + 1] = i32[register + 1]! + 1;
  };

  /** rep movs and stos upwards within pages, the usual case; -1: the general way. */
  const fast = (vcpu: X86Vcpu, state: number, op: number, kind: number, size: number): number => {
    const t = vcpu.translated;
    const word = state >> 2;
    const rcx = word + (gpr(RCX) >> 2);
    const rdi = word + (gpr(RDI) >> 2);
    const rsi = word + (gpr(RSI) >> 2);
    const count = u32[rcx]!;
    if (u32[rcx + 1]! !== 0 || (u32[(state + at.rflags) >> 2]! & 0x400) !== 0) return -1;
    if (count === 0) return HELPER_NEXT;
    const shift = LOG2[size]!;
    const dLo = i32[rdi]!;
    let n = Math.min(count, (4096 - (dLo & 4095)) >> shift);
    const moves = kind === STRING_MOVS;
    const sLo = moves ? i32[rsi]! : 0;
    if (moves) n = Math.min(n, (4096 - (sLo & 4095)) >> shift);
    if (n === 0) return -1;
    const from = moves ? engine.translate(t, sLo, i32[rsi + 1]!, ACCESS_READ) : 0;
    if (from < 0) return HELPER_FAULT;
    const to = engine.translate(t, dLo, i32[rdi + 1]!, ACCESS_WRITE);
    if (to < 0) return HELPER_FAULT;
    const bytes = n << shift;
    if (moves) {
      if (to > from && to < from + bytes) return -1;
      physical.copyWithin(to, from, from + bytes);
      add(rsi, bytes);
    } else {
      const value = i32[word + (gpr(RAX) >> 2)]!;
      const high = i32[word + (gpr(RAX) >> 2) + 1]!;
      const same = value === (value << 24) >> 24 && (value === 0 || value === -1) && (size < 8 || high === value);
      if (size !== 1 && !same) return -1;
      physical.fill(value, to, to + bytes);
    }
    add(rdi, bytes);
    u32[rcx] = count - n;
    engine.wroteFrame(Math.floor(to / 4096), to % 4096, (to % 4096) + bytes);
    if (n === count) return HELPER_NEXT;
    engine.syncPc(t, op);
    return HELPER_CONTINUE;
  };

  return (state, op) => {
    const vcpu = machine.vcpuAt(state);
    const t = vcpu.translated;
    const kind = u16[(op >> 1) + 1]!;
    const size = u16[(op >> 1) + 2]!;
    const segment = u16[(op >> 1) + 3]!;
    const detail = u32[(op >> 2) + 3]!;
    const rep = detail & 0xff;
    const narrow = ((detail >> 8) & 0xff) !== 8;
    if (rep !== 0 && !narrow && segment === 0 && kind <= STRING_STOS) {
      const answer = fast(vcpu, state, op, kind, size);
      if (answer >= 0) return answer;
    }
    let count = 1;
    if (rep !== 0) {
      const rcxHi = narrow ? 0 : vcpu.hi(RCX);
      count = rcxHi === 0 ? vcpu.lo(RCX) : 0x100000;
      if (count === 0) return HELPER_NEXT;
    }
    const down = (t.get(at.rflags) & 0x400) !== 0;
    const source = kind === STRING_MOVS || kind === STRING_LODS || kind === STRING_CMPS;
    const destination = kind !== STRING_LODS;
    const writes = kind === STRING_MOVS || kind === STRING_STOS;
    let sLo = vcpu.lo(RSI);
    let sHi = narrow ? 0 : vcpu.hi(RSI);
    if (segment !== 0) {
      const cell = segmentBase(segment);
      const sum = sLo + t.get(cell);
      sHi = (sHi + t.get(cell + 4) + (sum > 0xffffffff ? 1 : 0)) | 0;
      sLo = sum >>> 0;
    }
    const dLo = vcpu.lo(RDI);
    const dHi = narrow ? 0 : vcpu.hi(RDI);
    let n = count;
    if (source) n = Math.min(n, room(sLo, size, down));
    if (destination) n = Math.min(n, room(dLo, size, down));
    let done = n;
    let ended = false;
    if (n === 0) {
      // one element, across pages
      done = 1;
      // cmps reads its second operand first, as processors do
      if (destination && !writes && !vcpu.read(dLo, dHi, other.subarray(0, size))) return HELPER_FAULT;
      if (source && !vcpu.read(sLo, sHi, one.subarray(0, size))) return HELPER_FAULT;
      if (kind === STRING_STOS || (!source && !writes)) one.set(t.bytes.subarray(gpr(RAX), gpr(RAX) + size));
      if (writes) {
        if (!vcpu.write(dLo, dHi, one.subarray(0, size))) return HELPER_FAULT;
      } else if (kind === STRING_LODS) t.bytes.set(one.subarray(0, size), gpr(RAX));
      else ended = compare(vcpu, size, one, other) !== (rep === 0xf3);
    } else {
      const read = destination && !writes ? engine.translate(t, dLo | 0, dHi | 0, ACCESS_READ) : 0;
      if (read < 0) return HELPER_FAULT;
      const from = source ? engine.translate(t, sLo | 0, sHi | 0, ACCESS_READ) : 0;
      if (from < 0) return HELPER_FAULT;
      const to = writes ? engine.translate(t, dLo | 0, dHi | 0, ACCESS_WRITE) : read;
      if (to < 0) return HELPER_FAULT;
      const back = down ? (n - 1) * size : 0;
      const bytes = n * size;
      if (kind === STRING_MOVS) {
        const overlap = down ? to < from && to + bytes > from : to > from && to < from + bytes;
        if (!overlap) physical.copyWithin(to - back, from - back, from - back + bytes);
        else moveEach(from, to, size, n, down);
      } else if (kind === STRING_STOS) {
        const start = to - back;
        const value = t.bytes.subarray(gpr(RAX), gpr(RAX) + size);
        if (size === 1 || value.every((b) => b === value[0])) physical.fill(value[0]!, start, start + bytes);
        else {
          physical.set(value, start);
          for (let filled = size; filled < bytes; filled *= 2) {
            physical.copyWithin(start + filled, start, start + Math.min(filled, bytes - filled));
          }
        }
      } else if (kind === STRING_LODS) {
        const last = from + (down ? -(n - 1) * size : (n - 1) * size);
        t.bytes.set(physical.subarray(last, last + size), gpr(RAX));
      } else {
        // cmps, scas: until the condition or the chunk ends
        const wantEqual = rep === 0xf3;
        const a = t.bytes.subarray(gpr(RAX), gpr(RAX) + size);
        const [left, start, stride] = source ? [physical, from, down ? -size : size] : [a, 0, 0];
        const last = rep === 0 ? 0 : lastCompared(left, start, stride, to, size, n, wantEqual, down);
        const l = start + last * stride;
        const r = to + (down ? -last : last) * size;
        const equal = compare(vcpu, size, left.subarray(l, l + size), physical.subarray(r, r + size));
        done = last + 1;
        ended = rep !== 0 && equal !== wantEqual;
      }
      if (writes) engine.wroteFrame(Math.floor(to / 4096), (to % 4096) - back, (to % 4096) - back + bytes);
    }
    if (kind === STRING_LODS && size === 4) t.set(gpr(RAX) + 4, 0);
    const moved = (down ? -size : size) * done;
    if (source) move(vcpu, RSI, moved, narrow);
    if (destination) move(vcpu, RDI, moved, narrow);
    if (rep !== 0) {
      move(vcpu, RCX, -done, narrow);
      if (!ended && (vcpu.lo(RCX) | (narrow ? 0 : vcpu.hi(RCX))) !== 0) {
        // not done: once more
        engine.syncPc(t, op);
        return HELPER_CONTINUE;
      }
    }
    return HELPER_NEXT;
  };
}

function move(vcpu: X86Vcpu, register: number, by: number, narrow: boolean): void {
  if (narrow) vcpu.set(register, (vcpu.lo(register) + by) | 0, 0);
  else advance(vcpu, register, by);
}
