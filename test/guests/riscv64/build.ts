/**
 * Builds the RISC-V test kernel: xen.c and start.S to images/xen.elf, with a manifest of what built it.
 *
 *   node --conditions=hookvisor-source --import tsx test/guests/riscv64/build.ts
 *
 * Needs a cross compiler for riscv64 (Debian: gcc-riscv64-linux-gnu; HOOKVISOR_RISCV_GCC names another one) and Xen's public headers as
 * ../build.ts finds them. The image is committed, so that nobody else needs either.
 *
 * Invariant: the same compiler and headers give the same bytes, wherever the repository lies.
 */
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { toolVersion, xenHeaders } from "../build.ts";

const HERE = import.meta.dirname;

/** The compiler's name. */
export const RISCV_GCC: string = process.env["HOOKVISOR_RISCV_GCC"] || "riscv64-linux-gnu-gcc";

/** What the committed image was made with, and what it is. */
export interface RiscvManifest {
  readonly gcc: string;
  readonly size: number;
  readonly sha256: string;
}

const FLAGS = [
  ..."-std=gnu17 -Os -Wall -Wextra -Werror -ffreestanding -fno-builtin -nostdlib -static -no-pie -fno-pic".split(" "),
  ..."-march=rv64imac_zicsr -mabi=lp64 -mcmodel=medany -mno-relax -msmall-data-limit=0 -fno-stack-protector".split(" "),
  ..."-fno-asynchronous-unwind-tables -fno-ident -ffunction-sections -fdata-sections".split(" "),
  "-D__XEN_INTERFACE_VERSION__=__XEN_LATEST_INTERFACE_VERSION__",
  // The headers have no RISC-V; it has Arm's structures, with evtchn_upcall_mask.
  "-D__aarch64__",
  "-DXEN_HAVE_PV_UPCALL_MASK",
  `-ffile-prefix-map=${HERE}=.`,
  `-Wl,-T,${join(HERE, "guest.lds")},--gc-sections,--build-id=none,-z,max-page-size=4096,-z,noexecstack,--no-warn-rwx-segments,-s`,
];

/** Builds the image as `target`; `headers` has xen/*.h. Throws where there is no compiler. */
export function buildRiscv(target: string, headers: string): RiscvManifest {
  const gcc = toolVersion(RISCV_GCC);
  if (gcc === null) throw new Error(`Building the RISC-V test kernel needs ${RISCV_GCC}.`);
  const sources = [join(HERE, "start.S"), join(HERE, "xen.c")];
  execFileSync(RISCV_GCC, [...FLAGS, "-isystem", headers, "-o", target, ...sources], {
    stdio: ["ignore", "inherit", "inherit"],
  });
  const bytes = readFileSync(target);
  // Without the compiler's name, which may have its version in it.
  return {
    gcc: gcc.replace(/^\S+ /, ""),
    size: bytes.length,
    sha256: createHash("sha256").update(bytes).digest("hex"),
  };
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const folder = mkdtempSync(join(tmpdir(), "hookvisor-headers-"));
  try {
    const images = join(HERE, "images");
    mkdirSync(images, { recursive: true });
    const manifest = buildRiscv(join(images, "xen.elf"), await xenHeaders(folder));
    writeFileSync(join(images, "manifest.json"), `${JSON.stringify(manifest, null, 2)}\n`);
    console.log(`xen.elf, ${manifest.size} bytes`);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
