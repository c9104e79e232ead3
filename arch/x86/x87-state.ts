/**
 * The x87 registers of one vCPU, where they lie in its state, and the images that save and restore them
 * (FSTENV, FSAVE, FXSAVE and their inverses; SDM volume 1, 8.1.10 and 10.5.1).
 *
 * X87State is a view: it holds no value of its own, so WebAssembly (MMX, FXSAVE's moves) and TypeScript see the same
 * bytes. Registers are in physical order, 16 bytes each: significand (8), sign and exponent (2), padding; MMX register
 * n is the significand of physical register n. Tags are FXSAVE's abridged form (a bit is set when the register is in
 * use); the full tag word is computed when an image wants it. Segment selectors of the last instruction and operand
 * read as 0, as on processors that deprecate them (CPUID.7:EBX[13]).
 */

/** Status word bits beyond the six exception flags (SDM volume 1, 8.1.3). */
export const STATUS_STACK_FAULT = 0x40;
export const STATUS_ERROR_SUMMARY = 0x80;
export const STATUS_C0 = 0x100;
export const STATUS_C1 = 0x200;
export const STATUS_C2 = 0x400;
export const STATUS_C3 = 0x4000;
export const STATUS_BUSY = 0x8000;
const STATUS_TOP = 0x3800;

/** Control word after FNINIT: everything masked, 64-bit precision, nearest even. */
export const CONTROL_INITIAL = 0x37f;
/** Bits of the control word that a load keeps; bit 6 reads as one. */
const CONTROL_WRITABLE = 0x1f3f;
const CONTROL_FIXED = 0x40;

/** Byte offsets in a vCPU's state. Words are 32 bits wide, `register` is eight times 16 bytes. */
export interface X87Layout {
  readonly control: number;
  readonly status: number;
  readonly tags: number;
  readonly opcode: number;
  /** Address of the last instruction and of the last operand, 64 bits each. */
  readonly instruction: number;
  readonly data: number;
  readonly register: number;
}

/** A layout for a state of its own, X87_BYTES long. */
export const X87_PLAIN_LAYOUT: X87Layout = {
  control: 128,
  status: 132,
  tags: 136,
  opcode: 140,
  instruction: 144,
  data: 152,
  register: 0,
};
export const X87_BYTES = 160;

/** The x87 registers at `base` of a buffer; move `base` to look at another vCPU. */
export class X87State {
  readonly view: DataView;
  readonly layout: X87Layout;
  base: number;

  constructor(
    view: DataView = new DataView(new ArrayBuffer(X87_BYTES)),
    base = 0,
    layout: X87Layout = X87_PLAIN_LAYOUT,
  ) {
    this.view = view;
    this.base = base;
    this.layout = layout;
  }

  get control(): number {
    return this.view.getUint32(this.base + this.layout.control, true);
  }
  /** Reserved bits are dropped; a pending exception appears or goes with the new masks. */
  set control(value: number) {
    this.view.setUint32(this.base + this.layout.control, (value & CONTROL_WRITABLE) | CONTROL_FIXED, true);
    this.updateSummary();
  }

  get status(): number {
    return this.view.getUint32(this.base + this.layout.status, true);
  }
  set status(value: number) {
    this.view.setUint32(this.base + this.layout.status, value & 0xffff, true);
  }

  /** Abridged tags by physical register. */
  get tags(): number {
    return this.view.getUint32(this.base + this.layout.tags, true);
  }
  set tags(value: number) {
    this.view.setUint32(this.base + this.layout.tags, value & 0xff, true);
  }

  get opcode(): number {
    return this.view.getUint32(this.base + this.layout.opcode, true);
  }
  set opcode(value: number) {
    this.view.setUint32(this.base + this.layout.opcode, value & 0x7ff, true);
  }

  get top(): number {
    return (this.status >> 11) & 7;
  }
  set top(value: number) {
    this.status = (this.status & ~STATUS_TOP) | ((value & 7) << 11);
  }

  /** Whether ST(i) is empty. */
  empty(i: number): boolean {
    return ((this.tags >> ((this.top + i) & 7)) & 1) === 0;
  }
  /** ST(i) as 80 raw bits. */
  read(i: number): bigint {
    const at = this.registerAt((this.top + i) & 7);
    return (BigInt(this.view.getUint16(at + 8, true)) << 64n) | this.view.getBigUint64(at, true);
  }
  /** Writes ST(i) and marks it in use. */
  write(i: number, bits: bigint): void {
    const physical = (this.top + i) & 7;
    const at = this.registerAt(physical);
    this.view.setBigUint64(at, bits & 0xffff_ffff_ffff_ffffn, true);
    this.view.setUint16(at + 8, Number((bits >> 64n) & 0xffffn), true);
    this.tags |= 1 << physical;
  }
  /** Marks ST(i) empty. */
  free(i: number): void {
    this.tags &= ~(1 << ((this.top + i) & 7));
  }

