/** Images of RISC-V guests: what is taken, where it goes, and sentences for what is not. */
import fc from "fast-check";
import { ImageError } from "hookvisor";
import { describe, expect, it } from "vitest";
import { parseImage, place, placeTree, RAM_BASE } from "../../../arch/riscv64/loader.ts";
import { elf, HEADERS } from "./guest.ts";

const MIB = 2 ** 20;
const CODE = Uint8Array.of(0x73, 0, 0, 0, 1, 2, 3, 4);

/** A Linux Image of 4096 bytes. */
function linux(change: (view: DataView) => void = () => {}): Uint8Array {
  const image = new Uint8Array(4096);
  const view = new DataView(image.buffer);
  view.setUint32(8, 0x20_0000, true);
  view.setUint32(16, 0x30_0000, true);
  view.setUint32(32, 2, true);
  image.set(new TextEncoder().encode("RISCV\0\0\0RSC\x05"), 48);
  change(view);
  return image;
}

const changed = (image: Uint8Array, at: number, ...bytes: number[]): Uint8Array => {
  const copy = image.slice();
  copy.set(bytes, at);
  return copy;
};

const said = (body: () => unknown): string => {
  try {
    body();
  } catch (error) {
    expect(error).toBeInstanceOf(ImageError);
    return (error as Error).message;
  }
  return "taken";
};

describe("images", () => {
  it("Linux's Image goes where its header says, with its bss", () => {
    const image = parseImage(linux(), "Image");
    expect(image).toMatchObject({ kind: "Image", entry: RAM_BASE + 2 * MIB, end: RAM_BASE + 5 * MIB });
    expect(image.segments).toHaveLength(1);
    // One whose header says less than there is.
    expect(
      parseImage(
        linux((view) => view.setUint32(16, 0, true)),
        "Image",
      ).end,
    ).toBe(RAM_BASE + 2 * MIB + 4096);
  });

  it("ELF files go to their physical addresses, whatever their virtual ones", () => {
    const image = elf(CODE, RAM_BASE + 0x1000, 0x3000);
    const view = new DataView(image.buffer);
    expect(parseImage(image, "elf")).toMatchObject({ kind: "ELF", entry: RAM_BASE + 0x1000, end: RAM_BASE + 0x4000 });
    view.setBigUint64(80, 0xffff_ffff_8000_0000n, true);
    view.setBigUint64(24, 0xffff_ffff_8000_0004n, true);
    expect(parseImage(image, "elf").entry).toBe(RAM_BASE + 0x1004);
  });

  it("the rest is refused in a sentence", () => {
    const good = elf(CODE, RAM_BASE, 0x1000);
    const texts = [
      new Uint8Array(0),
      CODE,
      good.subarray(0, 40),
      changed(good, 4, 1),
      changed(good, 5, 2),
      changed(good, 18, 62),
      changed(good, 16, 1),
      changed(good, 56, 9),
      changed(good, 64, 2),
      changed(good, 24, 0xff, 0xff),
      changed(good, 24, 1),
      changed(good, 96, 0xff),
      changed(good, 104, 0, 0),
      changed(good, 88, 0, 0, 0, 0, 0, 0, 0, 1),
      linux((view) => view.setUint32(24, 1, true)),
      linux((view) => view.setUint32(12, 0x1000, true)),
      linux((view) => view.setUint32(8, 2, true)),
    ].map((image) => said(() => parseImage(image, "k")));
    expect(texts).toMatchInlineSnapshot(`
      [
        "Kernel k is no RISC-V kernel: it has neither ELF's magic nor that of Linux's Image (RSC\\x05 at byte 56); of a raw binary give the ELF file.",
        "Kernel k is no RISC-V kernel: it has neither ELF's magic nor that of Linux's Image (RSC\\x05 at byte 56); of a raw binary give the ELF file.",
        "Kernel k: its ELF header is cut off (40 bytes).",
        "Kernel k: it is no 64-bit little-endian ELF file.",
        "Kernel k: it is no 64-bit little-endian ELF file.",
        "Kernel k: it is for ELF machine 62, and RISC-V is 243.",
        "Kernel k: it is an ELF file of type 1, and a program is 2 or 3.",
        "Kernel k: its 9 program headers of 56 bytes at 0x40 are not in the file.",
        "Kernel k: it has nothing to load.",
        "Kernel k: its entry 0x8000ffff is in none of its segments.",
        "Kernel k: its entry 0x80000001 is odd.",
        "Kernel k: segment 0 (bytes 0x78 to 0x177) is cut off.",
        "Kernel k: it has nothing to load.",
        "Kernel k: segment 0 is for 0x100000000000000, where there is no memory.",
        "Kernel k: its Image header says big-endian, and RISC-V domains are little-endian.",
        "Kernel k: its Image header has an offset of 0x100000200000 or a size of 0x300000.",
        "Kernel k: its Image header has an offset of 0x2, which is no multiple of 4.",
      ]
    `);
  });

  it("whatever the bytes are, it is an image or an ImageError", () => {
    const base = fc.constantFrom(elf(CODE, RAM_BASE, 0x1000), linux());
    const changes = fc.array(fc.tuple(fc.nat(HEADERS), fc.nat(255)), { maxLength: 6 });
    fc.assert(
      fc.property(base, changes, fc.nat(4096), (image, list, length) => {
        const bad = image.slice();
        for (const [at, byte] of list) bad[at] = byte;
        for (const one of [bad, bad.subarray(0, length)])
          said(() => {
            const parsed = parseImage(one, "k");
            const placed = place(parsed, "k", 8 * MIB, 1000);
            expect(parsed.start).toBeGreaterThanOrEqual(RAM_BASE);
            expect(placed.free).toBeLessThanOrEqual(placed.top);
          });
      }),
      { numRuns: 1000 },
    );
  });
});

