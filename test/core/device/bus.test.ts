/** The I/O bus of a domain: regions, straddling accesses, what nobody claims, devices that throw. */
import { describe, expect, test } from "vitest";
import { createExit, type Exit } from "../../../core/architecture/arch-backend.ts";
import { Bus } from "../../../core/device/bus.ts";
import type { EmulatedDevice } from "../../../core/device/device-type.ts";

interface Fake extends EmulatedDevice {
  readonly calls: string[];
}

/** Reads as the offset in each byte, plus `base`. */
function device(base: number, ...regions: EmulatedDevice["regions"]): Fake {
  const calls: string[] = [];
  return {
    kind: "emulated",
    regions,
    calls,
    read: (region, offset, size) => {
      calls.push(`r${region} +${offset} ${size}`);
      let value = 0;
      for (let i = size - 1; i >= 0; i--) value = value * 256 + ((base + offset + i) & 0xff);
      return value;
    },
    write: (region, offset, size, value) => void calls.push(`w${region} +${offset} ${size} ${value.toString(16)}`),
    reset: () => {},
  };
}

function access(bus: Bus, address: number, size: Exit["size"], write?: readonly [lo: number, hi: number]): Exit {
  const exit = createExit();
  Object.assign(exit, {
    space: "mmio",
    addressLo: address >>> 0,
    addressHi: Math.floor(address / 2 ** 32),
    size,
    write: write !== undefined,
    valueLo: write?.[0] ?? 0,
    valueHi: write?.[1] ?? 0,
  });
  bus.access(exit);
  return exit;
}

describe("the bus", () => {
  test("offsets, sizes, the high half of 8 bytes, addresses above 4 GiB", () => {
    const bus = new Bus();
    const low = device(0x10, { space: "mmio", base: 0x1000, size: 16 }, { space: "mmio", base: 2 ** 36, size: 8 });
    bus.add("low", low);
    expect(access(bus, 0x1002, 1).valueLo).toBe(0x12);
    expect(access(bus, 0x1002, 2).valueLo).toBe(0x1312);
    expect(access(bus, 0x100c, 4).valueLo).toBe(0x1f1e1d1c);
    const wide = access(bus, 2 ** 36, 8);
    expect([wide.valueLo, wide.valueHi]).toEqual([0x13121110, 0x17161514]);
    access(bus, 0x1000, 8, [0xdeadbeef, 0x12345678]);
    access(bus, 0x1001, 1, [0xffff_ff42, 0]);
    expect(low.calls).toEqual([
      "r0 +2 1",
      "r0 +2 2",
      "r0 +12 4",
      "r1 +0 4",
      "r1 +4 4",
      "w0 +0 4 deadbeef",
      "w0 +4 4 12345678",
      "w0 +1 1 42",
    ]);
  });

  test("what nobody claims reads all ones and takes writes; another space is another place", () => {
    const bus = new Bus();
    bus.add("pio", device(0, { space: "pio", base: 0x60, size: 4 }));
    for (const [size, ones] of [
      [1, 0xff],
      [2, 0xffff],
      [4, 0xffffffff],
    ] as const)
      expect(access(bus, 0x60, size).valueLo).toBe(ones);
    const wide = access(bus, 0x60, 8);
    expect([wide.valueLo, wide.valueHi]).toEqual([0xffffffff, 0xffffffff]);
    access(bus, 0x60, 4, [1, 0]);
  });

  test("an access over an edge reaches each device byte by byte, one that encloses a small region too", () => {
    const bus = new Bus();
    const a = device(0xa0, { space: "mmio", base: 0x100, size: 2 });
    const b = device(0xb0, { space: "mmio", base: 0x102, size: 1 });
    bus.add("a", a);
    bus.add("b", b);
    expect(access(bus, 0x100, 4).valueLo).toBe(0xffb0a1a0);
    expect(access(bus, 0xff, 4).valueLo).toBe(0xb0a1a0ff);
    expect(access(bus, 0x101, 4).valueLo).toBe(0xffffb0a1);
    access(bus, 0x101, 2, [0x2211, 0]);
    expect(a.calls.at(-1)).toBe("w0 +1 1 11");
    expect(b.calls.at(-1)).toBe("w0 +0 1 22");
  });

  test("overlaps and regions that are none are refused in a sentence; a device that went leaves room", () => {
    const bus = new Bus();
    const first = device(0, { space: "mmio", base: 0x1000, size: 0x100 });
    bus.add("uart", first);
    expect(() => bus.add("rtc", device(0, { space: "mmio", base: 0x10ff, size: 2 }))).toThrow(
      "Device 'rtc' wants mmio 0x10ff..0x1100, which overlaps device 'uart' at 0x1000; move one of them.",
    );
    expect(() =>
      bus.add("self", device(0, { space: "pio", base: 0, size: 2 }, { space: "pio", base: 1, size: 2 })),
    ).toThrow(/overlaps device 'self'/);
    for (const size of [0, -1, 0.5, Number.NaN])
      expect(() => bus.add("odd", device(0, { space: "pio", base: 0x70, size }))).toThrow(/that is no region/);
    bus.remove(first);
    bus.add("rtc", device(0, { space: "mmio", base: 0x10ff, size: 2 }));
  });

  test("what a device throws goes to whoever cares, else to the caller", () => {
    const broken: EmulatedDevice = {
      ...device(0, { space: "mmio", base: 0, size: 4 }),
      read: () => {
        throw new Error("bang");
      },
    };
    const alone = new Bus();
    alone.add("broken", broken);
    expect(() => access(alone, 0, 4)).toThrow("bang");
    const told: unknown[] = [];
    const bus = new Bus((which, error) => {
      told.push(which, (error as Error).message);
      bus.remove(which);
    });
    bus.add("broken", broken);
    expect(access(bus, 0, 2).valueLo).toBe(0xffff);
    expect(access(bus, 0, 4).valueLo).toBe(0xffffffff);
    expect(told).toEqual([broken, "bang"]);
  });
});
