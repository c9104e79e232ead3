import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { DebianError } from "../../plugins/lib-debian/index.ts";
import { hookvisor } from "../tools/hookvisor-run.ts";
import { buildGuests, type Manifest, toolVersion, xenHeaders } from "./build.ts";

const IMAGES = join(import.meta.dirname, "images");
const manifest = JSON.parse(readFileSync(join(IMAGES, "manifest.json"), "utf8")) as Manifest;

describe("the committed test kernels", () => {
  it("are those of the manifest, small, and in one of Xen's two forms", () => {
    let total = 0;
    for (const [name, { size }] of Object.entries(manifest.images)) {
      const bytes = readFileSync(join(IMAGES, name));
      expect(bytes.length).toBe(size);
      const text = bytes.toString("latin1");
      expect(text.startsWith("\x7fELF\x02\x01")).toBe(true);
      expect(text.includes("__xen_guest\0")).toBe(name.includes("-2007"));
      expect(text.includes(".note.Xen\0")).toBe(!name.includes("-2007"));
      total += size;
    }
    expect(total).toBeLessThan(600_000);
  });

  it("come out of the build script: byte for byte with the recorded tools, else they boot", async (context) => {
    const tools = [toolVersion("gcc"), toolVersion("ld")];
    if (tools.includes(null)) return context.skip("no gcc or binutils here");
    const folder = mkdtempSync(join(tmpdir(), "hookvisor-guests-test-"));
    try {
      const headers = await xenHeaders(join(folder, "include")).catch((error: unknown) => {
        if (process.env["CI"] !== undefined || !(error instanceof DebianError)) throw error;
        return context.skip(error.message);
      });
      const built = buildGuests(join(folder, "images"), headers);
      expect(Object.keys(built.images)).toEqual(Object.keys(manifest.images));
      const same = (["gcc", "binutils", "headers"] as const).every((key) => built[key] === manifest[key]);
      if (same) {
        expect(built).toEqual(manifest);
        return;
      }
      // Other tools give other bytes, which must boot as well.
      const ran = await hookvisor(["run", "--kernel", join(folder, "images", "hello.elf"), "--memory", "16"]);
      expect(ran.stdout).toContain("Hello, Xen!");
      expect(ran.code).toBe(0);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});
