/**
 * Semantics of the SSE and SSE2 floating-point instructions, MXCSR exact.
 *
 * The caller copies the operands into an SseUnit (`destination`, `source`, or the integer and MMX forms in `source`'s
 * low half), runs the operation, and, unless the answer is #XM, takes `result` (or RFLAGS) and the new MXCSR. Nothing
 * but MXCSR changes when an unmasked exception is raised (SDM volume 1, 11.5.3): exceptions found before computing, in
 * any element, hide those that computing would raise.
 *
 * Two paths. The fast one uses JavaScript's own arithmetic where that is the same: everything masked, nearest even, no
 * DAZ or FTZ, inexact already sticky, operands normal or zero, result normal. All else goes to soft-float.
 * RCPxx and RSQRTxx, whose low bits the architecture leaves open (relative error up to 1.5 * 2^-12), are the exact
 * value cut to 12 bits here; the same on every host.
 */
import {
  add,
  compare,
  convert,
  div,
  EQUAL,
  F32,
  F64,
  FLAG_DENORMAL,
  FLAG_DIVIDE_BY_ZERO,
  FLAG_INVALID,
  type FloatContext,
  type FloatFormat,
  floatContext,
  fromInteger,
  LESS,
  max,
  min,
  mul,
  type Ordering,
  ROUND_NEAREST_EVEN,
  ROUND_TO_ZERO,
  sqrt,
  sub,
  toInteger,
  UNORDERED,
  X86_ROUNDING,
} from "../translate/softfloat/index.ts";

/** MXCSR bits (SDM volume 1, 10.2.3); the exception flags are bits 0 to 5, their masks bits 7 to 12. */
export const MXCSR_DAZ = 0x40;
export const MXCSR_FTZ = 0x8000;
export const MXCSR_INITIAL = 0x1f80;
/** MXCSR without flags but inexact, as the fast path wants it. */
const FAST_MXCSR = 0x1fa0;
const FLAGS_BUT_INEXACT = 0x1f;

