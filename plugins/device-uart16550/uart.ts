/**
 * A 16550A serial port (National Semiconductor's PC16550D; numbers as in linux/serial_reg.h): all registers, FIFOs of 16 bytes, loopback.
 *
 * What is sent arrives at the terminal in the same instant, so that the transmitter is always empty; the wire has no speed, but the receive timeout is
 * four characters of the programmed rate. Input stays with the terminal until the receiver has room, so that only loopback can overrun it. The
 * word length changes nothing: bytes are bytes.
 * Invariants: the terminal's input is left alone until the guest has touched the port; the interrupt line is told of changes only and is high exactly
 * while IIR says that something is pending; offsets beyond the registers read 0.
 */
import type {
  DeviceDescription,
  DeviceHost,
  DeviceRegion,
  DeviceType,
  EmulatedDevice,
  Terminal,
  Timer,
} from "hookvisor";
import { Settings } from "../lib-device/index.ts";

const FIFO = 16;
const REGISTERS = 8;
/** Bytes of the region on MMIO. */
const MMIO_SIZE = 0x100;
/** Bits of a character on the wire: start, 8 of data, stop. */
const CHARACTER_BITS = 10;
/** Characters without any after which the receiver complains of what lies in its FIFO. */
const TIMEOUT_CHARACTERS = 4;
const SECOND = 1e9;

const IER = { received: 0x01, transmit: 0x02, line: 0x04, modem: 0x08, all: 0x0f };
const IIR = { none: 0x01, modem: 0x00, transmit: 0x02, received: 0x04, line: 0x06, timeout: 0x0c, fifos: 0xc0 };
const FCR = { enable: 0x01, clearReceiver: 0x02 };
const TRIGGERS = [1, 4, 8, 14] as const;
const LCR = { breaks: 0x40, dlab: 0x80 };
const MCR = { dtr: 0x01, rts: 0x02, out1: 0x04, out2: 0x08, loop: 0x10, all: 0x1f };
const LSR = { ready: 0x01, overrun: 0x02, breaks: 0x10, empty: 0x60, errors: 0x1e, inFifo: 0x80 };
const MSR = { cts: 0x10, dsr: 0x20, ri: 0x40, dcd: 0x80, ring: 0x04 };

export interface UartConfig {
  readonly space: "mmio" | "pio";
  readonly base: number;
  /** Interrupt line; null: the guest polls. */
  readonly line: number | null;
  /** Registers are 2^shift bytes apart. */
  readonly shift: number;
  /** Hz. */
  readonly clock: number;
  /** Which of the domain's terminals. */
  readonly terminal: number;
}

/** `base=0x10000000,line=10,clock=3686400`, or for a PC `space=pio,base=0x3f8,line=4`. */
export function parseUartSpec(spec: string): UartConfig {
  const settings = new Settings("UART", spec, ["base", "line", "space", "shift", "clock", "terminal"]);
  const space = settings.choice("space", ["mmio", "pio"], "mmio");
  return {
    space,
    base: settings.required("base", 0, space === "pio" ? 0xfff8 : 2 ** 46),
    line: settings.number("line", 0, 1023, null),
    shift: settings.number("shift", 0, space === "pio" ? 0 : 4, 0),
    clock: settings.number("clock", 1, 1e9, 1_843_200),
    terminal: settings.number("terminal", 0, 255, 0),
  };
}

/** The device type. */
export const uartType: DeviceType<UartConfig> = Object.freeze({
  type: "uart16550",
  kind: "emulated",
  parse: parseUartSpec,
  deviceId(_config: UartConfig, taken: ReadonlySet<number>): number {
    let id = 0;
    while (taken.has(id)) id++;
    return id;
  },
  create: (host: DeviceHost, config: UartConfig) => new Uart(host, config),
});

class Uart implements EmulatedDevice {
  readonly kind = "emulated";
  readonly regions: readonly DeviceRegion[];
  readonly #host: DeviceHost;
  readonly #config: UartConfig;
  readonly #byte = new Uint8Array(1);
  /** Null until the guest touches the port. */
  #terminal: Terminal | null = null;
  #received: number[] = [];
  /** What lies in the receiver's FIFO has lain there for too long. */
  #timedOut = false;
  #timer: Timer | null = null;
  /** The transmitter has become empty, and nobody has been told. */
  #sent = false;
  #ier = 0;
  #fcr = 0;
  #lcr = 0;
  #mcr = 0;
  /** Errors, as LSR has them. */
  #errors = 0;
  /** Changes of modem lines, as MSR has them. */
  #changes = 0;
  #scratch = 0;
  #divisor = 1;
  #level = false;

