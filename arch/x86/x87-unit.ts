/**
 * The x87 execution unit: stack faults, exceptions and results, common to all instructions of x87.ts.
 *
 * An instruction first checks its registers (stack fault), computes with soft-float, then settles: flags become
 * status bits, and depending on what is unmasked the result is stored, or not, and the stack popped, or not
 * (SDM volume 1, 8.4 and 8.5). Unmasked exceptions never stop the instruction itself: they set ES, and the next
 * waiting instruction raises #MF.
 */
import {
  defaultNan,
  F80,
  FLAG_DENORMAL,
  FLAG_DIVIDE_BY_ZERO,
  FLAG_INEXACT,
  FLAG_INVALID,
  FLAG_OVERFLOW,
  FLAG_UNDERFLOW,
  type FloatContext,
  floatContext,
  ROUND_NEAREST_EVEN,
  type Unpacked,
  unpack,
  X86_ROUNDING,
} from "../translate/softfloat/index.ts";
import {
  type EnvironmentForm,
  STATUS_BUSY,
  STATUS_C0,
  STATUS_C1,
  STATUS_C2,
  STATUS_C3,
  STATUS_ERROR_SUMMARY,
  STATUS_STACK_FAULT,
  type X87State,
} from "./x87-state.ts";

/** The real indefinite: what masked invalid operations leave. */
export const INDEFINITE = defaultNan(F80, "x87");

/** Exceptions found before a result is computed: unmasked, they keep it from being stored. */
const BEFORE = FLAG_INVALID | FLAG_DENORMAL | FLAG_DIVIDE_BY_ZERO;
const PRECISION = [24, 64, 53, 64] as const;

/** Everything an x87 instruction works on. One per engine is enough: nothing survives an instruction but `state`. */
export class X87Unit {
  readonly state: X87State;
  /** The memory operand: its bytes as loaded, or to be stored. */
  readonly memory: DataView = new DataView(new ArrayBuffer(128));
  /** RFLAGS' ZF, PF and CF: read by FCMOV, written by FCOMI (whole register; other bits are kept). */
  rflags = 0;
  /** What FNSTSW AX leaves. */
  ax = 0;
  /** Layout of FSTENV, FLDENV, FNSAVE and FRSTOR. */
  form: EnvironmentForm = { wide: true, real: false };
  readonly context: FloatContext = floatContext({ nan: "x87" });

  constructor(state: X87State) {
    this.state = state;
  }

  /** Sets up the context from the control word. */
  begin(): FloatContext {
    const { control } = this.state;
    const { context } = this;
    context.rounding = X86_ROUNDING[(control >> 10) & 3] ?? ROUND_NEAREST_EVEN;
    context.precision = PRECISION[(control >> 8) & 3] ?? 64;
    context.unmasked = ~control & 0x3f;
    context.flags = 0;
    context.roundedUp = false;
    return context;
  }

  /** ST(i) taken apart. */
  value(i: number): Unpacked {
    return unpack(F80, this.state.read(i));
  }

  /** Raises exceptions by their flags. */
  raise(flags: number): void {
    const { state } = this;
    state.status |= flags;
    if (flags & ~state.control & 0x3f) state.status |= STATUS_ERROR_SUMMARY | STATUS_BUSY;
  }

  setC1(on: boolean): void {
    const { state } = this;
    state.status = on ? state.status | STATUS_C1 : state.status & ~STATUS_C1;
  }

  /** C3, C2 and C0 at once, from status bits. */
  setCodes(codes: number): void {
    const { state } = this;
    state.status = (state.status & ~(STATUS_C0 | STATUS_C2 | STATUS_C3)) | codes;
  }

  pop(): void {
    const { state } = this;
    state.free(0);
    state.top += 1;
  }

  /** Pushes; the caller checked that ST(7) is empty, or overwrites it on purpose. */
  push(bits: bigint): void {
    const { state } = this;
    state.top -= 1;
    state.write(0, bits);
  }

  /** Raises a stack fault; true when it is masked, so that the indefinite is to be stored. */
  stackFault(overflow: boolean): boolean {
    this.setC1(overflow);
    this.raise(FLAG_INVALID | STATUS_STACK_FAULT);
    return (this.state.control & FLAG_INVALID) !== 0;
  }

  /** A stack underflow of an instruction that writes ST(destination) and pops so many. */
  underflow(destination: number, pops = 0): void {
    if (!this.stackFault(false)) return;
    this.state.write(destination, INDEFINITE);
    for (let n = 0; n < pops; n++) this.pop();
  }

  /** Pushes the value of a load, or faults where there is no room. */
  load(make: () => bigint): void {
    if (!this.state.empty(7)) {
      if (this.stackFault(true)) this.push(INDEFINITE);
      return;
    }
    const bits = make();
    if (this.settle()) this.push(bits);
  }

  /** Raises a denormal operand at once, so that `settle` does not keep the result from being stored. */
  loadDenormal(): void {
    this.raise(this.context.flags & FLAG_DENORMAL);
    this.context.flags &= ~FLAG_DENORMAL;
  }

  /**
   * Turns the context's flags into status bits and C1; whether a register result is stored. An unmasked exception
   * found before the computation hides what the computation raised.
   */
  settle(): boolean {
    const { context } = this;
    if (context.flags & context.unmasked & BEFORE) {
      this.setC1(false);
      this.raise(context.flags & BEFORE);
      return false;
    }
    this.setC1((context.flags & FLAG_INEXACT) !== 0 && context.roundedUp);
    this.raise(context.flags);
    return true;
  }

  /** The same for a result in memory: unmasked overflow and underflow keep it from being stored, too. */
  settleStore(): boolean {
    const { context } = this;
    const range = context.flags & context.unmasked & (FLAG_OVERFLOW | FLAG_UNDERFLOW);
    // Nothing was rounded then: inexact and C1 do not tell.
    if (range !== 0) context.flags &= ~FLAG_INEXACT;
    return this.settle() && range === 0;
  }
}