describe("placement", () => {
  const kernel = parseImage(linux(), "Image");

  it("keeps kernel, ramdisk and device tree apart", () => {
    const placed = place(kernel, "Image", 128 * MIB, 5000);
    expect(placed).toEqual({
      ramdiskStart: RAM_BASE + 6 * MIB,
      ramdiskEnd: RAM_BASE + 6 * MIB + 5000,
      free: RAM_BASE + 6 * MIB + 5000,
      top: RAM_BASE + 128 * MIB,
    });
    expect(placeTree(placed, 9000)).toBe(RAM_BASE + 126 * MIB);
    // Little memory: closer than the alignment that is preferred.
    expect(placeTree(place(kernel, "Image", 7 * MIB, 5000), 9000)).toBe(RAM_BASE + 7 * MIB - 3 * 4096);
    // Much: below 3 GiB.
    expect(placeTree(place(kernel, "Image", 3072 * MIB, 0), 9000)).toBe(0xc000_0000 - 2 * MIB);
  });

  it("says what does not fit", () => {
    const low = parseImage(elf(CODE, 0x1000, 0x1000), "low");
    expect([
      said(() => place(low, "low", 128 * MIB, 0)),
      said(() => place(kernel, "Image", 4 * MIB, 0)),
      said(() => place(kernel, "Image", 8 * MIB, 3 * MIB)),
      said(() => placeTree(place(kernel, "Image", 5 * MIB, 0), 9000)),
    ]).toMatchInlineSnapshot(`
      [
        "Kernel low is linked to 0x1000, and memory begins at 0x80000000; link it there.",
        "Kernel Image needs memory from 0x80200000 to 0x80500000, and the domain's ends at 0x80400000; give it 7 MiB.",
        "The ramdisk (3 MiB) does not fit behind kernel Image; give the domain 11 MiB.",
        "There is no room for the device tree (9000 bytes) behind the kernel; give the domain more memory.",
      ]
    `);
  });
});
