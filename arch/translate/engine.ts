/**
 * The engine: translates guest code on demand, runs it, and keeps TLBs, jump caches and translations right.
 *
 * Machine memory is the caller's; memory 1 is the engine's own and never grows, so that views of it stay valid. An
 * architecture is a `TranslateArch`: its state's layout, its ops, its page walk, its lifter, its helpers.
 *
 * Invariants:
 * - After every run the cell pc and `retired` are exact: the same instruction count and the same state whatever slices
 *   a run is cut into. A block that does not fit the rest of a budget is translated again, cut to it.
 * - Blocks link directly only within one virtual page, which the block itself runs from; every other jump goes through
 *   the vCPU's jump cache, whose entries are checked again after a flush of its TLB.
 * - A frame with translated code is in no write TLB; a store into it kills the blocks it overlaps before the next
 *   guest instruction.
 * - A reader of guest memory outside must use `translate`, a writer must call `wroteFrame`.
 */
import { Builder, MAX_INSTRUCTIONS } from "./builder.ts";
import { type Block, Cache } from "./cache.ts";
import {
  ACCESS_EXECUTE,
  ACCESS_READ,
  ACCESS_WRITE,
  EXIT_ARCH,
  EXIT_ARCH_AFTER,
  EXIT_BUDGET,
  EXIT_CONTINUE,
  EXIT_FAULT,
  EXIT_LINK,
  EXIT_LOOKUP,
  EXIT_STOP,
  HELPER_FAULT,
  type Helper,
  LIFT_TRUNCATED,
  type Lift,
  type LiftSource,
  OpSet,
  type OpSpec,
} from "./ir.ts";
import type { Layout } from "./layout.ts";
import {
  ENTRIES,
  FETCH_TLB,
  FILLS,
  FRAME_CODE,
  FRAME_FETCHED,
  FRAME_READABLE,
  FRAME_WRITABLE,
  GENERATION,
  GENERATIONS,
  HEADER_BYTES,
  JUMP_CACHE,
  jumpSlot,
  MAX_FILLS,
  MMU_BYTES,
  mmuOffset,
  READ_TLB,
  STATE_BYTES,
  tlbSlot,
  WRITE_TLB,
} from "./map.ts";
import { STOP } from "./ops/control.ts";
import { coreOps } from "./ops/index.ts";
import { Oracle } from "./oracle.ts";
import { Regions } from "./region.ts";
import type { WalkEmitter } from "./slow.ts";
import { emitTier0, type Tier0Exports, type Tier0Imports } from "./tier0.ts";

/** What an architecture gives the engine. */
export interface TranslateArch {
  readonly name: string;
  readonly layout: Layout;
  /** Its own operations, beside the core's. */
  readonly ops: readonly OpSpec[];
  /** How many sets of TLBs a vCPU has (cell mmu): 1 to 4. */
  readonly mmuIndexes: number;
  /** Writes the page walk. */
  readonly emitWalk: (w: WalkEmitter) => void;
  /** Makes the lifter for an engine's op numbers. */
  readonly lifter: (ops: OpSet) => Lift;
  /** Helpers by index; the engine is handed over once, at construction. */
  readonly helpers: (engine: Engine) => readonly Helper[];
  /**
   * An access to a page for which the walk answered 2: value in slowValue, address in slowAddress. Answers true if done,
   * false for a fault. Not needed where no walk answers 2.
   */
  readonly special?: (vcpu: TranslatedVcpu, access: number, bytes: number) => boolean;
}

export interface EngineOptions {
  /** Machine memory (memory 0) and the 4 KiB frames in it. */
  readonly memory: WebAssembly.Memory;
  readonly frames: number;
  readonly arch: TranslateArch;
  /** Bytes of memory 1 for translated code; default 256 MiB. */
  readonly codeBytes?: number;
  /** Most vCPUs at a time; default 128. */
  readonly vcpus?: number;
  /** "oracle" runs everything through the slow reference interpreter. */
  readonly tier?: "interpreter" | "oracle";
  /** Samples that make a loop hot, which is then compiled; 0: none is. Default 8. */
  readonly hotSamples?: number;
}

