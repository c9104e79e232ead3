/**
 * Cases for the x87 unit: one instruction on a whole random register state, run by the host's CPU and by arch/x86/x87.ts.
 */
import { F32, F64, F80 } from "../../../arch/translate/softfloat/index.ts";
import {
  executeX87,
  operandBytes,
  X87_FAULT,
  X87_NO_STORE,
  type X87Operation,
  X87State,
  X87Unit,
  x87Operation,
} from "../../../arch/x86/x87.ts";
import { ulps } from "./cases.ts";
import {
  fromHex,
  fromLittleEndian,
  type HostAnswer,
  type HostRequest,
  hostState,
  littleEndian,
  toHex,
} from "./host.ts";
import { compose, Random, randomFloat } from "./random.ts";

/** An instruction and the state before it. */
export interface X87Case {
  readonly opcode: number;
  readonly modrm: number;
  readonly fcw: number;
  readonly fsw: number;
  readonly ftw: number;
  readonly st: readonly bigint[];
  readonly memory: Uint8Array;
  readonly rflags: number;
}

/** The state after it; `signal` is 8 for #MF, 4 for #UD. */
export interface X87Outcome {
  readonly signal: number;
  readonly fcw: number;
  readonly fsw: number;
  readonly ftw: number;
  readonly st: readonly bigint[];
  readonly memory: Uint8Array;
  readonly ax: number;
  readonly rflags: number;
}

const SIGFPE = 8;
const SIGILL = 4;
const FLAGS = 0x8d5;

/** SSE3's FISTTP, which the host has and the unit has not. */
function isFisttp(opcode: number, modrm: number): boolean {
  return modrm < 0xc0 && ((modrm >> 3) & 7) === 1 && (opcode === 0xdb || opcode === 0xdd || opcode === 0xdf);
}

/** Every (opcode, ModRM) of x87: memory forms with [rdi], all register forms. */
export function allInstructions(): { opcode: number; modrm: number }[] {
  const all: { opcode: number; modrm: number }[] = [];
  for (let opcode = 0xd8; opcode <= 0xdf; opcode++) {
    for (let reg = 0; reg < 8; reg++) all.push({ opcode, modrm: (reg << 3) | 7 });
    for (let modrm = 0xc0; modrm <= 0xff; modrm++) all.push({ opcode, modrm });
  }
  return all.filter(({ opcode, modrm }) => !isFisttp(opcode, modrm));
}

/** Instructions whose results are right to one unit in the last place on the host. */
const APPROXIMATE = new Set(["f2xm1", "fyl2x", "fyl2xp1", "fptan", "fpatan", "fsin", "fcos", "fsincos"]);

function randomRegister(random: Random, operation: X87Operation | undefined): bigint {
  const { bias } = F80;
  switch (operation?.name) {
    case "fist":
    case "fistp":
    case "fbstp":
    case "frndint":
      return randomFloat(random, F80, bias + random.below(66));
    case "fst":
    case "fstp":
      return randomFloat(random, F80, bias + random.pick([0, 127, -127, -140, 1023, -1023, -1060]));
    case "f2xm1":
      return compose(F80, random.chance(2), bias - 1 - random.below(40), random.bits(63));
    case "fyl2xp1":
      return compose(F80, random.chance(2), bias - 3 - random.below(40), random.bits(63));
    case "fyl2x":
    case "fpatan":
    case "fsin":
    case "fcos":
    case "fptan":
    case "fsincos":
      return randomFloat(random, F80, bias + random.below(20) - 10);
    default:
      return randomFloat(random, F80);
  }
}

function randomMemory(random: Random, bytes: number): Uint8Array {
  if (bytes === 4 && random.chance(2)) return fromHex(littleEndian(randomFloat(random, F32), 4));
  if (bytes === 8 && random.chance(2)) return fromHex(littleEndian(randomFloat(random, F64), 8));
  if (bytes === 10 && random.chance(2)) return fromHex(littleEndian(randomFloat(random, F80), 10));
  if (bytes === 10) {
    // Packed decimal: digits above 9 are undefined by the architecture.
    return Uint8Array.from({ length: 10 }, (_, byte) =>
      byte === 9 ? random.below(2) << 7 : random.below(10) | (random.below(10) << 4),
    );
  }
  return Uint8Array.from({ length: bytes }, () => random.below(256));
}

