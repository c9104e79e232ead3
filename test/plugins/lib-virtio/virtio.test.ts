/** The MMIO transport and split virtqueues under a scripted driver: by the book, at random, and hostile. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import plic from "../../../plugins/device-plic/plugin.ts";
import {
  choosePlace,
  DESCRIPTOR,
  INTERRUPT,
  MMIO,
  QUEUE_SIZE,
  STATUS,
  splitPlace,
  VIRTIO_F,
} from "../../../plugins/lib-virtio/index.ts";
import { scriptedMachine } from "../../support/scripted-frontend.ts";
import { FIRST_SLOT, VirtioDriver } from "../../support/virtio-driver.ts";
import { echoPlugin } from "./echo.ts";

async function rig(specs: readonly string[] = [""]) {
  const { plugin, models } = echoPlugin();
  const machine = await scriptedMachine({
    plugins: [plic, plugin],
    devices: [{ type: "plic", spec: "" }, ...specs.map((spec) => ({ type: "echo", spec }))],
  });
  const guest = machine.guests[0]!;
  // Every line interrupts.
  for (let line = 1; line < 32; line++) guest.ioWrite(0xc00_0000 + 4 * line, 1);
  guest.ioWrite(0xc00_2000, 0xffff_fffe);
  const { frames } = machine.hypervisor.machine;
  return {
    machine,
    guest,
    model: models[0]!,
    models,
    driver: new VirtioDriver(guest),
    /** Frames of the guest that somebody besides itself refers to. */
    held: () =>
      frames.refs.reduce((sum, refs, mfn) => sum + (frames.owner[mfn] === guest.domain.id && refs > 1 ? 1 : 0), 0),
  };
}

const ALL = [VIRTIO_F.indirect, VIRTIO_F.eventIndex, VIRTIO_F.version1];
const bytes = (length: number, seed = 1) => Uint8Array.from({ length }, (_, i) => (i * 7 + seed) & 255);

