/**
 * The platform-level interrupt controller of RISC-V (RISC-V PLIC specification 1.0.0), with one context a hart: its S-mode.
 *
 * All sources are level-triggered. A source's gateway forwards one request at a time: pending is set when its line is high and no request of it is under
 * way, stays until it is claimed, whatever the line does, and can be set again after the completion. A context's output is a pin of its hart
 * (cause 9, supervisor external interrupt): some source is pending, enabled and above the context's threshold.
 * Invariants: source 0 does not exist; priorities and thresholds are 0 to 7, and 0 never interrupts; registers of sources and contexts that do not exist read 0
 * and take no write; only aligned accesses of 4 bytes do anything; a pin is told of changes only.
 */
import {
  ConfigError,
  type DeviceDescription,
  type DeviceHost,
  type DeviceRegion,
  type DeviceType,
  type EmulatedDevice,
  type InterruptController,
} from "hookvisor";
import { Settings } from "../lib-device/index.ts";

/** Bytes of its region: what the specification's memory map takes. */
export const PLIC_SIZE = 0x400_0000;
/** Sources at most, 0 (which is none) not counted. */
const MOST_SOURCES = 1023;
/** Contexts at most that fit into the region. */
const MOST_HARTS = 4096;
const HIGHEST_PRIORITY = 7;
/** scause of a supervisor external interrupt. */
const PIN = 9;

/** Memory map: offsets of priorities, pending bits, enables (0x80 bytes a context), thresholds and claims (0x1000 bytes a context). */
const AT = { pending: 0x1000, enable: 0x2000, context: 0x20_0000 };
const ENABLE_STRIDE = 0x80;
const CONTEXT_STRIDE = 0x1000;

export interface PlicConfig {
  readonly base: number;
  readonly sources: number;
  readonly harts: number;
}

/** `base=0xc000000,harts=4,sources=95`. */
export function parsePlicSpec(spec: string): PlicConfig {
  const settings = new Settings("PLIC", spec, ["base", "harts", "sources"]);
  return {
    base: settings.number("base", 0, 2 ** 46, 0xc00_0000),
    harts: settings.number("harts", 1, MOST_HARTS, 1),
    sources: settings.number("sources", 1, MOST_SOURCES, 95),
  };
}

/** The device type. */
export const plicType: DeviceType<PlicConfig> = Object.freeze({
  type: "plic",
  kind: "emulated",
  parse: parsePlicSpec,
  deviceId: () => 0,
  create: (host: DeviceHost, config: PlicConfig) => new Plic(host, config),
});

/** What one context has. */
interface Context {
  readonly enabled: Int32Array;
  threshold: number;
  output: boolean;
}

