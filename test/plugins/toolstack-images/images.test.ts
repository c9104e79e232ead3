/**
 * Images through a stand-in for APT: made once, used without it, never used damaged, whatever was interrupted.
 */
import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { ConfigError } from "hookvisor";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { readyImage } from "../../../plugins/toolstack-images/build.ts";
import { CATALOGUE, type ImageRecipe } from "../../../plugins/toolstack-images/catalogue.ts";
import { columns, formatSize } from "../../../plugins/toolstack-images/format.ts";
import { Progress } from "../../../plugins/toolstack-images/progress.ts";
import { ImageStore } from "../../../plugins/toolstack-images/store.ts";
import { hookvisor, PROJECT } from "../../tools/hookvisor-run.ts";
import { FakeApt, KERNEL } from "./fake-apt.ts";

const recipeOf = (name: string): ImageRecipe => {
  const found = CATALOGUE.find((one) => one.name === name);
  if (found === undefined) throw new Error(`no recipe ${name}`);
  return found;
};
const DEBIAN = recipeOf("debian");

let folder = "";
let cacheDir = "";
let apt: FakeApt;
let said: string[] = [];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "hookvisor-images-"));
  cacheDir = join(folder, "cache", "hookvisor");
  apt = new FakeApt(join(folder, "apt"));
  for (const [name, value] of Object.entries(apt.env)) vi.stubEnv(name, value);
  said = [];
});
afterEach(() => {
  vi.unstubAllEnvs();
  rmSync(folder, { recursive: true });
});

interface Asked {
  readonly recipe?: ImageRecipe;
  readonly debs?: readonly string[];
  readonly refresh?: boolean;
}

function ready({ recipe = DEBIAN, ...rest }: Asked = {}) {
  const progress = new Progress({ write: (text) => said.push(text) }, false);
  return readyImage(recipe, { store: new ImageStore(cacheDir), progress, fetch: { cacheDir }, ...rest });
}

async function failure(work: Promise<unknown>): Promise<string> {
  const error = await work.then(
    () => null,
    (reason: unknown) => reason,
  );
  if (!(error instanceof ConfigError)) throw new Error(`no ConfigError: ${String(error)}`);
  return error.message.replaceAll(folder, "");
}

/** From here on there is no APT. */
function withoutApt(): void {
  const empty = join(folder, "empty");
  mkdirSync(empty, { recursive: true });
  vi.stubEnv("PATH", empty);
}

function damage(path: string, at = 1000): void {
  const bytes = readFileSync(path);
  bytes[at] = (bytes[at] ?? 0) ^ 1;
  writeFileSync(path, bytes);
}

