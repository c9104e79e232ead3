/**
 * A kernel in whatever form a person has it: as it is, packed as a whole (vmlinux.gz, Image.xz), a bzImage, or in a Debian package.
 *
 * Invariant: what comes out is what a loader takes (ELF, RISC-V Image), or the bytes as they were, for the loader to refuse.
 */
import { readFile } from "node:fs/promises";
import { ImageError } from "hookvisor";
import { DebianError, walkDeb } from "../lib-debian/index.ts";
import { isBzImage, unpackBzImage } from "./bzimage.ts";
import { decompress } from "./decompress.ts";

/** Kernels in packages, by their paths: Linux's, GRUB's for Xen, GNU Mach's, U-Boot's for RISC-V in S-mode. */
const KERNEL_PATHS =
  /^(?:boot\/(?:vmlinu[xz]|gnumach|Image|vmlinux)[^/]*|usr\/lib\/grub-xen\/grub-x86_64-xen\.bin|usr\/lib\/u-boot\/qemu-riscv64_smode\/uboot\.elf)$/;
/** Longest kernel in a package, in bytes. */
const LONGEST = 512 << 20;

/** Is it an ar archive, as Debian packages are? */
export function isDeb(bytes: Uint8Array): boolean {
  return bytes.length >= 8 && Buffer.from(bytes.subarray(0, 8)).toString("latin1") === "!<arch>\n";
}

/** The kernel of a Debian package, as it is stored there; its path in `path`. */
export async function kernelOfDeb(deb: string): Promise<{ readonly path: string; readonly bytes: Uint8Array }> {
  const parts: Uint8Array[] = [];
  let path: string | null = null;
  try {
    await walkDeb(deb, (entry) => {
      if (path !== null) return "stop";
      if (entry.type !== "file" || entry.size > LONGEST || !KERNEL_PATHS.test(entry.path)) return null;
      path = entry.path;
      return (chunk) => void parts.push(chunk.slice());
    });
  } catch (error) {
    if (error instanceof DebianError) throw new ImageError(`${deb}: ${error.message}`);
    throw error;
  }
  if (path === null) throw new ImageError(`The Debian package ${deb} has no kernel in it (no boot/vmlinuz-*).`);
  return { path, bytes: Buffer.concat(parts) };
}

/**
 * Unpacks a kernel to what its loader takes.
 * @param name what it is, for messages: "Kernel vmlinuz"
 * @throws ImageError damaged, or packed in a way that is not supported
 */
export async function unpackKernel(bytes: Uint8Array, name: string): Promise<Uint8Array> {
  const whole = await decompress(bytes, name);
  return isBzImage(whole) ? unpackBzImage(whole, name) : whole;
}

/**
 * Reads a kernel's file and unpacks it; see above for the forms.
 * @param path of the file
 * @throws ImageError; what reading the file throws
 */
export async function readKernel(path: string): Promise<Uint8Array> {
  const bytes = await readFile(path);
  const name = `Kernel ${path}`;
  return isDeb(bytes) ? unpackKernel((await kernelOfDeb(path)).bytes, name) : unpackKernel(bytes, name);
}
