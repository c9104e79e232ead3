/** The PLIC by its registers: gateways, priorities, thresholds, claims, hostile accesses, and random use against a plain model. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { DeviceHost } from "../../../core/device/device-type.ts";
import { parsePlicSpec, plicType } from "../../../plugins/device-plic/plic.ts";
import plugin from "../../../plugins/device-plic/plugin.ts";
import { scriptedMachine } from "../../support/scripted-frontend.ts";

const BASE = 0xc00_0000;
const PENDING = 0x1000;
const ENABLE = 0x2000;
const CONTEXT = 0x20_0000;

/** A PLIC alone, with the pins of its harts. */
function rig(sources = 95, harts = 2) {
  const pins: boolean[] = Array.from({ length: harts }, () => false);
  const changes: string[] = [];
  const host = {
    pin(hart: number, pin: number, level: boolean) {
      expect(pin).toBe(9);
      expect(pins[hart]).toBe(!level);
      pins[hart] = level;
      changes.push(`${hart}${level ? "+" : "-"}`);
      return true;
    },
  } as unknown as DeviceHost;
  const plic = plicType.create(host, { base: BASE, sources, harts });
  if (plic.kind !== "emulated") throw new Error("not emulated");
  const read = (offset: number): number => plic.read(0, offset, 4);
  const write = (offset: number, value: number): void => plic.write(0, offset, 4, value);
  return {
    plic,
    pins,
    changes,
    read,
    write,
    line: (line: number, level: boolean) => plic.controller!.line(line, level),
    priority: (source: number, value: number) => write(4 * source, value),
    enable: (hart: number, ...enabled: number[]) => {
      for (let word = 0; word < 32; word++) {
        let bits = 0;
        for (const source of enabled) if (source >>> 5 === word) bits |= 1 << (source & 31);
        write(ENABLE + 0x80 * hart + 4 * word, bits >>> 0);
      }
    },
    threshold: (hart: number, value: number) => write(CONTEXT + 0x1000 * hart, value),
    claim: (hart: number) => read(CONTEXT + 0x1000 * hart + 4),
    complete: (hart: number, source: number) => write(CONTEXT + 0x1000 * hart + 4, source),
    pending: (source: number) => ((read(PENDING + 4 * (source >>> 5)) >>> (source & 31)) & 1) === 1,
  };
}