  /** ES and B follow from exception flags and masks. */
  updateSummary(): void {
    const pending = this.status & ~this.control & 0x3f;
    const rest = this.status & ~(STATUS_ERROR_SUMMARY | STATUS_BUSY);
    this.status = pending !== 0 ? rest | STATUS_ERROR_SUMMARY | STATUS_BUSY : rest;
  }

  /** FNINIT; registers keep their bits and become empty. */
  initialise(): void {
    this.status = 0;
    this.control = CONTROL_INITIAL;
    this.tags = 0;
    this.opcode = 0;
    this.setPointer(this.layout.instruction, 0, 0);
    this.setPointer(this.layout.data, 0, 0);
  }

  /** Notes the last instruction: its 11 opcode bits and address halves. */
  noteInstruction(opcode: number, lo: number, hi: number): void {
    this.opcode = opcode;
    this.setPointer(this.layout.instruction, lo, hi);
  }
  /** Notes the last memory operand. */
  noteData(lo: number, hi: number): void {
    this.setPointer(this.layout.data, lo, hi);
  }

  /** Before an MMX instruction other than EMMS: TOP is 0 and every register is in use. */
  enterMmx(): void {
    this.top = 0;
    this.tags = 0xff;
  }
  /** Writes MMX register n: the significand; sign and exponent become all ones. */
  writeMmx(n: number, lo: number, hi: number): void {
    const at = this.registerAt(n & 7);
    this.view.setUint32(at, lo, true);
    this.view.setUint32(at + 4, hi, true);
    this.view.setUint16(at + 8, 0xffff, true);
  }
  /** EMMS. */
  leaveMmx(): void {
    this.tags = 0;
  }

  /** The full tag word: two bits a physical register (0 valid, 1 zero, 2 special, 3 empty). */
  get fullTags(): number {
    let word = 0;
    for (let physical = 0; physical < 8; physical++) word |= this.#fullTag(physical) << (2 * physical);
    return word;
  }
  set fullTags(word: number) {
    let tags = 0;
    for (let physical = 0; physical < 8; physical++) if (((word >> (2 * physical)) & 3) !== 3) tags |= 1 << physical;
    this.tags = tags;
  }

  #fullTag(physical: number): number {
    if (((this.tags >> physical) & 1) === 0) return 3;
    const at = this.registerAt(physical);
    const exponent = this.view.getUint16(at + 8, true) & 0x7fff;
    const hi = this.view.getUint32(at + 4, true);
    if (exponent === 0) return hi === 0 && this.view.getUint32(at, true) === 0 ? 1 : 2;
    return exponent === 0x7fff || hi < 0x8000_0000 ? 2 : 0;
  }

  registerAt(physical: number): number {
    return this.base + this.layout.register + 16 * physical;
  }
  pointer(at: number): { lo: number; hi: number } {
    return { lo: this.view.getUint32(this.base + at, true), hi: this.view.getUint32(this.base + at + 4, true) };
  }
  setPointer(at: number, lo: number, hi: number): void {
    this.view.setUint32(this.base + at, lo >>> 0, true);
    this.view.setUint32(this.base + at + 4, hi >>> 0, true);
  }
}

/** Which of the four layouts an environment has: operand size, and real mode's (also virtual-8086) or not. */
export interface EnvironmentForm {
  readonly wide: boolean;
  readonly real: boolean;
}

/** Bytes of FSTENV's image; FSAVE's is 80 longer. */
export function environmentBytes(form: EnvironmentForm): number {
  return form.wide ? 28 : 14;
}

/** FSTENV's image at `at`. */
export function storeEnvironment(state: X87State, out: DataView, at: number, form: EnvironmentForm): void {
  const ip = state.pointer(state.layout.instruction).lo;
  const dp = state.pointer(state.layout.data).lo;
  const step = form.wide ? 4 : 2;
  const put = (index: number, low: number, high: number): void => {
    out.setUint16(at + index * step, low & 0xffff, true);
    if (form.wide) out.setUint16(at + index * step + 2, high & 0xffff, true);
  };
  put(0, state.control, 0xffff);
  put(1, state.status, 0xffff);
  put(2, state.fullTags, 0xffff);
  if (form.wide && !form.real) {
    put(3, ip, ip >>> 16);
    put(4, 0, state.opcode);
    put(5, dp, dp >>> 16);
    put(6, 0, 0xffff);
  } else if (form.wide) {
    put(3, ip, 0);
    put(4, ((ip >>> 16) << 12) | state.opcode, ip >>> 20);
    put(5, dp, 0);
    put(6, (dp >>> 16) << 12, dp >>> 20);
  } else {
    put(3, ip, 0);
    put(4, form.real ? ((ip >>> 16) << 12) | state.opcode : 0, 0);
    put(5, dp, 0);
    put(6, form.real ? (dp >>> 16) << 12 : 0, 0);
  }
}