/** A vCPU's place in memory 1. */
export class TranslatedVcpu {
  /** Byte address of its state in memory 1. */
  readonly base: number;
  /** Guest instructions retired; exact outside of `run` (inside, see Engine.retiredNow). */
  retired = 0;
  readonly #u32: Uint32Array;
  readonly bytes: Uint8Array;
  constructor(base: number, buffer: ArrayBuffer) {
    this.base = base;
    this.#u32 = new Uint32Array(buffer);
    this.bytes = new Uint8Array(buffer, base, STATE_BYTES);
  }

  /** Reads 32 bits of the state at a multiple of 4. */
  get(offset: number): number {
    return this.#u32[(this.base + offset) >> 2] ?? 0;
  }

  /** Writes 32 bits of the state at a multiple of 4. */
  set(offset: number, value: number): void {
    this.#u32[(this.base + offset) >> 2] = value;
  }

  /** Writes 64 bits as two halves. */
  set64(offset: number, lo: number, hi: number): void {
    const at = (this.base + offset) >> 2;
    this.#u32[at] = lo;
    this.#u32[at + 1] = hi;
  }
}

/** Instructions after which the interpreter is left at first, so that the host can replace it by its optimised version. */
const SLICE = 200_000;
/** Where compiled code may be near: the first stretch of the interpreter, each further one being four times as long. */
const STRETCH = 64;
const PAGE = 65536;

export class Engine {
  readonly arch: TranslateArch;
  readonly layout: Layout;
  readonly ops: OpSet;
  readonly frames: number;
  /** Views of machine memory and of memory 1. */
  readonly physical: Uint8Array;
  readonly u8: Uint8Array;
  readonly u16: Uint16Array;
  readonly u32: Uint32Array;
  readonly i32: Int32Array;
  readonly state: WebAssembly.Memory;
  readonly cache: Cache;
  readonly #flags: Uint8Array;
  readonly #exports: Tier0Exports;
  readonly #run: (state: number, ip: number, budget: number) => number;
  readonly #builder: Builder;
  readonly #lift: Lift;
  readonly #source: LiftSource;
  readonly #bounce = new Uint8Array(64);
  readonly #helpers: readonly Helper[];
  readonly #vcpus = new Map<number, TranslatedVcpu>();
  readonly #free: number[] = [];
  readonly #regions: Regions | undefined;
  readonly #stop: number;
  readonly #goto: number;
  readonly #vcpuBytes: number;
  /** Op that has called TypeScript, 0 outside: the block it is in must not be killed under it. */
  #current = 0;
  /** The vCPU in `run`, and what its budget was when the interpreter was entered. */
  #running: TranslatedVcpu | undefined;
  #entered = 0;
  /** What the last walk by `translate` answered: 0 fault, 1 found, 2 special. */
  lastWalk = 0;
  /** Counts for statistics. */
  readonly stats = { lookups: 0, links: 0, exits: 0, kills: 0, cuts: 0 };

