/** The learning switch: flooding, learning, aging, moving, pinned stations, limits. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  AGING,
  BROADCAST,
  Bridge,
  createNetworkHooks,
  type Endpoint,
  type Frame,
  formatMac,
  isGroup,
  MOST_STATIONS,
  type Port,
  parseMac,
  plainFrame,
  readMac,
  writeMac,
} from "../../../plugins/lib-switch/index.ts";

function frame(target: number, source: number, length = 60): Frame {
  const bytes = new Uint8Array(length);
  writeMac(bytes, 0, target);
  writeMac(bytes, 6, source);
  return plainFrame(bytes);
}

class Wire implements Endpoint {
  readonly name = "wire";
  readonly owner = null;
  readonly mac = null;
  readonly ip = null;
  readonly mtu: number;
  got = 0;
  last: Port | null = null;
  readonly port: Port;
  constructor(bridge: Bridge, mtu = 1500) {
    this.mtu = mtu;
    this.port = bridge.attach(this);
  }
  deliver(_frame: Frame, _now: number, from: Port): void {
    this.got++;
    this.last = from;
  }
}

function setup(count: number, mtu?: number) {
  const bridge = new Bridge("xenbr0", 0);
  const wires = Array.from({ length: count }, () => new Wire(bridge, mtu));
  /** Who gets a frame. */
  const sent = (from: number, target: number, source: number, now = 0, length?: number): number[] => {
    const before = wires.map((wire) => wire.got);
    wires[from]!.port.send(frame(target, source, length), now);
    return wires.flatMap((wire, i) => Array.from({ length: wire.got - before[i]! }, () => i));
  };
  return { bridge, wires, sent };
}

describe("addresses", () => {
  test("as text and as numbers", () => {
    expect(parseMac("00:16:3e:01:02:ff")).toBe(0x0016_3e01_02ff);
    expect(parseMac("00-16-3E-01-02-FF")).toBe(0x0016_3e01_02ff);
    for (const bad of ["", "00:16:3e:01:02", "01:00:5e:00:00:01", "00:00:00:00:00:00", "00:16:3e:01:02:fg"])
      expect(parseMac(bad)).toBeNull();
    expect(formatMac(0x0016_3e01_02ff)).toBe("00:16:3e:01:02:ff");
    expect(isGroup(BROADCAST)).toBe(true);
  });

  test("bytes and back", () => {
    fc.assert(
      fc.property(
        fc.maxSafeNat().map((n) => n % 2 ** 48),
        (mac) => {
          const bytes = new Uint8Array(8);
          writeMac(bytes, 1, mac);
          expect(readMac(bytes, 1)).toBe(mac);
        },
      ),
    );
  });
});

