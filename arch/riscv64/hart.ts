/**
 * One hart: its registers, its interrupts and exceptions, its runs.
 *
 * A run goes on through exceptions and interrupts, which the hart takes here (privileged specification, 4.1: sepc, scause, stval, sstatus, stvec), and ends
 * for what is the caller's. Each exception taken counts as one instruction, so that a guest whose trap vector faults uses its budget up like any other.
 *
 * An access to MMIO ends the run before its instruction; when the answer is there the instruction is done again, and takes it. No interrupt
 * comes between the two, so that a device is asked once.
 */
import type { TranslatedVcpu } from "../translate/engine.ts";
import { ACCESS_EXECUTE, ACCESS_READ, ACCESS_WRITE, EXIT_ARCH, EXIT_BUDGET } from "../translate/ir.ts";
import {
  HART_BUDGET,
  HART_ECALL,
  HART_MMIO,
  HART_PAUSE,
  HART_WFI,
  IRQ_EXTERNAL,
  IRQ_LOCAL,
  IRQ_SOFTWARE,
  IRQ_TIMER,
  type MmioAccess,
  PRIVILEGE_S,
  PRIVILEGE_U,
  type RiscvGuest,
  type RiscvHart,
} from "./cpu.ts";
import { CSR_FLUSH, CSR_NONE, readCsr, setStatus, updateMode, writeCsr } from "./csr.ts";
import { expand, REGISTER_NAMES } from "./decode.ts";
import {
  CSR_CYCLE,
  CSR_FCSR,
  CSR_INSTRET,
  CSR_SATP,
  CSR_SCAUSE,
  CSR_SCOUNTEREN,
  CSR_SENVCFG,
  CSR_SEPC,
  CSR_SIE,
  CSR_SIP,
  CSR_SSCRATCH,
  CSR_SSTATUS,
  CSR_STVAL,
  CSR_STVEC,
  CSR_TIME,
} from "./lift-system.ts";
import type { Machine } from "./machine.ts";
import {
  CAUSE_ILLEGAL,
  CAUSE_LOAD_ACCESS,
  CAUSE_STORE_ACCESS,
  DETAIL_ECALL,
  DETAIL_PAUSE,
  DETAIL_STOP,
  DETAIL_WFI,
  FAULT_FS_CLEAN,
  FAULT_MMIO,
  f,
  MODE_S,
  SIE_WRITABLE,
  SSTATUS_FS,
  SSTATUS_SIE,
  SSTATUS_SPIE,
  SSTATUS_SPP,
  STATE,
  x,
} from "./state.ts";

const at = STATE.at;

/** State of an MMIO access: none, for the caller to answer, answered, refused. */
const MMIO_NONE = 0;
const MMIO_ASKED = 1;
const MMIO_ANSWERED = 2;
const MMIO_REFUSED = 3;

/** The order in which interrupts are taken; local ones follow by number. */
const PRIORITY = [IRQ_EXTERNAL, IRQ_SOFTWARE, IRQ_TIMER];

const OPCODE_AMO = 0x2f;

const IMAGE_VERSION = 1;
/** CSRs in the order of an image, behind version and privilege, pc, x1 to x31 and f0 to f31; each takes 8 bytes. */
const IMAGE_CSRS = [
  CSR_FCSR,
  CSR_SSTATUS,
  CSR_SIE,
  CSR_SIP,
  CSR_STVEC,
  CSR_SCOUNTEREN,
  CSR_SENVCFG,
  CSR_SSCRATCH,
  CSR_SEPC,
  CSR_SCAUSE,
  CSR_STVAL,
  CSR_SATP,
];
const IMAGE_BYTES = 8 * (65 + IMAGE_CSRS.length);

export class Hart implements RiscvHart {
  readonly machine: Machine;
  readonly guest: RiscvGuest & { last: Hart | null };
  readonly t: TranslatedVcpu;
  owner: unknown = null;
  readonly mmio: MmioAccess = { gpaLo: 0, gpaHi: 0, size: 1, write: false, valueLo: 0, valueHi: 0 };
  spent = 0;
  stopRequested = false;
  #mmioState = MMIO_NONE;
  /** Exceptions taken since the hart was made. */
  #exceptions = 0;

  constructor(machine: Machine, guest: RiscvGuest & { last: Hart | null }, t: TranslatedVcpu) {
    this.machine = machine;
    this.guest = guest;
    this.t = t;
    this.reset();
  }

