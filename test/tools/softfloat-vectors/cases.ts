/**
 * Cases for the soft-float library: one operation each, how the host's CPU runs it, and how the library does.
 *
 * SSE instructions stand for f32 and f64, x87 ones for f80 and its conversions. A case is all that a recorded line has
 * before its result: `op format control operands`, where control is MXCSR or the x87 control word.
 */
import * as soft from "../../../arch/translate/softfloat/index.ts";
import { type HostAnswer, type HostRequest, hostState, littleEndian } from "./host.ts";
import { exponentField, Random, randomFloat } from "./random.ts";

export type FormatName = "f32" | "f64" | "f80";

export interface FloatCase {
  readonly op: string;
  readonly format: FormatName;
  readonly control: number;
  readonly operands: readonly bigint[];
}

/** What an operation leaves: result bits, six exception flags, and whether it rounded up (-1: not defined). */
export interface FloatOutcome {
  readonly results: readonly bigint[];
  readonly flags: number;
  readonly roundedUp: number;
}

const FORMATS = { f32: soft.F32, f64: soft.F64, f80: soft.F80 } as const;

/** How one operation is run. `mem`: bytes of the memory operand that is read (or written, for stores). */
interface OperationSpec {
  readonly formats: readonly FormatName[];
  readonly operands: number;
  /** Machine code for a format. */
  readonly code: (format: FormatName) => string;
  /** Operands are in memory, not registers; size by format. */
  readonly memoryBytes?: (format: FormatName) => number;
  readonly kind: "sse" | "x87";
  readonly outcome: (answer: HostAnswer, format: FormatName) => readonly bigint[];
  readonly evaluate: (context: soft.FloatContext, format: soft.FloatFormat, operands: readonly bigint[]) => bigint[];
  /** Operand makers where they are not floats of the format. */
  readonly make?: (random: Random, format: soft.FloatFormat) => bigint[];
  /** The results may differ by one unit in the last place (transcendentals); flags: only these are compared. */
  readonly approximate?: true;
  readonly flagsMask?: number;
}

const bytesOf = { f32: 4, f64: 8, f80: 10 } as const;
const scalarPrefix = { f32: "f3", f64: "f2", f80: "" } as const;

function sse(opcode: string, evaluate: OperationSpec["evaluate"], operands = 2): OperationSpec {
  return {
    formats: ["f32", "f64"],
    operands,
    kind: "sse",
    code: (format) => `${scalarPrefix[format]}0f${opcode}c1`,
    outcome: (answer, format) => [BigInt.asUintN(format === "f32" ? 32 : 64, answer.xmm0)],
    evaluate,
  };
}

/** Comparisons leave ZF, PF, CF. */
function sseCompare(opcode: string, signaling: boolean): OperationSpec {
  return {
    ...sse(opcode, (context, format, [a = 0n, b = 0n]) => {
      const ordering = soft.compare(context, format, a, b, signaling);
      const bits = ordering === 2 ? 0x45n : ordering < 0 ? 1n : ordering === 0 ? 0x40n : 0n;
      return [bits];
    }),
    code: (format) => `${format === "f64" ? "66" : ""}0f${opcode}c1`,
    outcome: (answer) => [BigInt(answer.rflags & 0x45)],
  };
}

/** Float to a general register. */
function sseToInteger(opcode: string, width: 32 | 64, truncate: boolean): OperationSpec {
  return {
    ...sse(
      opcode,
      (context, format, [a = 0n]) => {
        const target = { width, signed: true, rule: "indefinite" } as const;
        const value = soft.toInteger(context, format, a, target, truncate ? soft.ROUND_TO_ZERO : context.rounding);
        return [BigInt.asUintN(width, value)];
      },
      1,
    ),
    make: (random, format) => [randomFloat(random, format, format.bias + random.below(68))],
    code: (format) => `${scalarPrefix[format]}${width === 64 ? "48" : ""}0f${opcode}c1`,
    outcome: (answer) => [BigInt.asUintN(width, answer.rax)],
  };
}

