/**
 * What the x87 instructions do, each a function of the unit and ModRM's rm field; x87.ts has the table of them.
 *
 * Choices where the architecture leaves room: results of transcendentals are correctly rounded; pi of argument
 * reduction has 66 bits; FPREM reduces by 32 to 63 exponents at a time.
 */
import {
  addValues,
  bcdToFloat,
  compareValues,
  convertValue,
  divValues,
  EQUAL,
  extractValue,
  F32,
  F64,
  F80,
  type FloatContext,
  fcos,
  floatToBcd,
  fptan,
  fsin,
  isNan,
  LESS,
  mulValues,
  type Ordering,
  outOfCircle,
  remValues,
  toIntegerValue,
  UNORDERED,
  type Unpacked,
  unpack,
  unpackInteger,
} from "../translate/softfloat/index.ts";
import {
  environmentBytes,
  loadEnvironment,
  loadRegisters,
  STATUS_BUSY,
  STATUS_C0,
  STATUS_C2,
  STATUS_C3,
  STATUS_ERROR_SUMMARY,
  storeEnvironment,
  storeRegisters,
} from "./x87-state.ts";
import { INDEFINITE, type X87Unit } from "./x87-unit.ts";

/** Runs one instruction; false: the memory operand is not to be written. */
export type Run = (unit: X87Unit, i: number) => boolean;
export type Operand = (unit: X87Unit) => Unpacked;
type Binary = (context: FloatContext, a: Unpacked, b: Unpacked) => bigint;

export const fadd: Binary = (context, a, b) => addValues(context, F80, a, b);
export const fsub: Binary = (context, a, b) => addValues(context, F80, a, b, true);
export const fsubr: Binary = (context, a, b) => addValues(context, F80, b, a, true);
export const fmul: Binary = (context, a, b) => mulValues(context, F80, a, b);
export const fdiv: Binary = (context, a, b) => divValues(context, F80, a, b);
export const fdivr: Binary = (context, a, b) => divValues(context, F80, b, a);

/** ST(destination) becomes left op right, then pops. */
export function arithmetic(
  unit: X87Unit,
  binary: Binary,
  destination: number,
  left: Unpacked,
  right: Unpacked,
  pops: number,
): true {
  const bits = binary(unit.begin(), left, right);
  if (unit.settle()) {
    unit.state.write(destination, bits);
    for (let n = 0; n < pops; n++) unit.pop();
  }
  return true;
}

/** ST0 = ST0 op ST(i). */
export const toTop =
  (binary: Binary): Run =>
  (unit, i) => {
    if (unit.state.empty(0) || unit.state.empty(i)) unit.underflow(0);
    else arithmetic(unit, binary, 0, unit.value(0), unit.value(i), 0);
    return true;
  };

/** ST(i) = ST(i) op ST0, and pops. */
export const toOther =
  (binary: Binary, pops: number): Run =>
  (unit, i) => {
    if (unit.state.empty(0) || unit.state.empty(i)) unit.underflow(i, pops);
    else arithmetic(unit, binary, i, unit.value(i), unit.value(0), pops);
    return true;
  };

/** ST0 = ST0 op memory. */
export const withMemory =
  (binary: Binary, operand: Operand): Run =>
  (unit) => {
    if (unit.state.empty(0)) unit.underflow(0);
    else arithmetic(unit, binary, 0, unit.value(0), operand(unit), 0);
    return true;
  };

export const single: Operand = (unit) => unpack(F32, BigInt(unit.memory.getUint32(0, true)));
export const double: Operand = (unit) => unpack(F64, unit.memory.getBigUint64(0, true));
export const int16: Operand = (unit) => unpackInteger(BigInt(unit.memory.getInt16(0, true)));
export const int32: Operand = (unit) => unpackInteger(BigInt(unit.memory.getInt32(0, true)));
export const int64: Operand = (unit) => unpackInteger(unit.memory.getBigInt64(0, true));

function codesOf(ordering: Ordering): number {
  if (ordering === UNORDERED) return STATUS_C3 | STATUS_C2 | STATUS_C0;
  if (ordering === LESS) return STATUS_C0;
  return ordering === EQUAL ? STATUS_C3 : 0;
}

/**
 * Compares ST0 with an operand (undefined: an empty register). An unmasked exception keeps the stack from being popped,
 * but the order is told all the same, as processors do.
 */
