/** Instructions against another implementation: vectors recorded from qemu-riscv64, and fresh random ones where Debian's qemu-user can be had. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { INSTRUCTIONS } from "../../../arch/riscv64/decode.ts";
import { itWithGuest } from "../../tools/guest-file.ts";
import { makeCase, Random, SUBJECTS } from "./generate.ts";
import { canRunQemu, QEMU_RISCV, qemuCpu } from "./qemu.ts";
import { decodeLine, differences, RecordCpu, type RecordedCase } from "./vectors.ts";

const recorded = readFileSync(join(import.meta.dirname, "../../fixtures/riscv/vectors.txt"), "utf8")
  .trim()
  .split("\n")
  .map(decodeLine);

/** Lines that say which case differs, at most a few. */
function check(cpu: RecordCpu, cases: readonly RecordedCase[], slice?: (n: number) => number): string[] {
  const out: string[] = [];
  for (const [n, { subject, input, outcome }] of cases.entries()) {
    const found = differences(outcome, cpu.run(input, slice?.(n)));
    if (found !== "") out.push(`${subject}: ${found}`);
  }
  return out.slice(0, 10);
}

describe("against recorded outcomes of qemu-riscv64", () => {
  it("covers every unprivileged instruction", () => {
    const seen = new Set(recorded.map((c) => c.subject));
    expect(SUBJECTS.filter((s) => !seen.has(s))).toEqual([]);
    expect(SUBJECTS.length).toBeGreaterThan(INSTRUCTIONS.length - 14);
    expect(recorded.length).toBeGreaterThan(1400);
  });
  it("tier 0 agrees", () => {
    expect(check(new RecordCpu(), recorded)).toEqual([]);
  });
  it("tier 0 agrees when cut into slices of one, two, three instructions", () => {
    expect(
      check(
        new RecordCpu(),
        recorded.filter((_, n) => n % 3 === 0),
        (n) => 1 + (n % 3),
      ),
    ).toEqual([]);
  });
  it("the oracle agrees", () => {
    expect(
      check(
        new RecordCpu({ tier: "oracle" }),
        recorded.filter((_, n) => n % 3 === 1),
      ),
    ).toEqual([]);
  });
});

describe.skipIf(!canRunQemu)("against qemu-riscv64 now", () => {
  itWithGuest(
    "fresh random cases agree",
    QEMU_RISCV,
    (path) => {
      const qemu = qemuCpu(path);
      const seed = Date.now() & 0x7fffffff;
      const random = new Random(seed);
      const plan = SUBJECTS.flatMap((subject) =>
        Array.from({ length: 12 }, () => ({ subject, input: makeCase(random.u32(), subject) })),
      );
      const outcomes = qemu.run(plan.map((c) => c.input));
      const cases = plan.map((c, n) => ({ ...c, outcome: outcomes[n] ?? new Uint8Array() }));
      expect(check(new RecordCpu(), cases), `seed ${seed}`).toEqual([]);
    },
    300_000,
  );
});