class Plic implements EmulatedDevice {
  readonly kind = "emulated";
  readonly regions: readonly DeviceRegion[];
  readonly controller: InterruptController = { line: (line, level) => this.#line(line, level) };
  readonly #host: DeviceHost;
  readonly #sources: number;
  readonly #priority: Uint8Array;
  /** Bits by source: the line is high; a request waits; one has been claimed and is not completed. */
  readonly #high: Int32Array;
  readonly #pending: Int32Array;
  readonly #claimed: Int32Array;
  /** Bits that exist. */
  readonly #mask: Int32Array;
  readonly #contexts: readonly Context[];

  constructor(host: DeviceHost, { base, sources, harts }: PlicConfig) {
    const words = (sources >>> 5) + 1;
    this.#host = host;
    this.regions = [{ space: "mmio", base, size: PLIC_SIZE }];
    this.#sources = sources;
    this.#priority = new Uint8Array(sources + 1);
    this.#high = new Int32Array(words);
    this.#pending = new Int32Array(words);
    this.#claimed = new Int32Array(words);
    this.#mask = new Int32Array(words);
    for (let source = 1; source <= sources; source++) setBit(this.#mask, source, true);
    this.#contexts = Array.from({ length: harts }, () => ({
      enabled: new Int32Array(words),
      threshold: 0,
      output: false,
    }));
  }

  describe(): DeviceDescription {
    return {
      compatible: ["sifive,plic-1.0.0", "riscv,plic0"],
      interrupts: [],
      properties: {
        "interrupt-controller": true,
        "#interrupt-cells": [1],
        "#address-cells": [0],
        "riscv,ndev": [this.#sources],
      },
    };
  }

  /** As after power-on; the lines are as their devices hold them. */
  reset(): void {
    this.#priority.fill(0);
    this.#pending.fill(0);
    this.#claimed.fill(0);
    for (const context of this.#contexts) {
      context.enabled.fill(0);
      context.threshold = 0;
    }
    for (let word = 0; word < this.#high.length; word++) this.#pending[word] = this.#high[word]!;
    this.#drive();
  }

  #line(line: number, level: boolean): void {
    if (!Number.isInteger(line) || line < 1 || line > this.#sources)
      throw new ConfigError(`There is no interrupt line ${line}; the PLIC has lines 1 to ${this.#sources}.`);
    if (bit(this.#high, line) === level) return;
    setBit(this.#high, line, level);
    if (!level || bit(this.#pending, line) || bit(this.#claimed, line)) return;
    setBit(this.#pending, line, true);
    this.#drive();
  }

  /** Sets the pins. */
  #drive(): void {
    for (const [hart, context] of this.#contexts.entries()) {
      const output = this.#best(context, context.threshold) !== 0;
      if (output === context.output) continue;
      context.output = output;
      this.#host.pin(hart, PIN, output);
    }
  }

  /** The pending, enabled source of the highest priority above `over`, of equal ones the lowest; 0: none. */
  #best({ enabled }: Context, over: number): number {
    let best = 0;
    let highest = over;
    for (let word = 0; word < enabled.length; word++) {
      let bits = enabled[word]! & this.#pending[word]!;
      while (bits !== 0) {
        const source = (word << 5) + 31 - Math.clz32(bits & -bits);
        const priority = this.#priority[source]!;
        if (priority > highest) {
          best = source;
          highest = priority;
        }
        bits &= bits - 1;
      }
    }
    return best;
  }

  read(_region: number, offset: number, size: number): number {
    if (size !== 4 || offset % 4 !== 0) return 0;
    if (offset < AT.pending) return this.#priority[offset >>> 2] ?? 0;
    if (offset < AT.enable) return (this.#pending[(offset - AT.pending) >>> 2] ?? 0) >>> 0;
    if (offset < AT.context) {
      const at = offset - AT.enable;
      const context = this.#contexts[Math.floor(at / ENABLE_STRIDE)];
      return (context?.enabled[(at % ENABLE_STRIDE) >>> 2] ?? 0) >>> 0;
    }
    const at = offset - AT.context;
    const context = this.#contexts[Math.floor(at / CONTEXT_STRIDE)];
    if (context === undefined) return 0;
    const register = at % CONTEXT_STRIDE;
    return register === 0 ? context.threshold : register === 4 ? this.#claim(context) : 0;
  }

  write(_region: number, offset: number, size: number, value: number): void {
    if (size !== 4 || offset % 4 !== 0) return;
    if (offset < AT.pending) {
      const source = offset >>> 2;
      if (source < 1 || source > this.#sources) return;
      this.#priority[source] = value & HIGHEST_PRIORITY;
    } else if (offset < AT.enable) return;
    else if (offset < AT.context) {
      const at = offset - AT.enable;
      const context = this.#contexts[Math.floor(at / ENABLE_STRIDE)];
      const word = (at % ENABLE_STRIDE) >>> 2;
      if (context === undefined || word >= this.#mask.length) return;
      context.enabled[word] = value & this.#mask[word]!;
    } else {
      const at = offset - AT.context;
      const context = this.#contexts[Math.floor(at / CONTEXT_STRIDE)];
      if (context === undefined) return;
      const register = at % CONTEXT_STRIDE;
      if (register === 0) context.threshold = value & HIGHEST_PRIORITY;
      else if (register === 4) this.#complete(context, value);
      else return;
    }
    this.#drive();
  }

  /** The threshold does not matter for what can be claimed. */
  #claim(context: Context): number {
    const source = this.#best(context, 0);
    if (source === 0) return 0;
    setBit(this.#pending, source, false);
    setBit(this.#claimed, source, true);
    this.#drive();
    return source;
  }

  /** Completion of a source that the context has not enabled is ignored. */
  #complete({ enabled }: Context, source: number): void {
    if (source < 1 || source > this.#sources || !bit(enabled, source) || !bit(this.#claimed, source)) return;
    setBit(this.#claimed, source, false);
    if (bit(this.#high, source)) setBit(this.#pending, source, true);
  }
}

function bit(bits: Int32Array, at: number): boolean {
  return ((bits[at >>> 5]! >>> (at & 31)) & 1) === 1;
}

function setBit(bits: Int32Array, at: number, value: boolean): void {
  if (value) bits[at >>> 5]! |= 1 << (at & 31);
  else bits[at >>> 5]! &= ~(1 << (at & 31));
}
