/**
 * Builds the test kernels: C and assembler in lib/ and src/ to images/*.elf, with a manifest of what built them.
 *
 *   node --conditions=hookvisor-source --import tsx test/guests/build.ts
 *
 * Needs gcc and binutils for x86-64, and Xen's public headers: the folder that HOOKVISOR_XEN_HEADERS names (it has xen/ in
 * it), else those of Debian's libxen-dev, fetched into the cache. The images are committed, so that nobody else needs either.
 *
 * Invariant: the same compiler, binutils and headers give the same bytes, wherever the repository lies.
 */
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { fetchDebianPackage, unpackDeb } from "../../plugins/lib-debian/index.ts";

const HERE = import.meta.dirname;
const VIRT_BASE = "0xffffffff80000000";
/** The page of the kernel, counted from VIRT_BASE, that the 2007 form offers for hypercalls. */
const HYPERCALL_PFN = 1;

/** The kernels; `page`: today's form calls through a hypercall page too; `old`: the 2007 form is built as well. */
const KERNELS: Readonly<Record<string, { readonly page?: true; readonly old?: true }>> = {
  hello: { page: true, old: true },
  clock: { old: true },
  busy: { old: true },
  events: { old: true },
  "grant-map": { old: true },
  "grant-offer": { old: true },
  xenstore: { old: true },
  blk: { old: true },
  smp: { page: true },
  "disk-log": {},
  "hostile-evt-gnt": {},
  "hostile-mm": {},
  "hostile-rings": {},
};

/** What the committed images were made with, and what they are. */
export interface Manifest {
  readonly gcc: string;
  readonly binutils: string;
  readonly headers: string;
  readonly images: Readonly<Record<string, { readonly size: number; readonly sha256: string }>>;
}

/** The first line that `command --version` prints, or null where there is no such command. */
export function toolVersion(command: string): string | null {
  try {
    return execFileSync(command, ["--version"], { encoding: "utf8", stdio: "pipe" }).split("\n")[0] ?? null;
  } catch {
    return null;
  }
}

const sha256 = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");

/** A hash over all headers, so that a manifest says which it was built with. */
function hashOfFolder(folder: string): string {
  const names = readdirSync(folder, { recursive: true, encoding: "utf8" }).filter((name) => name.endsWith(".h"));
  const hash = createHash("sha256");
  for (const name of names.sort()) hash.update(`${name}\0`).update(readFileSync(join(folder, name)));
  return hash.digest("hex");
}

/** Unpacks Xen's public headers into `folder`, unless HOOKVISOR_XEN_HEADERS names some; answers the include folder. */
export async function xenHeaders(folder: string): Promise<string> {
  const given = process.env["HOOKVISOR_XEN_HEADERS"];
  if (given !== undefined && given !== "") return given;
  const deb = await fetchDebianPackage({ suite: "bookworm", package: "libxen-dev" });
  await unpackDeb(deb, join(folder, "xen"), "usr/include/xen");
  return folder;
}

const FLAGS = [
  ..."-std=gnu17 -O2 -Wall -Wextra -Werror -ffreestanding -fno-builtin -nostdlib -static -no-pie -fno-pic".split(" "),
  ..."-mcmodel=kernel -mno-red-zone -mgeneral-regs-only -fno-stack-protector -fcf-protection=none".split(" "),
  ..."-fno-asynchronous-unwind-tables -ffunction-sections -fdata-sections -fno-ident".split(" "),
  "-D__XEN_INTERFACE_VERSION__=__XEN_LATEST_INTERFACE_VERSION__",
  `-DVIRT_BASE=${VIRT_BASE}`,
  `-ffile-prefix-map=${HERE}=.`,
];

const LINK = "--gc-sections,--build-id=none,-z,max-page-size=4096,-z,noexecstack,--no-warn-rwx-segments";

/**
 * Builds every image into `out`.
 * @param headers folder that has Xen's headers as xen/*.h
 * @returns the manifest of what was built
 */
export function buildGuests(out: string, headers: string): Manifest {
  const gcc = toolVersion("gcc");
  const binutils = toolVersion("ld");
  if (gcc === null || binutils === null) throw new Error("Building the test kernels needs gcc and binutils.");
  mkdirSync(out, { recursive: true });
  const work = mkdtempSync(join(tmpdir(), "hookvisor-guests-"));
  const images: Record<string, { size: number; sha256: string }> = {};
  try {
    const script = readFileSync(join(HERE, "lib/guest.lds"), "utf8");
    const withNotes = join(work, "guest.lds");
    const without = join(work, "guest-2007.lds");
    writeFileSync(withNotes, script);
    writeFileSync(
      without,
      script
        .split("\n")
        .filter((line) => !line.includes("/* notes */"))
        .join("\n"),
    );
    const library = readdirSync(join(HERE, "lib"))
      .filter((name) => name.endsWith(".c"))
      .sort();
    const gccRun = (args: readonly string[]): void => {
      execFileSync("gcc", [...FLAGS, "-isystem", headers, ...args], { stdio: ["ignore", "inherit", "inherit"] });
    };
    const libraries = new Map<string, string[]>();
    /** The library's objects in the form that `defines` say, compiled once. */
    const libraryFor = (defines: readonly string[]): string[] => {
      const form = defines.join(" ");
      let objects = libraries.get(form);
      if (objects === undefined) {
        const number = libraries.size;
        objects = library.map((file) => join(work, `${number}-${file}.o`));
        for (const [i, file] of library.entries()) {
          gccRun([...defines, "-c", "-o", objects[i] ?? "", join(HERE, "lib", file)]);
        }
        libraries.set(form, objects);
      }
      return objects;
    };
    const build = (kernel: string, name: string, defines: readonly string[], layout: string, phys: string): void => {
      const target = join(out, `${name}.elf`);
      const symbols = `--defsym=VIRT_BASE=${VIRT_BASE},--defsym=PHYS_BASE=${phys}`;
      const link = [`-DKERNEL=${kernel}`, ...defines, `-Wl,-T,${layout},${symbols},${LINK}`, "-o", target];
      gccRun([...link, join(HERE, "lib/start.S"), ...libraryFor(defines), join(HERE, "src", `${kernel}.c`)]);
      execFileSync("strip", ["--strip-all", target]);
      const bytes = readFileSync(target);
      images[`${name}.elf`] = { size: bytes.length, sha256: sha256(bytes) };
    };
    for (const [kernel, form] of Object.entries(KERNELS)) {
      build(kernel, kernel, form.page ? ["-DHYPERCALL_PAGE"] : [], withNotes, "0");
      if (!form.old) continue;
      build(kernel, `${kernel}-2007`, ["-DLEGACY", `-DHYPERCALL_PFN=${HYPERCALL_PFN}`], without, VIRT_BASE);
    }
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
  const sorted = Object.fromEntries(Object.entries(images).sort(([a], [b]) => (a < b ? -1 : 1)));
  return { gcc, binutils, headers: hashOfFolder(join(headers, "xen")), images: sorted };
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const folder = mkdtempSync(join(tmpdir(), "hookvisor-headers-"));
  try {
    const images = join(HERE, "images");
    const manifest = buildGuests(join(folder, "images"), await xenHeaders(join(folder, "include")));
    rmSync(images, { recursive: true, force: true });
    cpSync(join(folder, "images"), images, { recursive: true });
    writeFileSync(join(images, "manifest.json"), `${JSON.stringify(manifest, null, 2)}\n`);
    const total = Object.values(manifest.images).reduce((sum, image) => sum + image.size, 0);
    console.log(`${Object.keys(manifest.images).length} images, ${total} bytes`);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
