/** A device plugin that never returns while its device is attached: the command ends with a sentence, after the guard's 10 s. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { hookvisor } from "../../tools/hookvisor-run.ts";

test("a device type that never returns", { timeout: 60_000 }, async () => {
  const folder = mkdtempSync(join(tmpdir(), "hookvisor-stall-"));
  try {
    writeFileSync(
      join(folder, "stall.mjs"),
      `const type = { type: "note", parse: (text) => text, deviceId: () => 0, create() { for (;;); } };
export default { name: "device-note", api: "^1.0.0", apply(h) { h.hooks.deviceType.for("note").tap("device-note", () => type); } };
`,
    );
    const ran = await hookvisor(["run", "hello", "--plugin", "./stall.mjs", "note=x"], { cwd: folder });
    expect(ran.stderr).toBe(
      "hookvisor: Attaching note 0 of hello (domain 1) (plugin 'device-note') did not return within 10 s, in no scheduler's code.\n",
    );
    expect(ran.code).toBe(1);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
