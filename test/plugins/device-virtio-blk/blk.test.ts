/** The virtio disk under a scripted driver: requests, limits, features, resets, hostile requests; random use against plain memory. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import plic from "../../../plugins/device-plic/plugin.ts";
import { BLK_F, virtioBlkType } from "../../../plugins/device-virtio-blk/blk.ts";
import plugin from "../../../plugins/device-virtio-blk/plugin.ts";
import { TYPE } from "../../../plugins/device-virtio-blk/request.ts";
import { LATENCY } from "../../../plugins/lib-block/index.ts";
import { MMIO, VIRTIO_F } from "../../../plugins/lib-virtio/index.ts";
import { MemoryHost, scriptedMachine } from "../../support/scripted-frontend.ts";
import { FIRST_SLOT } from "../../support/virtio-driver.ts";
import { BlkDriver } from "./driver.ts";

const SECTORS = 256;
const pattern = (length: number, seed = 0) => Uint8Array.from({ length }, (_, i) => (i * 7 + seed) & 255);

async function rig(specs: readonly string[] = ["disk.img,raw,vda,w"]) {
  const host = new MemoryHost();
  host.files.set("disk.img", pattern(SECTORS * 512));
  host.files.set("other.img", new Uint8Array(512 * 3));
  const machine = await scriptedMachine({
    plugins: [plic, plugin],
    devices: [{ type: "plic", spec: "" }, ...specs.map((spec) => ({ type: "virtio-blk", spec }))],
    host,
  });
  const guest = machine.guests[0]!;
  return { machine, guest, host, file: host.opened[0]!, image: host.files.get("disk.img")! };
}

describe("specs", () => {
  test("device-vbd's, the guest's names, a place", () => {
    expect(virtioBlkType.parse("slot=2,disk.img,raw,vdb,r")).toMatchObject({
      disk: { target: "disk.img", vdev: "vdb", number: 51728, writable: false },
      place: { slot: 2 },
    });
    expect(virtioBlkType.parse("disk.img,raw,xvda,w,cow=temp").disk.overlay).toBe("temporary");
  });
  test.each(["", "disk.img", "disk.img,qcow2,vda,w", "disk.img,raw,vda,w,slot=99"])("'%s' is refused", (spec) => {
    expect(() => virtioBlkType.parse(spec)).toThrow(/^Disk '.*\.$/);
  });
  test("two disks of one name", async () => {
    await expect(rig(["disk.img,raw,xvda,r", "disk.img,raw,vda,r"])).rejects.toThrow(/two devices 'virtio-blk'/);
  });
});

test("a disk that cannot be where it is wanted leaves no file open", async () => {
  const host = new MemoryHost();
  host.files.set("disk.img", pattern(SECTORS * 512));
  const devices = [
    { type: "plic", spec: "" },
    { type: "virtio-blk", spec: "disk.img,raw,vda,w,base=0x20000000,line=500" },
  ];
  await expect(scriptedMachine({ plugins: [plic, plugin], devices, host })).rejects.toThrow(/no interrupt line 500/);
  expect(host.opened.map((file) => file.closed)).toEqual([true]);
});

test("what the guest is told of it", async () => {
  const { guest, machine } = await rig(["disk.img,raw,vda,w", "other.img,raw,vdb,r"]);
  const driver = new BlkDriver(guest);
  expect(driver.read(MMIO.deviceId)).toBe(2);
  expect(driver.offered()).toEqual([2, 6, 9, 10, 13, 14, 28, 29, 32]);
  const at = (offset: number, base = FIRST_SLOT): number => guest.ioRead(base + MMIO.config + offset);
  expect([at(0), at(4), at(12), at(20), at(36), at(40), at(44), at(48), at(52)]).toEqual([
    SECTORS,
    0,
    254,
    512,
    0x7fff_ffff,
    32,
    8,
    8192,
    1,
  ]);
  const second = new BlkDriver(guest, FIRST_SLOT + 0x1000);
  expect(second.offered()).toEqual([2, 5, 6, 9, 10, 28, 29, 32]);
  expect(at(0, FIRST_SLOT + 0x1000)).toBe(3);
  expect(machine.hypervisor.store.client.exists("/local/domain/0/backend/virtio-blk")).toBe(false);
  const id = driver.request(TYPE.getId, 0, null, 20);
  expect(driver.queue0.take()).toEqual([{ head: id.head, written: 21 }]);
  expect(String.fromCharCode(...driver.data(id.into))).toBe(`vda${"\0".repeat(17)}`);
  const wide = driver.request(TYPE.getId, 0, null, 40);
  expect(driver.queue0.take()).toEqual([{ head: wide.head, written: 20 }]);
});

describe("requests", () => {
  test.each([false, true])(
    "reads and writes, in order, answered after the latency (indirect: %s)",
    async (indirect) => {
      const { guest, machine, image, file } = await rig();
      const driver = new BlkDriver(guest);
      const start = machine.hypervisor.machine.now;
      const first = driver.readSectors(8, 8192, indirect);
      driver.writeSectors(8, pattern(1024, 99), indirect);
      const second = driver.readSectors(8, 1536, indirect);
      await machine.run({ until: start + LATENCY - 1 });
      expect(driver.answers()).toEqual([]);
      await machine.run();
      expect(driver.queue0.take()).toMatchObject([{ written: 8193 }, { written: 1 }, { written: 1537 }]);
      expect(driver.data(first.into)).toEqual(pattern(8192, 8 * 512 * 7));
      expect(driver.data(second.into).subarray(0, 1024)).toEqual(pattern(1024, 99));
      expect(image.subarray(4096, 5120)).toEqual(pattern(1024, 99));
      expect(file.operations).toEqual(["read 4096 8192", "write 4096 1024", "read 4096 1536"]);
      expect(driver.acknowledge()).toBe(1);
    },
  );

  test("flush; without the feature each write is flushed", async () => {
    const { guest, machine, file } = await rig();
    const driver = new BlkDriver(guest);
    driver.writeSectors(0, pattern(512));
    driver.flush();
    await machine.run();
    expect(driver.answers()).toEqual([0, 0]);
    const plain = new BlkDriver(guest, FIRST_SLOT, [VIRTIO_F.version1]);
    plain.writeSectors(0, pattern(512));
    await machine.run();
    expect(plain.answers()).toEqual([0]);
    expect(file.operations).toEqual(["write 0 512", "flush", "flush", "write 0 512", "flush"]);
  });

  test("discard and zeros", async () => {
    const { guest, machine, file, image } = await rig();
    const driver = new BlkDriver(guest);
    driver.ranges(TYPE.discard, [0, 8], [16, 8]);
    driver.ranges(TYPE.writeZeroes, [33, 3]);
    driver.ranges(TYPE.writeZeroes, [40, 1, 1]);
    await machine.run();
    expect(driver.answers()).toEqual([0, 0, 0]);
    expect(file.operations).toEqual(["discard 0 4096", "discard 8192 4096", "write 16896 1536", "write 20480 512"]);
    expect([image[33 * 512 - 1], image[33 * 512], image[36 * 512 - 1]]).toEqual([
      pattern(512 * 33)[512 * 33 - 1],
      0,
      0,
    ]);
    for (const bad of [
      driver.ranges(TYPE.discard, [0, 8, 1]),
      driver.ranges(TYPE.writeZeroes, [0, 8, 2]),
      driver.ranges(TYPE.discard, [SECTORS, 1]),
      driver.ranges(TYPE.writeZeroes, [0, 1], [1, 1]),
      driver.ranges(TYPE.writeZeroes, [0, 8193]),
      driver.ranges(TYPE.discard),
    ])
      driver.under.set(bad.head, bad);
    await machine.run();
    expect(driver.answers()).toEqual([2, 2, 1, 1, 1, 1]);
    expect(file.operations.length).toBe(4);
  });

  test("what cannot be is an error of that request", async () => {
    const { guest, machine, file } = await rig(["disk.img,raw,vda,w,no-discard"]);
    const driver = new BlkDriver(guest);
    expect(driver.offered()).not.toContain(BLK_F.discard);
    driver.readSectors(SECTORS, 512);
    driver.readSectors(SECTORS - 1, 1024);
    driver.readSectors(2 ** 63, 512);
    driver.readSectors(0, 100);
    driver.writeSectors(SECTORS, pattern(512));
    driver.writeSectors(0, pattern(511));
    driver.ranges(TYPE.discard, [0, 8]);
    driver.request(2, 0, null);
    driver.request(0xffff_ffff, 0, null);
    expect(driver.answers()).toEqual([1, 1, 1, 1, 1, 1, 2, 2, 2]);
    driver.readSectors(SECTORS, 0);
    driver.readSectors(SECTORS - 1, 512);
    await machine.run();
    expect(driver.answers()).toEqual([0, 0]);
    expect(file.operations).toEqual([`read ${SECTORS * 512} 0`, `read ${(SECTORS - 1) * 512} 512`]);
  });

  test("a disk that is read-only takes no write, no zeros", async () => {
    const { guest, machine } = await rig(["disk.img,raw,vda,r"]);
    const driver = new BlkDriver(guest);
    driver.writeSectors(0, pattern(512));
    driver.ranges(TYPE.writeZeroes, [0, 1]);
    await machine.run();
    expect(driver.answers()).toEqual([1, 2]);
  });

  test("the host's errors; no flush succeeds after one that failed", async () => {
    const { guest, machine, file } = await rig();
    let bad = true;
    file.gate = async (operation) => {
      if (bad && !operation.startsWith("read")) throw new Error("no room");
    };
    const driver = new BlkDriver(guest);
    driver.writeSectors(0, pattern(512));
    driver.flush();
    const read = driver.readSectors(0, 512);
    await machine.run();
    bad = false;
    driver.flush();
    await machine.run();
    expect(driver.answers()).toEqual([1, 1, 0, 1]);
    expect(driver.data(read.into)).toEqual(pattern(512));
    expect(machine.log.filter((line) => line.includes("no room")).length).toBe(3);
  });
});

test("a reset while the host works: nobody is answered, and the disk works again", async () => {
  const { guest, machine, file } = await rig();
  const driver = new BlkDriver(guest);
  driver.readSectors(0, 512);
  driver.write(MMIO.status, 0);
  await machine.run();
  expect([driver.answers(), driver.interrupts]).toEqual([[], 0]);
  const again = new BlkDriver(guest);
  const read = again.readSectors(1, 512);
  await machine.run();
  expect([again.answers(), again.data(read.into)]).toEqual([[0], pattern(512, 512 * 7)]);
  await machine.hypervisor.destroyDomain(guest.domain);
  expect([file.closed, machine.hypervisor.machine.frames.ownedBy(guest.domain.id)]).toEqual([true, 0]);
});

test("much data: more than is taken at a time waits on the queue", async () => {
  const host = new MemoryHost();
  host.files.set("disk.img", new Uint8Array(16 << 20));
  const machine = await scriptedMachine({
    plugins: [plic, plugin],
    devices: [
      { type: "plic", spec: "" },
      { type: "virtio-blk", spec: "disk.img,raw,vda,w" },
    ],
    host,
  });
  const driver = new BlkDriver(machine.guests[0]!);
  // Each reads 250 pages into the same few: nobody forbids it.
  const room = driver.buffers(8 * 4096);
  const many = Array.from({ length: 250 }, (_, i) => room[i % 8]!);
  for (let i = 0; i < 12; i++) {
    const header = driver.buffer(16);
    driver.fill([header], Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, i));
    driver.queue0.add([header], [...many, driver.buffer(1)], true);
  }
  driver.queue0.kick();
  const start = machine.hypervisor.machine.now;
  await machine.run({ until: start + 1.5 * LATENCY });
  expect(driver.queue0.take().map((one) => one.written)).toEqual(Array.from({ length: 9 }, () => 250 * 4096 + 1));
  await machine.run();
  expect(driver.queue0.take().length).toBe(3);
});

describe("hostile requests", () => {
  test.each([
    ["no header", 8, 1],
    ["no status", 16, 0],
    ["nothing at all", 0, 1],
  ])("%s: the device needs a reset", async (_what, out, into) => {
    const { guest } = await rig();
    const driver = new BlkDriver(guest);
    driver.queue0.add(out === 0 ? [] : [driver.buffer(out)], into === 0 ? [] : [driver.buffer(into)]);
    driver.queue0.kick();
    expect(driver.needsReset).toBe(true);
  });

  test("four gigabytes in one buffer, and many of them", async () => {
    const { guest, machine } = await rig();
    const driver = new BlkDriver(guest);
    const header = driver.buffer(16);
    const huge = { address: 0x1000, length: 0xffff_ffff };
    driver.queue0.add([header], [...Array.from({ length: 40 }, () => huge), driver.buffer(1)]);
    driver.queue0.kick();
    await machine.run();
    expect(driver.queue0.take().length).toBe(1);
    expect(driver.needsReset).toBe(false);
  });

  test("a status byte in nobody's memory, found when the host is done", async () => {
    const { guest, machine } = await rig();
    const driver = new BlkDriver(guest);
    driver.queue0.add([driver.buffer(16)], [...driver.buffers(512), { address: 0x7fff_f000, length: 1 }]);
    driver.queue0.kick();
    await machine.run();
    expect(driver.needsReset).toBe(true);
    const again = new BlkDriver(guest);
    again.flush();
    await machine.run();
    expect(again.answers()).toEqual([0]);
  });
});

test("random use agrees with plain memory", async () => {
  const step = fc.record({
    what: fc.constantFrom("read", "write", "zero", "run"),
    sector: fc.nat(SECTORS - 1),
    count: fc.integer({ min: 1, max: 12 }),
    indirect: fc.boolean(),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 14 }), async (steps) => {
      const { guest, machine, image } = await rig(["disk.img,raw,vda,w,cow=temp"]);
      const model = image.slice();
      const driver = new BlkDriver(guest, FIRST_SLOT, undefined, 128);
      const reads: [ReturnType<BlkDriver["readSectors"]>, Uint8Array][] = [];
      let asked = 0;
      for (const [i, { what, sector, count, indirect }] of steps.entries()) {
        const sectors = Math.min(count, SECTORS - sector);
        const [from, to] = [sector * 512, (sector + sectors) * 512];
        if (what === "run") await machine.run();
        else {
          asked++;
          if (what === "read") reads.push([driver.readSectors(sector, to - from, indirect), model.slice(from, to)]);
          else if (what === "write") {
            const data = pattern(to - from, i);
            model.set(data, from);
            driver.writeSectors(sector, data, indirect);
          } else {
            model.fill(0, from, to);
            driver.ranges(TYPE.writeZeroes, [sector, sectors]);
          }
        }
      }
      await machine.run();
      expect(driver.answers()).toEqual(Array.from({ length: asked }, () => 0));
      for (const [request, expected] of reads) expect(driver.data(request.into)).toEqual(expected);
    }),
    { numRuns: 25, seed: 5 },
  );
});
