/** A disk's host operations: order, one answer a batch, zeros, flushes after one that failed. */
import { expect, test } from "vitest";
import type { DeviceHost } from "../../../core/device/device-type.ts";
import { Disk, LATENCY, openDisk, parseDiskSpec } from "../../../plugins/lib-block/index.ts";
import { MemoryFile, MemoryHost } from "../../support/scripted-frontend.ts";

function rig(spec = "a.img,raw,xvda,w", size = 1 << 20) {
  const log: string[] = [];
  const file = new MemoryFile("a.img", new Uint8Array(size).fill(7), true);
  const due: (() => Promise<void>)[] = [];
  const host = {
    io: (work: Promise<unknown>, latency: number, done: () => void) => {
      expect(latency).toBe(LATENCY);
      due.push(async () => {
        await work;
        done();
      });
    },
    log: (line: string) => void log.push(line),
  } as unknown as DeviceHost;
  return { disk: new Disk(parseDiskSpec(spec), file, host), file, log, due };
}

test("operations run in order and are answered by batches", async () => {
  const { disk, file, due } = rig();
  const answers: string[] = [];
  const into = new Uint8Array(4);
  disk.write(0, Uint8Array.of(1, 2), "before", () => answers.push("write"));
  disk.read(0, into, () => answers.push(`read ${into}`));
  disk.submit(() => answers.push("first"));
  disk.submit(() => answers.push("never"));
  disk.write(2, Uint8Array.of(3), "both", () => answers.push("barrier"));
  disk.discard(4096, 0, () => answers.push("nothing"));
  disk.discard(4096, 8192, () => answers.push("discard"));
  disk.submit(() => answers.push("second"));
  expect([answers, due.length]).toEqual([[], 2]);
  for (const one of due) await one();
  expect(answers).toEqual(["write", "read 1,2,7,7", "first", "barrier", "nothing", "discard", "second"]);
  expect(file.operations).toEqual([
    "flush",
    "write 0 2",
    "read 0 4",
    "flush",
    "write 2 1",
    "flush",
    "discard 4096 8192",
  ]);
  await disk.close();
  expect(file.closed).toBe(true);
});

test("zeros are written in pieces", async () => {
  const { disk, file, due } = rig();
  disk.zero(512, (1 << 19) + 512, (error) => expect(error).toBeNull());
  disk.submit(() => {});
  await due[0]!();
  expect(file.operations.length).toBe(3);
  expect([file.bytes[511], file.bytes[512], file.bytes[(1 << 19) + 1023], file.bytes[(1 << 19) + 1024]]).toEqual([
    7, 0, 0, 7,
  ]);
});

test("no flush succeeds after one that failed; other operations fail or succeed for themselves", async () => {
  const { disk, file, due } = rig();
  let bad = true;
  file.gate = async (operation) => {
    if (bad && operation === "flush") throw new Error("disk full");
  };
  const answers: (string | null)[] = [];
  const note = (error: Error | null): void => void answers.push(error?.message ?? null);
  disk.flush(note);
  disk.submit(() => {});
  await due[0]!();
  bad = false;
  disk.flush(note);
  disk.write(0, Uint8Array.of(1), "none", note);
  disk.write(0, Uint8Array.of(1), "both", note);
  disk.submit(() => {});
  await due[1]!();
  expect(answers).toEqual(["disk full", "disk full", null, "disk full"]);
});

test("what a disk can do; sectors that are not whole", () => {
  expect(rig().disk).toMatchObject({ sectors: 2048, writable: true, discards: true });
  expect(rig("a.img,raw,xvda,w,no-discard").disk.discards).toBe(false);
  expect(rig("a.img,raw,xvda,r").disk).toMatchObject({ writable: false, discards: false });
  const odd = rig("a.img,raw,xvda,w", 1000);
  expect([odd.disk.sectors, odd.log]).toEqual([
    1,
    ["a.img: its last 488 bytes are no whole sector; the guest does not see them"],
  ]);
});

test("opening: an image below a sector, a bad overlay; nothing stays open", async () => {
  const host = new MemoryHost();
  host.files.set("small.img", new Uint8Array(511));
  host.files.set("a.img", new Uint8Array(4096));
  host.files.set("bad.cow", new Uint8Array(5000).fill(1));
  await expect(openDisk(parseDiskSpec("small.img,raw,xvda,w"), host)).rejects.toThrow("at least one sector of 512.");
  await expect(openDisk(parseDiskSpec("a.img,raw,xvda,w,cow=bad.cow"), host)).rejects.toThrow("Overlay bad.cow");
  expect(host.opened.map((file) => file.closed)).toEqual([true, true, true]);
  const file = await openDisk(parseDiskSpec("a.img,raw,xvda,w,cow=temp"), host);
  expect([file.size, file.writable]).toEqual([4096, true]);
});