describe("places", () => {
  test("slots, addresses, what is left of the spec", () => {
    expect(splitPlace("Disk", "a.img,raw,vda,w")).toEqual({ place: null, rest: "a.img,raw,vda,w" });
    expect(splitPlace("Disk", "a.img, slot=3 ,raw,vda")).toEqual({ place: { slot: 3 }, rest: "a.img,raw,vda" });
    expect(splitPlace("Net", "line=9,mtu=9000,base=0x20000000")).toEqual({
      place: { base: 0x2000_0000, line: 9 },
      rest: "mtu=9000",
    });
    expect(splitPlace("Disk", "vdev=vda,target=odd,slot=1.img").rest).toBe("vdev=vda,target=odd,slot=1.img");
  });
  test.each(["slot=64", "slot=x", "slot=", "slot=1,slot=1", "base=0x1000", "line=3", "slot=1,line=3", "base=1,line=3"])(
    "'%s' is refused",
    (spec) => {
      expect(() => splitPlace("Disk", spec)).toThrow(/^Disk '.*\.$/);
    },
  );
  test("the lowest slot whose address and line are free", () => {
    const device = (base: number, line: number) => ({
      type: "x",
      id: 0,
      regions: [{ space: "mmio" as const, base, size: 0x1000 }],
      description: { compatible: [], interrupts: [line] },
    });
    const all = [device(FIRST_SLOT, 1), device(0x5000_0000, 2), device(FIRST_SLOT + 0x2800, 77)];
    expect(choosePlace(null, { neighbours: () => all })).toEqual({ base: FIRST_SLOT + 0x4000, line: 5 });
    expect(choosePlace({ slot: 0 }, { neighbours: () => all })).toEqual({ base: FIRST_SLOT, line: 1 });
    const full = Array.from({ length: 64 }, (_, i) => device(FIRST_SLOT + i * 0x1000, i + 1));
    expect(() => choosePlace(null, { neighbours: () => full })).toThrow("All 64 slots for virtio devices are taken");
  });
  test("devices of a domain rise from the first slot", async () => {
    const { guest } = await rig(["", "slot=3", "", "base=0x20000000,line=20"]);
    expect(guest.placed.slice(1).map((one) => [one.regions[0]!.base, one.description])).toEqual(
      [
        [0x1000_1000, 1],
        [0x1000_4000, 4],
        [0x1000_2000, 2],
        [0x2000_0000, 20],
      ].map(([base, line]) => [base, { compatible: ["virtio,mmio"], interrupts: [line] }]),
    );
  });
});

describe("registers", () => {
  test("identity, features, no shared memory, configuration", async () => {
    const { driver, model, guest } = await rig();
    expect([MMIO.magic, MMIO.version, MMIO.deviceId].map((at) => driver.read(at))).toEqual([0x74726976, 2, 42]);
    expect(driver.offered()).toEqual([0, 5, 28, 29, 32, 40]);
    driver.write(MMIO.deviceFeaturesSelect, 0xffff_ffff);
    expect(driver.read(MMIO.deviceFeatures)).toBe(0);
    expect(driver.read(MMIO.sharedMemoryLengthHigh)).toBe(0xffff_ffff);
    expect([0, 1, 4, 8].map((at) => driver.read(MMIO.config + at))).toEqual([0x04030201, 0x05040302, 0x0605, 0]);
    expect([guest.ioRead(FIRST_SLOT + 0x105, 1), guest.ioRead(FIRST_SLOT + 0x103, 2)]).toEqual([6, 0x0504]);
    expect(guest.ioRead(FIRST_SLOT + 0xffc)).toBe(0);
    for (const [offset, size] of [
      [0, 1],
      [2, 2],
      [1, 4],
    ] as const) {
      expect(guest.ioRead(FIRST_SLOT + offset, size)).toBe(0);
      guest.ioWrite(FIRST_SLOT + MMIO.status + offset, 1, size);
    }
    expect(driver.status).toBe(0);
    driver.up(1);
    model.link!.configChanged();
    expect([driver.read(MMIO.configGeneration), driver.acknowledge()]).toEqual([1, INTERRUPT.config]);
    driver.write(MMIO.status, 0);
    model.link!.configChanged();
    expect([driver.read(MMIO.configGeneration), driver.interrupts]).toEqual([1, 0]);
  });

  test("features: a subset with version 1, fixed once agreed on", async () => {
    const { driver, model } = await rig();
    expect(driver.negotiate([0, 5])).toBe(false);
    expect(driver.negotiate([1, VIRTIO_F.version1])).toBe(false);
    expect(driver.negotiate([63, VIRTIO_F.version1])).toBe(false);
    expect(driver.negotiate([5, VIRTIO_F.version1])).toBe(true);
    driver.write(MMIO.driverFeaturesSelect, 0);
    driver.write(MMIO.driverFeatures, 1);
    driver.ready();
    expect([0, 5, 32, 40].map((bit) => model.link!.has(bit))).toEqual([false, true, true, false]);
    expect(driver.status).toBe(15);
  });

  test("steps out of order need a reset", async () => {
    const { driver, machine } = await rig();
    driver.write(MMIO.status, STATUS.driverOk);
    expect(driver.status).toBe(STATUS.needsReset);
    driver.write(MMIO.status, 0xff);
    expect(driver.needsReset).toBe(true);
    driver.write(MMIO.status, 0);
    expect(driver.status).toBe(0);
    driver.place(0, 8, 0, 0, 0);
    expect([driver.needsReset, driver.read(MMIO.queueReady)]).toEqual([true, 0]);
    expect(machine.log.filter((line) => line.includes("needs a reset")).length).toBe(2);
  });

  test.each([
    ["of no entries", 0, 0x1000, 0x2000, 0x3000],
    ["of three", 3, 0x1000, 0x2000, 0x3000],
    ["too long", 2 * QUEUE_SIZE, 0x1000, 0x2000, 0x3000],
    ["with crooked descriptors", 8, 0x1008, 0x2000, 0x3000],
    ["with a crooked driver area", 8, 0x1000, 0x2001, 0x3000],
    ["with a crooked device area", 8, 0x1000, 0x2000, 0x3002],
    ["beyond memory", 8, 2 ** 44 - 64, 0x2000, 0x3000],
    ["beyond everything", 8, 0x1000, 2 ** 64 - 2 ** 12, 0x3000],
  ])("a queue %s needs a reset", async (_what, size, ...parts) => {
    const { driver } = await rig();
    driver.negotiate(ALL);
    driver.place(0, size, ...(parts as [number, number, number]));
    expect(driver.needsReset).toBe(true);
  });

  test("a queue's registers hold still while it is ready; queues that are not there read 0", async () => {
    const { driver } = await rig();
    const [queue] = driver.up(1);
    driver.write(MMIO.queueSize, 2);
    driver.write(MMIO.queueDescriptorsLow, 0);
    const [out, into] = [driver.buffer(8), driver.buffer(8)];
    queue!.add([out], [into]);
    queue!.kick();
    expect(queue!.take().length).toBe(1);
    for (const select of [2, 0xffff_ffff]) {
      driver.write(MMIO.queueSelect, select);
      driver.write(MMIO.queueSize, 8);
      driver.write(MMIO.queueReady, 1);
      driver.write(MMIO.queueNotify, select);
      expect([driver.read(MMIO.queueSizeMost), driver.read(MMIO.queueReady)]).toEqual([0, 0]);
    }
    driver.write(MMIO.queueSelect, 0);
    driver.write(MMIO.queueReady, 0);
    driver.write(MMIO.queueNotify, 0);
    expect([driver.read(MMIO.queueReady), driver.needsReset]).toEqual([0, false]);
  });
});

describe("a queue", () => {
  test.each([
    ["direct, flags", [VIRTIO_F.version1], false],
    ["indirect, event index", ALL, true],
  ] as const)(
    "carries buffers both ways (%s), interrupts by line, holds nothing afterwards",
    async (_what, features, indirect) => {
      const { driver, guest, held } = await rig();
      const base = held();
      const [queue] = driver.up(1, features);
      const out = driver.buffers(10_000);
      const into = driver.buffers(9_000, 3000);
      driver.fill(out, bytes(10_000));
      const head = queue!.add(out, into, indirect);
      queue!.kick();
      expect(queue!.take()).toEqual([{ head, written: 9000 }]);
      expect(driver.data(into)).toEqual(bytes(9000).reverse());
      expect([guest.pin(), driver.acknowledge()]).toEqual([true, INTERRUPT.used]);
      expect(guest.ioRead(0xc20_0004)).toBe(1);
      guest.ioWrite(0xc20_0004, 1);
      expect([guest.pin(), driver.interrupts, held()]).toEqual([false, 0, base]);
    },
  );

  test("does not start before DRIVER_OK, and then looks by itself", async () => {
    const { driver } = await rig();
    driver.negotiate(ALL);
    const queue = driver.queue(0);
    queue.add([], [driver.buffer(4)]);
    queue.kick();
    expect(queue.take()).toEqual([]);
    driver.ready();
    expect(queue.take().length).toBe(1);
  });

  test("interrupts as the driver wants: flags", async () => {
    const { driver } = await rig();
    const [queue] = driver.up(1, [VIRTIO_F.version1]);
    queue!.flags = 1;
    queue!.add([], [driver.buffer(4)]);
    queue!.kick();
    expect(driver.interrupts).toBe(0);
    queue!.flags = 0;
    queue!.add([], [driver.buffer(4)]);
    queue!.kick();
    expect(driver.interrupts).toBe(1);
    expect(queue!.deviceFlags).toBe(0);
  });

  test("interrupts as the driver wants: event index, over the wrap of 16 bits", async () => {
    const { driver, model } = await rig();
    const [queue] = driver.up(1, ALL, 2);
    const into = driver.buffer(4);
    let interrupts = 0;
    // Of 70000 buffers the driver wants to hear of each hundredth.
    for (let i = 0; i < 70_000; i++) {
      if (i % 100 === 0) queue!.usedEvent = i + 50;
      queue!.add([], [into]);
      queue!.show();
      if (i % 1000 === 0) expect(queue!.availableEvent).toBe(i & 0xffff);
      model.link!.burst(() => model.notified(0));
      expect(queue!.take().length).toBe(1);
      interrupts += driver.acknowledge();
    }
    expect(interrupts).toBe(700);
  }, 20_000);

  test("a reset in the middle: late answers reach nobody, and the driver begins anew", async () => {
    const { driver, model, held } = await rig();
    const base = held();
    const [queue] = driver.up(1, ALL);
    model.later = true;
    queue!.add([], [driver.buffer(4)]);
    queue!.kick();
    const { link } = model;
    const old = link!.queue(0)!;
    driver.write(MMIO.status, 0);
    expect([model.stops, driver.interrupts]).toEqual([1, 0]);
    link!.burst(() => expect.unreachable());
    model.later = false;
    const [again] = driver.up(1, ALL);
    link!.burst(() => model.answer(old, 1));
    again!.add([], [driver.buffer(4)]);
    again!.kick();
    expect([queue!.take().length, again!.take().length, held()]).toEqual([0, 1, base]);
  });

  test("while a buffer is with the device, its frame is the guest's to give away", async () => {
    const { driver, model, guest } = await rig();
    const [queue] = driver.up(1, ALL);
    model.later = true;
    const into = driver.buffer(4096);
    queue!.add([], [into]);
    queue!.kick();
    expect(model.waiting.length).toBe(1);
    expect(guest.hypervisor.machine.frames.refs[into.address / 4096]).toBe(1);
  });
});

describe("a hostile driver", () => {
  const hostile: readonly [string, (driver: VirtioDriver, queue: ReturnType<VirtioDriver["queue"]>) => void][] = [
    ["an available index far ahead", (_driver, queue) => queue.show(0x8000)],
    [
      "a head that is not there",
      (_driver, queue) => {
        queue.offer(64);
        queue.show();
      },
    ],
    [
      "a chain in a loop",
      (driver, queue) => {
        const { address } = driver.buffer(4);
        queue.describe(0, address, 4, DESCRIPTOR.next, 1);
        queue.describe(1, address, 4, DESCRIPTOR.next, 0);
        queue.offer(0);
        queue.show();
      },
    ],
    [
      "a next that is not there",
      (driver, queue) => {
        queue.describe(0, driver.buffer(4).address, 4, DESCRIPTOR.next, 0xffff);
        queue.offer(0);
        queue.show();
      },
    ],
    [
      "a buffer to read after one to write",
      (driver, queue) => {
        const { address } = driver.buffer(4);
        queue.describe(0, address, 4, DESCRIPTOR.next | DESCRIPTOR.write, 1);
        queue.describe(1, address, 4, 0);
        queue.offer(0);
        queue.show();
      },
    ],
    [
      "a buffer over the end of the address space",
      (_driver, queue) => {
        queue.describe(0, 2 ** 64 - 2 ** 12, 0xffff_ffff, 0);
        queue.offer(0);
        queue.show();
      },
    ],
    [
      "a buffer to read in nobody's memory",
      (driver, queue) => {
        queue.add([{ address: 0x7fff_f000, length: 8 }], [driver.buffer(8)]);
        queue.show();
      },
    ],
    [
      "a buffer to write in nobody's memory",
      (driver, queue) => {
        queue.add([driver.buffer(8)], [{ address: 0xfff_f000_0000, length: 8 }]);
        queue.show();
      },
    ],
    [
      "an indirect table of no bytes",
      (driver, queue) => {
        queue.describe(0, driver.buffer(64).address, 0, DESCRIPTOR.indirect);
        queue.offer(0);
        queue.show();
      },
    ],
    [
      "an indirect table of odd bytes",
      (driver, queue) => {
        queue.describe(0, driver.buffer(64).address, 24, DESCRIPTOR.indirect);
        queue.offer(0);
        queue.show();
      },
    ],
    [
      "an indirect table of more entries than a queue can have",
      (driver, queue) => {
        queue.describe(0, driver.buffer(64).address, 16 * (QUEUE_SIZE + 1), DESCRIPTOR.indirect);
        queue.offer(0);
        queue.show();
      },
    ],
    [
      "an indirect descriptor with a next",
      (driver, queue) => {
        queue.describe(0, driver.buffer(64).address, 16, DESCRIPTOR.indirect | DESCRIPTOR.next, 1);
        queue.offer(0);
        queue.show();
      },
    ],
    [
      "a table within a table",
      (driver, queue) => {
        const { address } = driver.buffer(64);
        queue.describe(0, address, 16, DESCRIPTOR.indirect, 0, address);
        queue.describe(0, address, 16, DESCRIPTOR.indirect);
        queue.offer(0);
        queue.show();
      },
    ],
  ];

  test.each(hostile)("%s: the device needs a reset, says so once, and works after it", async (_what, act) => {
    const { driver, machine, guest, held, models } = await rig(["", ""]);
    const base = held();
    const [queue] = driver.up(1, ALL);
    act(driver, queue!);
    driver.write(MMIO.queueNotify, 0);
    driver.write(MMIO.queueNotify, 0);
    expect([driver.needsReset, driver.acknowledge() & INTERRUPT.config, held()]).toEqual([
      true,
      INTERRUPT.config,
      base,
    ]);
    expect(machine.log.filter((line) => line.includes("the device needs a reset")).length).toBe(1);
    for (const one of [driver, new VirtioDriver(guest, FIRST_SLOT + 0x1000)]) {
      const [again] = one.up(1, ALL);
      again!.add([one.buffer(8)], [one.buffer(8)]);
      again!.kick();
      expect(again!.take().length).toBe(1);
    }
    await machine.hypervisor.destroyDomain(guest.domain);
    expect(models.map((one) => one.closed)).toEqual([1, 1]);
    expect(machine.hypervisor.machine.frames.ownedBy(guest.domain.id)).toBe(0);
  });

  test("more chains under way than the queue has entries: no driver has so many descriptors", async () => {
    const { driver, model } = await rig();
    const [queue] = driver.up(1, ALL);
    model.later = true;
    queue!.describe(0, driver.buffer(4).address, 4, 0);
    for (let i = 0; i < queue!.size; i++) queue!.offer(0);
    queue!.kick();
    expect([driver.needsReset, model.waiting.length]).toEqual([false, queue!.size]);
    queue!.offer(0);
    queue!.kick();
    expect([driver.needsReset, model.waiting.length]).toEqual([true, 0]);
  });

  test("a chain is no longer than a queue can be, the descriptor of its table not counted", async () => {
    const { driver, model } = await rig();
    const [queue] = driver.up(1, ALL);
    const one = driver.buffer(8);
    const into = (count: number) => Array.from({ length: count }, () => one);
    queue!.add([], into(QUEUE_SIZE), true);
    model.later = true;
    queue!.kick();
    expect([driver.needsReset, model.waiting[0]?.chain.writeLength]).toEqual([false, 8 * QUEUE_SIZE]);
    // A frame has room for no more than 256 descriptors: the longer chain goes round in its table.
    const table = driver.guest.frame() * 4096;
    for (let i = 0; i < 256; i++) queue!.describe(i, one.address, 8, DESCRIPTOR.next | DESCRIPTOR.write, i + 1, table);
    queue!.describe(255, one.address, 8, DESCRIPTOR.next | DESCRIPTOR.write, 0, table);
    queue!.describe(1, table, 4096, DESCRIPTOR.indirect);
    queue!.offer(1);
    queue!.kick();
    expect(driver.needsReset).toBe(true);
  });

  test("rings in nobody's memory", async () => {
    const { driver } = await rig();
    for (const parts of [
      [0x7fff_f000, null, null],
      [null, 0x7fff_f000, null],
      [null, null, 0x7fff_f000],
    ]) {
      driver.negotiate(ALL);
      const own = parts.map((at) => at ?? driver.guest.frame() * 4096) as [number, number, number];
      driver.place(0, 8, ...own);
      if (parts[1] === null) driver.guest.view(own[1] / 4096).setUint16(2, 1, true);
      driver.ready();
      expect(driver.needsReset).toBe(true);
    }
  });

  test("indirect descriptors without the feature", async () => {
    const { driver } = await rig();
    const [queue] = driver.up(1, [VIRTIO_F.version1]);
    queue!.add([driver.buffer(4)], [], true);
    queue!.kick();
    expect(driver.needsReset).toBe(true);
  });

  test("complaints end", async () => {
    const { driver, machine } = await rig();
    for (let i = 0; i < 20; i++) {
      driver.write(MMIO.status, 0);
      driver.write(MMIO.status, STATUS.driverOk);
    }
    expect(machine.log.filter((line) => line.startsWith("echo")).length).toBe(9);
  });

  test("anything written anywhere", async () => {
    const { driver, guest, machine, held } = await rig();
    const base = held();
    const word = fc.oneof(fc.nat(20), fc.nat(0xffff_ffff), fc.constantFrom(0xffff_ffff, 0x8000_0000));
    const step = fc.oneof(
      { weight: 1, arbitrary: fc.record({ what: fc.constant("register" as const), at: fc.nat(0x120), value: word }) },
      {
        weight: 3,
        arbitrary: fc.record({ what: fc.constant("memory" as const), at: fc.nat(3 * 4096 - 4), value: word }),
      },
      { weight: 2, arbitrary: fc.record({ what: fc.constant("index" as const), at: fc.nat(1), value: fc.nat(70) }) },
      { weight: 2, arbitrary: fc.record({ what: fc.constant("kick" as const), at: fc.nat(1), value: fc.nat(1) }) },
      {
        weight: 3,
        arbitrary: fc.record({ what: fc.constant("descriptor" as const), at: fc.nat(63), value: fc.nat(0xffff_ffff) }),
      },
    );
    // Few frames for many runs: the queues' are used again and again, with what is in them.
    const first = driver.up(2, ALL);
    const areas = first.map((one) => [one.descriptors, one.available, one.used]);
    const target = guest.frame() * 4096;
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
        driver.negotiate(ALL);
        for (const [i, parts] of areas.entries()) {
          for (const part of parts) guest.page(part).fill(0);
          driver.place(i, 64, ...(parts.map((one) => one * 4096) as [number, number, number]));
        }
        driver.ready();
        expect(driver.needsReset).toBe(false);
        for (const { what, at, value } of steps) {
          if (what === "register") driver.write(at & ~3, value);
          else if (what === "kick") driver.write(MMIO.queueNotify, value);
          else if (what === "memory")
            guest.view(areas[0]![Math.floor(at / 4096)]!).setUint32(Math.min(at % 4096, 4092), value, true);
          else if (what === "index") guest.view(areas[at]![1]!).setUint16(2, value, true);
          else {
            const address = (value & 0x100) !== 0 ? target : value * 2 ** (value & 31);
            first[0]!.describe(at, address, (value >>> 9) & 0x1fff, value & 7, (value >>> 3) & 0x3f);
          }
        }
        expect(held()).toBe(base);
      }),
      { numRuns: 300, seed: 7 },
    );
    driver.write(MMIO.status, 0);
    const [queue] = driver.up(1, ALL);
    queue!.add([driver.buffer(8)], [driver.buffer(8)]);
    queue!.kick();
    expect(queue!.take().length).toBe(1);
    expect(machine.hypervisor.devices.list(guest.domain).length).toBe(2);
  });
});

