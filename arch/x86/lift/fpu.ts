/**
 * Lifters of x87 and of the state images: fxsave, fxrstor, ldmxcsr, stmxcsr.
 *
 * An x87 instruction is one helper call (helpers-fpu.ts) that is given opcode and ModRM and the address of its memory operand; the
 * helper does the access, so that nothing of the instruction happens when it faults.
 */
import { F_MEMORY, MAP_ONE } from "../decode.ts";
import { id } from "../opset.ts";
import { STATE } from "../state.ts";
import type { TableBuilder } from "../table.ts";
import { x87Operation } from "../x87.ts";
import { FLAGS_UNKNOWN, HELPER_FPU, HELPER_STATE, type Lifter, type X86Entry } from "./context.ts";
import { touch } from "./move.ts";
import { unavailable } from "./simd.ts";

const HELPER = id("helper");
const ALIGNED16 = id("x.aligned16");

/** Kinds of the state helper (4 is simd.ts's masked store). */
export const STATE_FXSAVE = 0;
export const STATE_FXRSTOR = 1;
export const STATE_LDMXCSR = 2;
/** d of the x87 helper for fwait. */
export const FPU_WAIT = 0x9b00;

const x87: Lifter = (x, i) => {
  const operation = x87Operation(i.opcode, i.modrm);
  if (operation === undefined) {
    x.undefined();
    return;
  }
  if (unavailable(x)) return;
  let at = 0;
  if (i.mod !== 3) {
    x.address(i);
    at = x.temp();
    x.lea(at);
  }
  // detail: operand size for environments
  x.emit(HELPER, (i.opcode << 8) | i.modrm, at, i.operandPrefix ? 2 : 4, HELPER_FPU, 0);
  if (operation.uses === "writeFlags") x.flags = FLAGS_UNKNOWN;
};

const fwait: Lifter = (x) => {
  if (!unavailable(x)) x.emit(HELPER, FPU_WAIT, 0, 0, HELPER_FPU);
};

const image =
  (kind: number): Lifter =>
  (x, i) => {
    if (unavailable(x)) return;
    x.address(i);
    const at = x.temp();
    x.lea(at);
    x.emit(ALIGNED16, 0, at);
    x.emit(HELPER, 0, at, i.size === 8 ? 1 : 0, HELPER_STATE, kind);
  };
const ldmxcsr: Lifter = (x, i) => {
  if (unavailable(x)) return;
  x.address(i);
  const t = x.temp();
  x.load(4, t);
  x.emit(HELPER, 0, t, 0, HELPER_STATE, STATE_LDMXCSR);
};
const stmxcsr: Lifter = (x, i) => {
  if (unavailable(x)) return;
  x.address(i);
  x.store(4, STATE.at.mxcsr);
};

/** Adds D8 to DF and fwait; answers the memory forms of group 15 (0F AE). */
export function addFpu(t: TableBuilder): readonly (X86Entry | null)[] {
  for (let opcode = 0xd8; opcode <= 0xdf; opcode++) t.put(MAP_ONE, opcode, t.entry("x87", "E", x87));
  t.put(MAP_ONE, 0x9b, t.entry("fwait", "", fwait));
  return [
    t.entry("fxsave", "M", image(STATE_FXSAVE), F_MEMORY),
    t.entry("fxrstor", "M", image(STATE_FXRSTOR), F_MEMORY),
    t.entry("ldmxcsr", "Md", ldmxcsr, F_MEMORY),
    t.entry("stmxcsr", "Md", stmxcsr, F_MEMORY),
    null,
    null,
    null,
    t.entry("clflush", "Mb", touch),
  ];
}
