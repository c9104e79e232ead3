/**
 * The translation cache: blocks in the code area of memory 1, found by (pc, frame, mode), and by machine frame for
 * invalidation.
 *
 * The area is filled from below and emptied as a whole when full. A block that dies is unlinked: whoever jumps to it
 * jumps to a stub again; its bytes stay until the area is emptied, so that a vCPU inside of it can finish its
 * instruction. Blocks on a frame are listed with a bitmap of 16-byte granules that hold code, for stores beside code.
 */
import type { Builder } from "./builder.ts";
import { FRAME_CODE, HEADER_BYTES } from "./map.ts";

/** A translated block. */
export interface Block {
  /** Address of its header in memory 1, and of its end. */
  readonly ip: number;
  readonly end: number;
  /** Guest instructions. */
  readonly count: number;
  readonly pcLo: number;
  readonly pcHi: number;
  readonly mode: number;
  /** Machine frame; the second one where it crosses a page, else -1. */
  readonly frame: number;
  readonly frame2: number;
  /** Byte range within the first frame; bytes on the second one. */
  readonly from: number;
  readonly to: number;
  readonly bytes2: number;
  /** Instruction of each 16-byte unit after the header; pc offset of each instruction. */
  readonly owners: Uint8Array;
  readonly offsets: Uint16Array;
  /** Words that link to it, and the stubs to put back: address, stub, address, stub... */
  incoming: number[];
  dead: boolean;
  /** The next block of the same pcLo. */
  next: Block | undefined;
}

interface FrameCode {
  readonly byPc: Map<number, Block>;
  /** Blocks from a page before that end here. */
  readonly tails: Set<Block>;
  readonly granules: Int32Array;
}

export class Cache {
  readonly #frames = new Map<number, FrameCode>();
  readonly #order: Block[] = [];
  readonly #u32: Uint32Array;
  readonly #i32: Int32Array;
  readonly #flags: Uint8Array;
  readonly #start: number;
  readonly #limit: number;
  #top: number;
  /** Times the area has been emptied. */
  epoch = 0;
  /** Blocks translated. */
  translated = 0;

  /** Code goes to [start, limit) of memory 1; `flags` has a byte for each frame. */
  constructor(buffer: ArrayBuffer, flags: Uint8Array, start: number, limit: number) {
    this.#u32 = new Uint32Array(buffer);
    this.#i32 = new Int32Array(buffer);
    this.#flags = flags;
    this.#start = start;
    this.#limit = limit;
    this.#top = start;
  }

  /** There is room for a block of this many words. */
  room(words: number): boolean {
    return this.#top + HEADER_BYTES + words * 4 + 64 <= this.#limit;
  }

  /** Where the next block's first op will be. */
  get nextOps(): number {
    return this.#top + HEADER_BYTES;
  }

  find(frame: number, pcLo: number, pcHi: number, mode: number): Block | undefined {
    let block = this.#frames.get(frame)?.byPc.get(pcLo);
    while (block !== undefined && (block.pcHi !== pcHi || block.mode !== mode)) block = block.next;
    return block;
  }

  /** The block that holds an op, by its address; undefined if none does. */
  at(op: number): Block | undefined {
    let low = 0;
    let high = this.#order.length - 1;
    while (low <= high) {
      const middle = (low + high) >> 1;
      const block = this.#order[middle];
      if (block === undefined) return undefined;
      if (op < block.ip) high = middle - 1;
      else if (op >= block.end) low = middle + 1;
      else return block;
    }
    return undefined;
  }

  /** Copies a finished block in. `kept` enters it into the index; else it is to be removed again with `pop`. */
  add(
    builder: Builder,
    words: number,
    owners: readonly number[],
    where: { pcLo: number; pcHi: number; mode: number; frame: number; frame2: number; from: number; bytes: number },
    kept: boolean,
  ): Block {
    const ip = this.#top;
    const at = ip >> 2;
    const count = builder.instructions;
    this.#u32[at] = count << 16;
    this.#u32[at + 1] = 0;
    this.#i32[at + 2] = where.pcLo;
    this.#i32[at + 3] = where.pcHi;
    this.#i32.set(builder.words.subarray(0, words), at + 4);
    const end = ip + HEADER_BYTES + words * 4;
    const to = Math.min(4096, where.from + where.bytes);
    const block: Block = {
      ip,
      end,
      count,
      pcLo: where.pcLo,
      pcHi: where.pcHi,
      mode: where.mode,
      frame: where.frame,
      frame2: where.frame2,
      from: where.from,
      to,
      bytes2: where.frame2 >= 0 ? where.from + where.bytes - to : 0,
      owners: Uint8Array.from(owners),
      offsets: Uint16Array.from(builder.offsets.subarray(0, count)),
      incoming: [],
      dead: false,
      next: undefined,
    };
    this.#top = end;
    this.#order.push(block);
    if (kept) {
      this.translated++;
      const code = this.#code(where.frame);
      block.next = code.byPc.get(where.pcLo);
      code.byPc.set(where.pcLo, block);
      mark(code.granules, block.from, block.to);
      if (where.frame2 >= 0) {
        const second = this.#code(where.frame2);
        second.tails.add(block);
        mark(second.granules, 0, block.bytes2);
      }
    }
    return block;
  }

