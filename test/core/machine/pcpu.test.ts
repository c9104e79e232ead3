/** A pCPU's time is exact at any rate: no drift, whatever the pieces that instructions retire in. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Pcpu } from "../../../core/machine/pcpu.ts";

const place = { socket: 0, core: 0, node: 0 };
const rates = fc.oneof(fc.constantFrom(1, 3, 7, 1000, 999, 2893, 3333), fc.integer({ min: 1, max: 6000 }));

describe("pCPU time", () => {
  test("pieces add up exactly", () => {
    fc.assert(
      fc.property(rates, fc.array(fc.nat(100_000), { maxLength: 300 }), (mhz, pieces) => {
        const pcpu = new Pcpu(0, place, mhz, { now: 0 });
        let total = 0n;
        for (const piece of pieces) {
          const after = pcpu.after(piece);
          pcpu.retire(piece);
          total += BigInt(piece);
          expect(pcpu.clock).toBe(after);
          expect(BigInt(pcpu.clock)).toBe((total * 1000n) / BigInt(mhz));
        }
      }),
      { numRuns: 200, interruptAfterTimeLimit: 2000 },
    );
  });

  test("instructionsUntil is the least number that gets there", () => {
    fc.assert(
      fc.property(rates, fc.nat(10_000), fc.integer({ min: 1, max: 10_000_000 }), (mhz, before, distance) => {
        const pcpu = new Pcpu(0, place, mhz, { now: 0 });
        pcpu.retire(before);
        const target = pcpu.clock + distance;
        const need = pcpu.instructionsUntil(target);
        expect(pcpu.after(need)).toBeGreaterThanOrEqual(target);
        if (need > 1) expect(pcpu.after(need - 1)).toBeLessThan(target);
        expect(pcpu.instructionsUntil(pcpu.clock)).toBe(1);
        expect(pcpu.instructionsUntil(pcpu.clock - 5)).toBe(1);
      }),
      { numRuns: 500, interruptAfterTimeLimit: 2000 },
    );
  });

  test("a day at an odd rate does not drift", () => {
    const pcpu = new Pcpu(0, place, 2893, { now: 0 });
    const day = 86_400;
    for (let second = 0; second < day; second++) pcpu.retire(2_893_000_000);
    expect(pcpu.clock).toBe(day * 1e9);
  });
});
