import { createHash } from "node:crypto";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { DebianError, fetchDebianFile, fetchDebianPackage } from "../../../plugins/lib-debian/index.ts";
import { GRUB_PV, itWithGuest } from "../../tools/guest-file.ts";
import { makeDeb } from "./make-deb.ts";

const content = (bytes: Uint8Array) => ({
  size: bytes.length,
  sha256: createHash("sha256").update(bytes).digest("hex"),
});

describe("the cache", () => {
  let cacheDir = "";
  let home = "";
  const request = { suite: "bookworm", package: "made", file: "usr/a*" };
  const deb = makeDeb([{ path: "./usr/answer", content: "42" }]);

  beforeEach(() => {
    cacheDir = mkdtempSync(join(tmpdir(), "hookvisor-cache-"));
    home = join(cacheDir, "debian", "bookworm-amd64", "made");
    mkdirSync(home, { recursive: true });
    writeFileSync(join(home, "package.deb"), deb);
    writeFileSync(join(home, "record.json"), JSON.stringify({ name: "made_1_amd64", deb: content(deb), files: {} }));
    // Nothing that these tests start is on the path: a use of APT would fail.
    vi.stubEnv("PATH", cacheDir);
    vi.stubEnv("HOOKVISOR_DEBIAN_MIRROR", "http://mirror.invalid/debian");
  });
  afterEach(() => {
    vi.unstubAllEnvs();
    rmSync(cacheDir, { recursive: true });
  });

  const failure = async (work: Promise<unknown>): Promise<DebianError> => {
    const error = await work.then(
      () => null,
      (reason: unknown) => reason,
    );
    if (!(error instanceof DebianError)) throw new Error(`not a DebianError: ${error}`);
    return error;
  };

  it("says what to do where there is no APT", async () => {
    const error = await failure(fetchDebianFile({ ...request, package: "other" }, { cacheDir }));
    expect(error.code).toBe("no-apt");
    expect(error.message).toMatchInlineSnapshot(
      `"There is no APT on this machine to fetch Debian's packages with: pass the file itself."`,
    );
  });

  it("refuses names that are none, before anything is touched", async () => {
    for (const wrong of [{ suite: "../x" }, { package: "a b" }, { arch: "x/y" }, { file: "" }]) {
      expect((await failure(fetchDebianFile({ ...request, ...wrong }, { cacheDir }))).code).toBe("bad-name");
    }
  });

  it("answers a verified file, and never one whose content has changed", async () => {
    const file = join(home, "files", "usr", "answer");
    mkdirSync(join(home, "files", "usr"), { recursive: true });
    writeFileSync(file, "42");
    const files = { "usr/answer": content(Buffer.from("42")) };
    writeFileSync(join(home, "record.json"), JSON.stringify({ name: "made_1_amd64", deb: content(deb), files }));
    expect(await fetchDebianFile(request, { cacheDir })).toBe(file);
    expect(readFileSync(file, "utf8")).toBe("42");
    expect(await fetchDebianPackage(request, { cacheDir })).toBe(join(home, "package.deb"));
    writeFileSync(file, "43");
    expect((await failure(fetchDebianFile(request, { cacheDir }))).code).toBe("no-apt");
    writeFileSync(join(home, "record.json"), "{ not json");
    expect((await failure(fetchDebianFile(request, { cacheDir }))).code).toBe("no-apt");
  });
});

itWithGuest("fetches GRUB for Xen from Debian", GRUB_PV, (path) => {
  const bytes = readFileSync(path);
  expect(bytes.subarray(0, 4).toString("latin1")).toBe("\x7fELF");
  expect(bytes.length).toBeGreaterThan(1_000_000);
});
