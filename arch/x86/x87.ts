/**
 * The x87 instructions: a table from (opcode byte D8..DF, ModRM byte) to what the instruction does.
 *
 * The lifter looks an instruction up when it translates (`x87Operation`; undefined is #UD), loads the memory operand
 * or makes sure that it can be stored, and has `executeX87` run it: with operand bytes in `unit.memory`, RFLAGS and AX
 * in the unit. The answer says whether #MF is due instead (nothing was done), or that the memory operand is not to be
 * written. CR0.EM and TS (#NM), and the pointers to the last instruction and operand, are the caller's. FISTTP (SSE3)
 * is not there.
 */
import {
  F32,
  F64,
  F80,
  f2xm1,
  fcos,
  fpatan,
  fsin,
  fyl2x,
  fyl2xp1,
  roundToIntegral,
  scaleValues,
  sqrtValue,
  unpackInteger,
} from "../translate/softfloat/index.ts";
import {
  arithmetic,
  changeSign,
  circular,
  clearExceptions,
  compareFlags,
  compareMemory,
  compareRegister,
  conditionalMove,
  double,
  examine,
  exchange,
  extract,
  fadd,
  fdiv,
  fdivr,
  fmul,
  free,
  fsub,
  fsubr,
  initialise,
  int16,
  int32,
  int64,
  loadConstant,
  loadDecimal,
  loadEnv,
  loadExact,
  loadExtended,
  loadFrom,
  loadRegister,
  nothing,
  ONE,
  type Operand,
  type Run,
  remainder,
  restoreAll,
  rotate,
  SIGN,
  saveAll,
  sineAndCosine,
  single,
  storeDecimal,
  storeEnv,
  storeExtended,
  storeFloat,
  storeInteger,
  storeQuietly,
  storeRegister,
  storeStatusToAx,
  storeWord,
  tangent,
  toOther,
  toTop,
  twoToOne,
  unary,
  withMemory,
} from "./x87-instructions.ts";
import { environmentBytes, STATUS_ERROR_SUMMARY } from "./x87-state.ts";
import type { X87Unit } from "./x87-unit.ts";

export * from "./x87-state.ts";
export { X87Unit } from "./x87-unit.ts";

/** Answers of `executeX87`. */
export const X87_DONE = 0;
/** An exception of an earlier instruction is pending: #MF, nothing was done. */
export const X87_FAULT = 1;
/** Done, but the memory operand is not to be written. */
export const X87_NO_STORE = 2;
export type X87Answer = 0 | 1 | 2;

/** Whether the memory operand is read or written. */
export type X87Memory = "none" | "load" | "store";

/** One instruction. */
export interface X87Operation {
  readonly name: string;
  readonly memory: X87Memory;
  /** Bytes of the memory operand; 0 for environments, whose size `operandBytes` tells. */
  readonly bytes: number;
  /** Checks for a pending exception first. */
  readonly waits: boolean;
  /** Leaves the pointers to the last instruction and operand as they are. */
  readonly control: boolean;
  /** Reads or writes RFLAGS (FCMOV, FCOMI), or writes AX (FNSTSW AX). */
  readonly uses: "none" | "readFlags" | "writeFlags" | "ax";
  readonly run: Run;
}

/** Bytes of an operation's memory operand. */
export function operandBytes(operation: X87Operation, unit: X87Unit): number {
  if (operation.bytes !== 0 || operation.memory === "none") return operation.bytes;
  return environmentBytes(unit.form) + (operation.name === "fnsave" || operation.name === "frstor" ? 80 : 0);
}

/** Runs an instruction. */
export function executeX87(unit: X87Unit, operation: X87Operation, modrm: number): X87Answer {
  if (operation.waits && unit.state.status & STATUS_ERROR_SUMMARY) return X87_FAULT;
  return operation.run(unit, modrm & 7) ? X87_DONE : X87_NO_STORE;
}

function operation(name: string, run: Run, more: Partial<X87Operation> = {}): X87Operation {
  return { name, memory: "none", bytes: 0, waits: true, control: false, uses: "none", run, ...more };
}
const loading = (name: string, bytes: number, run: Run): X87Operation =>
  operation(name, run, { memory: "load", bytes });
const storing = (name: string, bytes: number, run: Run): X87Operation =>
  operation(name, run, { memory: "store", bytes });
const CONTROL = { control: true } as const;
const NO_WAIT = { control: true, waits: false } as const;

