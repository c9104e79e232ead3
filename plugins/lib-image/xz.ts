/**
 * xz files (The .xz File Format, 1.2.0), for the library that unpacks LZMA2 and knows no filter: Linux packs its x86 kernels with the
 * filter for x86 branches (BCJ) in front of LZMA2. Where a file has that filter, its one block is handed to the library in a file of its
 * own without it, and the filter is undone here.
 *
 * Invariants: numbers that the file claims are checked against its length; what is undone here is checked by the file's CRC-32 where it has one.
 */
import { crc32 } from "node:zlib";
import xz from "xz-decompress";

/** Filters by their numbers. */
const LZMA2 = 0x21;
const BCJ_X86 = 0x04;
/** Length of a block's check by the stream's flags (section 2.1.1.2). */
const CHECK_SIZES: readonly number[] = [0, 4, 4, 4, 8, 8, 8, 16, 16, 16, 32, 32, 32, 64, 64, 64];

/** What a file with the x86 filter is made of. */
interface FilteredBlock {
  /** Properties byte of LZMA2: the size of its dictionary. */
  readonly dictionary: number;
  readonly packed: Uint8Array;
  readonly size: number;
  /** CRC-32 of the content; null: the file has another check. */
  readonly crc: number | null;
}

class Damaged extends Error {}

/** Variable-length integers (section 1.2), of 32 bits at most here. */
class Fields {
  readonly bytes: Uint8Array;
  at: number;

  constructor(bytes: Uint8Array, at: number) {
    this.bytes = bytes;
    this.at = at;
  }

  byte(): number {
    const value = this.bytes[this.at++];
    if (value === undefined) throw new Damaged("ends too early");
    return value;
  }

  number(): number {
    let value = 0;
    for (let scale = 1; scale <= 2 ** 28; scale *= 128) {
      const byte = this.byte();
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) return value;
    }
    throw new Damaged("a number is too large");
  }
}

function word(bytes: Uint8Array, at: number): number {
  if (at < 0 || at + 4 > bytes.length) throw new Damaged("ends too early");
  return new DataView(bytes.buffer, bytes.byteOffset + at, 4).getUint32(0, true);
}

/** Checks the CRC-32 that lies at `at` over the bytes from `start` to `end`. */
function checkSum(file: Uint8Array, start: number, end: number, at: number): void {
  if (start < 0 || end < start || crc32(file.subarray(start, end)) !== word(file, at))
    throw new Damaged("one of its headers is damaged");
}

/** The block of a file of one block behind the x86 filter; null: the file is of another kind, for the library as it is. */
function filteredBlock(file: Uint8Array): FilteredBlock | null {
  const check = CHECK_SIZES[file[7] ?? 0] ?? 0;
  const headerSize = ((file[12] ?? 0) + 1) * 4;
  const header = new Fields(file.subarray(0, 12 + headerSize - 4), 13);
  const flags = header.byte();
  if ((flags & 0xc0) !== 0) for (const bit of [0x40, 0x80]) if ((flags & bit) !== 0) header.number();
  const filters: { readonly id: number; readonly properties: number | null }[] = [];
  for (let i = 0; i <= (flags & 3); i++) {
    const id = header.number();
    const length = header.number();
    filters.push({ id, properties: length === 0 ? null : (header.bytes[header.at] ?? null) });
    header.at += length;
  }
  const [first, second] = filters;
  if (filters.length !== 2 || first?.id !== BCJ_X86 || second?.id !== LZMA2) return null;
  // The filter may start at an offset; Linux's does not.
  if (first.properties !== null || second.properties === null) return null;
  const footer = file.length - 12;
  const indexSize = (word(file, footer + 4) + 1) * 4;
  checkSum(file, 6, 8, 8);
  checkSum(file, 12, 12 + headerSize - 4, 12 + headerSize - 4);
  checkSum(file, footer - indexSize, footer - 4, footer - 4);
  checkSum(file, footer + 4, footer + 10, footer);
  const index = new Fields(file, footer - indexSize);
  if (index.byte() !== 0 || index.number() !== 1) return null;
  const unpadded = index.number();
  const size = index.number();
  const packedSize = unpadded - headerSize - check;
  const start = 12 + headerSize;
  if (packedSize <= 0 || start + packedSize > footer - indexSize) throw new Damaged("its index makes no sense");
  return {
    dictionary: second.properties,
    packed: file.subarray(start, start + packedSize),
    size,
    crc: file[7] === 1 ? word(file, 12 + Math.ceil((unpadded - check) / 4) * 4) : null,
  };
}

const bytesOf = (value: number, length = 4): number[] => Array.from({ length }, (_, i) => (value >>> (8 * i)) & 255);

