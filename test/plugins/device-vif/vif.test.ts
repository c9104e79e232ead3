/** The network backend, driven by scripted frontends through the real core: two guests on a bridge, and one with the gateway. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { NETIF_RSP, NETRXF, NETTXF, XenbusState } from "../../../core/abi/index.ts";
import plugin from "../../../plugins/device-vif/plugin.ts";
import { POLL } from "../../../plugins/device-vif/receive.ts";
import { DATA_SLOTS } from "../../../plugins/device-vif/transmit.ts";
import {
  DRAIN,
  parseMac,
  QUEUE_BYTES,
  transportOf,
  verifyChecksum,
  WIRE_LATENCY,
} from "../../../plugins/lib-switch/index.ts";
import networkBuiltin from "../../../plugins/network-builtin/plugin.ts";
import { FAKE_ABIS } from "../../support/fake-arch.ts";
import {
  type ScriptedGuest,
  type ScriptedMachine,
  type ScriptedOptions,
  scriptedMachine,
} from "../../support/scripted-frontend.ts";
import { dhcpFrame, echoFrame, ip, readDhcp } from "../network-builtin/client.ts";
import { EVERYBODY, ethernet, VifFrontend, type VifFrontendOptions } from "./frontend.ts";

const DIRECTORY = "device/vif/0";
const A = "00:16:3e:00:00:0a";
const B = "00:16:3e:00:00:0b";
const OKAY = NETIF_RSP.OKAY;
const ERROR = NETIF_RSP.ERROR;
const ALL_FEATURES = { "feature-gso-tcpv4": "1", "feature-gso-tcpv6": "1", "feature-ipv6-csum-offload": "1" };

async function boot(options: Partial<ScriptedOptions> & { readonly spec?: string; readonly gateway?: boolean } = {}) {
  const plugins = options.gateway === true ? [networkBuiltin, plugin] : [plugin];
  const devices = [{ type: "vif", spec: options.spec ?? "" }];
  const machine = await scriptedMachine({ plugins, devices, guests: 2, ...options });
  await machine.run();
  return machine;
}

async function connect(
  machine: ScriptedMachine,
  guest: ScriptedGuest,
  options: VifFrontendOptions & { readonly buffers?: number } = {},
): Promise<VifFrontend> {
  const frontend = new VifFrontend(guest, DIRECTORY, options);
  frontend.post(options.buffers ?? 24);
  guest.write(`${DIRECTORY}/state`, XenbusState.Initialised);
  await machine.run();
  expect(guest.backend("vif", 0, "state")).toBe(String(XenbusState.Connected));
  guest.write(`${DIRECTORY}/state`, XenbusState.Connected);
  await machine.run();
  return frontend;
}

async function pair(
  options: Parameters<typeof boot>[0] = {},
  one: VifFrontendOptions & { buffers?: number } = {},
  two = one,
) {
  const machine = await boot(options);
  const [first, second] = machine.guests as [ScriptedGuest, ScriptedGuest];
  return { machine, a: await connect(machine, first, one), b: await connect(machine, second, two) };
}

/** A TCP segment over IPv4 with the pseudo header's sum in its checksum field. */
function tcp(payload: number): Uint8Array {
  const bytes = ethernet(B, A, 54 + payload, 0x0800);
  const total = 40 + payload;
  bytes.set([0x45, 0, total >> 8, total & 255, 0, 1, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 2, 10, 0, 0, 3], 14);
  bytes.set([0x9c, 0x40, 0, 80, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x18, 1, 0, 0, 0, 0, 0], 34);
  return bytes;
}