describe("specs", () => {
  test("defaults and all", () => {
    expect(parsePlicSpec("")).toEqual({ base: BASE, harts: 1, sources: 95 });
    expect(parsePlicSpec("base=0x1000,harts=4,sources=1023")).toEqual({ base: 0x1000, harts: 4, sources: 1023 });
  });
  test.each(["harts=0", "sources=1024", "harts=5000", "base=-1", "pins=1"])("%s is refused", (spec) => {
    expect(() => parsePlicSpec(spec)).toThrow(/^PLIC '.*\.$/);
  });
});

describe("a level-triggered source", () => {
  test("interrupts, is claimed, and comes again after completion while its line is high", () => {
    const r = rig();
    r.priority(10, 1);
    r.enable(1, 10);
    r.line(10, true);
    expect([r.pins, r.pending(10)]).toEqual([[false, true], true]);
    expect([r.claim(1), r.pins[1], r.pending(10)]).toEqual([10, false, false]);
    expect(r.claim(1)).toBe(0);
    r.complete(1, 10);
    expect([r.pins[1], r.claim(1)]).toEqual([true, 10]);
    r.line(10, false);
    r.complete(1, 10);
    expect([r.pins[1], r.claim(1)]).toEqual([false, 0]);
    expect(r.changes).toEqual(["1+", "1-", "1+", "1-"]);
  });

  test("stays pending when its line falls before the claim", () => {
    const r = rig();
    r.priority(3, 1);
    r.enable(0, 3);
    r.line(3, true);
    r.line(3, false);
    expect([r.pins[0], r.claim(0)]).toEqual([true, 3]);
    r.line(3, true);
    r.line(3, false);
    expect(r.pending(3)).toBe(false);
    r.complete(0, 3);
    expect(r.pins[0]).toBe(false);
  });

  test("is claimed by one of the harts that have it", () => {
    const r = rig();
    r.priority(7, 5);
    r.enable(0, 7);
    r.enable(1, 7);
    r.line(7, true);
    expect(r.pins).toEqual([true, true]);
    expect([r.claim(1), r.claim(0), ...r.pins]).toEqual([7, 0, false, false]);
    // Completion by a hart that has not enabled it, or of what was not claimed, is ignored.
    r.enable(0);
    r.complete(0, 7);
    r.complete(1, 8);
    r.complete(1, 0);
    r.complete(1, 0xffff_ffff);
    expect(r.pins).toEqual([false, false]);
    r.complete(1, 7);
    expect(r.pins).toEqual([false, true]);
  });
});

test("priorities, ties, thresholds; a claim does not look at the threshold", () => {
  const r = rig();
  for (const [source, priority] of [
    [5, 2],
    [40, 7],
    [6, 7],
    [64, 0],
  ] as const)
    r.priority(source, priority);
  r.enable(0, 5, 6, 40, 64);
  for (const source of [64, 40, 5, 6]) r.line(source, true);
  r.threshold(0, 7);
  expect(r.pins[0]).toBe(false);
  r.threshold(0, 6);
  expect(r.pins[0]).toBe(true);
  r.threshold(0, 7);
  expect([r.claim(0), r.claim(0), r.claim(0), r.claim(0)]).toEqual([6, 40, 5, 0]);
  r.complete(0, 40);
  expect(r.pins[0]).toBe(false);
  r.threshold(0, 0xffff_fff8);
  expect([r.pins[0], r.read(CONTEXT)]).toEqual([true, 0]);
  r.priority(40, 0);
  expect([r.pins[0], r.claim(0)]).toEqual([false, 0]);
});

test("registers of what does not exist, narrow and crooked accesses", () => {
  const r = rig(33, 1);
  for (const offset of [
    0,
    4 * 34,
    4 * 1023,
    ENABLE + 8,
    ENABLE + 0x80,
    CONTEXT + 8,
    CONTEXT + 0x1000,
    CONTEXT + 0x1004,
    0x3ff_fffc,
  ]) {
    r.write(offset, 0xffff_ffff);
    expect(r.read(offset)).toBe(0);
  }
  r.write(ENABLE, 0xffff_ffff);
  r.write(ENABLE + 4, 0xffff_ffff);
  expect([r.read(ENABLE), r.read(ENABLE + 4)]).toEqual([0xffff_fffe, 3]);
  r.write(4, 0xff);
  expect(r.read(4)).toBe(7);
  r.line(1, true);
  r.write(PENDING, 0);
  expect(r.read(PENDING)).toBe(2);
  for (const size of [1, 2] as const) {
    expect(r.plic.read(0, CONTEXT + 4, size)).toBe(0);
    r.plic.write(0, 4, size, 1);
  }
  expect(r.plic.read(0, 6, 4)).toBe(0);
  expect(r.claim(0)).toBe(1);
  for (const line of [0, 34, -1, 1.5, Number.NaN])
    expect(() => r.line(line, true)).toThrow(/There is no interrupt line/);
});

test("reset: pins low, nothing enabled; lines are as they are", () => {
  const r = rig();
  r.priority(2, 1);
  r.enable(0, 2);
  r.line(2, true);
  r.claim(0);
  r.plic.reset();
  expect([r.pins[0], r.read(8), r.read(ENABLE), r.pending(2)]).toEqual([false, 0, 0, true]);
  r.priority(2, 1);
  r.enable(0, 2);
  expect([r.pins[0], r.claim(0)]).toEqual([true, 2]);
});

test("random use agrees with a plain model", () => {
  const step = fc.record({
    what: fc.constantFrom("line", "priority", "enable", "threshold", "claim", "complete"),
    hart: fc.integer({ min: 0, max: 2 }),
    source: fc.integer({ min: 1, max: 40 }),
    value: fc.nat(9),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 120 }), (steps) => {
      const r = rig(40, 3);
      const sources = Array.from({ length: 41 }, () => ({ high: false, pending: false, busy: false, priority: 0 }));
      const harts = Array.from({ length: 3 }, () => ({ enabled: new Set<number>(), threshold: 0 }));
      const best = (hart: number): number => {
        const all = [...harts[hart]!.enabled].filter((s) => sources[s]!.pending && sources[s]!.priority > 0);
        return all.sort((a, b) => sources[b]!.priority - sources[a]!.priority || a - b)[0] ?? 0;
      };
      for (const { what, hart, source, value } of steps) {
        const s = sources[source]!;
        const h = harts[hart]!;
        if (what === "line") {
          const rises = value > 4 && !s.high;
          s.high = value > 4;
          if (rises && !s.busy) s.pending = true;
          r.line(source, value > 4);
        } else if (what === "priority") {
          s.priority = value & 7;
          r.priority(source, value);
        } else if (what === "enable") {
          if (value > 2) h.enabled.add(source);
          else h.enabled.delete(source);
          r.enable(hart, ...h.enabled);
        } else if (what === "threshold") {
          h.threshold = value & 7;
          r.threshold(hart, value);
        } else if (what === "claim") {
          const expected = best(hart);
          if (expected !== 0) Object.assign(sources[expected]!, { pending: false, busy: true });
          expect(r.claim(hart)).toBe(expected);
        } else {
          if (h.enabled.has(source) && s.busy) Object.assign(s, { busy: false, pending: s.high });
          r.complete(hart, source);
        }
        expect(r.pins).toEqual(
          harts.map(({ enabled, threshold }) =>
            [...enabled].some((one) => sources[one]!.pending && sources[one]!.priority > threshold),
          ),
        );
      }
    }),
    { numRuns: 200, seed: 1 },
  );
});

test("in a domain: takes the lines of other devices, has the pins of the vCPUs", async () => {
  const machine = await scriptedMachine({
    plugins: [plugin],
    devices: [{ type: "plic", spec: "harts=2,sources=31" }],
    vcpus: 2,
  });
  const guest = machine.guests[0]!;
  expect(guest.placed).toEqual([
    {
      type: "plic",
      id: 0,
      regions: [{ space: "mmio", base: BASE, size: 0x400_0000 }],
      description: {
        compatible: ["sifive,plic-1.0.0", "riscv,plic0"],
        interrupts: [],
        properties: {
          "interrupt-controller": true,
          "#interrupt-cells": [1],
          "#address-cells": [0],
          "riscv,ndev": [31],
        },
      },
    },
  ]);
  guest.ioWrite(BASE + 4 * 5, 1);
  guest.ioWrite(BASE + ENABLE + 0x80, 1 << 5);
  expect(guest.ioRead(BASE + ENABLE + 0x80)).toBe(1 << 5);
});
