/**
 * The Supervisor Binary Interface, version 2.0, as the hypervisor serves it: which call is whose, what it answers.
 *
 * Source: RISC-V Supervisor Binary Interface Specification 2.0 (chapter numbers below). a7 is the extension, a6 the function, a0 to a5 arguments; the
 * answer is an error in a0 and a value in a1 (legacy extensions, chapter 5: one value in a0). Served: BASE (4), legacy (5), TIME (6),
 * IPI (7), RFENCE (8), HSM (9), SRST (10), DBCN (12). Every other extension is SBI_ERR_NOT_SUPPORTED, and BASE says that it is not there.
 *
 * Invariants: arguments are the guest's, and each is checked; work is bounded (DBCN moves MOST_TEXT bytes a call, and says so by its answer).
 */
import { type ArchHost, type Domain, Result, ShutdownReason } from "hookvisor";
import { HART_ECALL, IRQ_SOFTWARE, IRQ_TIMER } from "./cpu.ts";
import { TIMEBASE } from "./device-tree.ts";
import { HartState, type RiscvVcpu } from "./world.ts";

/** Error codes (3.1). */
export const SBI = Object.freeze({
  SUCCESS: 0,
  ERR_FAILED: -1,
  ERR_NOT_SUPPORTED: -2,
  ERR_INVALID_PARAM: -3,
  ERR_DENIED: -4,
  ERR_INVALID_ADDRESS: -5,
  ERR_ALREADY_AVAILABLE: -6,
});

/** Extension numbers. */
export const EXTENSION = Object.freeze({
  SET_TIMER: 0,
  CONSOLE_PUTCHAR: 1,
  CONSOLE_GETCHAR: 2,
  CLEAR_IPI: 3,
  SEND_IPI: 4,
  REMOTE_FENCE_I: 5,
  REMOTE_SFENCE_VMA: 6,
  REMOTE_SFENCE_VMA_ASID: 7,
  SHUTDOWN: 8,
  BASE: 0x10,
  TIME: 0x54494d45,
  IPI: 0x735049,
  RFENCE: 0x52464e43,
  HSM: 0x48534d,
  SRST: 0x53525354,
  DBCN: 0x4442434e,
});

/** Xen's implementation id (4.9) and, in the range of firmware extensions, its extension: hypercalls. */
export const XEN_IMPLEMENTATION = 7;
export const XEN_EXTENSION = 0x0a00_0007;

const SPECIFICATION = 2 << 24;
/** Most bytes that a call of DBCN moves. */
const MOST_TEXT = 4096;
/** Above so many pages all translations are flushed instead of each. */
const MOST_PAGES = 64;
/** Nanoseconds a tick. */
const TICK = 1e9 / TIMEBASE;
/** Instructions for each hart that a call reaches. */
const HART_COST = 100;

const A0 = 10;
const [A1, A2, A6, A7] = [11, 12, 16, 17] as const;

/** Error and value of a call. */
type Answer = readonly [error: number, value: number];
const done = (value = 0): Answer => [SBI.SUCCESS, value];
const refused = (error: number): Answer => [error, 0];

type Handler = (v: RiscvVcpu) => Answer;

/** An argument as an exact number up to 2^53, else Infinity. */
function number(v: RiscvVcpu, register: number): number {
  const hi = v.hart.xHi(register);
  return hi < 0x20_0000 ? hi * 0x1_0000_0000 + v.hart.xLo(register) : Infinity;
}

/** The calls that a port serves. One a machine. */
export class Sbi {
  readonly #host: ArchHost;
  readonly #extensions: ReadonlyMap<number, readonly Handler[]>;

