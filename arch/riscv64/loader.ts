/**
 * Images of RISC-V guests: ELF programs and Linux's Image, and where they go in guest-physical memory.
 *
 * Sources: ELF-64 Object File Format; RISC-V ELF psABI (EM_RISCV = 243); Linux's Documentation/arch/riscv/boot-image-header.rst and boot.rst: an
 * Image lies `text_offset` behind the start of memory, which is a multiple of 2 MiB, takes `image_size` bytes from there, and starts at its first byte
 * with a0 = hart, a1 = device tree, satp = 0.
 *
 * Layout of memory: the kernel where it says; the initial ramdisk behind it, at a multiple of 2 MiB; the device tree at the top, as low as keeps it
 * below 3 GiB. Invariants: nothing overlaps and nothing lies outside of memory, or it is an ImageError of one sentence.
 */
import { ImageError } from "hookvisor";

/** Where RAM begins in guest-physical memory. */
export const RAM_BASE = 0x8000_0000;
/** Granularity of what Linux maps early. */
const BIG_PAGE = 0x20_0000;
/** The device tree ends below this address, as with QEMU, for guests that map the low 3 GiB only. */
const TREE_LIMIT = 0xc000_0000;

const EM_RISCV = 243;
const PT_LOAD = 1;
const ELF_HEADER = 64;
const PROGRAM_HEADER = 56;
const MOST_SEGMENTS = 64;
const IMAGE_HEADER = 64;

/** A piece of an image and where it goes. */
export interface Segment {
  /** Guest-physical address. */
  readonly address: number;
  readonly bytes: Uint8Array;
  /** Bytes that it takes in memory; what is beyond `bytes` is zero. */
  readonly size: number;
}

/** A kernel, understood. */
export interface RiscvImage {
  readonly kind: "ELF" | "Image";
  readonly segments: readonly Segment[];
  /** Guest-physical address of the first instruction. */
  readonly entry: number;
  /** Lowest and first address behind all that it takes. */
  readonly start: number;
  readonly end: number;
}

const hex = (value: number): string => `0x${value.toString(16)}`;

/** Reads a little-endian 64-bit number; above 2^53 it is only known to be large. */
function u64(view: DataView, at: number): number {
  return view.getUint32(at + 4, true) * 0x1_0000_0000 + view.getUint32(at, true);
}

/** Understands an image. Throws ImageError. */
export function parseImage(image: Uint8Array, name: string): RiscvImage {
  const view = new DataView(image.buffer, image.byteOffset, image.byteLength);
  if (image.length >= 4 && view.getUint32(0) === 0x7f454c46) return parseElf(image, view, name);
  // RSC\x05, and its predecessor RISCV\0\0\0 alone.
  if (image.length >= IMAGE_HEADER && (view.getUint32(56) === 0x52534305 || view.getUint32(48) === 0x52495343))
    return parseLinux(image, view, name);
  throw new ImageError(
    `Kernel ${name} is no RISC-V kernel: it has neither ELF's magic nor that of Linux's Image (RSC\\x05 at byte 56); of a raw binary give the ELF file.`,
  );
}

function parseLinux(image: Uint8Array, view: DataView, name: string): RiscvImage {
  const fail = (what: string): never => {
    throw new ImageError(`Kernel ${name}: its Image header ${what}.`);
  };
  const offset = u64(view, 8);
  const size = u64(view, 16);
  const flags = view.getUint32(24, true);
  if ((flags & 1) !== 0) fail("says big-endian, and RISC-V domains are little-endian");
  if (offset >= 2 ** 40 || size >= 2 ** 40) fail(`has an offset of ${hex(offset)} or a size of ${hex(size)}`);
  if (offset % 4 !== 0) fail(`has an offset of ${hex(offset)}, which is no multiple of 4`);
  const start = RAM_BASE + offset;
  const taken = Math.max(size, image.length);
  return {
    kind: "Image",
    segments: [{ address: start, bytes: image, size: taken }],
    entry: start,
    start,
    end: start + taken,
  };
}