describe("nodes", () => {
  test("as real Xen's toolstack and backend publish them", async () => {
    const machine = await boot({ guests: 1, spec: "mac=00:16:3e:00:00:01" });
    const guest = machine.guests[0]!;
    const backend = Object.fromEntries(
      [
        "frontend",
        "frontend-id",
        "online",
        "state",
        "mac",
        "bridge",
        "handle",
        "type",
        "hotplug-status",
        "feature-sg",
        "feature-gso-tcpv4",
        "feature-gso-tcpv6",
        "feature-ipv6-csum-offload",
        "feature-rx-copy",
        "feature-rx-flip",
        "feature-split-event-channels",
        "multi-queue-max-queues",
        "feature-ctrl-ring",
        "feature-multicast-control",
        "feature-xdp-headroom",
      ].map((key) => [key, guest.backend("vif", 0, key)]),
    );
    expect(backend).toEqual({
      frontend: "/local/domain/1/device/vif/0",
      "frontend-id": "1",
      online: "1",
      state: "2",
      mac: "00:16:3e:00:00:01",
      bridge: "xenbr0",
      handle: "0",
      type: "vif",
      "hotplug-status": "connected",
      "feature-sg": "1",
      "feature-gso-tcpv4": "1",
      "feature-gso-tcpv6": "1",
      "feature-ipv6-csum-offload": "1",
      "feature-rx-copy": "1",
      "feature-rx-flip": "0",
      "feature-split-event-channels": "1",
      "multi-queue-max-queues": "1",
      // What is not supported is not offered.
      "feature-ctrl-ring": "0",
      "feature-multicast-control": "0",
      "feature-xdp-headroom": undefined,
    });
    const frontend = ["backend", "backend-id", "state", "handle", "mac", "trusted", "mtu"].map((key) =>
      guest.read(`${DIRECTORY}/${key}`),
    );
    expect(frontend).toEqual(["/local/domain/0/backend/vif/1/0", "0", "1", "0", "00:16:3e:00:00:01", "1", "1500"]);
  });

  test("devices without a number get the next, without a MAC one of Xen's that depends on the seed alone", async () => {
    const devices = [
      { type: "vif", spec: "" },
      { type: "vif", spec: "devid=3" },
      { type: "vif", spec: "" },
    ];
    const macs = async (): Promise<string[]> => {
      const { guests } = await boot({ devices });
      return guests.flatMap((guest) => [0, 1, 3].map((id) => guest.read(`device/vif/${id}/mac`)!));
    };
    const first = await macs();
    expect(first).toEqual(await macs());
    expect(new Set(first).size).toBe(6);
    for (const mac of first) expect(mac).toMatch(/^00:16:3e:/);
    for (const mac of first) expect(parseMac(mac)).not.toBeNull();
  });
});

describe("from guest to guest", () => {
  test.each(FAKE_ABIS)("a frame arrives after the latency of the wire, in the layout of $name", async (abi) => {
    const { machine, a, b } = await pair({ abi });
    const before = machine.hypervisor.machine.now;
    const frame = ethernet(EVERYBODY, A);
    const ids = a.send(frame, { offset: 100 });
    await machine.run();
    expect(a.answers()).toEqual(ids.map((id) => ({ id, status: OKAY })));
    expect(b.received()).toEqual([{ bytes: frame, flags: 0, gso: null }]);
    // The guests' own time for their upcalls comes on top.
    const took = machine.hypervisor.machine.now - before;
    expect(took).toBeGreaterThanOrEqual(WIRE_LATENCY);
    expect(took).toBeLessThan(2 * WIRE_LATENCY);
    expect(a.received()).toEqual([]);
  });

  test("split channels are told apart, one channel serves both", async () => {
    const { machine, a, b } = await pair();
    const [tx, rx] = [b.guest.events(b.txPort), b.guest.events(b.rxPort)];
    a.send(ethernet(EVERYBODY, A));
    await machine.run();
    expect([b.guest.events(b.txPort) - tx, b.guest.events(b.rxPort) - rx]).toEqual([0, 1]);
    const single = await pair({}, { split: false });
    const before = single.b.guest.events(single.b.txPort);
    single.a.send(ethernet(EVERYBODY, A));
    await single.machine.run();
    expect(single.b.guest.events(single.b.txPort) - before).toBe(1);
    expect(single.b.received()).toHaveLength(1);
  });

  test("many frames in order, over the wrap of both rings", async () => {
    const { machine, a, b } = await pair();
    let got = 0;
    for (let n = 0; n < 700; n++) {
      a.send(ethernet(EVERYBODY, A, 60 + n));
      await machine.run();
      expect(a.answers()).toHaveLength(1);
      for (const { bytes } of b.received()) expect(bytes.length).toBe(60 + got++);
    }
    expect(got).toBe(700);
  });

  test("bridges are apart", async () => {
    const machine = await boot({ devices: [{ type: "vif", spec: "bridge=one" }], guests: 1 });
    const other = await boot({ devices: [{ type: "vif", spec: "bridge=one" }], guests: 1 });
    const a = await connect(machine, machine.guests[0]!);
    const b = await connect(other, other.guests[0]!);
    a.send(ethernet(EVERYBODY, A));
    await machine.run();
    await other.run();
    expect(b.received()).toEqual([]);
  });
});