function randomInteger(random: Random, width: number): bigint {
  return random.bits(width) >> BigInt(random.below(width));
}

/** Stack operands: ST0 is the first, ST1 the second. */
function x87(code: string, operands: number, evaluate: OperationSpec["evaluate"]): OperationSpec {
  return {
    formats: ["f80"],
    operands,
    kind: "x87",
    code: () => code,
    outcome: (answer) => [answer.st[0] ?? 0n],
    evaluate,
  };
}

function approximate(code: string, operands: number, evaluate: OperationSpec["evaluate"]): OperationSpec {
  return { ...x87(code, operands, evaluate), approximate: true, flagsMask: 0x07 };
}

/** The condition codes C3, C2, C0 of a comparison. */
function x87Compare(code: string, signaling: boolean): OperationSpec {
  return {
    ...x87(code, 2, (context, format, [a = 0n, b = 0n]) => {
      const ordering = soft.compare(context, format, a, b, signaling);
      return [ordering === 2 ? 0x4500n : ordering < 0 ? 0x100n : ordering === 0 ? 0x4000n : 0n];
    }),
    outcome: (answer) => [BigInt(answer.fsw & 0x4500)],
  };
}

function remainder(code: string, nearest: boolean): OperationSpec {
  return {
    ...x87(code, 2, (context, format, [a = 0n, b = 0n]) => {
      const { bits, quotient, complete } = soft.rem(
        context,
        format,
        a,
        b,
        nearest,
        (difference) => 32 + (difference & 31),
      );
      // C0 = Q2, C3 = Q1, C1 = Q0.
      const q = Number(quotient & 7n);
      const codes = complete ? ((q & 4) << 6) | ((q & 2) << 13) | ((q & 1) << 9) : 0x400;
      return [bits, BigInt(codes)];
    }),
    make: (random, format) => {
      const a = randomFloat(random, format);
      const distance = random.pick([0, 2, 30, 66, 100, 3000]);
      return [a, randomFloat(random, format, Math.max(0, exponentField(format, a) - distance))];
    },
    outcome: (answer) => [answer.st[0] ?? 0n, BigInt(answer.fsw & 0x4700)],
  };
}

function storeFloat(code: string, to: "f32" | "f64"): OperationSpec {
  const target = FORMATS[to];
  return {
    ...x87(code, 1, (context, _format, [a = 0n]) => {
      context.precision = 0;
      return [soft.convertValue(context, target, soft.unpack(soft.F80, a), false)];
    }),
    make: (random, format) => {
      const edge = random.pick([target.minExponent, target.maxExponent, target.minExponent - target.fractionBits, 0]);
      return [randomFloat(random, format, format.bias + edge)];
    },
    memoryBytes: () => bytesOf[to],
    outcome: (answer) => [memoryValue(answer)],
  };
}

function storeInteger(code: string, width: 16 | 32 | 64): OperationSpec {
  return {
    ...x87(code, 1, (context, format, [a = 0n]) => {
      const value = soft.toInteger(context, format, a, { width, signed: true, rule: "indefinite" });
      return [BigInt.asUintN(width, value)];
    }),
    make: (random, format) => [randomFloat(random, format, format.bias + random.below(width + 3))],
    memoryBytes: () => width / 8,
    outcome: (answer) => [memoryValue(answer)],
  };
}

function load(
  code: string,
  bytes: number,
  format: "f32" | "f64" | undefined,
  make: (random: Random) => bigint,
  evaluate: (context: soft.FloatContext, bits: bigint) => bigint,
): OperationSpec {
  return {
    ...x87(code, 1, (context, _format, [bits = 0n]) => {
      // Loads are exact whatever the precision control.
      context.precision = 0;
      return [evaluate(context, bits)];
    }),
    memoryBytes: () => bytes,
    make: (random) => [format === undefined ? make(random) : randomFloat(random, FORMATS[format])],
  };
}

function memoryValue(answer: HostAnswer): bigint {
  return answer.memory.reduceRight((value, byte) => (value << 8n) | BigInt(byte), 0n);
}