function compareTop(
  unit: X87Unit,
  operand: Unpacked | undefined,
  signaling: boolean,
): { ordering: Ordering; pop: boolean } {
  if (unit.state.empty(0) || operand === undefined) return { ordering: UNORDERED, pop: unit.stackFault(false) };
  const ordering = compareValues(unit.begin(), unit.value(0), operand, signaling);
  return { ordering, pop: unit.settle() };
}

/** Into C3, C2, C0. */
function compareCodes(unit: X87Unit, operand: Unpacked | undefined, signaling: boolean, pops: number): void {
  const { ordering, pop } = compareTop(unit, operand, signaling);
  unit.setCodes(codesOf(ordering));
  if (pop) for (let n = 0; n < pops; n++) unit.pop();
}

export const compareMemory =
  (operand: Operand, pops: number): Run =>
  (unit) => {
    compareCodes(unit, operand(unit), true, pops);
    return true;
  };

export const compareRegister =
  (signaling: boolean, pops: number): Run =>
  (unit, i) => {
    compareCodes(unit, unit.state.empty(i) ? undefined : unit.value(i), signaling, pops);
    return true;
  };

/** FCOMI and its kin: into ZF, PF, CF. */
export const compareFlags =
  (signaling: boolean, pops: number): Run =>
  (unit, i) => {
    const { ordering, pop } = compareTop(unit, unit.state.empty(i) ? undefined : unit.value(i), signaling);
    unit.setC1(false);
    // ZF, PF and CF stand as C3, C2 and C0 do, eight bits lower; OF, SF and AF are cleared.
    unit.rflags = (unit.rflags & ~0x8d5) | (codesOf(ordering) >> 8);
    if (pop) for (let n = 0; n < pops; n++) unit.pop();
    return true;
  };

/** FCMOVcc: `mask` of RFLAGS, moved when any bit of it is set (or, inverted, none). */
export const conditionalMove =
  (mask: number, wanted: boolean): Run =>
  (unit, i) => {
    const { state } = unit;
    if (state.empty(0) || state.empty(i)) {
      unit.underflow(0);
      return true;
    }
    if (((unit.rflags & mask) !== 0) === wanted) state.write(0, state.read(i));
    return true;
  };

/** A load that converts a value from memory, exactly. */
export const loadFrom =
  (operand: Operand): Run =>
  (unit) => {
    unit.load(() => {
      const context = unit.begin();
      context.precision = 0;
      const bits = convertValue(context, F80, operand(unit));
      // A denormal is loaded even where its exception is unmasked, as processors do.
      unit.loadDenormal();
      return bits;
    });
    return true;
  };

export const loadExtended: Run = (unit) => {
  unit.load(() => {
    unit.begin();
    return (BigInt(unit.memory.getUint16(8, true)) << 64n) | unit.memory.getBigUint64(0, true);
  });
  return true;
};

export const loadDecimal: Run = (unit) => {
  unit.load(() => {
    unit.begin();
    return bcdToFloat((BigInt(unit.memory.getUint16(8, true)) << 64n) | unit.memory.getBigUint64(0, true));
  });
  return true;
};

/** FLD ST(i): an empty source is an underflow, which the indefinite is pushed for. */
export const loadRegister: Run = (unit, i) => {
  const { state } = unit;
  if (state.empty(i)) {
    if (unit.stackFault(false)) unit.push(INDEFINITE);
  } else if (!state.empty(7)) {
    if (unit.stackFault(true)) unit.push(INDEFINITE);
  } else {
    const bits = state.read(i);
    unit.setC1(false);
    unit.push(bits);
  }
  return true;
};

/** A constant between two neighbours: the lower one, and whether nearest is the upper one. */
export const loadConstant =
  (lower: bigint, nearestIsUpper: boolean): Run =>
  (unit) => {
    unit.load(() => {
      const rounding = (unit.state.control >> 10) & 3;
      unit.begin();
      return rounding === 2 || (rounding === 0 && nearestIsUpper) ? lower + 1n : lower;
    });
    return true;
  };

export const loadExact =
  (bits: bigint): Run =>
  (unit) => {
    unit.load(() => {
      unit.begin();
      return bits;
    });
    return true;
  };

/** Stores what `make` computes from ST0 and pops; `indefinite` is stored for an empty register. */
export const store =
  (bytes: number, indefinite: bigint, pops: number, make: (unit: X87Unit) => bigint): Run =>
  (unit) => {
    let bits = indefinite;
    if (unit.state.empty(0)) {
      if (!unit.stackFault(false)) return false;
    } else {
      bits = make(unit);
      if (!unit.settleStore()) return false;
    }
    for (let byte = 0; byte < bytes; byte++) unit.memory.setUint8(byte, Number((bits >> BigInt(8 * byte)) & 0xffn));
    for (let n = 0; n < pops; n++) unit.pop();
    return true;
  };