  constructor(host: ArchHost) {
    this.#host = host;
    const { major, minor } = host.xenVersion;
    this.#extensions = new Map<number, readonly Handler[]>([
      [
        EXTENSION.BASE,
        [
          () => done(SPECIFICATION),
          () => done(XEN_IMPLEMENTATION),
          () => done((major << 16) | minor),
          (v) => done(this.#has(v.hart.xLo(A0), v.hart.xHi(A0)) ? 1 : 0),
          // mvendorid, marchid, mimpid
          () => done(),
          () => done(),
          () => done(),
        ],
      ],
      [EXTENSION.TIME, [(v) => this.#setTimer(v)]],
      [EXTENSION.IPI, [(v) => this.#sendIpi(v, this.#harts(v, A0))]],
      [
        EXTENSION.RFENCE,
        [
          (v) => this.#fence(this.#harts(v, A0), null),
          (v) => this.#fence(this.#harts(v, A0), range(v, A2)),
          (v) => this.#fence(this.#harts(v, A0), range(v, A2)),
        ],
      ],
      [
        EXTENSION.HSM,
        [
          (v) => this.#startHart(v),
          (v) => this.#stopHart(v),
          (v) => this.#hartStatus(v),
          // What suspends is seen by `suspends`: here is what may not.
          (v) => refused(v.hart.xLo(A0) === 0x8000_0000 ? SBI.ERR_NOT_SUPPORTED : SBI.ERR_INVALID_PARAM),
        ],
      ],
      [EXTENSION.SRST, [(v) => this.#reset(v)]],
      [EXTENSION.DBCN, [(v) => this.#write(v), (v) => this.#read(v), (v) => this.#writeByte(v)]],
    ]);
  }

  /** Is this call a retentive suspend (9.4, type 0)? It is answered by halting. */
  suspends({ hart }: RiscvVcpu): boolean {
    const is = (register: number, value: number): boolean => hart.xLo(register) === value && hart.xHi(register) === 0;
    return is(A7, EXTENSION.HSM) && is(A6, 3) && hart.xLo(A0) === 0;
  }

  /** A hart has suspended itself. */
  suspended(v: RiscvVcpu): void {
    v.state = HartState.suspended;
    this.#answer(v, done());
  }

  /** Serves the call that a hart makes; answers in its registers. The number is for the hypercall dispatcher. */
  call(v: RiscvVcpu): number {
    const { hart } = v;
    const extension = hart.xHi(A7) === 0 ? hart.xLo(A7) : -1;
    if (extension >= 0 && extension <= EXTENSION.SHUTDOWN) this.#legacy(v, extension);
    else {
      const handlers = this.#extensions.get(extension);
      const handler = hart.xHi(A6) === 0 ? handlers?.[hart.xLo(A6)] : undefined;
      const answer = handler === undefined ? refused(SBI.ERR_NOT_SUPPORTED) : handler(v);
      // A hart that stopped itself has no answer: it starts anew.
      if (v.state !== HartState.stopped) this.#answer(v, answer);
    }
    return Result.noReturn;
  }

  #answer({ hart }: RiscvVcpu, [error, value]: Answer): void {
    hart.setX(A0, error, error < 0 ? -1 : 0);
    hart.setX(A1, value, 0);
  }

  #has(lo: number, hi: number): boolean {
    return hi === 0 && (lo <= EXTENSION.SHUTDOWN || this.#extensions.has(lo));
  }

  // Harts.

  /** The harts of a mask and its base (3.2); null: one of them does not exist. */
  #harts(v: RiscvVcpu, at: number): readonly RiscvVcpu[] | null {
    const { hart } = v;
    const all = v.world.vcpus;
    const [baseLo, baseHi] = [hart.xLo(at + 1), hart.xHi(at + 1)];
    if (baseLo === 0xffff_ffff && baseHi === 0xffff_ffff) return all;
    if (baseHi !== 0) return null;
    return select(all, baseLo, hart.xLo(at), hart.xHi(at));
  }

  #sendIpi(_v: RiscvVcpu, harts: readonly RiscvVcpu[] | null): Answer {
    if (harts === null) return refused(SBI.ERR_INVALID_PARAM);
    this.#host.charge(HART_COST * harts.length);
    for (const target of harts) {
      if (target.state === HartState.stopped) continue;
      target.hart.setPin(IRQ_SOFTWARE, true);
      this.#wake(target);
    }
    return done();
  }

  /** An interrupt pin of a hart was raised. */
  #wake(v: RiscvVcpu): void {
    if (v.hart.interruptPending) this.#host.wake(v.vcpu);
  }

  /** Remote fences; a range of null is fence.i. Translations follow what is written anyway, so that fence.i has nothing left to do but to cost. */
  #fence(harts: readonly RiscvVcpu[] | null, pages: Range | null): Answer {
    if (harts === null) return refused(SBI.ERR_INVALID_PARAM);
    this.#host.charge(HART_COST * harts.length);
    for (const { hart, state } of harts) {
      if (state === HartState.stopped) continue;
      if (pages === null) hart.fence();
      else fenceRange(hart, pages);
    }
    return done();
  }

  #named(v: RiscvVcpu): RiscvVcpu | undefined {
    return v.world.vcpus[number(v, A0)];
  }

  #startHart(v: RiscvVcpu): Answer {
    const { hart, world } = v;
    const target = this.#named(v);
    if (target === undefined) return refused(SBI.ERR_INVALID_PARAM);
    if (target.state !== HartState.stopped) return refused(SBI.ERR_ALREADY_AVAILABLE);
    const address = number(v, A1);
    if (address % 2 !== 0 || world.p2m.get(Math.floor(address / 4096)) < 0) return refused(SBI.ERR_INVALID_ADDRESS);
    target.start(hart.xLo(A1), hart.xHi(A1), hart.xLo(A2), hart.xHi(A2));
    this.#host.vcpuUp(target.vcpu);
    return done();
  }