function signedOf(bits: bigint, width: number): bigint {
  return BigInt.asIntN(width, bits);
}

const randomBcd = (random: Random): bigint => {
  let bcd = random.chance(2) ? 1n << 79n : 0n;
  const digits = random.below(19);
  for (let digit = 0; digit < digits; digit++) bcd |= BigInt(random.below(10)) << BigInt(digit * 4);
  return bcd;
};

/** Operands of transcendentals: around an exponent, mostly plain numbers. */
function around(low: number, high: number): (random: Random, format: soft.FloatFormat) => bigint {
  return (random, format) => randomFloat(random, format, format.bias + low + random.below(high - low));
}

export const OPERATIONS: Readonly<Record<string, OperationSpec>> = {
  add: sse("58", (context, format, [a = 0n, b = 0n]) => [soft.add(context, format, a, b)]),
  sub: sse("5c", (context, format, [a = 0n, b = 0n]) => [soft.sub(context, format, a, b)]),
  mul: sse("59", (context, format, [a = 0n, b = 0n]) => [soft.mul(context, format, a, b)]),
  div: sse("5e", (context, format, [a = 0n, b = 0n]) => [soft.div(context, format, a, b)]),
  min: sse("5d", (context, format, [a = 0n, b = 0n]) => [soft.min(context, format, a, b, "x86")]),
  max: sse("5f", (context, format, [a = 0n, b = 0n]) => [soft.max(context, format, a, b, "x86")]),
  sqrt: sse("51", (context, format, [a = 0n]) => [soft.sqrt(context, format, a)], 1),
  fma: {
    ...sse("", (context, format, [a = 0n, b = 0n, c = 0n]) => [soft.fma(context, format, b, a, c)], 3),
    code: (format) => `c4e2${format === "f64" ? "f1" : "71"}a907`,
  },
  ucomi: sseCompare("2e", false),
  comi: sseCompare("2f", true),
  cvtFloat: {
    ...sse(
      "5a",
      (context, format, [a = 0n]) => [soft.convert(context, format, format === soft.F32 ? soft.F64 : soft.F32, a)],
      1,
    ),
    make: (random, format) => {
      if (format === soft.F32) return [randomFloat(random, format)];
      return [randomFloat(random, format, format.bias + random.pick([0, -126, -140, 127]))];
    },
    outcome: (answer, format) => [BigInt.asUintN(format === "f32" ? 64 : 32, answer.xmm0)],
  },
  cvtToInt32: sseToInteger("2d", 32, false),
  cvtToInt64: sseToInteger("2d", 64, false),
  cvttToInt32: sseToInteger("2c", 32, true),
  cvttToInt64: sseToInteger("2c", 64, true),
  cvtFromInt32: {
    ...sse("2a", (context, format, [a = 0n]) => [soft.fromInteger(context, format, signedOf(a, 32))], 1),
    code: (format) => `${scalarPrefix[format]}0f2ac0`,
    make: (random) => [randomInteger(random, 32)],
  },
  cvtFromInt64: {
    ...sse("2a", (context, format, [a = 0n]) => [soft.fromInteger(context, format, signedOf(a, 64))], 1),
    code: (format) => `${scalarPrefix[format]}480f2ac0`,
    make: (random) => [randomInteger(random, 64)],
  },
  roundIntegral: {
    ...sse("", (context, format, [a = 0n]) => [soft.roundToIntegral(context, format, a)], 1),
    code: (format) => `660f3a0${format === "f32" ? "a" : "b"}c104`,
    make: (random, format) => [randomFloat(random, format, format.bias + random.below(format.precision + 2) - 2)],
  },
  fadd: x87("d8c1", 2, (context, format, [a = 0n, b = 0n]) => [soft.add(context, format, a, b)]),
  fsub: x87("d8e1", 2, (context, format, [a = 0n, b = 0n]) => [soft.sub(context, format, a, b)]),
  fmul: x87("d8c9", 2, (context, format, [a = 0n, b = 0n]) => [soft.mul(context, format, a, b)]),
  fdiv: x87("d8f1", 2, (context, format, [a = 0n, b = 0n]) => [soft.div(context, format, a, b)]),
  fsqrt: x87("d9fa", 1, (context, format, [a = 0n]) => [soft.sqrt(context, format, a)]),
  fscale: {
    ...x87("d9fd", 2, (context, format, [a = 0n, b = 0n]) => [
      soft.scaleValues(context, format, soft.unpack(format, a), soft.unpack(format, b)),
    ]),
    make: (random, format) => [
      randomFloat(random, format),
      randomFloat(random, format, format.bias + random.below(18)),
    ],
  },
  fxtract: {
    ...x87("d9f4", 1, (context, format, [a = 0n]) => {
      const { exponent, significand } = soft.extractValue(context, format, soft.unpack(format, a));
      return [significand, exponent];
    }),
    outcome: (answer) => [answer.st[0] ?? 0n, answer.st[1] ?? 0n],
  },
  fcom: x87Compare("d8d1", true),
  fucom: x87Compare("dde1", false),
  fprem: remainder("d9f8", false),
  fprem1: remainder("d9f5", true),
  frndint: {
    ...x87("d9fc", 1, (context, format, [a = 0n]) => [soft.roundToIntegral(context, format, a, { denormal: true })]),
    make: (random, format) => [randomFloat(random, format, format.bias + random.below(66) - 2)],
  },
  fst32: storeFloat("d917", "f32"),
  fst64: storeFloat("dd17", "f64"),
  fist16: storeInteger("df17", 16),
  fist32: storeInteger("db17", 32),
  fistp64: storeInteger("df3f", 64),
  fld32: load(
    "d907",
    4,
    "f32",
    (random) => random.bits(32),
    (context, bits) => soft.convert(context, soft.F32, soft.F80, bits),
  ),
  fld64: load(
    "dd07",
    8,
    "f64",
    (random) => random.bits(64),
    (context, bits) => soft.convert(context, soft.F64, soft.F80, bits),
  ),
  fild64: load(
    "df2f",
    8,
    undefined,
    (random) => randomInteger(random, 64),
    (context, bits) => {
      context.precision = 0;
      return soft.fromInteger(context, soft.F80, signedOf(bits, 64));
    },
  ),
  fbld: load("df27", 10, undefined, randomBcd, (_context, bits) => soft.bcdToFloat(bits)),
  fbstp: {
    ...x87("df37", 1, (context, format, [a = 0n]) => [soft.floatToBcd(context, soft.unpack(format, a))]),
    make: (random, format) => [randomFloat(random, format, format.bias + random.below(63))],
    memoryBytes: () => 10,
    outcome: (answer) => [memoryValue(answer)],
  },
  f2xm1: {
    ...approximate("d9f0", 1, (context, format, [a = 0n]) => [soft.f2xm1(context, format, soft.unpack(format, a))]),
    make: (random, format) => {
      for (;;) {
        const bits = around(-70, -1)(random, format);
        if (exponentField(format, bits) < format.bias || random.chance(40)) return [bits];
      }
    },
  },
  fyl2x: {
    ...approximate("d9f1", 2, (context, format, [a = 0n, b = 0n]) => [
      soft.fyl2x(context, format, soft.unpack(format, a), soft.unpack(format, b)),
    ]),
    make: (random, format) => [around(-4, 4)(random, format), around(-8, 8)(random, format)],
    outcome: (answer) => [answer.st[0] ?? 0n],
  },
  fyl2xp1: {
    ...approximate("d9f9", 2, (context, format, [a = 0n, b = 0n]) => [
      soft.fyl2xp1(context, format, soft.unpack(format, a), soft.unpack(format, b)),
    ]),
    make: (random, format) => {
      for (;;) {
        const bits = around(-70, -3)(random, format);
        // Beyond 1 - sqrt(1/2) the instruction is not defined.
        if (exponentField(format, bits) < format.bias - 2) return [bits, around(-8, 8)(random, format)];
      }
    },
  },
  fpatan: {
    ...approximate("d9f3", 2, (context, format, [a = 0n, b = 0n]) => [
      soft.fpatan(context, format, soft.unpack(format, a), soft.unpack(format, b)),
    ]),
    make: (random, format) => [around(-9, 9)(random, format), around(-9, 9)(random, format)],
  },
  fsin: {
    ...approximate("d9fe", 1, (context, format, [a = 0n]) => [circular(soft.fsin, context, format, a)]),
    make: (random, format) => [around(-40, 62)(random, format)],
  },
  fcos: {
    ...approximate("d9ff", 1, (context, format, [a = 0n]) => [circular(soft.fcos, context, format, a)]),
    make: (random, format) => [around(-40, 62)(random, format)],
  },
  fptan: {
    ...approximate("d9f2", 1, (context, format, [a = 0n]) => [circular(soft.fptan, context, format, a)]),
    make: (random, format) => [around(-40, 62)(random, format)],
    // Out of range nothing is pushed.
    outcome: (answer) => [(answer.fsw & 0x400 || answer.fsw & 1 ? answer.st[0] : answer.st[1]) ?? 0n],
  },
};

