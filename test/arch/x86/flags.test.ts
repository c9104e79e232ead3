/** The three forms of the lazy flags agree: halves in TypeScript, BigInt, WebAssembly; and every condition on them. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { conditionHolds, evaluateFlags, flagsFromHalves } from "../../../arch/x86/flags.ts";
import { STATE } from "../../../arch/x86/state.ts";
import { BareGuest, CODE, plainCase } from "./guest.ts";

const at = STATE.at;
const edges = [
  0n,
  1n,
  0x7fn,
  0x80n,
  0xffn,
  0x7fffn,
  0x8000n,
  0x7fffffffn,
  0x80000000n,
  (1n << 63n) - 1n,
  1n << 63n,
  (1n << 64n) - 1n,
];
const value = fc.oneof(fc.constantFrom(...edges), fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }));
/** A cell triple as operations leave it: sign-extended from the width. */
const triple = fc.tuple(fc.integer({ min: 0, max: 31 }), value, value).map(([op, d, s]) => {
  const bits = 8 << (op & 3);
  const extend = (x: bigint) => BigInt.asUintN(64, BigInt.asIntN(bits, x));
  if (op < 4) return [0, d, s & 0x8d5n] as const;
  if (op < 8) return [op, extend(d), s & 0x801n] as const;
  if (op < 16) return [op, extend(d), s & 1n] as const;
  return [op, extend(d), extend(s)] as const;
});
const half = (x: bigint, n: number) => Number((x >> BigInt(32 * n)) & 0xffffffffn) | 0;

describe("lazy flags", () => {
  it("agree in TypeScript", () => {
    fc.assert(
      fc.property(triple, ([op, d, s]) => {
        expect(flagsFromHalves(op, half(d, 0), half(d, 1), half(s, 0), half(s, 1))).toBe(evaluateFlags(op, d, s));
      }),
      { numRuns: 3000 },
    );
  });
  it("agree in WebAssembly, with every condition", () => {
    const guest = new BareGuest();
    const { vcpu, machine } = guest;
    // set each condition into a register byte: seto al, setno [..] would be long: one setcc and lahf at a time
    const code: number[] = [];
    for (let cc = 0; cc < 16; cc++) code.push(0x41, 0x0f, 0x90 | cc, 0xc0); // setcc r8b
    guest.run(plainCase([...code, 0xcc]));
    fc.assert(
      fc.property(triple, fc.integer({ min: 0, max: 15 }), ([op, d, s], cc) => {
        vcpu.setRip(CODE + 4 * cc, 0);
        vcpu.setState(at.ccOp, op);
        vcpu.translated.set64(at.ccDst, half(d, 0), half(d, 1));
        vcpu.translated.set64(at.ccSrc, half(s, 0), half(s, 1));
        machine.run(vcpu, 1);
        expect(vcpu.lo(8) & 0xff).toBe(conditionHolds(cc, evaluateFlags(op, d, s)) ? 1 : 0);
      }),
      { numRuns: 2000 },
    );
  });
});
