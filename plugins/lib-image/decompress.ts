/**
 * Decompression of whole files, by their magic: gzip and zstd (Node's zlib), xz (a kept library), LZ4's legacy frame.
 *
 * Invariants: whatever the content, the answer is bytes or an ImageError of one sentence that names the file; nothing larger than
 * 1 GiB comes out.
 */
import { promisify } from "node:util";
import { gunzip, zstdDecompress } from "node:zlib";
import { ImageError } from "hookvisor";
import { LZ4_LEGACY_MAGIC, unpackLz4Legacy } from "./lz4.ts";
import { unpackXz } from "./xz.ts";

/** Names of the forms; those that are known by their magic and not unpacked come last. */
export type Compression = "gzip" | "xz" | "zstd" | "lz4" | "bzip2" | "lzma" | "lzo";

/** Most that is unpacked, in bytes: machines have 4 GiB at most, and no kernel has a quarter of it. */
const LIMIT = 1 << 30;

const MAGICS: readonly (readonly [Compression, readonly number[]])[] = [
  ["gzip", [0x1f, 0x8b]],
  ["xz", [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00]],
  ["zstd", [0x28, 0xb5, 0x2f, 0xfd]],
  ["lz4", [0, 8, 16, 24].map((shift) => (LZ4_LEGACY_MAGIC >>> shift) & 255)],
  ["bzip2", [0x42, 0x5a, 0x68]],
  ["lzma", [0x5d, 0x00, 0x00]],
  ["lzo", [0x89, 0x4c, 0x5a]],
];

/** The form that `bytes` are packed in, or null: none that is known. */
export function compressionOf(bytes: Uint8Array): Compression | null {
  for (const [name, magic] of MAGICS)
    if (bytes.length >= magic.length && magic.every((byte, i) => bytes[i] === byte)) return name;
  return null;
}

/**
 * Unpacks `bytes` by their magic.
 * @param name what they are, for messages: "Kernel vmlinuz"
 * @returns the content; `bytes` themselves where no magic is known
 * @throws ImageError damaged, or of a form that is not supported
 */
export async function decompress(bytes: Uint8Array, name: string): Promise<Uint8Array> {
  const form = compressionOf(bytes);
  if (form === null) return bytes;
  let cause: unknown;
  try {
    switch (form) {
      case "gzip":
        return await promisify(gunzip)(bytes, { maxOutputLength: LIMIT });
      case "zstd":
        return await promisify(zstdDecompress)(bytes, { maxOutputLength: LIMIT });
      case "xz":
        return await unpackXz(bytes, LIMIT);
      case "lz4": {
        const content = unpackLz4Legacy(bytes, LIMIT);
        if (content !== null) return content;
        break;
      }
      default:
        throw new ImageError(`${name} is packed with ${form}, which is not supported; unpack it and pass the result.`);
    }
  } catch (error) {
    if (error instanceof ImageError) throw error;
    cause = error;
  }
  const damaged = new ImageError(`${name} is damaged: its ${form} content does not unpack.`);
  damaged.cause = cause;
  throw damaged;
}
