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
  /**
   * Address of its header in memory 1, and of its end. There follow a byte for each unit, the instruction it belongs
   * to, and from the next even address 16 bits for each instruction, its offset from pc.
   */
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
  /** 16-byte units after the header. */
  readonly units: number;
  /** Words that link to it, and the stubs to put back: address, stub, address, stub... */
  incoming: number[] | undefined;
  dead: boolean;
  /** The next block of the same pcLo. */
  next: Block | undefined;
}

/** Blocks that a frame may have: more come only of one frame at very many virtual addresses, and each store beside code looks at all. */
const MOST_BLOCKS = 2048;

interface FrameCode {
  /** Blocks that begin in the frame. */
  blocks: number;
  readonly byPc: Map<number, Block>;
  /** Blocks from a page before that end here. */
  readonly tails: Set<Block>;
  readonly granules: Int32Array;
}

export class Cache {
  readonly #frames = new Map<number, FrameCode>();
  readonly #order: Block[] = [];
  readonly #u32: Uint32Array;
  readonly #u16: Uint16Array;
  readonly #u8: Uint8Array;
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
    this.#u16 = new Uint16Array(buffer);
    this.#u8 = new Uint8Array(buffer);
    this.#flags = flags;
    this.#start = start;
    this.#limit = limit;
    this.#top = start;
  }

  /** There is room for a block of this many words. */
  room(words: number): boolean {
    return this.#top + HEADER_BYTES + words * 5 + 256 <= this.#limit;
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

  /** Has a frame so many blocks that they should all go before another comes? */
  crowded(frame: number): boolean {
    const code = this.#frames.get(frame);
    return code !== undefined && code.blocks + code.tails.size >= MOST_BLOCKS;
  }

  /** Copies a finished block in. `kept` enters it into the index; else it is to be removed again with `pop`. */
  add(
    builder: Builder,
    words: number,
    where: { pcLo: number; pcHi: number; mode: number; frame: number; frame2: number; from: number; bytes: number },
    kept: boolean,
  ): Block {
    const ip = this.#top;
    const count = builder.instructions;
    let at = ip >> 2;
    this.#u32[at++] = count << 16;
    this.#u32[at++] = where.frame2 >= 0 ? -1 : where.frame;
    this.#u32[at++] = where.pcLo;
    this.#u32[at++] = where.pcHi;
    const from = builder.words;
    for (let i = 0; i < words; i++) this.#u32[at++] = from[i] ?? 0;
    const end = at * 4;
    const units = words >> 2;
    for (let i = 0; i < units; i++) this.#u8[end + i] = builder.owners[i] ?? 0;
    let offset = (end + units + 1) >> 1;
    for (let i = 0; i < count; i++) this.#u16[offset++] = builder.offsets[i] ?? 0;
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
      units,
      incoming: undefined,
      dead: false,
      next: undefined,
    };
    this.#top = (offset * 2 + 15) & ~15;
    this.#order.push(block);
    if (kept) {
      this.translated++;
      const code = this.#code(where.frame);
      block.next = code.byPc.get(where.pcLo);
      code.byPc.set(where.pcLo, block);
      code.blocks++;
      mark(code.granules, block.from, block.to);
      if (where.frame2 >= 0) {
        const second = this.#code(where.frame2);
        second.tails.add(block);
        mark(second.granules, 0, block.bytes2);
      }
    }
    return block;
  }

  /** The instruction, within its block, that an op belongs to. */
  owner(block: Block, op: number): number {
    return this.#u8[block.end + ((op - block.ip - HEADER_BYTES) >> 4)] ?? 0;
  }

  /** Offset of an instruction from its block's pc. */
  offset(block: Block, instruction: number): number {
    return this.#u16[((block.end + block.units + 1) >> 1) + instruction] ?? 0;
  }

  /** Address of the first op of a later instruction than the one that `op` belongs to; 0 if there is none. */
  after(block: Block, op: number): number {
    const instruction = this.owner(block, op);
    for (let unit = (op - block.ip - HEADER_BYTES) >> 4; unit < block.units; unit++) {
      if ((this.#u8[block.end + unit] ?? 0) > instruction) return block.ip + HEADER_BYTES + unit * 16;
    }
    return 0;
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
      code = { blocks: 0, byPc: new Map(), tails: new Set(), granules: new Int32Array(8) };
      this.#frames.set(frame, code);
      this.#flags[frame] = (this.#flags[frame] ?? 0) | FRAME_CODE;
    }
    return code;
  }

  /** Links the word at `word` (whose stub is `stub`) to a block. */
  link(word: number, stub: number, target: Block): void {
    this.#u32[word >> 2] = target.ip;
    if (target.incoming === undefined) target.incoming = [word, stub];
    else target.incoming.push(word, stub);
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
    for (const one of new Set(dead.flatMap((block) => [block.frame, block.frame2]))) this.#settle(one);
  }

  #kill(block: Block): void {
    if (block.dead) return;
    block.dead = true;
    const incoming = block.incoming;
    if (incoming !== undefined) {
      for (let i = 0; i < incoming.length; i += 2) this.#u32[(incoming[i] ?? 0) >> 2] = incoming[i + 1] ?? 0;
      block.incoming = undefined;
    }
    const code = this.#frames.get(block.frame);
    if (code !== undefined) {
      code.blocks--;
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