/** The eight arithmetic operations of D8, DA, DC and DE with a memory operand. */
function memoryArithmetic(prefix: string, bytes: number, operand: Operand): X87Operation[] {
  return [
    loading(`${prefix}add`, bytes, withMemory(fadd, operand)),
    loading(`${prefix}mul`, bytes, withMemory(fmul, operand)),
    loading(`${prefix}com`, bytes, compareMemory(operand, 0)),
    loading(`${prefix}comp`, bytes, compareMemory(operand, 1)),
    loading(`${prefix}sub`, bytes, withMemory(fsub, operand)),
    loading(`${prefix}subr`, bytes, withMemory(fsubr, operand)),
    loading(`${prefix}div`, bytes, withMemory(fdiv, operand)),
    loading(`${prefix}divr`, bytes, withMemory(fdivr, operand)),
  ];
}

type Row = readonly (X87Operation | undefined)[];

/** Memory forms by opcode byte - D8 and ModRM's reg field. */
const MEMORY: readonly Row[] = [
  memoryArithmetic("f", 4, single),
  [
    loading("fld", 4, loadFrom(single)),
    undefined,
    storing("fst", 4, storeFloat(F32, 0)),
    storing("fstp", 4, storeFloat(F32, 1)),
    operation("fldenv", loadEnv, {
      memory: "load",
      ...CONTROL,
    }),
    operation(
      "fldcw",
      (unit) => {
        unit.state.control = unit.memory.getUint16(0, true);
        return true;
      },
      { memory: "load", bytes: 2, ...CONTROL },
    ),
    operation("fnstenv", storeEnv, { memory: "store", ...NO_WAIT }),
    operation(
      "fnstcw",
      storeWord((unit) => unit.state.control),
      { memory: "store", bytes: 2, ...NO_WAIT },
    ),
  ],
  memoryArithmetic("fi", 4, int32),
  [
    loading("fild", 4, loadFrom(int32)),
    undefined,
    storing("fist", 4, storeInteger(32, 0)),
    storing("fistp", 4, storeInteger(32, 1)),
    undefined,
    loading("fld", 10, loadExtended),
    undefined,
    storing("fstp", 10, storeExtended),
  ],
  memoryArithmetic("f", 8, double),
  [
    loading("fld", 8, loadFrom(double)),
    undefined,
    storing("fst", 8, storeFloat(F64, 0)),
    storing("fstp", 8, storeFloat(F64, 1)),
    operation("frstor", restoreAll, { memory: "load", ...CONTROL }),
    undefined,
    operation("fnsave", saveAll, { memory: "store", ...NO_WAIT }),
    operation(
      "fnstsw",
      storeWord((unit) => unit.state.status),
      { memory: "store", bytes: 2, ...NO_WAIT },
    ),
  ],
  memoryArithmetic("fi", 2, int16),
  [
    loading("fild", 2, loadFrom(int16)),
    undefined,
    storing("fist", 2, storeInteger(16, 0)),
    storing("fistp", 2, storeInteger(16, 1)),
    loading("fbld", 10, loadDecimal),
    loading("fild", 8, loadFrom(int64)),
    storing("fbstp", 10, storeDecimal),
    storing("fistp", 8, storeInteger(64, 1)),
  ],
];

/** D9 E0..FF. */
const SINGLES: Row = [
  operation(
    "fchs",
    changeSign((bits) => bits ^ SIGN),
  ),
  operation(
    "fabs",
    changeSign((bits) => bits & ~SIGN),
  ),
  undefined,
  undefined,
  operation(
    "ftst",
    compareMemory(() => unpackInteger(0n), 0),
  ),
  operation("fxam", examine),
  undefined,
  undefined,
  operation("fld1", loadExact(ONE)),
  operation("fldl2t", loadConstant(0x4000_d49a_784b_cd1b_8afen, false)),
  operation("fldl2e", loadConstant(0x3fff_b8aa_3b29_5c17_f0bbn, true)),
  operation("fldpi", loadConstant(0x4000_c90f_daa2_2168_c234n, true)),
  operation("fldlg2", loadConstant(0x3ffd_9a20_9a84_fbcf_f798n, true)),
  operation("fldln2", loadConstant(0x3ffe_b172_17f7_d1cf_79abn, true)),
  operation("fldz", loadExact(0n)),
  undefined,
  operation(
    "f2xm1",
    unary((context, a) => f2xm1(context, F80, a)),
  ),
  operation("fyl2x", twoToOne(fyl2x)),
  operation("fptan", tangent),
  operation("fpatan", twoToOne(fpatan)),
  operation("fxtract", extract),
  operation("fprem1", remainder(true)),
  operation("fdecstp", rotate(-1)),
  operation("fincstp", rotate(1)),
  operation("fprem", remainder(false)),
  operation("fyl2xp1", twoToOne(fyl2xp1)),
  operation(
    "fsqrt",
    unary((context, a) => sqrtValue(context, F80, a)),
  ),
  operation("fsincos", sineAndCosine),
  operation(
    "frndint",
    unary((context, _a, unit) => roundToIntegral(context, F80, unit.state.read(0), { denormal: true })),
  ),
  operation("fscale", (unit) => {
    if (unit.state.empty(0) || unit.state.empty(1)) unit.underflow(0);
    else arithmetic(unit, (context, a, b) => scaleValues(context, F80, a, b), 0, unit.value(0), unit.value(1), 0);
    return true;
  }),
  operation("fsin", circular(fsin)),
  operation("fcos", circular(fcos)),
];