function circular(
  operation: typeof soft.fsin,
  context: soft.FloatContext,
  format: soft.FloatFormat,
  bits: bigint,
): bigint {
  const value = soft.unpack(format, bits);
  return soft.outOfCircle(value) ? bits : operation(context, format, value);
}

export function operationOf(name: string): OperationSpec {
  const spec = OPERATIONS[name];
  if (spec === undefined) throw new Error(`no operation ${name}`);
  return spec;
}

/** Random cases of one operation. */
export function makeCases(name: string, seed: number, count: number): FloatCase[] {
  const spec = operationOf(name);
  const random = new Random(seed);
  const cases: FloatCase[] = [];
  for (let i = 0; i < count; i++) {
    const format = spec.formats[i % spec.formats.length];
    if (format === undefined) continue;
    const description = FORMATS[format];
    let operands: bigint[];
    if (spec.make !== undefined) operands = spec.make(random, description);
    else {
      operands = [randomFloat(random, description)];
      while (operands.length < spec.operands) {
        const first = exponentField(description, operands[0] ?? 0n);
        operands.push(randomFloat(random, description, random.chance(2) ? first : undefined));
      }
    }
    const rounding = random.below(4);
    const control =
      spec.kind === "sse"
        ? 0x1f80 | (rounding << 13) | (random.chance(4) ? 0x8000 : 0) | (random.chance(4) ? 0x40 : 0)
        : 0x7f | (rounding << 10) | (random.pick([0, 2, 3, 3]) << 8);
    cases.push({ op: name, format, control, operands });
  }
  return cases;
}

