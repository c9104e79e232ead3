/** Instructions against a real CPU: recorded vectors, and fresh random ones where the host is an x86-64 with a C compiler. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { encode, opcodes, Random } from "./generate.ts";
import type { Case, Outcome } from "./guest.ts";
import { BareGuest } from "./guest.ts";
import { differences, hostCpu } from "./host.ts";
import { decodeLine, flagsOf, inputOf, type Kind } from "./vectors.ts";

const recorded = readFileSync(join(import.meta.dirname, "../../fixtures/x86/vectors.txt"), "utf8")
  .trim()
  .split("\n");

/** Lines that say which case differs, at most a few. */
function check(
  guest: BareGuest,
  cases: readonly { kind: Kind; input: Case; outcome: Outcome }[],
  slice?: (n: number) => number,
): string[] {
  const out: string[] = [];
  for (const [n, { kind, input, outcome }] of cases.entries()) {
    const got = guest.run(input, slice?.(n));
    const found = differences(outcome, got, flagsOf(kind, input.code), input.fx !== null);
    if (found.length > 0) out.push(`${kind} ${Buffer.from(input.code).toString("hex")}: ${found.join("; ")}`);
  }
  return out.slice(0, 10);
}

describe("against recorded outcomes of a CPU", () => {
  const cases = recorded.map(decodeLine);
  it("covers the whole opcode table", () => {
    const seen = new Set(recorded.map((line) => line.split(" ")[2]!));
    expect(seen.size).toBeGreaterThan(2000);
    expect(cases.length).toBeGreaterThan(3000);
  });
  it("tier 0 agrees", () => {
    expect(check(new BareGuest(), cases)).toEqual([]);
  });
  it("tier 0 agrees when cut into slices of an instruction each", () => {
    const some = cases.filter((c, n) => c.kind === "s" || n % 7 === 0);
    expect(check(new BareGuest(), some, () => 1)).toEqual([]);
  });
  it("the oracle agrees", () => {
    expect(
      check(
        new BareGuest("oracle"),
        cases.filter((_, n) => n % 3 === 0),
      ),
    ).toEqual([]);
  });
});

const host = hostCpu();
describe("against the host's CPU", () => {
  it.skipIf(host === null)("fresh random instructions agree", () => {
    const seed = Date.now() & 0x7fffffff;
    const random = new Random(seed);
    const plan: { kind: Kind; input: Case }[] = [];
    const add = (kind: Kind, code: readonly number[]) =>
      plan.push({ kind, input: inputOf(kind, random.u32(), Uint8Array.from(code)) });
    for (const opcode of opcodes(() => true)) {
      const simd = (opcode.entry.flags & 512) !== 0;
      const code = encode(random, opcode, simd);
      if (code !== null) add(opcode.entry.name === "x87" ? "f" : simd ? "v" : "i", code);
    }
    for (let n = 0; n < 300; n++) add("s", []);
    for (let n = 0; n < 100; n++) add("r", []);
    const outcomes = host!.run(plan.map((p) => p.input));
    const cases = plan.map((p, n) => ({ ...p, outcome: outcomes[n]! }));
    expect(check(new BareGuest(), cases), `seed ${seed}`).toEqual([]);
  });
});