  /** Takes the last block added out again. */
  pop(block: Block): void {
    if (this.#order[this.#order.length - 1] !== block) return;
    this.#order.pop();
    this.#top = block.ip;
  }

  #code(frame: number): FrameCode {
    let code = this.#frames.get(frame);
    if (code === undefined) {
      code = { byPc: new Map(), tails: new Set(), granules: new Int32Array(8) };
      this.#frames.set(frame, code);
      this.#flags[frame] = (this.#flags[frame] ?? 0) | FRAME_CODE;
    }
    return code;
  }

  /** Links the word at `word` (whose stub is `stub`) to a block. */
  link(word: number, stub: number, target: Block): void {
    this.#u32[word >> 2] = target.ip;
    target.incoming.push(word, stub);
  }

  /** Kills the blocks that overlap bytes [from, to) of a frame; `killed` hears of each. */
  invalidate(frame: number, from: number, to: number, killed: (block: Block) => void): void {
    const code = this.#frames.get(frame);
    if (code === undefined || !marked(code.granules, from, to)) return;
    const dead: Block[] = [];
    for (const first of code.byPc.values()) {
      for (let block: Block | undefined = first; block !== undefined; block = block.next) {
        if (block.from < to && block.to > from) dead.push(block);
      }
    }
    for (const block of code.tails) if (from < block.bytes2) dead.push(block);
    for (const block of dead) {
      this.#kill(block);
      killed(block);
    }
    for (const block of dead) {
      this.#settle(block.frame);
      if (block.frame2 >= 0) this.#settle(block.frame2);
    }
  }

  #kill(block: Block): void {
    if (block.dead) return;
    block.dead = true;
    for (let i = 0; i < block.incoming.length; i += 2) {
      this.#u32[(block.incoming[i] ?? 0) >> 2] = block.incoming[i + 1] ?? 0;
    }
    block.incoming = [];
    const code = this.#frames.get(block.frame);
    if (code !== undefined) {
      let previous: Block | undefined;
      for (let b = code.byPc.get(block.pcLo); b !== undefined && b !== block; b = b.next) previous = b;
      if (previous !== undefined) previous.next = block.next;
      else if (block.next !== undefined) code.byPc.set(block.pcLo, block.next);
      else code.byPc.delete(block.pcLo);
    }
    if (block.frame2 >= 0) this.#frames.get(block.frame2)?.tails.delete(block);
  }

  /** After kills: the granules anew, and the flag off where no code is left. */
  #settle(frame: number): void {
    const code = this.#frames.get(frame);
    if (code === undefined) return;
    if (code.byPc.size === 0 && code.tails.size === 0) {
      this.#frames.delete(frame);
      this.#flags[frame] = (this.#flags[frame] ?? 0) & ~FRAME_CODE;
      return;
    }
    code.granules.fill(0);
    for (const first of code.byPc.values()) {
      for (let block: Block | undefined = first; block !== undefined; block = block.next) {
        mark(code.granules, block.from, block.to);
      }
    }
    for (const block of code.tails) mark(code.granules, 0, block.bytes2);
  }

  /** Forgets every block. The caller clears every jump cache. */
  clear(): void {
    for (const frame of this.#frames.keys()) this.#flags[frame] = (this.#flags[frame] ?? 0) & ~FRAME_CODE;
    this.#frames.clear();
    this.#order.length = 0;
    this.#top = this.#start;
    this.epoch++;
  }
}

function mark(granules: Int32Array, from: number, to: number): void {
  for (let g = from >> 4; g <= (to - 1) >> 4; g++) granules[g >> 5] = (granules[g >> 5] ?? 0) | (1 << (g & 31));
}

function marked(granules: Int32Array, from: number, to: number): boolean {
  for (let g = from >> 4; g <= (to - 1) >> 4; g++) if (((granules[g >> 5] ?? 0) >>> (g & 31)) & 1) return true;
  return false;
}
