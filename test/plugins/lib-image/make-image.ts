/** Synthetic kernels and modules for tests: bzImages around payloads of every form, ELF files with a .modinfo. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync, zstdCompressSync } from "node:zlib";

const FIXTURES = join(import.meta.dirname, "..", "..", "fixtures", "image");

/** A file that a real packer made. */
export const fixture = (name: string): Buffer => readFileSync(join(FIXTURES, name));

/** The content of text.xz and text.lz4. */
export const TEXT = Buffer.from(`${"a line that repeats, with number 0\n".repeat(400)}${"x".repeat(1000)}the end\n`);

/** The content of branches-x86.xz: bytes among which many look like branches. */
export function branches(): Buffer {
  let state = 1;
  const next = (): number => {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    return state >>> 16;
  };
  const bytes = Buffer.alloc(16384);
  for (let i = 0; i < bytes.length; i++) {
    const kind = next() % 16;
    bytes[i] = kind < 3 ? 0xe8 : kind < 5 ? 0xe9 : kind < 8 ? 0 : kind < 11 ? 0xff : next() & 255;
  }
  return bytes;
}

const u32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
};

/** LZ4's legacy frame without any match. */
export function storedLz4(content: Uint8Array): Buffer {
  const parts: Uint8Array[] = [u32(0x184c2102)];
  for (let at = 0; at < content.length; at += 8 << 20) {
    const part = content.subarray(at, at + (8 << 20));
    const lengths: number[] = [];
    if (part.length >= 15) {
      let rest = part.length - 15;
      for (; rest >= 255; rest -= 255) lengths.push(255);
      lengths.push(rest);
    }
    const block = Buffer.concat([Uint8Array.from([Math.min(15, part.length) << 4, ...lengths]), part]);
    parts.push(u32(block.length), block);
  }
  return Buffer.concat(parts);
}

/** A file that starts like an ELF image. */
export function elfLike(length = 3000): Buffer {
  const bytes = Buffer.alloc(length);
  for (let i = 0; i < length; i++) bytes[i] = (i * 7 + (i >> 5)) & 255;
  bytes.write("\x7fELF", 0, "latin1");
  return bytes;
}

/** A bzImage around a payload that is there as it is. */
export function bzImageOf(payload: Uint8Array, version = 0x20f): Buffer {
  const setup = Buffer.alloc(5 * 512);
  setup[0x1f1] = 4;
  setup.write("HdrS", 0x202, "latin1");
  setup.writeUInt16LE(version, 0x206);
  setup.writeUInt32LE(0x100, 0x248);
  setup.writeUInt32LE(payload.length, 0x24c);
  return Buffer.concat([setup, Buffer.alloc(0x100, 0xcc), payload, Buffer.alloc(64)]);
}

/** The payload of a kernel as its build makes it. */
export function payloadOfKernel(kernel: Uint8Array, form: "gzip" | "zstd" | "lz4" | "plain"): Buffer {
  switch (form) {
    case "gzip":
      return gzipSync(kernel);
    case "zstd":
      return Buffer.concat([zstdCompressSync(kernel), u32(kernel.length)]);
    case "lz4":
      return Buffer.concat([storedLz4(kernel), u32(kernel.length)]);
    case "plain":
      return Buffer.from(kernel);
  }
}

/** A kernel module: an ELF64 file of section headers, names and a .modinfo of `fields`. */
export function moduleOf(...fields: readonly string[]): Buffer {
  const names = Buffer.from("\0.modinfo\0.shstrtab\0");
  const info = Buffer.from(fields.map((field) => `${field}\0`).join(""));
  const header = Buffer.alloc(64);
  header.write("\x7fELF\x02\x01\x01", 0, "latin1");
  const table = 64 + names.length + info.length;
  header.writeBigUInt64LE(BigInt(table), 0x28);
  header.writeUInt16LE(64, 0x3a);
  header.writeUInt16LE(3, 0x3c);
  header.writeUInt16LE(2, 0x3e);
  const section = (name: number, offset: number, size: number): Buffer => {
    const bytes = Buffer.alloc(64);
    bytes.writeUInt32LE(name, 0);
    bytes.writeBigUInt64LE(BigInt(offset), 0x18);
    bytes.writeBigUInt64LE(BigInt(size), 0x20);
    return bytes;
  };
  const sections = [section(0, 0, 0), section(1, 64 + names.length, info.length), section(10, 64, names.length)];
  return Buffer.concat([header, names, info, ...sections]);
}
