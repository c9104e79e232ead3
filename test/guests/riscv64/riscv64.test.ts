import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { DebianError } from "../../../plugins/lib-debian/index.ts";
import { hookvisor } from "../../tools/hookvisor-run.ts";
import { toolVersion, xenHeaders } from "../build.ts";
import { buildRiscv, RISCV_GCC, type RiscvManifest } from "./build.ts";

const IMAGES = join(import.meta.dirname, "images");
const manifest = JSON.parse(readFileSync(join(IMAGES, "manifest.json"), "utf8")) as RiscvManifest;

describe("the committed RISC-V kernel", () => {
  it("is that of the manifest", () => {
    expect(readFileSync(join(IMAGES, "xen.elf"))).toHaveLength(manifest.size);
  });

  it("comes out of the build script: byte for byte with the recorded compiler, else it boots", async (context) => {
    if (toolVersion(RISCV_GCC) === null) return context.skip(`no ${RISCV_GCC} here`);
    const folder = mkdtempSync(join(tmpdir(), "hookvisor-guests-test-"));
    try {
      const headers = await xenHeaders(join(folder, "include")).catch((error: unknown) => {
        if (process.env["CI"] !== undefined || !(error instanceof DebianError)) throw error;
        return context.skip(error.message);
      });
      const target = join(folder, "xen.elf");
      const built = buildRiscv(target, headers);
      if (built.gcc === manifest.gcc) {
        expect(built).toEqual(manifest);
        return;
      }
      const ran = await hookvisor(["run", "--kernel", target, "--memory", "16"]);
      expect(ran.stdout).toContain("xen: done");
      expect(ran.code).toBe(0);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});
