/** Host files by Node: opened, made, temporary, with holes; and what is said when that cannot be. */
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { NodeHost } from "../../../core/node/host-services.ts";

let folder = "";
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "hookvisor-host-"));
});
afterEach(() => rmSync(folder, { recursive: true }));

const inFolder = (name: string): string => join(folder, name);

describe("a file that does not exist", () => {
  test("is made with holes only, and opened as it is the next time", async () => {
    const host = new NodeHost();
    const path = inFolder("new.img");
    const file = await host.openFile(path, "rw", { size: 64 << 20 });
    expect(file.size).toBe(64 << 20);
    expect(statSync(path).blocks * 512).toBeLessThan(1 << 20);
    await file.write(4096, Uint8Array.of(1, 2, 3));
    await file.close();
    const again = await host.openFile(path, "rw", { size: 5 });
    const read = new Uint8Array(4);
    await again.read(4096, read);
    expect([again.size, ...read]).toEqual([64 << 20, 1, 2, 3, 0]);
    await again.close();
  });

  test("cannot be made where there is no folder", async () => {
    const path = inFolder("no/new.img");
    await expect(new NodeHost().openFile(path, "rw", { size: 5 })).rejects.toThrow(
      `File ${path}: it cannot be made: there is no such folder.`,
    );
  });

  test("and is not to be made, is an error", async () => {
    const path = inFolder("none.img");
    await expect(new NodeHost().openFile(path, "r")).rejects.toThrow(`File ${path}: there is no such file.`);
  });
});

test("a temporary file has no name", async () => {
  const before = readdirSync(tmpdir());
  const file = await new NodeHost().openFile("for messages", "rw", { size: 8192, temporary: true });
  const left = readdirSync(tmpdir()).filter((name) => !before.includes(name) && name.startsWith("hookvisor-"));
  if (process.platform !== "win32")
    for (const name of left) expect(readdirSync(join(tmpdir(), name))).not.toContain("file");
  await file.write(0, Uint8Array.of(9));
  const read = new Uint8Array(1);
  await file.read(0, read);
  expect(read[0]).toBe(9);
  await file.close();
});

test("holes are made where the host can, and only for who may write", async () => {
  const path = inFolder("disk.img");
  writeFileSync(path, new Uint8Array(1 << 20).fill(7));
  const host = new NodeHost();
  const reader = await host.openFile(path, "r");
  expect(reader.discard).toBeUndefined();
  await reader.close();
  const file = await host.openFile(path, "rw");
  if (file.discard !== undefined) {
    const before = statSync(path).blocks;
    await file.discard(4096, 512 << 10);
    const bytes = readFileSync(path);
    expect(bytes.length).toBe(1 << 20);
    expect(bytes.subarray(4096, 4096 + (512 << 10)).every((byte) => byte === 0)).toBe(true);
    expect([bytes[4095], bytes[4096 + (512 << 10)]]).toEqual([7, 7]);
    expect(statSync(path).blocks).toBeLessThan(before);
  }
  await file.close();
});

test("a file that is written is nobody else's", async () => {
  const path = inFolder("disk.img");
  writeFileSync(path, new Uint8Array(512));
  const host = new NodeHost();
  const file = await host.openFile(path, "rw");
  await expect(host.openFile(path, "r")).rejects.toThrow("another device has it open for writing");
  await file.close();
  const one = await host.openFile(path, "r");
  const two = await host.openFile(path, "r");
  await expect(host.openFile(path, "rw")).rejects.toThrow("another device reads it");
  await one.close();
  await two.close();
});