describe("an image", () => {
  it("is made once, of the package that the metapackage means, and needs neither APT nor network again", async () => {
    const image = await ready();
    expect(apt.downloads()).toEqual([KERNEL, "busybox-static"]);
    expect(said).toEqual([
      "hookvisor: fetching linux-image-cloud-amd64 of Debian bookworm (amd64)\n",
      "hookvisor: fetching busybox-static of Debian bookworm (amd64)\n",
      "hookvisor: making the image debian\n",
    ]);
    expect(image.record.version).toBe("1.0");
    expect(image.record.packages.map((one) => one.name)).toEqual([`${KERNEL}_1.0_amd64`, "busybox-static_1.0_amd64"]);
    expect(readFileSync(image.ramdisk ?? "", "latin1")).toContain("busybox 1.0");
    withoutApt();
    said = [];
    expect(await ready()).toEqual(image);
    expect(said).toEqual([]);
  });

  it("is made once by two that want it at the same time", async () => {
    const [first, second] = await Promise.all([ready(), ready()]);
    expect(first).toEqual(second);
    expect(apt.downloads()).toEqual([KERNEL, "busybox-static"]);
  });

  it("stays as it is until it is refreshed", async () => {
    await ready();
    apt.serve("2.0");
    expect((await ready()).record.version).toBe("1.0");
    const image = await ready({ refresh: true });
    expect(image.record.version).toBe("2.0");
    expect(readFileSync(image.ramdisk ?? "", "latin1")).toContain("busybox 2.0");
    expect(readdirSync(join(cacheDir, "images", "debian"))).toHaveLength(3);
  });

  it("is made again of its packages where a file of it is damaged, cut short or gone, or the recipe is another", async () => {
    const image = await ready();
    const kernel = readFileSync(image.kernel);
    apt.downloads();
    damage(image.kernel);
    expect(readFileSync((await ready()).kernel).equals(kernel)).toBe(true);
    writeFileSync(image.kernel, kernel.subarray(0, 5000));
    expect(readFileSync((await ready()).kernel).equals(kernel)).toBe(true);
    rmSync(image.ramdisk ?? "");
    expect(await ready()).toEqual(image);
    writeFileSync(join(cacheDir, "images", "debian", "record.json"), '{"format":1');
    expect(await ready()).toEqual(image);
    const other = await ready({ recipe: { ...DEBIAN, ramdisk: { ...DEBIAN.ramdisk!, hostname: "other" } } });
    expect(readFileSync(other.ramdisk ?? "", "latin1")).toContain("other\n");
    expect(apt.downloads()).toEqual([]);
  });

  it("is not made of a damaged package: that is fetched again", async () => {
    const image = await ready();
    apt.downloads();
    damage(join(cacheDir, "debian", "bookworm-amd64", "busybox-static", "package.deb"), 200);
    damage(image.kernel);
    expect(await ready()).toEqual(image);
    expect(apt.downloads()).toEqual(["busybox-static"]);
    damage(join(cacheDir, "debian", "bookworm-amd64", "busybox-static", "package.deb"), 200);
    damage(image.kernel);
    withoutApt();
    expect(await failure(ready())).toMatch(/^There is no APT on this machine/);
  });

  it("is not there after a download that broke off, and whole after the next", async () => {
    apt.put("broken", "");
    expect(await failure(ready())).toMatchInlineSnapshot(
      `"APT could not download linux-image-6.1.0-9-cloud-amd64: connection reset; try again, or give its packages of Debian bookworm amd64 (hookvisor images pull debian --deb linux-image-*-cloud-amd64_*.deb busybox-static_*.deb), or boot files of your own (hookvisor run --kernel FILE --ramdisk FILE)."`,
    );
    expect(await new ImageStore(cacheDir).record("debian")).toBeNull();
    apt.remove("broken");
    expect((await ready()).record.version).toBe("1.0");
  });

  it("is made of packages that a user gives, without APT", async () => {
    withoutApt();
    const at = (name: string): string => join(apt.folder, `${name}.deb`);
    const image = await ready({ debs: [at("busybox-static"), at(KERNEL)] });
    expect(image.record.origin).toBe("files");
    expect(readFileSync(image.ramdisk ?? "", "latin1")).toContain("busybox 1.0");
    expect((await ready({ recipe: recipeOf("grub"), debs: [at("grub-xen-host")] })).ramdisk).toBeNull();
    const texts = [
      await failure(ready({ debs: [at("busybox-static")] })),
      await failure(ready({ debs: [at(KERNEL), at(KERNEL)] })),
      await failure(ready({ debs: [at("nothing")] })),
      await failure(ready({ debs: [join(apt.folder, "version")] })),
      await failure(ready({ recipe: recipeOf("debian-13") })),
      await failure(ready({ recipe: recipeOf("grub"), refresh: true })),
    ];
    expect(texts).toMatchInlineSnapshot(`
      [
        "None of the packages given for debian has a kernel in it; give linux-image-*-cloud-amd64 too.",
        "Both /apt/linux-image-6.1.0-9-cloud-amd64.deb and /apt/linux-image-6.1.0-9-cloud-amd64.deb have a kernel in them; give one of the two.",
        "Package /apt/nothing.deb: there is no such file, or it cannot be read.",
        "Package /apt/version cannot be used: it is not an ar archive.",
        "There is no APT on this machine to make the image debian-13 with: give its packages of Debian trixie amd64 (hookvisor images pull debian-13 --deb linux-image-*-cloud-amd64_*.deb busybox-static_*.deb), or boot files of your own (hookvisor run --kernel FILE --ramdisk FILE).",
        "There is no APT on this machine to make the image grub with: give its packages of Debian bookworm amd64 (hookvisor images pull grub --deb grub-xen-host_*.deb), or boot files of your own (hookvisor run --kernel FILE).",
      ]
    `);
  });
});