export const storeFloat = (format: typeof F32, pops: number): Run =>
  store(format.bits / 8, convertValue(noContext(), format, unpack(F80, INDEFINITE)), pops, (unit) => {
    const context = unit.begin();
    context.precision = 0;
    return convertValue(context, format, unit.value(0), false);
  });

function noContext(): FloatContext {
  return {
    rounding: 0,
    flags: 0,
    unmasked: 0,
    daz: false,
    ftz: false,
    precision: 0,
    nan: "x87",
    tininessBeforeRounding: false,
    roundedUp: false,
  };
}

export const storeInteger = (width: 16 | 32 | 64, pops: number): Run =>
  store(width / 8, 1n << BigInt(width - 1), pops, (unit) =>
    BigInt.asUintN(width, toIntegerValue(unit.begin(), unit.value(0), { width, signed: true, rule: "indefinite" })),
  );

export const storeExtended: Run = store(10, INDEFINITE, 1, (unit) => {
  unit.begin();
  return unit.state.read(0);
});

export const storeDecimal: Run = store(10, 0xffff_c000_0000_0000_0000n, 1, (unit) =>
  floatToBcd(unit.begin(), unit.value(0)),
);

/** FST ST(i). */
export const storeRegister =
  (pops: number): Run =>
  (unit, i) => {
    const { state } = unit;
    if (state.empty(0)) unit.underflow(i, pops);
    else {
      unit.setC1(false);
      state.write(i, state.read(0));
      for (let n = 0; n < pops; n++) unit.pop();
    }
    return true;
  };

/** FSTP by its alias D9 D8+i: like FSTP, but an empty ST0 is no fault and only popped. */
export const storeQuietly: Run = (unit, i) => {
  const { state } = unit;
  unit.setC1(false);
  if (!state.empty(0)) state.write(i, state.read(0));
  unit.pop();
  return true;
};

export const exchange: Run = (unit, i) => {
  const { state } = unit;
  if (state.empty(0) || state.empty(i)) {
    if (!unit.stackFault(false)) return true;
    if (state.empty(0)) state.write(0, INDEFINITE);
    if (state.empty(i)) state.write(i, INDEFINITE);
  } else unit.setC1(false);
  const bits = state.read(0);
  state.write(0, state.read(i));
  state.write(i, bits);
  return true;
};

/** ST0 = f(ST0). */
export const unary =
  (compute: (context: FloatContext, a: Unpacked, unit: X87Unit) => bigint): Run =>
  (unit) => {
    if (unit.state.empty(0)) unit.underflow(0);
    else {
      const bits = compute(unit.begin(), unit.value(0), unit);
      if (unit.settle()) unit.state.write(0, bits);
    }
    return true;
  };

export const SIGN = 1n << 79n;
/** FCHS and FABS: no exception but the stack's. */
export const changeSign =
  (change: (bits: bigint) => bigint): Run =>
  (unit) => {
    const { state } = unit;
    if (state.empty(0)) unit.underflow(0);
    else {
      unit.setC1(false);
      state.write(0, change(state.read(0)));
    }
    return true;
  };

/** FSIN and FCOS: out of range, C2 is set and nothing else happens. */
export const circular =
  (compute: typeof fsin): Run =>
  (unit) => {
    const { state } = unit;
    state.status &= ~STATUS_C2;
    if (state.empty(0)) unit.underflow(0);
    else if (outOfCircle(unit.value(0))) leaveOutOfRange(unit);
    else {
      const bits = compute(unit.begin(), F80, unit.value(0));
      if (unit.settle()) state.write(0, bits);
    }
    return true;
  };

function leaveOutOfRange(unit: X87Unit): void {
  unit.setC1(false);
  unit.state.status |= STATUS_C2;
}

/** An instruction that replaces ST0 and pushes one more. */
const pushing =
  (compute: (context: FloatContext, a: Unpacked) => { below: bigint; above: bigint }, ranged: boolean): Run =>
  (unit) => {
    const { state } = unit;
    if (ranged) state.status &= ~STATUS_C2;
    if (state.empty(0) || !state.empty(7)) {
      if (unit.stackFault(!state.empty(0))) {
        state.write(0, INDEFINITE);
        unit.push(INDEFINITE);
      }
      return true;
    }
    const operand = unit.value(0);
    if (ranged && outOfCircle(operand)) {
      leaveOutOfRange(unit);
      return true;
    }
    const { below, above } = compute(unit.begin(), operand);
    if (unit.settle()) {
      state.write(0, below);
      unit.push(above);
    }
    return true;
  };

