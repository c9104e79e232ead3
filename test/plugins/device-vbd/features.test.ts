/** What a frontend may use beyond plain requests: indirect segments, persistent grants, discard, overlays; and a host that fails. */
import { describe, expect, test } from "vitest";
import { BLKIF_OP, BLKIF_RSP, XenbusState } from "../../../core/abi/index.ts";
import { MOST_PERSISTENT } from "../../../plugins/device-vbd/grants.ts";
import plugin from "../../../plugins/device-vbd/plugin.ts";
import { FAKE_ABIS } from "../../support/fake-arch.ts";
import {
  MemoryHost,
  type ScriptedMachine,
  type ScriptedOptions,
  scriptedMachine,
} from "../../support/scripted-frontend.ts";
import { BlkFrontend, type RawSegment } from "./frontend.ts";

const DIRECTORY = "device/vbd/51712";
const SECTORS = 4096;

async function boot(options: Partial<ScriptedOptions> & { spec?: string } = {}): Promise<ScriptedMachine> {
  const host = options.host ?? new MemoryHost();
  if (!host.files.has("disk.img"))
    host.files.set(
      "disk.img",
      Uint8Array.from({ length: SECTORS * 512 }, (_, i) => (i >> 9) & 255),
    );
  const devices = [{ type: "vbd", spec: options.spec ?? "disk.img,raw,xvda,w" }];
  const machine = await scriptedMachine({ plugins: [plugin], devices, ...options, host });
  await machine.run();
  return machine;
}

async function connect(machine: ScriptedMachine, persistent = false, directory = DIRECTORY): Promise<BlkFrontend> {
  const [guest] = machine.guests;
  if (persistent) guest!.write(`${directory}/feature-persistent`, "1");
  const frontend = new BlkFrontend(guest!, directory);
  guest!.write(`${directory}/state`, XenbusState.Initialised);
  await machine.run();
  const id = Number(directory.split("/")[2]);
  expect(guest!.backend("vbd", id, "state")).toBe(String(XenbusState.Connected));
  guest!.write(`${directory}/state`, XenbusState.Connected);
  await machine.run();
  return frontend;
}

/** Statuses of all responses. */
async function statuses(machine: ScriptedMachine, frontend: BlkFrontend): Promise<number[]> {
  await machine.run();
  return frontend.responses().map((response) => response.status);
}

/** Frames of the guest's, granted, each one whole segment. */
function parts(frontend: BlkFrontend, count: number): { frames: number[]; segments: RawSegment[] } {
  const frames = Array.from({ length: count }, () => frontend.guest.frame());
  const segments = frames.map((frame) => ({ reference: frontend.guest.grant(frame), first: 0, last: 7 }));
  return { frames, segments };
}

