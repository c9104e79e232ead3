/** String instructions against a model that does one element after the other; and how long one of them may keep the host. */
import { describe, expect, it } from "vitest";
import { RAX, RCX, RDI, RSI } from "../../../arch/x86/state.ts";
import { BareGuest, SCRATCH } from "./guest.ts";

type Kind = "movs" | "cmps" | "stos" | "lods" | "scas";
const OPCODES: Readonly<Record<Kind, number>> = { movs: 0xa4, cmps: 0xa6, stos: 0xaa, lods: 0xac, scas: 0xae };
const DF = 0x400;

interface Case {
  readonly kind: Kind;
  readonly size: number;
  /** 0, 0xf3 or 0xf2. */
  readonly rep: number;
  readonly down: boolean;
  readonly from: number;
  readonly to: number;
  readonly count: number;
  readonly value: bigint;
}

/** What it does to memory and how many elements, one at a time. Also whether the last pair was equal. */
function model(c: Case, memory: Uint8Array): { elements: number; equal: boolean | null } {
  const step = c.down ? -c.size : c.size;
  const value = Uint8Array.from({ length: 8 }, (_, i) => Number((c.value >> BigInt(8 * i)) & 255n));
  let [from, to] = [c.from, c.to];
  let equal: boolean | null = null;
  const total = c.rep === 0 ? 1 : c.count;
  for (let i = 0; i < total; i++, from += step, to += step) {
    const element = c.kind === "stos" || c.kind === "scas" ? value : memory.slice(from, from + c.size);
    if (c.kind === "movs" || c.kind === "stos") memory.set(element.subarray(0, c.size), to);
    if (c.kind !== "cmps" && c.kind !== "scas") continue;
    equal = element.subarray(0, c.size).every((byte, k) => byte === memory[to + k]);
    if (c.rep !== 0 && equal !== (c.rep === 0xf3)) return { elements: i + 1, equal };
  }
  return { elements: total, equal };
}

function bytesOf(c: Case): Uint8Array {
  const prefixes = [...(c.rep === 0 ? [] : [c.rep]), ...(c.size === 2 ? [0x66] : []), ...(c.size === 8 ? [0x48] : [])];
  // 66 goes before the repetition so that REX stays next to the opcode
  return Uint8Array.from([...prefixes, OPCODES[c.kind] | (c.size === 1 ? 0 : 1), 0xcc]);
}

describe("string instructions", () => {
  it("do what a loop over their elements does, overlapping or not, up and down, across pages", () => {
    const guest = new BareGuest();
    let seed = 1;
    const below = (n: number): number => {
      seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
      return Math.floor((seed / 2 ** 32) * n);
    };
    for (let n = 0; n < 1000; n++) {
      const kind = (["movs", "movs", "cmps", "stos", "lods", "scas"] as const)[below(6)]!;
      const size = [1, 2, 4, 8][below(4)]!;
      const count = below(4) === 0 ? below(3000 / size) : below(40);
      const reach = count * size + 16;
      const to = reach + below(8192 - 2 * reach);
      const near = below(2) === 0 ? to + below(40) - 20 : reach + below(8192 - 2 * reach);
      const from = Math.max(reach, Math.min(8192 - reach, near));
      const few = below(2) === 0;
      const scratch = Uint8Array.from({ length: 8192 }, () => (few ? (below(200) === 0 ? 1 : 0) : below(256)));
      const value = few ? 0n : (BigInt(below(2 ** 31)) << 32n) | BigInt(below(2 ** 31));
      const c: Case = { kind, size, rep: [0, 0xf3, 0xf2][below(3)]!, down: below(2) === 0, from, to, count, value };
      const expected = scratch.slice();
      const { elements, equal } = model(c, expected);
      const gpr = new BigUint64Array(16);
      gpr[RAX] = value;
      gpr[RCX] = BigInt(count);
      gpr[RSI] = BigInt(SCRATCH + from);
      gpr[RDI] = BigInt(SCRATCH + to);
      const got = guest.run({ code: bytesOf(c), gpr, rflags: 2 | (c.down ? DF : 0), fx: null, scratch });
      const what = JSON.stringify({ ...c, value: String(value) });
      expect(got.vector, what).toBe(3);
      expect(Buffer.compare(got.scratch, expected), what).toBe(0);
      if (c.rep !== 0) expect(Number(got.gpr[RCX]), what).toBe(count - elements);
      const moved = BigInt((c.down ? -size : size) * elements);
      if (kind !== "lods") expect(got.gpr[RDI], what).toBe(BigInt(SCRATCH + to) + moved);
      if (kind === "movs" || kind === "lods" || kind === "cmps")
        expect(got.gpr[RSI], what).toBe(BigInt(SCRATCH + from) + moved);
      if (equal !== null) expect((got.rflags & 0x40) !== 0, what).toBe(equal);
    }
  });

  it("keep the host for microseconds, whatever they compare or move: a page is one instruction", () => {
    const guest = new BareGuest();
    const scratch = new Uint8Array(8192);
    const cases: readonly (readonly [name: string, code: readonly number[], to: number, count: number])[] = [
      ["cmpsb", [0xf3, 0xa6], 0, 4000],
      ["scasb", [0xf2, 0xae], 0, 4000],
      ["movsb onto its own tail", [0xf3, 0xa4], 1, 4000],
      ["movsw onto its own tail", [0x66, 0xf3, 0xa5], 1, 2000],
    ];
    const word = (value: number): number[] => [value & 255, (value >> 8) & 255, (value >> 16) & 255, value >>> 24];
    for (const [name, code, to, count] of cases) {
      const gpr = new BigUint64Array(16);
      gpr[RAX] = 1n;
      const setUp = [0xbe, ...word(SCRATCH), 0xbf, ...word(SCRATCH + to), 0xb9, ...word(count), ...code];
      const loop = Uint8Array.from([...setUp, 0xeb, 256 - setUp.length - 2]);
      guest.run({ code: loop, gpr, rflags: 2, fx: null, scratch });
      const start = process.cpuUsage();
      for (let i = 0; i < 5; i++) guest.run({ code: loop, gpr, rflags: 2, fx: null, scratch });
      const { user, system } = process.cpuUsage(start);
      // A thousand pages. Element by element through objects took 250 ms and more: a hundred thousand outlasted the host's guard.
      expect((user + system) / 1000, name).toBeLessThan(120);
    }
  });
});