describe("the bridge", () => {
  test("floods what it does not know, and learns", () => {
    const { sent } = setup(4);
    expect(sent(0, 0xb, 0xa)).toEqual([1, 2, 3]);
    expect(sent(1, 0xa, 0xb)).toEqual([0]);
    expect(sent(0, 0xb, 0xa)).toEqual([1]);
    expect(sent(2, BROADCAST, 0xc)).toEqual([0, 1, 3]);
    expect(sent(2, 0x0100_5e00_0001, 0xc)).toEqual([0, 1, 3]);
  });

  test("a frame to a station behind the sender's own port goes nowhere", () => {
    const { sent } = setup(3);
    sent(0, BROADCAST, 0xa);
    sent(0, BROADCAST, 0xaa);
    expect(sent(0, 0xaa, 0xa)).toEqual([]);
  });

  test("stations age in virtual time, move, and leave with their port", () => {
    const { bridge, wires, sent } = setup(3);
    sent(0, BROADCAST, 0xa, 0);
    expect(sent(1, 0xa, 0xb, AGING - 1)).toEqual([0]);
    expect(sent(1, 0xa, 0xb, AGING)).toEqual([0, 2]);
    sent(2, BROADCAST, 0xa, AGING);
    expect(sent(1, 0xa, 0xb, AGING)).toEqual([2]);
    wires[2]!.port.detach();
    expect(sent(1, 0xa, 0xb, AGING)).toEqual([0]);
    expect(bridge.ports).toHaveLength(2);
    expect(sent(2, BROADCAST, 0xc)).toEqual([]);
  });

  test("a pinned station is nobody else's", () => {
    const { wires, sent } = setup(3);
    wires[0]!.port.pin(0xa);
    expect(sent(1, BROADCAST, 0xa)).toEqual([]);
    expect(sent(1, 0xa, 0xb, 10 * AGING)).toEqual([0]);
    expect(sent(0, BROADCAST, 0xa)).toEqual([1, 2]);
  });

  test("one port cannot fill the table", () => {
    const { bridge, wires, sent } = setup(2);
    sent(1, BROADCAST, 0xffff);
    for (let n = 0; n < 5 * MOST_STATIONS; n++) sent(0, BROADCAST, 0x10000 + n);
    expect(wires[0]!.port.stations.size).toBe(MOST_STATIONS);
    expect(bridge.portOf(0xffff, 0)).toBe(wires[1]!.port);
    expect(bridge.portOf(0x10000, 0)).toBeNull();
    expect(bridge.portOf(0x10000 + 5 * MOST_STATIONS - 1, 0)).toBe(wires[0]!.port);
  });

  test("runts, frames for the switch itself and frames above the MTU are dropped", () => {
    const { sent, wires } = setup(2);
    expect(sent(0, BROADCAST, 0xa, 0, 13)).toEqual([]);
    expect(sent(0, 0x0180_c200_0000, 0xa)).toEqual([]);
    expect(sent(0, BROADCAST, 0xa, 0, 1518)).toEqual([1]);
    expect(sent(0, BROADCAST, 0xa, 0, 1519)).toEqual([]);
    expect(wires[1]!.port.counters).toEqual({ sent: 0, delivered: 1, dropped: 1 });
    wires[0]!.port.send({ ...frame(BROADCAST, 0xa, 9000), segmentation: { version: 4, size: 1448 } }, 0);
    expect(wires[1]!.got).toBe(2);
    wires[0]!.port.send({ ...frame(BROADCAST, 0xa, 9000), segmentation: { version: 4, size: 1461 } }, 0);
    expect(wires[1]!.got).toBe(2);
  });

  test("never back to the sender, nobody twice, and only to where the station was last heard of", () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.nat(4), fc.integer({ min: 1, max: 6 }), fc.integer({ min: 1, max: 6 })), {
          maxLength: 40,
        }),
        (steps) => {
          const { wires, sent } = setup(5);
          const where = new Map<number, number>();
          for (const [from, target, source] of steps) {
            const got = sent(from, target * 2, source * 2);
            where.set(source, from);
            const known = where.get(target);
            expect(got).toEqual(
              known === undefined ? [0, 1, 2, 3, 4].filter((i) => i !== from) : known === from ? [] : [known],
            );
            for (const i of got) expect(wires[i]!.last).toBe(wires[from]!.port);
          }
        },
      ),
    );
  });

  test("who observes learns of ports that are there, that come and that go", () => {
    const { bridge, wires } = setup(1);
    const seen: string[] = [];
    bridge.observe({ attached: () => seen.push("+"), detached: () => seen.push("-") });
    const other = new Wire(bridge);
    other.port.detach();
    other.port.detach();
    wires[0]!.port.detach();
    expect(seen.join("")).toBe("++--");
  });
});

describe("the network", () => {
  test("bridges by name, numbered by their names where that is free", () => {
    const { network, bridgeMade } = createNetworkHooks();
    const made: string[] = [];
    bridgeMade.tap("test", (bridge) => void made.push(bridge.name));
    const numbers = ["xenbr0", "xenbr7", "lan", "virbr7", "br300", "xenbr0"].map((name) => network.bridge(name).number);
    expect(numbers).toEqual([0, 7, 100, 101, 102, 0]);
    expect(made).toEqual(["xenbr0", "xenbr7", "lan", "virbr7", "br300"]);
    for (let n = 0; n < 250; n++) network.bridge(`more-${n}-x`);
    expect(new Set(network.bridges.map((bridge) => bridge.number)).size).toBe(255);
    expect(() => network.bridge("last")).toThrow("Bridge 'last': there are 255 bridges already, which is all.");
  });

  test("two networks have nothing in common", () => {
    const one = createNetworkHooks().network;
    const two = createNetworkHooks().network;
    expect(one.bridge("xenbr0")).not.toBe(two.bridge("xenbr0"));
  });

  test("every frame is told of once", () => {
    const hooks = createNetworkHooks();
    const bridge = hooks.network.bridge("xenbr0");
    const [wire] = [new Wire(bridge), new Wire(bridge), new Wire(bridge)];
    const seen: number[] = [];
    hooks.frame.tap("test", (_bridge, _port, _frame, now) => void seen.push(now));
    wire.port.send(frame(BROADCAST, 0xa), 17);
    expect(seen).toEqual([17]);
  });
});