describe("scatter-gather", () => {
  test("a chain of parts is one frame; a frame of several buffers is a chain", async () => {
    const { machine, a, b } = await pair({ spec: "mtu=65000" });
    const frame = ethernet(EVERYBODY, A, 9000);
    const ids = a.send(frame, { part: 700, offset: 3000 });
    expect(ids).toHaveLength(13);
    await machine.run();
    expect(a.answers()).toEqual(ids.map((id) => ({ id, status: OKAY })));
    expect(b.received()).toEqual([{ bytes: frame, flags: NETRXF.more_data, gso: null }]);
  });

  test("a receiver without it gets frames of one buffer only", async () => {
    const { machine, a, b } = await pair({ spec: "mtu=65000" }, {}, { nodes: { "feature-sg": "0" } });
    a.send(ethernet(EVERYBODY, A, 5000), { part: 3000 });
    await machine.run();
    a.send(ethernet(EVERYBODY, A, 4000), { part: 3000 });
    await machine.run();
    expect(b.received().map(({ bytes }) => bytes.length)).toEqual([4000]);
  });

  test("as many slots as the interface guarantees, and not one more", async () => {
    const { machine, a, b } = await pair();
    a.send(ethernet(EVERYBODY, A, 50 * DATA_SLOTS), { part: 50 });
    await machine.run();
    a.send(ethernet(EVERYBODY, A, 50 * DATA_SLOTS + 50), { part: 50 });
    await machine.run();
    a.send(ethernet(EVERYBODY, A));
    await machine.run();
    expect(a.answers().map(({ status }) => status)).toEqual([
      ...Array(DATA_SLOTS).fill(OKAY),
      ...Array(DATA_SLOTS + 1).fill(ERROR),
      OKAY,
    ]);
    expect(b.received().map(({ bytes }) => bytes.length)).toEqual([50 * DATA_SLOTS, 60]);
  });
});

describe("offload", () => {
  test("a blank checksum stays blank for who takes it, and is done for who does not", async () => {
    for (const takes of [true, false]) {
      const { machine, a, b } = await pair({}, {}, { nodes: takes ? {} : { "feature-no-csum-offload": "1" } });
      a.send(tcp(100), { flags: NETTXF.csum_blank | NETTXF.data_validated });
      await machine.run();
      const [frame] = b.received();
      expect(frame!.flags).toBe(takes ? NETRXF.csum_blank | NETRXF.data_validated : NETRXF.data_validated);
      expect(verifyChecksum(frame!.bytes, transportOf(frame!.bytes)!)).toBe(!takes);
    }
  });

  test("validated data is passed on as such", async () => {
    const { machine, a, b } = await pair();
    a.send(ethernet(EVERYBODY, A), { flags: NETTXF.data_validated });
    await machine.run();
    expect(b.received()[0]!.flags).toBe(NETRXF.data_validated);
  });

  test("segmentation goes through with its size, or is done", async () => {
    for (const takes of [true, false]) {
      const { machine, a, b } = await pair({}, {}, { nodes: takes ? ALL_FEATURES : {} });
      const frame = tcp(10_000);
      const ids = a.send(frame, { flags: NETTXF.csum_blank | NETTXF.data_validated, gso: { type: 1, size: 1448 } });
      await machine.run();
      const statuses = a.answers().map(({ status }) => status);
      expect(statuses).toEqual([OKAY, NETIF_RSP.NULL, ...Array(ids.length - 1).fill(OKAY)]);
      const got = b.received();
      if (takes) {
        const flags = NETRXF.csum_blank | NETRXF.data_validated | NETRXF.extra_info | NETRXF.more_data;
        expect(got).toEqual([{ bytes: frame, flags, gso: { type: 1, size: 1448 } }]);
      } else {
        expect(got).toHaveLength(Math.ceil(10_000 / 1448));
        expect(got.flatMap(({ bytes }) => [...bytes.subarray(54)])).toEqual([...frame.subarray(54)]);
        for (const { bytes, flags } of got) {
          expect(flags).toBe(NETRXF.data_validated);
          expect(verifyChecksum(bytes, transportOf(bytes)!)).toBe(true);
        }
      }
    }
  });

  test("a blank checksum or a segmentation of what is no TCP or UDP is an error", async () => {
    const { machine, a, b } = await pair();
    const buffer = a.buffer();
    a.guest.page(buffer.frame).set(ethernet(EVERYBODY, A));
    a.raw([{ reference: buffer.reference, size: 60, flags: NETTXF.csum_blank }]);
    a.raw([
      { reference: buffer.reference, size: 60, flags: NETTXF.extra_info },
      { extra: { type: 1, size: 100, gso: 1 } },
    ]);
    a.raw([
      { reference: buffer.reference, size: 60, flags: NETTXF.extra_info },
      { extra: { type: 1, size: 100, gso: 7 } },
    ]);
    a.raw([{ reference: buffer.reference, size: 60, flags: NETTXF.extra_info }, { extra: { type: 2 } }]);
    await machine.run();
    const wanted = [ERROR, ...Array(3).fill([ERROR, NETIF_RSP.NULL]).flat()];
    expect(a.answers().map(({ status }) => status)).toEqual(wanted);
    expect(b.received()).toEqual([]);
  });
});

