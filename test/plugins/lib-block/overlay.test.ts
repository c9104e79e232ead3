/** The copy-on-write overlay, held against a plain array, and against a host that dies at any moment. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { HostFile } from "../../../core/device/device-type.ts";
import { OverlayFile, overlaySize } from "../../../plugins/lib-block/overlay.ts";
import { MemoryFile } from "../../support/scripted-frontend.ts";

const SIZE = 10 * 4096 + 1536;

function base(): MemoryFile {
  return new MemoryFile(
    "base.img",
    Uint8Array.from({ length: SIZE }, (_, i) => (i * 13 + (i >> 9)) & 127),
    false,
  );
}

/** A host's file whose writes reach the disk in any order before a flush: after a crash each 4 KiB of them is there, or not. */
class VolatileFile extends MemoryFile {
  readonly #disk: Uint8Array;
  readonly #dirty = new Set<number>();

  constructor(size: number) {
    super("changes.cow", new Uint8Array(size), true);
    this.#disk = new Uint8Array(size);
  }
  override async write(offset: number, from: Uint8Array): Promise<void> {
    await super.write(offset, from);
    for (let at = offset; at < offset + from.length; at += 512) this.#dirty.add(at >> 12);
    this.#dirty.add((offset + from.length - 1) >> 12);
  }
  override async discard(offset: number, length: number): Promise<void> {
    await super.discard(offset, length);
    for (let at = offset; at < offset + length; at += 4096) this.#dirty.add(at >> 12);
  }
  override async flush(): Promise<void> {
    await super.flush();
    for (const page of this.#dirty) this.#keep(page);
    this.#dirty.clear();
  }
  #keep(page: number): void {
    this.#disk.set(this.bytes.subarray(page << 12, (page + 1) << 12), page << 12);
  }
  /** What is there after the crash; `reached` says of each unflushed page whether it got there. */
  crash(reached: (page: number) => boolean): MemoryFile {
    for (const page of this.#dirty) if (reached(page)) this.#keep(page);
    return new MemoryFile(this.path, this.#disk, true);
  }
}

const sector = fc.nat(SIZE / 512 - 1);
const step = fc.record({
  what: fc.constantFrom("write", "write", "read", "flush", "discard"),
  sector,
  sectors: fc.integer({ min: 1, max: 30 }),
  value: fc.nat(255),
});

async function readAll(file: HostFile): Promise<Uint8Array> {
  const all = new Uint8Array(file.size);
  await file.read(0, all);
  return all;
}

describe("the overlay", () => {
  test("is a disk like any other, and the base stays as it is", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 40 }), async (steps) => {
        const image = base();
        const before = image.bytes.slice();
        const file = new MemoryFile("changes.cow", new Uint8Array(overlaySize(SIZE)), true);
        let overlay = await OverlayFile.open(image, file);
        const model = before.slice();
        for (const { what, sector: first, sectors, value } of steps) {
          const from = first * 512;
          const to = Math.min(SIZE, from + sectors * 512);
          if (what === "write") {
            await overlay.write(from, new Uint8Array(to - from).fill(value));
            model.fill(value, from, to);
          } else if (what === "read") {
            const got = new Uint8Array(to - from);
            await overlay.read(from, got);
            expect(got).toEqual(model.slice(from, to));
          } else if (what === "flush") {
            await overlay.flush();
            overlay = await OverlayFile.open(image, file);
          } else {
            await overlay.discard!(from, to - from);
            const whole = to === SIZE ? SIZE : Math.floor(to / 4096) * 4096;
            const start = Math.ceil(from / 4096) * 4096;
            if (whole > start) model.fill(0, start, whole);
          }
        }
        expect(await readAll(overlay)).toEqual(model);
        await overlay.flush();
        expect(await readAll(await OverlayFile.open(image, file))).toEqual(model);
        expect(image.bytes).toEqual(before);
      }),
      { numRuns: 60 },
    );
  });

  test("what was flushed is there whenever the host dies, and every sector is one that was written or the base's", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 30 }), fc.nat(25), fc.nat(), async (steps, at, seed) => {
        const image = base();
        const file = new VolatileFile(overlaySize(SIZE));
        let left = at;
        file.gate = async (operation) => {
          if (!operation.startsWith("read") && left-- <= 0) throw new Error("dead");
        };
        /** What each sector may hold: since the last flush, everything that was written to it. */
        const may = Array.from({ length: SIZE / 512 }, (_, i) => [image.bytes.subarray(i * 512, (i + 1) * 512).join()]);
        try {
          const overlay = await OverlayFile.open(image, file);
          for (const { what, sector: first, sectors, value } of steps) {
            const last = Math.min(SIZE / 512, first + sectors);
            const range = may.slice(first, last);
            if (what === "write") {
              for (const held of range) held.push(new Uint8Array(512).fill(value).join());
              await overlay.write(first * 512, new Uint8Array((last - first) * 512).fill(value));
            } else if (what === "discard") {
              for (const held of range) held.push(new Uint8Array(512).join());
              await overlay.discard!(first * 512, (last - first) * 512);
            } else if (what === "flush") {
              await overlay.flush();
              const now = await readAll(overlay);
              for (const [i, held] of may.entries())
                held.splice(0, held.length, now.slice(i * 512, (i + 1) * 512).join());
            }
          }
        } catch (error) {
          expect((error as Error).message).toBe("dead");
        }
        const survived = file.crash((page) => ((seed >>> (page % 31)) & 1) === 1);
        const after = await readAll(await OverlayFile.open(image, survived));
        for (const [i, held] of may.entries()) expect(held).toContain(after.slice(i * 512, (i + 1) * 512).join());
      }),
      { numRuns: 300 },
    );
  });

  test("refuses what is no overlay of this image", async () => {
    const image = base();
    const made = new MemoryFile("a.cow", new Uint8Array(overlaySize(SIZE)), true);
    await OverlayFile.open(image, made);
    const other = new MemoryFile("other.img", new Uint8Array(8192), false);
    await expect(OverlayFile.open(other, made)).rejects.toThrow(
      `Overlay a.cow: it was made for an image of ${SIZE} bytes, and other.img has 8192; use the right image.`,
    );
    const cut = new MemoryFile("a.cow", made.bytes.slice(0, 8192), true);
    await expect(OverlayFile.open(image, cut)).rejects.toThrow("Overlay a.cow: it has 8192 bytes, and should have");
    const picture = new MemoryFile("p.png", new Uint8Array(50_000).fill(9), true);
    await expect(OverlayFile.open(image, picture)).rejects.toThrow("Overlay p.png: it is no overlay");
  });

  test("has no discard where the host has none", async () => {
    const file = new MemoryFile("a.cow", new Uint8Array(overlaySize(SIZE)), true);
    const plain: HostFile = {
      path: file.path,
      size: file.size,
      writable: true,
      read: (offset, into) => file.read(offset, into),
      write: (offset, from) => file.write(offset, from),
      flush: () => file.flush(),
      close: () => file.close(),
    };
    expect((await OverlayFile.open(base(), plain)).discard).toBeUndefined();
    expect((await OverlayFile.open(base(), file)).discard).toBeDefined();
  });
});