describe("the command", () => {
  const run = (...args: string[]) =>
    hookvisor(args, { env: { ...apt.env, XDG_CACHE_HOME: join(folder, "cache") }, cwd: folder });

  it("lists, fetches and removes", async () => {
    const pulled = await run("images", "pull", "grub");
    expect(pulled.stderr.trim().split("\n")).toEqual([
      "hookvisor: fetching grub-xen-host of Debian bookworm (amd64)",
      "hookvisor: making the image grub",
      "hookvisor: image grub is ready: grub-x86_64-xen.bin (1.0), 2.9 KiB; hookvisor run grub",
    ]);
    const lines = (await run("images")).stdout.split("\n");
    expect(lines[0]).toMatch(/^IMAGE +HERE +SIZE +FROM +WHAT IT IS$/);
    expect(lines.find((line) => line.startsWith("grub "))).toMatch(
      /^grub +1\.0 +\d\.\d KiB +Debian bookworm: grub-xen-host +GRUB as a kernel for Xen, at its prompt$/,
    );
    expect(lines.find((line) => line.startsWith("debian "))).toMatch(
      /^debian +not fetched +- +Debian bookworm: linux-/,
    );
    const removed = await run("images", "rm", "grub");
    expect(removed.stderr).toBe("hookvisor: image grub is removed\n");
    const list: { name: string; ready: boolean; size: number; version: string | null }[] = JSON.parse(
      (await run("images", "list", "--format", "json")).stdout,
    );
    expect(list.find((one) => one.name === "grub")).toMatchObject({ ready: false, size: 0, version: null });
    expect(list.find((one) => one.name === "hello")).toMatchObject({ ready: true });
    const quiet = await run("images", "pull", "grub", "-q");
    expect([quiet.stdout, quiet.stderr, quiet.code]).toEqual(["", "", 0]);
  });

  it("says one sentence for a mistake", async () => {
    const texts: string[] = [];
    for (const args of [["push"], ["pull"], ["rm", "nothing"], ["pull", "hello"], ["--format", "xml"]]) {
      const { code, stderr } = await run("images", ...args);
      texts.push(`${code}: ${stderr.trim()}`);
    }
    expect(texts).toMatchInlineSnapshot(`
      [
        "1: hookvisor: There is no 'images push'; there are list, pull, rm.",
        "1: hookvisor: Say which image: hookvisor images pull NAME; there are debian, debian-13, debian-riscv64, grub, u-boot-riscv64.",
        "1: hookvisor: There is no image 'nothing' to remove; there are debian, debian-13, debian-riscv64, grub, u-boot-riscv64.",
        "1: hookvisor: The image 'hello' comes with hookvisor or a plugin: there is nothing to fetch.",
        "1: hookvisor: Option --format: it must be table or json, got 'xml'.",
      ]
    `);
  });

  it("is killed in the middle of a download, and the next one makes the image", async () => {
    apt.put("slow", "");
    const bin = join(PROJECT, "core", "node", "bin", "hookvisor.js");
    const env = { ...process.env, ...apt.env, XDG_CACHE_HOME: join(folder, "cache") };
    const child = spawn(process.execPath, [bin, "images", "pull", "grub"], { env, detached: true, stdio: "ignore" });
    const ended = new Promise((resolve) => child.on("exit", resolve));
    for (let i = 0; i < 300 && !apt.has("waiting"); i++) await sleep(100);
    expect(apt.has("waiting")).toBe(true);
    process.kill(-(child.pid ?? 0), "SIGKILL");
    await ended;
    apt.remove("slow");
    const home = join(cacheDir, "debian", "bookworm-amd64", "grub-xen-host");
    expect(readdirSync(home)).toEqual([expect.stringMatching(/^download-/)]);
    const image = await ready({ recipe: recipeOf("grub") });
    expect(image.record.version).toBe("1.0");
    expect(readdirSync(home).sort()).toEqual(["package.deb", "record.json"]);
  });
});

describe("what a person sees", () => {
  it("is a bar on a terminal, and its line is left as it was", () => {
    const text: string[] = [];
    const progress = new Progress({ write: (part) => text.push(part), isTTY: true, columns: 70 }, false);
    progress.step("fetching");
    progress.bytes(6 << 20, 24 << 20, "linux-image");
    progress.note("done");
    expect(text).toEqual([
      "\r\x1b[Khookvisor: fetching",
      "\r\x1b[Khookvisor: linux-image [######------------------] 6.0 MiB of 24.0 MiB",
      "\r\x1b[K",
      "hookvisor: done\n",
    ]);
  });

  it("is nothing when quiet", () => {
    const text: string[] = [];
    const progress = new Progress({ write: (part) => text.push(part), isTTY: true }, true);
    progress.step("fetching");
    progress.bytes(1, 2, "x");
    progress.note("done");
    progress.finish();
    expect(text).toEqual([]);
  });

  it("has sizes and columns", () => {
    expect([0, 1023, 1024, 1.5 * 2 ** 20, 2 ** 31].map(formatSize)).toEqual([
      "0 B",
      "1023 B",
      "1.0 KiB",
      "1.5 MiB",
      "2.0 GiB",
    ]);
    expect(
      columns([
        ["A", "B"],
        ["long", "x"],
      ]),
    ).toBe("A     B\nlong  x\n");
  });
});
