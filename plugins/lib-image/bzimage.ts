/**
 * Linux's bzImage for x86 (Documentation/arch/x86/boot.rst): finds the packed kernel inside, so that the host unpacks it instead of
 * the guest.
 *
 * Facts: setup_sects at 0x1f1 (0 means 4), "HdrS" at 0x202, the protocol's version at 0x206; payload_offset at 0x248 (from the end of
 * the setup sectors) and payload_length at 0x24c, both since version 2.08. Behind every packed payload but gzip's the kernel's build
 * puts the unpacked size as 32 bits; behind the ELF inside come relocations that an ELF loader ignores.
 * Invariant: offsets that an image claims are checked against its length.
 */
import { ImageError } from "hookvisor";
import { compressionOf, decompress } from "./decompress.ts";

const SECTOR = 512;

/** Is it a bzImage (or the older zImage)? */
export function isBzImage(bytes: Uint8Array): boolean {
  return bytes.length >= 0x210 && [0x48, 0x64, 0x72, 0x53].every((byte, i) => bytes[0x202 + i] === byte);
}

/** Where a bzImage's payload lies in it. */
export function payloadOf(bytes: Uint8Array, name: string): Uint8Array {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const version = view.getUint16(0x206, true);
  if (version < 0x208 || bytes.length < 0x250)
    throw new ImageError(
      `${name} is a Linux kernel from before 2.6.26 (boot protocol ${version >> 8}.${String(version & 255).padStart(2, "0")}), whose bzImage says not where the kernel is; pass its vmlinux.`,
    );
  const start = ((bytes[0x1f1] || 4) + 1) * SECTOR + view.getUint32(0x248, true);
  const length = view.getUint32(0x24c, true);
  if (length === 0 || start + length > bytes.length)
    throw new ImageError(`${name} is damaged: its payload ends behind the end of the file.`);
  return bytes.subarray(start, start + length);
}

/**
 * The kernel inside a bzImage: an ELF image.
 * @param name what it is, for messages: "Kernel vmlinuz"
 * @throws ImageError damaged, or packed in a way that is not supported
 */
export async function unpackBzImage(bytes: Uint8Array, name: string): Promise<Uint8Array> {
  const payload = payloadOf(bytes, name);
  const form = compressionOf(payload);
  if (form === null && payload[0] !== 0x7f)
    throw new ImageError(`${name} is packed in a way that is not known; unpack it and pass the result.`);
  let kernel: Uint8Array;
  if (form === null) kernel = payload;
  else if (form === "gzip") kernel = await decompress(payload, name);
  else {
    const end = payload.length - 4;
    if (end <= 0) throw new ImageError(`${name} is damaged: its payload is too short.`);
    const size = new DataView(payload.buffer, payload.byteOffset + end, 4).getUint32(0, true);
    kernel = await decompress(payload.subarray(0, end), name);
    if (kernel.length !== size)
      throw new ImageError(`${name} is damaged: it unpacks to ${kernel.length} bytes and should to ${size}.`);
  }
  if (![0x7f, 0x45, 0x4c, 0x46].every((byte, i) => kernel[i] === byte))
    throw new ImageError(`${name} is damaged: what is packed in it is no ELF image.`);
  return kernel;
}
