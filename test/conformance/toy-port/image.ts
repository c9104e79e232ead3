/**
 * The toy port's data representation and its image format: "TOY1", load address, entry point, then the program; words are big-endian.
 */
import { type GuestAbi, ImageError } from "hookvisor";

/** Everything that x86 is not: 8 KiB pages, big-endian, 32 bits with 64-bit values aligned, one vcpu_info in shared info. */
export const TOY_ABI: GuestAbi = Object.freeze({
  name: "toy-be32",
  pageShift: 13,
  wordBytes: 4,
  endian: "big",
  align64: 8,
  legacyVcpus: 1,
});

const MAGIC = 0x544f5931; // "TOY1"
const HEADER = 12;

/** A program and where it goes. */
export interface ToyImage {
  readonly load: number;
  readonly entry: number;
  readonly program: Uint8Array;
}

export function encodeImage({ load, entry, program }: ToyImage): Uint8Array {
  const bytes = new Uint8Array(HEADER + program.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, MAGIC);
  view.setUint32(4, load);
  view.setUint32(8, entry);
  bytes.set(program, HEADER);
  return bytes;
}

/** Reads an image; throws ImageError. */
export function decodeImage(bytes: Uint8Array, name: string): ToyImage {
  if (bytes.length < HEADER)
    throw new ImageError(`${name}: ${bytes.length} bytes are no toy image; its header has ${HEADER}.`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (view.getUint32(0) !== MAGIC) throw new ImageError(`${name}: no toy image; it should begin with "TOY1".`);
  const [load, entry] = [view.getUint32(4), view.getUint32(8)];
  const program = bytes.subarray(HEADER);
  if (load % 4 !== 0 || entry % 4 !== 0 || entry < load || entry >= load + program.length)
    throw new ImageError(
      `${name}: the entry point 0x${entry.toString(16)} is no word of the program at 0x${load.toString(16)}.`,
    );
  return { load, entry, program };
}