test("segmentation is for TCP of the version that it names", async () => {
  const { machine, a, b } = await pair({}, {}, { nodes: ALL_FEATURES });
  a.send(tcp(3000), { flags: NETTXF.csum_blank, gso: { type: 2, size: 1000 } });
  await machine.run();
  expect(a.answers()[0]!.status).toBe(ERROR);
  expect(b.received()).toEqual([]);
});

describe("flow control", () => {
  test("frames wait for buffers, in order, and arrive when there are some", async () => {
    const { machine, a, b } = await pair({}, {}, { buffers: 1 });
    for (let n = 0; n < 5; n++) {
      a.send(ethernet(EVERYBODY, A, 60 + n));
      await machine.run({ until: machine.hypervisor.machine.now + 1e6 });
    }
    expect(b.received(false).map(({ bytes }) => bytes.length)).toEqual([60]);
    b.post(2);
    await machine.run({ until: machine.hypervisor.machine.now + 1e6 });
    expect(b.received(false).map(({ bytes }) => bytes.length)).toEqual([61, 62]);
    b.post(8);
    await machine.run();
    expect(b.received().map(({ bytes }) => bytes.length)).toEqual([63, 64]);
  });

  test("what waits for too long is dropped", async () => {
    const { machine, a, b } = await pair({}, {}, { buffers: 1 });
    a.send(ethernet(EVERYBODY, A, 60));
    await machine.run();
    a.send(ethernet(EVERYBODY, A, 61));
    const before = machine.hypervisor.machine.now;
    await machine.run();
    expect(machine.hypervisor.machine.now - before).toBe(DRAIN + WIRE_LATENCY);
    b.post(4);
    a.send(ethernet(EVERYBODY, A, 62));
    await machine.run();
    expect(b.received().map(({ bytes }) => bytes.length)).toEqual([60, 62]);
  });

  test("what waits is bounded", async () => {
    const { machine, a, b } = await pair({ spec: "mtu=65000" }, {}, { buffers: 0 });
    const frame = ethernet(EVERYBODY, A, 60_000);
    for (let n = 0; n < 12; n++) {
      a.send(frame);
      await machine.run({ until: machine.hypervisor.machine.now + 1e6 });
      a.answers();
    }
    b.post(200);
    await machine.run();
    expect(b.received()).toHaveLength(Math.floor(QUEUE_BYTES / 60_000));
  });

  test("a guest that does not tell of its buffers is looked after", async () => {
    const { machine, a, b } = await pair({}, {}, { buffers: 1, nodes: { "feature-rx-notify": null } });
    a.send(ethernet(EVERYBODY, A, 60));
    a.send(ethernet(EVERYBODY, A, 61));
    await machine.run({ until: machine.hypervisor.machine.now + 1e6 });
    const { send } = b.guest;
    b.guest.send = () => {};
    b.post(2);
    b.guest.send = send;
    await machine.run({ until: machine.hypervisor.machine.now + POLL });
    expect(b.received()).toHaveLength(2);
  });

  test("a bad buffer costs one frame", async () => {
    const { machine, a, b } = await pair({}, {}, { buffers: 0 });
    b.postRaw(0xffff_fff0);
    b.postRaw(b.guest.grant(b.guest.frame(), true));
    b.post(1);
    for (const length of [60, 61, 62]) {
      a.send(ethernet(EVERYBODY, A, length));
      await machine.run({ until: machine.hypervisor.machine.now + 1e6 });
    }
    expect(b.received(false).map(({ bytes }) => bytes.length)).toEqual([62]);
    expect(b.errors).toEqual([ERROR, ERROR]);
    expect(machine.log.filter((line) => line.includes("packet refused"))).toHaveLength(2);
  });
});

