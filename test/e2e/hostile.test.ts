/**
 * Hostile kernels beside a well-behaved one: what they get is compared, line by line, with what real Xen 4.17 answered
 * (test/fixtures/xen-4.17); each difference is listed here with its reason. The other domain goes on to its end.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { hookvisor, linesOf, PROJECT } from "../tools/hookvisor-run.ts";

function recorded(name: string): Map<string, string> {
  const text = readFileSync(join(PROJECT, "test", "fixtures", "xen-4.17", `${name}.txt`), "utf8");
  return attempts(text.split("\n").filter((line) => line !== ""));
}

/** Lines by what was attempted: the text before the last `: `. */
function attempts(lines: readonly string[]): Map<string, string> {
  return new Map(lines.map((line) => [line.slice(0, line.lastIndexOf(": ")), line.slice(line.lastIndexOf(": ") + 2)]));
}

/** Attempts whose answer is another one here than on real Xen, and why. */
const DIFFERENT: Readonly<Record<string, readonly [answer: string, reason: string]>> = {
  "console_io, unmapped pointer": ["got -EFAULT", "a release build of Xen keeps its console for domain 0"],
  "console_io, Xen's pointer": ["got -EFAULT", "the same"],
  "console_io, non-canonical pointer": ["got -EFAULT", "the same"],
  domctl: ["got -EPERM", "no guest is privileged (core/hypercall/UNSUPPORTED.md); Xen checks the version first"],
  sysctl: ["got -EPERM", "the same"],
  bind_pirq: ["got -ENOSYS", "there are no PIRQs (core/hypercall/UNSUPPORTED.md)"],
  "map a reference of domain 0": ["status -3", "domain 0 is the toolstack's process and grants nothing"],
};

for (const name of ["hostile-mm", "hostile-evt-gnt"]) {
  describe(name, () => {
    it("gets Xen's errors, and the domain beside it goes on", async () => {
      const ran = await hookvisor(["run", "clock", name, "--memory", "16"]);
      const got = attempts(linesOf(ran, name));
      const expected = recorded(name);
      for (const [attempt, [answer]] of Object.entries(DIFFERENT)) {
        if (expected.has(attempt)) expected.set(attempt, answer);
      }
      expect(Object.fromEntries(got)).toEqual(Object.fromEntries(expected));
      expect(linesOf(ran, "clock").at(-1)).toMatch(/for 5 ticks/);
      expect(ran.code).toBe(0);
    });
  });
}

describe("hostile-rings", () => {
  it("spoils its own rings only", async () => {
    const ran = await hookvisor(["run", "clock", "hostile-rings", "--memory", "16"]);
    const printed = linesOf(ran, "hostile-rings");
    expect(printed.at(-1)).toBe("hostile-rings: done");
    expect(printed).toContain("request that is none: ENOSYS");
    expect(printed).toContain("request that only domain 0 may make: EACCES");
    expect(printed).toContain("path of 4095 characters: EINVAL");
    expect(printed).toContain("write without a value's place: EINVAL");
    expect(printed).toContain("payload of 4097 bytes: ring error 3");
    expect(linesOf(ran, "clock").at(-1)).toMatch(/for 5 ticks/);
    expect(ran.code).toBe(0);
  });
});
