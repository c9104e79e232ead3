/**
 * Helpers that run x87 and SSE floating point (x87.ts, sse-float.ts) on a vCPU's state, and the state images.
 *
 * The units' buffers are one per machine; nothing survives a call but what is in the vCPU's state.
 */
import type { Engine } from "../translate/engine.ts";
import { ACCESS_WRITE, HELPER_FAULT, HELPER_NEXT, type Helper } from "../translate/ir.ts";
import { CC_EFLAGS } from "./flags.ts";
import { FPU_WAIT, STATE_FXRSTOR, STATE_FXSAVE, STATE_LDMXCSR } from "./lift/fpu.ts";
import { executeSse, type SseOperation, SseUnit, sseFloatOperation } from "./sse-float.ts";
import { RAX, STATE, VECTOR_GP, VECTOR_MF, VECTOR_XM } from "./state.ts";
import type { X86Machine, X86Vcpu } from "./vcpu.ts";
import {
  executeX87,
  loadFxsave,
  MXCSR_MASK,
  operandBytes,
  STATUS_ERROR_SUMMARY,
  storeFxsave,
  X87_FAULT,
  X87_NO_STORE,
  X87State,
  X87Unit,
  x87Operation,
} from "./x87.ts";

const at = STATE.at;
const LAYOUT = {
  control: at.fpuControl,
  status: at.fpuStatus,
  tags: at.fpuTags,
  opcode: at.fpuOpcode,
  instruction: at.fpuInstruction,
  data: at.fpuData,
  register: at.fpuRegister,
};

/** A view of a vCPU's x87 registers (for images, tests and dumps). */
export function x87StateOf(engine: Engine, vcpu: X86Vcpu): X87State {
  return new X87State(new DataView(engine.state.buffer), vcpu.translated.base, LAYOUT);
}

/** FXSAVE's 512 bytes of a vCPU, in the 64-bit form. */
export function fxsaveImage(engine: Engine, vcpu: X86Vcpu, out: DataView): void {
  const state = x87StateOf(engine, vcpu);
  const base = vcpu.translated.base;
  storeFxsave(state, { view: state.view, mxcsr: base + at.mxcsr, xmm: base + at.xmm }, out, 0, true);
}
/** The inverse; false when the image's MXCSR has reserved bits (nothing changed then). */
export function fxrstorImage(engine: Engine, vcpu: X86Vcpu, from: DataView): boolean {
  const state = x87StateOf(engine, vcpu);
  const base = vcpu.translated.base;
  return loadFxsave(state, { view: state.view, mxcsr: base + at.mxcsr, xmm: base + at.xmm }, from, 0, true);
}

/** Every page of a range can be written; else the fault is in the state. */
function writable(engine: Engine, vcpu: X86Vcpu, lo: number, hi: number, bytes: number): boolean {
  const last = (lo >>> 0) + bytes - 1;
  if (engine.translate(vcpu.translated, lo | 0, hi | 0, ACCESS_WRITE) < 0) return false;
  if ((((lo >>> 0) ^ last) & ~4095) === 0 && last <= 0xffffffff) return true;
  return engine.translate(vcpu.translated, last & ~4095, (hi + (last > 0xffffffff ? 1 : 0)) | 0, ACCESS_WRITE) >= 0;
}

/** x87: d = opcode << 8 | ModRM, a = cell of the operand's address (0: none), b = operand size of environments. */
export function x87Helper(engine: Engine, machine: X86Machine): Helper {
  const state = new X87State(new DataView(engine.state.buffer), 0, LAYOUT);
  const unit = new X87Unit(state);
  const bytes = new Uint8Array(unit.memory.buffer);
  return (base, op) => {
    const vcpu = machine.vcpuAt(base);
    const t = vcpu.translated;
    const code = engine.u16[(op >> 1) + 1]!;
    const cell = engine.u16[(op >> 1) + 2]!;
    state.base = base;
    if (code === FPU_WAIT) {
      if ((state.status & STATUS_ERROR_SUMMARY) === 0) return HELPER_NEXT;
      vcpu.raise(VECTOR_MF);
      return HELPER_FAULT;
    }
    const modrm = code & 0xff;
    const operation = x87Operation(code >> 8, modrm)!;
    const size = engine.u16[(op >> 1) + 3]!;
    if (unit.form.wide !== (size === 4)) unit.form = { wide: size === 4, real: false };
    const n = operandBytes(operation, unit);
    const lo = cell === 0 ? 0 : t.get(cell);
    const hi = cell === 0 ? 0 : t.get(cell + 4);
    if (operation.waits && (state.status & STATUS_ERROR_SUMMARY) !== 0) {
      vcpu.raise(VECTOR_MF);
      return HELPER_FAULT;
    }
    if (operation.memory === "load") {
      if (!vcpu.read(lo, hi, bytes.subarray(0, n))) return HELPER_FAULT;
    } else if (operation.memory === "store" && !writable(engine, vcpu, lo, hi, n)) return HELPER_FAULT;
    if (operation.uses === "readFlags" || operation.uses === "writeFlags") unit.rflags = vcpu.flags;
    const answer = executeX87(unit, operation, modrm);
    if (answer === X87_FAULT) {
      vcpu.raise(VECTOR_MF);
      return HELPER_FAULT;
    }
    if (!operation.control) {
      engine.syncPc(t, op);
      state.noteInstruction(code & 0x7ff, vcpu.ripLo, vcpu.ripHi);
      if (operation.memory !== "none") state.noteData(lo, hi);
    }
    if (operation.uses === "writeFlags") vcpu.flags = unit.rflags;
    else if (operation.uses === "ax") vcpu.set(RAX, (vcpu.lo(RAX) & 0xffff0000) | (unit.ax & 0xffff), vcpu.hi(RAX));
    if (operation.memory === "store" && answer !== X87_NO_STORE) {
      if (!vcpu.write(lo, hi, bytes.subarray(0, n))) return HELPER_FAULT;
    }
    return HELPER_NEXT;
  };
}