/** A random state for an instruction. */
export function makeX87Case(random: Random, opcode: number, modrm: number): X87Case {
  const operation = x87Operation(opcode, modrm);
  const top = random.below(8);
  let ftw = random.below(256);
  // Most instructions want ST0 and ST1; a push wants ST7 free.
  if (!random.chance(5)) ftw |= (1 << top) | (1 << ((top + 1) & 7)) | (1 << ((top + (modrm & 7)) & 7));
  if (!random.chance(5)) ftw &= ~(1 << ((top + 7) & 7)) | (modrm >= 0xc0 && (modrm & 7) === 7 ? 0xff : 0);
  const masks = random.chance(2) ? 0x3f : random.below(64);
  const fcw = 0x40 | masks | (random.below(4) << 10) | (random.pick([0, 2, 3, 3]) << 8);
  const flags = random.chance(3) ? random.below(128) & (random.chance(4) ? 0x7f : masks | 0x40) : 0;
  const pending = flags & ~fcw & 0x3f ? 0x8080 : 0;
  const codes = random.chance(2) ? random.below(256) << 8 : 0;
  const fsw = flags | pending | (codes & 0x4700) | (top << 11);
  const first = randomRegister(random, operation);
  const st = Array.from({ length: 8 }, (_, i) => (i === 0 ? first : randomRegister(random, operation)));
  if (random.chance(4)) st[1] = first;
  const unit = new X87Unit(new X87State());
  const memory = randomMemory(random, operation === undefined ? 0 : operandBytes(operation, unit));
  if (operation?.name === "frstor" || operation?.name === "fldenv") {
    // Reserved bits of the control word aside, whose reading differs among processors.
    memory[0] = fcw & 0xff;
    memory[1] = fcw >> 8;
  }
  if (operation?.name === "fldcw") memory[1] = (memory[1] ?? 0) & 0x0f;
  return { opcode, modrm, fcw, fsw, ftw, st, memory, rflags: 2 | (random.word() & FLAGS) };
}

/** How the host runs it. */
export function x87Request(test: X87Case): HostRequest {
  const { fcw, fsw, ftw, memory, rflags } = test;
  return {
    ...hostState({ fcw, fsw, ftw, st: [...test.st], memory, rax: 0n, rflags: rflags | 0x200 }),
    code: new Uint8Array([test.opcode, test.modrm]),
  };
}

export function x87HostOutcome(answer: HostAnswer): X87Outcome {
  const { signal, fcw, fsw, ftw, st, memory } = answer;
  return { signal, fcw, fsw, ftw, st, memory, ax: Number(answer.rax & 0xffffn), rflags: answer.rflags & FLAGS };
}

/** What the unit makes of it. */
export function x87SoftOutcome(test: X87Case): X87Outcome {
  const state = new X87State();
  const unit = new X87Unit(state);
  state.control = test.fcw;
  state.status = test.fsw;
  for (let i = 0; i < 8; i++) state.write(i, test.st[i] ?? 0n);
  state.tags = test.ftw;
  unit.rflags = test.rflags;
  unit.ax = 0;
  const memory = Uint8Array.from(test.memory);
  const operation = x87Operation(test.opcode, test.modrm);
  let signal = 0;
  if (operation === undefined) signal = SIGILL;
  else {
    if (operation.memory === "load") memory.forEach((byte, i) => void unit.memory.setUint8(i, byte));
    const answer = executeX87(unit, operation, test.modrm);
    if (answer === X87_FAULT) signal = SIGFPE;
    else if (operation.memory === "store" && answer !== X87_NO_STORE) {
      for (let i = 0; i < memory.length; i++) memory[i] = unit.memory.getUint8(i);
    }
  }
  return {
    signal,
    fcw: state.control,
    fsw: state.status,
    ftw: state.tags,
    st: Array.from({ length: 8 }, (_, i) => state.read(i)),
    memory,
    ax: unit.ax,
    rflags: unit.rflags & FLAGS,
  };
}