test("random chains come back whole, whatever their shape and the order of answers", async () => {
  const part = fc.integer({ min: 1, max: 700 });
  const chain = fc.record({
    out: fc.array(part, { maxLength: 4 }),
    into: fc.array(part, { maxLength: 4 }),
    indirect: fc.boolean(),
    answer: fc.nat(3),
    kick: fc.boolean(),
  });
  const { driver, model, held } = await rig();
  const base = held();
  const room = driver.buffers(4096 * 8);
  await fc.assert(
    fc.asyncProperty(fc.array(chain, { minLength: 1, maxLength: 12 }), fc.boolean(), async (chains, eventIndex) => {
      const features = eventIndex ? ALL : [VIRTIO_F.indirect, VIRTIO_F.version1];
      if (!driver.negotiate(features)) expect.unreachable();
      const queue = driver.queue(0, 64);
      driver.ready();
      model.later = true;
      const under = new Map<number, { expected: Uint8Array; into: { address: number; length: number }[] }>();
      let at = 0;
      const place = (length: number) => {
        // Crooked addresses within the room, which is one run of frames.
        at = (at + 13) % (4096 * 7);
        const buffer = { address: room[0]!.address + at, length };
        at += length;
        return buffer;
      };
      at = 0;
      for (const [i, { out, into, indirect, answer, kick }] of chains.entries()) {
        if (out.length + into.length === 0 || at > 4096 * 5) continue;
        const readable = out.map(place);
        const writable = into.map(place);
        const content = bytes(
          out.reduce((a, b) => a + b, 0),
          i,
        );
        let done = 0;
        for (const { address, length } of readable) {
          for (let k = 0; k < length; k++)
            driver.guest.page(Math.floor((address + k) / 4096))[(address + k) % 4096] = content[done++]!;
        }
        const length = Math.min(
          content.length,
          into.reduce((a, b) => a + b, 0),
        );
        // An indirect table takes a frame of its own: few of them.
        const head = queue.add(readable, writable, indirect && i < 2);
        under.set(head, { expected: content.slice(0, length).reverse(), into: writable });
        if (kick) queue.kick();
        const now = Math.min(answer, model.waiting.length);
        if (now > 0) model.link!.burst(() => model.answer(model.link!.queue(0)!, now));
      }
      queue.kick();
      model.link!.burst(() => model.answer(model.link!.queue(0)!, model.waiting.length));
      for (const { head, written } of queue.take()) {
        const { expected, into } = under.get(head)!;
        under.delete(head);
        expect(written).toBe(expected.length);
        const got: number[] = [];
        for (const { address, length } of into)
          for (let k = 0; k < length; k++)
            got.push(driver.guest.page(Math.floor((address + k) / 4096))[(address + k) % 4096]!);
        expect(Uint8Array.from(got.slice(0, written))).toEqual(expected);
      }
      expect([under.size, driver.needsReset, held()]).toEqual([0, false, base]);
    }),
    { numRuns: 15, seed: 3 },
  );
});