describe("hostile packets", () => {
  test("each is refused by itself, and what follows is sent", async () => {
    const { machine, a, b } = await pair();
    const { reference } = a.buffer();
    a.guest.page(a.buffer().frame).set(ethernet(EVERYBODY, A, 4096));
    const more = NETTXF.more_data;
    a.raw([{ reference, size: 0 }]);
    a.raw([{ reference, size: 13 }]);
    a.raw([{ reference, size: 60, offset: 4090 }]);
    a.raw([{ reference, size: 0xffff }]);
    a.raw([{ reference: 0xffff_ffff, size: 60 }]);
    a.raw([{ reference: 0, size: 60 }]);
    a.raw([
      { reference, size: 60, flags: more },
      { reference, size: 61 },
    ]);
    a.raw([
      { reference, size: 600, flags: more },
      { reference, size: 100, offset: 0xfff0 },
    ]);
    a.raw([
      { reference, size: 600, flags: more },
      { reference: 77_777, size: 100 },
    ]);
    a.raw([{ reference, size: 60 }]);
    await machine.run();
    expect(a.answers().map(({ status }) => status)).toEqual([...Array(12).fill(ERROR), OKAY]);
    expect(b.received()).toHaveLength(1);
    expect(a.guest.inUse(reference)).toBe(false);
    expect(machine.log.filter((line) => line.includes("packet refused"))).toHaveLength(8);
    expect(machine.log.filter((line) => line.includes("not logged"))).toHaveLength(1);
  });

  test.each([
    ["wild producer", (a: VifFrontend) => a.wildProducer("tx")],
    ["a slot that is not there", (a: VifFrontend) => a.raw([{ reference: a.buffer().reference, size: 60, flags: 4 }])],
    [
      "an extra segment that is not there",
      (a: VifFrontend) => a.raw([{ reference: a.buffer().reference, size: 60, flags: 8 }]),
    ],
    [
      "an extra segment of no type",
      (a: VifFrontend) => a.raw([{ reference: a.buffer().reference, size: 60, flags: 8 }, { extra: { type: 0 } }]),
    ],
    [
      "extra segments without end",
      (a: VifFrontend) =>
        a.raw([
          { reference: a.buffer().reference, size: 60, flags: 8 },
          ...Array.from({ length: 255 }, () => ({ extra: { type: 1, more: true } })),
        ]),
    ],
    [
      "a chain without end",
      (a: VifFrontend) =>
        a.raw(Array.from({ length: 256 }, () => ({ reference: a.buffer().reference, size: 60, flags: 4 }))),
    ],
  ])("%s: the interface is closed, lets go of everything, and may connect again", async (_name, act) => {
    const { machine, a, b } = await pair();
    act(a as VifFrontend);
    await machine.run();
    expect(machine.log.join("\n")).toContain("interface closed, wild ring");
    expect(a.guest.backend("vif", 0, "carrier")).toBe("0");
    expect(a.guest.domain.grants.activeCount).toBe(0);
    expect(a.guest.domain.dying).toBe(false);
    for (const state of [XenbusState.Closing, XenbusState.Closed, XenbusState.Initialising]) {
      a.guest.write(`${DIRECTORY}/state`, state);
      await machine.run();
    }
    const again = await connect(machine, a.guest);
    expect(a.guest.backend("vif", 0, "carrier")).toBe("1");
    again.send(ethernet(EVERYBODY, A));
    await machine.run();
    expect(b.received()).toHaveLength(1);
  });
});