const move = (name: string, mask: number, wanted: boolean): X87Operation =>
  operation(name, conditionalMove(mask, wanted), { uses: "readFlags" });
const compareToFlags = (name: string, signaling: boolean, pops: number): X87Operation =>
  operation(name, compareFlags(signaling, pops), { uses: "writeFlags" });

const FXCH = operation("fxch", exchange);
const FSTP = operation("fstp", storeRegister(1));
const FCOM = operation("fcom", compareRegister(true, 0));
const FCOMP = operation("fcomp", compareRegister(true, 1));

/** Register forms by opcode byte - D8 and ModRM's reg field; rows D9 and those below have exceptions by whole ModRM. */
const REGISTER: readonly Row[] = [
  [
    operation("fadd", toTop(fadd)),
    operation("fmul", toTop(fmul)),
    FCOM,
    FCOMP,
    operation("fsub", toTop(fsub)),
    operation("fsubr", toTop(fsubr)),
    operation("fdiv", toTop(fdiv)),
    operation("fdivr", toTop(fdivr)),
  ],
  [operation("fld", loadRegister), FXCH, undefined, operation("fstpnouflow", storeQuietly)],
  [move("fcmovb", 1, true), move("fcmove", 0x40, true), move("fcmovbe", 0x41, true), move("fcmovu", 4, true)],
  [
    move("fcmovnb", 1, false),
    move("fcmovne", 0x40, false),
    move("fcmovnbe", 0x41, false),
    move("fcmovnu", 4, false),
    undefined,
    compareToFlags("fucomi", false, 0),
    compareToFlags("fcomi", true, 0),
  ],
  [
    operation("fadd", toOther(fadd, 0)),
    operation("fmul", toOther(fmul, 0)),
    FCOM,
    FCOMP,
    operation("fsubr", toOther(fsubr, 0)),
    operation("fsub", toOther(fsub, 0)),
    operation("fdivr", toOther(fdivr, 0)),
    operation("fdiv", toOther(fdiv, 0)),
  ],
  [
    operation("ffree", free(0)),
    FXCH,
    operation("fst", storeRegister(0)),
    FSTP,
    operation("fucom", compareRegister(false, 0)),
    operation("fucomp", compareRegister(false, 1)),
  ],
  [
    operation("faddp", toOther(fadd, 1)),
    operation("fmulp", toOther(fmul, 1)),
    FCOMP,
    undefined,
    operation("fsubrp", toOther(fsubr, 1)),
    operation("fsubp", toOther(fsub, 1)),
    operation("fdivrp", toOther(fdivr, 1)),
    operation("fdivp", toOther(fdiv, 1)),
  ],
  [
    operation("ffreep", free(1)),
    FXCH,
    FSTP,
    FSTP,
    undefined,
    compareToFlags("fucomip", false, 1),
    compareToFlags("fcomip", true, 1),
  ],
];

const NOP = operation("fnop", nothing);
const OLD_NOP = operation("fnop", nothing, NO_WAIT);

/** Single instructions by opcode byte << 8 | ModRM. */
const EXACT: ReadonlyMap<number, X87Operation> = new Map([
  [0xd9d0, NOP],
  [0xdae9, operation("fucompp", (unit) => compareRegister(false, 2)(unit, 1))],
  // FENI, FDISI and FSETPM of the 8087 and 80287 do nothing.
  [0xdbe0, OLD_NOP],
  [0xdbe1, OLD_NOP],
  [0xdbe4, OLD_NOP],
  [0xdbe2, operation("fnclex", clearExceptions, NO_WAIT)],
  [0xdbe3, operation("fninit", initialise, NO_WAIT)],
  [0xded9, operation("fcompp", (unit) => compareRegister(true, 2)(unit, 1))],
  [0xdfe0, operation("fnstsw", storeStatusToAx, { ...NO_WAIT, uses: "ax" })],
]);

/** What (D8..DF, ModRM) means; undefined: #UD. */
export function x87Operation(opcode: number, modrm: number): X87Operation | undefined {
  const row = opcode - 0xd8;
  const reg = (modrm >> 3) & 7;
  if (modrm < 0xc0) return MEMORY[row]?.[reg];
  const exact = EXACT.get((opcode << 8) | modrm);
  if (exact !== undefined) return exact;
  if (opcode === 0xd9 && modrm >= 0xe0) return SINGLES[modrm - 0xe0];
  return REGISTER[row]?.[reg];
}
