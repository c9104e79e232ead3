/**
 * ELF64 headers of a kernel image, checked to the last byte before anything is believed.
 *
 * Design: parsing gives plain tables of segments and sections whose file ranges lie within the image; the contents stay where
 * they are. Addresses are bigint: this runs once a domain. Facts: System V ABI, ELF-64 object file format.
 *
 * Invariants: every failure is an ImageError of one sentence that names the image; no allocation depends on a number that the
 * image claims, except tables that lie within the file.
 */
import { ImageError } from "hookvisor";

/** Program header types. */
export const PT_LOAD = 1;
export const PT_NOTE = 4;
/** Section header types. */
export const SHT_NOTE = 7;
const SHT_NOBITS = 8;

/** Most program and section headers read: no kernel has more, and a hostile one costs no more. */
const MAX_HEADERS = 256;

export interface Segment {
  readonly type: number;
  readonly offset: number;
  readonly fileSize: number;
  readonly virtual: bigint;
  readonly physical: bigint;
  readonly memorySize: bigint;
}

export interface Section {
  readonly name: string;
  readonly type: number;
  readonly offset: number;
  readonly size: number;
}

export interface ElfImage {
  readonly name: string;
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly entry: bigint;
  readonly segments: readonly Segment[];
  readonly sections: readonly Section[];
}

/** Machines that a person may hand over by mistake. */
const MACHINES: Readonly<Record<number, string>> = {
  2: "SPARC",
  8: "MIPS",
  20: "PowerPC",
  21: "64-bit PowerPC",
  40: "32-bit ARM",
  43: "64-bit SPARC",
  183: "64-bit ARM",
  243: "RISC-V",
};

function starts(bytes: Uint8Array, at: number, ...values: number[]): boolean {
  return values.every((value, i) => bytes[at + i] === value);
}

/** What the file is instead of an ELF kernel, for the message. */
function otherKind(bytes: Uint8Array): string {
  if (starts(bytes, 0x202, 0x48, 0x64, 0x72, 0x53))
    return "is a compressed Linux kernel (bzImage), which this version cannot unpack; extract its vmlinux and give that";
  if (starts(bytes, 0, 0x1f, 0x8b)) return "is compressed with gzip; unpack it first";
  if (starts(bytes, 0, 0xfd, 0x37, 0x7a, 0x58, 0x5a)) return "is compressed with xz; unpack it first";
  if (starts(bytes, 0, 0x28, 0xb5, 0x2f, 0xfd)) return "is compressed with zstd; unpack it first";
  return "is not an ELF file, and a kernel for a PV domain must be one";
}

/** Parses the headers of an x86-64 ELF image; `name` is for messages. Throws ImageError. */
export function parseElf(bytes: Uint8Array, name: string): ElfImage {
  const fail = (what: string): never => {
    throw new ImageError(`Kernel ${name} ${what}.`);
  };
  if (bytes.length === 0) fail("is empty");
  if (!starts(bytes, 0, 0x7f, 0x45, 0x4c, 0x46)) {
    if (bytes.length < 16 && [0x7f, 0x45, 0x4c, 0x46].every((b, i) => i >= bytes.length || bytes[i] === b))
      fail(`is truncated: ${bytes.length} bytes are less than an ELF header`);
    fail(otherKind(bytes));
  }
  if (bytes.length < 64) fail(`is truncated: ${bytes.length} bytes are less than an ELF header`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const little = bytes[5] === 1;
  const machine = view.getUint16(18, little);
  if (machine === 3)
    fail("is a 32-bit x86 image: the 32-bit PV interface is not supported yet, give a 64-bit PV kernel");
  if (machine !== 62) fail(`is for another machine (${MACHINES[machine] ?? `ELF machine ${machine}`}), not for x86-64`);
  if (bytes[4] !== 2 || !little) fail("is an x86-64 image in a 32-bit or big-endian ELF file, which no PV kernel is");
  const number = (at: number, what: string): number => {
    const value = view.getBigUint64(at, true);
    if (value > 0xffffffffn) fail(`has a damaged header: its ${what} is 0x${value.toString(16)}`);
    return Number(value);
  };
  const range = (offset: number, size: number, what: string): void => {
    if (offset + size > bytes.length)
      fail(`is truncated: its ${what} ends at byte ${offset + size} and the file at ${bytes.length}`);
  };

  const segments: Segment[] = [];
  const programCount = view.getUint16(56, true);
  if (programCount > 0) {
    const table = number(32, "program header offset");
    const step = view.getUint16(54, true);
    if (step < 56) fail(`has a damaged header: its program headers are ${step} bytes each instead of 56`);
    if (programCount > MAX_HEADERS)
      fail(`has ${programCount} program headers, and ${MAX_HEADERS} is the most supported`);
    range(table, step * programCount, "program header table");
    for (let i = 0; i < programCount; i++) {
      const at = table + i * step;
      const type = view.getUint32(at, true);
      if (type !== PT_LOAD && type !== PT_NOTE) continue;
      const segment: Segment = {
        type,
        offset: number(at + 8, `segment ${i}'s file offset`),
        virtual: view.getBigUint64(at + 16, true),
        physical: view.getBigUint64(at + 24, true),
        fileSize: number(at + 32, `segment ${i}'s file size`),
        memorySize: view.getBigUint64(at + 40, true),
      };
      range(segment.offset, segment.fileSize, `segment ${i}`);
      if (type === PT_LOAD && segment.memorySize < BigInt(segment.fileSize))
        fail(`has a damaged header: segment ${i} is larger in the file than in memory`);
      segments.push(segment);
    }
  }
  return {
    name,
    bytes,
    view,
    entry: view.getBigUint64(24, true),
    segments,
    sections: parseSections(bytes, view),
  };
}

/** The section table as far as it lies within the file: a stripped or damaged one is no error, segments rule. */
function parseSections(bytes: Uint8Array, view: DataView): Section[] {
  const table = view.getBigUint64(40, true);
  const step = view.getUint16(58, true);
  const count = Math.min(view.getUint16(60, true), MAX_HEADERS);
  const names = view.getUint16(62, true);
  if (table === 0n || step < 64 || table + BigInt(step * count) > BigInt(bytes.length)) return [];
  const raw: { name: number; type: number; offset: number; size: number }[] = [];
  for (let i = 0; i < count; i++) {
    const at = Number(table) + i * step;
    const type = view.getUint32(at + 4, true);
    const offset = view.getBigUint64(at + 24, true);
    const size = view.getBigUint64(at + 32, true);
    const inside = type !== SHT_NOBITS && offset + size <= BigInt(bytes.length);
    raw.push({
      name: view.getUint32(at, true),
      type,
      offset: inside ? Number(offset) : 0,
      size: inside ? Number(size) : 0,
    });
  }
  const strings = raw[names];
  return raw.map(({ name, type, offset, size }) => ({
    name: strings === undefined ? "" : text(bytes, strings.offset + name, strings.offset + strings.size),
    type,
    offset,
    size,
  }));
}

/** The characters from `from` up to a NUL, `end` or the end of the file; at most 4096. */
export function text(bytes: Uint8Array, from: number, end: number): string {
  let out = "";
  const limit = Math.min(end, bytes.length, from + 4096);
  for (let i = from; i < limit && bytes[i] !== 0; i++) out += String.fromCharCode(bytes[i]!);
  return out;
}