function show(outcome: X87Outcome): string {
  const { signal, fcw, fsw, ftw, st, memory, ax, rflags } = outcome;
  const values = [signal, fcw, fsw, ftw, ax, rflags].map((value) => value.toString(16)).join(" ");
  return `${values} ${st.map((value) => value.toString(16)).join(",")} ${toHex(memory) || "-"}`;
}

/** Differences in words; undefined when the outcomes agree. */
export function x87Difference(test: X87Case, wanted: X87Outcome, got: X87Outcome): string | undefined {
  const operation = x87Operation(test.opcode, test.modrm);
  const approximate = operation !== undefined && APPROXIMATE.has(operation.name);
  // Transcendentals: whether a result was rounded up, or is exact or tiny, is the processor's own.
  // C1 after FCOMI is cleared by Intel's processors and kept by AMD's.
  const keepsC1 = operation?.uses === "writeFlags";
  const statusMask = approximate ? 0xffff & ~0x230 : keepsC1 ? 0xffff & ~0x200 : 0xffff;
  let memory = toHex(wanted.memory) === toHex(got.memory);
  if (operation?.name === "fnstenv" || operation?.name === "fnsave") {
    // Pointers to the last instruction and operand are not what is tested here.
    const keep = (bytes: Uint8Array): string => toHex(bytes.slice(0, 12)) + toHex(bytes.slice(28));
    memory = keep(wanted.memory) === keep(got.memory);
  }
  const registers = wanted.st.every((value, i) => {
    const other = got.st[i] ?? -1n;
    return value === other || (approximate && ulps(value, other) <= 1n);
  });
  const same =
    wanted.signal === got.signal &&
    wanted.fcw === got.fcw &&
    ((wanted.fsw ^ got.fsw) & statusMask) === 0 &&
    wanted.ftw === got.ftw &&
    wanted.ax === got.ax &&
    wanted.rflags === got.rflags &&
    memory &&
    registers;
  if (same) return undefined;
  return `${operation?.name ?? "#UD"} ${formatX87Case(test)}\n  wanted ${show(wanted)}\n  got    ${show(got)}`;
}

export function formatX87Case(test: X87Case): string {
  const { opcode, modrm, fcw, fsw, ftw, st, memory, rflags } = test;
  const values = [opcode, modrm, fcw, fsw, ftw, rflags].map((value) => value.toString(16)).join(" ");
  return `${values} ${st.map((value) => value.toString(16)).join(",")} ${toHex(memory) || "-"}`;
}

/** One line of a recorded file: the case, then what it leaves; `=` stands for registers or memory that did not change. */
export function formatX87Vector(test: X87Case, outcome: X87Outcome): string {
  const { signal, fcw, fsw, ftw, st, memory, ax, rflags } = outcome;
  const values = [signal, fcw, fsw, ftw, ax, rflags].map((value) => value.toString(16)).join(" ");
  const registers = st.map((value, i) => (value === test.st[i] ? "=" : value.toString(16))).join(",");
  const bytes = toHex(memory) === toHex(test.memory) ? "=" : toHex(memory);
  return `${formatX87Case(test)} ${values} ${registers} ${bytes}`;
}

export function parseX87Vector(line: string): { test: X87Case; outcome: X87Outcome } {
  const fields = line.split(" ");
  const number = (index: number): number => Number.parseInt(fields[index] ?? "", 16);
  const before = (fields[6] ?? "").split(",").map((value) => BigInt(`0x${value}`));
  const memory = fields[7] === "-" ? new Uint8Array(0) : fromHex(fields[7] ?? "");
  const test: X87Case = {
    opcode: number(0),
    modrm: number(1),
    fcw: number(2),
    fsw: number(3),
    ftw: number(4),
    rflags: number(5),
    st: before,
    memory,
  };
  const st = (fields[14] ?? "")
    .split(",")
    .map((value, i) => (value === "=" ? (before[i] ?? 0n) : BigInt(`0x${value}`)));
  const outcome: X87Outcome = {
    signal: number(8),
    fcw: number(9),
    fsw: number(10),
    ftw: number(11),
    ax: number(12),
    rflags: number(13),
    st,
    memory: fields[15] === "=" ? memory : fromHex(fields[15] ?? ""),
  };
  return { test, outcome };
}

export { fromLittleEndian, Random };