function parseElf(image: Uint8Array, view: DataView, name: string): RiscvImage {
  const fail = (what: string): never => {
    throw new ImageError(`Kernel ${name}: ${what}.`);
  };
  if (image.length < ELF_HEADER) fail(`its ELF header is cut off (${image.length} bytes)`);
  if (image[4] !== 2 || image[5] !== 1) fail("it is no 64-bit little-endian ELF file");
  const machine = view.getUint16(18, true);
  if (machine !== EM_RISCV) fail(`it is for ELF machine ${machine}, and RISC-V is ${EM_RISCV}`);
  const type = view.getUint16(16, true);
  if (type !== 2 && type !== 3) fail(`it is an ELF file of type ${type}, and a program is 2 or 3`);
  const table = u64(view, 32);
  const entrySize = view.getUint16(54, true);
  const count = view.getUint16(56, true);
  if (entrySize < PROGRAM_HEADER || count > MOST_SEGMENTS || table + count * entrySize > image.length)
    fail(`its ${count} program headers of ${entrySize} bytes at ${hex(table)} are not in the file`);
  const virtualEntry = u64(view, 24);
  const segments: Segment[] = [];
  let entry = -1;
  for (let i = 0; i < count; i++) {
    const at = table + i * entrySize;
    const size = u64(view, at + 40);
    if (view.getUint32(at, true) !== PT_LOAD || size === 0) continue;
    const [offset, virtual, address, length] = [8, 16, 24, 32].map((field) => u64(view, at + field)) as [
      number,
      number,
      number,
      number,
    ];
    if (offset + length > image.length)
      fail(`segment ${i} (bytes ${hex(offset)} to ${hex(offset + length)}) is cut off`);
    if (length > size) fail(`segment ${i} has ${length} bytes in the file and ${size} in memory`);
    if (address >= 2 ** 45 || size >= 2 ** 45) fail(`segment ${i} is for ${hex(address)}, where there is no memory`);
    segments.push({ address, bytes: image.subarray(offset, offset + length), size });
    // Both rounded alike where they are above 2^53: the low halves decide.
    const low = view.getUint32(24, true) - view.getUint32(at + 16, true);
    if (entry < 0 && virtualEntry >= virtual && virtualEntry <= virtual + size && low >= 0 && low < size)
      entry = address + low;
  }
  if (segments.length === 0) fail("it has nothing to load");
  if (entry < 0) fail(`its entry ${hex(virtualEntry)} is in none of its segments`);
  if (entry % 2 !== 0) fail(`its entry ${hex(entry)} is odd`);
  const sorted = [...segments].sort((a, b) => a.address - b.address);
  for (const [i, segment] of sorted.entries()) {
    const next = sorted[i + 1];
    if (next !== undefined && segment.address + segment.size > next.address)
      fail(`its segments at ${hex(segment.address)} and ${hex(next.address)} overlap`);
  }
  const last = sorted.at(-1)!;
  return { kind: "ELF", segments, entry, start: sorted[0]!.address, end: last.address + last.size };
}

/** Where things go. Addresses are guest-physical. */
export interface Placement {
  /** 0, 0: there is no ramdisk. */
  readonly ramdiskStart: number;
  readonly ramdiskEnd: number;
  /** First address that is free for the device tree, and the end of memory. */
  readonly free: number;
  readonly top: number;
}

const up = (value: number, to: number): number => Math.ceil(value / to) * to;
const down = (value: number, to: number): number => Math.floor(value / to) * to;
const mib = (bytes: number): number => Math.ceil(bytes / 2 ** 20);

/** Checks that an image fits in `memory` bytes of RAM, and places the ramdisk. Throws ImageError. */
export function place(image: RiscvImage, name: string, memory: number, ramdisk: number): Placement {
  const top = RAM_BASE + memory;
  if (image.start < RAM_BASE)
    throw new ImageError(
      `Kernel ${name} is linked to ${hex(image.start)}, and memory begins at ${hex(RAM_BASE)}; link it there.`,
    );
  if (image.end > top)
    throw new ImageError(
      `Kernel ${name} needs memory from ${hex(image.start)} to ${hex(image.end)}, and the domain's ends at ${hex(top)}; give it ${mib(image.end - RAM_BASE) + 2} MiB.`,
    );
  if (ramdisk === 0) return { ramdiskStart: 0, ramdiskEnd: 0, free: image.end, top };
  const start = up(image.end, BIG_PAGE);
  const end = start + ramdisk;
  if (end > top)
    throw new ImageError(
      `The ramdisk (${mib(ramdisk)} MiB) does not fit behind kernel ${name}; give the domain ${mib(end - RAM_BASE) + 2} MiB.`,
    );
  return { ramdiskStart: start, ramdiskEnd: end, free: end, top };
}

/** Where a device tree of `size` bytes goes. Throws ImageError. */
export function placeTree({ free, top }: Placement, size: number): number {
  const limit = Math.min(top, TREE_LIMIT);
  for (const alignment of [BIG_PAGE, 4096, 8]) {
    const start = down(limit - size, alignment);
    if (start >= free) return start;
  }
  for (const alignment of [4096, 8]) {
    const start = down(top - size, alignment);
    if (start >= free) return start;
  }
  throw new ImageError(
    `There is no room for the device tree (${size} bytes) behind the kernel; give the domain more memory.`,
  );
}