  reset(): void {
    const { t } = this;
    t.bytes.fill(0, 0, STATE.bytes);
    t.set(at.p2mRoot, (this.guest.p2m.root * 4096) >>> 0);
    setStatus(t, 0);
    updateMode(t, true);
    this.#mmioState = MMIO_NONE;
    this.fence();
  }

  // Registers.

  xLo(n: number): number {
    return this.t.get(x(n & 31));
  }
  xHi(n: number): number {
    return this.t.get(x(n & 31) + 4);
  }
  setX(n: number, lo: number, hi: number): void {
    if ((n & 31) !== 0) this.t.set64(x(n & 31), lo, hi);
  }
  fLo(n: number): number {
    return this.t.get(f(n & 31));
  }
  fHi(n: number): number {
    return this.t.get(f(n & 31) + 4);
  }
  setF(n: number, lo: number, hi: number): void {
    this.t.set64(f(n & 31), lo, hi);
  }
  get pcLo(): number {
    return this.t.get(at.pc);
  }
  get pcHi(): number {
    return this.t.get(at.pc + 4);
  }
  setPc(lo: number, hi: number): void {
    this.t.set64(at.pc, lo & ~1, hi);
  }
  get privilege(): number {
    return (this.t.get(at.mode) & MODE_S) !== 0 ? PRIVILEGE_S : PRIVILEGE_U;
  }
  set privilege(value: number) {
    updateMode(this.t, value !== PRIVILEGE_U);
  }
  readCsr(number: number, into: Uint32Array): boolean {
    if (number < CSR_CYCLE || number > CSR_INSTRET) return readCsr(this.t, number, into);
    const now = number === CSR_TIME ? this.machine.time(this) : this.retiredNow;
    into[0] = now >>> 0;
    into[1] = Math.floor(now / 2 ** 32) >>> 0;
    return true;
  }
  writeCsr(number: number, lo: number, hi: number): boolean {
    const answer = writeCsr(this.t, number, lo, hi);
    if (answer === CSR_FLUSH) this.flushTranslations();
    return answer !== CSR_NONE;
  }

  // Interrupts.

  setPin(cause: number, level: boolean): boolean {
    const local = cause >= IRQ_LOCAL && cause < 32;
    if (!local && !PRIORITY.includes(cause)) return false;
    const bit = 1 << cause;
    const now = this.t.get(at.sip);
    this.t.set(at.sip, level ? now | bit : now & ~bit);
    return true;
  }
  pin(cause: number): boolean {
    return cause < 32 && ((this.t.get(at.sip) >>> cause) & 1) !== 0;
  }
  get interruptPending(): boolean {
    return (this.t.get(at.sip) & this.t.get(at.sie)) !== 0;
  }
  get interruptDeliverable(): boolean {
    const { t } = this;
    if ((t.get(at.sip) & t.get(at.sie)) === 0) return false;
    return (t.get(at.mode) & MODE_S) === 0 || (t.get(at.sstatus) & SSTATUS_SIE) !== 0;
  }