/** FLDENV. */
export function loadEnvironment(state: X87State, from: DataView, at: number, form: EnvironmentForm): void {
  const step = form.wide ? 4 : 2;
  const low = (index: number): number => from.getUint16(at + index * step, true);
  const high = (index: number): number => (form.wide ? from.getUint16(at + index * step + 2, true) : 0);
  state.status = low(1);
  state.fullTags = low(2);
  state.control = low(0);
  let ip = low(3) | (high(3) << 16);
  let dp = low(5) | (high(5) << 16);
  let opcode = high(4);
  if (form.real) {
    const upper = (index: number): number => (low(index) >> 12) | (high(index) << 4);
    ip = low(3) | (upper(4) << 16);
    dp = low(5) | (upper(6) << 16);
    opcode = low(4);
  } else if (!form.wide) {
    opcode = 0;
  }
  state.opcode = opcode;
  state.setPointer(state.layout.instruction, ip, 0);
  state.setPointer(state.layout.data, dp, 0);
}

/** The eight registers in stack order, ten bytes each (FSAVE). */
export function storeRegisters(state: X87State, out: DataView, at: number): void {
  for (let i = 0; i < 8; i++) {
    const from = state.registerAt((state.top + i) & 7);
    for (let byte = 0; byte < 10; byte++) out.setUint8(at + 10 * i + byte, state.view.getUint8(from + byte));
  }
}

/** FRSTOR's registers; tags are not touched. */
export function loadRegisters(state: X87State, from: DataView, at: number): void {
  for (let i = 0; i < 8; i++) {
    const to = state.registerAt((state.top + i) & 7);
    for (let byte = 0; byte < 10; byte++) state.view.setUint8(to + byte, from.getUint8(at + 10 * i + byte));
  }
}

export const FXSAVE_BYTES = 512;
/** MXCSR bits that may be set; what FXSAVE stores as MXCSR_MASK. */
export const MXCSR_MASK = 0xffff;

/** The SSE part of an FXSAVE image: MXCSR, and 16 registers of 16 bytes at an offset of a view. */
export interface SseState {
  readonly view: DataView;
  readonly mxcsr: number;
  readonly xmm: number;
}

/**
 * FXSAVE into 512 bytes at `at`; bytes 464 to 511 are left as they are. `wide`: REX.W, 64-bit pointers. `registers`:
 * how many XMM registers there are (16 in 64-bit mode, else 8).
 */
export function storeFxsave(
  state: X87State,
  sse: SseState,
  out: DataView,
  at: number,
  wide: boolean,
  registers = 16,
): void {
  const ip = state.pointer(state.layout.instruction);
  const dp = state.pointer(state.layout.data);
  out.setUint16(at, state.control, true);
  out.setUint16(at + 2, state.status, true);
  out.setUint16(at + 4, state.tags, true);
  out.setUint16(at + 6, state.opcode, true);
  out.setUint32(at + 8, ip.lo, true);
  out.setUint32(at + 12, wide ? ip.hi : 0, true);
  out.setUint32(at + 16, dp.lo, true);
  out.setUint32(at + 20, wide ? dp.hi : 0, true);
  out.setUint32(at + 24, sse.view.getUint32(sse.mxcsr, true), true);
  out.setUint32(at + 28, MXCSR_MASK, true);
  for (let i = 0; i < 8; i++) {
    const from = state.registerAt((state.top + i) & 7);
    const to = at + 32 + 16 * i;
    out.setBigUint64(to, state.view.getBigUint64(from, true), true);
    out.setBigUint64(to + 8, BigInt(state.view.getUint16(from + 8, true)), true);
  }
  for (let byte = 0; byte < 16 * registers; byte += 8) {
    out.setBigUint64(at + 160 + byte, sse.view.getBigUint64(sse.xmm + byte, true), true);
  }
}

/** FXRSTOR; false (a #GP, nothing changed) when the image's MXCSR has reserved bits. */
export function loadFxsave(
  state: X87State,
  sse: SseState,
  from: DataView,
  at: number,
  wide: boolean,
  registers = 16,
): boolean {
  const mxcsr = from.getUint32(at + 24, true);
  if ((mxcsr & ~MXCSR_MASK) !== 0) return false;
  state.status = from.getUint16(at + 2, true);
  state.tags = from.getUint8(at + 4);
  state.control = from.getUint16(at, true);
  state.opcode = from.getUint16(at + 6, true);
  const word = (offset: number): number => from.getUint32(at + offset, true);
  state.setPointer(state.layout.instruction, word(8), wide ? word(12) : 0);
  state.setPointer(state.layout.data, word(16), wide ? word(20) : 0);
  for (let i = 0; i < 8; i++) {
    const to = state.registerAt((state.top + i) & 7);
    state.view.setBigUint64(to, from.getBigUint64(at + 32 + 16 * i, true), true);
    state.view.setUint16(to + 8, from.getUint16(at + 40 + 16 * i, true), true);
  }
  sse.view.setUint32(sse.mxcsr, mxcsr, true);
  for (let byte = 0; byte < 16 * registers; byte += 8) {
    sse.view.setBigUint64(sse.xmm + byte, from.getBigUint64(at + 160 + byte, true), true);
  }
  return true;
}