  constructor(options: EngineOptions) {
    const { arch, memory, frames } = options;
    if (frames * 4096 > memory.buffer.byteLength) throw new Error("more frames than memory");
    if (arch.mmuIndexes < 1 || arch.mmuIndexes > 4) throw new Error("an engine has 1 to 4 mmu indexes");
    this.arch = arch;
    this.layout = arch.layout;
    this.frames = frames;
    this.ops = new OpSet([...coreOps, ...arch.ops]);
    this.#vcpuBytes = STATE_BYTES + arch.mmuIndexes * MMU_BYTES;
    const frameFlags = PAGE;
    const firstVcpu = (frameFlags + frames + PAGE - 1) & -PAGE;
    const vcpus = options.vcpus ?? 128;
    const code = firstVcpu + vcpus * this.#vcpuBytes;
    const limit = (code + (options.codeBytes ?? 256 << 20) + PAGE - 1) & -PAGE;
    if (limit > 0x7fff0000) throw new Error("the engine's own memory would pass 2 GiB");
    for (let i = vcpus - 1; i >= 0; i--) this.#free.push(firstVcpu + i * this.#vcpuBytes);
    this.state = new WebAssembly.Memory({ initial: limit / PAGE, maximum: limit / PAGE });
    this.physical = new Uint8Array(memory.buffer);
    this.u8 = new Uint8Array(this.state.buffer);
    this.u16 = new Uint16Array(this.state.buffer);
    this.u32 = new Uint32Array(this.state.buffer);
    this.i32 = new Int32Array(this.state.buffer);
    this.#flags = new Uint8Array(this.state.buffer, frameFlags, frames);
    this.cache = new Cache(this.state.buffer as ArrayBuffer, this.#flags, code, limit);

    const bytes = emitTier0({ ops: this.ops, layout: arch.layout, frames, frameFlags, emitWalk: arch.emitWalk });
    const imports: Tier0Imports = {
      helper: (state, op, index) => this.#helper(state, op, index),
      special: (state, op, access, n) => this.#special(state, op, access, n),
      wroteCode: (_state, op, address, n) => this.#wroteCode(op, address >>> 0, n),
    };
    const instance = new WebAssembly.Instance(new WebAssembly.Module(bytes), {
      m: { physical: memory, state: this.state },
      h: { ...imports },
    });
    this.#exports = instance.exports as unknown as Tier0Exports;
    this.#builder = new Builder(this.ops);
    this.#lift = arch.lifter(this.ops);
    this.#source = { bytes: this.physical, start: 0, end: 0, pcLo: 0, pcHi: 0, mode: 0, maxInstructions: 0 };
    this.#stop = this.ops.id(STOP);
    this.#goto = this.ops.id("goto");
    this.#helpers = arch.helpers(this);
    if (options.tier === "oracle") {
      this.#regions = undefined;
      const oracle = new Oracle(this, imports);
      this.#run = (state, ip, budget) => oracle.run(state, ip, budget);
    } else {
      this.#run = this.#exports.run;
      const { slowLoad, slowStore } = this.#exports;
      const { ops, cache, layout, state } = this;
      const hot = options.hotSamples ?? 8;
      const made = { ops, cache, layout, physical: memory, state, slowLoad, slowStore, hot };
      this.#regions = hot === 0 ? undefined : new Regions(made);
    }
  }

  /** How many vCPUs there is room for now, and at most. */
  get vcpuRoom(): { readonly left: number; readonly most: number } {
    return { left: this.#free.length, most: this.#free.length + this.#vcpus.size };
  }

  /** Loops compiled so far. */
  get compiled(): number {
    return this.#regions?.made ?? 0;
  }

  /** A new vCPU with a zeroed state. Throws when there are too many (a limit of the construction). */
  createVcpu(): TranslatedVcpu {
    const base = this.#free.pop();
    if (base === undefined) throw new Error("no room for another vCPU");
    this.u8.fill(0, base, base + STATE_BYTES);
    const vcpu = new TranslatedVcpu(base, this.state.buffer as ArrayBuffer);
    this.#vcpus.set(base, vcpu);
    for (let mmu = 0; mmu < this.arch.mmuIndexes; mmu++) this.#clear(base + mmuOffset(mmu));
    return vcpu;
  }

  destroyVcpu(vcpu: TranslatedVcpu): void {
    if (this.#vcpus.delete(vcpu.base)) this.#free.push(vcpu.base);
  }

  /** The vCPU whose state is at this address (for helpers). */
  vcpuOf(state: number): TranslatedVcpu {
    const vcpu = this.#vcpus.get(state);
    if (vcpu === undefined) throw new Error("no vCPU has this state");
    return vcpu;
  }

  /**
   * Runs a vCPU for at most `budget` instructions (below 2^31) from its pc. Answers EXIT_BUDGET, EXIT_FAULT or
   * EXIT_ARCH; pc and retired are exact.
   */
  run(vcpu: TranslatedVcpu, budget: number): number {
    const { pc, exitOp: exitAt, budget: budgetAt } = this.layout.at;
    let remaining = budget;
    if (remaining <= 0) return EXIT_BUDGET;
    let ip = this.#enter(vcpu, remaining);
    if (ip < 0) return EXIT_FAULT;
    let stretch = STRETCH;
    for (;;) {
      const compiled = this.#regions?.at(ip);
      let slice = Math.min(remaining, SLICE);
      let short = false;
      if (compiled !== undefined) stretch = STRETCH;
      else if (stretch < slice && this.#regions?.near(ip) === true) {
        slice = stretch;
        stretch *= 4;
        short = true;
      }
      this.#running = vcpu;
      this.#entered = slice;
      const code =
        compiled === undefined
          ? this.#run(vcpu.base, ip, slice)
          : compiled.region.run(vcpu.base, compiled.index, slice);
      this.#running = undefined;
      const used = slice - (vcpu.get(budgetAt) | 0);
      remaining -= used;
      vcpu.retired += used;
      const op = vcpu.get(exitAt);
      this.stats.exits++;
      switch (code) {
        case EXIT_BUDGET:
          // `op` is the header of the block that did not fit, or that compiled code does not have.
          if (compiled === undefined && !short) this.#regions?.sample(op);
          if (remaining >= (this.u16[(op >> 1) + 1] ?? 0)) {
            ip = op;
            continue;
          }
          vcpu.set64(pc, this.u32[(op >> 2) + 2] ?? 0, this.u32[(op >> 2) + 3] ?? 0);
          break;
        case EXIT_LOOKUP:
          break;
        case EXIT_LINK: {
          const at = op >> 2;
          vcpu.set64(pc, this.u32[at + 2] ?? 0, this.u32[at + 3] ?? 0);
          if (remaining > 0) {
            ip = this.#linkTo(vcpu, op, remaining);
            if (ip < 0) return EXIT_FAULT;
            continue;
          }
          break;
        }
        default: {
          const block = this.cache.at(op);
          if (block === undefined) throw new Error("translated code was left outside of any block");
          const i = this.cache.owner(block, op);
          if (code === EXIT_CONTINUE || code === EXIT_ARCH_AFTER) {
            // Retired; the helper or the op has set pc.
            const back = block.count - (i + 1);
            remaining += back;
            vcpu.retired -= back;
            this.#done();
            if (code === EXIT_ARCH_AFTER) return EXIT_ARCH;
            break;
          }
          const back = block.count - i;
          remaining += back;
          vcpu.retired -= back;
          this.#setPc(vcpu, block, i);
          this.#done();
          if (code !== EXIT_STOP) return code;
        }
      }
      if (remaining <= 0) {
        this.#done();
        return EXIT_BUDGET;
      }
      ip = this.#enter(vcpu, remaining);
      if (ip < 0) return EXIT_FAULT;
    }
  }

  /** The block cut to a budget, while it runs. */
  #cut: Block | undefined;

  #done(): void {
    if (this.#cut !== undefined) {
      this.cache.pop(this.#cut);
      this.#cut = undefined;
    }
  }

  #setPc(vcpu: TranslatedVcpu, block: Block, i: number): void {
    const lo = (block.pcLo >>> 0) + this.cache.offset(block, i);
    vcpu.set64(this.layout.at.pc, lo >>> 0, block.pcHi + (lo > 0xffffffff ? 1 : 0));
  }

  /** Finds or makes the block at the vCPU's pc, and puts it into the jump cache; -1 is a fault of the fetch. */
  #enter(vcpu: TranslatedVcpu, remaining: number): number {
    this.#done();
    this.stats.lookups++;
    const block = this.#find(vcpu);
    if (block === undefined) return -1;
    if (block.count > remaining) return this.#cutTo(vcpu, remaining);
    const mmu = vcpu.get(this.layout.at.mmu);
    const part = vcpu.base + mmuOffset(mmu);
    const at = (part + JUMP_CACHE + jumpSlot(block.pcLo)) >> 2;
    this.i32[at] = block.pcLo;
    this.i32[at + 1] = block.pcHi;
    this.i32[at + 2] = block.ip;
    this.i32[at + 3] = ((this.i32[(part + GENERATION) >> 2] ?? 0) << 8) | block.mode;
    return block.ip;
  }

  /** An unlinked jump at `stub`: links it where it may be. */
  #linkTo(vcpu: TranslatedVcpu, stub: number, remaining: number): number {
    this.#done();
    const epoch = this.cache.epoch;
    const from = this.cache.at(stub);
    const target = this.#find(vcpu);
    if (target === undefined) return -1;
    this.stats.links++;
    if (from !== undefined && epoch === this.cache.epoch) {
      if (target.frame2 >= 0 || target.frame !== from.frame) {
        // Across a page: the second one may be mapped anew at any time.
        this.u16[stub >> 1] = this.#goto;
      } else if (!from.dead) {
        this.cache.link(stub - (this.u16[(stub >> 1) + 2] ?? 0), stub - HEADER_BYTES, target);
      }
    }
    return target.count > remaining ? this.#cutTo(vcpu, remaining) : target.ip;
  }