  constructor(host: DeviceHost, config: UartConfig) {
    const { space, base, shift, line } = config;
    this.#host = host;
    this.#config = config;
    const size = space === "pio" ? REGISTERS : Math.max(MMIO_SIZE, REGISTERS << shift);
    this.regions = [{ space, base, size }];
    if (line !== null) host.interrupt(line, false);
  }

  describe(): DeviceDescription {
    const { line, shift, clock } = this.#config;
    return {
      compatible: ["ns16550a"],
      interrupts: line === null ? [] : [line],
      properties: { "clock-frequency": [clock], ...(shift === 0 ? {} : { "reg-shift": [shift] }) },
    };
  }

  reset(): void {
    this.#received = [];
    this.#timedOut = false;
    this.#sent = false;
    this.#ier = 0;
    this.#fcr = 0;
    this.#lcr = 0;
    this.#mcr = 0;
    this.#errors = 0;
    this.#changes = 0;
    this.#scratch = 0;
    this.#divisor = 1;
    this.#update();
  }

  read(_region: number, offset: number, size: number): number {
    let value = 0;
    for (let i = 0; i < size; i++) {
      const register = this.#register(offset + i);
      if (register >= 0) value = (value | (this.#get(register) << (8 * i))) >>> 0;
    }
    return value;
  }

  write(_region: number, offset: number, size: number, value: number): void {
    for (let i = 0; i < size; i++) {
      const register = this.#register(offset + i);
      if (register >= 0) this.#set(register, (value >>> (8 * i)) & 0xff);
    }
  }

  /** The register at an offset; -1: none. */
  #register(offset: number): number {
    if (this.#terminal === null) {
      this.#terminal = this.#host.services.terminal(this.#host.domain, this.#config.terminal);
      this.#terminal.onInput(() => this.#update());
    }
    const { shift } = this.#config;
    const register = offset >>> shift;
    return register < REGISTERS && register << shift === offset ? register : -1;
  }

  #get(register: number): number {
    const latch = (this.#lcr & LCR.dlab) !== 0;
    switch (register) {
      case 0: {
        if (latch) return this.#divisor & 0xff;
        const byte = this.#received.shift() ?? 0;
        this.#timedOut = false;
        this.#stopTimer();
        this.#update();
        return byte;
      }
      case 1:
        return latch ? this.#divisor >>> 8 : this.#ier;
      case 2: {
        const id = this.#pending();
        if (id === IIR.transmit) {
          this.#sent = false;
          this.#update();
        }
        return id | ((this.#fcr & FCR.enable) !== 0 ? IIR.fifos : 0);
      }
      case 3:
        return this.#lcr;
      case 4:
        return this.#mcr;
      case 5: {
        const fifo = (this.#fcr & FCR.enable) !== 0 && (this.#errors & ~LSR.overrun) !== 0 ? LSR.inFifo : 0;
        const status = LSR.empty | this.#errors | fifo | (this.#received.length > 0 ? LSR.ready : 0);
        this.#errors = 0;
        this.#update();
        return status;
      }
      case 6: {
        const status = this.#modem() | this.#changes;
        this.#changes = 0;
        this.#update();
        return status;
      }
      default:
        return this.#scratch;
    }
  }

  #set(register: number, value: number): void {
    const latch = (this.#lcr & LCR.dlab) !== 0;
    switch (register) {
      case 0:
        if (latch) this.#divisor = (this.#divisor & 0xff00) | value;
        else this.#transmit(value);
        break;
      case 1:
        if (latch) this.#divisor = (this.#divisor & 0xff) | (value << 8);
        else {
          // Asking to be told of an empty transmitter is answered at once.
          if ((value & ~this.#ier & IER.transmit) !== 0) this.#sent = true;
          this.#ier = value & IER.all;
        }
        break;
      case 2:
        if (((value ^ this.#fcr) & FCR.enable) !== 0 || (value & FCR.clearReceiver) !== 0) {
          this.#received = [];
          this.#timedOut = false;
          this.#stopTimer();
        }
        this.#fcr = (value & FCR.enable) !== 0 ? value & 0xc9 : 0;
        break;
      case 3:
        if ((value & ~this.#lcr & LCR.breaks) !== 0 && (this.#mcr & MCR.loop) !== 0) {
          this.#loop(0);
          this.#errors |= LSR.breaks;
        }
        this.#lcr = value;
        break;
      case 4: {
        const before = this.#modem();
        this.#mcr = value & MCR.all;
        const changed = (before ^ this.#modem()) >>> 4;
        // The ring indicator counts when it ends.
        this.#changes |= changed & ~MSR.ring;
        if ((changed & MSR.ring) !== 0 && (before & MSR.ri) !== 0) this.#changes |= MSR.ring;
        break;
      }
      case 7:
        this.#scratch = value;
        break;
      default:
        return;
    }
    this.#update();
  }

  #transmit(value: number): void {
    this.#sent = true;
    if ((this.#mcr & MCR.loop) !== 0) {
      this.#loop(value);
      return;
    }
    this.#byte[0] = value;
    this.#terminal!.write(this.#byte.slice());
  }

  /** A byte that comes back by the loop; what finds the receiver full is lost, or without FIFO replaces what is there. */
  #loop(value: number): void {
    if (this.#received.length >= this.#room()) {
      this.#errors |= LSR.overrun;
      if ((this.#fcr & FCR.enable) !== 0) return;
      this.#received = [];
    }
    this.#received.push(value);
    this.#stopTimer();
  }

  #room(): number {
    return (this.#fcr & FCR.enable) !== 0 ? FIFO : 1;
  }

  /** The modem lines: those of a connected terminal, or in loopback the port's own outputs. */
  #modem(): number {
    const mcr = this.#mcr;
    if ((mcr & MCR.loop) === 0) return MSR.dcd | MSR.dsr | MSR.cts;
    return (
      ((mcr & MCR.rts) !== 0 ? MSR.cts : 0) |
      ((mcr & MCR.dtr) !== 0 ? MSR.dsr : 0) |
      ((mcr & MCR.out1) !== 0 ? MSR.ri : 0) |
      ((mcr & MCR.out2) !== 0 ? MSR.dcd : 0)
    );
  }

  /** What IIR says, without the FIFO bits. */
  #pending(): number {
    const ier = this.#ier;
    if ((ier & IER.line) !== 0 && this.#errors !== 0) return IIR.line;
    if ((ier & IER.received) !== 0) {
      if (this.#received.length >= this.#trigger()) return IIR.received;
      if (this.#timedOut) return IIR.timeout;
    }
    if ((ier & IER.transmit) !== 0 && this.#sent) return IIR.transmit;
    return (ier & IER.modem) !== 0 && this.#changes !== 0 ? IIR.modem : IIR.none;
  }

  #trigger(): number {
    return (this.#fcr & FCR.enable) !== 0 ? TRIGGERS[(this.#fcr >>> 6) as 0 | 1 | 2 | 3] : 1;
  }

  /** Takes input for which there is room, and sets the interrupt line and the receive timeout. */
  #update(): void {
    const room = this.#room() - this.#received.length;
    if (room > 0 && this.#terminal !== null && (this.#mcr & MCR.loop) === 0) {
      const bytes = this.#terminal.read(room);
      if (bytes.length > 0) {
        this.#received.push(...bytes);
        this.#stopTimer();
      }
    }
    const waiting = this.#received.length;
    if (waiting === 0) {
      this.#timedOut = false;
      this.#stopTimer();
    } else if (waiting < this.#trigger() && !this.#timedOut && this.#timer === null) this.#startTimer();
    const level = this.#pending() !== IIR.none;
    if (level === this.#level) return;
    this.#level = level;
    if (this.#config.line !== null) this.#host.interrupt(this.#config.line, level);
  }

  #startTimer(): void {
    const character = (CHARACTER_BITS * 16 * Math.max(1, this.#divisor) * SECOND) / this.#config.clock;
    this.#timer = this.#host.timer(this.#host.now() + Math.ceil(TIMEOUT_CHARACTERS * character), () => {
      this.#timer = null;
      this.#timedOut = true;
      this.#update();
    });
  }

  #stopTimer(): void {
    this.#timer?.cancel();
    this.#timer = null;
  }
}
