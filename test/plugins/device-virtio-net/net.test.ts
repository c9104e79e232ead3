/** The virtio network device under scripted drivers on a bridge: offloads, merged buffers, waiting, hostile packets, company of a Xen frontend. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { XenbusState } from "../../../core/abi/index.ts";
import plic from "../../../plugins/device-plic/plugin.ts";
import vif from "../../../plugins/device-vif/plugin.ts";
import { HEADER, MOST_FRAME } from "../../../plugins/device-virtio-net/header.ts";
import { createVirtioNetType, NET_F } from "../../../plugins/device-virtio-net/net.ts";
import plugin from "../../../plugins/device-virtio-net/plugin.ts";
import {
  createNetworkHooks,
  DRAIN,
  QUEUE_BYTES,
  sharedNetwork,
  transportOf,
  verifyChecksum,
  WIRE_LATENCY,
} from "../../../plugins/lib-switch/index.ts";
import { MMIO, VIRTIO_F } from "../../../plugins/lib-virtio/index.ts";
import networkBuiltin from "../../../plugins/network-builtin/plugin.ts";
import { type ScriptedGuest, scriptedMachine } from "../../support/scripted-frontend.ts";
import { FIRST_SLOT } from "../../support/virtio-driver.ts";
import { EVERYBODY, ethernet, VifFrontend } from "../device-vif/frontend.ts";
import { dhcpFrame, readDhcp } from "../network-builtin/client.ts";
import { NetDriver } from "./driver.ts";

const A = "00:16:3e:00:00:0a";
const B = "00:16:3e:00:00:0b";
const PLAIN = [VIRTIO_F.version1];
const [NEEDS_CHECKSUM, DATA_VALID, TCP4, ECN] = [1, 2, 1, 0x80];
const CSUM = { flags: NEEDS_CHECKSUM, checksumStart: 34, checksumOffset: 16 };

async function boot(spec = "", more: Partial<Parameters<typeof scriptedMachine>[0]> = {}) {
  return scriptedMachine({
    plugins: [plic, plugin],
    devices: [
      { type: "plic", spec: "" },
      { type: "virtio-net", spec },
    ],
    guests: 2,
    ...more,
  });
}

async function pair(
  spec = "",
  one?: readonly number[],
  two?: readonly number[],
  buffers: readonly [number, number] = [16, 2048],
) {
  const machine = await boot(spec);
  const [first, second] = machine.guests as [ScriptedGuest, ScriptedGuest];
  const a = new NetDriver(first, FIRST_SLOT, one);
  const b = new NetDriver(second, FIRST_SLOT, two);
  for (const driver of [a, b]) driver.post(...buffers);
  return { machine, a, b, wait: (ns: number) => machine.run({ until: machine.hypervisor.machine.now + ns }) };
}

/** A TCP segment over IPv4 with the pseudo header's sum in its checksum field. */
function tcp(payload: number, flags = 0x18): Uint8Array {
  const bytes = ethernet(B, A, 54 + payload, 0x0800);
  const total = 40 + payload;
  bytes.set([0x45, 0, total >> 8, total & 255, 0, 1, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 2, 10, 0, 0, 3], 14);
  bytes.set([0x9c, 0x40, 0, 80, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, flags, 1, 0, 0, 0, 0, 0], 34);
  let sum = 0x0a00 + 2 + 0x0a00 + 3 + 6 + 20 + payload;
  sum = (sum & 0xffff) + (sum >> 16);
  bytes.set([sum >> 8, sum & 255], 50);
  return bytes;
}

