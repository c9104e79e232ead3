/**
 * The implementation of cpu.ts: machines, guests, and the engine's helpers and special accesses. The hart itself: hart.ts.
 */
import { Engine, type TranslatedVcpu } from "../translate/engine.ts";
import {
  ACCESS_WRITE,
  HELPER_CONTINUE,
  HELPER_EXIT_AFTER,
  HELPER_FAULT,
  HELPER_NEXT,
  type Helper,
} from "../translate/ir.ts";
import type { FloatContext } from "../translate/softfloat/index.ts";
import type { RiscvGuest, RiscvHart, RiscvMachine, RiscvMachineOptions } from "./cpu.ts";
import { CSR_FLUSH, CSR_NONE, readCsr, updateMode, writeCsr } from "./csr.ts";
import { beginFloat, FLOAT_OPERATIONS, fflagsOf, RM_DYNAMIC, riscvFloatContext } from "./fpu.ts";
import { Hart } from "./hart.ts";
import { makeLift } from "./lift.ts";
import { FLOAT_OPERATION, FLOAT_RM_SHIFT } from "./lift-float.ts";
import { CSR_CLEAR, CSR_CYCLE, CSR_KIND_SHIFT, CSR_SET, CSR_TIME } from "./lift-system.ts";
import { emitWalk } from "./mmu.ts";
import { integerOps } from "./ops.ts";
import { floatOps } from "./ops-float.ts";
import type { P2m } from "./p2m.ts";
import {
  DETAIL_INTERRUPTS,
  DETAIL_STOP,
  DETAIL_WFI,
  FAULT_MMIO,
  MMU_INDEXES,
  MODE_S,
  SSTATUS_SIE,
  SSTATUS_SPIE,
  SSTATUS_SPP,
  STATE,
} from "./state.ts";

const at = STATE.at;

/** Makes a machine. Throws where its options cannot be (a set-up error). */
export function createRiscvMachine(options: RiscvMachineOptions): RiscvMachine {
  return new Machine(options);
}

export class Machine implements RiscvMachine {
  readonly engine: Engine;
  readonly time: (hart: RiscvHart) => number;
  readonly harts: Map<number, Hart> = new Map();
  readonly float: FloatContext = riscvFloatContext();
  /** The op whose helper runs now, or 0. */
  currentOp = 0;
  #last: Hart | null = null;

  constructor(options: RiscvMachineOptions) {
    this.time = options.time;
    this.engine = new Engine({
      memory: options.memory,
      frames: options.frames,
      arch: {
        name: "riscv64",
        layout: STATE,
        ops: [...integerOps, ...floatOps],
        mmuIndexes: MMU_INDEXES,
        emitWalk,
        lifter: makeLift,
        helpers: (engine) => makeHelpers(engine, this),
        special: (vcpu, access, bytes) => this.#special(vcpu, access, bytes),
      },
      ...(options.codeBytes === undefined ? {} : { codeBytes: options.codeBytes }),
      ...(options.vcpus === undefined ? {} : { vcpus: options.vcpus }),
      ...(options.tier === undefined ? {} : { tier: options.tier }),
      ...(options.hotSamples === undefined ? {} : { hotSamples: options.hotSamples }),
    });
  }

  createGuest(p2m: P2m): RiscvGuest {
    return new Guest(this, p2m);
  }

  /** The hart of a state address (for helpers). */
  hartAt(state: number): Hart {
    const last = this.#last;
    if (last !== null && last.t.base === state) return last;
    const hart = this.harts.get(state);
    if (hart === undefined) throw new Error("no hart has this state");
    this.#last = hart;
    return hart;
  }
  forget(hart: Hart): void {
    this.harts.delete(hart.t.base);
    this.#last = null;
    this.engine.destroyVcpu(hart.t);
  }

  /** An access to a page that is no memory: done with the answer that is there, or the run ends for it. */
  #special(t: TranslatedVcpu, access: number, bytes: number): boolean {
    const hart = this.hartAt(t.base);
    const offset = t.get(at.slowAddress) & 4095;
    t.set(at.faultCause, FAULT_MMIO);
    t.set64(at.faultValue, t.get(at.slowAddress), t.get(at.slowAddress + 4));
    // one that crosses into another page is nobody's
    const whole = offset + bytes <= 4096 && (t.get(at.walkGpa) & 4095) === offset;
    return hart.special(access === ACCESS_WRITE, whole ? bytes : 0);
  }
}

class Guest implements RiscvGuest {
  readonly machine: Machine;
  readonly p2m: P2m;
  readonly harts: Hart[] = [];
  /** The hart that ran last: another one's run ends its reservation. */
  last: Hart | null = null;

  constructor(machine: Machine, p2m: P2m) {
    this.machine = machine;
    this.p2m = p2m;
  }
  createHart(): RiscvHart {
    const hart = new Hart(this.machine, this, this.machine.engine.createVcpu());
    this.machine.harts.set(hart.t.base, hart);
    this.harts.push(hart);
    return hart;
  }
  destroy(): void {
    for (const hart of this.harts.splice(0)) this.machine.forget(hart);
    this.last = null;
  }
  flush(): void {
    for (const hart of this.harts) hart.fence();
  }
}