describe("indirect segments", () => {
  test.each(FAKE_ABIS)("40 frames in one request, both ways, in the layout of $name", async (abi) => {
    const machine = await boot({ abi });
    const frontend = await connect(machine);
    const { frames, segments } = parts(frontend, 40);
    for (const [i, frame] of frames.entries()) frontend.guest.page(frame).fill(i + 100);
    const write = frontend.indirect({ operation: BLKIF_OP.WRITE, sector: 64, segments });
    await machine.run();
    // The response names what the request was about: Linux checks that.
    expect(frontend.responses()).toEqual([{ id: write.id, operation: BLKIF_OP.WRITE, status: BLKIF_RSP.OKAY }]);
    const disk = machine.host.files.get("disk.img")!;
    for (let i = 0; i < 40; i++) expect(disk[64 * 512 + i * 4096 + 4095]).toBe(i + 100);
    expect(disk[64 * 512 - 1]).toBe(63);
    expect(disk[64 * 512 + 40 * 4096]).toBe((64 + 320) & 255);
    for (const frame of frames) frontend.guest.page(frame).fill(0);
    const read = frontend.indirect({ operation: BLKIF_OP.READ, sector: 64, segments });
    await machine.run();
    expect(frontend.responses()).toEqual([{ id: read.id, operation: BLKIF_OP.READ, status: BLKIF_RSP.OKAY }]);
    for (const [i, frame] of frames.entries())
      expect(frontend.guest.page(frame).every((byte) => byte === i + 100)).toBe(true);
    expect(machine.host.opened[0]!.operations).toEqual(["write 32768 163840", "read 32768 163840"]);
    expect(frontend.guest.domain.grants.activeCount).toBe(1);
  });

  test("every way to get one wrong is an error, and nothing stays mapped", async () => {
    const machine = await boot();
    const frontend = await connect(machine);
    const { segments } = parts(frontend, 3);
    const wrong: Parameters<BlkFrontend["indirect"]>[0][] = [
      { operation: BLKIF_OP.FLUSH_DISKCACHE, segments },
      { operation: BLKIF_OP.INDIRECT, segments },
      { operation: 77, segments },
      { operation: BLKIF_OP.READ, segments: [] },
      { operation: BLKIF_OP.READ, segments, count: 257 },
      { operation: BLKIF_OP.READ, segments, count: 65535 },
      { operation: BLKIF_OP.READ, segments, references: [0xffff_ffff] },
      { operation: BLKIF_OP.READ, segments, references: [5] },
      { operation: BLKIF_OP.READ, segments, count: 100 },
      { operation: BLKIF_OP.READ, segments, sector: SECTORS - 23 },
      { operation: BLKIF_OP.READ, segments, sector: 2 ** 60 },
      { operation: BLKIF_OP.READ, segments: [{ ...segments[0]!, last: 8 }] },
      { operation: BLKIF_OP.READ, segments: [{ ...segments[0]!, first: 5, last: 4 }] },
      { operation: BLKIF_OP.READ, segments: [segments[0]!, { ...segments[1]!, reference: 4_000_000 }] },
      // More pins of one grant than Xen counts.
      { operation: BLKIF_OP.READ, segments: new Array(200).fill(segments[0]!) as RawSegment[] },
    ];
    for (const request of wrong) {
      frontend.indirect(request);
      expect(await statuses(machine, frontend)).toEqual([BLKIF_RSP.ERROR]);
    }
    expect(frontend.guest.domain.grants.activeCount).toBe(1);
    expect(machine.host.opened[0]!.operations).toEqual([]);
    expect(machine.log.filter((line) => line.includes("request refused")).length).toBeLessThan(10);
  });

  test("the list is read once: what the guest changes in it later has no effect", async () => {
    const host = new MemoryHost();
    host.gate = () => new Promise((resolve) => setTimeout(resolve, 5));
    const machine = await boot({ host });
    const frontend = await connect(machine);
    const { frames, segments } = parts(frontend, 2);
    const { list } = frontend.indirect({ operation: BLKIF_OP.READ, sector: 8, segments });
    await machine.run({ done: () => machine.host.opened[0]!.operations.length > 0 });
    frontend.guest.page(list).fill(0xff);
    expect(await statuses(machine, frontend)).toEqual([BLKIF_RSP.OKAY]);
    expect(frontend.guest.page(frames[1]!)[4095]).toBe(23);
  });
});

describe("persistent grants", () => {
  test("stay mapped between requests, and go with the connection", async () => {
    const machine = await boot();
    const frontend = await connect(machine, true);
    const { frames, segments } = parts(frontend, 4);
    const mapped = (): number => machine.trace.filter((line) => line.includes(" grant ")).length;
    frontend.raw({ operation: BLKIF_OP.READ, sector: 8, segments });
    expect(await statuses(machine, frontend)).toEqual([0]);
    const before = mapped();
    for (let i = 0; i < 5; i++) frontend.raw({ operation: BLKIF_OP.WRITE, sector: 100 + 8 * i, segments });
    expect(await statuses(machine, frontend)).toEqual([0, 0, 0, 0, 0]);
    expect(mapped()).toBe(before);
    expect(segments.every(({ reference }) => frontend.guest.inUse(reference))).toBe(true);
    expect(frontend.guest.page(frames[3]!)[0]).toBe(32);
    frontend.guest.write(`${DIRECTORY}/state`, XenbusState.Closing);
    await machine.run();
    expect(frontend.guest.domain.grants.activeCount).toBe(0);
  });

  test("without the frontend's word nothing stays mapped", async () => {
    const machine = await boot();
    const frontend = await connect(machine);
    const { segments } = parts(frontend, 4);
    frontend.raw({ operation: BLKIF_OP.READ, sector: 8, segments });
    expect(await statuses(machine, frontend)).toEqual([0]);
    expect(frontend.guest.domain.grants.activeCount).toBe(1);
  });

  test("a frame that may only be read is mapped for its request; a read into it is refused", async () => {
    const machine = await boot();
    const frontend = await connect(machine, true);
    const { guest } = frontend;
    const reference = guest.grant(guest.frame(), true);
    const segments = [{ reference, first: 0, last: 7 }];
    frontend.raw({ operation: BLKIF_OP.WRITE, segments });
    frontend.raw({ operation: BLKIF_OP.READ, segments });
    const found = await statuses(machine, frontend);
    expect(found.sort()).toEqual([BLKIF_RSP.ERROR, BLKIF_RSP.OKAY]);
    expect(guest.inUse(reference)).toBe(false);
  });

  test("are bounded, whatever the frontend uses", async () => {
    const machine = await boot();
    const frontend = await connect(machine, true);
    const { guest } = frontend;
    const frame = guest.frame();
    for (let done = 0; done < MOST_PERSISTENT + 200; done += 100) {
      const segments = Array.from({ length: 100 }, () => ({ reference: guest.grant(frame), first: 0, last: 0 }));
      frontend.indirect({ operation: BLKIF_OP.WRITE, segments });
      expect(await statuses(machine, frontend)).toEqual([0]);
    }
    expect(guest.domain.grants.activeCount).toBeLessThanOrEqual(MOST_PERSISTENT + 1);
    guest.write(`${DIRECTORY}/state`, XenbusState.Closed);
    await machine.run();
    expect(guest.domain.grants.activeCount).toBe(0);
  });
});

