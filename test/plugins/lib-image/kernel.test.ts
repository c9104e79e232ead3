import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import fc from "fast-check";
import { ImageError } from "hookvisor";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import {
  compressionOf,
  decompress,
  readKernel,
  unpackKernel,
  unpackLz4Legacy,
  unpackXz,
} from "../../../plugins/lib-image/index.ts";
import { makeDeb } from "../lib-debian/make-deb.ts";
import { branches, bzImageOf, elfLike, fixture, payloadOfKernel, storedLz4, TEXT } from "./make-image.ts";

const LIMIT = 1 << 24;

describe("what real packers made", () => {
  it("lz4's legacy frame, with matches that overlap", () => {
    expect(Buffer.from(unpackLz4Legacy(fixture("text.lz4"), LIMIT) ?? [])).toEqual(TEXT);
  });

  it("xz, and xz with the filter for x86 branches", async () => {
    expect(Buffer.from(await unpackXz(fixture("text.xz"), LIMIT))).toEqual(TEXT);
    expect(Buffer.from(await unpackXz(fixture("branches-x86.xz"), LIMIT))).toEqual(branches());
  });
});

describe("damage", () => {
  it("no byte of an lz4 frame can be changed into an exception or an endless loop", () => {
    const frame = fixture("text.lz4");
    fc.assert(
      fc.property(fc.nat(frame.length - 1), fc.nat(255), fc.nat(frame.length), (at, value, length) => {
        const broken = Buffer.from(frame.subarray(0, length));
        if (at < length) broken[at] = value;
        const out = unpackLz4Legacy(broken, LIMIT);
        return out === null || out.length <= LIMIT;
      }),
    );
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        const block = Buffer.concat([Buffer.from([2, 0x21, 0x4c, 0x18, bytes.length, 0, 0, 0]), bytes]);
        const out = unpackLz4Legacy(block, 4096);
        return out === null || out.length <= 4096;
      }),
    );
  });

  it("xz with a changed byte is noticed", async () => {
    const file = fixture("branches-x86.xz");
    for (const at of [9, 13, 20, 1000, file.length - 40, file.length - 20, file.length - 3]) {
      const broken = Buffer.from(file);
      broken[at] = (broken[at] ?? 0) ^ 0x55;
      await expect(unpackXz(broken, LIMIT), `byte ${at}`).rejects.toThrow();
    }
    await expect(unpackXz(file.subarray(0, 3000), LIMIT)).rejects.toThrow();
  });

  it("is one sentence that names the file", async () => {
    const kernel = elfLike();
    const message = async (bytes: Uint8Array): Promise<string> => {
      const error = await unpackKernel(bytes, "Kernel x").then(
        () => null,
        (reason: unknown) => reason,
      );
      if (!(error instanceof ImageError)) throw new Error(`no ImageError: ${String(error)}`);
      return error.message;
    };
    const packed = payloadOfKernel(kernel, "zstd");
    const wrongSize = Buffer.from(packed);
    wrongSize.writeUInt32LE(77, packed.length - 4);
    const outside = bzImageOf(packed);
    outside.writeUInt32LE(1 << 30, 0x24c);
    const texts = [
      gzipSync(kernel).subarray(0, 100),
      storedLz4(kernel).subarray(0, 1000),
      fixture("text.xz").subarray(0, 100),
      Buffer.from("BZh91AY&SY"),
      bzImageOf(wrongSize),
      bzImageOf(payloadOfKernel(Buffer.from("not an image"), "gzip")),
      bzImageOf(Buffer.from("what is this")),
      bzImageOf(Buffer.from([0x28, 0xb5, 0x2f, 0xfd])),
      bzImageOf(packed, 0x204),
      outside,
    ];
    const messages: string[] = [];
    for (const one of texts) messages.push(await message(one));
    expect(messages).toMatchInlineSnapshot(`
      [
        "Kernel x is damaged: its gzip content does not unpack.",
        "Kernel x is damaged: its lz4 content does not unpack.",
        "Kernel x is damaged: its xz content does not unpack.",
        "Kernel x is packed with bzip2, which is not supported; unpack it and pass the result.",
        "Kernel x is damaged: it unpacks to 3000 bytes and should to 77.",
        "Kernel x is damaged: what is packed in it is no ELF image.",
        "Kernel x is packed in a way that is not known; unpack it and pass the result.",
        "Kernel x is damaged: its payload is too short.",
        "Kernel x is a Linux kernel from before 2.6.26 (boot protocol 2.04), whose bzImage says not where the kernel is; pass its vmlinux.",
        "Kernel x is damaged: its payload ends behind the end of the file.",
      ]
    `);
  });
});

describe("a kernel in every wrapping", () => {
  const kernel = elfLike(20_000);
  let folder = "";
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), "hookvisor-image-"));
  });
  afterAll(() => rmSync(folder, { recursive: true }));

  it("bzImage with each payload", async () => {
    for (const form of ["gzip", "zstd", "lz4", "plain"] as const)
      expect(Buffer.from(await unpackKernel(bzImageOf(payloadOfKernel(kernel, form)), "it")), form).toEqual(kernel);
  });

  it("packed as a whole, a packed bzImage, and as it is", async () => {
    expect(Buffer.from(await unpackKernel(gzipSync(kernel), "it"))).toEqual(kernel);
    const bzImage = gzipSync(bzImageOf(payloadOfKernel(kernel, "lz4")));
    expect(Buffer.from(await unpackKernel(bzImage, "it"))).toEqual(kernel);
    expect(await unpackKernel(kernel, "it")).toBe(kernel);
    expect(compressionOf(kernel)).toBeNull();
    expect(await decompress(TEXT, "it")).toBe(TEXT);
  });

  it("a Debian package", async () => {
    const path = join(folder, "linux.deb");
    const bzImage = bzImageOf(payloadOfKernel(kernel, "zstd"));
    writeFileSync(
      path,
      makeDeb([
        { path: "./boot/config-6", content: "x" },
        { path: "./boot/vmlinuz-6", content: bzImage },
        { path: "./z" },
      ]),
    );
    expect(Buffer.from(await readKernel(path))).toEqual(kernel);
    writeFileSync(path, makeDeb([{ path: "./usr/bin/true", content: "x" }]));
    await expect(readKernel(path)).rejects.toThrow(/has no kernel in it \(no boot\/vmlinuz-\*\)\.$/);
    writeFileSync(path, "!<arch>\nnonsense");
    await expect(readKernel(path)).rejects.toThrow(ImageError);
  });
});