  #stopHart(v: RiscvVcpu): Answer {
    v.stop();
    this.#host.vcpuDown(v.vcpu);
    return done();
  }

  #hartStatus(v: RiscvVcpu): Answer {
    const target = this.#named(v);
    return target === undefined ? refused(SBI.ERR_INVALID_PARAM) : done(target.state);
  }

  // Time.

  /** The timer interrupt is pending from the moment on at which time is not below the argument. */
  #setTimer(v: RiscvVcpu): Answer {
    v.cancelTimer();
    v.hart.setPin(IRQ_TIMER, false);
    const at = number(v, A0) * TICK;
    if (at > Number.MAX_SAFE_INTEGER) return done();
    const fire = (): void => {
      v.timer = null;
      v.hart.setPin(IRQ_TIMER, true);
      this.#wake(v);
    };
    if (at <= this.#host.now()) fire();
    else v.timer = this.#host.timer(at, fire);
    return done();
  }

  // The end.

  #reset(v: RiscvVcpu): Answer {
    const [type, reason] = [number(v, A0), number(v, A1)];
    if (type > 2 && !(type >= 0xf000_0000 && type <= 0xffff_ffff)) return refused(SBI.ERR_INVALID_PARAM);
    if (reason > 1 && !(reason >= 0xe000_0000 && reason <= 0xffff_ffff)) return refused(SBI.ERR_INVALID_PARAM);
    // Of a vendor's own there are none.
    if (type > 2) return refused(SBI.ERR_NOT_SUPPORTED);
    const { domain } = v.vcpu;
    if (reason === 1) this.#host.crash(domain, `system failure (SRST, reset type ${type})`);
    else this.#host.shutdown(domain, type === 0 ? ShutdownReason.poweroff : ShutdownReason.reboot);
    return done();
  }

  // The debug console.

  /** Length and address of a text; null: there is none such in memory. */
  #text(v: RiscvVcpu): { readonly address: number; readonly length: number } | null {
    const [length, address] = [number(v, A0), number(v, A1)];
    if (v.hart.xLo(A2) !== 0 || v.hart.xHi(A2) !== 0 || address === Infinity) return null;
    return { address, length: Math.min(length, MOST_TEXT) };
  }

  #write(v: RiscvVcpu): Answer {
    const text = this.#text(v);
    if (text === null) return refused(SBI.ERR_INVALID_PARAM);
    const bytes = new Uint8Array(text.length);
    if (!v.world.read(text.address, bytes)) return refused(SBI.ERR_INVALID_PARAM);
    this.#host.charge(bytes.length);
    print(v.vcpu.domain, bytes);
    return done(bytes.length);
  }

  #read(v: RiscvVcpu): Answer {
    const text = this.#text(v);
    // All of the room must be memory that may be written, whether there is input or not.
    if (text === null || !v.world.pieces(text.address, text.length, true, () => {}))
      return refused(SBI.ERR_INVALID_PARAM);
    const bytes = typed(v.vcpu.domain, text.length);
    this.#host.charge(bytes.length);
    v.world.write(text.address, bytes);
    return done(bytes.length);
  }

  #writeByte(v: RiscvVcpu): Answer {
    print(v.vcpu.domain, Uint8Array.of(v.hart.xLo(A0)));
    return done();
  }

  // Version 0.1.

  #legacy(v: RiscvVcpu, extension: number): void {
    const { hart } = v;
    let answer = 0;
    switch (extension) {
      case EXTENSION.SET_TIMER:
        this.#setTimer(v);
        break;
      case EXTENSION.CONSOLE_PUTCHAR:
        print(v.vcpu.domain, Uint8Array.of(hart.xLo(A0)));
        break;
      case EXTENSION.CONSOLE_GETCHAR:
        answer = typed(v.vcpu.domain, 1)[0] ?? -1;
        break;
      case EXTENSION.CLEAR_IPI:
        hart.setPin(IRQ_SOFTWARE, false);
        break;
      case EXTENSION.SHUTDOWN:
        this.#host.shutdown(v.vcpu.domain, ShutdownReason.poweroff);
        break;
      default: {
        const harts = legacyHarts(v);
        const pages = extension === EXTENSION.REMOTE_FENCE_I ? null : range(v, A1);
        const result = extension === EXTENSION.SEND_IPI ? this.#sendIpi(v, harts) : this.#fence(harts, pages);
        answer = result[0];
      }
    }
    hart.setX(A0, answer, answer < 0 ? -1 : 0);
  }
}