test("specs: device-vif's and a place", () => {
  const type = createVirtioNetType(() => createNetworkHooks().network);
  expect(type.parse("slot=4,mac=00:16:3e:00:00:01")).toMatchObject({ place: { slot: 4 }, vif: { mac: 0x163e000001 } });
  expect(type.deviceId(type.parse(""), new Set([0, 1]))).toBe(2);
  expect(type.deviceId(type.parse("devid=7"), new Set())).toBe(7);
  for (const bad of ["mac=1", "slot=x", "speed=1", "base=4096"])
    expect(() => type.parse(bad)).toThrow(/^Network device '.*\.$/);
});

test("what the guest is told of it", async () => {
  const machine = await boot("mac=00:16:3e:01:02:03,mtu=9000", { guests: 1 });
  const guest = machine.guests[0]!;
  const driver = new NetDriver(guest);
  expect([driver.read(MMIO.deviceId), driver.offered()]).toEqual([
    1,
    [0, 1, 3, 5, 7, 8, 9, 11, 12, 13, 15, 16, 28, 29, 32],
  ]);
  const at = (offset: number, size: 1 | 2 | 4) => guest.ioRead(FIRST_SLOT + MMIO.config + offset, size);
  expect([0, 1, 2, 3, 4, 5].map((offset) => at(offset, 1))).toEqual([0, 0x16, 0x3e, 1, 2, 3]);
  expect([at(6, 2), at(8, 2), at(10, 2), at(12, 4)]).toEqual([1, 1, 9000, 0]);
  expect(machine.log.some((line) => line.includes("another device has its MAC address"))).toBe(false);
});

describe("from guest to guest", () => {
  test.each([
    ["plain", PLAIN, false],
    ["everything", undefined, true],
  ] as const)("a frame arrives after the latency of the wire (%s)", async (_what, features, all) => {
    const { machine, a, b, wait } = await pair("", features, features);
    const frame = ethernet(EVERYBODY, A, 300);
    a.send(frame, {}, 100);
    expect([a.sent(), a.interrupts]).toEqual([1, 1]);
    await wait(WIRE_LATENCY - 1);
    expect([b.arrived(), b.interrupts]).toEqual([[], 0]);
    await wait(1);
    expect(b.arrived()).toEqual([
      {
        flags: 0,
        gsoType: 0,
        headerLength: 0,
        gsoSize: 0,
        checksumStart: 0,
        checksumOffset: 0,
        buffers: 1,
        bytes: frame,
      },
    ]);
    expect([b.acknowledge(), a.arrived()]).toEqual([1, []]);
    // Notifications are asked for when there is need, only.
    if (!all) expect([b.receive.deviceFlags, b.transmit.deviceFlags]).toEqual([1, 0]);
    expect(machine.hypervisor.machine.frames.refs[b.receive.descriptors]).toBe(1);
  });

  test("many frames in order, over the wrap of the rings", async () => {
    const { a, b, wait } = await pair("", undefined, undefined, [0, 1]);
    const into = b.buffers(4 * 2048, 2048);
    const out = a.buffer(HEADER + 100);
    for (let n = 0; n < 2000; n++) {
      const frame = ethernet(EVERYBODY, A, 60 + (n % 40));
      a.fill([out], Uint8Array.from([...new Uint8Array(HEADER), ...frame]));
      const head = b.receive.add([], [into[n % 4]!]);
      b.receive.kick();
      a.transmit.add([{ address: out.address, length: HEADER + frame.length }], []);
      a.transmit.kick();
      await wait(WIRE_LATENCY);
      expect([a.sent(), b.receive.take()]).toEqual([1, [{ head, written: HEADER + frame.length }]]);
    }
  });

  test("a Xen frontend on the same bridge, without and with a network plugin", async () => {
    for (const more of [[], [networkBuiltin]]) {
      const machine = await scriptedMachine({
        plugins: [plic, plugin, vif, ...more],
        devices: [
          { type: "plic", spec: "" },
          { type: "virtio-net", spec: "" },
          { type: "vif", spec: "" },
        ],
      });
      const guest = machine.guests[0]!;
      const driver = new NetDriver(guest);
      driver.post(4);
      await machine.run();
      const frontend = new VifFrontend(guest, "device/vif/0");
      frontend.post(4);
      guest.write("device/vif/0/state", XenbusState.Initialised);
      await machine.run();
      guest.write("device/vif/0/state", XenbusState.Connected);
      await machine.run();
      driver.send(ethernet(EVERYBODY, A));
      await machine.run();
      expect(frontend.received().map(({ bytes }) => bytes)).toEqual([ethernet(EVERYBODY, A)]);
      frontend.send(ethernet(EVERYBODY, B, 100));
      await machine.run();
      expect(driver.arrived().map(({ bytes }) => bytes)).toEqual([ethernet(EVERYBODY, B, 100)]);
    }
  });

  test("the gateway gives an address", async () => {
    const machine = await boot("mac=00:16:3e:00:00:0a,ip=10.0.0.9", {
      plugins: [plic, plugin, networkBuiltin],
      guests: 1,
    });
    const driver = new NetDriver(machine.guests[0]!);
    driver.post(4);
    driver.send(dhcpFrame(0x163e00000a, 1).bytes);
    await machine.run();
    const [offer] = driver.arrived();
    expect(readDhcp({ bytes: offer!.bytes, checksum: "full", segmentation: null }).yours).toBe("10.0.0.9");
  });
});

describe("offload", () => {
  test("a blank checksum stays blank for who takes it, and is done for who does not", async () => {
    for (const takes of [true, false]) {
      const { a, b, machine } = await pair("", undefined, takes ? undefined : PLAIN);
      a.send(tcp(100), CSUM);
      await machine.run();
      const [frame] = b.arrived();
      expect(frame).toMatchObject(takes ? CSUM : { flags: 0, checksumStart: 0 });
      expect(verifyChecksum(frame!.bytes, transportOf(frame!.bytes)!)).toBe(!takes);
      if (takes) expect(frame!.bytes).toEqual(tcp(100));
    }
  });

  test("segmentation goes through with its size, or is done", async () => {
    for (const takes of [true, false]) {
      const { a, b, machine } = await pair("", undefined, takes ? undefined : PLAIN);
      a.send(tcp(10_000), { ...CSUM, gsoType: TCP4, gsoSize: 1448, headerLength: 54 });
      await machine.run();
      const got = b.arrived();
      if (takes) {
        expect(got).toMatchObject([{ ...CSUM, gsoType: TCP4, gsoSize: 1448, headerLength: 54, buffers: 5 }]);
        expect(got[0]!.bytes).toEqual(tcp(10_000));
      } else {
        expect(got.flatMap(({ bytes }) => [...bytes.subarray(54)])).toEqual([...tcp(10_000).subarray(54)]);
        for (const { bytes, gsoType } of got) {
          expect(gsoType).toBe(0);
          expect(verifyChecksum(bytes, transportOf(bytes)!)).toBe(true);
        }
      }
    }
  });

  test("a segment whose sender has slowed down is whole for who knows of that only", async () => {
    const ecn = [NET_F.guestChecksum, NET_F.guestTso4, NET_F.mergeBuffers, VIRTIO_F.version1];
    for (const features of [[...ecn, NET_F.guestEcn], ecn]) {
      const { a, b, machine } = await pair("", undefined, features);
      a.send(tcp(3000, 0x98), { ...CSUM, gsoType: TCP4 | ECN, gsoSize: 1448 });
      await machine.run();
      const got = b.arrived().map(({ gsoType, flags }) => [gsoType, flags]);
      expect(got).toEqual(features.includes(NET_F.guestEcn) ? [[TCP4 | ECN, 1]] : Array(3).fill([0, DATA_VALID]));
    }
  });

  test("a checksum of what is neither TCP nor UDP is done by its offsets", async () => {
    const { a, b, machine } = await pair();
    const frame = ethernet(EVERYBODY, A, 100);
    frame.fill(0, 40, 42);
    a.send(frame, { flags: NEEDS_CHECKSUM, checksumStart: 20, checksumOffset: 20 });
    await machine.run();
    const [got] = b.arrived();
    let sum = 0;
    for (let at = 20; at < 100; at += 2) sum += got!.bytes[at]! * 256 + got!.bytes[at + 1]!;
    while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
    expect([got!.flags, sum]).toEqual([0, 0xffff]);
  });
});

describe("buffers", () => {
  test("a frame of several, merged; without that too large a frame is lost, and the next is not", async () => {
    const merged = await pair("mtu=9000", undefined, undefined, [16, 1000]);
    merged.a.send(ethernet(EVERYBODY, A, 4500));
    await merged.machine.run();
    expect(merged.b.arrived()).toMatchObject([{ buffers: 5, bytes: ethernet(EVERYBODY, A, 4500) }]);
    const apart = await pair("mtu=9000", undefined, PLAIN, [16, 1000]);
    apart.a.send(ethernet(EVERYBODY, A, 1000));
    apart.a.send(ethernet(EVERYBODY, A, 988));
    await apart.machine.run();
    expect(apart.b.arrived().map(({ bytes }) => bytes.length)).toEqual([988]);
  });

  test.each([
    ["event index", undefined],
    ["flags", [NET_F.mergeBuffers, VIRTIO_F.version1]],
  ])("frames wait for them, in order (%s)", async (_what, features) => {
    const { a, b, wait } = await pair("mtu=9000", undefined, features, [1, 500]);
    for (let n = 0; n < 4; n++) a.send(ethernet(EVERYBODY, A, 400 + 20 * n));
    await wait(1e6);
    expect(b.arrived().map(({ bytes }) => bytes.length)).toEqual([400]);
    const event = b.receive.availableEvent;
    if (features === undefined) expect(event).toBe(1);
    else expect(b.receive.deviceFlags).toBe(0);
    b.post(1, 500);
    expect(b.arrived().map(({ bytes }) => bytes.length)).toEqual([420]);
    a.send(ethernet(EVERYBODY, A, 900));
    await wait(1e6);
    b.post(3, 500);
    // Two fit, of the third there is half the room that it needs.
    expect(b.arrived().map(({ bytes }) => bytes.length)).toEqual([440, 460]);
    b.post(1, 500);
    expect(b.arrived()).toMatchObject([{ buffers: 2, bytes: ethernet(EVERYBODY, A, 900) }]);
  });

  test("what waits for too long is dropped, and what is too much at once", async () => {
    const { a, b, wait } = await pair("", undefined, undefined, [0, 1]);
    a.send(ethernet(EVERYBODY, A));
    await wait(DRAIN + WIRE_LATENCY);
    b.post(2);
    expect(b.arrived()).toEqual([]);
    const big = tcp(60_000);
    const out = a.buffers(HEADER + big.length);
    const header = new Uint8Array(HEADER);
    header.set([1, TCP4, 54, 0, 0xa8, 5, 34, 0, 16]);
    a.fill(out, Uint8Array.from([...header, ...big]));
    for (let n = 0; n < 12; n++) {
      a.transmit.add(out, []);
      a.transmit.kick();
      a.transmit.take();
    }
    await wait(1e6);
    const [room] = b.buffers(16 * 4096);
    let got = 0;
    for (let round = 0; round < 12; round++) {
      b.receive.add([], [{ address: room!.address, length: 16 * 4096 }]);
      b.receive.kick();
      got += b.receive.take().length;
    }
    // The two small buffers of before are part of the first.
    expect(got).toBe(2 + Math.floor(QUEUE_BYTES / big.length));
  });

  test("before the driver is ready, and after its reset, frames go nowhere", async () => {
    const { a, b, wait, machine } = await pair();
    a.send(ethernet(EVERYBODY, A, 100));
    b.write(MMIO.status, 0);
    a.send(ethernet(EVERYBODY, A, 101));
    const again = new NetDriver(b.guest);
    again.post(4);
    await wait(1e6);
    a.send(ethernet(EVERYBODY, A, 102));
    await wait(1e6);
    expect([b.arrived(), again.arrived().map(({ bytes }) => bytes.length)]).toEqual([[], [102]]);
    await machine.hypervisor.destroyDomain(b.guest.domain);
    a.send(ethernet(EVERYBODY, A, 103));
    await wait(1e6);
    expect(machine.hypervisor.machine.frames.ownedBy(b.guest.domain.id)).toBe(0);
  });
});

describe("hostile packets", () => {
  test.each<[string, Uint8Array, Parameters<NetDriver["send"]>[1]]>([
    ["no frame", new Uint8Array(0), {}],
    ["half an Ethernet header", new Uint8Array(13), {}],
    ["too much", new Uint8Array(MOST_FRAME + 1), {}],
    ["segmentation of an unknown type", tcp(3000), { ...CSUM, gsoType: 3, gsoSize: 1000 }],
    ["segmentation into nothing", tcp(3000), { ...CSUM, gsoType: TCP4 }],
    ["segmentation for the other version", tcp(3000), { ...CSUM, gsoType: 4, gsoSize: 1000 }],
    ["segmentation with a full checksum", tcp(3000), { gsoType: TCP4, gsoSize: 1000 }],
    ["segmentation of what is none", ethernet(EVERYBODY, A, 200), { ...CSUM, gsoType: TCP4, gsoSize: 10 }],
    ["a checksum beyond the end", ethernet(EVERYBODY, A), { flags: 1, checksumStart: 50, checksumOffset: 9 }],
    [
      "a checksum at the end of everything",
      ethernet(EVERYBODY, A),
      { flags: 1, checksumStart: 0xffff, checksumOffset: 0xffff },
    ],
    ["a checksum of the addresses", ethernet(EVERYBODY, A), { flags: 1, checksumStart: 0, checksumOffset: 0 }],
  ])("%s is dropped with a line in the log", async (_what, frame, header) => {
    const { a, b, machine } = await pair();
    a.send(frame, header);
    a.send(ethernet(EVERYBODY, A, 77));
    await machine.run();
    expect([a.sent(), b.arrived().map(({ bytes }) => bytes.length)]).toEqual([2, [77]]);
    expect(machine.log.filter((line) => line.includes("packet refused")).length).toBe(1);
  });

  test("offloads that were not agreed on", async () => {
    const { a, b, machine } = await pair("", PLAIN);
    a.send(tcp(100), CSUM);
    a.send(tcp(3000), { gsoType: TCP4, gsoSize: 1000 });
    for (let i = 0; i < 10; i++) a.send(new Uint8Array(1));
    await machine.run();
    expect([a.sent(), b.arrived()]).toEqual([12, []]);
    expect(machine.log.filter((line) => line.includes("packet refused")).length).toBe(8);
  });

  test("a receive chain below the header needs a reset; the sender notices nothing", async () => {
    const { a, b, machine } = await pair("", undefined, undefined, [0, 1]);
    b.post(1, HEADER - 1);
    a.send(ethernet(EVERYBODY, A));
    await machine.run();
    expect([a.sent(), a.needsReset, b.needsReset]).toEqual([1, false, true]);
    const again = new NetDriver(b.guest);
    again.post(1);
    a.send(ethernet(EVERYBODY, A));
    await machine.run();
    expect(again.arrived().length).toBe(1);
  });

  test("any header, any bytes", async () => {
    const { a, b, machine } = await pair("", undefined, undefined, [0, 1]);
    const [out] = [a.buffers(400)];
    const into = b.buffers(2048);
    await fc.assert(
      fc.asyncProperty(
        fc.uint8Array({ minLength: HEADER, maxLength: HEADER }),
        fc.uint8Array({ maxLength: 300 }),
        fc.boolean(),
        async (header, noise, likeTcp) => {
          const frame = likeTcp ? tcp(200) : noise;
          if (likeTcp) for (const [i, value] of noise.entries()) if (i % 37 === 0) frame[i % frame.length] = value;
          const bytes = Uint8Array.from([...header, ...frame]);
          a.fill(out!, bytes);
          a.transmit.add([{ address: out![0]!.address, length: bytes.length }], []);
          for (let i = 0; i < 4; i++) if (b.receive.free > 0) b.receive.add([], into);
          b.receive.kick();
          a.transmit.kick();
          await machine.run();
          b.receive.take();
          expect([a.transmit.take().length, a.needsReset, b.needsReset]).toEqual([1, false, false]);
        },
      ),
      { numRuns: 150, seed: 11 },
    );
  });
});

test("sharedNetwork gives all device plugins of a hypervisor the same bridges", async () => {
  const seen: unknown[] = [];
  const one = (name: string) => ({
    name,
    api: "^1.0.0",
    apply(hypervisor: Parameters<typeof sharedNetwork>[0]) {
      const network = sharedNetwork(hypervisor, name);
      hypervisor.hooks.boot.tap({ name, stage: 10 }, () => void seen.push(network()));
    },
  });
  await scriptedMachine({ plugins: [one("a"), one("b")], devices: [] });
  expect(seen.length).toBe(2);
  expect(seen[0]).toBe(seen[1]);
});
