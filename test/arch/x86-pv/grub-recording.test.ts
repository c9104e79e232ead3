/**
 * The first hypercalls of Debian's GRUB, held against those that it made on real Xen 4.17 (test/fixtures/xen-4.17/grub-start.txt:
 * name and first argument, a line each, as many times as made; preempted calls once).
 */
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { xen } from "hookvisor";
import { describe, expect } from "vitest";
import { GRUB_PV, itWithGuest } from "../../tools/guest-file.ts";
import { hookvisor, PROJECT } from "../../tools/hookvisor-run.ts";

/** Prints each hypercall's number, its result and the low half of its first argument. */
const PLUGIN = `export default {
  name: "test-hypercalls",
  api: "^1.0.0",
  apply({ hooks }) {
    const args = new Uint32Array(12);
    hooks.hypercall.tap("test-hypercalls", (vcpu, number, result) => {
      vcpu.domain.arch.loadArguments(vcpu, args);
      process.stderr.write(["HC", number, result, args[0].toString(16)].join(" ") + "\\n");
    });
  },
};
`;

/** Bytes of the image that was recorded (2.06-13+deb12u2); of another build only the order of the calls is compared. */
const RECORDED_BYTES = 2119488;

/** The calls' names, each once for as many as follow one another. */
function order(lines: readonly string[]): string[] {
  return lines.map((line) => line.split(" ")[0]!).filter((name, i, names) => name !== names[i - 1]);
}

describe("GRUB's start", () => {
  itWithGuest("makes the hypercalls of real Xen, in its order, and all succeed", GRUB_PV, async (kernel) => {
    const recorded = readFileSync(join(PROJECT, "test", "fixtures", "xen-4.17", "grub-start.txt"), "utf8");
    const expected = recorded.split("\n").filter((line) => line !== "");
    const folder = mkdtempSync(join(tmpdir(), "hookvisor-recording-"));
    try {
      const plugin = join(folder, "plugin.mjs");
      writeFileSync(plugin, PLUGIN);
      const ran = await hookvisor(
        ["run", "--kernel", kernel, "--memory", "256", "--max-time", "4ms"].concat(["--plugin", plugin]),
      );
      const calls = [...ran.stderr.matchAll(/^HC (\d+) (-?\d+) ([0-9a-f]+)$/gm)].map(([, number, result, first]) => ({
        line: `${xen.nameOf(xen.__HYPERVISOR, Number(number))} ${first}`,
        result: Number(result),
      }));
      const lines = calls.map((call) => call.line);
      if (statSync(kernel).size === RECORDED_BYTES) expect(lines.slice(0, expected.length)).toEqual(expected);
      else expect(order(lines).slice(0, order(expected).length)).toEqual(order(expected));
      expect(calls.filter((call) => call.result !== 0)).toEqual([]);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});
