import fc from "fast-check";
import { type DomainImage, Frames, ImageError } from "hookvisor";
import { describe, expect, it } from "vitest";
import { inspectImage } from "../../../arch/x86-pv/backend.ts";
import { Builder } from "../../../arch/x86-pv/loader/builder.ts";
import { makeElf, NOTES, type Note } from "./make-elf.ts";

function message(image: Uint8Array): string {
  try {
    inspectImage(image, "k.elf");
  } catch (error) {
    if (error instanceof ImageError) return error.message;
    throw error;
  }
  return "accepted";
}

const HIGH = 0xffffffff80000000n;

describe("what is no PV kernel", () => {
  it.each([
    ["an empty file", new Uint8Array(0), /k\.elf is empty/],
    ["text", new TextEncoder().encode("#!/bin/sh\n".repeat(20)), /is not an ELF file/],
    ["gzip", Uint8Array.of(0x1f, 0x8b, ...new Array(100).fill(0)), /compressed with gzip/],
    ["a cut header", makeElf().subarray(0, 40), /is truncated: 40 bytes/],
    ["the first three bytes", makeElf().subarray(0, 3), /is truncated/],
    [
      "a cut segment",
      makeElf({ loads: [{ physical: 0n, bytes: new Uint8Array(5000) }] }).subarray(0, 3000),
      /is truncated: its/,
    ],
    ["an i386 kernel", makeElf({ machine: 3, bits: 32 }), /32-bit PV interface is not supported yet/],
    ["an ARM kernel", makeElf({ machine: 183 }), /another machine \(64-bit ARM\)/],
    ["a kernel without notes", makeElf({ notes: [] }), /neither Xen ELF notes nor a __xen_guest section/],
    ["another Xen", makeElf({ notes: [[5, "xen-2.0"]] }), /Xen version 'xen-2\.0'/],
    ["a PVH kernel", makeElf({ notes: [[18, 0x100000n]] }), /run it with type pvh/],
    [
      "an unknown requirement",
      makeElf({ notes: [...NOTES, [10, "a|!frobnicate"]] }),
      /requires the feature 'frobnicate'/,
    ],
    [
      "a requirement not met",
      makeElf({ notes: [...NOTES, [10, "!auto_translated_physmap"]] }),
      /which a PV domain here does not have/,
    ],
    ["an odd requirement", makeElf({ notes: [...NOTES, [10, "!constructor"]] }), /which Xen does not know/],
    ["an offset without a base", makeElf({ notes: [...NOTES, [4, 0n]] }), /PADDR_OFFSET note and no VIRT_BASE/],
    ["an entry elsewhere", makeElf({ entry: 0x1000000n }), /its entry 0x1000000 outside/],
    [
      "a base in Xen's range",
      makeElf({ notes: [...NOTES, [3, 0xffff800000000000n]], entry: 0xffff800000000000n }),
      /where no PV kernel may be/,
    ],
    [
      "a huge segment",
      makeElf({ loads: [{ physical: 0x1000n, bytes: new Uint8Array(1), memorySize: (1n << 64n) - 1n }] }),
      /wraps around/,
    ],
    ["an entry in the middle of nowhere", makeElf({ notes: [...NOTES, [1, 0x123n << 40n]] }), /outside the kernel/],
    ["a hypercall page elsewhere", makeElf({ notes: [...NOTES, [2, 0x123000n]] }), /hypercall page 0x123000 outside/],
  ] as const)("%s: one sentence", (_, image, expected) => {
    const said = message(image);
    expect(said).toMatch(expected);
    expect(said.endsWith(".")).toBe(true);
  });

  it("a bzImage is named as such", () => {
    const image = new Uint8Array(1024);
    image.set([0x48, 0x64, 0x72, 0x53], 0x202);
    expect(message(image)).toMatch(/compressed Linux kernel/);
  });
});

describe("what a kernel says", () => {
  const loads = [{ physical: 0x1000000n, virtual: HIGH + 0x1000000n, bytes: new Uint8Array(4096) }];

  it("by notes: Linux's", () => {
    const notes: Note[] = [
      ...NOTES,
      [3, HIGH],
      [4, 0n],
      [1, HIGH + 0x1000000n],
      [2, HIGH + 0x1000000n],
      [15, 0x8000000000n],
      [16, 1n],
      [10, "!writable_page_tables|pae_pgdir_above_4gb"],
    ];
    const { kernel } = inspectImage(makeElf({ notes, loads }), "k");
    expect(kernel).toMatchObject({
      source: "notes",
      virtualBase: HIGH,
      entry: HIGH + 0x1000000n,
      hypercallPage: HIGH + 0x1000000n,
      initialP2m: 0x8000000000n,
      unmappedRamdisk: true,
      start: HIGH + 0x1000000n,
      end: HIGH + 0x1001000n,
    });
  });

  it("by notes: a small kernel's, with defaults", () => {
    const { kernel } = inspectImage(makeElf({ entry: 0n }), "k");
    expect(kernel).toMatchObject({
      virtualBase: 0n,
      entry: 0n,
      hypercallPage: null,
      initialP2m: null,
      unmappedRamdisk: false,
    });
  });

  it("by the section of 2007, whose physical addresses start at the base", () => {
    const base = 0xffffffff80000000n;
    const legacy = `GUEST_OS=x,XEN_VER=xen-3.0,VIRT_BASE=0x${base.toString(16)},HYPERCALL_PAGE=0x0,PAE=yes,LOADER=generic`;
    const { kernel } = inspectImage(makeElf({ legacy, loads: [{ physical: base, bytes: new Uint8Array(4096) }] }), "k");
    expect(kernel).toMatchObject({
      source: "legacy",
      virtualBase: base,
      hypercallPage: base,
      start: base,
      end: base + 4096n,
    });
  });

  it("a p2m list above the base is placed as if none were asked for", () => {
    expect(inspectImage(makeElf({ notes: [...NOTES, [15, 0x1000n]] }), "k").kernel.initialP2m).toBeNull();
  });
});

/** Builds an accepted image in 4 MiB, or fails with an ImageError. */
function attempt(bytes: Uint8Array): void {
  const { elf, kernel } = inspectImage(bytes, "k");
  const image: DomainImage = {
    kernel: bytes,
    kernelName: "k",
    ramdisk: null,
    commandLine: "",
    memoryFrames: 1100,
    vcpus: 1,
    storePort: 1,
    consolePort: 2,
  };
  const frames = new Frames(1200);
  try {
    new Builder(frames, elf, kernel, image, frames.allocate(1, 1100)).build(0);
  } catch (error) {
    if (!(error instanceof ImageError)) throw error;
  }
}

describe("hostile images", () => {
  const images = [
    makeElf({ notes: [...NOTES, [3, HIGH]], loads: [{ physical: 0n, bytes: new Uint8Array(64) }], entry: HIGH }),
    makeElf({ legacy: "XEN_VER=xen-3.0,VIRT_BASE=0x100000" }),
  ];
  it("fail with an ImageError or pass, whatever bytes are changed", () => {
    fc.assert(
      fc.property(
        fc.constantFrom(...images),
        fc.array(fc.tuple(fc.nat(700), fc.oneof(fc.nat(255), fc.constantFrom(0, 0x7f, 0x80, 0xff))), { maxLength: 12 }),
        fc.nat(800),
        (image, changes, length) => {
          const bytes = image.slice(0, length > 700 ? undefined : length);
          for (const [at, value] of changes) if (at < bytes.length) bytes[at] = value;
          if (bytes.length > 4 && message(bytes) === "accepted") attempt(bytes);
        },
      ),
      { numRuns: 2000 },
    );
  });
});