/** Operands and results. One per engine is enough: nothing survives an instruction. */
export class SseUnit {
  readonly #buffer = new ArrayBuffer(48);
  /** The destination before, which is also the first operand; the source; the result. */
  readonly destination: Uint32Array = new Uint32Array(this.#buffer, 0, 4);
  readonly source: Uint32Array = new Uint32Array(this.#buffer, 16, 4);
  /** An integer result is in the first word, or two. */
  readonly result: Uint32Array = new Uint32Array(this.#buffer, 32, 4);
  /** The same 48 bytes by element: destination at 0, then source, then result. */
  readonly u32: Uint32Array = new Uint32Array(this.#buffer);
  readonly u64: BigUint64Array = new BigUint64Array(this.#buffer);
  readonly f32: Float32Array = new Float32Array(this.#buffer);
  readonly f64: Float64Array = new Float64Array(this.#buffer);
  mxcsr: number = MXCSR_INITIAL;
  /** ZF, PF and CF of comparisons into RFLAGS; OF, SF and AF are to be cleared. */
  rflags = 0;
  readonly context: FloatContext = floatContext();

  /** Sets up the context from MXCSR. */
  begin(): FloatContext {
    const { context, mxcsr } = this;
    context.rounding = X86_ROUNDING[(mxcsr >> 13) & 3] ?? ROUND_NEAREST_EVEN;
    context.flags = 0;
    context.unmasked = ~(mxcsr >> 7) & 0x3f;
    context.daz = (mxcsr & MXCSR_DAZ) !== 0;
    context.ftz = (mxcsr & MXCSR_FTZ) !== 0;
    return context;
  }

  /** Whether JavaScript's arithmetic will do, if operands and result are ordinary. */
  get fast(): boolean {
    return (this.mxcsr & ~FLAGS_BUT_INEXACT) === FAST_MXCSR;
  }
}

/** Where an operation's source is, and where its result goes. */
export type SseSource = "xmm" | "gpr32" | "gpr64" | "mmx";
export type SseTarget = "xmm" | "gpr32" | "gpr64" | "mmx" | "rflags";

export interface SseOperation {
  readonly name: string;
  readonly source: SseSource;
  readonly target: SseTarget;
  /** Bytes of a memory source; those of 16 must be aligned. */
  readonly sourceBytes: 4 | 8 | 16;
  /** Reads the destination (as the first operand, or for the elements that stay). */
  readonly readsDestination: boolean;
  /** Has an 8-bit immediate (CMPxx). */
  readonly immediate: boolean;
  /** Fills in the result; exception flags go to the unit's context. */
  readonly run: (unit: SseUnit, immediate: number) => void;
}

const BEFORE = FLAG_INVALID | FLAG_DENORMAL | FLAG_DIVIDE_BY_ZERO;

/** Runs an operation; false is #XM: only MXCSR has changed then. */
export function executeSse(unit: SseUnit, operation: SseOperation, immediate = 0): boolean {
  const context = unit.begin();
  operation.run(unit, immediate);
  const { flags } = context;
  if (flags === 0) return true;
  if (flags & context.unmasked & BEFORE) {
    unit.mxcsr |= flags & BEFORE;
    return false;
  }
  unit.mxcsr |= flags;
  return (flags & context.unmasked) === 0;
}

const MIN_NORMAL_32 = 2 ** -126;
const MIN_NORMAL_64 = 2 ** -1022;

/** A number that is neither NaN, infinite nor denormal. */
function ordinary(value: number, least: number): boolean {
  const magnitude = Math.abs(value);
  return magnitude === 0 || (magnitude >= least && magnitude < Number.POSITIVE_INFINITY);
}

/** A result that was neither rounded from a tiny one nor to infinity. */
function safe(value: number, least: number): boolean {
  const magnitude = Math.abs(value);
  return magnitude > least && magnitude < Number.POSITIVE_INFINITY;
}

/** One element's operation on raw bits, and the same in JavaScript's arithmetic. */
interface Arithmetic {
  readonly name: string;
  readonly exact: (context: FloatContext, format: FloatFormat, a: bigint, b: bigint) => bigint;
  readonly native: (a: number, b: number) => number;
  /** A zero result is exact even when no operand is zero. */
  readonly exactZero: boolean;
  /** Only b counts. */
  readonly unary?: true;
}

const ARITHMETIC: readonly Arithmetic[] = [
  { name: "add", exact: add, native: (a, b) => a + b, exactZero: true },
  { name: "sub", exact: sub, native: (a, b) => a - b, exactZero: true },
  { name: "mul", exact: mul, native: (a, b) => a * b, exactZero: false },
  { name: "div", exact: div, native: (a, b) => a / b, exactZero: false },
  {
    name: "sqrt",
    exact: (context, format, _a, b) => sqrt(context, format, b),
    native: (_a, b) => Math.sqrt(b),
    exactZero: true,
    unary: true,
  },
];

function element64(unit: SseUnit, i: number, operation: Arithmetic): void {
  if (unit.fast) {
    const a = unit.f64[i] ?? 0;
    const b = unit.f64[2 + i] ?? 0;
    const r = operation.native(a, b);
    const good = safe(r, MIN_NORMAL_64) || (r === 0 && (operation.exactZero || a === 0 || b === 0));
    if (good && ordinary(b, MIN_NORMAL_64) && (operation.unary === true || ordinary(a, MIN_NORMAL_64))) {
      unit.f64[4 + i] = r;
      return;
    }
  }
  unit.u64[4 + i] = operation.exact(unit.context, F64, unit.u64[i] ?? 0n, unit.u64[2 + i] ?? 0n);
}

function element32(unit: SseUnit, i: number, operation: Arithmetic): void {
  if (unit.fast) {
    const a = unit.f32[i] ?? 0;
    const b = unit.f32[4 + i] ?? 0;
    // Rounding to 53 and then to 24 bits is as rounding once for these operations.
    const r = Math.fround(operation.native(a, b));
    const good = safe(r, MIN_NORMAL_32) || (r === 0 && (operation.exactZero || a === 0 || b === 0));
    if (good && ordinary(b, MIN_NORMAL_32) && (operation.unary === true || ordinary(a, MIN_NORMAL_32))) {
      unit.f32[8 + i] = r;
      return;
    }
  }
  unit.u32[8 + i] = Number(operation.exact(unit.context, F32, bits32(unit, i), bits32(unit, 4 + i)));
}

function bits32(unit: SseUnit, i: number): bigint {
  return BigInt(unit.u32[i] ?? 0);
}
function bits64(unit: SseUnit, i: number): bigint {
  return unit.u64[i] ?? 0n;
}

/** The result starts as the destination: elements that are not written stay. */
function keep(unit: SseUnit): void {
  unit.result.set(unit.destination);
}

type Element = (unit: SseUnit, i: number, immediate: number) => void;

const operations = new Map<string, SseOperation>();

function define(name: string, run: SseOperation["run"], more: Partial<SseOperation> = {}): void {
  operations.set(name, {
    name,
    source: "xmm",
    target: "xmm",
    sourceBytes: 16,
    readsDestination: false,
    immediate: false,
    run,
    ...more,
  });
}

/** The ps, ss, pd and sd forms of an operation by element. */
function defineFour(
  name: string,
  single: Element,
  double: Element | undefined,
  more: Partial<SseOperation> = {},
): void {
  const forms: readonly [string, Element | undefined, number, 4 | 8][] = [
    ["s", single, 4, 4],
    ["d", double, 2, 8],
  ];
  for (const [suffix, element, count, bytes] of forms) {
    if (element === undefined) continue;
    define(
      `${name}p${suffix}`,
      (unit, immediate) => {
        for (let i = 0; i < count; i++) element(unit, i, immediate);
      },
      { readsDestination: true, ...more },
    );
    define(
      `${name}s${suffix}`,
      (unit, immediate) => {
        keep(unit);
        element(unit, 0, immediate);
      },
      { readsDestination: true, sourceBytes: bytes, ...more },
    );
  }
}

for (const operation of ARITHMETIC) {
  defineFour(
    operation.name,
    (unit, i) => element32(unit, i, operation),
    (unit, i) => element64(unit, i, operation),
  );
}

for (const [name, exact] of [
  ["min", min],
  ["max", max],
] as const) {
  const wantsLess = name === "min";
  defineFour(
    name,
    (unit, i) => {
      const a = unit.f32[i] ?? 0;
      const b = unit.f32[4 + i] ?? 0;
      if (ordinary(a, MIN_NORMAL_32) && ordinary(b, MIN_NORMAL_32)) {
        unit.u32[8 + i] = unit.u32[(wantsLess ? a < b : a > b) ? i : 4 + i] ?? 0;
      } else unit.u32[8 + i] = Number(exact(unit.context, F32, bits32(unit, i), bits32(unit, 4 + i), "x86"));
    },
    (unit, i) => {
      const a = unit.f64[i] ?? 0;
      const b = unit.f64[2 + i] ?? 0;
      if (ordinary(a, MIN_NORMAL_64) && ordinary(b, MIN_NORMAL_64)) {
        unit.f64[4 + i] = (wantsLess ? a < b : a > b) ? a : b;
      } else unit.u64[4 + i] = exact(unit.context, F64, bits64(unit, i), bits64(unit, 2 + i), "x86");
    },
  );
}

/** The order of two elements, exceptions noted. */
function order32(unit: SseUnit, i: number, signaling: boolean): Ordering {
  const a = unit.f32[i] ?? 0;
  const b = unit.f32[4 + i] ?? 0;
  if (ordinary(a, MIN_NORMAL_32) && ordinary(b, MIN_NORMAL_32)) return a < b ? -1 : a > b ? 1 : 0;
  return compare(unit.context, F32, bits32(unit, i), bits32(unit, 4 + i), signaling);
}
function order64(unit: SseUnit, i: number, signaling: boolean): Ordering {
  const a = unit.f64[i] ?? 0;
  const b = unit.f64[2 + i] ?? 0;
  if (ordinary(a, MIN_NORMAL_64) && ordinary(b, MIN_NORMAL_64)) return a < b ? -1 : a > b ? 1 : 0;
  return compare(unit.context, F64, bits64(unit, i), bits64(unit, 2 + i), signaling);
}

/** Predicates 0 to 7 of CMPxx: EQ LT LE UNORD NEQ NLT NLE ORD (SDM, CMPPD, table 3-1); 1, 2, 5 and 6 signal. */
function holds(predicate: number, ordering: Ordering): boolean {
  let base: boolean;
  switch (predicate & 3) {
    case 0:
      base = ordering === EQUAL;
      break;
    case 1:
      base = ordering === LESS;
      break;
    case 2:
      base = ordering === LESS || ordering === EQUAL;
      break;
    default:
      base = ordering === UNORDERED;
  }
  return base !== (predicate & 4) > 0;
}
const signals = (predicate: number): boolean => (predicate & 3) === 1 || (predicate & 3) === 2;

defineFour(
  "cmp",
  (unit, i, immediate) => {
    unit.u32[8 + i] = holds(immediate, order32(unit, i, signals(immediate))) ? 0xffff_ffff : 0;
  },
  (unit, i, immediate) => {
    const mask = holds(immediate, order64(unit, i, signals(immediate))) ? 0xffff_ffff : 0;
    unit.u32[8 + 2 * i] = mask;
    unit.u32[9 + 2 * i] = mask;
  },
  { immediate: true },
);

for (const [name, signaling] of [
  ["ucomis", false],
  ["comis", true],
] as const) {
  const flagsOf = (ordering: Ordering): number => {
    if (ordering === UNORDERED) return 0x45;
    return ordering === LESS ? 1 : ordering === EQUAL ? 0x40 : 0;
  };
  const more = { target: "rflags", readsDestination: true } as const;
  define(
    `${name}s`,
    (unit) => {
      unit.rflags = flagsOf(order32(unit, 0, signaling));
    },
    { ...more, sourceBytes: 4 },
  );
  define(
    `${name}d`,
    (unit) => {
      unit.rflags = flagsOf(order64(unit, 0, signaling));
    },
    { ...more, sourceBytes: 8 },
  );
}

/** Cuts to 12 significant bits, the precision of the approximations. */
const scratch = (value: number): number => {
  if (!safe(value, MIN_NORMAL_32)) return value;
  const exponent = Math.floor(Math.log2(Math.abs(value)));
  const unitInPlace = 2 ** (exponent - 11);
  return Math.trunc(value / unitInPlace) * unitInPlace;
};

/** RCPSS and RSQRTSS of one element: denormals count as zeros, tiny results are zeros, no exceptions. */
function approximate(unit: SseUnit, i: number, compute: (value: number) => number): void {
  const bits = unit.u32[4 + i] ?? 0;
  const sign = bits & 0x8000_0000;
  const magnitude = bits & 0x7fff_ffff;
  if (magnitude > 0x7f80_0000) {
    unit.u32[8 + i] = bits | 0x0040_0000;
    return;
  }
  const value = magnitude < 0x0080_0000 ? (sign !== 0 ? -0 : 0) : (unit.f32[4 + i] ?? 0);
  const exact = compute(value);
  if (Number.isNaN(exact)) unit.u32[8 + i] = 0xffc0_0000;
  else if (Math.abs(exact) < MIN_NORMAL_32) unit.u32[8 + i] = sign;
  else unit.f32[8 + i] = scratch(exact);
}

defineFour("rcp", (unit, i) => approximate(unit, i, (value) => 1 / value), undefined);
defineFour(
  "rsqrt",
  (unit, i) => approximate(unit, i, (value) => (value === 0 ? 1 / value : 1 / Math.sqrt(value))),
  undefined,
);

const INT32 = { width: 32, signed: true, rule: "indefinite" } as const;
const INT64 = { width: 64, signed: true, rule: "indefinite" } as const;
const TWO_31 = 2 ** 31;

/** Rounds an element of the source (f32 at u32 index 4.., f64 at u64 index 2..) to int32. */
function toInt32(unit: SseUnit, format: FloatFormat, i: number, truncate: boolean): number {
  const value = (format === F32 ? unit.f32[4 + i] : unit.f64[2 + i]) ?? 0;
  if (truncate && Math.abs(value) < TWO_31) {
    const whole = Math.trunc(value);
    if (whole === value || unit.fast) return whole | 0;
  }
  const bits = format === F32 ? bits32(unit, 4 + i) : bits64(unit, 2 + i);
  const rounding = truncate ? ROUND_TO_ZERO : unit.context.rounding;
  return Number(toInteger(unit.context, format, bits, INT32, rounding)) | 0;
}

for (const [suffix, format, bytes] of [
  ["ss", F32, 4],
  ["sd", F64, 8],
] as const) {
  for (const [prefix, truncate] of [
    ["cvt", false],
    ["cvtt", true],
  ] as const) {
    define(
      `${prefix}${suffix}2si`,
      (unit) => {
        unit.result[0] = toInt32(unit, format, 0, truncate);
        unit.result[1] = 0;
      },
      { target: "gpr32", sourceBytes: bytes },
    );
    define(
      `${prefix}${suffix}2siq`,
      (unit) => {
        const bits = format === F32 ? bits32(unit, 4) : bits64(unit, 2);
        const rounding = truncate ? ROUND_TO_ZERO : unit.context.rounding;
        unit.u64[4] = BigInt.asUintN(64, toInteger(unit.context, format, bits, INT64, rounding));
      },
      { target: "gpr64", sourceBytes: bytes },
    );
  }
  const put = (unit: SseUnit, i: number, bits: bigint): void => {
    if (format === F32) unit.u32[8 + i] = Number(bits);
    else unit.u64[4 + i] = bits;
  };
  const fromInt32 = (unit: SseUnit, i: number): void => {
    const value = (unit.source[i] ?? 0) | 0;
    if (format === F64) unit.f64[4 + i] = value;
    else if (Math.fround(value) === value) unit.f32[8 + i] = value;
    else put(unit, i, fromInteger(unit.context, format, BigInt(value)));
  };
  const integerForm = { readsDestination: true, sourceBytes: 4, source: "gpr32" } as const;
  define(
    `cvtsi2${suffix}`,
    (unit) => {
      keep(unit);
      fromInt32(unit, 0);
    },
    integerForm,
  );
  define(
    `cvtsi2${suffix}q`,
    (unit) => {
      keep(unit);
      put(unit, 0, fromInteger(unit.context, format, BigInt.asIntN(64, bits64(unit, 2))));
    },
    { ...integerForm, source: "gpr64", sourceBytes: 8 },
  );
  const packed = format === F32 ? "ps" : "pd";
  define(
    `cvtpi2${packed}`,
    (unit) => {
      keep(unit);
      fromInt32(unit, 0);
      fromInt32(unit, 1);
    },
    { readsDestination: format === F32, source: "mmx", sourceBytes: 8 },
  );
  define(
    `cvtdq2${packed}`,
    (unit) => {
      for (let i = 0; i < (format === F32 ? 4 : 2); i++) fromInt32(unit, i);
    },
    { sourceBytes: format === F32 ? 16 : 8 },
  );
  for (const [prefix, truncate] of [
    ["cvt", false],
    ["cvtt", true],
  ] as const) {
    define(
      `${prefix}${packed}2pi`,
      (unit) => {
        for (let i = 0; i < 2; i++) unit.result[i] = toInt32(unit, format, i, truncate);
      },
      { target: "mmx", sourceBytes: format === F32 ? 8 : 16 },
    );
    define(`${prefix}${packed}2dq`, (unit) => {
      unit.result.fill(0);
      for (let i = 0; i < (format === F32 ? 4 : 2); i++) unit.result[i] = toInt32(unit, format, i, truncate);
    });
  }
}

/** f32 element `from` of the source to f64 element `to` of the result. */
function widen(unit: SseUnit, i: number): void {
  const value = unit.f32[4 + i] ?? 0;
  if (ordinary(value, MIN_NORMAL_32)) unit.f64[4 + i] = value;
  else unit.u64[4 + i] = convert(unit.context, F32, F64, bits32(unit, 4 + i));
}

/** f64 element of the source to f32 element of the result. */
function narrow(unit: SseUnit, i: number): void {
  const value = unit.f64[2 + i] ?? 0;
  const single = Math.fround(value);
  if (unit.fast && ordinary(value, MIN_NORMAL_64) && (safe(single, MIN_NORMAL_32) || value === 0)) {
    unit.f32[8 + i] = single;
  } else unit.u32[8 + i] = Number(convert(unit.context, F64, F32, bits64(unit, 2 + i)));
}

define(
  "cvtps2pd",
  (unit) => {
    widen(unit, 0);
    widen(unit, 1);
  },
  { sourceBytes: 8 },
);
define("cvtpd2ps", (unit) => {
  unit.result.fill(0);
  narrow(unit, 0);
  narrow(unit, 1);
});
define(
  "cvtss2sd",
  (unit) => {
    keep(unit);
    widen(unit, 0);
  },
  { sourceBytes: 4, readsDestination: true },
);
define(
  "cvtsd2ss",
  (unit) => {
    keep(unit);
    narrow(unit, 0);
  },
  { sourceBytes: 8, readsDestination: true },
);

/** Every operation by mnemonic; a `q` at the end means a 64-bit general register. */
export const SSE_OPERATIONS: ReadonlyMap<string, SseOperation> = operations;

/** Suffixes by mandatory prefix: none, 66, F3, F2. */
const SUFFIXES = ["ps", "pd", "ss", "sd"] as const;
const BY_OPCODE: ReadonlyMap<number, string> = new Map([
  [0x51, "sqrt"],
  [0x52, "rsqrt"],
  [0x53, "rcp"],
  [0x58, "add"],
  [0x59, "mul"],
  [0x5c, "sub"],
  [0x5d, "min"],
  [0x5e, "div"],
  [0x5f, "max"],
  [0xc2, "cmp"],
]);
const INTEGERS = ["pi", "pi", "si", "si"] as const;
const CONVERSIONS = ["cvtps2pd", "cvtpd2ps", "cvtss2sd", "cvtsd2ss"] as const;
const TO_DOUBLEWORDS = ["cvtdq2ps", "cvtps2dq", "cvttps2dq", undefined] as const;
const DOUBLEWORDS_DOUBLE = [undefined, "cvttpd2dq", "cvtdq2pd", "cvtpd2dq"] as const;

/**
 * The operation of opcode 0F `opcode` with a mandatory prefix (0 none, 1: 66, 2: F3, 3: F2); `wide`: REX.W. Undefined
 * where that is no instruction of this file.
 */
export function sseFloatOperation(opcode: number, prefix: 0 | 1 | 2 | 3, wide: boolean): SseOperation | undefined {
  const suffix = SUFFIXES[prefix];
  const q = wide && prefix >= 2 ? "q" : "";
  let name: string | undefined;
  switch (opcode) {
    case 0x2a:
      name = `cvt${INTEGERS[prefix]}2${suffix}${q}`;
      break;
    case 0x2c:
      name = `cvtt${suffix}2${INTEGERS[prefix]}${q}`;
      break;
    case 0x2d:
      name = `cvt${suffix}2${INTEGERS[prefix]}${q}`;
      break;
    case 0x2e:
    case 0x2f:
      name = prefix < 2 ? `${opcode === 0x2e ? "u" : ""}comis${prefix === 1 ? "d" : "s"}` : undefined;
      break;
    case 0x5a:
      name = CONVERSIONS[prefix];
      break;
    case 0x5b:
      name = TO_DOUBLEWORDS[prefix];
      break;
    case 0xe6:
      name = DOUBLEWORDS_DOUBLE[prefix];
      break;
    default: {
      const base = BY_OPCODE.get(opcode);
      name = base === undefined ? undefined : `${base}${suffix}`;
    }
  }
  return name === undefined ? undefined : operations.get(name);
}