describe("discard", () => {
  test("gives up what lies on the disk, in order with the rest", async () => {
    const machine = await boot();
    const frontend = await connect(machine);
    frontend.discard(8, 16);
    frontend.discard(SECTORS, 0);
    frontend.discard(0, 1, 1);
    const id = frontend.read(8, 512);
    expect(await statuses(machine, frontend)).toEqual([0, 0, 0, 0]);
    expect(frontend.data(id, 512).every((byte) => byte === 0)).toBe(true);
    expect(machine.host.opened[0]!.operations).toEqual(["discard 4096 8192", "discard 0 512", "read 4096 512"]);
  });

  test("beyond the end is an error", async () => {
    const machine = await boot();
    const frontend = await connect(machine);
    frontend.discard(SECTORS, 1);
    frontend.discard(0, SECTORS + 1);
    frontend.discard(2 ** 60, 2 ** 60);
    expect(await statuses(machine, frontend)).toEqual([-1, -1, -1]);
    expect(machine.host.opened[0]!.operations).toEqual([]);
  });

  test.each(["disk.img,raw,xvda,r", "disk.img,raw,xvda,w,no-discard"])("%s has none", async (spec) => {
    const machine = await boot({ spec });
    const frontend = await connect(machine);
    expect(frontend.guest.backend("vbd", 51712, "feature-discard")).toBeUndefined();
    frontend.discard(0, 8);
    expect(await statuses(machine, frontend)).toEqual([BLKIF_RSP.EOPNOTSUPP]);
  });
});

describe("a host that fails", () => {
  test("a full disk is an error of that write, and what was flushed stays", async () => {
    const host = new MemoryHost();
    let full = false;
    host.gate = async (operation) => {
      if (full && operation.startsWith("write")) throw new Error("ENOSPC: no space left on device");
    };
    const machine = await boot({ host });
    const frontend = await connect(machine);
    frontend.write(0, new Uint8Array(4096).fill(7));
    frontend.flush();
    expect(await statuses(machine, frontend)).toEqual([0, 0]);
    full = true;
    frontend.write(0, new Uint8Array(4096).fill(8));
    frontend.write(8, new Uint8Array(512).fill(8), BLKIF_OP.WRITE_BARRIER);
    const id = frontend.read(0, 4096);
    expect(await statuses(machine, frontend)).toEqual([-1, -1, 0]);
    expect(frontend.data(id, 4096).every((byte) => byte === 7)).toBe(true);
    full = false;
    frontend.write(8, new Uint8Array(512).fill(9));
    frontend.flush();
    expect(await statuses(machine, frontend)).toEqual([0, 0]);
  });

  test("after a flush that failed no flush succeeds", async () => {
    const host = new MemoryHost();
    let fails = false;
    host.gate = async (operation) => {
      if (fails && operation === "flush") throw new Error("EIO: i/o error");
    };
    const machine = await boot({ host });
    const frontend = await connect(machine);
    frontend.flush();
    expect(await statuses(machine, frontend)).toEqual([0]);
    fails = true;
    frontend.flush();
    expect(await statuses(machine, frontend)).toEqual([-1]);
    fails = false;
    frontend.flush();
    frontend.write(0, new Uint8Array(512), BLKIF_OP.WRITE_BARRIER);
    frontend.write(0, new Uint8Array(512));
    expect(await statuses(machine, frontend)).toEqual([-1, -1, 0]);
    expect(machine.log.join("\n")).toContain("EIO");
  });
});