/** The harts from `base` on whose bits are set in a mask; null: one of them does not exist. */
function select(all: readonly RiscvVcpu[], base: number, lo: number, hi: number): readonly RiscvVcpu[] | null {
  const chosen: RiscvVcpu[] = [];
  for (let bit = 0; bit < 64; bit++) {
    if ((((bit < 32 ? lo : hi) >>> (bit & 31)) & 1) === 0) continue;
    const one = all[base + bit];
    if (one === undefined) return null;
    chosen.push(one);
  }
  return chosen;
}

/** Chapter 5: the mask is in memory, at a virtual address; 0 means all harts. */
function legacyHarts({ hart, world }: RiscvVcpu): readonly RiscvVcpu[] | null {
  const [lo, hi] = [hart.xLo(A0), hart.xHi(A0)];
  if (lo === 0 && hi === 0) return world.vcpus;
  const mask = new Uint8Array(8);
  if (!hart.read(lo, hi, mask)) return null;
  const view = new DataView(mask.buffer);
  return select(world.vcpus, 0, view.getUint32(0, true), view.getUint32(4, true));
}

/** A range of virtual addresses, as halves and a size (Infinity: all). */
interface Range {
  readonly lo: number;
  readonly hi: number;
  readonly size: number;
}

function range(v: RiscvVcpu, at: number): Range {
  return { lo: v.hart.xLo(at), hi: v.hart.xHi(at), size: number(v, at + 1) };
}

function fenceRange(hart: RiscvVcpu["hart"], { lo, hi, size }: Range): void {
  const pages = Math.ceil(((lo & 4095) + size) / 4096);
  // Start and size of 0: everything (8.2).
  if (size === 0 || !(pages <= MOST_PAGES)) {
    hart.fence();
    return;
  }
  for (let page = 0; page < pages; page++) {
    const sum = lo + page * 4096;
    hart.fencePage(sum >>> 0, (hi + (sum > 0xffff_ffff ? 1 : 0)) >>> 0);
  }
}

function print(domain: Domain, bytes: Uint8Array): void {
  domain.onConsoleWrite?.(bytes);
}

function typed(domain: Domain, most: number): Uint8Array {
  const bytes = domain.onConsoleRead?.(most) ?? new Uint8Array(0);
  return bytes.length > most ? bytes.subarray(0, most) : bytes;
}

/** Is this exit a hypercall? */
export function callsXen(v: RiscvVcpu, code: number): boolean {
  return code === HART_ECALL && v.hart.xLo(A7) === XEN_EXTENSION && v.hart.xHi(A7) === 0;
}