/** SSE floating point: d and a are cells, b the immediate, detail opcode | prefix << 8 | REX.W << 10. */
export function sseHelper(engine: Engine, machine: X86Machine): Helper {
  const unit = new SseUnit();
  const table: (SseOperation | undefined)[] = Array.from({ length: 0x800 }, (_, n) =>
    sseFloatOperation(n & 0xff, ((n >> 8) & 3) as 0 | 1 | 2 | 3, (n & 0x400) !== 0),
  );
  return (base, op) => {
    const d = (base + engine.u16[(op >> 1) + 1]!) >> 2;
    const a = (base + engine.u16[(op >> 1) + 2]!) >> 2;
    const immediate = engine.u16[(op >> 1) + 3]!;
    const operation = table[engine.u32[(op >> 2) + 3]!]!;
    const u32 = engine.u32;
    const { destination, source, result } = unit;
    const xmm = operation.target === "xmm" || operation.target === "rflags";
    for (let n = 0; n < 4; n++) {
      if (xmm) destination[n] = u32[d + n]!;
      source[n] = n < 2 || operation.source === "xmm" ? u32[a + n]! : 0;
    }
    const mxcsr = (base + at.mxcsr) >> 2;
    unit.mxcsr = u32[mxcsr]!;
    const done = executeSse(unit, operation, immediate);
    u32[mxcsr] = unit.mxcsr;
    if (!done) {
      machine.vcpuAt(base).raise(VECTOR_XM);
      return HELPER_FAULT;
    }
    switch (operation.target) {
      case "xmm":
        for (let n = 0; n < 4; n++) u32[d + n] = result[n]!;
        break;
      case "gpr32":
        u32[d] = result[0]!;
        u32[d + 1] = 0;
        break;
      case "gpr64":
        u32[d] = result[0]!;
        u32[d + 1] = result[1]!;
        break;
      case "mmx":
        u32[d] = result[0]!;
        u32[d + 1] = result[1]!;
        u32[d + 2] = (u32[d + 2]! & 0xffff0000) | 0xffff;
        break;
      case "rflags": {
        const cc = (base + at.ccOp) >> 2;
        u32[cc] = CC_EFLAGS;
        u32[cc + 1] = 0;
        const src = (base + at.ccSrc) >> 2;
        u32[src] = unit.rflags;
        u32[src + 1] = 0;
      }
    }
    return HELPER_NEXT;
  };
}

/** fxsave, fxrstor (a: address, b: 1 for the 64-bit form), ldmxcsr (a: value), masked stores (d data, a mask, b bytes). */
export function stateHelper(engine: Engine, machine: X86Machine): Helper {
  const image = new Uint8Array(512);
  const view = new DataView(image.buffer);
  const state = new X87State(new DataView(engine.state.buffer), 0, LAYOUT);
  return (base, op) => {
    const vcpu = machine.vcpuAt(base);
    const t = vcpu.translated;
    const kind = engine.u32[(op >> 2) + 3]!;
    const cell = engine.u16[(op >> 1) + 2]!;
    const third = engine.u16[(op >> 1) + 3]!;
    const lo = t.get(cell);
    const hi = t.get(cell + 4);
    state.base = base;
    const sse = { view: state.view, mxcsr: base + at.mxcsr, xmm: base + at.xmm };
    if (kind === STATE_FXSAVE) {
      // bytes 464 to 511 stay as they are
      if (!writable(engine, vcpu, lo, hi, 512)) return HELPER_FAULT;
      storeFxsave(state, sse, view, 0, third === 1);
      return vcpu.write(lo, hi, image.subarray(0, 416)) ? HELPER_NEXT : HELPER_FAULT;
    }
    if (kind === STATE_FXRSTOR) {
      if (!vcpu.read(lo, hi, image)) return HELPER_FAULT;
      if (loadFxsave(state, sse, view, 0, third === 1)) {
        state.updateSummary();
        return HELPER_NEXT;
      }
      vcpu.raise(VECTOR_GP, 0);
      return HELPER_FAULT;
    }
    if (kind === STATE_LDMXCSR) {
      if ((lo & ~MXCSR_MASK) !== 0) {
        vcpu.raise(VECTOR_GP, 0);
        return HELPER_FAULT;
      }
      t.set(at.mxcsr, lo);
      return HELPER_NEXT;
    }
    // masked store
    const data = engine.u16[(op >> 1) + 1]!;
    const toLo = t.get(at.helperAddress);
    const toHi = t.get(at.helperAddress + 4);
    const mask = t.bytes.subarray(cell, cell + third);
    let any = false;
    for (let pass = 0; pass < 2; pass++) {
      for (let n = 0; n < third; n++) {
        if ((mask[n]! & 0x80) === 0) continue;
        any = true;
        const sum = (toLo >>> 0) + n;
        const byteHi = (toHi + (sum > 0xffffffff ? 1 : 0)) | 0;
        if (pass === 0) {
          if (!writable(engine, vcpu, sum | 0, byteHi, 1)) return HELPER_FAULT;
        } else if (!vcpu.write(sum | 0, byteHi, t.bytes.subarray(data + n, data + n + 1))) return HELPER_FAULT;
      }
      if (!any) break;
    }
    return HELPER_NEXT;
  };
}