function vli(value: number): number[] {
  const bytes: number[] = [];
  for (let rest = value; ; rest = Math.floor(rest / 128)) {
    if (rest < 128) return [...bytes, rest];
    bytes.push((rest % 128) | 0x80);
  }
}

/** `bytes` and their CRC-32. */
function sealed(bytes: readonly number[]): number[] {
  return [...bytes, ...bytesOf(crc32(Uint8Array.from(bytes)))];
}

const padded = (bytes: readonly number[]): number[] => [
  ...bytes,
  ...new Array<number>((4 - (bytes.length % 4)) % 4).fill(0),
];

/** A file of one block of LZMA2 without filter and without check. */
function plainFile(block: FilteredBlock): Uint8Array[] {
  const flags = [0, 0];
  const head = [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00, ...flags, ...bytesOf(crc32(Uint8Array.from(flags)))];
  // Size in words less one; one filter, no sizes; LZMA2 with one byte of properties; padding.
  const blockHeader = sealed([2, 0, LZMA2, 1, block.dictionary, 0, 0, 0]);
  const unpadded = blockHeader.length + block.packed.length;
  const index = sealed(padded([0, 1, ...vli(unpadded), ...vli(block.size)]));
  const tail = [...bytesOf(index.length / 4 - 1), ...flags];
  const footer = [...bytesOf(crc32(Uint8Array.from(tail))), ...tail, 0x59, 0x5a];
  const padding = (4 - (unpadded % 4)) % 4;
  return [
    Uint8Array.from([...head, ...blockHeader]),
    block.packed,
    Uint8Array.from([...new Array<number>(padding).fill(0), ...index, ...footer]),
  ];
}

const isEdge = (byte: number): boolean => byte === 0 || byte === 0xff;

/**
 * Undoes the filter for x86: targets of `call` and `jmp` (e8, e9) that the packer made absolute become relative again. Which of the bytes
 * that look like these the packer took for instructions follows from up to three such bytes right before.
 */
function undoBranches(code: Uint8Array): void {
  const view = new DataView(code.buffer, code.byteOffset, code.byteLength);
  let last = -1;
  // Bit n: the byte n + 1 places before was taken for an opcode without being converted.
  let recent = 0;
  for (let at = 0; at + 4 < code.length; at++) {
    if ((code[at]! & 0xfe) !== 0xe8) continue;
    const distance = at - last;
    last = at;
    recent = distance > 3 ? 0 : (recent << (distance - 1)) & 7;
    // How many of the operand's upper bytes may belong to an instruction before.
    const shared = recent === 0 ? 0 : recent === 1 ? 1 : recent < 4 ? 2 : 3;
    if (recent !== 0 && (![1, 2, 4].includes(recent) || isEdge(code[at + 4 - shared]!))) {
      recent = (recent << 1) | 1;
      continue;
    }
    if (!isEdge(code[at + 4]!)) {
      recent = (recent << 1) | 1;
      continue;
    }
    let absolute = view.getUint32(at + 1, true);
    let relative = (absolute - (at + 5)) >>> 0;
    while (shared !== 0 && isEdge((relative >>> (24 - shared * 8)) & 255)) {
      absolute = (relative ^ (2 ** (32 - shared * 8) - 1)) >>> 0;
      relative = (absolute - (at + 5)) >>> 0;
    }
    // 25 bits, sign-extended.
    view.setUint32(at + 1, ((relative << 7) >> 7) >>> 0, true);
    at += 4;
  }
}

/** Unpacks by the library. */
async function unpackWhole(parts: readonly Uint8Array[], limit: number): Promise<Uint8Array<ArrayBuffer>> {
  const packed = new ReadableStream<Uint8Array>({
    start(controller) {
      for (const part of parts) controller.enqueue(part);
      controller.close();
    },
  });
  const chunks: Uint8Array[] = [];
  let size = 0;
  const reader = new xz.XzReadableStream(packed).getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    chunks.push(value.slice());
    size += value.length;
    if (size > limit) throw new Damaged("too large");
  }
  const whole = new Uint8Array(size);
  let at = 0;
  for (const chunk of chunks) {
    whole.set(chunk, at);
    at += chunk.length;
  }
  return whole;
}

/**
 * Unpacks a whole .xz file.
 * @param limit most content that is accepted, in bytes
 * @throws Error: damaged, or of a kind that is not supported
 */
export async function unpackXz(file: Uint8Array, limit: number): Promise<Uint8Array> {
  const block = filteredBlock(file);
  if (block === null) return unpackWhole([file], limit);
  const content = await unpackWhole(plainFile(block), limit);
  undoBranches(content);
  if (content.length !== block.size || (block.crc !== null && crc32(content) !== block.crc))
    throw new Damaged("its check is wrong");
  return content;
}