  /** Takes the interrupt of the highest priority. */
  #interrupt(): void {
    const { t } = this;
    const pending = t.get(at.sip) & t.get(at.sie);
    let cause = PRIORITY.find((n) => ((pending >>> n) & 1) !== 0);
    // the lowest of what is left
    cause ??= 31 - Math.clz32(pending & -pending);
    this.#enter(0x8000_0000, cause, 0, 0);
    // vectored: base + 4 * cause
    if ((t.get(at.stvec) & 1) !== 0) {
      const sum = t.get(at.pc) + 4 * cause;
      t.set64(at.pc, sum, t.get(at.pc + 4) + (sum > 0xffffffff ? 1 : 0));
    }
  }

  #exception(cause: number, lo: number, hi: number): void {
    this.#exceptions++;
    this.#enter(0, cause, lo, hi);
  }

  #enter(causeHi: number, cause: number, valueLo: number, valueHi: number): void {
    const { t } = this;
    t.set64(at.sepc, t.get(at.pc), t.get(at.pc + 4));
    t.set64(at.scause, cause, causeHi);
    t.set64(at.stval, valueLo, valueHi);
    const status = t.get(at.sstatus);
    const supervisor = (t.get(at.mode) & MODE_S) !== 0;
    const kept = status & ~(SSTATUS_SIE | SSTATUS_SPIE | SSTATUS_SPP);
    const was = (status & SSTATUS_SIE) !== 0 ? SSTATUS_SPIE : 0;
    t.set(at.sstatus, kept | was | (supervisor ? SSTATUS_SPP : 0));
    t.set(at.reserved, 0);
    t.set64(at.pc, t.get(at.stvec) & ~3, t.get(at.stvec + 4));
    updateMode(t, true);
  }

  /** The instruction at pc is illegal: the fault cells say so. */
  illegalHere(): void {
    const { t } = this;
    const word = this.#instruction();
    t.set(at.faultCause, CAUSE_ILLEGAL);
    t.set64(at.faultValue, word, 0);
  }

  /** The instruction at pc, 16 or 32 bits; 0 where it cannot be read. */
  #instruction(): number {
    const { engine } = this.machine;
    const { physical } = engine;
    const lo = this.t.get(at.pc);
    const hi = this.t.get(at.pc + 4);
    const half = (from: number): number => {
      const sum = lo + from;
      const address = engine.translate(this.t, sum | 0, (hi + (sum > 0xffffffff ? 1 : 0)) | 0, ACCESS_EXECUTE);
      return address < 0 ? -1 : (physical[address] ?? 0) | ((physical[address + 1] ?? 0) << 8);
    };
    const first = half(0);
    if (first < 0) return 0;
    if ((first & 3) !== 3) return first;
    const second = half(2);
    return second < 0 ? first : (first | (second << 16)) >>> 0;
  }

  // Runs.

  run(budget: number): number {
    const { t, machine, guest } = this;
    const { engine } = machine;
    if (guest.last !== this) {
      if (guest.last !== null) guest.last.t.set(at.reserved, 0);
      guest.last = this;
    }
    this.stopRequested = false;
    this.spent = 0;
    if (this.#mmioState === MMIO_ASKED) return HART_MMIO;
    if (this.#mmioState === MMIO_REFUSED && budget > 0) {
      this.#mmioState = MMIO_NONE;
      this.spent = 1;
      // where and what it was is known from the fault
      this.#exception(this.mmio.write ? CAUSE_STORE_ACCESS : CAUSE_LOAD_ACCESS, this.#mmioVaLo, this.#mmioVaHi);
    }
    if (this.#mmioState === MMIO_ANSWERED && !this.#asksAgain()) this.#mmioState = MMIO_NONE;
    while (this.spent < budget) {
      const interrupted = this.interruptDeliverable;
      if (this.#mmioState === MMIO_NONE && interrupted) this.#interrupt();
      const from = t.retired;
      // what is answered is taken by the very next instruction, before an interrupt
      const slice = this.#mmioState !== MMIO_NONE && interrupted ? 1 : budget - this.spent;
      const code = engine.run(t, slice);
      this.spent += t.retired - from;
      if (code === EXIT_BUDGET) {
        this.#mmioState = MMIO_NONE;
        continue;
      }
      if (code === EXIT_ARCH) {
        this.#mmioState = MMIO_NONE;
        const detail = t.get(at.exitDetail);
        if (detail === DETAIL_ECALL) return HART_ECALL;
        if (detail === DETAIL_WFI) return HART_WFI;
        if (detail === DETAIL_PAUSE) return HART_PAUSE;
        if (detail === DETAIL_STOP) return HART_BUDGET;
        continue;
      }
      const cause = t.get(at.faultCause);
      if (cause === FAULT_FS_CLEAN) {
        setStatus(t, t.get(at.sstatus) | SSTATUS_FS);
        updateMode(t, (t.get(at.mode) & MODE_S) !== 0);
        continue;
      }
      // an atomic access is no device's
      if (cause === FAULT_MMIO && this.#mmioState === MMIO_ASKED) {
        this.#mmioWord = this.#instruction();
        if ((this.#mmioWord & 0x7f) !== OPCODE_AMO) return HART_MMIO;
      }
      this.#mmioState = MMIO_NONE;
      this.spent++;
      if (cause !== FAULT_MMIO) this.#exception(cause, t.get(at.faultValue), t.get(at.faultValue + 4));
      else this.#accessFault();
    }
    return HART_BUDGET;
  }

  /** The instruction that was left for MMIO, and its address operand. */
  #mmioWord = 0;
  #mmioVaLo = 0;
  #mmioVaHi = 0;

  /** The next instruction will make the access that has been answered: no other hart has changed it, or where it leads. */
  #asksAgain(): boolean {
    const { t, mmio } = this;
    const { engine } = this.machine;
    if (this.#instruction() !== this.#mmioWord) return false;
    const access = mmio.write ? ACCESS_WRITE : ACCESS_READ;
    if (engine.translate(t, this.#mmioVaLo | 0, this.#mmioVaHi | 0, access) >= 0 || engine.lastWalk !== 2) return false;
    return t.get(at.walkGpa) === mmio.gpaLo && t.get(at.walkGpa + 4) === mmio.gpaHi;
  }

  /** An access to MMIO that no device can be asked for: of two pages, or atomic. */
  #accessFault(): void {
    const cause = this.mmio.write ? CAUSE_STORE_ACCESS : CAUSE_LOAD_ACCESS;
    this.#exception(cause, this.#mmioVaLo, this.#mmioVaHi);
  }

  /** From the engine: an access to a page that is no memory, of `bytes` (0: it cannot be one). True: it is done. */
  special(write: boolean, bytes: number): boolean {
    const { t, mmio } = this;
    const same = mmio.gpaLo === t.get(at.walkGpa) && mmio.gpaHi === t.get(at.walkGpa + 4) && mmio.size === bytes;
    if (this.#mmioState === MMIO_ANSWERED && same && mmio.write === write) {
      this.#mmioState = MMIO_NONE;
      if (!mmio.write) t.set64(at.slowValue, mmio.valueLo, mmio.valueHi);
      return true;
    }
    this.#mmioVaLo = t.get(at.slowAddress);
    this.#mmioVaHi = t.get(at.slowAddress + 4);
    mmio.write = write;
    if (bytes !== 1 && bytes !== 2 && bytes !== 4 && bytes !== 8) return false;
    mmio.gpaLo = t.get(at.walkGpa);
    mmio.gpaHi = t.get(at.walkGpa + 4);
    mmio.size = bytes;
    mmio.valueLo = write ? t.get(at.slowValue) & (bytes >= 4 ? -1 : (1 << (8 * bytes)) - 1) : 0;
    mmio.valueLo >>>= 0;
    mmio.valueHi = write && bytes === 8 ? t.get(at.slowValue + 4) : 0;
    this.#mmioState = MMIO_ASKED;
    return false;
  }

  get retiredNow(): number {
    const { engine, currentOp } = this.machine;
    return this.#exceptions + (currentOp === 0 ? this.t.retired : engine.retiredNow(this.t, currentOp));
  }
  requestStop(): void {
    this.stopRequested = true;
  }
  finishMmio(lo: number, hi: number): void {
    if (this.#mmioState !== MMIO_ASKED) return;
    this.#mmioState = MMIO_ANSWERED;
    this.mmio.valueLo = lo >>> 0;
    this.mmio.valueHi = hi >>> 0;
  }
  failMmio(): void {
    if (this.#mmioState === MMIO_ASKED) this.#mmioState = MMIO_REFUSED;
  }

  // Memory.

  translate(lo: number, hi: number, access: number): number {
    return this.machine.engine.translate(this.t, lo | 0, hi | 0, access);
  }
  read(lo: number, hi: number, into: Uint8Array): boolean {
    return this.#reach(lo, hi, into.length, ACCESS_READ) && this.machine.engine.copyFromGuest(this.t, lo, hi, into);
  }
  write(lo: number, hi: number, from: Uint8Array): boolean {
    return this.#reach(lo, hi, from.length, ACCESS_WRITE) && this.machine.engine.copyToGuest(this.t, lo, hi, from);
  }
  #reach(lo: number, hi: number, length: number, access: number): boolean {
    for (let done = 0; done < length; done += 4096 - (((lo >>> 0) + done) & 4095)) {
      const sum = (lo >>> 0) + done;
      if (this.translate(sum | 0, (hi + (sum > 0xffffffff ? 1 : 0)) | 0, access) < 0) return false;
    }
    return true;
  }
  fence(): void {
    this.flushTranslations();
    this.t.set64(at.superLow, -1, -1);
    this.t.set64(at.superHigh, 0, 0);
  }
  fencePage(lo: number, hi: number): void {
    const { t } = this;
    // page numbers have 52 bits: a number holds them exactly
    const page = (hi >>> 0) * 2 ** 20 + (lo >>> 12);
    const low = t.get(at.superLow + 4) * 2 ** 32 + t.get(at.superLow);
    const high = t.get(at.superHigh + 4) * 2 ** 32 + t.get(at.superHigh);
    // a superpage that is there has left its translation in any of its pages
    if (page >= low && page < high) this.fence();
    else this.machine.engine.flushPage(t, lo | 0, hi | 0);
  }
  /** All soft-TLBs of the hart are empty. */
  flushTranslations(): void {
    this.machine.engine.flushAll(this.t);
  }

  save(): Uint8Array {
    const image = new Uint8Array(IMAGE_BYTES);
    const view = new DataView(image.buffer);
    let to = 0;
    const put = (lo: number, hi: number): void => {
      view.setUint32(to, lo, true);
      view.setUint32(to + 4, hi, true);
      to += 8;
    };
    put(IMAGE_VERSION, this.privilege);
    put(this.pcLo, this.pcHi);
    for (let n = 1; n < 32; n++) put(this.xLo(n), this.xHi(n));
    for (let n = 0; n < 32; n++) put(this.fLo(n), this.fHi(n));
    const words = new Uint32Array(2);
    for (const csr of IMAGE_CSRS) {
      this.readCsr(csr, words);
      put(words[0] ?? 0, words[1] ?? 0);
    }
    return image;
  }
  restore(image: Uint8Array): boolean {
    if (image.length !== IMAGE_BYTES) return false;
    const view = new DataView(image.buffer, image.byteOffset, image.byteLength);
    const word = (n: number): readonly [number, number] => [
      view.getUint32(8 * n, true),
      view.getUint32(8 * n + 4, true),
    ];
    const [version, privilege] = word(0);
    if (version !== IMAGE_VERSION || privilege > PRIVILEGE_S) return false;
    this.reset();
    this.setPc(...word(1));
    for (let n = 1; n < 32; n++) this.setX(n, ...word(1 + n));
    for (let n = 0; n < 32; n++) this.setF(n, ...word(33 + n));
    IMAGE_CSRS.forEach((csr, n) => {
      this.writeCsr(csr, ...word(65 + n));
    });
    // pins too, which no guest can write
    const [pending] = word(65 + IMAGE_CSRS.indexOf(CSR_SIP));
    this.t.set(at.sip, pending & SIE_WRITABLE);
    this.privilege = privilege;
    this.fence();
    return true;
  }

  describe(): string {
    const hex = (hi: number, lo: number): string =>
      (hi >>> 0).toString(16).padStart(8, "0") + (lo >>> 0).toString(16).padStart(8, "0");
    const csr = (name: string, offset: number): string =>
      `${name.padEnd(7)} ${hex(this.t.get(offset + 4), this.t.get(offset))}`;
    const lines: string[] = [];
    for (let n = 0; n < 32; n += 4) {
      lines.push(
        [n, n + 1, n + 2, n + 3]
          .map((k) => `${(REGISTER_NAMES[k] ?? "").padEnd(4)} ${hex(this.xHi(k), this.xLo(k))}`)
          .join("  "),
      );
    }
    lines.push(`pc   ${hex(this.pcHi, this.pcLo)}  ${this.privilege === PRIVILEGE_S ? "S" : "U"}-mode`);
    lines.push([csr("sstatus", at.sstatus), csr("scause", at.scause), csr("sepc", at.sepc)].join("  "));
    lines.push([csr("stval", at.stval), csr("stvec", at.stvec), csr("satp", at.satp)].join("  "));
    lines.push([csr("sie", at.sie), csr("sip", at.sip), csr("scratch", at.sscratch)].join("  "));
    const faults = [at.faultCause, at.faultValue, at.faultValue + 4].map((o) => [o, this.t.get(o)] as const);
    const word = this.#instruction();
    for (const [offset, value] of faults) this.t.set(offset, value);
    lines.push(
      `code ${word.toString(16).padStart((word & 3) === 3 ? 8 : 4, "0")}${(word & 3) === 3 ? "" : ` (${(expand(word) >>> 0).toString(16).padStart(8, "0")})`}`,
    );
    return lines.join("\n");
  }
}