/** How the host runs a case. */
export function hostRequest(test: FloatCase): HostRequest {
  const spec = operationOf(test.op);
  const [a = 0n, b = 0n, c = 0n] = test.operands;
  const code = new Uint8Array(Buffer.from(spec.code(test.format), "hex"));
  if (spec.kind === "sse") {
    const unary = spec.operands === 1;
    return {
      ...hostState({ mxcsr: test.control, xmm0: unary ? 0n : a, xmm1: unary ? a : b, rax: a }),
      memory: new Uint8Array(Buffer.from(littleEndian(c, 16), "hex")),
      code,
    };
  }
  const bytes = spec.memoryBytes?.(test.format) ?? 0;
  const st = hostState().st;
  st[0] = a;
  st[1] = b;
  const loads = spec.formats[0] === "f80" && bytes > 0 && test.op.match(/^f(b|i)?ld/) !== null;
  return {
    // Registers 0.. are in use, TOP is 0; a load pushes into the free register 7.
    ...hostState({ fcw: test.control, st, ftw: loads ? 0 : 3 }),
    memory: new Uint8Array(Buffer.from(littleEndian(a, bytes), "hex")),
    code,
  };
}

/** What the host's answer says about a case. */
export function hostOutcome(test: FloatCase, answer: HostAnswer): FloatOutcome {
  const spec = operationOf(test.op);
  const results = spec.outcome(answer, test.format);
  if (spec.kind === "sse") return { results, flags: answer.mxcsr & 0x3f, roundedUp: -1 };
  const flags = answer.fsw & 0x3f;
  return { results, flags, roundedUp: flags & 0x20 ? (answer.fsw >> 9) & 1 : -1 };
}