  #find(vcpu: TranslatedVcpu): Block | undefined {
    const { pc, mode: modeAt } = this.layout.at;
    const pcLo = vcpu.get(pc) | 0;
    const pcHi = vcpu.get(pc + 4) | 0;
    const mode = vcpu.get(modeAt);
    if (mode > 255) throw new Error(`${this.arch.name}: mode ${mode}, at most 255`);
    const address = this.translate(vcpu, pcLo, pcHi, ACCESS_EXECUTE);
    if (address < 0) return undefined;
    const frame = Math.floor(address / 4096);
    const known = this.cache.find(frame, pcLo, pcHi, mode);
    if (known !== undefined) {
      if (known.frame2 < 0) return known;
      const second = this.#secondPage(vcpu, pcLo, pcHi);
      if (second < 0) return undefined;
      if (Math.floor(second / 4096) === known.frame2) return known;
    }
    return this.#make(vcpu, address, pcLo, pcHi, mode, MAX_INSTRUCTIONS, true);
  }

  /** A block of exactly the instructions that the budget still allows, to be run once. */
  #cutTo(vcpu: TranslatedVcpu, remaining: number): number {
    const { pc, mode } = this.layout.at;
    const pcLo = vcpu.get(pc) | 0;
    const pcHi = vcpu.get(pc + 4) | 0;
    const address = this.translate(vcpu, pcLo, pcHi, ACCESS_EXECUTE);
    if (address < 0) return -1;
    this.stats.cuts++;
    const block = this.#make(
      vcpu,
      address,
      pcLo,
      pcHi,
      vcpu.get(mode) | 0,
      Math.min(remaining, MAX_INSTRUCTIONS),
      false,
    );
    this.#cut = block;
    return block === undefined ? -1 : block.ip;
  }

  #secondPage(vcpu: TranslatedVcpu, pcLo: number, pcHi: number): number {
    const next = ((pcLo & ~4095) + 4096) | 0;
    return this.translate(vcpu, next, next === 0 ? (pcHi + 1) | 0 : pcHi, ACCESS_EXECUTE);
  }

  /** Lifts a block; undefined is a fetch fault on the second page. */
  #make(
    vcpu: TranslatedVcpu,
    address: number,
    pcLo: number,
    pcHi: number,
    mode: number,
    maxInstructions: number,
    kept: boolean,
  ): Block | undefined {
    const source = this.#source;
    const builder = this.#builder;
    const from = address % 4096;
    builder.reset();
    source.bytes = this.physical;
    source.start = address;
    source.end = address - from + 4096;
    source.pcLo = pcLo;
    source.pcHi = pcHi;
    source.mode = mode;
    source.maxInstructions = maxInstructions;
    let frame2 = -1;
    if (this.#lift(source, builder) === LIFT_TRUNCATED) {
      const second = this.#secondPage(vcpu, pcLo, pcHi);
      if (second < 0) return undefined;
      frame2 = Math.floor(second / 4096);
      const first = 4096 - from;
      this.#bounce.set(this.physical.subarray(address, address + first));
      this.#bounce.set(this.physical.subarray(second, second + 32), first);
      builder.reset();
      source.bytes = this.#bounce;
      source.start = 0;
      source.end = first + 32;
      source.maxInstructions = 1;
      if (this.#lift(source, builder) === LIFT_TRUNCATED) throw new Error("an instruction of more than 32 bytes");
      if (builder.guestBytes <= first) frame2 = -1;
    }
    if (builder.instructions > maxInstructions) throw new Error("the lifter passed the limit of a block");
    // Links and stubs double what the builder holds at most by 8 units.
    if (!this.cache.room(builder.length + 64)) this.flushCode();
    const page = pcLo & ~4095;
    const linkable = (lo: number, hi: number): boolean =>
      kept && frame2 < 0 && (lo & ~4095) === page && (hi | 0) === (pcHi | 0);
    const words = builder.finish(this.cache.nextOps, linkable);
    const where = {
      pcLo: pcLo | 0,
      pcHi: pcHi | 0,
      mode,
      frame: Math.floor(address / 4096),
      frame2,
      from,
      bytes: builder.guestBytes,
    };
    const frame = where.frame;
    if (kept) {
      for (const crowded of [frame, frame2]) if (this.cache.crowded(crowded)) this.#invalidate(crowded, 0, 4096);
      if (((this.#flags[frame] ?? 0) & FRAME_CODE) === 0) this.#evictWrites(frame);
      if (frame2 >= 0 && ((this.#flags[frame2] ?? 0) & FRAME_CODE) === 0) this.#evictWrites(frame2);
    }
    return this.cache.add(builder, words, where, kept);
  }

  #helper(state: number, op: number, index: number): number {
    const helper = this.#helpers[index];
    if (helper === undefined) return HELPER_FAULT;
    const before = this.#current;
    this.#current = op;
    const answer = helper(state, op);
    this.#current = before;
    return answer;
  }

  #special(state: number, op: number, access: number, bytes: number): number {
    const before = this.#current;
    this.#current = op;
    const done = this.arch.special?.(this.vcpuOf(state), access, bytes) === true;
    this.#current = before;
    return done ? 1 : 0;
  }

  /** A store of translated code into a frame with code. */
  #wroteCode(op: number, address: number, bytes: number): void {
    const before = this.#current;
    this.#current = op;
    this.#invalidate(Math.floor(address / 4096), address % 4096, (address % 4096) + bytes);
    this.#current = before;
  }

  #invalidate(frame: number, from: number, to: number): void {
    this.cache.invalidate(frame, from, to, (block) => {
      this.stats.kills++;
      this.#regions?.drop(block);
      for (const vcpu of this.#vcpus.values()) {
        for (let mmu = 0; mmu < this.arch.mmuIndexes; mmu++) {
          const at = (vcpu.base + mmuOffset(mmu) + JUMP_CACHE + jumpSlot(block.pcLo)) >> 2;
          if (this.i32[at + 2] === block.ip) this.#forget(at);
        }
      }
    });
    // The running block, whose rest would be what was there before, ends after this instruction.
    if (this.#current !== 0) {
      const running = this.cache.at(this.#current);
      if (running === undefined) return;
      const first = frame === running.frame && from < running.to && to > running.from;
      const second = frame === running.frame2 && from < running.bytes2;
      if (first || second) this.#stopAfter(running, this.#current);
    }
  }

  /** Empties a jump cache entry: no stamp is -1, no block is at 0. */
  #forget(at: number): void {
    this.i32[at + 2] = 0;
    this.i32[at + 3] = -1;
  }

  /** Ends a (dead) block after the instruction that `op` belongs to. */
  #stopAfter(block: Block, op: number): void {
    const at = this.cache.after(block, op);
    if (at !== 0) this.u16[at >> 1] = this.#stop;
  }

  /** Instructions retired so far, within a helper called by `op` (its own not counted). */
  retiredNow(vcpu: TranslatedVcpu, op: number): number {
    if (this.#running !== vcpu) return vcpu.retired;
    const used = this.#entered - (vcpu.get(this.layout.at.budget) | 0);
    const block = this.cache.at(op);
    if (block === undefined) return vcpu.retired + used;
    return vcpu.retired + used - (block.count - this.cache.owner(block, op));
  }

  /** Puts the pc of the instruction that `op` belongs to into the cell pc (for helpers that need it). */
  syncPc(vcpu: TranslatedVcpu, op: number): void {
    const block = this.cache.at(op);
    if (block !== undefined) this.#setPc(vcpu, block, this.cache.owner(block, op));
  }

  // Translations.

  /** Forgets all translated code. Not from within a run's helper. */
  flushCode(): void {
    if (this.#current !== 0) throw new Error("translated code cannot be dropped while it runs");
    this.cache.clear();
    this.#regions?.clear();
    this.#cut = undefined;
    for (const vcpu of this.#vcpus.values()) {
      for (let mmu = 0; mmu < this.arch.mmuIndexes; mmu++) this.#clearJumps(vcpu.base + mmuOffset(mmu));
    }
  }

  /** Bytes [from, to) of a frame have been written by someone else than translated code. */
  wroteFrame(frame: number, from = 0, to = 4096): void {
    if (((this.#flags[frame] ?? 0) & FRAME_CODE) !== 0) this.#invalidate(frame, from, to);
  }

  /** The frame holds translated code. */
  hasCode(frame: number): boolean {
    return ((this.#flags[frame] ?? 0) & FRAME_CODE) !== 0;
  }

  // TLBs.

  /**
   * Machine byte address of a virtual address under the vCPU's present mmu index, or -1: then the walk has left the
   * arch's fault details in the state, or (`special`) the page is not memory.
   */
  translate(vcpu: TranslatedVcpu, lo: number, hi: number, access: number): number {
    const table = access === ACCESS_READ ? READ_TLB : access === ACCESS_WRITE ? WRITE_TLB : FETCH_TLB;
    const at = (vcpu.base + mmuOffset(vcpu.get(this.layout.at.mmu)) + table + tlbSlot(lo, hi)) >> 2;
    if (this.i32[at] === (lo & ~4095) && this.i32[at + 1] === (hi | 0)) return (lo + (this.i32[at + 2] ?? 0)) >>> 0;
    this.lastWalk = this.#exports.translate(vcpu.base, lo, hi, access);
    if (this.lastWalk !== 1) return -1;
    return ((vcpu.get(this.layout.at.walkPage) & ~4095) | (lo & 4095)) >>> 0;
  }

  /**
   * Copies guest bytes out; false at the first page that cannot be read (nothing promised of `into` then). Addresses
   * wrap at 2^64.
   */
  copyFromGuest(vcpu: TranslatedVcpu, lo: number, hi: number, into: Uint8Array): boolean {
    let done = 0;
    while (done < into.length) {
      const address = this.translate(vcpu, lo | 0, hi | 0, ACCESS_READ);
      if (address < 0) return false;
      const n = Math.min(into.length - done, 4096 - (address % 4096));
      into.set(this.physical.subarray(address, address + n), done);
      done += n;
      const sum = (lo >>> 0) + n;
      if (sum > 0xffffffff) hi = (hi + 1) | 0;
      lo = sum | 0;
    }
    return true;
  }

  /** Copies bytes to the guest, page by page; false at the first that cannot be written (earlier ones have been). */
  copyToGuest(vcpu: TranslatedVcpu, lo: number, hi: number, from: Uint8Array): boolean {
    let done = 0;
    while (done < from.length) {
      const address = this.translate(vcpu, lo | 0, hi | 0, ACCESS_WRITE);
      if (address < 0) return false;
      const offset = address % 4096;
      const n = Math.min(from.length - done, 4096 - offset);
      this.physical.set(from.subarray(done, done + n), address);
      this.wroteFrame(Math.floor(address / 4096), offset, offset + n);
      done += n;
      const sum = (lo >>> 0) + n;
      if (sum > 0xffffffff) hi = (hi + 1) | 0;
      lo = sum | 0;
    }
    return true;
  }

  /** Empties the vCPU's TLBs and jump caches: all, or those of one mmu index. */
  flushAll(vcpu: TranslatedVcpu, mmu = -1): void {
    for (let m = 0; m < this.arch.mmuIndexes; m++) {
      if (mmu >= 0 && m !== mmu) continue;
      const part = vcpu.base + mmuOffset(m);
      this.#flushTlb(part);
      this.#newGeneration(part);
    }
  }

  /** Drops one virtual page from the vCPU's TLBs, of every mmu index. */
  flushPage(vcpu: TranslatedVcpu, lo: number, hi: number): void {
    const slot = tlbSlot(lo, hi);
    for (let m = 0; m < this.arch.mmuIndexes; m++) {
      const part = vcpu.base + mmuOffset(m);
      this.#empty(part + READ_TLB + slot, slot);
      this.#empty(part + WRITE_TLB + slot, slot);
      this.#empty(part + FETCH_TLB + slot, slot);
      this.#newGeneration(part);
    }
  }

  /** Drops a frame from every vCPU's TLBs (it changes its type, its owner, or is freed). */
  flushFrame(frame: number): void {
    const flags = this.#flags[frame] ?? 0;
    if ((flags & FRAME_READABLE) !== 0) this.#evict(frame, READ_TLB);
    if ((flags & FRAME_WRITABLE) !== 0) this.#evict(frame, WRITE_TLB);
    if ((flags & FRAME_FETCHED) !== 0) {
      this.#evict(frame, FETCH_TLB);
      for (const vcpu of this.#vcpus.values()) {
        for (let m = 0; m < this.arch.mmuIndexes; m++) this.#newGeneration(vcpu.base + mmuOffset(m));
      }
    }
    this.#flags[frame] = flags & FRAME_CODE;
  }

  #evictWrites(frame: number): void {
    const flags = this.#flags[frame] ?? 0;
    if ((flags & FRAME_WRITABLE) === 0) return;
    this.#evict(frame, WRITE_TLB);
    this.#flags[frame] = flags & ~FRAME_WRITABLE;
  }

  #evict(frame: number, table: number): void {
    for (const vcpu of this.#vcpus.values()) {
      for (let m = 0; m < this.arch.mmuIndexes; m++) {
        const part = vcpu.base + mmuOffset(m);
        // Nothing was filled in since it was emptied.
        if (this.i32[(part + FILLS) >> 2] !== 0) this.#exports.evict(part + table, (frame * 4096) | 0);
      }
    }
  }

  #empty(address: number, slot: number): void {
    const at = address >> 2;
    this.i32[at] = slot === 0 ? 0x1000 : -1;
    this.i32[at + 1] = slot === 0 ? 0 : -1;
    this.i32[at + 2] = -1;
  }

  #flushTlb(part: number): void {
    const at = (part + FILLS) >> 2;
    const count = this.i32[at] ?? 0;
    if (count > MAX_FILLS) {
      this.#clearTlb(part);
      return;
    }
    for (let i = 1; i <= count; i++) {
      const slot = this.i32[at + i] ?? 0;
      this.#empty(part + slot, slot & (ENTRIES * 16 - 1));
    }
    this.i32[at] = 0;
  }

  /** Jump cache entries are to be checked again. */
  #newGeneration(part: number): void {
    const at = (part + GENERATION) >> 2;
    const next = (this.i32[at] ?? 0) + 1;
    if (next >= GENERATIONS) this.#clearJumps(part);
    this.i32[at] = next >= GENERATIONS ? 0 : next;
  }

  #clearJumps(part: number): void {
    const from = (part + JUMP_CACHE) >> 2;
    for (let at = from; at < from + ENTRIES * 4; at += 4) this.#forget(at);
  }

  #clearTlb(part: number): void {
    this.u8.fill(0xff, part, part + 3 * ENTRIES * 16);
    this.#empty(part + READ_TLB, 0);
    this.#empty(part + WRITE_TLB, 0);
    this.#empty(part + FETCH_TLB, 0);
    this.i32[(part + FILLS) >> 2] = 0;
  }

  #clear(part: number): void {
    this.#clearTlb(part);
    this.#clearJumps(part);
    this.i32[(part + GENERATION) >> 2] = 0;
  }
}