/** The helpers in the order of HELPER_* (ops.ts). */
function makeHelpers(engine: Engine, machine: Machine): readonly Helper[] {
  const value = new Uint32Array(2);
  const wide = new BigUint64Array(engine.state.buffer);
  const operand = (op: number, n: number): number => engine.u16[(op >> 1) + n] ?? 0;
  const detailOf = (op: number): number => engine.u32[(op >> 2) + 3] ?? 0;
  /** The instruction is illegal after all. */
  const illegal = (hart: Hart, op: number): number => {
    engine.syncPc(hart.t, op);
    hart.illegalHere();
    return HELPER_FAULT;
  };
  /** How a helper at a block's end goes on: interrupts may be deliverable now. */
  const next = (hart: Hart): number => {
    if (!hart.interruptDeliverable) return HELPER_CONTINUE;
    hart.t.set(at.exitDetail, DETAIL_INTERRUPTS);
    return HELPER_EXIT_AFTER;
  };
  const csr: Helper = (state, op) => {
    const hart = machine.hartAt(state);
    const { t } = hart;
    const detail = detailOf(op);
    const number = detail & 0xfff;
    const kind = (detail >> CSR_KIND_SHIFT) & 3;
    const source = operand(op, 2);
    const lo = t.get(source);
    const hi = t.get(source + 4);
    if (!readCsr(t, number, value)) return illegal(hart, op);
    const oldLo = value[0] ?? 0;
    const oldHi = value[1] ?? 0;
    const newLo = kind === CSR_SET ? oldLo | lo : kind === CSR_CLEAR ? oldLo & ~lo : lo;
    const newHi = kind === CSR_SET ? oldHi | hi : kind === CSR_CLEAR ? oldHi & ~hi : hi;
    const answer = writeCsr(t, number, newLo, newHi);
    if (answer === CSR_NONE) return illegal(hart, op);
    t.set64(operand(op, 1), oldLo, oldHi);
    if (answer === CSR_FLUSH) hart.flushTranslations();
    return next(hart);
  };
  const counter: Helper = (state, op) => {
    const hart = machine.hartAt(state);
    const { t } = hart;
    const number = detailOf(op);
    if ((t.get(at.mode) & MODE_S) === 0 && ((t.get(at.scounteren) >> (number - CSR_CYCLE)) & 1) === 0) {
      return illegal(hart, op);
    }
    const outer = machine.currentOp;
    machine.currentOp = op;
    const now = number === CSR_TIME ? machine.time(hart) : hart.retiredNow;
    machine.currentOp = outer;
    t.set64(operand(op, 1), now >>> 0, Math.floor(now / 2 ** 32) >>> 0);
    if (!hart.stopRequested) return HELPER_NEXT;
    t.set(at.exitDetail, DETAIL_STOP);
    return HELPER_EXIT_AFTER;
  };
  const sret: Helper = (state) => {
    const hart = machine.hartAt(state);
    const { t } = hart;
    const status = t.get(at.sstatus);
    const supervisor = (status & SSTATUS_SPP) !== 0;
    const enabled = (status & SSTATUS_SPIE) !== 0;
    t.set(at.sstatus, (status & ~(SSTATUS_SPP | SSTATUS_SIE)) | SSTATUS_SPIE | (enabled ? SSTATUS_SIE : 0));
    t.set64(at.pc, t.get(at.sepc), t.get(at.sepc + 4));
    updateMode(t, supervisor);
    return next(hart);
  };
  const sfence: Helper = (state, op) => {
    const hart = machine.hartAt(state);
    const address = operand(op, 2);
    if (address === 0) hart.fence();
    else hart.fencePage(hart.t.get(address), hart.t.get(address + 4));
    return HELPER_CONTINUE;
  };
  const wfi: Helper = (state) => {
    const hart = machine.hartAt(state);
    if (hart.interruptPending) return next(hart);
    hart.t.set(at.exitDetail, DETAIL_WFI);
    return HELPER_EXIT_AFTER;
  };
  const float: Helper = (state, op) => {
    const detail = detailOf(op);
    const operation = FLOAT_OPERATIONS[detail & FLOAT_OPERATION];
    if (operation === undefined) return HELPER_FAULT;
    const fcsr = engine.u32[(state + at.fcsr) >> 2] ?? 0;
    let rm = (detail >> FLOAT_RM_SHIFT) & 7;
    if (operation.rounds && rm === RM_DYNAMIC) {
      rm = fcsr >> 5;
      if (rm > 4) return illegal(machine.hartAt(state), op);
    }
    const context = machine.float;
    beginFloat(context, rm);
    const base = state >> 3;
    const a = wide[base + (operand(op, 2) >> 3)] ?? 0n;
    const b = wide[base + (operand(op, 3) >> 3)] ?? 0n;
    const c = wide[base + (detail >>> 19)] ?? 0n;
    wide[base + (operand(op, 1) >> 3)] = operation.run(context, a, b, c);
    engine.u32[(state + at.fcsr) >> 2] = fcsr | fflagsOf(context.flags);
    return HELPER_NEXT;
  };
  return [csr, counter, sret, sfence, wfi, float];
}