test("no more than 8 MiB are taken off the ring at a time, and what was taken together is answered with one event", async () => {
  const host = new MemoryHost();
  /** How many requests had been taken when each was done on the host. */
  const ahead: number[] = [];
  const taken = (): number => Math.floor(machine.trace.filter((line) => line.includes(" grant ")).length / 257);
  host.gate = async () => void ahead.push(taken() - ahead.length);
  const machine = await boot({ host });
  const frontend = await connect(machine);
  const { segments } = parts(frontend, 20);
  const all = Array.from({ length: 256 }, (_, i) => segments[i % 20]!);
  const events = frontend.guest.events(frontend.port);
  for (let i = 0; i < 20; i++) frontend.indirect({ operation: BLKIF_OP.WRITE, sector: 0, segments: all });
  await machine.run();
  expect(frontend.responses().map((response) => response.status)).toEqual(new Array(20).fill(0));
  expect(ahead).toHaveLength(20);
  expect(Math.max(...ahead)).toBe(8);
  // The first response asks for the event; the guest has not looked since.
  expect(frontend.guest.events(frontend.port) - events).toBe(1);
});

test("several disks, each with its own file", async () => {
  const host = new MemoryHost();
  host.files.set("a.img", new Uint8Array(8192).fill(1));
  host.files.set("b.img", new Uint8Array(16384).fill(2));
  const devices = ["a.img,raw,xvda,w", "b.img,raw,xvdb,w"].map((spec) => ({ type: "vbd", spec }));
  const machine = await boot({ host, devices });
  const a = await connect(machine, true);
  const b = await connect(machine, true, "device/vbd/51728");
  a.write(0, new Uint8Array(512).fill(3));
  b.write(31, new Uint8Array(512).fill(4));
  await machine.run();
  expect(a.responses()).toHaveLength(1);
  expect(b.responses()).toHaveLength(1);
  expect([host.files.get("a.img")![0], host.files.get("a.img")![512]]).toEqual([3, 1]);
  expect([host.files.get("b.img")![0], host.files.get("b.img")![31 * 512]]).toEqual([2, 4]);
});

describe("an overlay", () => {
  test("keeps the image as it is, and has what was written at the next start", async () => {
    const host = new MemoryHost();
    host.files.set("disk.img", new Uint8Array(SECTORS * 512).fill(1));
    const spec = "disk.img,raw,xvda,w,cow=changes.cow";
    for (let round = 0; round < 2; round++) {
      const machine = await boot({ host, spec });
      const frontend = await connect(machine);
      if (round === 0) frontend.write(9, new Uint8Array(1024).fill(5));
      const id = frontend.read(8, 4096);
      expect(await statuses(machine, frontend)).toHaveLength(2 - round);
      expect(frontend.data(id, 4096)).toEqual(
        Uint8Array.from({ length: 4096 }, (_, i) => (i >= 512 && i < 1536 ? 5 : 1)),
      );
      await machine.hypervisor.destroyDomain(frontend.guest.domain);
      expect(machine.host.opened.every((file) => file.closed)).toBe(true);
    }
    expect(host.files.get("disk.img")!.every((byte) => byte === 1)).toBe(true);
    expect(host.opened[0]!.writable).toBe(false);
  });

  test("cow=temp leaves nothing", async () => {
    const machine = await boot({ spec: "disk.img,raw,xvda,w,cow=temp" });
    const frontend = await connect(machine);
    frontend.write(8, new Uint8Array(4096).fill(5));
    frontend.flush();
    expect(await statuses(machine, frontend)).toEqual([0, 0]);
    expect(machine.host.files.get("disk.img")![4096]).toBe(8);
    expect([...machine.host.files.keys()]).toEqual(["disk.img"]);
  });

  test("a file that is none is refused, and everything is closed", async () => {
    const host = new MemoryHost();
    host.files.set("notes.txt", new Uint8Array(100));
    await expect(boot({ host, spec: "disk.img,raw,xvda,w,cow=notes.txt" })).rejects.toThrow(
      "Overlay notes.txt: it is no overlay; name a file that does not exist yet, and it is made.",
    );
    expect(host.opened.map((file) => file.closed)).toEqual([true, true]);
  });
});
