/**
 * Lifters of system instructions: each ends its block with one call of the system helper, which asks the platform.
 *
 * What the op carries: d the SYS_* kind; a the cell of the value or address (0: none); b = register | index << 4; detail = size,
 * length, repeat prefix, address size, segment, packed (packDetail). helpers.ts unpacks it.
 */
import { type Instruction, SEG_FS, SEG_GS } from "../decode.ts";
import { id } from "../opset.ts";
import {
  SYS_CLI,
  SYS_CLTS,
  SYS_CPUID,
  SYS_FAR_CALL,
  SYS_FAR_JUMP,
  SYS_FAR_RETURN,
  SYS_HLT,
  SYS_IN,
  SYS_INS,
  SYS_INT,
  SYS_INVLPG,
  SYS_INVPCID,
  SYS_IRET,
  SYS_LAR,
  SYS_LGDT,
  SYS_LIDT,
  SYS_LLDT,
  SYS_LMSW,
  SYS_LOAD_SEGMENT,
  SYS_LSL,
  SYS_LTR,
  SYS_MONITOR,
  SYS_MWAIT,
  SYS_OUT,
  SYS_OUTS,
  SYS_PAUSE,
  SYS_RDMSR,
  SYS_RDPMC,
  SYS_RDTSC,
  SYS_RDTSCP,
  SYS_READ_BASE,
  SYS_READ_CR,
  SYS_READ_DR,
  SYS_READ_FLAGS,
  SYS_SGDT,
  SYS_SIDT,
  SYS_SLDT,
  SYS_SMSW,
  SYS_STI,
  SYS_STR,
  SYS_SWAPGS,
  SYS_SYSCALL,
  SYS_SYSENTER,
  SYS_SYSEXIT,
  SYS_SYSRET,
  SYS_VERR,
  SYS_VERW,
  SYS_VMCALL,
  SYS_WBINVD,
  SYS_WRITE_BASE,
  SYS_WRITE_CR,
  SYS_WRITE_DR,
  SYS_WRITE_FLAGS,
  SYS_WRMSR,
  SYS_XGETBV,
  SYS_XSETBV,
} from "../platform.ts";
import { gpr, RAX, RDX, RSP } from "../state.ts";
import { HELPER_SYSTEM, type LiftContext, type Lifter } from "./context.ts";

/** Packs what the helper must know of the instruction into 32 bits. */
export function packDetail(i: Instruction): number {
  const segment = i.segment >= 0 ? i.segment : 7;
  const rep = i.rep === 0xf3 ? 1 : i.rep === 0xf2 ? 2 : 0;
  return i.size | (i.length << 4) | (rep << 8) | (i.addressSize << 10) | (segment << 14);
}
/** Where the value that the helper gets back goes: 0 nowhere, 1 a register of the operand size, 2 memory, 3 pushed. */
export const RESULT_NONE = 0;
export const RESULT_REGISTER = 1;
export const RESULT_MEMORY = 2;
export const RESULT_PUSH = 3;

/** Ends the block with the system helper. */
function system(
  x: LiftContext,
  i: Instruction,
  kind: number,
  cell = 0,
  register = 0,
  index = 0,
  result = RESULT_NONE,
  release = 0,
): void {
  x.helperEnd(
    HELPER_SYSTEM,
    kind,
    cell,
    (register & 15) | ((index & 0xff) << 4) | (result << 12),
    packDetail(i) | (release << 20),
  );
}

const simple =
  (kind: number): Lifter =>
  (x, i) =>
    system(x, i, kind);
export const cpuid = simple(SYS_CPUID);
export const rdtsc = simple(SYS_RDTSC);
export const rdtscp = simple(SYS_RDTSCP);
export const rdpmc = simple(SYS_RDPMC);
export const rdmsr = simple(SYS_RDMSR);
export const wrmsr = simple(SYS_WRMSR);
export const cli = simple(SYS_CLI);
export const sti = simple(SYS_STI);
export const hlt = simple(SYS_HLT);
export const swapgs = simple(SYS_SWAPGS);
export const clts = simple(SYS_CLTS);
export const wbinvd = simple(SYS_WBINVD);
export const syscall = simple(SYS_SYSCALL);
export const sysret = simple(SYS_SYSRET);
export const sysenter = simple(SYS_SYSENTER);
export const sysexit = simple(SYS_SYSEXIT);
export const iret = simple(SYS_IRET);
export const vmcall = simple(SYS_VMCALL);
export const xgetbv = simple(SYS_XGETBV);
export const xsetbv = simple(SYS_XSETBV);
export const monitor = simple(SYS_MONITOR);
export const mwait = simple(SYS_MWAIT);
export const pause = simple(SYS_PAUSE);
export const ins = simple(SYS_INS);
export const outs = simple(SYS_OUTS);

/** in and out: by immediate port (index) or dx; the port travels in a temporary cell. */
export const inOut =
  (out: boolean, byDx: boolean): Lifter =>
  (x, i) => {
    let port = gpr(RDX);
    if (!byDx) {
      port = x.temp();
      x.moveImmediate(port, i.immLo & 0xff, 0);
    }
    system(x, i, out ? SYS_OUT : SYS_IN, port, RAX);
  };

export const int =
  (kind: number): Lifter =>
  (x, i) => {
    // register carries what it was: 0 int n, 1 int3, 2 into, 3 int1
    const vector = kind === 0 ? i.immLo & 0xff : kind === 1 ? 3 : kind === 2 ? 4 : 1;
    system(x, i, SYS_INT, 0, kind, vector);
  };