const PRECISION = [24, 0, 53, 64] as const;

/** What the library says about a case. */
export function softOutcome(test: FloatCase): FloatOutcome {
  const spec = operationOf(test.op);
  const x87Kind = spec.kind === "x87";
  const context = soft.floatContext({
    rounding: soft.X86_ROUNDING[(x87Kind ? test.control >> 10 : test.control >> 13) & 3] ?? 0,
    daz: !x87Kind && (test.control & 0x40) !== 0,
    ftz: !x87Kind && (test.control & 0x8000) !== 0,
    precision: x87Kind ? (PRECISION[(test.control >> 8) & 3] ?? 0) : 0,
    nan: x87Kind ? "x87" : "sse",
  });
  const results = spec.evaluate(context, FORMATS[test.format], test.operands);
  const roundedUp = x87Kind && context.flags & 0x20 ? Number(context.roundedUp) : -1;
  return { results, flags: context.flags, roundedUp };
}

const hex = (value: bigint): string => value.toString(16);

/** Differences between what is wanted and what is got, in words; undefined when they agree. */
export function difference(test: FloatCase, wanted: FloatOutcome, got: FloatOutcome): string | undefined {
  const spec = operationOf(test.op);
  const mask = spec.flagsMask ?? 0x3f;
  const close = (a: bigint, b: bigint): boolean => {
    if (a === b) return true;
    // Values of one sign are ordered as their bits are; the integer bit of f80 makes a step across a power of two
    // larger than one, which the significand then shows.
    return spec.approximate === true && ulps(a, b) <= 1n;
  };
  const same =
    wanted.results.length === got.results.length &&
    wanted.results.every((value, index) => close(value, got.results[index] ?? -1n)) &&
    (wanted.flags & mask) === (got.flags & mask) &&
    (spec.approximate === true || wanted.roundedUp === got.roundedUp);
  if (same) return undefined;
  const show = ({ results, flags, roundedUp }: FloatOutcome): string =>
    `${results.map(hex).join(",")} flags ${flags.toString(16)} up ${roundedUp}`;
  return `${formatCase(test)}: wanted ${show(wanted)}, got ${show(got)}`;
}

/** Distance of two f80 values of one sign in units of the last place. */
export function ulps(a: bigint, b: bigint): bigint {
  const linear = (bits: bigint): bigint => {
    const field = (bits >> 64n) & 0x7fffn;
    const magnitude = (field << 63n) + (bits & ((1n << 63n) - 1n));
    return bits >> 79n ? -magnitude : magnitude;
  };
  const distance = linear(a) - linear(b);
  return distance < 0n ? -distance : distance;
}

export function formatCase(test: FloatCase): string {
  return `${test.op} ${test.format} ${test.control.toString(16)} ${test.operands.map(hex).join(",")}`;
}

/** One line of a recorded file. */
export function formatVector(test: FloatCase, outcome: FloatOutcome): string {
  const { results, flags, roundedUp } = outcome;
  return `${formatCase(test)} ${results.map(hex).join(",")} ${flags.toString(16)} ${roundedUp}`;
}

export function parseVector(line: string): { test: FloatCase; outcome: FloatOutcome } {
  const [op = "", format = "", control = "", operands = "", results = "", flags = "", up = ""] = line.split(" ");
  if (format !== "f32" && format !== "f64" && format !== "f80") throw new Error(`vector: no format in ${line}`);
  const values = (text: string): bigint[] => text.split(",").map((value) => BigInt(`0x${value}`));
  return {
    test: { op, format, control: Number.parseInt(control, 16), operands: values(operands) },
    outcome: { results: values(results), flags: Number.parseInt(flags, 16), roundedUp: Number(up) },
  };
}