test("whatever is on the rings: no fault of the plugin, nothing kept, and the other guest goes on", async () => {
  const slot = fc.record({
    kind: fc.nat(9),
    reference: fc.constantFrom(0, 8, 9, 12, 40, 0xffff_ffff),
    offset: fc.constantFrom(0, 1, 100, 4095, 4096, 0xffff),
    size: fc.constantFrom(0, 13, 14, 60, 100, 1500, 4096, 5000, 0xffff),
    flags: fc.nat(0xffff).map((flags) => (flags % 3 === 0 ? flags & 15 : flags & 4)),
    type: fc.nat(6),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(slot, { minLength: 1, maxLength: 40 }), fc.option(fc.nat(600)), async (slots, index) => {
      const { machine, a, b } = await pair({}, { buffers: 4 });
      a.guest.page(a.buffer().frame).set(tcp(1400));
      a.raw(
        slots.map(({ kind, type, size, flags, reference, offset }) =>
          kind < 3
            ? { extra: { type, size, gso: type % 3, more: kind === 0 } }
            : { reference: kind < 6 ? a.buffer().reference : reference, size, flags, offset },
        ),
      );
      if (index !== null) a.wildProducer(index % 2 === 0 ? "tx" : "rx", index);
      await machine.run();
      b.received();
      expect(machine.log.filter((line) => line.includes("failed"))).toEqual([]);
      expect([0, 2]).toContain(a.guest.domain.grants.activeCount);
      const c = b.send(ethernet(EVERYBODY, B));
      await machine.run();
      expect(b.answers()).toEqual(c.map((id) => ({ id, status: OKAY })));
    }),
    { numRuns: 60 },
  );
});

describe("connecting", () => {
  test.each([
    ["multi-queue-num-queues", "2"],
    ["request-rx-copy", "0"],
    ["request-rx-copy", null],
    ["tx-ring-ref", "x"],
    ["rx-ring-ref", "99999999"],
    ["event-channel-rx", "0"],
    ["event-channel-tx", "4000000000"],
  ])("is refused with %s = %s", async (key, value) => {
    const machine = await boot({ guests: 1 });
    const guest = machine.guests[0]!;
    new VifFrontend(guest, DIRECTORY, { nodes: { [key]: value } });
    guest.write(`${DIRECTORY}/state`, XenbusState.Initialised);
    await machine.run();
    expect(guest.backend("vif", 0, "state")).toBe(String(XenbusState.Closing));
    expect(guest.domain.grants.activeCount).toBe(0);
  });

  test("a disconnect with frames under way drops them", async () => {
    const { machine, a, b } = await pair();
    a.send(ethernet(EVERYBODY, A));
    await machine.run({ done: () => a.answers().length > 0 });
    b.guest.write(`${DIRECTORY}/state`, XenbusState.Closing);
    await machine.run();
    expect(b.guest.domain.grants.activeCount).toBe(0);
    expect(b.received()).toEqual([]);
    a.send(ethernet(EVERYBODY, A));
    await machine.run();
    expect(a.answers().map(({ status }) => status)).toEqual([OKAY]);
  });

  test("the domain's end with frames waiting leaves nothing", async () => {
    const { machine, a, b } = await pair({}, {}, { buffers: 0 });
    a.send(ethernet(EVERYBODY, A));
    await machine.run({ until: machine.hypervisor.machine.now + 1e6 });
    await machine.hypervisor.destroyDomain(b.guest.domain);
    a.send(ethernet(EVERYBODY, A));
    await machine.run();
    expect(machine.hypervisor.machine.frames.ownedBy(b.guest.domain.id)).toBe(0);
    expect(machine.hypervisor.machine.timers.size).toBe(0);
  });
});

test("the gateway of the bridge gives an address and answers a ping", async () => {
  const machine = await boot({ gateway: true, spec: "bridge=xenbr3" });
  const guest = machine.guests[1]!;
  const frontend = await connect(machine, guest);
  const mac = parseMac(guest.read(`${DIRECTORY}/mac`)!)!;
  frontend.send(dhcpFrame(mac, 1).bytes);
  await machine.run();
  const [offer] = frontend.received();
  expect(readDhcp({ bytes: offer!.bytes, checksum: "full", segmentation: null }).yours).toBe("10.0.3.3");
  const route = { sourceMac: mac, targetMac: 0x0200_0a00_0301, source: ip("10.0.3.3"), target: ip("10.0.3.1") };
  frontend.send(echoFrame(route).bytes);
  await machine.run();
  expect(frontend.received()[0]!.bytes[34]).toBe(0);
});