export const ONE = 0x3fff_8000_0000_0000_0000n;
const isNumber = (a: Unpacked): boolean => a.kind === "zero" || a.kind === "finite";

export const tangent = pushing((context, a) => {
  const below = fptan(context, F80, a);
  return { below, above: isNumber(a) ? ONE : below };
}, true);

export const sineAndCosine = pushing((context, a) => {
  const below = fsin(context, F80, a);
  return { below, above: fcos(context, F80, a) };
}, true);

export const extract = pushing((context, a) => {
  const { exponent, significand } = extractValue(context, F80, a);
  return { below: exponent, above: significand };
}, false);

/** ST1 = f(ST0, ST1), pop. */
export const twoToOne =
  (compute: (context: FloatContext, format: typeof F80, x: Unpacked, y: Unpacked) => bigint): Run =>
  (unit) => {
    if (unit.state.empty(0) || unit.state.empty(1)) unit.underflow(1, 1);
    else arithmetic(unit, (context, x, y) => compute(context, F80, x, y), 1, unit.value(0), unit.value(1), 1);
    return true;
  };

/** FPREM and FPREM1: C0, C3, C1 are bits 2, 1, 0 of the quotient, C2 says that there is more to do. */
export const remainder =
  (nearest: boolean): Run =>
  (unit) => {
    const { state } = unit;
    state.status &= ~STATUS_C2;
    if (state.empty(0) || state.empty(1)) {
      unit.underflow(0);
      return true;
    }
    const a = unit.value(0);
    const rest = remValues(unit.begin(), F80, a, unit.value(1), nearest, (difference) => 32 + (difference & 31));
    if (!unit.settle()) return true;
    state.write(0, rest.bits);
    // Without a quotient C0 and C3 stay as they are.
    if (isNan(unpack(F80, rest.bits))) return true;
    const q = Number(rest.quotient & 7n);
    unit.setCodes(rest.complete ? (q & 4 ? STATUS_C0 : 0) | (q & 2 ? STATUS_C3 : 0) : STATUS_C2);
    unit.setC1((q & 1) !== 0);
    return true;
  };

const CLASS_CODES = {
  unsupported: 0,
  quiet: STATUS_C0,
  signaling: STATUS_C0,
  finite: STATUS_C2,
  infinite: STATUS_C2 | STATUS_C0,
  zero: STATUS_C3,
} as const;

export const examine: Run = (unit) => {
  const { state } = unit;
  const a = unit.value(0);
  unit.setC1(a.negative);
  if (state.empty(0)) unit.setCodes(STATUS_C3 | STATUS_C0);
  else unit.setCodes(a.denormal ? STATUS_C3 | STATUS_C2 : CLASS_CODES[a.kind]);
  return true;
};

export const rotate =
  (by: number): Run =>
  (unit) => {
    unit.state.top += by;
    unit.setC1(false);
    return true;
  };

export const free =
  (pops: number): Run =>
  (unit, i) => {
    unit.state.free(i);
    unit.setC1(false);
    if (pops) unit.pop();
    return true;
  };

export const nothing: Run = () => true;

export const storeWord =
  (word: (unit: X87Unit) => number): Run =>
  (unit) => {
    unit.memory.setUint16(0, word(unit), true);
    return true;
  };

const MASK_ALL = 0x3f;

export const storeEnv: Run = (unit) => {
  storeEnvironment(unit.state, unit.memory, 0, unit.form);
  unit.state.control |= MASK_ALL;
  return true;
};

export const loadEnv: Run = (unit) => {
  loadEnvironment(unit.state, unit.memory, 0, unit.form);
  return true;
};

export const initialise: Run = (unit) => {
  unit.state.initialise();
  return true;
};

export const storeStatusToAx: Run = (unit) => {
  unit.ax = unit.state.status;
  return true;
};

export const saveAll: Run = (unit) => {
  storeEnvironment(unit.state, unit.memory, 0, unit.form);
  storeRegisters(unit.state, unit.memory, environmentBytes(unit.form));
  unit.state.initialise();
  return true;
};

export const restoreAll: Run = (unit) => {
  loadEnvironment(unit.state, unit.memory, 0, unit.form);
  loadRegisters(unit.state, unit.memory, environmentBytes(unit.form));
  return true;
};

export function clearExceptions(unit: X87Unit): true {
  unit.state.status &= ~(0x7f | STATUS_ERROR_SUMMARY | STATUS_BUSY);
  return true;
}