export const movFromControl: Lifter = (x, i) => system(x, i, SYS_READ_CR, 0, i.rm, controlNumber(i), RESULT_NONE);
export const movToControl: Lifter = (x, i) => system(x, i, SYS_WRITE_CR, gpr(i.rm), i.rm, controlNumber(i));
export const movFromDebug: Lifter = (x, i) => system(x, i, SYS_READ_DR, 0, i.rm, i.reg);
export const movToDebug: Lifter = (x, i) => system(x, i, SYS_WRITE_DR, gpr(i.rm), i.rm, i.reg);
/** lock mov cr0 is AMD's way to cr8; not decoded. */
const controlNumber = (i: Instruction): number => i.reg;

const byAddress =
  (kind: number): Lifter =>
  (x, i) => {
    x.address(i);
    const t = x.temp();
    x.lea(t);
    system(x, i, kind, t, i.reg);
  };
export const lgdt = byAddress(SYS_LGDT);
export const lidt = byAddress(SYS_LIDT);
export const sgdt = byAddress(SYS_SGDT);
export const sidt = byAddress(SYS_SIDT);
export const invlpg = byAddress(SYS_INVLPG);
/** invpcid r64, m128: the register's number is handed over. */
export const invpcid = byAddress(SYS_INVPCID);

const bySelector =
  (kind: number): Lifter =>
  (x, i) => {
    const t = x.temp();
    x.emit(id("zx16"), t, x.readE(i, 2));
    system(x, i, kind, t, i.reg);
  };
export const lldt = bySelector(SYS_LLDT);
export const ltr = bySelector(SYS_LTR);
export const lmsw = bySelector(SYS_LMSW);
export const verr = bySelector(SYS_VERR);
export const verw = bySelector(SYS_VERW);
const bySelectorResult =
  (kind: number): Lifter =>
  (x, i) => {
    const t = x.temp();
    x.emit(id("zx16"), t, x.readE(i, 2));
    system(x, i, kind, t, i.reg, 0, RESULT_REGISTER);
  };
export const lar = bySelectorResult(SYS_LAR);
export const lsl = bySelectorResult(SYS_LSL);

/** sldt, str, smsw: to a register, or 16 bits to memory. */
const toOperand =
  (kind: number): Lifter =>
  (x, i) => {
    if (i.mod === 3) {
      system(x, i, kind, 0, i.rm, 0, RESULT_REGISTER);
      return;
    }
    x.address(i);
    const t = x.temp();
    x.lea(t);
    system(x, i, kind, t, 0, 0, RESULT_MEMORY);
  };
export const sldt = toOperand(SYS_SLDT);
export const str = toOperand(SYS_STR);
export const smsw = toOperand(SYS_SMSW);

export const movSE: Lifter = (x, i) => {
  const segment = i.reg & 7;
  if (segment > SEG_GS || segment === 1) {
    x.undefined();
    return;
  }
  const t = x.temp();
  x.emit(id("zx16"), t, x.readE(i, 2));
  system(x, i, SYS_LOAD_SEGMENT, t, 0, segment);
};
export const popS =
  (segment: number): Lifter =>
  (x, i) => {
    const t = x.temp();
    x.at(gpr(RSP));
    x.load(i.size, t);
    x.emit(id("zx16"), t, t);
    system(x, i, SYS_LOAD_SEGMENT, t, 0, segment, RESULT_NONE, i.size);
  };
/** lss, lfs, lgs: offset to a register, selector to the segment. The register is written when the segment has been loaded. */
export const loadFar =
  (segment: number): Lifter =>
  (x, i) => {
    x.address(i);
    const offset = x.temp();
    const selector = x.temp();
    x.load(i.size, offset);
    x.load(2, selector, i.size);
    // the helper finds the offset in the temporary before the selector's
    system(x, i, SYS_LOAD_SEGMENT, selector, i.reg, segment, RESULT_REGISTER);
  };

export const pushf: Lifter = (x, i) => system(x, i, SYS_READ_FLAGS, 0, 0, 0, RESULT_PUSH);
export const popf: Lifter = (x, i) => {
  const t = x.temp();
  x.at(gpr(RSP));
  x.load(i.size, t);
  system(x, i, SYS_WRITE_FLAGS, t, 0, 0, RESULT_NONE, i.size);
};

/** rdfsbase, rdgsbase, wrfsbase, wrgsbase: register in rm. */
export const baseAccess =
  (write: boolean, segment: number): Lifter =>
  (x, i) => {
    if (!write) {
      system(x, i, SYS_READ_BASE, 0, i.rm, segment, RESULT_REGISTER);
      return;
    }
    let value = gpr(i.rm);
    if (i.size !== 8) {
      value = x.temp();
      x.emit(id("zx32"), value, gpr(i.rm));
    }
    system(x, i, SYS_WRITE_BASE, value, i.rm, segment);
  };
export const FS = SEG_FS;
export const GS = SEG_GS;

/** Far call and jump through memory: offset, then selector in the next cell. */
export const farE =
  (call: boolean): Lifter =>
  (x, i) => {
    x.address(i);
    const offset = x.temp();
    const selector = x.temp();
    x.load(i.size, offset);
    x.load(2, selector, i.size);
    // offset and selector are neighbouring temporaries: the helper reads both
    system(x, i, call ? SYS_FAR_CALL : SYS_FAR_JUMP, offset);
  };
export const farReturn: Lifter = (x, i) => {
  const release = x.temp();
  x.moveImmediate(release, i.opcode === 0xca ? i.immLo : 0, 0);
  system(x, i, SYS_FAR_RETURN, release);
};
